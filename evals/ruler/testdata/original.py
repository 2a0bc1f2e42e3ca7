"""Writes original.json: prompts and scores of RULER's own code, for ruler_test.go.

    git clone https://github.com/NVIDIA/RULER && git -C RULER checkout c3f5e3b
    pip download --no-deps lm_eval==0.4.13 wonderwords==3.0.1   # and unpack both into FOLDER
    PYTHONPATH=FOLDER python original.py RULER

It needs numpy and tqdm. Other imports of RULER are replaced here: a tokenizer that splits at words,
a splitter of sentences, zeta(2). The essay is a book of this repository.
"""

import importlib.util
import json
import math
import os
import re
import runpy
import subprocess
import sys
import tempfile
import types

here = os.path.dirname(os.path.abspath(__file__))


def module(name, **members):
    m = types.ModuleType(name)
    m.__dict__.update(members)
    sys.modules[name] = m


class Words:
    def text_to_tokens(self, text):
        return re.findall(r"\w+|[^\w\s]", text)


def stubs():
    module("tokenizer", select_tokenizer=lambda *_: Words())
    module("nltk", tokenize=None)
    module("nltk.tokenize", sent_tokenize=lambda t: re.split(r"(?<=[.!?]) ", t))
    module("scipy", special=None)
    module("scipy.special", zeta=lambda a: math.pi**2 / 6)
    module("transformers", AutoTokenizer=None)


def run(script, args):
    """Runs one of RULER's scripts and returns its samples."""
    stubs()
    with tempfile.TemporaryDirectory() as out:
        sys.argv = [script, "--save_dir", out, "--save_name", "x", "--tokenizer_path", "-",
                    "--num_samples", "2"] + args
        sys.path.insert(0, os.path.dirname(script))
        runpy.run_path(script, run_name="__main__")
        with open(os.path.join(out, "x", "validation.jsonl")) as f:
            return [json.loads(line) for line in f]


def one(ruler, task, kind, args):
    """Samples of a task, in a process of their own."""
    data = os.path.join(ruler, "scripts", "data", "synthetic")
    constants = runpy.run_path(os.path.join(data, "constants.py"))["TASKS"][kind]
    script = os.path.join(data, kind + ".py")
    template = constants["template"] + constants["answer_prefix"]
    answer = str(constants["tokens_to_generate"])
    return run(script, args + ["--template", template, "--tokens_to_generate", answer])


def tasks():
    niah = ["--max_seq_length", "1200"]
    keys = [("hay", "type_haystack"), ("k", "type_needle_k"), ("v", "type_needle_v"),
            ("nk", "num_needle_k"), ("nv", "num_needle_v"), ("nq", "num_needle_q")]

    def needles(**values):
        all = {"hay": "essay", "k": "words", "v": "numbers", "nk": "1", "nv": "1", "nq": "1"}
        all.update(values)
        return "niah", niah + [x for k, name in keys for x in ("--" + name, all[k])]

    return {
        "niah_single_1": needles(hay="noise"),
        "niah_single_2": needles(),
        "niah_single_3": needles(v="uuids"),
        "niah_multikey_1": needles(nk="4"),
        "niah_multikey_2": needles(hay="needle"),
        "niah_multikey_3": needles(hay="needle", k="uuids", v="uuids"),
        "niah_multivalue": needles(nv="4"),
        "niah_multiquery": needles(nq="4"),
        "vt": ("variable_tracking", ["--max_seq_length", "1200", "--num_chains", "1",
                                     "--num_hops", "4", "--type_haystack", "noise"]),
        "cwe": ("common_words_extraction", ["--max_seq_length", "1200", "--freq_cw", "30",
                                            "--freq_ucw", "3", "--num_cw", "10"]),
        "fwe": ("freq_words_extraction", ["--max_seq_length", "1200", "--alpha", "2.0"]),
        "qa_1": ("qa", ["--max_seq_length", "320", "--dataset", "squad"]),
        "qa_2": ("qa", ["--max_seq_length", "320", "--dataset", "hotpotqa"]),
    }


def answers():
    """Answers and references, with what both harnesses make of them."""
    return [
        ("", ["1"]), ("12345", ["12345"]), (" The number is 12345.", ["12345"]),
        ("1234", ["12345"]), ("a, B and c", ["A", "b", "d"]), ("straße ÉTÉ", ["été", "STRASSE"]),
        ("\x00\tone\x01two\x1f", ["one\ntwo"]), ("one\ttwo", ["one\ttwo", "one"]),
        (" \u00a0x ", ["x", "y", "z", "X"]), ("VAR AAA = VAR BBB", ["AAA", "BBB", "CCC", "DDD"]),
    ]


def metrics(ruler):
    stubs()
    own = runpy.run_path(os.path.join(ruler, "scripts", "eval", "synthetic", "constants.py"))
    path = os.path.join(os.path.dirname(importlib.util.find_spec("lm_eval").origin or ""),
                        "tasks", "ruler", "common_utils.py") \
        if importlib.util.find_spec("lm_eval").origin else os.path.join(
            list(importlib.util.find_spec("lm_eval").submodule_search_locations)[0],
            "tasks", "ruler", "common_utils.py")
    port = runpy.run_path(path)
    text = open(os.path.join(ruler, "scripts", "eval", "evaluate.py")).read()
    scope = {"re": re}
    exec(re.search(r"def postprocess_pred.*?return predict_str\n", text, re.S)[0], scope)
    scores = []
    for answer, references in answers():
        clean = scope["postprocess_pred"](answer, {})
        assert [clean] == port["postprocess_pred"]([answer])
        scores.append({
            "answer": answer, "references": references,
            "all": own["string_match_all"]([clean], [references]) / 100,
            "part": own["string_match_part"]([clean], [references]) / 100,
            "lm_eval_all": port["string_match_all"]([clean], [references]),
            "lm_eval_part": port["string_match_part"]([clean], [references]),
        })
    return scores


def prepare(ruler):
    """The files that RULER fetches."""
    folder = os.path.join(ruler, "scripts", "data", "synthetic", "json")
    with open(os.path.join(here, "..", "..", "default", "texts", "isaiah.txt")) as f:
        essay = f.read()
    small = {"data": [{"title": "t", "paragraphs": [
        {"context": f"Paragraph {i} is about number {i}.", "qas": [
            {"question": f"What is paragraph {i} about?", "is_impossible": i % 3 == 2,
             "answers": [{"text": f"number {i}"}, {"text": f"{i}"}]}]} for i in range(12)]}]}
    hotpot = [{"question": f"What is {i}?", "answer": f"answer {i}",
               "context": [[f"Title {j}", [f"Text {j}.", " More."]] for j in (i, i + 1)]}
              for i in range(12)]
    for name, value in {
        "PaulGrahamEssays": {"text": essay}, "squad": small, "hotpotqa": hotpot,
        "english_words": {str(i): f"word{i}" for i in range(9000)},
    }.items():
        with open(os.path.join(folder, name + ".json"), "w") as f:
            json.dump(value, f)
    return {"squad": small, "hotpotqa": hotpot}


def main(ruler):
    if len(sys.argv) == 3:  # one task, to standard error, since RULER prints
        kind, args = tasks()[sys.argv[2]]
        samples = one(ruler, sys.argv[2], kind, args)
        with open(os.environ["OUT"], "w") as f:
            json.dump(samples, f)
        return
    result = {"data": prepare(ruler), "scores": metrics(ruler), "answer_tokens": {}, "samples": {}}
    constants = runpy.run_path(os.path.join(ruler, "scripts", "data", "synthetic",
                                            "constants.py"))["TASKS"]
    for task, (kind, _) in tasks().items():
        with tempfile.NamedTemporaryFile() as out:
            subprocess.run([sys.executable, __file__, ruler, task], check=True,
                           env=dict(os.environ, OUT=out.name), stdout=subprocess.DEVNULL)
            result["samples"][task] = [{k: s[k] for k in ("input", "answer_prefix", "outputs")}
                                       for s in json.load(open(out.name))]
        result["answer_tokens"][task] = constants[kind]["tokens_to_generate"]
    with open(os.path.join(here, "original.json"), "w") as f:
        json.dump(result, f, indent=1, ensure_ascii=False)
        f.write("\n")


main(os.path.abspath(sys.argv[1]))
