package tests

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/tests/session"
)

// A converted file loads with the ladder that went into it: its logits on each rung are those of
// the ladder set at run time, bit for bit.
func TestConverted(t *testing.T) {
	m := defaultLlama(t)
	L := m.Rope.OriginalContextLength
	l := someLadder(t, m.Rope, someRung(m.Rope, L, 0, 1.02), someRung(m.Rope, 2*L, 8, 1.05),
		someRung(m.Rope, 8*L, 20, 1.1))
	in := writeDefault(t, nil)
	out := filepath.Join(t.TempDir(), "converted.gguf")
	_, err := convert.Convert(t.Context(), in, out, l, convert.Options{})
	require.NoError(t, err)

	set, read := open(t, in, session.Options{Context: 128}),
		open(t, out, session.Options{Context: 128})
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
