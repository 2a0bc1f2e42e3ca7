#!/usr/bin/env python3
"""Reference values for ropescale_test.go from Hugging Face transformers.

    python3 vectors.py > vectors.json      # needs torch and transformers; their versions are inside

Each case calls transformers' own function for the rope type and, for a few positions, its rotary
embedding on a fixed vector. transformers works in float32; the tolerances are in the test.
"""

import json
import math

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


def default_inv_freq(dims, base):
    return 1.0 / (base ** (torch.arange(0, dims, 2, dtype=torch.int64).float() / dims))


def config(dims, base, length, target, rope):
    return LlamaConfig(
        hidden_size=dims * 4,
        num_attention_heads=4,
        head_dim=dims,
        max_position_embeddings=target,
        rope_parameters={"rope_theta": base, **rope},
    )


def case(name, method, dims, base, length, target, rope, options, positions=()):
    cfg = config(dims, base, length, target, rope)
    if method in (
        "ntk",
        "dynamic",
    ):  # dynamic NTK with factor 1 at the target length is NTK-aware interpolation
        cfg.max_position_embeddings = length
        inv_freq, attention = ROPE_INIT_FUNCTIONS["dynamic"](cfg, "cpu", seq_len=target)
    else:
        inv_freq, attention = ROPE_INIT_FUNCTIONS[method](cfg, "cpu", seq_len=target)
    x = torch.cos(torch.arange(dims, dtype=torch.float32) * 1.7) + 0.25
    rotated = []
    for p in positions:
        emb = torch.cat((p * inv_freq, p * inv_freq))
        cos, sin = emb.cos() * attention, emb.sin() * attention
        q, _ = apply_rotary_pos_emb(
            x[None, None, None], x[None, None, None], cos[None, None], sin[None, None]
        )
        rotated.append({"position": p, "x": x.tolist(), "y": q.flatten().tolist()})
    return {
        "name": name,
        "method": method,
        "dims": dims,
        "base": base,
        "length": length,
        "target": target,
        "options": options,
        "inv_freq": inv_freq.tolist(),
        "attention_factor": attention,
        "rotated": rotated,
    }


cases = []
for dims, base, length, target in [
    (64, 1e4, 256, 2048),
    (128, 1e4, 4096, 131072),
    (128, 5e5, 8192, 65536),
    (96, 1e4, 4096, 6144),
    (32, 1e6, 32768, 1048576),
]:
    s = target / length
    tag = f"d{dims} b{base:g} {length} to {target}"
    pos = [0, 1, length - 1, target - 1] if target <= 8192 else [0, 1, 1000]
    cases.append(
        case(
            f"linear {tag}",
            "linear",
            dims,
            base,
            length,
            target,
            {"rope_type": "linear", "factor": s},
            {},
            pos,
        )
    )
    cases.append(
        case(
            f"ntk {tag}",
            "ntk",
            dims,
            base,
            length,
            target,
            {"rope_type": "dynamic", "factor": 1.0},
            {},
            pos,
        )
    )
    cases.append(
        case(
            f"dynamic {tag}",
            "dynamic",
            dims,
            base,
            length,
            target,
            {"rope_type": "dynamic", "factor": 1.0},
            {},
            pos,
        )
    )
    yarn = {"rope_type": "yarn", "factor": s, "original_max_position_embeddings": length}
    cases.append(case(f"yarn {tag}", "yarn", dims, base, length, target, yarn, {}, pos))
    cases.append(
        case(
            f"yarn exact {tag}",
            "yarn",
            dims,
            base,
            length,
            target,
            {
                **yarn,
                "truncate": False,
                "beta_fast": 16.0,
                "beta_slow": 2.0,
                "attention_factor": 1.25,
            },
            {"ExactRamp": True, "BetaFast": 16.0, "BetaSlow": 2.0, "AttentionFactor": 1.25},
        )
    )
    factors = [
        round(math.exp(math.log(s) * (i / (dims // 2 - 1)) ** 2), 2) for i in range(dims // 2)
    ]
    cases.append(
        case(
            f"longrope {tag}",
            "longrope",
            dims,
            base,
            length,
            target,
            {
                "rope_type": "longrope",
                "factor": s,
                "original_max_position_embeddings": length,
                "long_factor": factors,
                "short_factor": [1.0] * (dims // 2),
            },
            {"Factors": factors},
            pos,
        )
    )
for dims, base, orig, factor in [(128, 5e5, 8192, 8.0), (64, 5e5, 8192, 32.0)]:
    cases.append(
        case(
            f"llama3 d{dims} {factor:g}x",
            "llama3",
            dims,
            base,
            131072,
            131072,
            {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": orig,
            },
            {
                "Factor": factor,
                "LowFreqFactor": 1.0,
                "HighFreqFactor": 4.0,
                "OriginalContextLength": orig,
            },
        )
    )

doc = {
    "command": "python3 testdata/vectors.py > testdata/vectors.json",
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "cases": cases,
}
print(
    "{"
    + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in doc.items() if k != "cases")
    + ',\n"cases": ['
)
print(",\n".join(json.dumps(c) for c in cases) + "\n]}")
