//go:build cgo

package engine

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/ropescale"
)

const length = 1024

func openDefault(t testing.TB) *Engine {
	path := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, os.WriteFile(path, defaultmodel.Model, 0o600))
	e, err := Open(path, Options{Length: length})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	return e
}

func text(t testing.TB, e *Engine, n int) []int {
	tokens, err := e.Tokenize(defaultmodel.TestTexts()[0].Body, false)
	require.NoError(t, err)
	require.Greater(t, len(tokens), n)
	return tokens[:n]
}

func nll(t testing.TB, e *Engine, tokens []int) []float64 {
	x, err := e.NLL(context.Background(), tokens, 1)
	require.NoError(t, err)
	require.Len(t, x, len(tokens)-1)
	return x
}

func ladder(t testing.TB, e *Engine, rungs ...ropescale.Rung) *ropescale.Ladder {
	info := e.Info()
	l, err := ropescale.NewLadder(
		ropescale.Rope{
			Dims: info.RopeDimensionCount, FreqBase: info.FreqBase,
			OriginalContextLength: info.OriginalContextLength,
		},
		nil,
		rungs...)
	require.NoError(t, err)
	return l
}

// rung has factors from 1 to top, like those of a search.
func rung(e *Engine, n, window int, top, attention float64) ropescale.Rung {
	g := ropescale.Rung{Length: n, StartWindow: window, AttentionFactor: attention}
	pairs := e.Info().RopeDimensionCount / 2
	for i := range pairs {
		g.Factors = append(g.Factors, math.Pow(top, float64(i)/float64(pairs-1)))
	}
	return g
}

// TestIdentity: row 0 of a plain model is the graph without rows, bit for bit.
func TestIdentity(t *testing.T) {
	e := openDefault(t)
	tokens := text(t, e, length)
	stock := nll(t, e, tokens)
	require.NoError(t, e.SetLadder(ladder(t, e, rung(e, length, 0, 1, 1))))
	assert.Equal(t, stock, nll(t, e, tokens))
	require.NoError(t, e.SetLadder(nil))
	assert.Equal(t, stock, nll(t, e, tokens))
}

// TestShortStaysShort: up to L a laddered model computes what the original model does, bit for bit.
func TestShortStaysShort(t *testing.T) {
	e := openDefault(t)
	tokens := text(t, e, e.Info().OriginalContextLength)
	stock := nll(t, e, tokens)
	require.NoError(t, e.SetLadder(ladder(t, e, rung(e, length, 16, 8, 1.1))))
	assert.Equal(t, stock, nll(t, e, tokens))
}

// TestFactorsMatter: factors change what is beyond the start window and nothing below it.
func TestFactorsMatter(t *testing.T) {
	e := openDefault(t)
	tokens := text(t, e, length)
	stock := nll(t, e, tokens)
	const window = 64
	require.NoError(t, e.SetLadder(ladder(t, e, rung(e, length, window, 4, 1.1))))
	got := nll(t, e, tokens)
	assert.Equal(t, stock[:window-1], got[:window-1], "tokens in the start window see row 0 only")
	assert.NotEqual(t, stock[window], got[window])
}

func TestGenerateAgreesWithNLL(t *testing.T) {
	e := openDefault(t)
	tokens := text(t, e, 300)
	answer, err := e.Generate(context.Background(), tokens, 8)
	require.NoError(t, err)
	require.NotEmpty(t, answer)
	// each greedy token is at least as likely as any other, so likelier than one in a vocabulary
	x, err := e.NLL(context.Background(), append(append([]int{}, tokens...), answer...),
		len(tokens))
	require.NoError(t, err)
	for _, v := range x {
		assert.Less(t, v, math.Log(float64(e.Info().VocabSize)))
	}
}

func TestBadInput(t *testing.T) {
	e := openDefault(t)
	ctx := context.Background()
	_, err := e.NLL(ctx, make([]int, length+1), 1)
	assert.ErrorContains(t, err, "do not fit")
	_, err = e.NLL(ctx, []int{1}, 1)
	assert.ErrorContains(t, err, "nothing to score")
	_, err = e.Generate(ctx, nil, 1)
	assert.ErrorContains(t, err, "no tokens")
	_, err = e.Detokenize([]int{e.Info().VocabSize})
	assert.ErrorContains(t, err, "vocabulary")

	bad := rung(e, length, 0, 8, 1)
	bad.Factors = bad.Factors[1:]
	l := ladder(t, e, rung(e, length, 0, 8, 1))
	l.Rungs[0] = bad
	assert.Error(t, e.SetLadder(l))
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = e.NLL(cancelled, text(t, e, 10), 1)
	assert.ErrorIs(t, err, context.Canceled)
}

// BenchmarkLadder is what rows cost where a search and an evaluation spend their time: the same
// tokens without a ladder and with one, in turn, so that a machine whose speed drifts slows both.
// Say -benchtime 30x.
func BenchmarkLadder(b *testing.B) {
	e := openDefault(b)
	tokens := text(b, e, length)
	timed := func(l *ropescale.Ladder) float64 {
		require.NoError(b, e.SetLadder(l))
		started := time.Now()
		nll(b, e, tokens)
		return time.Since(started).Seconds()
	}
	l := ladder(b, e, rung(e, length, 16, 4, 1.1))
	var ratios, stock []float64
	for range b.N {
		stock = append(stock, timed(nil))
		ratios = append(ratios, stock[len(stock)-1]/timed(l))
	}
	slices.Sort(ratios)
	slices.Sort(stock)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(length/stock[b.N/2], "stock-tokens/s")
	b.ReportMetric(ratios[b.N/2], "ladder/stock")
	b.ReportMetric(ratios[b.N/4], "ladder/stock-q1")
	b.ReportMetric(ratios[b.N-1-b.N/4], "ladder/stock-q3")
}
