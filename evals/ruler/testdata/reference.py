"""Scores the answers of "ollama longrope eval" with the code of lm-evaluation-harness, sample by
sample.

    pip download --no-deps lm_eval==0.4.13   # and unpack it into FOLDER
    ollama longrope eval ruler MODEL.gguf --lengths 1k --json > eval.json
    python reference.py FOLDER eval.json

It needs transformers, which the harness imports. It prints samples and mean scores by task, method
and length, and ends with an error where a score differs.
"""

import json
import os
import runpy
import sys


def main(folder, path):
    port = runpy.run_path(os.path.join(folder, "lm_eval", "tasks", "ruler", "common_utils.py"))
    with open(path) as f:
        tasks = json.load(f)
    total = different = 0
    for name, results in tasks.items():
        if not isinstance(results, list):
            continue
        for r in results:
            sums = {}
            for t in r.get("details", []):
                if t.get("score") is None:
                    continue
                doc = {"outputs": t["references"], "max_length": t["length"]}
                theirs = port["process_results"](doc, [t["answer"]])[str(t["length"])]
                total += 1
                if abs(theirs - t["score"]) > 1e-12:
                    different += 1
                    print(f"{name} {r['method']} {t['length']} sample {t['sample']}: theirs "
                          f"{theirs}, ours {t['score']}: {t['answer']!r} for {t['references']}")
                n, a, b = sums.get(t["length"], (0, 0, 0))
                sums[t["length"]] = n + 1, a + theirs, b + t["score"]
            for length, (n, a, b) in sums.items():
                print(f"{name} {r['method']} {length}: {n} samples, {a / n:.4f} / {b / n:.4f}")
    print(f"{total} samples, {different} scored differently")
    sys.exit(different > 0 or total == 0)


main(*sys.argv[1:])
