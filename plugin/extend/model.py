"""Models in and out: a Hugging Face checkpoint folder or a GGUF file, and what comes out is of the
same kind.

transformers reads a GGUF's configuration; its tensors are loaded here, since they have to go back
into the file too: every key of it stays, and so does a float tensor's type.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers

# Architectures whose tensors in a GGUF are those of the checkpoint by other names; in the first
# two, rows of q and k are in pairs of neighbours there.
NEIGHBOURS = {"llama", "mistral"}
PLAIN = NEIGHBOURS | {"qwen2", "qwen3", "phi3"}


def load(path: Path, attention: str):
    """(model in float32, tokenizer or None for a GGUF). Factors that a checkpoint carries are left
    out: rope.py has them."""
    path = Path(path)
    try:
        where, more = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
        config = transformers.AutoConfig.from_pretrained(where, **more)
        rope = getattr(config, "rope_parameters", None) or {}
        if rope.get("rope_type") == "longrope":
            config.rope_parameters = {
                "rope_type": "default",
                **{k: rope[k] for k in ("rope_theta", "partial_rotary_factor") if k in rope},
            }
        if path.is_dir():
            model = transformers.AutoModelForCausalLM.from_pretrained(
                where, config=config, dtype=torch.float32, attn_implementation=attention
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(where)
        else:
            model = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation=attention
            )
            tokenizer = None
            read_gguf(model, path)
    except (OSError, ValueError, KeyError, NotImplementedError) as err:
        raise SystemExit(
            f"{path}: transformers {transformers.__version__} cannot load it: {err}"
        ) from err
    model.config.use_cache = False
    return model, tokenizer


def skeleton(path: Path):
    """The model without memory for its weights, on PyTorch's device "meta"."""
    path = Path(path)
    where, more = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
    try:
        config = transformers.AutoConfig.from_pretrained(where, **more)
        with torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError, NotImplementedError) as err:
        raise SystemExit(
            f"{path}: transformers {transformers.__version__} cannot load it: {err}"
        ) from err


def eos_of(model) -> int | None:
    eos = model.config.eos_token_id
    return eos[0] if isinstance(eos, list) else eos


def save(model, tensors: dict[str, torch.Tensor], source: Path, out: Path):
    """Writes tensors, the model's trained parameters by name, as out; whole or not at all."""
    source, out = Path(source), Path(out)
    if model.config.tie_word_embeddings:
        tensors = {name: t for name, t in tensors.items() if name != "lm_head.weight"}
    tmp = out.with_name(out.name + ".tmp")
    if source.is_dir():
        shutil.rmtree(tmp, ignore_errors=True)
        dtype = transformers.AutoConfig.from_pretrained(source).dtype or torch.bfloat16
        model.save_pretrained(tmp, state_dict={name: t.to(dtype) for name, t in tensors.items()})
        for (
            f
        ) in source.iterdir():  # the tokenizer, the template, the licence; config.json as it was
            weights = f.suffix in {
                ".safetensors",
                ".bin",
                ".pt",
                ".pth",
                ".gguf",
            } or f.name.endswith(".index.json")
            if (
                f.is_file()
                and not weights
                and (f.name == "config.json" or not (tmp / f.name).exists())
            ):
                shutil.copyfile(f, tmp / f.name)
        for f in tmp.iterdir():
            f.chmod(0o644)  # safetensors writes for the owner alone
    else:
        write_gguf(model, tensors, source, tmp)
    os.replace(tmp, out)


# --- GGUF
# --------------------------------------------------------------------------------------------


def gguf_names(model, reader, parameters) -> dict[str, str]:
    """Names in the file of the model's parameters."""
    import gguf

    arch = reader.fields["general.architecture"].contents()
    if model.config.model_type not in PLAIN:
        raise SystemExit(
            f"{arch}: the recipe reads GGUF files of {', '.join(sorted(PLAIN))}; "
            "give the checkpoint folder"
        )
    known = gguf.get_tensor_name_map(
        next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch),
        model.config.num_hidden_layers,
    )
    names = {name: known.get_name(name, try_suffixes=(".weight", ".bias")) for name in parameters}
    have = {t.name for t in reader.tensors}
    if missing := [name for name, there in names.items() if there not in have]:
        raise ValueError(f"no tensor for {', '.join(missing)}")
    return names


def rows_of_heads(config, name: str, tensor: torch.Tensor, neighbours: bool) -> torch.Tensor:
    """q and k of a llama with their rows in pairs of neighbours, or back in pairs of halves; others
    as they are."""
    if config.model_type not in NEIGHBOURS or not (".q_proj." in name or ".k_proj." in name):
        return tensor
    heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
    half = tensor.shape[0] // heads // 2
    split = (heads, 2, half, -1) if neighbours else (heads, half, 2, -1)
    return tensor.reshape(split).transpose(1, 2).reshape(tensor.shape)


def read_gguf(model, path: Path):
    import gguf

    reader = gguf.GGUFReader(path)
    state = model.state_dict()
    if "output.weight" not in {t.name for t in reader.tensors}:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    stored = {t.name: t for t in reader.tensors}
    for name, there in gguf_names(model, reader, state).items():
        t = stored[there]
        value = torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32))
        state[name].copy_(
            rows_of_heads(model.config, name, value.reshape(state[name].shape), False)
        )


def write_gguf(model, tensors: dict[str, torch.Tensor], source: Path, out: Path):
    """source with the trained tensors in place of its own. Float tensors keep their type; a
    quantised one becomes float16 ("ollama create --quantize" makes it small again)."""
    import gguf

    reader = gguf.GGUFReader(source)
    kinds = gguf.GGMLQuantizationType
    trained = {there: name for name, there in gguf_names(model, reader, tensors).items()}
    floats = {kinds.F32, kinds.F16, kinds.BF16}
    quantised = any(t.name in trained and t.tensor_type not in floats for t in reader.tensors)
    writer = gguf.GGUFWriter(
        out, reader.fields["general.architecture"].contents(), endianess=reader.endianess
    )
    writer.data_alignment = reader.alignment
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = field.contents()
        if field.name == "general.file_type" and quantised:
            value = int(gguf.LlamaFileType.MOSTLY_F16)
        array = field.types[0] == gguf.GGUFValueType.ARRAY
        writer.add_key_value(
            field.name, value, field.types[0], sub_type=field.types[-1] if array else None
        )
    for t in reader.tensors:
        if t.name not in trained:
            writer.add_tensor(t.name, np.array(t.data), raw_dtype=t.tensor_type)
            continue
        name = trained[t.name]
        new = rows_of_heads(model.config, name, tensors[name].float(), True).contiguous().numpy()
        if t.tensor_type == kinds.F32:
            writer.add_tensor(t.name, new)
        elif t.tensor_type == kinds.BF16:
            writer.add_tensor(t.name, gguf.quants.quantize(new, kinds.BF16), raw_dtype=kinds.BF16)
        else:
            writer.add_tensor(t.name, new.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
