package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

const (
	stockTokens = 200 // past L = 64 of the small models
	stockL      = 64
	stockLogits = 8 // of the last tokens, which "probe run" prints
)

// small is the path of a small model with random weights of an architecture: a golden one, or one
// of another architecture whose tensors have the same names and shapes.
func small(t *testing.T, arch string) string {
	t.Helper()
	if arch == "phi3" || arch == "llama" {
		return "testdata/golden-" + arch + ".gguf"
	}
	f, err := reference.ReadFile("testdata/golden-llama.gguf")
	require.NoError(t, err)
	f.SetArchitecture(arch)
	path := filepath.Join(t.TempDir(), arch+".gguf")
	require.NoError(t, f.WriteFile(path))
	return path
}

// twoRungs is a ladder with start windows for a small model; naked is its rung without the window,
// as an unpatched host has it.
func twoRungs(t *testing.T) (l *ropescale.Ladder, naked func(rung int) *ropescale.Ladder) {
	r := ropescale.Rope{Dims: 16, FreqBase: 10000, OriginalContextLength: stockL}
	l = someLadder(t, r, someRung(r, 1024, 8, 1.1), someRung(r, 2048, 24, 1.19))
	return l, func(rung int) *ropescale.Ladder {
		g := l.At(rung)
		g.StartWindow = 0
		return someLadder(t, r, g)
	}
}

// patchedRun gives the logits of "probe run" from the patched engine: of a file on a rung, with the
// ladder of the file, or with another one.
func patchedRun(t *testing.T, path string, l *ropescale.Ladder, rung int) [][]float32 {
	t.Helper()
	s := open(t, path, session.Options{Context: stockTokens})
	if l != nil {
		require.NoError(t, s.SetLadder(l))
	}
	tokens := make([]int, stockTokens)
	for i := range tokens {
		tokens[i] = (i*7919 + 13) % s.Vocab() // as the probe does
	}
	s.SetRung(0, rung)
	logits, err := s.Prefill(tokens, 0, 0, 512)
	require.NoError(t, err)
	return logits[stockTokens-stockLogits:]
}

// The unpatched host gives the logits of the one rung that was chosen for it, as if that had no
// start window, whatever form the architecture wants the factors in, and those of plain RoPE when
// it was to get none.
func TestStockRungs(t *testing.T) {
	for _, c := range []struct {
		arch string
		form gguf.StockForm
		rung int // Options.StockRung
	}{
		{"llama", gguf.StockFreqs, 1},
		{"exaone", gguf.StockFreqs, 0},
		{"phi3", gguf.StockLong, 1},
		{"minicpm", gguf.StockLong, 0},
		{"llama", gguf.StockNothing, convert.StockNone},
	} {
		name := map[int]string{
			convert.StockNone: " without factors",
			0:                 " on the last rung",
			1:                 " on the first rung",
		}
		t.Run(c.arch+name[c.rung], func(t *testing.T) {
			l, naked := twoRungs(t)
			in, out := small(t, c.arch), filepath.Join(t.TempDir(), "converted.gguf")
			report, err := convert.Convert(t.Context(), in, out, l,
				convert.Options{StockRung: c.rung})
			require.NoError(t, err)
			require.True(t, report.Stock.Loads)
			require.Equal(t, c.form, report.Stock.Form)
			row := map[int]int{convert.StockNone: 0, 0: 2, 1: 1}[c.rung]
			require.Equal(t, row, report.Stock.Rung)

			var stock [][]float32
			probe(t, "stock", &stock, "run", out, "200")
			var want [][]float32
			if row == 0 {
				want = patchedRun(t, out, nil, 0)
			} else {
				want = patchedRun(t, out, naked(row), 1)
			}
			d := compare(t, want, stock)
			t.Log(d)
			assert.LessOrEqual(t, d.worst, sameSums*d.largest,
				"the unpatched host differs from rung %d without its start window", row)

			// the case would notice another rung, and the start window
			for other := range 3 {
				if row == 0 && other == 0 {
					continue
				}
				assert.Greater(t, compare(t, patchedRun(t, out, nil, other), stock).worst,
					100*sameSums*d.largest, "the case cannot tell rung %d of the ladder", other)
			}
		})
	}
}

// Factors where the unpatched host does not look for them are a file that it does not load: what
// phi3 and minicpm carry, renamed to a llama, and a tensor of any name that it does not know. That
// is why a ladder is metadata.
func TestNaiveFactors(t *testing.T) {
	l, _ := twoRungs(t)
	good := filepath.Join(t.TempDir(), "minicpm.gguf")
	_, err := convert.Convert(t.Context(), small(t, "minicpm"), good, l, convert.Options{})
	require.NoError(t, err)

	renamed, err := reference.ReadFile(good)
	require.NoError(t, err)
	renamed.SetArchitecture("llama")

	strange, err := reference.ReadFile("testdata/golden-llama.gguf")
	require.NoError(t, err)
	strange.Tensors = append(
		strange.Tensors,
		reference.Tensor{
			Name: "rope_factors.0.weight",
			Dims: []uint64{8},
			Data: make([]float32, 8),
		},
	)

	for name, f := range map[string]*reference.File{
		"rope_factors_long in a llama": renamed, "a tensor of a ladder's own": strange,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "naive.gguf")
			require.NoError(t, f.WriteFile(path))
			says := stockRefuses(t, path)
			assert.Contains(t, says, "wrong number of tensors")
			if f == renamed {
				m, err := convert.Inspect(path)
				require.NoError(t, err)
				assert.False(t, m.Stock.Loads, "Inspect says that an unpatched host loads it")
			}
		})
	}
}

// stockRefuses wants the unpatched host to refuse a file, and returns what it says.
func stockRefuses(t *testing.T, path string) string {
	t.Helper()
	var stock [][]float32
	// builds the probe, or skips; and it loads what is right
	probe(t, "stock", &stock, "run", small(t, "llama"), "200")
	require.Len(t, stock, stockLogits)
	bin, err := probes()
	require.NoError(t, err)
	cmd := exec.Command(bin["stock"], "run", path, "200")
	cmd.Env = append(os.Environ(), "OLLAMA_LIBRARY_PATH="+libraries(t)["stock"])
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.Error(t, cmd.Run(), "the unpatched host loads %s", path)
	return stderr.String()
}
