#!/usr/bin/env python3
"""Long positions from short rows on the default model: extend's --positions full, skip (PoSE) and
end (EndPrompt), and LongRoPE2's --mixed with them, at equal tokens trained.

    python3 positions.py --out DIR --factors factors.json
    python3 positions.py --out DIR --factors factors.json --tables     only print the tables

factors.json has the rung for 2,048 tokens, as "make run" or "make searches" finds it; the rung for
8,192 is YaRN's. Every arm is trained for 2,048 tokens, and measured there and, with the rung for
8,192 and without more training, at 8,192. Then each is trained for 8,192 as well. Rows of skip and
end have 256 tokens, the original context length; the shares of texts and keys in them are those of
the long rows (rows.py). Finished parts are kept, so a run that was stopped resumes.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import extension
from extension import FIRST, ROOT, Lab

LONG, WINDOW = 8192, 256
# Tokens of a step at 2,048 and at 8,192, the same for every arm.
STEP_TOKENS = {FIRST: 4096, LONG: 8192}
ARMS = {  # name: options, tokens of a row (None: the target's)
    "full": (["--positions", "full"], None),
    "skip": (["--positions", "skip"], WINDOW),
    "end": (["--positions", "end"], WINDOW),
    "skip, mixed": (["--positions", "skip", "--mixed"], WINDOW),
    "end, mixed": (["--positions", "end", "--mixed"], WINDOW),
}
SEED_OF_KEYS = "7"


def rows(lab: Lab, length: int, count: int) -> Path:
    name, make = f"rows-{length}.jsonl", extension.HERE / "rows.py"
    options = ["--length", length, "--count", count, "--out", "{}"]
    return lab.need(name, sys.executable, make, *options)


def tune(lab: Lab, name: str, model: Path, arm: str, target: int, factors: Path, seed: int):
    options, row = ARMS[arm]
    row = row or target
    batch = STEP_TOKENS[target] // row
    steps = lab.args.tokens // STEP_TOKENS[target]
    text = rows(lab, row, max(60, 2 * steps * batch))
    return lab.need(
        name,
        sys.executable,
        ROOT / "plugin/extend/train.py",
        model,
        *("--factors", factors, "--length", target, "--text", text, "--out", "{}"),
        *("--seed", seed, "--steps", steps, "--batch", batch, "--micro", min(batch, 16)),
        *("--lr", extension.LR, "--warmup", max(1, steps // 6), "--no-checkpointing"),
        *("--save-every", 10, *options),
    )


def measure(lab: Lab, label: str, model: Path, factors: Path, length: int):
    """Text and hidden keys of windows, then passkeys found, of one length."""
    windows = {LONG: 1}.get(length, 4)
    common = [model, "--methods", factors, "--lengths", length, "--target", length]
    common += ["--seed", SEED_OF_KEYS, *lab.threads, "--json"]
    name = f"eval/{label}-{length}"
    keys = ["--windows", windows, "--keys", 1 if length == WINDOW else 4]
    lab.tool(f"{name}-keys.json", "eval", "keys", *common, *keys)
    trials = {LONG: 2}.get(length, 6)
    lab.tool(f"{name}-passkey.json", "eval", "passkey", *common, "--trials", trials)


def recall(lab: Lab, label: str, model: Path, factors: Path):
    """RULER's tasks of several keys and of variables; on this model they may be at their floor."""
    for task in ("niah_multikey_1", "vt", "keyvalue_digits"):
        lab.tool(
            f"eval/{label}-{task}.json",
            *("eval", task, model, "--methods", factors, "--lengths", FIRST, "--limit", 10),
            *(*lab.threads, "--json"),
        )


def arms(lab: Lab, ladder: Path, seeds):
    start = lab.model()
    for length in (WINDOW, FIRST, LONG):
        measure(lab, "untrained-0", start, ladder, length)
    for part in (["full", "skip", "end"], ["skip, mixed", "end, mixed"]):
        for seed in seeds:
            for arm in part:
                label = f"{arm.replace(', ', '+')}-{seed}"
                tuned = tune(lab, f"arms/{label}.gguf", start, arm, FIRST, ladder, seed)
                for length in (WINDOW, FIRST, LONG):
                    measure(lab, label, tuned, ladder, length)
        if not lab.args.short:
            further(lab, ladder, part, seeds)
    for arm in ("untrained", "full", "skip", "end"):
        seed = 0 if arm == "untrained" else 1
        model = start if arm == "untrained" else lab.path(f"arms/{arm}-{seed}.gguf")
        recall(lab, f"{arm}-{seed}", model, ladder)


def further(lab: Lab, ladder: Path, part, seeds):
    """Trains each arm for 8,192 too."""
    for seed in seeds:
        for arm in part:
            label = f"{arm.replace(', ', '+')}-{seed}"
            before = lab.path(f"arms/{label}.gguf")
            name = f"8k-{label}"
            tuned = tune(lab, f"arms/{name}.gguf", before, arm, LONG, ladder, seed)
            measure(lab, name, tuned, ladder, LONG)
            measure(lab, name, tuned, ladder, FIRST)


# --- tables


def read(path: Path):
    return json.loads(path.read_text()) if path.exists() else None


def results(lab: Lab):
    """{arm: {seed: {length: (windows' text NLLs, keys' NLLs, found, trials)}}}"""
    out: dict = {}
    for path in sorted(lab.out.glob("eval/*-keys.json")):
        label, length, _ = path.stem.rsplit("-", 2)
        arm, seed = label.rsplit("-", 1)
        found = read(path.with_name(f"{label}-{length}-passkey.json"))
        if found is None:
            continue
        details = read(path)["keys"][0]["details"]
        trials = found["passkey"][0]["details"]
        out.setdefault(arm, {}).setdefault(int(seed), {})[int(length)] = (
            [w["text_nll"] for w in details],
            [k for w in details for k in w["key_nll"]],
            sum(t["correct"] for t in trials),
            len(trials),
        )
    return out


def tables(lab: Lab):
    got = results(lab)
    for length in (WINDOW, FIRST, LONG):
        print(f"\n**{length:,} tokens**\n")
        print("| trained with | seeds | text, nats | against full | keys, nats | found |")
        print("|---|---|---|---|---|---|")
        for arm in sorted(got, key=order):
            seeds = got[arm]
            full = "8k-full" if arm.startswith("8k-") else "full"
            reference = got.get(full, {})
            cells = {s: c[length] for s, c in seeds.items() if length in c}
            if not cells:
                continue
            text = [statistics.mean(c[0]) for c in cells.values()]
            against = [
                statistics.mean(a - b for a, b in zip(c[0], reference[s][length][0]))
                for s, c in cells.items()
                if length in reference.get(s, {}) and arm != full
            ]
            keys = [statistics.mean(c[1]) for c in cells.values()]
            found, trials = sum(c[2] for c in cells.values()), sum(c[3] for c in cells.values())
            columns = [spread(text, 3), spread(against, 3, "+"), spread(keys, 2)]
            print(f"| {arm} | {len(cells)} | {' | '.join(columns)} | {found} of {trials} |")


def order(arm: str) -> tuple[int, str]:
    """Untrained first, then the arms as listed, then those trained for 8,192 too."""
    names = ["untrained", *(name.replace(", ", "+") for name in ARMS)]
    return (names.index(arm) if arm in names else len(names), arm)


def spread(values, digits: int, sign: str = "") -> str:
    """Mean ± standard deviation over seeds; without one where there is one seed."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):{sign}.{digits}f}"
    return mean + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--factors", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--ollama", type=Path, default=ROOT / "build/bin/ollama", metavar="FILE"
    )
    parser.add_argument("--core", type=int, help="keep to this core, with one thread")
    parser.add_argument(
        "--tokens", type=int, default=122880, help="that an arm is trained on at each length"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="no training for 8,192")
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args()
    lab = Lab(args)
    if os.environ.get("OMP_NUM_THREADS") == "1":
        lab.threads = ["--threads", "1"]
    if not args.tables:
        found = json.loads(args.factors.read_text())
        ladder = lab.ladder("both", found, lab.factors_of("yarn", LONG))
        arms(lab, ladder, range(1, args.seeds + 1))
    tables(lab)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes")
