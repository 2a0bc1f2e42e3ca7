"""LongRoPE's rotation for transformers: which row of factors a token gets, and cos and sin of it.

The terms are those of package ropescale. Row 0 is the model's own RoPE, row r is rung r of a
factors.json. A token at position p of a sequence on rung r is rotated by

    row = 0 if p < start_window[r] else r
    angle_i = p * b^(-2i/d) / factors[row, i],   cos and sin times attention_factor[row]

transformers' own "longrope" has one row for a whole batch and no start window, so a model that was
searched with one would be trained for another rotation than it is run with.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch


# As in package ropescale: far above every real ladder.
MAX_PAIRS, MAX_ROWS = 8192, 256


@dataclass
class Ladder:
    """A factors.json: rows of factors (rows, d/2), attention factors (rows), start windows (rows),
    lengths (rows)."""

    original_context_length: int
    factors: torch.Tensor
    attention_factors: torch.Tensor
    start_windows: torch.Tensor
    lengths: list[int]

    @staticmethod
    def read(path: Path) -> "Ladder":
        try:
            f = json.loads(Path(path).read_text(encoding="utf-8"))
            if f["version"] != 1:
                raise SystemExit(f"{path}: version is {f['version']}, this recipe reads version 1")
            original, pairs = int(f["original_context_length"]), f["rope_dimension_count"] // 2
            if original < 2 or not 1 <= pairs <= MAX_PAIRS or len(f["rungs"]) >= MAX_ROWS:
                raise ValueError(
                    f"{original} tokens, {pairs} pairs and {len(f['rungs'])} rungs; possible are 2 "
                    f"or more, 1 to {MAX_PAIRS}, and up to {MAX_ROWS - 1}"
                )
            base = f.get("base") or {"factors": [1.0] * pairs, "attention_factor": 1.0}
            rows = [{"length": 0, "start_window": 0, "attention_factor": 1.0, **base}, *f["rungs"]]
            for g in rows[1:]:
                scale = max(1.0, g["length"] / original)
                own = (
                    1
                    + torch.log(torch.tensor(scale, dtype=torch.float64))
                    / torch.log(torch.tensor(original, dtype=torch.float64))
                ) ** 0.5
                g.setdefault("attention_factor", float(own))
                g.setdefault("start_window", 0)
            if any(len(g["factors"]) != pairs for g in rows):
                raise SystemExit(
                    f"{path}: a rung has not {pairs} factors, half of rope_dimension_count"
                )
            return Ladder(
                original,
                torch.tensor([g["factors"] for g in rows], dtype=torch.float64),
                torch.tensor([g["attention_factor"] for g in rows], dtype=torch.float64),
                torch.tensor([g["start_window"] for g in rows]),
                [g["length"] for g in rows],
            )
        except (
            ArithmeticError,
            AttributeError,
            KeyError,
            RecursionError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as err:
            raise SystemExit(
                f"{path} is not a factors.json as longrope search writes it: {err!r}"
            ) from err

    def rung_for(self, length: int) -> int:
        """The row of the rung for a sequence of so many tokens, as ropescale.Ladder.RungFor chooses
        it."""
        for row, longest in enumerate(self.lengths[1:], 1):
            if longest >= length:
                return 0 if length <= self.original_context_length < longest else row
        return 0 if length <= self.original_context_length else len(self.lengths) - 1


class RowRotaryEmbedding(torch.nn.Module):
    """Takes the place of a model's rotary_emb. `rungs` says each token's rung, (batch, length) like
    the positions, and `places` where it stands, None: at its position. The trainer sets them before
    each forward pass, since transformers hands positions through and nothing else, and takes a gap
    in these for the start of another sequence."""

    def __init__(self, ladder: Ladder, freq_base: float):
        super().__init__()
        pairs = ladder.factors.shape[1]
        inv_freq = freq_base ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
        self.register_buffer("row_freq", (inv_freq / ladder.factors).float(), persistent=False)
        self.register_buffer(
            "attention_factors", ladder.attention_factors.float(), persistent=False
        )
        self.register_buffer("start_windows", ladder.start_windows, persistent=False)
        self.rungs: torch.Tensor | None = None
        self.places: torch.Tensor | None = None

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor):
        """cos and sin, (batch, length, d) each in x's type: angles in float32, as the engine has
        them."""
        rungs = torch.zeros_like(position_ids) if self.rungs is None else self.rungs
        places = position_ids if self.places is None else self.places
        rows = torch.where(places < self.start_windows[rungs], 0, rungs)
        angles = places[..., None].float() * self.row_freq[rows]
        angles = torch.cat([angles, angles], dim=-1)
        scale = self.attention_factors[rows][..., None]
        return (angles.cos() * scale).to(x.dtype), (angles.sin() * scale).to(x.dtype)


def install(model: torch.nn.Module, ladder: Ladder) -> RowRotaryEmbedding:
    """Replaces the model's rotation by rows. Row 0 must be what the model has: that is tested, not
    believed."""
    kind = model.config.model_type
    own = getattr(getattr(model, "model", None), "rotary_emb", None)
    parameters = getattr(model.config, "rope_parameters", None) or {}
    if own is None or "rope_theta" not in parameters:
        raise SystemExit(
            f"{kind}: this architecture has not one rotary embedding for all of its layers; "
            "the recipe "
            "takes those that have, as llama, mistral, qwen2, qwen3 and phi3"
        )
    rows = RowRotaryEmbedding(ladder, parameters["rope_theta"])
    device = next(model.parameters()).device
    positions = torch.arange(min(64, ladder.original_context_length), device=device)[None]
    x = torch.zeros(1, dtype=torch.float32, device=device)
    for name, theirs, ours in zip(("cos", "sin"), own(x, positions), rows.to(device)(x, positions)):
        if theirs.shape != ours.shape or (theirs - ours).abs().max() > 1e-4:
            raise SystemExit(
                f"{kind}: row 0 of the factors is not the rotation that this model has "
                f"({name} {tuple(ours.shape)}, "
                f"the model's {tuple(theirs.shape)}); were the factors searched for another model?"
            )
    model.model.rotary_emb = rows
    return rows
