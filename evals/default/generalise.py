#!/usr/bin/env python3
"""Whether factors that are good at what a search measured are good at what it did not: rank
correlations between passkeys, RULER's tasks, LongPPL and perplexity over many sets of factors, on
the default model at 8 times its length.

    python3 generalise.py --out DIR FACTORS.json …   measure the sets and the closed forms
    python3 generalise.py --out DIR --tables         only print the tables of what is measured

Everything goes through "ollama longrope" (--ollama). Answers are kept in journals, so a run that
was stopped resumes. Each measure is turned so that more is better. A measure that is the same for
all sets (the floor: the model is too small for the task) has no ranks and says so; the NLL of the
true answer may have them. Intervals are of 1,000 bootstrap samples of the sets.
"""

import argparse
import csv
import random
import sys
from pathlib import Path

from extension import HERE, ROOT, Lab

LENGTH = "2k"
METHODS = ["stock", "linear", "ntk", "yarn", "mrrope-uni", "mrrope-pro", "tailspline"]
TEXTS = [x for t in ("isaiah", "acts", "opticks-4") for x in ("--text", HERE / f"texts/{t}.txt")]
# Tasks with their flags.
TASKS = {
    "passkey": ["--trials", "8", "--seed", "21"],
    "vt": ["--limit", "6", "--nll"],
    "niah_multikey_2": ["--limit", "16", "--per-context", "8", "--nll"],
    "perplexity": [*TEXTS, "--windows", "2"],
    "longppl": [*TEXTS, "--windows", "1"],
}
# Measures: their names, the task and the column they are in, and whether more of it is worse.
MEASURES = [
    ("passkeys found", "passkey", "passkey", False),
    ("multikey_2", "niah_multikey_2", "niah_multikey_2", False),
    ("multikey_2, NLL", "niah_multikey_2", "niah_multikey_2_nll", True),
    ("vt", "vt", "vt", False),
    ("vt, NLL", "vt", "vt_nll", True),
    ("LongPPL", "longppl", "longppl", True),
    ("perplexity", "perplexity", "perplexity", True),
]


def measure(lab: Lab, sets: list[Path]):
    methods = ",".join([*METHODS, *map(str, sets)])
    for task, flags in TASKS.items():
        size = ["--lengths", LENGTH, "--methods", methods, *lab.threads]
        files = ["--csv", "{}", "--journal", lab.path(f"{task}.journal")]
        lab.tool(f"{task}.csv", "eval", task, lab.model(), *size, *flags, *files)


def figures(lab: Lab):
    """{measure: {method: value}}, as printed."""
    out = {}
    for name, task, column, _ in MEASURES:
        path = lab.path(f"{task}-compared.csv")
        if not path.exists():
            continue
        with open(path) as f:
            out[name] = {r["method"]: float(r[column]) for r in csv.DictReader(f) if r[column]}
    return out


def ranks(values):
    """Ranks from 1, the mean of their ranks for those that are equal."""
    order = sorted(values)
    return [order.index(v) + (order.count(v) + 1) / 2 for v in values]


def spearman(a, b):
    """None where one does not vary."""
    a, b = ranks(a), ranks(b)
    ma, mb = sum(a) / len(a), sum(b) / len(b)
    va, vb = sum((x - ma) ** 2 for x in a), sum((y - mb) ** 2 for y in b)
    if va * vb == 0:
        return None
    return sum((x - ma) * (y - mb) for x, y in zip(a, b)) / (va * vb) ** 0.5


def correlation(a, b, rng):
    """(Spearman, low, high)"""
    whole = spearman(a, b)
    if whole is None:
        return None
    some = []
    for _ in range(1000):
        pick = [rng.randrange(len(a)) for _ in a]
        r = spearman([a[i] for i in pick], [b[i] for i in pick])
        if r is not None:
            some.append(r)
    some.sort()
    return whole, some[len(some) // 40], some[-1 - len(some) // 40]


def table(found, methods, worse):
    names = [n for n, *_ in MEASURES if n in found]
    print("| | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    rng = random.Random(1)
    for a in names:
        cells = []
        for b in names:
            common = [m for m in methods if m in found[a] and m in found[b]]
            if a == b:
                values = [found[a][m] for m in common]
                cells.append(f"{min(values):.3g} … {max(values):.3g}")
                continue
            turned = [[(-1 if worse[n] else 1) * found[n][m] for m in common] for n in (a, b)]
            r = correlation(*turned, rng)
            cells.append("floor" if r is None else f"{r[0]:.2f} ({r[1]:.2f}–{r[2]:.2f})")
        print(f"| {a} | " + " | ".join(cells) + " |")
    print()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", type=Path, metavar="FACTORS.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--ollama", default=ROOT / "build/bin/ollama")
    parser.add_argument("--core", type=int)
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args()
    lab = Lab(args)
    if not args.tables:
        if len(args.sets) < 3:
            raise SystemExit("generalise.py: ranks need three sets at least: name factors files")
        measure(lab, args.sets)
    found, worse = figures(lab), {n: w for n, _, _, w in MEASURES}
    if not found:
        raise SystemExit(f"generalise.py: {args.out} has no measures; run it without --tables")
    methods = list(next(iter(found.values())))
    searched = [m for m in methods if m not in METHODS]
    for title, some in (
        (f"{len(searched)} searched sets", searched),
        (f"{len(searched)} searched sets and {', '.join(METHODS)}", methods),
    ):
        print(f"Spearman's rank correlation, {title}; on the diagonal the range:\n")
        table(found, some, worse)


if __name__ == "__main__":
    sys.exit(main())
