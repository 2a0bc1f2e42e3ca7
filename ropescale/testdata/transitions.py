#!/usr/bin/env python3
"""Reference values of MrRoPE-Uni, MrRoPE-Pro and TailSpline for ropescale_test.go.

    python3 transitions.py > transitions.json      # needs the standard library only

Written from the formulas (arXiv 2601.22181; github.com/misaya-yang/hybrid-rope), in exact fractions
for the exponents and 50 digits for the rest, independently of methods in Go.
"""
import json
from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 50
PI = Decimal("3.14159265358979323846264338327950288419716939937510")

EXPONENTS = {
    "mrrope-uni": lambda t, n: Fraction(t, n),
    "mrrope-pro": lambda t, n: Fraction(t * (t + 1), n * (n + 1)),
    "tailspline": lambda t, n: Fraction(t * (3 * n * n + 3 * n + 1 - t * t),
                                        n * (n + 1) * (2 * n + 1)),
}


def case(method, name, dims, base, length, target):
    pairs = dims // 2
    log_base = Decimal(base).ln()
    omega = [(-log_base * 2 * i / dims).exp() for i in range(pairs)]
    turns = [length * w / (2 * PI) for w in omega]
    fast = max((i for i in range(pairs) if turns[i] > 32), default=-1)
    slow = min((i for i in range(pairs) if turns[i] < 1), default=pairs - 1)
    n = slow - fast
    log_s = (Decimal(target) / Decimal(length)).ln()
    factors = []
    for i in range(pairs):
        m = EXPONENTS[method](min(max(i - fast, 0), n), n)
        factors.append((log_s * m.numerator / m.denominator).exp())
    return {"name": f"{method} {name}", "method": method, "dims": dims, "length": length,
            "target": target, "base": base, "options": {},
            "inv_freq": [float(w / f) for w, f in zip(omega, factors)],
            "factors": [float(f) for f in factors],
            "attention_factor": float(1 + log_s / 10), "fast": fast, "slow": slow}


GEOMETRIES = [
    ("default 8x", 64, 10000, 256, 2048),
    ("SmolLM2-135M 2x", 64, 100000, 8192, 16384),
    ("Llama-2-7B 32x", 128, 10000, 4096, 131072),
    ("Llama-3-8B 4x", 128, 500000, 8192, 32768),
    ("Qwen2.5-3B 8x", 128, 1000000, 32768, 262144),
    ("no pair of 32 turns", 32, 1000, 128, 300),
    ("no pair below one turn", 16, 100, 4096, 8192),
]
cases = [case(m, *g) for m in EXPONENTS for g in GEOMETRIES]
print('{"command": "python3 testdata/transitions.py > testdata/transitions.json", "cases": [')
print(",\n".join(json.dumps(c) for c in cases) + "\n]}")
