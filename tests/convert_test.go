package tests

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

// A converted file loads with the ladder that went into it: its logits on each rung are those of the ladder set at run
// time, bit for bit.
func TestConverted(t *testing.T) {
	m := defaultLlama(t)
	L := m.Rope.OriginalContextLength
	l := someLadder(t, m.Rope, someRung(m.Rope, L, 0, 1.02), someRung(m.Rope, 2*L, 8, 1.05), someRung(m.Rope, 8*L, 20, 1.1))
	in := writeDefault(t, nil)
	out := filepath.Join(t.TempDir(), "converted.gguf")
	_, err := convert.Convert(t.Context(), in, out, l, convert.Options{})
	require.NoError(t, err)

	set, read := open(t, in, session.Options{Context: 128}), open(t, out, session.Options{Context: 128})
	require.NoError(t, set.SetLadder(l))
	tokens := someTokens(100, set.Vocab(), 9)
	for _, n := range []int{1, L - 1, L, L + 1, 2 * L, 2*L + 1, 8 * L, 9 * L} {
		require.Equal(t, l.RungFor(n), read.RungFor(n), "rung for %d tokens", n)
		require.Equal(t, l.RungFor(n), set.RungFor(n), "rung for %d tokens", n)
	}
	var last [][]float32
	for rung := range len(l.Rungs) + 1 {
		logits := make([][][]float32, 2)
		for i, s := range []*session.Session{set, read} {
			s.Clear()
			s.SetRung(0, rung)
			logits[i], err = s.Prefill(tokens, 0, 0, 512)
			require.NoError(t, err)
		}
		require.Equal(t, logits[0], logits[1], "rung %d", rung)
		require.NotEqual(t, last, logits[0], "rungs %d and %d are the same", rung-1, rung)
		last = logits[0]
	}
}

// The unpatched host loads a converted file and gives the logits of its one rung, without the start window.
func TestStockHost(t *testing.T) {
	const n = 200 // past L = 64
	for _, arch := range []string{"llama", "phi3", "minicpm"} {
		t.Run(arch, func(t *testing.T) {
			in := "testdata/golden-" + arch + ".gguf"
			if arch == "minicpm" { // has the tensors of a llama
				f, err := reference.ReadFile("testdata/golden-llama.gguf")
				require.NoError(t, err)
				f.SetArchitecture(arch)
				in = filepath.Join(t.TempDir(), "in.gguf")
				require.NoError(t, f.WriteFile(in))
			}
			r := defaultLlama(t).Rope
			r.Dims, r.OriginalContextLength = 16, 64
			out := filepath.Join(t.TempDir(), "converted.gguf")
			report, err := convert.Convert(t.Context(), in, out, someLadder(t, r, someRung(r, 2048, 0, 1.19)), convert.Options{})
			require.NoError(t, err)
			require.True(t, report.Stock.Loads)
			require.Equal(t, 1, report.Stock.Rung)

			var stock, patched [][]float32
			probe(t, "stock", &stock, "run", out, "200")
			s := open(t, out, session.Options{Context: n})
			tokens := make([]int, n)
			for i := range tokens {
				tokens[i] = (i*7919 + 13) % s.Vocab() // as the probe does
			}
			run := func(rung int) [][]float32 {
				s.Clear()
				s.SetRung(0, rung)
				logits, err := s.Prefill(tokens, 0, 0, 512)
				require.NoError(t, err)
				return logits[n-len(stock):]
			}
			patched = run(1)
			d := compare(t, patched, stock)
			t.Log(d)
			assert.LessOrEqual(t, d.worst, sameSums*d.largest, "the unpatched host differs")
			assert.Greater(t, compare(t, run(0), stock).worst, 1000*sameSums*d.largest, "the case cannot tell the rung from plain RoPE")
		})
	}
}
