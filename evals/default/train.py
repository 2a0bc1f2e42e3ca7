#!/usr/bin/env python3
"""Trains the default model of LongRoPE for Ollama, from text that ships with Debian and Go.

    python3 train.py --out DIR            everything: texts, tokenizer, model, checkpoint,
                                          model.gguf, figures
    python3 train.py --texts              only write texts/ next to this file
    python3 train.py --out DIR --export   only write the checkpoint and model.gguf from DIR's last
                                          state
    python3 train.py --out DIR --measure  only measure the checkpoint in DIR, ours or another of
                                          the same shape

Needs Debian's bible-kjv and bible-kjv-text, Go (for Newton's Opticks), and the Python packages
torch, numpy, tokenizers, safetensors and gguf. A run that was stopped resumes from its last state,
with the same data in the same order: what a step sees depends on the seed and the step's number
only.

The model is small enough to train on a laptop in an hour and good enough to show the paper's claim:
it reads 256 tokens, finds a passkey in them, and fails beyond, until its RoPE is rescaled.
"""

import argparse
import bz2
import json
import math
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
SEED = 1
VOCAB = 1024
CONTEXT = 256  # L, the original context length
BATCH = 4096  # tokens of a step
SHORT_STEPS = 500  # the first steps see rows of 64 tokens, the others of CONTEXT tokens
EOT = "<|endoftext|>"  # token 0: between documents, and after a passkey's answer

# The passkey prompt, word for word that of the LongRoPE and landmark attention papers. README.md
# states it for other programs; evals builds the same.
HEADER = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there.\n"
)
GRASS = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
)
NEEDLE = "The pass key is {key}. Remember it. {key} is the pass key.\n"
QUESTION = "What is the pass key? The pass key is"
ANSWER = " {key}."


# --- texts
# -------------------------------------------------------------------------------------------

SEARCH_TEXTS = ["ezekiel", "opticks-3"]
TEST_TEXTS = ["isaiah", "acts", "opticks-4"]


def bible_books() -> dict[str, str]:
    """Book -> its text: a verse a line, an empty line between chapters, no numbers."""
    printed = subprocess.run(
        ["bible", "-l100000", "gen1:1-rev22:21"], check=True, capture_output=True, text=True
    ).stdout
    books: dict[str, list[list[str]]] = {}
    verses: list[str] = []
    for line in printed.splitlines():
        if verse := re.match(r" +\d+ (.*\S)", line):
            verses.append(verse[1])
        elif chapter := re.match(r"(.*\S) \d+$", line):
            verses = []
            books.setdefault(chapter[1], []).append(verses)
    return {
        book: "\n\n".join("\n".join(c) for c in chapters) + "\n" for book, chapters in books.items()
    }


def opticks() -> list[str]:
    """The four quarters of Newton's Opticks, cut between paragraphs; lines as they are."""
    root = subprocess.run(
        ["go", "env", "GOROOT"], check=True, capture_output=True, text=True
    ).stdout.strip()
    text = Path(root, "src/testdata/Isaac.Newton-Opticks.txt").read_text(encoding="utf-8")
    text = text[text.index("OPTICKS:") :]  # without the credits of those who typed it
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    cuts = [0, *(text.index("\n\n", len(text) * i // 4) + 2 for i in (1, 2, 3)), len(text)]
    return [text[a:b].strip() + "\n" for a, b in zip(cuts, cuts[1:])]


def all_texts() -> tuple[dict[str, str], dict[str, str]]:
    """(documents to train on, documents held out for searching and testing)."""
    train = {name.lower().replace(" ", "-"): text for name, text in bible_books().items()}
    train |= {f"opticks-{i + 1}": text for i, text in enumerate(opticks())}
    held = {name: train.pop(name) for name in SEARCH_TEXTS + TEST_TEXTS}
    return train, held


def long_texts() -> dict[str, str]:
    """The rest of the Bible, in two: for searching and for testing other models, at lengths for
    which the books are short. 2 Kings is in neither, because of its near twin in Isaiah."""
    books = bible_books()
    del books["2 Kings"]
    kept = [name for name in books if name.lower() not in SEARCH_TEXTS + TEST_TEXTS]
    new = kept.index("Matthew")
    return {
        "old-testament": "\n".join(books[n] for n in kept[:new]),
        "new-testament": "\n".join(books[n] for n in kept[new:]),
    }


# --- tokenizer
# ---------------------------------------------------------------------------------------


def train_tokenizer(documents: list[str], path: Path):
    """Byte-level BPE whose digits are split one by one: what GGUF calls the pre-tokenizer "refact".
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[EOT],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    # The prompt's own words get tokens too, else its filler would take twice the room.
    prompts = [HEADER + GRASS + NEEDLE.format(key="") + QUESTION] * 1000
    tokenizer.train_from_iterator(documents + prompts, trainer)
    tokenizer.save(str(path))
    return tokenizer


# --- model
# -------------------------------------------------------------------------------------------

CONFIG = SimpleNamespace(
    width=256, layers=5, heads=4, kv_heads=2, head_dim=64, ffn=704, rope_base=10000.0, norm_eps=1e-5
)


def rotation(inv_freq: torch.Tensor, length: int, attention_factor: float = 1.0):
    """cos and sin of positions 0..length-1, (length, head_dim) each."""
    angles = torch.outer(torch.arange(length).double(), inv_freq.double())
    angles = torch.cat([angles, angles], dim=-1)
    return (angles.cos() * attention_factor).float(), (angles.sin() * attention_factor).float()


def base_inv_freq() -> torch.Tensor:
    return CONFIG.rope_base ** (-torch.arange(0, CONFIG.head_dim, 2).double() / CONFIG.head_dim)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


def norm():
    return torch.nn.RMSNorm(CONFIG.width, eps=CONFIG.norm_eps)


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        c = CONFIG
        self.q_proj = torch.nn.Linear(c.width, c.heads * c.head_dim, bias=False)
        self.k_proj = torch.nn.Linear(c.width, c.kv_heads * c.head_dim, bias=False)
        self.v_proj = torch.nn.Linear(c.width, c.kv_heads * c.head_dim, bias=False)
        self.o_proj = torch.nn.Linear(c.heads * c.head_dim, c.width, bias=False)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        q, k, v = (
            p(x).view(rows, length, -1, CONFIG.head_dim).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        group = CONFIG.heads // CONFIG.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(rows, length, -1))


class MLP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj = torch.nn.Linear(CONFIG.width, CONFIG.ffn, bias=False)
        self.up_proj = torch.nn.Linear(CONFIG.width, CONFIG.ffn, bias=False)
        self.down_proj = torch.nn.Linear(CONFIG.ffn, CONFIG.width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.self_attn = norm(), Attention()
        self.post_attention_layernorm, self.mlp = norm(), MLP()

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(torch.nn.Module):
    """The names of the parameters are those of transformers' LlamaModel."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(VOCAB, CONFIG.width)
        self.layers = torch.nn.ModuleList(Layer() for _ in range(CONFIG.layers))
        self.norm = norm()
        for name, p in self.named_parameters():
            if p.ndim == 2:
                out = name.endswith(("o_proj.weight", "down_proj.weight"))
                torch.nn.init.normal_(
                    p, std=0.02 if "embed" in name else p.shape[1] ** -0.5 * (0.3 if out else 0.6)
                )

    def forward(self, ids, cos, sin):
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)


# --- training rows
# -----------------------------------------------------------------------------------


def sentence_end(text: str, depth: float) -> int:
    """Where the sentence or line ends whose end is nearest to depth; the ends of text count."""
    ends = [0, *(m.end() for m in re.finditer(r"[.?!] |\n", text)), len(text)]
    return min(ends, key=lambda at: abs(at - depth * len(text)))


def line(text: str) -> str:
    """text as a line of its own, or as lines; nothing stays nothing."""
    text = text.strip(" ")
    return text if not text or text.endswith("\n") else text + "\n"


class Rows:
    """Makes the training rows. Retrieval does not come by itself in so small a model: part of the
    rows repeat themselves and part are passkey prompts, at 64 tokens first."""

    def __init__(self, tokenizer, documents: dict[str, str]):
        self.encode = lambda text: tokenizer.encode(text).ids

        def joined(names):
            return np.array(
                [i for n in names for i in [0, *self.encode(documents[n])]], dtype=np.int64
            )

        self.prose = "\n".join(documents.values())
        self.bible = joined(n for n in documents if not n.startswith("opticks"))
        self.opticks = joined(n for n in documents if n.startswith("opticks"))
        # Opticks is 9 % of the tokens; it is drawn half as often again.
        self.opticks_share = 1.5 * len(self.opticks) / (len(self.bible) + len(self.opticks))
        self.header, self.grass, self.question = (
            self.encode(HEADER),
            self.encode(GRASS),
            self.encode(QUESTION),
        )
        self.before, self.between, self.after = (self.encode(s) for s in NEEDLE.split("{key}"))
        self.digits = [self.encode(str(d))[0] for d in range(10)]
        self.space, self.stop = self.encode(" "), self.encode(".") + [0]

    def text(self, rng, n: int) -> np.ndarray:
        source = self.opticks if rng.random() < self.opticks_share else self.bible
        start = rng.integers(len(source) - n)
        return source[start : start + n]

    def repeat_row(self, rng, n):
        """A segment, of the text or of random tokens, over and over."""
        period = int(rng.integers(8, n // 2 + 1))
        if rng.random() < 0.5:
            segment, first = self.text(rng, period), 1.0
        else:
            segment, first = (
                rng.integers(1, VOCAB, period),
                0.0,
            )  # nothing to learn from noise itself
        weights = np.ones(n)
        weights[:period] = first
        return np.resize(segment, n), weights

    def haystack(self, rng, size: int) -> tuple[str, float]:
        """About size characters of filler, lines of the text or the papers' sentences, and a depth.
        """
        depth = rng.random()
        if rng.random() < 0.3:
            start = self.prose.index("\n", rng.integers(len(self.prose) - size - 1000)) + 1
            return self.prose[start : start + size], depth
        lines = size // len(GRASS)
        if rng.random() < 0.5:  # whole lines
            return GRASS * lines, round(depth * lines) / max(1, lines)
        return (GRASS * (lines + 1))[:size], depth

    def passkey_row(self, rng, n, full: bool):
        """A passkey prompt with its answer, then text to the end of the row. A short one has no
        first line."""
        digits = int(rng.choice([1, 2, 3, 4, 5, 5]))
        key = [self.digits[d] for d in (rng.integers(1, 10), *rng.integers(0, 10, digits - 1))]
        needle = [(self.before, 1), (key, 1), (self.between, 1), (key, 7), (self.after, 1)]
        asked = [(self.question, 1), (self.space, 1), (key, 7), (self.stop, 1)]
        head = self.header if full else []
        room = n - len(head) - sum(len(p) for p, _ in needle + asked)
        if not full or rng.random() < 0.3:
            room = int(rng.integers(0, room + 1))
        body, depth = self.haystack(rng, 4 * room)
        while True:
            cut = sentence_end(body, depth)
            before, behind = self.encode(line(body[:cut])), self.encode(line(body[cut:]))
            if len(before) + len(behind) <= room:
                break
            body = body[: len(body) * room // (len(before) + len(behind) + 1)]
        parts = [(head, 1), (before, 1), *needle, (behind, 1), *asked]
        ids = np.concatenate([np.array(p, dtype=np.int64) for p, _ in parts])
        weights = np.concatenate([np.full(len(p), w, dtype=np.float64) for p, w in parts])
        rest = n - len(ids)
        return np.concatenate([ids, self.text(rng, rest)]), np.concatenate([weights, np.ones(rest)])

    def batch(self, step: int):
        """Inputs, targets and weights of the step's rows."""
        rng = np.random.default_rng((SEED, step))
        if step < SHORT_STEPS:
            length, shares = 64, (0.0, 0.30, 0.45)
        else:
            length, shares = CONTEXT, (0.20, 0.07, 0.09)
        bounds = np.cumsum(shares)
        ids, weights = [], []
        for _ in range(BATCH // length):
            kind = int(np.searchsorted(bounds, rng.random(), side="right"))
            row = (
                lambda: self.passkey_row(rng, length + 1, True),
                lambda: self.passkey_row(rng, length + 1, False),
                lambda: self.repeat_row(rng, length + 1),
                lambda: (self.text(rng, length + 1), np.ones(length + 1)),
            )[kind]()
            ids.append(row[0])
            weights.append(row[1])
        ids, weights = torch.from_numpy(np.stack(ids)), torch.from_numpy(np.stack(weights)).float()
        return ids[:, :-1], ids[:, 1:], weights[:, 1:]


# --- optimiser
# ---------------------------------------------------------------------------------------


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by five Newton-Schulz steps (Jordan et al. 2024), in
    float32: torch.optim.Muon works in bfloat16, far slower on a CPU without it. Matrices of one
    shape go together."""

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, pool):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum"], group["momentum"])
                wide = update.T if p.shape[0] > p.shape[1] else update
                shapes.setdefault(wide.shape, []).append((p, wide))
            halves = [
                h
                for items in shapes.values()
                for h in (items[: len(items) // 2], items[len(items) // 2 :])
            ]
            for items, x in zip(
                halves,
                pool.map(lambda items: orthogonal(torch.stack([w for _, w in items])), halves),
            ):
                for (p, _), o in zip(items, x):
                    o = o.T if p.shape[0] > p.shape[1] else o
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(o, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


@torch.no_grad()
def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """Each matrix of x with its singular values brought near 1."""
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x


def optimisers(model):
    inner = [p for p in model.layers.parameters() if p.ndim == 2]
    outer = [p for name, p in model.named_parameters() if p.ndim == 1 or "embed" in name]
    return Muon(inner), torch.optim.AdamW(outer, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)


def rate(step: int, steps: int) -> float:
    """Share of the full learning rate: 50 steps of warm-up, linear decay over the last 40 %."""
    return min(1.0, (step + 1) / 50, (steps - step) / (0.4 * steps))


def train(out: Path, tokenizer, documents, steps: int, save_every: int, bf16: bool):
    torch.manual_seed(SEED)
    model = Llama()
    opts = optimisers(model)
    rates = [o.param_groups[0]["lr"] for o in opts]
    rows = Rows(tokenizer, documents)
    state_path, step = out / "state.pt", 0
    if state_path.exists():
        state = torch.load(state_path)
        model.load_state_dict(state["model"])
        for o, s in zip(opts, state["optimisers"]):
            o.load_state_dict(s)
        step = state["step"]
        if state.get("steps", steps) != steps:
            raise SystemExit(
                f"{state_path} is of a run of {state['steps']} steps, not {steps}: "
                "give that number or another --out"
            )
        print(f"resuming at step {step}", flush=True)
    print(
        f"{sum(p.numel() for p in model.parameters())} parameters, "
        f"{len(rows.bible) + len(rows.opticks)} tokens "
        f"of text ({len(rows.opticks)} of Opticks), {steps} steps",
        flush=True,
    )
    cos, sin = rotation(base_inv_freq(), CONTEXT)
    params = list(model.parameters())

    def gradients(part):
        ids, targets, weights = part
        n = ids.shape[1]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits = model(ids, cos[:n], sin[:n])
        losses = F.cross_entropy(
            logits.float().view(-1, VOCAB), targets.reshape(-1), reduction="none"
        )
        return losses.detach(), torch.autograd.grad(
            (losses * weights.reshape(-1)).sum() / BATCH, params
        )

    # A step is done in two halves, each by a thread of its own: they wait for each other once a
    # step and not, as torch's own threads, at every product, which matters where others use the
    # machine. The sums are the same on any number of cores.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))
    started, since = time.time(), step
    while step < steps:
        batch = rows.batch(step)
        halves = list(pool.map(gradients, zip(*(part.chunk(2) for part in batch))))
        for p, *grads in zip(params, *(g for _, g in halves)):
            p.grad = grads[0] + grads[1]
        for o, full in zip(opts, rates):
            o.param_groups[0]["lr"] = full * rate(step, steps)
        opts[0].step(pool)
        opts[1].step()
        step += 1
        if step % 20 == 0:
            losses, w = torch.cat([losses for losses, _ in halves]), batch[2].reshape(-1)
            print(
                f"step {step} loss {losses[w == 1].mean():.3f} digits {losses[w == 7].mean():.3f} "
                f"tokens/s {(step - since) * BATCH / (time.time() - started):.0f}",
                flush=True,
            )
        if step % save_every == 0 or step == steps:
            state = {
                "model": model.state_dict(),
                "optimisers": [o.state_dict() for o in opts],
                "step": step,
                "steps": steps,
            }
            torch.save(state, out / "state.tmp")
            os.replace(out / "state.tmp", state_path)
    return model


# --- files
# -------------------------------------------------------------------------------------------


def write_texts(held: dict[str, str], folder: Path):
    folder.mkdir(exist_ok=True)
    for name, text in held.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")
    for name, text in long_texts().items():
        (folder / f"{name}.txt.bz2").write_bytes(bz2.compress(text.encode()))


def write_checkpoint(model: Llama, folder: Path):
    """A Hugging Face checkpoint in float16; tokenizer.json lies there already."""
    from safetensors.torch import save_file

    c = CONFIG
    tensors = {
        f"model.{name}": p.detach().half().contiguous() for name, p in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_size": c.width,
                "intermediate_size": c.ffn,
                "num_hidden_layers": c.layers,
                "num_attention_heads": c.heads,
                "num_key_value_heads": c.kv_heads,
                "head_dim": c.head_dim,
                "vocab_size": VOCAB,
                "max_position_embeddings": CONTEXT,
                "rms_norm_eps": c.norm_eps,
                "rope_theta": c.rope_base,
                "hidden_act": "silu",
                "tie_word_embeddings": True,
                "attention_bias": False,
                "mlp_bias": False,
                "bos_token_id": 0,
                "eos_token_id": 0,
                "torch_dtype": "float16",
            },
            indent=1,
        )
        + "\n"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": CONTEXT,
                "eos_token": EOT,
                "bos_token": EOT,
                "clean_up_tokenization_spaces": False,
            },
            indent=1,
        )
        + "\n"
    )


def load_checkpoint(folder: Path) -> Llama:
    from safetensors.torch import load_file

    model = Llama()
    model.load_state_dict(
        {
            name.removeprefix("model."): t.float()
            for name, t in load_file(folder / "model.safetensors").items()
        }
    )
    return model.eval()


def write_gguf(folder: Path, path: Path):
    """The checkpoint in folder as a GGUF file: matrices in float16, norms in float32."""
    import gguf
    from safetensors.numpy import load_file

    c = CONFIG
    tensors = load_file(folder / "model.safetensors")
    bpe = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    w = gguf.GGUFWriter(path.with_suffix(".tmp"), "llama")
    w.add_type("model")
    w.add_name("LongRoPE default")
    w.add_description(
        "4M-parameter llama, L = 256, for trying LongRoPE. "
        "Trained from scratch by evals/default/train.py "
        "on the King James Bible and the first half of Newton's Opticks, both in the public domain."
    )
    w.add_license("cc0-1.0")
    w.add_size_label("4M")
    w.add_languages(["en"])
    w.add_context_length(CONTEXT)
    w.add_embedding_length(c.width)
    w.add_block_count(c.layers)
    w.add_feed_forward_length(c.ffn)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.kv_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_layer_norm_rms_eps(c.norm_eps)
    w.add_rope_freq_base(c.rope_base)
    w.add_rope_dimension_count(c.head_dim)
    w.add_vocab_size(VOCAB)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("refact")
    w.add_token_list(tokens)
    w.add_token_types(
        [gguf.TokenType.CONTROL if t == EOT else gguf.TokenType.NORMAL for t in tokens]
    )
    w.add_token_merges([" ".join(m) for m in bpe["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)

    def add(name: str, source: str, heads: int = 0):
        t = tensors[source]
        if heads:  # ggml's llama rotates neighbours, transformers' rotates halves
            t = t.reshape(heads, 2, c.head_dim // 2, -1).swapaxes(1, 2).reshape(t.shape)
        w.add_tensor(name, t.astype(np.float32 if t.ndim == 1 else np.float16))

    add("token_embd.weight", "model.embed_tokens.weight")
    for i in range(c.layers):
        ours, theirs = f"blk.{i}", f"model.layers.{i}"
        add(f"{ours}.attn_norm.weight", f"{theirs}.input_layernorm.weight")
        add(f"{ours}.ffn_norm.weight", f"{theirs}.post_attention_layernorm.weight")
        add(f"{ours}.attn_q.weight", f"{theirs}.self_attn.q_proj.weight", c.heads)
        add(f"{ours}.attn_k.weight", f"{theirs}.self_attn.k_proj.weight", c.kv_heads)
        add(f"{ours}.attn_v.weight", f"{theirs}.self_attn.v_proj.weight")
        add(f"{ours}.attn_output.weight", f"{theirs}.self_attn.o_proj.weight")
        for part in ("gate", "up", "down"):
            add(f"{ours}.ffn_{part}.weight", f"{theirs}.mlp.{part}_proj.weight")
    add("output_norm.weight", "model.norm.weight")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.replace(path.with_suffix(".tmp"), path)


# --- measuring
# ---------------------------------------------------------------------------------------


def methods(scale: float) -> dict[str, tuple[torch.Tensor, float]]:
    """Name -> (inverse frequencies, attention factor)."""
    c, pairs = CONFIG, torch.arange(CONFIG.head_dim // 2).double()
    base = base_inv_freq()
    ntk = (c.rope_base * scale ** (c.head_dim / (c.head_dim - 2))) ** (-2 * pairs / c.head_dim)

    def pair_of(rotations):  # YaRN: the pair that turns so often in the original context
        return (
            c.head_dim * math.log(CONTEXT / (rotations * 2 * math.pi)) / (2 * math.log(c.rope_base))
        )

    low, high = max(math.floor(pair_of(32)), 0), min(math.ceil(pair_of(1)), len(pairs) - 1)
    ramp = ((pairs - low) / (high - low)).clamp(0, 1)
    yarn = base * (1 - ramp) + base / scale * ramp
    longrope = math.sqrt(1 + math.log(scale) / math.log(CONTEXT))
    return {
        "stock": (base, 1.0),
        "PI": (base / scale, 1.0),
        "NTK": (ntk, 1.0),
        f"NTK, {longrope:.3f}": (ntk, longrope),
        "YaRN, 1.0": (yarn, 1.0),
        f"YaRN, {longrope:.3f}": (yarn, longrope),
    }


@torch.no_grad()
def perplexity(model, ids: list[int], length: int, inv_freq, attention_factor) -> float:
    """exp of the mean NLL per token over the text's whole windows of that length; each starts
    afresh."""
    cos, sin = rotation(inv_freq, length, attention_factor)
    windows = torch.tensor(ids[: len(ids) // length * length]).view(-1, length)
    total = 0.0
    for chunk in windows.split(max(1, 4096 // length)):
        logits = model(chunk, cos, sin)[:, :-1]
        total += F.cross_entropy(
            logits.reshape(-1, VOCAB), chunk[:, 1:].reshape(-1), reduction="sum"
        ).item()
    return math.exp(total / (len(windows) * (length - 1)))


def passkey_prompt(tokenizer, key: str, length: int, depth: float):
    """The longest prompt that fits into length tokens with its answer; depth 0 puts the needle
    first."""
    count = lambda s: len(tokenizer.encode(s).ids)
    room = (
        length
        - count(HEADER)
        - count(NEEDLE.format(key=key))
        - count(QUESTION + ANSWER.format(key=key))
    )
    fillers = room // count(GRASS)
    before = round(depth * fillers)
    return HEADER + GRASS * before + NEEDLE.format(key=key) + GRASS * (fillers - before) + QUESTION


@torch.no_grad()
def passkey(model, tokenizer, length: int, inv_freq, attention_factor, depths: int) -> float:
    """Share of 5-digit keys answered greedily, digit for digit and then no further digit, one at
    each depth."""
    rng = np.random.default_rng((SEED, length))
    cos, sin = rotation(inv_freq, length, attention_factor)
    digits = {tokenizer.token_to_id(str(d)) for d in range(10)}
    found = 0
    for i in range(depths):
        key = str(rng.integers(10000, 50001))
        prompt = tokenizer.encode(passkey_prompt(tokenizer, key, length, i / (depths - 1))).ids
        answer = tokenizer.encode(" " + key).ids
        ids = torch.tensor([prompt + answer])
        said = model(ids, cos[: ids.shape[1]], sin[: ids.shape[1]])[0].argmax(-1).tolist()
        found += said[len(prompt) - 1 : -1] == answer and said[-1] not in digits
    return found / depths


def measure(folder: Path, held: dict[str, str], depths: int):
    from tokenizers import Tokenizer

    tokenizer, model = Tokenizer.from_file(str(folder / "tokenizer.json")), load_checkpoint(folder)
    ids = {name: tokenizer.encode(held[name]).ids for name in TEST_TEXTS}
    print(
        "| 8x | "
        + " / ".join(TEST_TEXTS)
        + " at 256 | at 2048 | passkey 128 | 256 | 1024 | 2048 |\n|---|---|---|---|---|---|---|"
    )
    for name, rope in methods(8.0).items():
        short = (
            " / ".join(f"{perplexity(model, ids[t], 256, *rope):.2f}" for t in TEST_TEXTS)
            if name == "stock"
            else ""
        )
        long = " / ".join(f"{perplexity(model, ids[t], 2048, *rope):.2f}" for t in TEST_TEXTS)
        keys = " | ".join(
            f"{passkey(model, tokenizer, n, *rope, depths):.0%}" for n in (128, 256, 1024, 2048)
        )
        print(f"| {name} | {short} | {long} | {keys} |", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the state and the checkpoint go, or lie"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=2000,
        help="of 4,096 tokens; a state of another number of steps does not fit",
    )
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    parser.add_argument(
        "--float32",
        action="store_true",
        help="matrix products in float32: for a CPU without bfloat16",
    )
    parser.add_argument("--depths", type=int, default=40, help="of the passkey in --measure")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--texts", action="store_true", help="only write texts/ next to this file")
    only.add_argument(
        "--export", action="store_true", help="only write the checkpoint and model.gguf"
    )
    only.add_argument("--measure", action="store_true", help="only measure the checkpoint")
    args = parser.parse_args()
    documents, held = all_texts()
    if not (args.export or args.measure):
        write_texts(held, HERE / "texts")
    if args.texts:
        return
    if not args.out:
        parser.error("--out DIR is needed")
    if args.measure:
        return measure(args.out, held, args.depths)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.export:
        model = Llama()
        model.load_state_dict(torch.load(args.out / "state.pt")["model"])
    else:
        tokenizer = train_tokenizer(list(documents.values()), args.out / "tokenizer.json")
        model = train(args.out, tokenizer, documents, args.steps, args.save_every, not args.float32)
    write_checkpoint(model, args.out)
    write_gguf(args.out, HERE / "model.gguf")
    if not args.export:
        measure(args.out, held, args.depths)


if __name__ == "__main__":
    main()
