package tests

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

// defaultFile is the default model, read by this module's other reader.
var defaultFile = sync.OnceValues(
	func() (*reference.File, error) { return reference.Read(defaultmodel.Model) })

// writeDefault writes the default model with f32 weights and the given uint32 and float32 metadata
// into a folder that goes with the test.
func writeDefault(t testing.TB, set map[string]any) string {
	t.Helper()
	f, err := reference.Read(defaultmodel.Model) // again: Set changes it
	require.NoError(t, err)
	for key, value := range set {
		f.Set(key, value)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, f.WriteFile(path))
	return path
}

func defaultLlama(t testing.TB) *reference.Llama {
	t.Helper()
	f, err := defaultFile()
	require.NoError(t, err)
	m, err := reference.NewLlama(f)
	require.NoError(t, err)
	return m
}

func open(t testing.TB, path string, o session.Options) *session.Session {
	t.Helper()
	s, err := session.Open(path, o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// someTokens are n tokens of a vocabulary, the same for each seed. Stretches come again, so that
// attention reaches back far.
func someTokens(n, vocab int, seed uint64) []int {
	rng := rand.New(rand.NewPCG(seed, uint64(vocab)))
	tokens := make([]int, 0, n+64)
	for len(tokens) < n {
		if at := len(tokens); at > 64 && rng.IntN(2) == 0 {
			from := rng.IntN(at - 32)
			tokens = append(tokens, tokens[from:from+32]...)
			continue
		}
		for range 16 {
			tokens = append(tokens, rng.IntN(vocab))
		}
	}
	return tokens[:n]
}

// someRung has factors as a search finds them: 1 for the fastest pair, up to about scale for the
// slowest, not monotone.
func someRung(r ropescale.Rope, length, startWindow int, attentionFactor float64) ropescale.Rung {
	g := r.Identity(length)
	g.StartWindow, g.AttentionFactor = startWindow, attentionFactor
	s := math.Max(1, r.Scale(length))
	for i := range g.Factors {
		f := 1 + (s-1)*math.Pow(float64(i)/float64(len(g.Factors)-1), 2)
		if i%5 == 3 {
			f *= 0.97
		}
		g.Factors[i] = float64(float32(f)) // what the engine gets
	}
	g.AttentionFactor = float64(float32(attentionFactor))
	return g
}

func someLadder(t testing.TB, r ropescale.Rope, rungs ...ropescale.Rung) *ropescale.Ladder {
	t.Helper()
	l, err := ropescale.NewLadder(r, nil, rungs...)
	require.NoError(t, err)
	return l
}

// span is the largest absolute logit and where two sets of logits differ most.
type span struct {
	largest, worst float64
	where          string
}

func (s span) String() string {
	return fmt.Sprintf("largest deviation %.3g of logits up to %.1f, %s", s.worst, s.largest,
		s.where)
}

func compare[A, B float32 | float64](t testing.TB, want [][]A, got [][]B) span {
	t.Helper()
	require.Equal(t, len(want), len(got))
	var s span
	for i := range want {
		require.Equal(t, len(want[i]), len(got[i]), "token %d", i)
		for j := range want[i] {
			s.largest = math.Max(s.largest, math.Abs(float64(want[i][j])))
			e := math.Abs(float64(want[i][j]) - float64(got[i][j]))
			require.False(t, math.IsNaN(e), "token %d logit %d is not a number", i, j)
			if e > s.worst {
				s.worst, s.where = e, fmt.Sprintf("token %d logit %d", i, j)
			}
		}
	}
	return s
}
