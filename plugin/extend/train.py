#!/usr/bin/env python3
"""Fine-tunes a model at a longer context with LongRoPE factors: what the paper does between its two
searches.

    python3 train.py MODEL --factors factors.json --length 131072 --text books/*.txt --out OUT
    torchrun --nproc-per-node 8 train.py …          (the same on eight GPUs; any number of machines)

MODEL is a Hugging Face checkpoint folder or a GGUF file, and the result is of the same kind;
"ollama longrope convert" then writes the factors into it. The defaults are the paper's for LLaMA2
(arXiv 2402.13753, section 4.1): 400 steps of 32 rows, learning rate 2e-5 with linear decay; it has
600 steps at the second length, and for Mistral a constant 1e-6 with 64 rows of 16k tokens. The
paper names no warm-up, optimiser, clipping or weight decay; here they are YaRN's 20 steps, AdamW
with betas 0.9 and 0.95, 1.0, and none.

A run that was stopped (Ctrl-C, SIGTERM) or killed resumes from its last state when the same command
is given again, and gives the losses that it would have given: what a step sees follows from the
seed and the step's number, and the state has the model, the optimiser and the random numbers. The
number of processes may change in between.

Standard output is one JSON object a line: {"step", "steps", "loss", "learning_rate",
"gradient_norm", "tokens", "tokens_per_second"}, where tokens are those of all rows so far, padding
too, and loss is the weighted mean NLL in nats.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint as recompute

sys.path.insert(0, str(Path(__file__).resolve().parent))
import data  # noqa: E402
import model as models  # noqa: E402
import rope  # noqa: E402

# Tokens whose logits are in memory together: 128k tokens of a large vocabulary would be 60 GB.
LOGITS_AT_ONCE = 2048


class Objective(torch.nn.Module):
    """A model, its rotation by rows, and the loss; one forward pass, so that FSDP gathers the head
    with the rest."""

    def __init__(self, model, rotary: rope.RowRotaryEmbedding):
        super().__init__()
        self.model, self.rotary = model, [rotary]  # in a list: it is a module of model's already

    def forward(self, tokens, targets, weights, positions, rungs, places):
        """Sum of weighted NLLs over (batch, length) tokens, in nats."""
        self.rotary[0].rungs, self.rotary[0].places = rungs, places
        hidden = self.model.model(
            input_ids=tokens, position_ids=positions, use_cache=False
        ).last_hidden_state

        def part(h, t, w):
            return (F.cross_entropy(self.model.lm_head(h).float(), t, reduction="none") * w).sum()

        parts = zip(*(x.flatten(0, 1).split(LOGITS_AT_ONCE) for x in (hidden, targets, weights)))
        return sum(recompute(part, *p, use_reentrant=False) for p in parts)


@torch.no_grad()
def check_head(model):
    """Objective leaves out what some architectures do to logits after the head: scaling, caps.
    Those are refused."""
    ids = torch.arange(8, device=next(model.parameters()).device)[None] + 2
    whole, ours = (
        model(input_ids=ids).logits,
        model.lm_head(model.model(input_ids=ids).last_hidden_state),
    )
    if not torch.allclose(whole, ours, rtol=1e-3, atol=1e-3):
        raise SystemExit(
            f"{model.config.model_type}: this architecture changes its logits after the head, "
            "which the recipe does not know"
        )


def build(args, ladder):
    """(the sharded objective, the plain model inside, tokenizer). Weights and optimiser are
    float32, products bfloat16. The whole model is in the memory of each process until fully_shard
    moves it, layer by layer, to the devices in shards."""
    model, tokenizer = models.load(args.model, args.attention)
    check_head(model)
    rotary = rope.install(model, ladder)
    model.train()
    if not args.no_checkpointing:
        # The first name is transformers' from 5.23 on, the second goes with 6.
        enable = (
            getattr(model, "activation_checkpointing_enable", None)
            or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
    objective = Objective(model, rotary)
    policy = (
        MixedPrecisionPolicy(cast_forward_inputs=False)
        if args.float32
        else MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    )
    for layer in model.model.layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(objective, mp_policy=policy)
    return objective, model, tokenizer


def rate(args, step: int) -> float:
    """The learning rate of a step: linear warm-up, then linear decay to zero or constant."""
    warm = min(1.0, (step + 1) / max(1, args.warmup))
    left = (args.steps - step) / max(1, args.steps - args.warmup)
    return args.lr * (min(warm, left) if args.decay == "linear" else warm)


# --- state
# -------------------------------------------------------------------------------------------


LEAST_TORCH = (2, 6)


def version(text: str) -> tuple[int, ...]:
    """(major, minor) of PyTorch: 2.15.0+cu132 is (2, 15)."""
    return tuple(int(n) for n in re.findall(r"\d+", text)[:2])


class States:
    """state-N folders next to the output. A folder gets its name when it is whole; the one before
    is then removed."""

    def __init__(self, folder: Path, fingerprint: str):
        self.folder, self.fingerprint = folder, fingerprint

    def last(self) -> Path | None:
        found = [p for p in self.folder.glob("state-*") if re.fullmatch(r"state-\d+", p.name)]
        return max(found, key=lambda p: int(p.name[6:]), default=None)

    def save(self, step: int, objective, optimiser, tokens: int):
        tmp = self.folder / "state.tmp"
        if dist.get_rank() == 0:
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir(parents=True)
        dist.barrier()
        weights, moments = get_state_dict(objective, optimiser)
        checkpoint.save({"model": weights, "optimiser": moments}, checkpoint_id=tmp / "tensors")
        torch.save(random_state(), tmp / f"random-{dist.get_rank()}.pt")
        dist.barrier()
        if dist.get_rank() == 0:
            before = self.last()
            (tmp / "run.json").write_text(
                json.dumps(
                    {
                        "step": step,
                        "tokens": tokens,
                        "run": self.fingerprint,
                        "torch": torch.__version__,
                    }
                )
            )
            if (name := self.folder / f"state-{step}") != before:
                os.replace(tmp, name)
                if before:
                    shutil.rmtree(before)
        dist.barrier()

    def record(self, at: Path) -> dict:
        """The run.json of a state."""
        path = at / "run.json"
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            for key, kind in (("step", int), ("tokens", int), ("run", str)):
                if not isinstance(run[key], kind):
                    raise TypeError(f"{key} is {run[key]!r}")
            version(run.get("torch", torch.__version__))
        except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as err:
            raise SystemExit(
                f"{path} is not what this recipe wrote: {err!r}; remove {self.folder}"
            ) from err
        return run

    def check(self):
        if not (at := self.last()):
            return
        run = self.record(at)
        if run["run"] != self.fingerprint:
            raise SystemExit(
                f"{at} is of a run with another model, other texts or other settings; "
                f"give those, or remove {self.folder}"
            )
        # Before 2.6 a file of tensors may have any object in it, and loading it runs code.
        if version(torch.__version__) < LEAST_TORCH:
            raise SystemExit(
                f"PyTorch {torch.__version__} does not load {at} safely; install 2.6 or later, or "
                f"remove {self.folder}"
            )
        if version(written := run.get("torch", torch.__version__)) > version(torch.__version__):
            raise SystemExit(
                f"{at} was written by PyTorch {written}, this is {torch.__version__}; install "
                f"that version, or remove {self.folder}"
            )

    def load(self, objective, optimiser) -> tuple[int, int]:
        """(step, tokens) to resume from; (0, 0) to begin."""
        at = self.last()
        if at is None:
            return 0, 0
        run = self.record(at)
        weights, moments = get_state_dict(objective, optimiser)
        state = {"model": weights, "optimiser": moments}
        checkpoint.load(state, checkpoint_id=at / "tensors")
        set_state_dict(
            objective,
            optimiser,
            model_state_dict=state["model"],
            optim_state_dict=state["optimiser"],
        )
        if (own := at / f"random-{dist.get_rank()}.pt").exists():
            set_random_state(torch.load(own, weights_only=True))
        return run["step"], run["tokens"]


def random_state() -> dict:
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict):
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def digest(path: Path) -> str:
    """Of a file, or of a folder's files, by name and size and, up to 64 MB, content: large weights
    are not read twice."""
    h = hashlib.sha256()
    for f in sorted(path.iterdir()) if path.is_dir() else [path]:
        if f.is_file():
            h.update(f"{f.name} {f.stat().st_size}\n".encode())
            if f.stat().st_size <= 64 << 20:
                h.update(f.read_bytes())
    return h.hexdigest()


def fingerprint(args) -> str:
    settings = {
        k: v
        for k, v in sorted(vars(args).items())
        if k
        in (
            "length",
            "steps",
            "lr",
            "decay",
            "warmup",
            "batch",
            "seed",
            "mixed",
            "float32",
            "weight_decay",
            "clip",
        )
    }
    if args.positions != "full":
        settings |= {"positions": args.positions, "window": args.window}
    files = [digest(p) for p in (args.model, args.factors, *args.text)]
    return hashlib.sha256(json.dumps([settings, files]).encode()).hexdigest()


# --- the run
# -----------------------------------------------------------------------------------------


def start() -> torch.device:
    """Joins the other processes, or begins alone. Without a GPU it is gloo on the CPU: slow, and
    the same steps."""
    if "RANK" not in os.environ:
        os.environ.update(
            RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0"
        )
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        device = torch.device("cpu")
        dist.init_process_group("gloo")
    return device


def memory_of(
    config, parameters: int, length: int, rows: int, world: int, recomputes: bool
) -> float:
    """Estimated bytes of a process for rows of so many tokens at once: weights, gradients and two
    moments in float32 and weights in bfloat16, by shards; for each layer what the backward pass
    keeps of it, in bfloat16: its input alone, or also what attention and the MLP make; one layer
    whole in either case; the logits of LOGITS_AT_ONCE tokens, three times. Attention keeps no
    matrix of scores (sdpa, flash)."""
    hidden, ffn = config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size)
    whole = 2 * length * rows * (8 * hidden + 4 * ffn)
    kept = 2 * length * rows * hidden if recomputes else whole
    logits = 3 * 4 * min(length * rows, LOGITS_AT_ONCE) * config.vocab_size
    return 18 * parameters / world + config.num_hidden_layers * kept + whole + logits


def memory_there(device, processes_here: int) -> float:
    """Bytes that a process may have: nine tenths of its GPU, or its share of the machine. All of
    it, used or not, so that a run that resumes decides as it did."""
    if device.type == "cuda":
        return 0.9 * torch.cuda.get_device_properties(device).total_memory
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 62
    return 0.9 * pages * os.sysconf("SC_PAGE_SIZE") / processes_here


def choose_positions(args, model, device, world: int) -> str:
    """full where rows of the target's length fit into memory, else skip."""
    parameters = sum(p.numel() for p in model.parameters())
    need = memory_of(
        model.config, parameters, args.length, args.micro, world, not args.no_checkpointing
    )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return "full" if need <= memory_there(device, here) else "skip"


def resolve(args, device, world: int, original: int):
    """Fills in --positions auto and --window, by the model's sizes alone: its weights are not
    loaded."""
    if args.positions == "auto":
        args.positions = choose_positions(args, models.skeleton(args.model), device, world)
    if args.positions == "full":
        if args.window:
            raise SystemExit("--window is for --positions skip and end; full has rows of --length")
        return
    args.window = args.window or min(original, args.length)
    if not 2 <= args.window <= args.length:
        raise SystemExit(
            f"--window {args.window}: give 2 tokens or more, and at most --length {args.length}"
        )


def train(args) -> int:
    if args.out.exists():
        raise SystemExit(f"--out: {args.out} exists already; remove it, or give another")
    ladder = rope.Ladder.read(args.factors)
    device = start()
    rank, world = dist.get_rank(), dist.get_world_size()
    resolve(args, device, world, ladder.original_context_length)
    states = States(Path(f"{args.out}.states"), fingerprint(args))
    states.check()
    if args.batch % (world * args.micro):
        raise SystemExit(
            f"--batch {args.batch} rows cannot be shared by {world} processes of {args.micro} rows "
            f"at once; give a multiple of {world * args.micro}"
        )
    torch.manual_seed(args.seed)
    rung = ladder.rung_for(args.length)
    objective, model, tokenizer = build(args, ladder)
    length = args.window or args.length
    rows = data.Rows(
        data.read_documents(args.text, tokenizer, models.eos_of(model)),
        length,
        lambda n: 0 if args.mixed and n <= ladder.original_context_length else rung,
        args.seed,
        args.positions,
        args.length,
        args.mixed,
    )
    optimiser = torch.optim.AdamW(
        objective.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=args.weight_decay
    )
    step, tokens = states.load(objective, optimiser)
    if rank == 0:
        parameters = sum(p.numel() for p in model.parameters())
        print(
            json.dumps(
                {
                    "resumed": step,
                    "steps": args.steps,
                    "rows": len(rows.rows),
                    "documents": len(rows.windows),
                    "rung": rung,
                    "positions": args.positions,
                    "row": length,
                    "parameters": parameters,
                    "processes": world,
                    "device": str(device.type),
                }
            ),
            flush=True,
        )
    stop = []
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, lambda *_: stop.append(1))
    began, since = time.time(), tokens
    while step < args.steps:
        first = step * args.batch
        total = max(1.0, float(sum(rows.weight[rows.index(first + i)] for i in range(args.batch))))
        for group in optimiser.param_groups:
            group["lr"] = rate(args, step)
        # Process r has every world-th micro-batch, so that the rows of a step do not depend on how
        # many processes share it.
        said = torch.zeros(2, dtype=torch.float64)
        for at in range(first + rank * args.micro, first + args.batch, world * args.micro):
            loss = objective(*(x.to(device) for x in rows.batch(range(at, at + args.micro))))
            # FSDP takes the mean over processes. It does so for every micro-batch, so that no
            # process holds whole gradients.
            (loss * (world / total)).backward()
            said[0] += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(objective.parameters(), args.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + args.batch * length
        said[1] = len(stop)
        said = said.to(device)
        dist.all_reduce(said)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if rank == 0:
            print(
                json.dumps(
                    {
                        "step": step,
                        "steps": args.steps,
                        "loss": said[0].item() / total,
                        "learning_rate": rate(args, step - 1),
                        "gradient_norm": norm.item(),
                        "tokens": tokens,
                        "tokens_per_second": round((tokens - since) / (time.time() - began), 1),
                    }
                ),
                flush=True,
            )
        if not (said[0] == said[0]):
            raise SystemExit(f"step {step}: the loss is not a number; lower --lr, or try --float32")
        if said[1] or step == args.steps or step % args.save_every == 0:
            states.save(step, objective, optimiser, tokens)
        if said[1] and step < args.steps:
            dist.destroy_process_group()
            return 130
    whole = get_model_state_dict(
        objective, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if rank == 0:
        models.save(
            model,
            {name.removeprefix("model."): t for name, t in whole.items()},
            args.model,
            args.out,
        )
        shutil.rmtree(states.folder)
        print(json.dumps({"wrote": str(args.out), "steps": step, "tokens": tokens}), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("model", type=Path, help="checkpoint folder or GGUF file")
    p.add_argument(
        "--factors",
        type=Path,
        required=True,
        metavar="FILE",
        help="factors.json with a rung for --length",
    )
    p.add_argument(
        "--length",
        type=int,
        required=True,
        metavar="TOKENS",
        help="of a training row: the target of the search",
    )
    p.add_argument(
        "--text",
        type=Path,
        required=True,
        nargs="+",
        metavar="FILE",
        help="documents, .txt or .jsonl (see data.py)",
    )
    p.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="folder, or GGUF file, to write; its state is next to it, in PATH.states",
    )
    p.add_argument(
        "--mixed",
        action="store_true",
        help="LongRoPE2's mixed windows: documents up to the original context length keep the "
        "model's own RoPE; under --positions skip and end, half of the windows",
    )
    p.add_argument(
        "--positions",
        choices=["auto", "full", "skip", "end"],
        default="auto",
        help="full: rows of --length tokens; skip (PoSE) and end (after EndPrompt): rows of "
        "--window tokens that stand apart in a text of --length (see data.py); "
        "auto: full where its rows fit into memory, else skip",
    )
    p.add_argument(
        "--window",
        type=int,
        default=0,
        metavar="TOKENS",
        help="of a row under --positions skip and end (default: the original context length)",
    )
    p.add_argument("--steps", type=int, default=400)
    p.add_argument(
        "--batch", type=int, default=32, metavar="ROWS", help="rows of a step, over all processes"
    )
    p.add_argument(
        "--micro", type=int, default=1, metavar="ROWS", help="rows that a process computes at once"
    )
    p.add_argument("--lr", type=float, default=2e-5)
    p.add_argument("--decay", choices=["linear", "constant"], default="linear")
    p.add_argument("--warmup", type=int, default=20, metavar="STEPS")
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument(
        "--clip", type=float, default=1.0, metavar="NORM", help="of the gradient, at most"
    )
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--save-every", type=int, default=50, metavar="STEPS")
    p.add_argument(
        "--attention",
        default="sdpa",
        help="transformers' implementation: sdpa, flash_attention_2, flex_attention",
    )
    p.add_argument(
        "--no-checkpointing",
        action="store_true",
        help="keep activations instead of computing them again: faster where they fit",
    )
    p.add_argument(
        "--float32", action="store_true", help="products in float32 in place of bfloat16"
    )
    return p


if __name__ == "__main__":
    sys.exit(train(parser().parse_args()))
