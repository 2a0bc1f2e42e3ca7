"""Reads a model before and after conversion with gguf-py, the reference reader, and compares.

    python check.py before.gguf after.gguf factors.json

factors.json is the ladder that should be in the file, row 0 as "base". Exit code 1 and a message
for the first difference. gguf 0.10 or newer.
"""

import json
import sys

import numpy as np
from gguf import GGUFReader

before, after = GGUFReader(sys.argv[1]), GGUFReader(sys.argv[2])
ladder = json.load(open(sys.argv[3]))
arch = after.fields["general.architecture"].contents()
prefix = f"{arch}.rope.longrope."


def fail(text):
    sys.exit(f"{sys.argv[2]}: {text}")


def equal(what, got, want):
    if isinstance(want, (list, np.ndarray)):
        got, want = np.asarray(got), np.asarray(want)
        ok = got.shape == want.shape and np.array_equal(
            got.astype(np.float32), want.astype(np.float32)
        )
    else:
        ok = got == want
    if not ok:
        fail(f"{what} is {got}, want {want}")


rows = [ladder["base"]] + ladder["rungs"]
value = lambda key: after.fields[key].contents()
equal("version", value(prefix + "version"), 1)
equal(
    "lengths",
    value(prefix + "lengths"),
    [ladder["original_context_length"]] + [r["length"] for r in ladder["rungs"]],
)
equal("start_windows", value(prefix + "start_windows"), [r["start_window"] for r in rows])
equal(
    "attention_factors", value(prefix + "attention_factors"), [r["attention_factor"] for r in rows]
)
equal("factors", value(prefix + "factors"), [f for r in rows for f in r["factors"]])
equal("context_length", value(f"{arch}.context_length"), rows[-1]["length"])

owned = ("rope.scaling.", "rope.scale_linear", "rope.longrope.", "context_length")
carried = 0
for key, field in before.fields.items():
    if key.startswith("GGUF.") or key.startswith(tuple(f"{arch}.{o}" for o in owned)):
        continue
    if key not in after.fields:
        fail(f"{key} is gone")
    if field.types != after.fields[key].types or repr(field.contents()) != repr(value(key)):
        fail(f"{key} is {value(key)}, was {field.contents()}")
    carried += 1

tensors = {t.name: t for t in after.tensors}
for t in before.tensors:
    if t.name.startswith("rope_f"):
        continue
    u = tensors.get(t.name)
    if (
        u is None
        or u.tensor_type != t.tensor_type
        or u.shape.tolist() != t.shape.tolist()
        or u.data.tobytes() != t.data.tobytes()
    ):
        fail(f"tensor {t.name} differs")
for name in ("rope_freqs.weight", "rope_factors_long.weight"):
    if name in tensors:
        equal(name, tensors[name].data, rows[-1]["factors"])
if "rope_factors_short.weight" in tensors:
    equal("short", tensors["rope_factors_short.weight"].data, rows[0]["factors"])
if before.alignment != after.alignment or before.endianess != after.endianess:
    fail("alignment or byte order differ")
print(f"{carried} keys and {len(before.tensors)} tensors carried, {len(rows)} rows agree")
