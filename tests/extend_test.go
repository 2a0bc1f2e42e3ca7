package tests

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/extend"
	"github.com/longrope/longrope/plugin/extend/extendtest"
	"github.com/longrope/longrope/plugin/longrope"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// The model that is trained is the model that is run: transformers with the recipe's rotation gives
// the engine's logits, on a rung with a start window. The default model, as the recipe reads it
// from the GGUF, at 2,048 tokens; weights in float32.
//
// Angles are float32 on both sides, as in TestGolden, and at p = 2047 good to 2^-13 rad; five
// layers of 32 pairs and logits up to 20.
func TestExtendLogits(t *testing.T) {
	python := extendtest.Python(t, extend.Needs())
	dir := t.TempDir()
	require.NoError(t, extend.Write(filepath.Join(dir, "recipe")))
	model := writeDefault(t, nil)
	r := defaultLlama(t).Rope
	const n, window = 2048, 32
	l := someLadder(t, r, someRung(r, n, window, 1.1))
	var file bytes.Buffer
	require.NoError(t, l.WriteFactors(&file))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "factors.json"), file.Bytes(), 0o644))
	tokens := someTokens(n, 1024, 5)
	ids, err := json.Marshal(tokens)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokens.json"), ids, 0o644))
	at := []int{1, window - 1, window, window + 1, 255, 1000, n - 1}

	script := `
import json, pathlib, sys
sys.path.insert(0, sys.argv[1] + "/recipe")
import torch, rope, model as models
dir = pathlib.Path(sys.argv[1])
model, _ = models.load(pathlib.Path(sys.argv[2]), "eager")
rows = rope.install(model, rope.Ladder.read(dir / "factors.json"))
ids = torch.tensor([json.loads((dir / "tokens.json").read_text())])
rows.rungs = torch.ones_like(ids)
with torch.no_grad():
    logits = model(input_ids=ids).logits[0, json.loads(sys.argv[3])]
(dir / "logits.bin").write_bytes(logits.float().numpy().tobytes())`
	which, err := json.Marshal(at)
	require.NoError(t, err)
	cmd := exec.Command(python, "-c", script, dir, model, string(which))
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "OMP_NUM_THREADS=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	raw, err := os.ReadFile(filepath.Join(dir, "logits.bin"))
	require.NoError(t, err)
	require.Len(t, raw, 4*len(at)*1024)
	want := make([][]float32, len(at))
	for i := range want {
		for j := range 1024 {
			want[i] = append(want[i],
				math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*1024+j):])))
		}
	}

	s := open(t, model, session.Options{Context: n})
	logits := func(l *ropescale.Ladder) [][]float32 {
		require.NoError(t, s.SetLadder(l))
		s.Clear()
		require.NoError(t, s.SetRung(0, 1))
		all, err := s.Prefill(tokens, 0, 0, 512)
		require.NoError(t, err)
		var got [][]float32
		for _, i := range at {
			got = append(got, all[i])
		}
		return got
	}
	d := compare(t, want, logits(l))
	t.Log(d)
	assert.LessOrEqual(t, d.worst, 1e-3*d.largest)

	without := someLadder(t, r, someRung(r, n, 0, 1.1))
	assert.Greater(t, compare(t, want, logits(without)).worst, 10e-3*d.largest,
		"the case cannot tell a start window from none")
}

// TestExtend drives the whole schedule with the real engine and a real training of two steps. What
// it is worth is measured elsewhere (evals/results/2026-11-29-progressive-extension.md).
func TestExtend(t *testing.T) {
	python := extendtest.Python(t, extend.Needs())
	dir := t.TempDir()
	t.Setenv("OMP_NUM_THREADS", "1")
	model, text, out := filepath.Join(dir, "default.gguf"), filepath.Join(dir,
		"text.txt"), filepath.Join(
		dir,
		"out",
	)
	require.NoError(t, os.WriteFile(model, defaultmodel.Model, 0o644))
	require.NoError(t, os.WriteFile(text, []byte(defaultmodel.TestTexts()[0].Body[:20_000]), 0o644))
	args := []string{
		"extend",
		model,
		"--targets",
		"512,1k",
		"--readjust",
		"256",
		"--text",
		text,
		"-o",
		out,
		"--steps",
		"2",
		"--rows",
		"2",
		"--lr",
		"1e-3",
		"--windows",
		"1",
		"--budget",
		"24k",
		"--python",
		python,
		"--processes",
		"1",
		"--threads",
		"1",
		"--",
		"--warmup",
		"1",
		"--save-every",
		"1",
	}
	run := func(args ...string) (string, error) {
		var stderr bytes.Buffer
		cmd := longrope.NewCommand()
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&stderr)
		cmd.SetArgs(args)
		err := cmd.Execute()
		return stderr.String(), err
	}
	said, err := run(args...)
	require.NoError(t, err, said)
	final := filepath.Join(out, "default-1k.gguf")
	m, err := convert.Inspect(final)
	require.NoError(t, err)
	require.NotNil(t, m.Ladder)
	var lengths []int
	for _, g := range m.Ladder.Rungs {
		lengths = append(lengths, g.Length)
	}
	assert.Equal(t, []int{256, 512, 1024}, lengths)
	assert.Equal(t, 256, m.OriginalContextLength)

	// The rung that was trained with is the rung that is in the file.
	found, err := os.Open(filepath.Join(out, "search-512.json"))
	require.NoError(t, err)
	defer found.Close()
	trained, err := ropescale.ReadFactors(found)
	require.NoError(t, err)
	assert.InDeltaSlice(t, trained.Rungs[0].Factors, m.Ladder.Rungs[1].Factors, 1e-6)

	// Training changed the weights, and nothing else of the file.
	tuned, err := os.ReadFile(filepath.Join(out, "tuned-512.gguf"))
	require.NoError(t, err)
	require.Len(t, tuned, len(defaultmodel.Model))
	changed := 0
	for i := range tuned {
		if tuned[i] != defaultmodel.Model[i] {
			changed++
		}
	}
	header := bytes.Index(defaultmodel.Model, []byte("output_norm.weight"))
	assert.Equal(t, defaultmodel.Model[:header], tuned[:header])
	assert.Greater(t, changed, len(tuned)/10)

	// Given again, nothing is done again.
	said, err = run(args...)
	require.NoError(t, err, said)
	assert.Equal(t, 6, strings.Count(said, ": done before"), said)
	// With other settings it is another schedule.
	for i, arg := range args {
		if arg == "--lr" {
			args[i+1] = "2e-3"
		}
	}
	_, err = run(args...)
	assert.ErrorContains(t, err, "is of a run with training")
	assert.ErrorContains(t, err, "--fresh to restart")
	assert.ErrorContains(t, err, fmt.Sprint(filepath.Join(out, "state.json")))
}
