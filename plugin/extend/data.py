"""Documents, and how they are packed into training rows without ever being mixed.

A document is a text file, or a line of a .jsonl file: {"text": "…"}, or {"tokens": [1, 2, …]} for
text that somebody else has tokenised, with "weights": [1, 7, …] where some tokens matter more than
others (0: nothing to learn).

A document longer than a row becomes consecutive windows. Windows are packed best-fit: longest
first, each into the fullest row that has room. In a row every window has positions of its own from
0 on, which is how transformers distinguishes packed sequences: no token sees another window.
Padding is one more window, with no weight.
"""

import bisect
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass
class Document:
    tokens: np.ndarray  # int32
    weights: (
        np.ndarray
    )  # float32, of each token as a target; without memory of its own where all are 1


def read_documents(paths: list[Path], tokenizer, eos: int | None) -> list[Document]:
    """All documents of the files, each ended by eos. tokenizer may be None where all lines have
    tokens."""
    documents = []

    def add(where: str, item: dict):
        if not isinstance(item, dict):
            raise TypeError(f"{item!r:.40} is no object")
        if "tokens" in item:
            tokens = np.asarray(item["tokens"], dtype=np.int32)
        elif tokenizer is None:
            raise SystemExit(
                f"{where}: text, and a GGUF's tokenizer is the engine's: "
                "start this through ollama longrope extend, "
                "which tokenises, or give a checkpoint folder"
            )
        else:
            tokens = np.asarray(tokenizer(item["text"], verbose=False)["input_ids"], dtype=np.int32)
        ended = eos is None or not len(tokens) or tokens[-1] == eos
        if not ended:
            tokens = np.append(tokens, np.int32(eos))
        weights = np.broadcast_to(np.float32(1), tokens.shape)
        if "weights" in item:
            weights = np.asarray(item["weights"] + [1.0] * (not ended), dtype=np.float32)
        if tokens.ndim != 1 or weights.shape != tokens.shape:
            raise SystemExit(
                f"{where}: {len(item['weights'])} weights for {len(item['tokens'])} tokens; "
                "give one for each, or none"
            )
        documents.append(Document(tokens, weights))

    for path in map(Path, paths):
        try:
            if path.suffix != ".jsonl":
                add(str(path), {"text": path.read_text(encoding="utf-8")})
                continue
            with path.open(encoding="utf-8") as lines:
                for n, line in enumerate(lines, 1):
                    if line.strip():
                        add(f"{path}:{n}", json.loads(line))
        except (OSError, ValueError, TypeError, KeyError) as err:
            raise SystemExit(
                f"{path}: {err}; want plain text in utf-8, or .jsonl lines with text or tokens"
            ) from err
    return documents


def windows(documents: list[Document], length: int) -> list[Document]:
    """Consecutive windows of at most length tokens; one token alone has nothing to predict and is
    left out."""
    out = []
    for d in documents:
        for at in range(0, len(d.tokens), length):
            if len(d.tokens[at : at + length]) > 1:
                out.append(Document(d.tokens[at : at + length], d.weights[at : at + length]))
    return out


def pack(sizes: list[int], length: int) -> list[list[int]]:
    """Rows of window numbers, each row's sizes together at most length. Best fit, longest first:
    for any sizes the rows are at most 11/9 of the fewest possible, and one more."""
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (room left, row), ascending; full rows leave
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        at = bisect.bisect_left(room, (sizes[i], -1))
        if at < len(room):
            left, row = room.pop(at)
            rows[row].append(i)
        else:
            left, row = length, len(rows)
            rows.append([i])
        if left > sizes[i]:
            bisect.insort(room, (left - sizes[i], row))
    return rows


class Rows:
    """The packed rows in an order that follows from the seed alone, so that a run's place in them
    is its step.

    row(k) gives, for the k-th row of the run, (length,) tensors: tokens, targets, weights of the
    targets, positions, and the rung that each token's window is on."""

    def __init__(self, documents: list[Document], length: int, rung_of, seed: int):
        self.windows, self.length, self.rung_of, self.seed = (
            windows(documents, length),
            length,
            rung_of,
            seed,
        )
        self.rows = pack([len(w.tokens) for w in self.windows], length)
        if not self.rows:
            raise SystemExit(
                "--text: there is no document of two tokens or more; give longer texts"
            )
        # Of each row, what a step's loss is divided by: known to all processes without asking each
        # other.
        self.weight = np.array(
            [sum(float(self.windows[i].weights[1:].sum()) for i in row) for row in self.rows]
        )

    def index(self, k: int) -> int:
        epoch, at = divmod(k, len(self.rows))
        return int(np.random.default_rng((self.seed, epoch)).permutation(len(self.rows))[at])

    def row(self, k: int) -> tuple[torch.Tensor, ...]:
        tokens, targets, positions, rungs = (
            np.zeros(self.length, dtype=np.int64) for _ in range(4)
        )
        weights = np.zeros(self.length, dtype=np.float32)
        at = 0
        for i in self.rows[self.index(k)]:
            w = self.windows[i]
            end = at + len(w.tokens)
            tokens[at:end] = w.tokens
            targets[at : end - 1], weights[at : end - 1] = w.tokens[1:], w.weights[1:]
            positions[at:end], rungs[at:end] = np.arange(end - at), self.rung_of(end - at)
            at = end
        positions[at:] = np.arange(self.length - at)
        return tuple(map(torch.from_numpy, (tokens, targets, weights, positions, rungs)))

    def batch(self, ks: range) -> tuple[torch.Tensor, ...]:
        return tuple(torch.stack(parts) for parts in zip(*(self.row(k) for k in ks)))
