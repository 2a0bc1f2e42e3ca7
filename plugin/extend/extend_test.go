package extend

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/extend/extendtest"
	"github.com/longrope/longrope/ropescale"
)

// TestRecipe runs the recipe's own tests, in Python.
func TestRecipe(t *testing.T) {
	if testing.Short() {
		t.Skip("trains tiny models for a minute; leave out -short")
	}
	cmd := exec.Command(extendtest.Python(t, Needs()), "-m", "unittest", "-v", "recipe_test")
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.HasSuffix(strings.TrimSpace(line), "ok") || err != nil {
			t.Log(strings.TrimSpace(line))
		}
	}
	require.NoError(t, err)
}

// TestRows: the rotation that the recipe trains with is ropescale's, on each rung, below its start
// window and above.
//
// The recipe computes angles in float32, like the engine: at p = 8191 the fastest pair has an angle
// of 8191 rad, known to half of 2^-11; cos and sin are off by no more than that, times the
// attention factor.
func TestRows(t *testing.T) {
	py := extendtest.Python(t, Needs())
	r := ropescale.Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 256}
	long, err := ropescale.YaRN(r, 2048, ropescale.MethodOptions{StartWindow: 32})
	require.NoError(t, err)
	longer, err := ropescale.NTK(r, 8192,
		ropescale.MethodOptions{StartWindow: 12, AttentionFactor: 1.25})
	require.NoError(t, err)
	base := r.Identity(256)
	base.Factors[7], base.AttentionFactor = 1.5, 1.01 // a model with a scaling of its own
	l, err := ropescale.NewLadder(r, &base, r.Identity(128), long.Over(&base), longer.Over(&base))
	require.NoError(t, err)
	var file bytes.Buffer
	require.NoError(t, l.WriteFactors(&file))
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "factors.json"), file.Bytes(), 0o644))

	positions := []int{0, 1, 11, 12, 31, 32, 33, 255, 2047, 8191}
	script := `
import json, pathlib, sys, torch
import rope
ladder = rope.Ladder.read(pathlib.Path(sys.argv[1]))
rows = rope.RowRotaryEmbedding(ladder, 10000.0)
positions = torch.tensor(json.loads(sys.argv[2]))[None]
lengths = (1, 128, 129, 256, 257, 2048, 2049, 8192, 9000)
out = {"rungs": [ladder.rung_for(n) for n in lengths], "rows": []}
for rung in range(4):
    rows.rungs = torch.full_like(positions, rung)
    cos, sin = rows(torch.zeros(1), positions)
    out["rows"].append([cos[0].tolist(), sin[0].tolist()])
print(json.dumps(out))`
	at, err := json.Marshal(positions)
	require.NoError(t, err)
	cmd := exec.Command(py, "-c", script, filepath.Join(dir, "factors.json"), string(at))
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	answer, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var got struct {
		Rungs []int
		Rows  [][2][][]float64
	}
	require.NoError(t, json.Unmarshal(answer, &got))

	for i, n := range []int{1, 128, 129, 256, 257, 2048, 2049, 8192, 9000} {
		assert.Equal(t, l.RungFor(n), got.Rungs[i], "rung for %d tokens", n)
	}
	worst := 0.0
	for rung := range 4 {
		for i, p := range positions {
			x := make(
				[]float64,
				r.Dims,
			) // ones in the first of each pair: after a rotation, cos there and sin in the second
			for j := range r.Pairs() {
				x[j] = 1
			}
			l.Rotate(r, x, rung, p, ropescale.NeoX)
			for j := range r.Dims {
				half := j % r.Pairs()
				worst = math.Max(worst, math.Abs(got.Rows[rung][0][i][j]-x[half]))
				worst = math.Max(worst, math.Abs(got.Rows[rung][1][i][j]-x[half+r.Pairs()]))
			}
		}
	}
	t.Logf("largest deviation %.2g", worst)
	assert.LessOrEqual(t, worst, 1.3*math.Pow(2, -11))
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "recipe")
	for range 2 { // again over itself
		require.NoError(t, Write(dir))
	}
	for _, name := range []string{recipeMain, "rope.py", "data.py", "model.py"} {
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), name)
	}
	assert.Error(t, Write(filepath.Join(dir, recipeMain)), "a file is no folder")
}
