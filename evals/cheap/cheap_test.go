package cheap

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/tasktest"
	"github.com/longrope/longrope/ropescale"
)

var bytes = tasktest.Bytes{BOS: true}

func forked(t *testing.T) evals.Forked {
	e := tasktest.New(bytes)
	text := evals.Text{Name: "sea", Body: strings.Repeat("The sea was grey, and men sailed. ", 80)}
	windows, err := evals.SampleWindows(e, []evals.Text{text}, 2400, 1)
	require.NoError(t, err)
	all, err := evals.HideForks(e, windows, evals.ForkOptions{Keys: 4, Seed: 2})
	require.NoError(t, err)
	return all[0]
}

// TestKeep: an engine that cannot keep prefixes gives the same scores. It evaluates the prefix
// again for each key, and once for the text.
func TestKeep(t *testing.T) {
	ctx := context.Background()
	f := forked(t)
	g := ropescale.Rung{Length: 2400, AttentionFactor: 1, Factors: []float64{1, 4}}
	forker := &tasktest.Forker{Engine: tasktest.New(bytes)}
	p, why, err := Keep(ctx, forker, f.Tokens, g)
	require.NoError(t, err)
	require.NoError(t, why)
	want, err := f.Score(ctx, p, g)
	require.NoError(t, err)
	p.Close()
	require.Zero(t, forker.Open)

	plain := tasktest.New(bytes)
	refuses := &tasktest.Forker{Engine: tasktest.New(bytes), Refuses: evals.ErrNoForks}
	for _, e := range []evals.Engine{plain, refuses} {
		p, why, err := Keep(ctx, e, f.Tokens, g)
		require.NoError(t, err)
		require.ErrorIs(t, why, evals.ErrNoForks)
		exact, err := f.Score(ctx, p, g)
		require.NoError(t, err)
		require.InDeltaSlice(t, want, exact, 1e-9)
		p.Close()
	}
	require.Len(t, plain.Calls, 1+4)

	// shorter sequences would be on the model's own RoPE
	p, _, err = Keep(ctx, plain, f.Tokens, g)
	require.NoError(t, err)
	scores, err := p.Score(ctx, g, []evals.Fork{{At: 3, Tokens: []int{1, 2, 3}, From: 1}})
	require.NoError(t, err)
	require.Equal(t, [][]float64{{math.Ln2, math.Ln2}}, scores)
	require.Equal(t, 64+1, plain.Calls[len(plain.Calls)-1])

	refuses.Refuses = context.DeadlineExceeded // any error but ErrNoForks
	_, _, err = Keep(ctx, refuses, f.Tokens, g)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	p, _, err = Keep(ctx, plain, f.Tokens, g)
	require.NoError(t, err)
	_, err = f.Score(cancelled, p, g)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAgree(t *testing.T) {
	exact := []float64{3, 1, 2, 5, 4}
	for _, c := range []struct {
		cheap                  []float64
		spearman, bias, spread float64
	}{
		{[]float64{2, 0, 1, 4, 3}, 1, -1, 0},
		{[]float64{30, 10, 20, 50, 40}, 1, 27, math.Sqrt(10 * 81 / 4.)},
		{[]float64{3, 5, 4, 1, 2}, -1, 0, math.Sqrt(40 / 4.)},
		{[]float64{2, 2, 2, 2, 2}, 0, -1, math.Sqrt(10 / 4.)},
		// ranks 2, 0, 1, 3.5, 3.5 against 2, 0, 1, 4, 3
		{[]float64{3, 1, 2, 6, 6}, 9.5 / math.Sqrt(10*9.5), 0.6, math.Sqrt((1 + 4 - 5*.36) / 4)},
		{[]float64{3, 1, 2, math.Inf(1), 4}, 1, 0, 0},
	} {
		a := Agree(c.cheap, exact)
		require.Equal(t, 5, a.Candidates)
		require.InDelta(t, c.spearman, a.Spearman, 1e-12, "%v", c.cheap)
		require.InDelta(t, c.bias, a.Bias, 1e-12)
		require.InDelta(t, c.spread, a.Spread, 1e-12)
	}
	require.Zero(t, Agree(nil, nil))
	require.Zero(t, Agree([]float64{math.NaN()}, []float64{1}).Spearman)
}
