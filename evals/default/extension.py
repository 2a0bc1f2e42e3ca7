#!/usr/bin/env python3
"""Progressive extension of the default model from 256 to 8,192 tokens, and its controls.

    python3 extension.py --out DIR              the schedule: search, fine-tune, search again,
                                                readjust; then measure each step
    python3 extension.py --out DIR --controls   the same with PI, NTK and YaRN, lambda or n-hat
                                                alone, three seeds, other texts
    python3 extension.py --out DIR --tables     only print the tables of what is there

Everything goes through "ollama longrope" (--ollama) and the recipe in plugin/extend, with this
Python. Finished parts are kept, so a run that was stopped resumes; --core keeps it on one
core. --other MODEL.gguf adds the transfer of factors to another model with the same RoPE, and back.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FIRST = 2048
# The last length of the controls, 16 times the original context length: at 8,192 tokens a window
# takes four times as long.
LAST = 4096
# Of the schedule, and of each arm of the controls: steps of two rows of 2,048 tokens.
STEPS, CONTROL_STEPS, BATCH, LR = 300, 60, 2, 5e-4
CONTROL_BUDGET = "400k"  # tokens of the second search; in the schedule it has what it takes
TRAIN = [
    "--steps",
    "{steps}",
    "--batch",
    str(BATCH),
    "--lr",
    str(LR),
    "--warmup",
    "10",
    "--no-checkpointing",
    "--save-every",
    "20",
]
ROWS = 1200
KEYS = ["--depths", "0.05,0.25,0.5,0.75,0.95", "--seed", "7"]


class Lab:
    def __init__(self, args):
        self.out, self.args = args.out, args
        self.pin = ["taskset", "-c", str(args.core)] if args.core is not None else []
        self.env = {
            **os.environ,
            "OMP_NUM_THREADS": "1" if self.pin else os.environ.get("OMP_NUM_THREADS", ""),
        }
        if not self.env["OMP_NUM_THREADS"]:
            del self.env["OMP_NUM_THREADS"]
        self.threads = ["--threads", "1"] if self.pin else []
        self.out.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self.out / name

    def need(self, name: str, *command) -> Path:
        """The file of that name; if it is not there, command makes it: {} in it is where. Its
        output goes to NAME.log."""
        path = self.path(name)
        if path.exists() or self.args.tables:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [*self.pin, *(str(path) if part == "{}" else str(part) for part in command)]
        print("$", " ".join(command), file=sys.stderr, flush=True)
        with open(f"{path}.log", "ab") as log:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE if "{}" not in command and "--json" in command else log,
                stderr=log,
                env=self.env,
            )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: failed with {done.returncode}; see {path}.log")
        if not path.exists():  # a command whose standard output is what it makes
            path.write_bytes(done.stdout)
        return path

    def tool(self, name: str, *command) -> Path:
        return self.need(name, self.args.ollama, "longrope", *command)

    def put(self, name: str, value) -> Path:
        path = self.path(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(value, indent=1))
        return path

    # --- pieces ---

    def model(self) -> Path:
        path = self.path("default.gguf")
        if not path.exists():
            path.write_bytes((HERE / "model.gguf").read_bytes())
        return path

    def rows(self) -> Path:
        return self.need(
            "rows.jsonl",
            sys.executable,
            HERE / "rows.py",
            "--length",
            FIRST,
            "--count",
            ROWS,
            "--out",
            "{}",
        )

    def search(self, name: str, model: Path, targets: str, *more) -> Path:
        return self.tool(
            name, "search", model, "--target", targets, "-o", "{}", *self.threads, *more
        )

    def factors_of(self, method: str, target: int, start_window: int = 0) -> dict:
        """The ladder of a method that needs no search, as factors.json has it."""
        name = f"factors/{method}-{target}-{start_window}"
        gguf = self.tool(
            f"{name}.gguf",
            "convert",
            self.model(),
            "--method",
            method,
            "--target",
            target,
            "--start-window",
            start_window,
            "-o",
            "{}",
        )
        return json.loads(self.tool(f"{name}.show", "show", gguf, "--json").read_text())["ladder"]

    def tune(self, name: str, factors: Path, steps: int, seed: int) -> Path:
        train = [part.format(steps=steps) for part in TRAIN]
        return self.need(
            name,
            sys.executable,
            ROOT / "plugin/extend/train.py",
            self.model(),
            "--factors",
            factors,
            "--length",
            FIRST,
            "--text",
            self.rows(),
            "--out",
            "{}",
            "--seed",
            seed,
            *train,
        )

    def measure(
        self, name: str, model: Path, methods, lengths, trials: int = 2, windows: int = 2
    ) -> Path:
        return self.tool(
            f"eval/{name}.json",
            "eval",
            "all",
            model,
            "--methods",
            ",".join(map(str, methods)),
            "--lengths",
            ",".join(map(str, lengths)),
            "--target",
            max(lengths),
            "--windows",
            windows,
            "--trials",
            trials,
            *KEYS,
            *self.threads,
            "--json",
        )

    def ladder(self, name: str, *parts) -> Path:
        """One factors.json of the rungs of several: paths, or ladders as dicts."""
        ladders = [p if isinstance(p, dict) else json.loads(Path(p).read_text()) for p in parts]
        rungs = {g["length"]: g for ladder in ladders for g in ladder["rungs"]}
        return self.put(
            f"factors/{name}.json",
            {
                **{
                    k: ladders[0][k]
                    for k in ("version", "original_context_length", "rope_dimension_count")
                },
                "rungs": [rungs[n] for n in sorted(rungs)],
            },
        )


# --- the schedule
# ------------------------------------------------------------------------------------


def first_factors(lab: Lab, seed: int) -> Path:
    if seed <= len(lab.args.factors):
        return lab.args.factors[seed - 1]
    return lab.search(f"search-{seed}.json", lab.model(), "2k", "--seed", seed)


def schedule(lab: Lab):
    """The whole of it by one command, then each step measured on held-out texts and hidden keys."""
    found = first_factors(lab, 1)
    name = "main/default-8k.gguf"
    if not lab.path(name).exists() and not lab.args.tables:
        command = [
            *lab.pin,
            lab.args.ollama,
            "longrope",
            "extend",
            lab.model(),
            "--targets",
            "2k,8k",
            "--text",
            lab.rows(),
            "--steps",
            STEPS,
            "--rows",
            BATCH,
            "--lr",
            LR,
            "--factors",
            found,
            "--python",
            sys.executable,
            "-o",
            lab.path("main"),
            *lab.threads,
            "--",
            "--warmup",
            "20",
            "--no-checkpointing",
            "--save-every",
            "25",
        ]
        print("$", *command, file=sys.stderr, flush=True)
        subprocess.run(list(map(str, command)), check=True, env=lab.env)
    tuned, first, rungs = (
        lab.path("main/tuned-2k.gguf"),
        lab.path("main/search-2k.json"),
        lab.path("main/rungs.json"),
    )
    if not rungs.exists():
        return
    short, long = (256, 512, 1024, 2048), (4096, 8192)
    g = {r["length"]: r for r in json.loads(rungs.read_text())["rungs"]}
    head = json.loads(rungs.read_text())

    def only(name, *pairs):  # a ladder of (length, rung to use there)
        return lab.ladder(name, {**head, "rungs": [{**g[r], "length": n} for n, r in pairs]})

    both = only("second", (2048, 2048), (8192, 8192))
    forced = only("second-at-short", (256, 8192), (8192, 8192))
    as_2k = only("first-everywhere", (256, 2048), (8192, 2048))
    steps = {
        "before": (lab.model(), ["stock"]),
        "searched": (lab.model(), [first]),
        "yarn, no training": (lab.model(), ["yarn"]),
        "fine-tuned": (tuned, [as_2k]),
        "second interpolation": (tuned, [both]),
    }
    at_short = {"8k factors at every length": (tuned, [forced]), "readjusted": (tuned, [rungs])}
    # The start of the second search: the 2k rung stretched by a formula.
    at_long = {
        f"second interpolation, {r['origin']}": (
            tuned,
            [
                lab.ladder(
                    f"second-{r['origin']}",
                    {**head, "rungs": [g[2048], {**r["rung"], "length": 8192}]},
                )
            ],
        )
        for r in map(json.loads, lab.path("main/rungs.json-8k.study").read_text().splitlines())
        if r.get("origin") in ("ntk", "yarn")
    }
    for lengths, trials, more in ((short, 2, at_short), (long, 1, at_long)):
        results = {
            label: lab.measure(
                f"main-{label.replace(' ', '-').replace(',', '')}-{lengths[-1]}",
                model,
                methods,
                lengths,
                trials,
            )
            for label, (model, methods) in (steps | more).items()
        }
        table("The schedule, step by step", results, lengths)
        paired("The schedule", results, lengths)


# --- controls
# ----------------------------------------------------------------------------------------


def arms(lab: Lab):
    """(name, seed, factors for 2,048 tokens, method of the second interpolation or None: none), in
    the order of their worth. "lambda" is the searched factors without a start window, "n-hat" is
    NTK with the searched one."""
    found = json.loads(first_factors(lab, 1).read_text())
    g = found["rungs"][-1]
    yield "searched", 1, first_factors(lab, 1), "search"
    for method in ("yarn", "ntk", "linear"):
        yield method, 1, lab.put(f"factors/{method}.json", lab.factors_of(method, FIRST)), method
    for seed in (2, 3):
        yield "searched", seed, first_factors(lab, seed), "search"
    yield (
        "lambda",
        1,
        lab.put("factors/lambda.json", {**found, "rungs": [{**g, "start_window": 0}]}),
        None,
    )
    yield (
        "n-hat",
        1,
        lab.put("factors/n-hat.json", lab.factors_of("ntk", FIRST, g["start_window"] or 32)),
        None,
    )
    for seed in (2, 3):
        for method in ("yarn", "ntk", "linear"):
            yield method, seed, lab.path(f"factors/{method}.json"), method


def controls(lab: Lab):
    lengths = (256, FIRST, LAST)
    if not lab.args.tables:
        for name, seed, factors, second in arms(lab):
            arm = f"arms/{name}-{seed}"
            tuned, ladder = lab.tune(f"{arm}.gguf", factors, CONTROL_STEPS, seed), factors
            if second == "search":
                laddered = lab.tool(
                    f"{arm}-2k.gguf", "convert", tuned, "--factors", factors, "-o", "{}"
                )
                ladder = lab.search(
                    f"{arm}-{LAST}.json", laddered, LAST, "--budget", CONTROL_BUDGET, "--seed", seed
                )
            elif second:
                ladder = lab.ladder(f"{second}-both", factors, lab.factors_of(second, LAST))
            lab.measure(f"arm-{name}-{seed}", tuned, [ladder], lengths if second else lengths[:2])
        for name, factors in (
            ("searched", first_factors(lab, 1)),
            ("lambda", lab.path("factors/lambda.json")),
            ("n-hat", lab.path("factors/n-hat.json")),
            ("ntk", "ntk"),
            ("yarn", "yarn"),
        ):
            lab.measure(f"untrained-{name}", lab.model(), [factors], (FIRST,), windows=4)
    runs = {
        path.stem.removeprefix("arm-"): path for path in sorted(lab.out.glob("eval/arm-*.json"))
    }
    table(
        f"Controls: {CONTROL_STEPS} steps of {BATCH} x {FIRST} tokens "
        f"({CONTROL_STEPS * BATCH * FIRST:,} tokens) at {FIRST}, "
        f"then {LAST} without training (name-seed)",
        runs,
        lengths,
    )
    paired(
        "Controls", dict(sorted(runs.items(), key=lambda item: item[0] != "searched-1")), lengths
    )
    spread(runs, lengths)
    table(
        f"Without training, at {FIRST:,}",
        {
            path.stem.removeprefix("untrained-"): path
            for path in sorted(lab.out.glob("eval/untrained-*.json"))
        },
        (FIRST,),
    )


def other_texts(lab: Lab):
    """The search repeated on texts of the test set, scored on the search set, which it then has not
    seen; and back."""
    texts = {
        name: HERE / "texts" / f"{name}.txt"
        for name in ("isaiah", "opticks-4", "ezekiel", "opticks-3", "acts")
    }
    swapped = lab.search(
        "search-swapped.json",
        lab.model(),
        "2k",
        "--seed",
        1,
        "--text",
        texts["isaiah"],
        "--text",
        texts["opticks-4"],
        "--held-out",
        texts["ezekiel"],
    )
    usual = lab.put("factors/usual.json", json.loads(first_factors(lab, 1).read_text()))
    if not swapped.exists():
        return
    results = {}
    for held in (("ezekiel", "opticks-3"), ("isaiah", "opticks-4"), ("acts",)):
        more = [part for name in held for part in ("--text", texts[name])]
        results["+".join(held)] = lab.tool(
            f"eval/texts-{'-'.join(held)}.json",
            "eval",
            "perplexity",
            lab.model(),
            "--methods",
            f"ntk,{usual},{swapped}",
            "--lengths",
            FIRST,
            "--target",
            FIRST,
            "--windows",
            12,
            *more,
            *lab.threads,
            "--json",
        )
    table(
        "Searched on ezekiel and opticks-3 (usual), on isaiah and opticks-4 (search-swapped)",
        results,
        (2048,),
    )


def transfer(lab: Lab, other: Path):
    found = first_factors(lab, 1)
    theirs = lab.search("search-other.json", other, "2k", "--seed", 1)
    if not theirs.exists():
        return
    results = {
        "this model": lab.measure(
            "transfer-this",
            lab.model(),
            [
                "stock",
                "ntk",
                "yarn",
                lab.put("factors/own.json", json.loads(found.read_text())),
                theirs,
            ],
            (FIRST,),
            windows=4,
        ),
        "the other": lab.measure(
            "transfer-other",
            other,
            ["stock", "ntk", "yarn", lab.path("factors/own.json"), theirs],
            (FIRST,),
            windows=4,
        ),
    }
    table(
        "Transfer: own.json found on this model, search-other.json on the other", results, (FIRST,)
    )


# --- tables
# ------------------------------------------------------------------------------------------


def rows_of(path: Path):
    if not path.exists():
        return {}
    methods: dict[str, dict[int, dict]] = {}
    for row in json.loads(path.read_text())["rows"]:
        methods.setdefault(row["method"], {})[row["length"]] = row
    return methods


def cell(row, key, digits=2, scale=1):
    return "" if row is None or row.get(key) is None else f"{row[key] * scale:.{digits}f}"


def table(title: str, results: dict[str, Path], lengths):
    print(
        f"\n**{title}**\n\n| | "
        + " | ".join(f"ppl {n}" for n in lengths)
        + " | "
        + " | ".join(f"keys {n}" for n in lengths)
        + " |"
    )
    print("|---" * (1 + 2 * len(lengths)) + "|")
    for label, path in results.items():
        methods = rows_of(path)
        for method, rows in methods.items():
            name = label if len(methods) == 1 else f"{label}, {method}"
            print(
                f"| {name} | "
                + " | ".join(cell(rows.get(n), "perplexity") for n in lengths)
                + " | "
                + " | ".join(
                    cell(rows.get(n), "passkey", 0, 100)
                    + (" %" if rows.get(n, {}).get("passkey") is not None else "")
                    for n in lengths
                )
                + " |"
            )
    sys.stdout.flush()


def paired(title: str, results: dict[str, Path], lengths):
    """The change of NLL from the first, window by window: its error is far below that of either
    perplexity."""

    def windows(path):
        return {
            (r["args"]["length"], i): w["nll"]
            for r in json.loads(path.read_text())["perplexity"]
            for i, w in enumerate(r["details"])
        }

    runs = {label: windows(path) for label, path in results.items() if path.exists()}
    if len(runs) < 2:
        return
    first = next(iter(runs))
    print(
        f"\n{title}: change of NLL against {first}, nats ± standard error over windows\n\n| | "
        + " | ".join(map(str, lengths))
        + " |\n|---"
        + "|---" * len(lengths)
        + "|"
    )
    for label, nll in runs.items():
        cells = []
        for n in lengths:
            d = [v - runs[first][k] for k, v in nll.items() if k[0] == n and k in runs[first]]
            cells.append(
                f"{statistics.mean(d):+.4f} ± {statistics.stdev(d) / len(d) ** 0.5:.4f}"
                if len(d) > 1
                else ""
            )
        print(f"| {label} | " + " | ".join(cells) + " |")
    sys.stdout.flush()


def spread(results: dict[str, Path], lengths):
    """Mean and standard deviation over seeds; of perplexity in the mean NLL, as exp."""
    groups: dict[str, list[dict]] = {}
    for label, path in results.items():
        for rows in rows_of(path).values():
            groups.setdefault(label.rsplit("-", 1)[0], []).append(rows)
    print(
        "\n| mean ± sd over seeds | n | "
        + " | ".join(f"ppl {n}" for n in lengths)
        + " | "
        + " | ".join(f"keys {n}" for n in lengths)
        + " |"
    )
    print("|---" * (2 + 2 * len(lengths)) + "|")
    for name, runs in groups.items():
        if len(runs) < 2:
            continue

        def both(key, n, digits, scale=1.0):
            values = [r[n][key] * scale for r in runs if n in r and r[n].get(key) is not None]
            return (
                f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
                if len(values) > 1
                else ""
            )

        print(
            f"| {name} | {len(runs)} | "
            + " | ".join(both("perplexity", n, 2) for n in lengths)
            + " | "
            + " | ".join(both("passkey", n, 0, 100) for n in lengths)
            + " |"
        )
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--ollama",
        type=Path,
        default=ROOT / "build/bin/ollama",
        metavar="FILE",
        help="the program (default: what make build makes)",
    )
    parser.add_argument("--controls", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--other", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--core", type=int, help="keep to this core, with one thread")
    parser.add_argument(
        "--factors",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="factors for 2,048 tokens that a search found before, of seed 1, 2, 3 (repeatable)",
    )
    args = parser.parse_args()
    lab = Lab(args)
    schedule(lab)
    if args.controls or args.tables:
        controls(lab)
        other_texts(lab)
    if args.other:
        transfer(lab, args.other)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes")
