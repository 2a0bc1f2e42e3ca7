package tests

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/tests/gosession"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

// Both engines refuse the lengths, start windows and factors that ropescale.Ladder.Validate
// refuses, and as many rows.
func TestLadderChecks(t *testing.T) {
	path := withLadder(t, writeDefault(t, nil), 8*serverL)
	const lengths, windows, attention = "lengths", "start_windows", "attention_factors"
	for name, c := range map[string]struct {
		key   string
		value any
		want  string
	}{
		"row 0 of no length":       {lengths, []uint32{0, 2048}, "row 0: original context length 0"},
		"row 0 of one token":       {lengths, []uint32{1, 2048}, "row 0: original context length 1"},
		"row 0 of too many tokens": {lengths, []uint32{1 << 31, 2048}, "row 0: original context"},
		"a rung of no length":      {lengths, []uint32{256, 0}, "row 1: lengths must be positive"},
		"a rung of too many":       {lengths, []uint32{256, 1 << 31}, "row 1: lengths must be pos"},
		"row 0 with a window":      {windows, []uint32{8, 16}, "row 0: original context length 256"},
		"a window of all tokens":   {windows, []uint32{0, 2048}, "row 1: start window is 2048"},
		"a window beyond":          {windows, []uint32{0, 1 << 31}, "row 1: start window is -2147"},
		"a million rows": {
			lengths, make([]uint32, 1_000_000), "lengths has 1000000 elements, 256 is the most",
		},
		"a small factor": {
			"factors", slices.Repeat([]float32{1e-38}, 64),
			"row 0: factor 0 is 1e-38, must be 1e-20 to 1e+20",
		},
		"a large factor": {
			"factors", slices.Repeat([]float32{1e38}, 64),
			"row 0: factor 0 is 1e+38, must be 1e-20 to 1e+20",
		},
		"a small attention factor": {
			attention,
			[]float32{1, 1e-38},
			"row 1: attention factor is 1e-38, must be 1e-09 to 1e+09",
		},
		"a large attention factor": {
			attention,
			[]float32{1, 1e38},
			"row 1: attention factor is 1e+38, must be 1e-09 to 1e+09",
		},
		"no number": {
			attention,
			[]float32{float32(math.NaN()), 1},
			"row 0: attention factor is ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := reference.ReadFile(path)
			require.NoError(t, err)
			f.Set("llama.rope.longrope."+c.key, c.value)
			bad := filepath.Join(t.TempDir(), "bad.gguf")
			require.NoError(t, f.WriteFile(bad))
			_, err = convert.Inspect(bad)
			require.Error(t, err, "what this project reads")
			_, err = gosession.Open(bad, session.Options{})
			assert.ErrorContains(t, err, c.want, "the Go engine")
			_, err = session.Open(bad, session.Options{})
			assert.ErrorContains(t, err, c.want, "the llama.cpp engine")
		})
	}
}

// Nodes that take rows and nodes of local layers must add up to all RoPE of a graph: one that is
// neither refuses the ladder, by name. Here it is of no layer that could be found. Nothing changes
// then.
func TestRefusedNode(t *testing.T) {
	path := writeDefault(t, nil)
	s := open(t, path, session.Options{})
	tokens := someTokens(40, s.Vocab(), 1)
	want, err := s.Prefill(tokens, 0, 0, 64)
	require.NoError(t, err)

	const weight = "blk.2.attn_k.weight"
	require.NoError(t, s.Rename(weight, "weight"))
	l := rungLadder(t, defaultLlama(t).Rope)
	require.ErrorContains(t, s.SetLadder(l), "RoPE node Kcur-2 (layer -1) of architecture llama "+
		"cannot take the factors of a ladder: no weight above it says which layer it is of")
	s.Clear()
	got, err := s.Prefill(tokens, 0, 0, 64)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	require.NoError(t, s.Rename(weight, weight))
	require.NoError(t, s.SetLadder(l))
}
