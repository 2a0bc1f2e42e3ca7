#!/usr/bin/env python3
"""How transformers rotates in checkpoints: reads a list of jobs as JSON, writes a list of results.

    python3 check.py < jobs.json > results.json

A job has dir, pairs (rotated pairs of a head), length (a position beyond which the long factors
serve) and tokens. A result has, for a short sequence and for one beyond length, the inverse
frequency of each pair (the angle at position 1) and what cos and sin are multiplied by, taken from
what the model's own module gives to its layers; the scale of attention; the logits of tokens; and
error, if anything failed. The module is that of the layers with full attention.
"""
import json
import logging
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

logging.disable(logging.CRITICAL)
transformers.logging.set_verbosity(logging.CRITICAL)


def rotary_calls(model, tokens):
    """The calls of the modules that compute cos and sin: module, arguments."""
    calls, hooks = [], []
    for name, module in model.named_modules():
        if "Rotary" in type(module).__name__ and "local" not in name and "sliding" not in name:
            hooks.append(module.register_forward_hook(
                lambda m, args, kwargs, out: calls.append((m, args, kwargs)), with_kwargs=True))
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    for h in hooks:
        h.remove()
    return [c for c in calls if "sliding_attention" not in [*c[1], *c[2].values()]
            if not any(isinstance(a, str) and a == "sliding_attention" for a in c[1])], logits


def rotate(call, positions, pairs):
    module, args, kwargs = call
    args, kwargs = list(args), dict(kwargs)
    ids = torch.tensor([positions])
    if "position_ids" in kwargs:
        kwargs["position_ids"] = ids
    else:
        args[1] = ids
    with torch.no_grad():
        out = module(*args, **kwargs)
    if torch.is_tensor(out):  # complex, of DeepSeek-V2
        angle, size = out[0, 1].angle(), out[0, 1].abs()
    else:
        cos, sin = out[0][0, 1].double(), out[1][0, 1].double()
        angle, size = torch.atan2(sin, cos), (cos * cos + sin * sin).sqrt()
    if len(angle) == 2 * pairs:
        halves = torch.equal(angle[:pairs], angle[pairs:])
        angle, size = (angle[:pairs], size[:pairs]) if halves else (angle[::2], size[::2])
    return {"inv_freq": angle.tolist(), "attention": size.tolist()}


def check(job):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        job["dir"], attn_implementation="eager", output_loading_info=True)
    missing = [k for k in info["missing_keys"] if "inv_freq" not in k]
    if missing or info["unexpected_keys"]:
        return {"error": f"missing {missing}, unexpected {list(info['unexpected_keys'])}"[:300]}
    model = model.float().eval()
    calls, logits = rotary_calls(model, job["tokens"])
    if not calls:
        return {"error": "no module for RoPE was called"}
    scales = {m.scaling for m in model.modules() if isinstance(getattr(m, "scaling", None), float)}
    return {"short": rotate(calls[0], [0, 1], job["pairs"]),
            "long": rotate(calls[0], [0, 1, job["length"]], job["pairs"]),
            "softmax": sorted(scales), "logits": logits.tolist()}


def main():
    results = []
    for job in json.load(sys.stdin):
        try:
            result = check(job)
        except Exception as err:  # whatever transformers does
            result = {"error": f"{type(err).__name__}: {err}"[:300]}
        results.append({"transformers": transformers.__version__, **result})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
