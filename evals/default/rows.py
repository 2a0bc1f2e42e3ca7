#!/usr/bin/env python3
"""Writes documents to fine-tune the default model on at a longer context, of the texts it was
trained on.

    python3 rows.py --length 2048 --count 1200 --out rows.jsonl

Each line is a document of at most --length tokens: {"tokens": […], "weights": […]}, as
plugin/extend reads it. The shares are those of train.py's second phase: 64 % text, from a random
place of one document on, 20 % passkey prompts, 7 % passkey prompts without their first line, 9 % a
segment repeated. Needs what train.py needs.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

import train

HERE = Path(__file__).resolve().parent


def tokenizer_of(path: Path):
    """The tokenizer in the model file, as train.py made it."""
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = gguf.GGUFReader(path).fields
    tokens, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges"))
    tokenizer = Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges])
    )
    tokenizer.add_special_tokens([AddedToken(train.EOT, special=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=2048, metavar="TOKENS")
    parser.add_argument("--count", type=int, required=True, metavar="DOCUMENTS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    if missing := [
        f"{tool} ({source})"
        for tool, source in (
            ("bible", "Debian: apt-get install bible-kjv bible-kjv-text"),
            ("go", "go.dev"),
        )
        if not shutil.which(tool)
    ]:
        raise SystemExit(f"the texts need {', '.join(missing)}")
    documents, _ = train.all_texts()
    rows = train.Rows(tokenizer_of(HERE / "model.gguf"), documents)
    encoded = [np.array(rows.encode(text)) for text in documents.values()]
    share = np.array(
        [
            len(ids) * (1.5 if name.startswith("opticks") else 1.0)
            for name, ids in zip(documents, encoded)
        ]
    )
    share /= share.sum()

    def text(rng):
        ids = encoded[rng.choice(len(encoded), p=share)]
        start = rng.integers(max(1, len(ids) - args.length))
        return ids[start : start + args.length], None

    kinds = (
        lambda rng: rows.passkey_row(rng, args.length, True),
        lambda rng: rows.passkey_row(rng, args.length, False),
        lambda rng: rows.repeat_row(rng, args.length),
        text,
    )
    tmp = args.out.with_name(args.out.name + ".tmp")
    with tmp.open("w") as f:
        for i in range(args.count):
            rng = np.random.default_rng((args.seed, args.length, i))
            ids, weights = kinds[
                int(np.searchsorted(np.cumsum((0.20, 0.07, 0.09)), rng.random(), side="right"))
            ](rng)
            item = {"tokens": ids.tolist()}
            if weights is not None:
                item["weights"] = weights.tolist()
            f.write(json.dumps(item, separators=(",", ":")) + "\n")
    tmp.replace(args.out)


if __name__ == "__main__":
    main()
