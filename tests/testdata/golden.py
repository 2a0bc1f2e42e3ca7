#!/usr/bin/env python3
"""Golden logits of Hugging Face transformers' LongRoPE, and the model that has them, as a GGUF and
as a checkpoint.

    python3 golden.py            (needs torch, transformers, gguf; writes golden.json,
                                 golden-*.gguf and golden-*/ next to itself)
    python3 golden.py check DIR  (loads the checkpoint in DIR and compares its logits with
                                 golden.json; exit code 1 if they differ)

Two tiny models with random weights: llama (pairs of neighbours once converted) and phi3 (the
architecture that LongRoPE was released for: pairs of halves, q, k and v in one matrix). Each has a
short_factor for lengths up to L and a long_factor beyond, which become a ladder of two rungs;
transformers has no start window. Logits are computed with weights in float64; transformers computes
angles in float32 whatever the model's type.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent
L, LONG = 64, 2048
HIDDEN, HEADS, KV, LAYERS, FFN, VOCAB = 64, 4, 2, 2, 96, 96
DIM = HIDDEN // HEADS
SHORT_FACTOR = [1.0, 1.01, 1.02, 1.03, 1.1, 1.2, 1.15, 1.3]
LONG_FACTOR = [
    1.0,
    1.1,
    1.5,
    2.25,
    4.0,
    9.5,
    8.75,
    31.0,
]  # not monotone, as the released ones are not
ATTENTION_FACTOR = float((1 + np.log(LONG / L) / np.log(L)) ** 0.5)


def build(arch):
    kind = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
    }[arch]
    scaling = {
        "rope_type": "longrope",
        "short_factor": SHORT_FACTOR,
        "long_factor": LONG_FACTOR,
        "factor": LONG / L,
        "attention_factor": ATTENTION_FACTOR,
        "original_max_position_embeddings": L,
    }
    if int(transformers.__version__.split(".")[0]) >= 5:
        rope = {"rope_parameters": {**scaling, "rope_theta": 10000.0}}
    else:
        rope = {"rope_scaling": scaling, "rope_theta": 10000.0}
    config = kind[0](
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV,
        vocab_size=VOCAB,
        max_position_embeddings=LONG,
        original_max_position_embeddings=L,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        attn_implementation="eager",
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **rope,
    )
    model = kind[1](config).eval()
    rng = np.random.default_rng(20240221)
    for name, p in sorted(model.named_parameters()):
        w = rng.standard_normal(tuple(p.shape))
        # large enough that attention prefers some tokens and positions
        w = 1 + 0.1 * w if "norm" in name else w * (1.7 / p.shape[-1] ** 0.5)
        p.data = torch.tensor(w.astype(np.float16).astype(np.float64))
    return model.double()


def neighbours(w, heads):
    """From pairs of halves, Hugging Face's, to pairs of neighbours, GGUF's for llama."""
    return w.reshape(heads, 2, DIM // 2, -1).swapaxes(1, 2).reshape(w.shape)


def write_checkpoint(model, path):
    """The model without its scaling, in float16, as it is before a conversion; and next to it, as
    published.json, the configuration that transformers itself writes with the scaling. The
    tokenizer is there for the host's converter."""
    shutil.rmtree(path, ignore_errors=True)
    model.to(torch.float16).save_pretrained(path, max_shard_size="60KB")
    model.double()
    config = json.loads((path / "config.json").read_text())
    (path / "published.json").write_text(json.dumps(config, indent=2) + "\n")
    config["max_position_embeddings"] = L
    config.pop("original_max_position_embeddings", None)
    config["rope_parameters"] = {"rope_theta": 10000.0, "rope_type": "default"}
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (path / "generation_config.json").unlink()
    special = ["<pad>", "<s>", "</s>"]
    tokens = special + [chr(c) for c in range(ord("!"), ord("!") + VOCAB - 4)] + ["!!"]
    (path / "tokenizer.json").write_text(
        json.dumps(
            {
                "added_tokens": [
                    {"id": i, "content": t, "special": True} for i, t in enumerate(special)
                ],
                "model": {
                    "type": "BPE",
                    "vocab": {t: i for i, t in enumerate(tokens)},
                    "merges": ["! !"],
                },
            }
        )
        + "\n"
    )


def check(path):
    """The logits of a checkpoint, as transformers loads it, against golden.json."""
    model = (
        transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
        .eval()
        .double()
    )
    golden = json.loads((HERE / "golden.json").read_text())
    for case in golden["cases"]:
        if case["model"] != f"golden-{model.config.model_type}.gguf":
            continue
        with torch.no_grad():
            logits = model(torch.tensor(case["tokens"])[None]).logits[0].numpy()[case["at"]]
        worst = np.abs(logits - np.array(case["logits"])).max()
        print(
            f"transformers {transformers.__version__}, {model.config.model_type}, {case['name']}: "
            f"{worst:.2g} of {np.abs(logits).max():.2g}"
        )
        if not worst <= 1e-6 * np.abs(logits).max():
            sys.exit(
                f"{path}: transformers computes other logits than for the configuration that it "
                "wrote itself"
            )


def write_gguf(model, arch, path):
    import gguf

    w = gguf.GGUFWriter(path, arch)
    w.add_name(f"LongRoPE golden {arch}")
    w.add_block_count(LAYERS)
    w.add_context_length(LONG)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(FFN)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(DIM)
    w.add_rope_freq_base(10000.0)
    w.add_rope_scaling_orig_ctx_len(L)
    w.add_vocab_size(VOCAB)
    w.add_tokenizer_model("no_vocab")
    if arch == "phi3":
        w.add_sliding_window(0)
    key = f"{arch}.rope.longrope."
    w.add_uint32(key + "version", 1)
    for name, values, kind in [
        ("lengths", [L, L, LONG], np.uint32),
        ("start_windows", [0, 0, 0], np.uint32),
        ("attention_factors", [1.0, ATTENTION_FACTOR, ATTENTION_FACTOR], np.float32),
        ("factors", [1.0] * (DIM // 2) + SHORT_FACTOR + LONG_FACTOR, np.float32),
    ]:
        sub = gguf.GGUFValueType.UINT32 if kind == np.uint32 else gguf.GGUFValueType.FLOAT32
        w.add_key_value(key + name, values, gguf.GGUFValueType.ARRAY, sub)

    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.qkv_proj": "attn_qkv",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "mlp.gate_up_proj": "ffn_up",
    }
    for name, p in sorted(model.named_parameters()):
        base = name.removesuffix(".weight")
        block = ""
        if base.startswith("model.layers."):
            _, _, i, base = base.split(".", 3)
            block = f"blk.{i}."
        a = p.detach().numpy()
        if arch == "llama" and base.endswith("q_proj"):
            a = neighbours(a, HEADS)
        if arch == "llama" and base.endswith("k_proj"):
            a = neighbours(a, KV)
        w.add_tensor(block + names[base] + ".weight", a.astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    out = {
        "made_by": "golden.py",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "cases": [],
    }
    for arch in ["llama", "phi3"]:
        model = build(arch)
        path = HERE / f"golden-{arch}.gguf"
        write_gguf(model, arch, str(path))
        write_checkpoint(model, HERE / f"golden-{arch}")
        for name, n, at in [
            ("short", L, [0, 1, 2, 7, 31, 62, 63]),
            ("long", LONG, [0, 1, 63, 64, 65, 127, 500, 1023, 1024, 1500, 2046, 2047]),
        ]:
            tokens = np.random.default_rng(n).integers(0, VOCAB, n)
            with torch.no_grad():
                logits = model(torch.tensor(tokens)[None]).logits[0].numpy()
            out["cases"].append(
                {
                    "name": name,
                    "model": path.name,
                    "tokens": tokens.tolist(),
                    "at": at,
                    "logits": [[float(f"{v:.9g}") for v in logits[i]] for i in at],
                }
            )
    text = json.dumps(out, separators=(",", ":")).replace(',{"name"', ',\n{"name"')
    (HERE / "golden.json").write_text(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        main()
