"""Tests of the recipe, which `go test ./plugin/extend` runs where Python has PyTorch: python3 -m
unittest -v recipe_test

packing     no document is lost, none is mixed with another, and a packed window computes what it
            computes alone
places      long positions on short windows: where tokens stand, and what the rotation makes of it
hostile     files that are not what they should be
runs        a run that was killed, or stopped and shared by another number of processes, gives the
            same losses
files       a checkpoint and a GGUF come back as they went in
"""

import copy
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import data  # noqa: E402
import model as models  # noqa: E402
import rope  # noqa: E402
from train import Objective, States, check_head, memory_of  # noqa: E402

L, LONG, VOCAB = 16, 64, 97
CONFIGS = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "phi3": transformers.Phi3Config,
}


def tiny(kind="llama", **more):
    torch.manual_seed(3)
    config = CONFIGS[kind](
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=VOCAB,
        max_position_embeddings=L,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for (
        p
    ) in model.parameters():  # random weights of the usual size make a model that hardly looks back
        if p.ndim == 2:
            torch.nn.init.normal_(p, std=1.5 * p.shape[1] ** -0.5)
    return model


def ladder() -> rope.Ladder:
    return rope.Ladder(
        L,
        torch.tensor([[1.0] * 4, [1.0, 1.7, 3.2, 4.5]], dtype=torch.float64),
        torch.tensor([1.0, 1.2], dtype=torch.float64),
        torch.tensor([0, 5]),
        [0, LONG],
    )


def factors(folder: Path) -> Path:
    path = folder / "factors.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "original_context_length": L,
                "rope_dimension_count": 8,
                "rungs": [
                    {
                        "length": LONG,
                        "start_window": 5,
                        "attention_factor": 1.2,
                        "factors": [1.0, 1.7, 3.2, 4.5],
                    }
                ],
            }
        )
    )
    return path


def documents(n: int, longest: int, seed: int) -> list[data.Document]:
    rng = np.random.default_rng(seed)
    sizes = np.minimum(rng.geometric(3 / longest, n), longest)
    return [
        data.Document(rng.integers(3, VOCAB, size), rng.integers(0, 3, size).astype(np.float32))
        for size in sizes
    ]


class Packing(unittest.TestCase):
    def test_rows(self):
        for seed in range(30):
            docs = documents(60, 5 * LONG if seed % 2 else LONG, seed)
            rows = data.Rows(docs, LONG, lambda n: 1 if n > L else 0, seed)
            found = {}
            for k in range(len(rows.rows)):
                tokens, targets, weights, positions, rungs, stand = (
                    x.numpy() for x in rows.row(k)
                )
                np.testing.assert_array_equal(positions, stand)
                starts = np.flatnonzero(positions == 0)
                for at, end in zip(starts, [*starts[1:], LONG]):
                    np.testing.assert_array_equal(positions[at:end], np.arange(end - at))
                    np.testing.assert_array_equal(
                        targets[at : end - 1] * (weights[at : end - 1] > 0),
                        tokens[at + 1 : end] * (weights[at : end - 1] > 0),
                    )
                    self.assertEqual(
                        weights[end - 1],
                        0,
                        "the last token of a window predicts nothing of the next",
                    )
                    if tokens[at:end].any():
                        key = tuple(tokens[at:end])
                        found[key] = found.get(key, 0) + 1
                        self.assertEqual(set(rungs[at:end]), {1 if end - at > L else 0})
                self.assertAlmostEqual(weights.sum(), rows.weight[rows.index(k)], places=3)
            want = {}
            for d in docs:
                for at in range(0, len(d.tokens), LONG):
                    if len(w := tuple(d.tokens[at : at + LONG])) > 1:
                        want[w] = want.get(w, 0) + 1
            self.assertEqual(found, want, "every window once an epoch, whole")
            sizes = [len(w.tokens) for w in rows.windows]
            self.assertLessEqual(
                len(rows.rows), -(-sum(sizes) * 11 // (LONG * 9)) + 1, "best fit wastes little"
            )

    def test_order(self):
        rows = data.Rows(documents(40, LONG, 1), LONG, lambda n: 1, 7)
        n = len(rows.rows)
        epochs = [[rows.index(e * n + i) for i in range(n)] for e in range(3)]
        for e in epochs:
            self.assertEqual(sorted(e), list(range(n)))
        self.assertNotEqual(epochs[0], epochs[1])
        self.assertNotEqual(
            epochs[0],
            [data.Rows(documents(40, LONG, 1), LONG, lambda n: 1, 8).index(i) for i in range(n)],
        )

    def test_alone(self):
        """A window's loss in a full row is its loss in a row of its own, for every architecture;
        and rungs matter."""
        docs = [d for d in documents(9, LONG // 2, 5) if len(d.tokens) > 2]
        for kind in CONFIGS:
            model = tiny(kind)
            objective = Objective(model, rope.install(model, ladder()))
            check_head(model)
            rung_of = lambda n: 1 if n > 8 else 0  # noqa: E731
            rows = data.Rows(docs, LONG, rung_of, 1)
            with torch.no_grad():
                packed = sum(
                    objective(*rows.batch(range(k, k + 1))).item() for k in range(len(rows.rows))
                )
                alone = sum(
                    objective(*data.Rows([d], LONG, rung_of, 1).batch(range(1))).item()
                    for d in docs
                )
                other = sum(
                    objective(*data.Rows([d], LONG, lambda n: 0, 1).batch(range(1))).item()
                    for d in docs
                )
            self.assertLess(len(rows.rows), len(docs), "something was packed")
            self.assertAlmostEqual(packed, alone, delta=2e-5 * abs(alone), msg=kind)
            self.assertGreater(abs(alone - other), 1e-3 * abs(alone), "a wrong rung would be seen")

    def test_documents(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.jsonl")
            path.write_text('{"tokens": [5, 6], "weights": [1, 7]}\n\n{"tokens": [5, 2]}\n')
            got = data.read_documents([path], None, 2)
            self.assertEqual([d.tokens.tolist() for d in got], [[5, 6, 2], [5, 2]])
            self.assertEqual([d.weights.tolist() for d in got], [[1, 7, 1], [1, 1]])
            for bad, says in (
                ('{"tokens": [1], "weights": [1, 2]}', "a.jsonl:1: 2 weights for 1 tokens"),
                ('{"text": "x"}', "tokenizer is the engine's"),
                ("nonsense", "want plain text"),
                ('{"tokens": ["a"]}', "want plain text"),
                ('["a"]', "want plain text"),
            ):
                path.write_text(bad + "\n")
                with self.assertRaisesRegex(SystemExit, says):
                    data.read_documents([path], None, 2)


class Places(unittest.TestCase):
    def test_places(self):
        """Ascending, within the target, with one gap; all distances between the parts occur."""
        for kind in ("full", "skip", "end"):
            gaps = set()
            for seed in range(400):
                rng = np.random.default_rng(seed)
                n = int(rng.integers(2, 33))
                at = data.places(kind, n, LONG, rng)
                self.assertEqual(at[0], 0)
                self.assertEqual(len(at), n)
                self.assertLess(at[-1], LONG)
                steps = np.diff(at)
                self.assertTrue((steps >= 1).all() and (steps > 1).sum() <= 1)
                if kind == "full":
                    self.assertEqual(at[-1], n - 1)
                if kind == "end":
                    self.assertEqual(at[-1], LONG - 1, "the last part ends at the target")
                    self.assertEqual((at >= LONG - n).sum(), max(1, n // data.END))
                gaps.add(int(at[-1] - n + 1))
            if kind == "skip":
                self.assertEqual(min(gaps), 0)
                self.assertGreater(len(gaps), LONG // 2, "biases of all sizes")
        at = data.places("skip", LONG, LONG, np.random.default_rng(1))
        self.assertEqual(at.tolist(), list(range(LONG)), "a window of the target's length stays")

    def rows(self, kind="skip", **more):
        docs = [d for d in documents(30, L, 5) if len(d.tokens) > 2]
        return data.Rows(docs, L, lambda n: 1 if n > L else 0, 7, kind, LONG, **more)

    def test_rows(self):
        """transformers gets positions without a gap, the rotation places with one, all on the
        target's rung; a row follows from the seed and its number; epochs differ."""
        rows, again, n = self.rows(), self.rows(), len(self.rows().rows)
        moved = 0
        for k in range(n):
            tokens, _, _, positions, rungs, stand = (x.numpy() for x in rows.row(k))
            for x, y in zip(rows.row(k), again.row(k)):
                torch.testing.assert_close(x, y, rtol=0, atol=0)
            starts = np.flatnonzero(positions == 0)
            for at, end in zip(starts, [*starts[1:], L]):
                np.testing.assert_array_equal(positions[at:end], np.arange(end - at))
                self.assertEqual(stand[at], 0)
                if tokens[at:end].any():
                    self.assertEqual(set(rungs[at:end]), {1})
                    moved += stand[end - 1] > end - at - 1
        self.assertGreater(moved, n)
        first = next(k for k in range(n, 2 * n) if rows.index(k) == rows.index(0))
        self.assertFalse(torch.equal(rows.row(0)[5], rows.row(first)[5]), "drawn again")

    def test_mixed(self):
        """About half of the windows stay as they are, on the model's own RoPE."""
        own = all_of = 0
        rows = self.rows(mixed=True)
        for k in range(4 * len(rows.rows)):
            tokens, _, _, positions, rungs, stand = (x.numpy() for x in rows.row(k))
            starts = np.flatnonzero(positions == 0)
            for at, end in zip(starts, [*starts[1:], L]):
                if tokens[at:end].any():
                    all_of += 1
                    if not rungs[at]:
                        own += 1
                        np.testing.assert_array_equal(stand[at:end], positions[at:end])
        self.assertTrue(0.3 < own / all_of < 0.7, f"{own} of {all_of}")

    def test_rotated(self):
        """A token is rotated by its place, below the start window by row 0, and sees what stands
        before the gap; another bias would be seen."""
        for kind in CONFIGS:
            model = tiny(kind)
            rotary = rope.install(model, ladder())
            objective = Objective(model, rotary)
            stand = torch.cat([torch.arange(8), torch.arange(40, 48)])[None]
            ones, x = torch.ones(1, 16, dtype=torch.long), torch.zeros(1)
            rotary.rungs, rotary.places = ones, stand
            got = rotary(x, torch.arange(16)[None])
            rotary.rungs, rotary.places = torch.ones(1, LONG, dtype=torch.long), None
            want = rotary(x, torch.arange(LONG)[None])
            rotary.rungs = torch.zeros(1, LONG, dtype=torch.long)
            own = rotary(x, torch.arange(LONG)[None])
            for a, b, c in zip(got, want, own):
                torch.testing.assert_close(a[0], b[0, stand[0]], rtol=0, atol=0)
                torch.testing.assert_close(a[0, :5], c[0, :5], rtol=0, atol=0, msg="start window")
            tokens = torch.from_numpy(np.random.default_rng(2).integers(3, VOCAB, (1, 16)))
            weights = torch.zeros(1, 16)
            weights[0, 12:] = 1  # behind the gap
            positions = torch.arange(16)[None]

            def loss(tokens, stand):
                with torch.no_grad():
                    return objective(tokens, tokens, weights, positions, ones, stand).item()

            changed = tokens.clone()
            changed[0, 2] = 3 + (tokens[0, 2] + 1) % (VOCAB - 3)
            base = loss(tokens, stand)
            self.assertGreater(abs(loss(changed, stand) - base), 1e-4, f"{kind}: sees the start")
            self.assertGreater(abs(loss(tokens, positions) - base), 1e-4, f"{kind}: another place")

    def test_memory(self):
        """Longer rows need more, shards less; activations that are kept most of all."""
        config = CONFIGS["llama"](hidden_size=4096, intermediate_size=11008, num_hidden_layers=32)
        need = lambda *a: memory_of(config, 7_000_000_000, *a)  # noqa: E731
        self.assertGreater(need(131072, 1, 8, True), need(4096, 1, 8, True))
        self.assertGreater(need(4096, 1, 1, True), need(4096, 1, 8, True))
        self.assertGreater(need(4096, 1, 8, False), need(4096, 1, 8, True))
        self.assertLess(need(4096, 1, 8, True), 40e9, "a GPU of 80 GB takes it")
        self.assertGreater(need(1 << 20, 1, 8, True), 80e9, "but not a million tokens")


class Rotation(unittest.TestCase):
    def test_refused(self):
        """Another base, another number of dimensions, an architecture with two rotations."""
        model = tiny(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})
        with self.assertRaisesRegex(SystemExit, "row 0 of the factors is not the rotation"):
            rope.install(model, ladder())
        wide = rope.Ladder(L, torch.ones(2, 8), torch.ones(2), torch.zeros(2), [0, LONG])
        with self.assertRaisesRegex(SystemExit, "row 0 of the factors is not the rotation"):
            rope.install(tiny(), wide)
        gemma = transformers.AutoModelForCausalLM.from_config(
            transformers.Gemma3TextConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                vocab_size=VOCAB,
            )
        )
        with self.assertRaisesRegex(SystemExit, "not one rotary embedding"):
            rope.install(gemma, ladder())

    def test_rungs(self):
        l = rope.Ladder(16, torch.ones(4, 4), torch.ones(4), torch.zeros(4), [0, 8, 32, 64])
        self.assertEqual(
            [l.rung_for(n) for n in (1, 8, 9, 16, 17, 32, 33, 64, 65)], [1, 1, 0, 0, 2, 2, 3, 3, 3]
        )


class Files(unittest.TestCase):
    def test_checkpoint(self):
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder, "in"), Path(folder, "out")
            for tied in (True, False):
                model = tiny(tie_word_embeddings=tied)
                model.to(torch.bfloat16).save_pretrained(source)
                (source / "NOTICE").write_text("kept")
                write_tokenizer(source)
                read, tokenizer = models.load(source, "sdpa")
                self.assertEqual(len(tokenizer("ab ab")["input_ids"]), 2)
                models.save(read, read.state_dict(), source, out)
                again, _ = models.load(out, "sdpa")
                for (name, a), b in zip(read.state_dict().items(), again.state_dict().values()):
                    torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
                self.assertEqual(
                    (out / "config.json").read_bytes(), (source / "config.json").read_bytes()
                )
                self.assertEqual((out / "NOTICE").read_text(), "kept")
                for f in out.iterdir():
                    f.unlink()
                out.rmdir()


class Versions(unittest.TestCase):
    """The state of a run is not loaded by a PyTorch that is too old for it."""

    def test_versions(self):
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder) / "state-3"
            at.mkdir()
            for here, wrote, says in (
                ("2.5.1+cpu", "2.5.1", "does not load .* safely; install 2.6 or later"),
                ("2.15.0+cu132", "3.0.0", "was written by PyTorch 3.0.0, this is 2.15.0"),
                ("2.15.0", "2.6.0", None),
                ("2.15.0", "2.15.3", None),
                ("2.15.0", None, None),
            ):
                run = {"step": 3, "tokens": 9, "run": "x"} | ({"torch": wrote} if wrote else {})
                (at / "run.json").write_text(json.dumps(run))
                with unittest.mock.patch.object(torch, "__version__", here):
                    if says is None:
                        States(Path(folder), "x").check()
                        continue
                    with self.assertRaisesRegex(SystemExit, says):
                        States(Path(folder), "x").check()


class Hostile(unittest.TestCase):
    """Whatever is in a file that is read, it is taken in or named in one line, and no traceback."""

    LADDER = {
        "version": 1,
        "original_context_length": 16,
        "rope_dimension_count": 8,
        "base": {"factors": [1.0, 1.0, 1.0, 1.0], "attention_factor": 1.0},
        "rungs": [{"length": 64, "start_window": 2, "factors": [1.0, 2.0, 3.0, 4.0]}],
    }
    STATE = {"step": 3, "tokens": 100, "run": "a", "torch": "2.6.0"}
    VALUES = (None, True, "", "x", [], {}, [[]], 0, -1, 1e308, 10**30, 0.5, float("nan"))

    def variants(self, whole: dict, count: int):
        """Texts near a whole one: other values in it, and other bytes."""
        rng = random.Random(int(os.environ.get("LONGROPE_FUZZ_SEED", "1")))
        for _ in range(count):
            text = copy.deepcopy(whole)
            for _ in range(rng.randint(1, 3)):
                at = text
                while True:
                    keys = list(at) if isinstance(at, dict) else list(range(len(at)))
                    if not keys:
                        break
                    key = rng.choice(keys)
                    if isinstance(at[key], (dict, list)) and rng.random() < 0.7:
                        at = at[key]
                        continue
                    if isinstance(at, dict) and rng.random() < 0.2:
                        del at[key]
                    else:
                        at[key] = copy.deepcopy(rng.choice(self.VALUES))
                    break
            b = bytearray(json.dumps(text).encode())
            for _ in range(rng.choice((0, 0, 1, 3))):
                b[rng.randrange(len(b))] = rng.randrange(256)
            yield bytes(b[: rng.randint(0, len(b))] if rng.random() < 0.05 else b)

    def hold(self, path: Path, whole: dict, read):
        count = int(os.environ.get("LONGROPE_FUZZ_COUNT", "500"))
        taken = 0
        for text in [json.dumps(whole).encode(), b"[" * 10**5, *self.variants(whole, count)]:
            path.write_bytes(text)
            try:
                read()
                taken += 1
            except SystemExit as err:
                self.assertIn(str(path.parent), str(err))
            except Exception as err:
                self.fail(f"{text[:400]!r}: {err!r}")
        print(f"{path.name}: {count + 2} texts, {taken} taken", file=sys.stderr)
        self.assertGreater(taken, count // 100)
        self.assertLess(taken, count)

    def test_ladder(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "factors.json"
            self.hold(path, self.LADDER, lambda: rope.Ladder.read(path))

    def test_state(self):
        with tempfile.TemporaryDirectory() as folder:
            states = States(Path(folder), "a")
            (Path(folder) / "state-3").mkdir()
            self.hold(Path(folder) / "state-3" / "run.json", self.STATE, states.check)


class Runs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temp = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temp.name)
        tiny().save_pretrained(cls.folder / "model")
        write_tokenizer(cls.folder / "model")
        factors(cls.folder)
        with (cls.folder / "text.jsonl").open("w") as f:
            for d in documents(40, 2 * LONG, 11):
                f.write(
                    json.dumps({"tokens": d.tokens.tolist(), "weights": d.weights.tolist()}) + "\n"
                )

    @classmethod
    def tearDownClass(cls):
        cls.temp.cleanup()

    def start(self, out, *more, processes=1, **kw):
        launch = (
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
            if processes > 1
            else []
        )
        f = self.folder
        command = [
            sys.executable,
            *launch,
            str(HERE / "train.py"),
            str(f / "model"),
            "--factors",
            str(f / "factors.json"),
            "--length",
            str(LONG),
            "--text",
            str(f / "text.jsonl"),
            "--out",
            str(f / out),
            "--steps",
            "8",
            "--batch",
            "4",
            "--lr",
            "1e-3",
            "--warmup",
            "2",
            "--save-every",
            "2",
            *more,
        ]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            **kw,
        )

    def finish(self, run):
        out, err = run.communicate(timeout=600)  # a second or two, where nobody else computes
        self.assertEqual(run.returncode, 0, err[-2000:])
        return losses(out)

    def whole(self):
        """The losses of a run that nobody disturbs, made once."""
        if not hasattr(Runs, "undisturbed"):
            Runs.undisturbed = self.finish(self.start("whole", "--float32"))
        return Runs.undisturbed

    def weights(self, out):
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder / out).state_dict()

    def test_killed(self):
        whole = self.whole()
        self.assertEqual(sorted(whole), list(range(1, 9)))
        self.assertLess(np.mean([whole[7], whole[8]]), whole[1], "it learns")
        said = {}
        for sign, at in ((signal.SIGKILL, 3), (signal.SIGTERM, 6)):
            run = self.start("cut", "--float32")
            for line in run.stdout:
                said |= losses(line)
                if max(said, default=0) >= at:
                    run.send_signal(sign)
                    break
            rest, _ = run.communicate()
            said |= losses(rest)
            self.assertEqual(run.returncode, -signal.SIGKILL if sign == signal.SIGKILL else 130)
            self.assertFalse((self.folder / "cut").exists(), "nothing before the end")
        other = self.start("cut", "--float32", "--seed", "2")
        self.assertIn(
            "is of a run with another model, other texts or other settings", other.communicate()[1]
        )
        self.assertEqual(other.returncode, 1)
        said |= self.finish(self.start("cut", "--float32"))
        self.assertEqual(said, whole, "killed at 3 and stopped at 6: to the last bit")
        for (name, a), b in zip(self.weights("whole").items(), self.weights("cut").values()):
            torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
        self.assertFalse((self.folder / "cut.states").exists(), "no state remains")

    def test_two_processes(self):
        """Two processes, stopped as Ctrl-C stops them, and one that resumes: within rounding what
        one does alone."""
        whole = self.whole()
        run, two = self.start("two", "--float32", "--save-every", "100", processes=2), {}
        for line in run.stdout:
            two |= losses(line)
            if max(two, default=0) >= 2:
                run.send_signal(signal.SIGINT)
                break
        two |= losses(run.communicate()[0])
        self.assertLess(max(two), 8)
        two |= self.finish(self.start("two", "--float32"))
        # Sums in another order: rounding, which eight steps of AdamW enlarge.
        for step, loss in whole.items():
            self.assertAlmostEqual(two[step], loss, delta=2e-5 * loss)
        for (name, a), b in zip(self.weights("whole").items(), self.weights("two").items()):
            torch.testing.assert_close(
                a, b[1], rtol=0, atol=2e-4, msg=name
            )  # a fifth of a step of the learning rate

    def test_bfloat16(self):
        whole, half = self.whole(), self.finish(self.start("half"))
        self.assertNotEqual(whole, half)
        for step, loss in whole.items():
            self.assertAlmostEqual(half[step], loss, delta=2e-2 * loss)


    def test_positions(self):
        """Rows of the original length at places up to the target: twice the same; auto is full
        here, where all fits."""
        skip = ("--float32", "--positions", "skip", "--mixed")
        once = self.start("skip", *skip)
        out, err = once.communicate(timeout=600)
        self.assertEqual(once.returncode, 0, err[-2000:])
        began = json.loads(out.splitlines()[0])
        self.assertEqual((began["positions"], began["row"]), ("skip", L))
        self.assertEqual(losses(out), self.finish(self.start("skip2", *skip)))
        self.assertNotEqual(losses(out), self.whole())
        end = self.finish(self.start("end", "--float32", "--positions", "end", "--window", "32"))
        self.assertEqual(sorted(end), list(range(1, 9)))
        wrong = self.start("wrong", "--positions", "skip", "--window", "65")
        self.assertIn("--window 65: give 2 tokens or more", wrong.communicate()[1])


def losses(out: str) -> dict[int, float]:
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {line["step"]: line["loss"] for line in lines if "step" in line}


def write_tokenizer(folder: Path):
    from tokenizers import Tokenizer, models as kinds, pre_tokenizers

    tokenizer = Tokenizer(
        kinds.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "ab": 3}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )


if __name__ == "__main__":
    unittest.main()
