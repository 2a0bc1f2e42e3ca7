#!/usr/bin/env python3
"""Write defaults.json: what transformers takes where a config.json leaves a field of RoPE out.

    python3 defaults.py        (needs transformers 5; writes to the folder of this file)

The table is by model_type. Each configuration class is made with no arguments, and once more with
twice the width: a head_dim that stays is the class's own, the others are computed. Classes that
cannot be made are left out, and named.
"""
import datetime
import json
import logging
import pathlib

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

transformers.logging.set_verbosity(logging.CRITICAL)
FIELDS = ["max_position_embeddings", "hidden_size",
          "num_attention_heads", "qk_rope_head_dim", "rotary_dim"]


def entry(cls):
    config = cls()
    e = {}
    for field in FIELDS:
        value = getattr(config, field, None)
        if isinstance(value, int) and not isinstance(value, bool):
            e[field] = value
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        # No RoPE, or one that the class builds in a way of its own.
        text = config.get_text_config()
        return e if text is config else {"text": text.model_type}
    if "full_attention" in rope:
        e["by_layer_type"] = True
        rope = rope["full_attention"]
    rope = {k: v for k, v in (rope or {}).items() if v is not None}
    if rope.get("rope_type") == "default":
        del rope["rope_type"]
    e["rope_parameters"] = rope
    if hasattr(config, "head_dim"):
        if config.head_dim is None:
            e["head_dim"] = None
        else:
            wide = cls(hidden_size=2 * config.hidden_size)
            if wide.head_dim == config.head_dim:
                e["head_dim"] = config.head_dim
    return e


def main():
    models, failed = {}, []
    for kind in CONFIG_MAPPING.keys():
        try:
            e = entry(CONFIG_MAPPING[kind])
        except Exception as err:  # whatever a class does without arguments
            failed.append(f"{kind}: {type(err).__name__}: {err}".splitlines()[0])
            continue
        if e:
            models[kind] = e
    head = {"made_by": "defaults.py", "transformers": transformers.__version__,
            "date": datetime.date.today().isoformat()}
    lines = [f"  {json.dumps(k)}: {json.dumps(models[k], sort_keys=True)}" for k in sorted(models)]
    text = json.dumps(head)[:-1] + ', "models": {\n' + ",\n".join(lines) + "\n}}\n"
    (pathlib.Path(__file__).parent / "defaults.json").write_text(text)
    print(f"{len(models)} model types; without: {len(failed)}")
    for line in failed:
        print(" ", line)


if __name__ == "__main__":
    main()
