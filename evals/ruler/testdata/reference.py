"""Asks a model by transformers the samples that "ollama longrope eval ruler --write-samples" wrote,
and scores the answers with the code of lm-evaluation-harness, sample by sample.

    pip download --no-deps lm_eval==0.4.13   # and unpack it into FOLDER
    ollama longrope eval ruler MODEL.gguf --lengths 1k --limit 2 --write-samples samples.jsonl
    ollama longrope eval ruler MODEL.gguf --lengths 1k --samples samples.jsonl --methods stock \\
        --json > ours.json
    python reference.py FOLDER MODEL.gguf samples.jsonl ours.json

It needs torch, transformers and gguf. A line for each sample: its task, both scores, whether the
answers are the same, and both answers. It ends with an error if a score differs that the same
answer got, and says how many differ because the answers do.
"""

import json
import os
import runpy
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder, model, samples, ours):
    port = runpy.run_path(os.path.join(folder, "lm_eval", "tasks", "ruler", "common_utils.py"))
    with open(ours) as f:
        tasks = json.load(f)
    measured = {}
    for name, results in tasks.items():
        if isinstance(results, list) and results and "details" in results[0]:
            for t in results[0]["details"]:
                measured[name, t["length"], t["sample"]] = t
    at, name = os.path.split(os.path.abspath(model))
    tokenizer = AutoTokenizer.from_pretrained(at, gguf_file=name)
    lm = AutoModelForCausalLM.from_pretrained(at, gguf_file=name, dtype=torch.float32).eval()
    wrong = apart = total = 0
    with open(samples) as f:
        for s in map(json.loads, f):
            t = measured.get((s["task"], s["max_length"], s["index"]))
            if t is None or t["score"] is None:
                continue
            tokens = tokenizer(s["input"] + s["answer_prefix"], return_tensors="pt").input_ids
            with torch.inference_mode():
                out = lm.generate(tokens, max_new_tokens=s["max_new_tokens"], do_sample=False)
            theirs = tokenizer.decode(out[0, tokens.shape[1]:], skip_special_tokens=True)
            doc = {"outputs": s["outputs"], "max_length": s["max_length"]}

            def score(answer):
                return port["process_results"](doc, [answer])[str(s["max_length"])]

            same = theirs.strip() == t["answer"].strip()
            total += 1
            wrong += score(t["answer"]) != t["score"]
            apart += score(theirs) != t["score"]
            print(json.dumps({
                "task": s["task"], "tokens": [tokens.shape[1], t["prompt_tokens"]],
                "score": [score(theirs), t["score"]], "same": same,
                "answers": [theirs, t["answer"]],
            }), flush=True)
    print(f"{total} samples, {apart} with another score, {wrong} answers scored differently",
          file=sys.stderr)
    sys.exit(wrong > 0)


main(*sys.argv[1:])
