#!/usr/bin/env python3
"""The search on the default model, its parts and the authors' released algorithm, over seeds and
against tokens spent.

    python3 searches.py --out DIR            256 to 2,048 tokens, three seeds of each;
                                             --target 4k: 16 times
    python3 searches.py --out DIR --arms default,fixed   only these
    python3 searches.py --out DIR --tables   only print the tables of finished searches;
                                             --plot FILE draws them

Each search, and what it would have returned with half, a quarter and an eighth of its tokens, is
measured on texts and keys that no search reads. Everything goes through "ollama longrope"
(--ollama). Finished parts are kept, so a run that was stopped resumes; --core keeps it on
one core, and two of them with other --arms can share a folder.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

from extension import HERE, ROOT, Lab

# The change of each arm. The released algorithm scores a candidate on one window, as its authors
# do.
ARMS = {
    "default": [],
    "perplexity": ["--fitness", "perplexity"],
    "needle": ["--fitness", "needle"],
    "one key": ["--keys", "1"],
    "fixed": ["--attention", "fixed"],
    "no start window": ["--start-windows", "0"],
    "32 knots": ["--knots", "32"],
    "longrope": ["--algorithm", "longrope", "--windows", "1", "--fitness", "perplexity"],
    "dim-mono": ["--algorithm", "dim-mono", "--windows", "1", "--fitness", "perplexity"],
    "dim-piece-mono": [
        "--algorithm",
        "dim-piece-mono",
        "--windows",
        "1",
        "--fitness",
        "perplexity",
    ],
}
LABELS = {
    "default": "the search",
    "perplexity": "text alone",
    "needle": "keys alone",
    "fixed": "attention factor fixed",
    "longrope": "the paper's",
    "dim-mono": "released dim-mono",
    "dim-piece-mono": "released dim-piece-mono",
}
METHODS = {"ntk": "NTK", "yarn": "YaRN"}
PARTS = (8, 4, 2, 1)  # of the tokens
TEXTS = ("isaiah", "acts", "opticks-4")


def returned(journal: Path):
    """(tokens spent, rung) each time that a candidate was read to its end and was better than all
    before it, and the tokens of all. Tokens of generations and finalists are not part of that."""
    head, *trials = map(json.loads, journal.read_text().splitlines())
    weights = {i: r["weight"] for i, r in enumerate(head["readings"]) if not r.get("use")}
    losses, spent, best = {}, 0, math.inf
    out = []
    for t in trials:
        if "tokens" not in t:
            continue
        spent += t["tokens"]
        read = losses.setdefault(t["candidate"], {})
        read.update(zip(t["readings"], (float(x) for x in t["losses"])))
        fitness = sum(w * read.get(i, math.inf) for i, w in weights.items())
        if fitness < best:
            best = fitness
            out.append((spent, t["rung"]))
    return out, spent


def measure(lab: Lab, name: str, method, target: int):
    """(perplexity, its NLL by window, keys found, keys asked)"""
    size = ["--lengths", target, "--target", target, "--methods", method, *lab.threads, "--json"]
    texts = [part for text in TEXTS for part in ("--text", HERE / "texts" / f"{text}.txt")]
    text = lab.tool(
        f"eval/{name}.text.json", "eval", "perplexity", lab.model(), "--windows", 10, *texts, *size
    )
    keys = lab.tool(
        f"eval/{name}.keys.json",
        "eval",
        "passkey",
        lab.model(),
        "--trials",
        lab.args.trials,
        "--seed",
        21,
        *size,
    )
    if not (text.exists() and keys.exists()):
        return None
    text, keys = json.loads(text.read_text()), json.loads(keys.read_text())
    asked = 5 * lab.args.trials
    return (
        text["rows"][0]["perplexity"],
        [w["nll"] for w in text["perplexity"][0]["details"]],
        round(asked * keys["rows"][0]["passkey"]),
        asked,
    )


def arm(lab: Lab, name: str, seed: int, target: int):
    """{part: (tokens, measure)} of one search."""
    stem = f"{name.replace(' ', '-')}-{target}-{seed}"
    factors = lab.search(
        f"{stem}.json", lab.model(), str(target), "--seed", seed, "--no-report", *ARMS[name]
    )
    journal = lab.path(f"{stem}.json.study")
    if not (factors.exists() and journal.exists()):
        return {}
    ladder, (best, spent) = json.loads(factors.read_text()), returned(journal)
    best.append((spent, ladder["rungs"][-1]))  # what it did return
    out = {}
    for part in [1] if lab.args.ends else PARTS:
        rung = [g for tokens, g in best if tokens <= spent / part]
        if not rung:
            continue
        # The returned factors often stay the same: one file, one measure.
        first = next(
            n for n in PARTS if [g for tokens, g in best if tokens <= spent / n][-1:] == rung[-1:]
        )
        path = lab.put(f"factors/{stem}-{first}.json", {**ladder, "rungs": [rung[-1]]})
        if m := measure(lab, f"{stem}-{first}", path, target):
            out[part] = spent // part, m
    return out


def measured(seeds, part: int):
    """[(tokens, measure)] of the seeds that had something to return after that part of their
    tokens."""
    return [seed[part] for seed in seeds.values() if part in seed]


def only_ends(runs) -> bool:
    return all(set(s) <= {1} for seeds in runs.values() for s in seeds.values())


def wilson(found: int, asked: int) -> str:
    z, p = 1.96, found / asked
    mid, half = (
        (p + z * z / (2 * asked)),
        z * math.sqrt(p * (1 - p) / asked + z * z / (4 * asked * asked)),
    )
    low, high = ((mid + s * half) / (1 + z * z / asked) for s in (-1, 1))
    return f"{100 * low:.0f}–{100 * high:.0f}"


def spread(values, digits=2) -> str:
    return f"{statistics.mean(values):.{digits}f}" + (
        f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    )


def tables(plain, runs, target: int):
    """The end of each arm against NTK and YaRN, then every arm along the way."""
    print(
        f"\n**At {target:,} tokens**\n\n| | tokens | perplexity | mean ± sd | "
        "change of NLL against NTK ± se over windows, nats | keys | in all (95 %) |\n"
        "|---|---|---|---|---|---|---|"
    )
    base = plain["ntk"][1] if plain.get("ntk") else None

    def row(name, tokens, ends):
        change = ""
        if base:
            d = [statistics.mean(w) - b for *w, b in zip(*(m[1] for m in ends), base)]
            change = (
                f"{statistics.mean(d):+.4f} ± {statistics.stdev(d) / len(d) ** 0.5:.4f}".replace(
                    "-", "−"
                )
            )
        found, asked = sum(m[2] for m in ends), sum(m[3] for m in ends)
        print(
            f"| {name} | {tokens} | {', '.join(f'{m[0]:.2f}' for m in ends)} | "
            f"{spread([m[0] for m in ends])} | {change} | {', '.join(str(m[2]) for m in ends)} | "
            f"{found} of {asked} ({wilson(found, asked)}) |"
        )

    for name, m in plain.items():
        if m:
            row(METHODS[name], 0, [m])
    for name, seeds in runs.items():
        ends = measured(seeds, 1)
        if ends:
            row(
                LABELS.get(name, name),
                f"{statistics.mean(t for t, _ in ends) / 1e6:.2f} M",
                [m for _, m in ends],
            )
    if only_ends(runs):
        return
    print(
        "\n| what a search would have returned: perplexity, keys | "
        + " | ".join(f"1/{n} of its tokens" if n > 1 else "all" for n in PARTS)
        + " |\n|---"
        + "|---" * len(PARTS)
        + "|"
    )
    for name, seeds in runs.items():
        cells = []
        for part in PARTS:
            at = [m for _, m in measured(seeds, part)]
            cells.append(
                f"{spread([m[0] for m in at])}, {sum(m[2] for m in at)} of {sum(m[3] for m in at)}"
                if at
                else ""
            )
        if any(cells):
            print(f"| {LABELS.get(name, name)} | " + " | ".join(cells) + " |")
    sys.stdout.flush()


def plot(path: Path, plain, runs, target: int):
    """Perplexity and keys against tokens spent: a mark for each seed, a line through their means.
    With --ends, keys against perplexity."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    draw = plot_ends if only_ends(runs) else plot_along
    draw(pyplot, plain, runs, target).savefig(path, dpi=130)


def plot_ends(pyplot, plain, runs, target: int):
    figure, panel = pyplot.subplots(figsize=(6.5, 4.6), layout="constrained")
    point = lambda m: (m[0], 100 * m[2] / m[3])
    for method, m in plain.items():
        if m:
            panel.plot(*point(m), "x", color="gray")
            panel.annotate(
                METHODS[method], point(m), xytext=(6, -4), textcoords="offset points", color="gray"
            )
    for i, (name, seeds) in enumerate(runs.items()):
        if ends := [point(m) for _, m in measured(seeds, 1)]:
            mean = [statistics.mean(v) for v in zip(*ends)]
            for end in ends:
                panel.plot(*zip(mean, end), ".-", color=f"C{i}", alpha=0.4, linewidth=1)
            panel.plot(*mean, "o", color=f"C{i}", label=LABELS.get(name, name))
    panel.set(xlabel="perplexity (better to the left)", ylabel="keys found, %", ylim=(0, 100))
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    figure.suptitle(f"Results of searches at {target:,} tokens: seeds, and their means")
    return figure


def plot_along(pyplot, plain, runs, target: int):
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for panel, label, value in zip(
        panels, ("perplexity", "keys found, %"), (lambda m: m[0], lambda m: 100 * m[2] / m[3])
    ):
        for (method, m), style in zip(plain.items(), ("--", ":")):
            if m:
                panel.axhline(value(m), color="gray", linestyle=style, label=METHODS[method])
        for i, (name, seeds) in enumerate(runs.items()):
            means = []
            for part in PARTS:
                if at := measured(seeds, part):
                    spent, values = [t for t, _ in at], [value(m) for _, m in at]
                    panel.plot(spent, values, ".", color=f"C{i}", alpha=0.5)
                    means.append((statistics.mean(spent), statistics.mean(values)))
            if means:
                panel.plot(*zip(*means), "o-", color=f"C{i}", label=LABELS.get(name, name))
        panel.set(xscale="log", xlabel="tokens read by the search", ylabel=label)
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].set_ylim(0, 100)
    panels[0].legend(frameon=False)
    figure.suptitle(
        f"Factors that a search would have returned, "
        f"{target:,} tokens: seeds, and the line of their means"
    )
    return figure


def tokens(text: str) -> int:
    return int(text[:-1]) * 1024 if text.lower().endswith("k") else int(text)


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
    parser.add_argument("--target", type=tokens, default=2048, metavar="LENGTH")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=4, help="keys at each of five depths")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"default: {','.join(ARMS)}")
    parser.add_argument(
        "--ends", action="store_true", help="measure only what a search returned in the end"
    )
    parser.add_argument(
        "--tables", action="store_true", help="only print the tables of what is there"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw them, .png or .svg (needs matplotlib)"
    )
    parser.add_argument("--core", type=int, help="keep to this core, with one thread")
    args = parser.parse_args()
    names = args.arms.split(",")
    if unknown := set(names) - set(ARMS):
        parser.error(f"--arms: unknown {', '.join(unknown)}; known: {', '.join(ARMS)}")
    lab = Lab(args)
    plain = {
        method: measure(lab, f"{method}-{args.target}", method, args.target) for method in METHODS
    }
    runs: dict[str, dict[int, dict]] = {name: {} for name in names}
    for seed in range(1, args.seeds + 1):
        for name in names:
            runs[name][seed] = arm(lab, name, seed, args.target)
    tables(plain, runs, args.target)
    if args.plot:
        plot(args.plot, plain, runs, args.target)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes")
