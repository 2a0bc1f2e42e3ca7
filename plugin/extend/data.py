"""Documents, and how they are packed into training rows without ever being mixed.

A document is a text file, or a line of a .jsonl file: {"text": "…"}, or {"tokens": [1, 2, …]} for
text that somebody else has tokenised, with "weights": [1, 7, …] where some tokens matter more than
others (0: nothing to learn).

A document longer than a row becomes consecutive windows. Windows are packed best-fit: longest
first, each into the fullest row that has room. In a row every window has positions of its own from
0 on, which is how transformers distinguishes packed sequences: no token sees another window.
Padding is one more window, with no weight.

Long positions can be trained on short windows (places): the tokens of a window are rotated as if
they stood further apart in a text of the target's length. Those places go to the rotation alone;
transformers sees positions without a gap.
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


# The share of a window that stands at the end of the target under "end".
END = 16


def places(kind: str, n: int, target: int, rng) -> np.ndarray:
    """Where the n tokens of a window stand in a text of target tokens, ascending.

    full  0 .. n-1
    skip  PoSE (arXiv 2309.10400, section 3.2, two chunks): the window is cut after l tokens, l
          uniform in 1 .. n-1; the second chunk is moved by a bias that is uniform in 0 ..
          target-n. The text of the chunks stays continuous, which is one of the paper's variants.
    end   EndPrompt (arXiv 2605.14589, by its abstract): an intact first part, and a short last one
          whose positions end at the target. The paper appends a prompt there; here it is the last
          sixteenth of the window, so that nothing is made up.
    """
    at = np.arange(n)
    if kind == "full" or n < 2 or n >= target:
        return at
    if kind == "skip":
        at[int(rng.integers(1, n)) :] += int(rng.integers(0, target - n + 1))
    else:
        at[n - max(1, n // END) :] += target - n
    return at


class Rows:
    """The packed rows in an order that follows from the seed alone, so that a run's place in them
    is its step.

    row(k) gives, for the k-th row of the run, (length,) tensors: tokens, targets, weights of the
    targets, positions, the rung that each token's window is on, and the token's place (see
    places).

    With places other than "full", rung_of is asked with target in place of a window's tokens. mixed
    leaves each window, by a draw of one half, as it is and on row 0: the short texts among the
    long ones."""

    def __init__(
        self,
        documents: list[Document],
        length: int,
        rung_of,
        seed: int,
        kind: str = "full",
        target: int = 0,
        mixed: bool = False,
    ):
        self.windows, self.length, self.rung_of, self.seed = (
            windows(documents, length),
            length,
            rung_of,
            seed,
        )
        self.kind, self.target, self.mixed = kind, target, mixed
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
        tokens, targets, positions, rungs, stand = (
            np.zeros(self.length, dtype=np.int64) for _ in range(5)
        )
        weights = np.zeros(self.length, dtype=np.float32)
        rng = np.random.default_rng((self.seed, 1, k))  # another draw in each epoch
        at = 0
        for i in self.rows[self.index(k)]:
            w = self.windows[i]
            end = at + len(w.tokens)
            tokens[at:end] = w.tokens
            targets[at : end - 1], weights[at : end - 1] = w.tokens[1:], w.weights[1:]
            positions[at:end] = stand[at:end] = np.arange(end - at)
            if self.kind == "full":
                rungs[at:end] = self.rung_of(end - at)
            elif not (self.mixed and rng.integers(2)):
                rungs[at:end] = self.rung_of(self.target)
                stand[at:end] = places(self.kind, end - at, self.target, rng)
            at = end
        positions[at:] = stand[at:] = np.arange(self.length - at)
        return tuple(map(torch.from_numpy, (tokens, targets, weights, positions, rungs, stand)))

    def batch(self, ks: range) -> tuple[torch.Tensor, ...]:
        return tuple(torch.stack(parts) for parts in zip(*(self.row(k) for k in ks)))
