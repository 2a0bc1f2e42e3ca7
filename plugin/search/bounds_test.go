package search

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
)

// constant is an engine for which every token has the same NLL.
type constant struct {
	evals.Engine
	nll float64
}

func (c constant) NLL(_ context.Context, tokens []int, from int) ([]float64, error) {
	return slices.Repeat([]float64{c.nll}, len(tokens)-from), nil
}

// The loss of a key is at least 0.1 and at most 2 nats per token, that of text has no bound. Where
// keys are all that counts, theirs has no upper bound.
func TestBoundsOfAKeysLoss(t *testing.T) {
	const target = 2048
	e, info := openTiny(t, target)
	texts, err := TextsFor(e, nil, searchBooks, target, 4)
	require.NoError(t, err)
	for _, c := range []struct {
		fitness        string
		nll, key, text float64
	}{
		{"", 0.01, 0.1, 0.01},
		{"", 0.5, 0.5, 0.5},
		{"", 1.99, 1.99, 1.99},
		{"", 9, 2, 9},
		{"needle", 9, 9, 0},
		{"needle", 0.01, 0.1, 0},
	} {
		j, err := newJudge(e, texts, target, 4, &Options{
			Info: info, Algorithm: "cma", Fitness: c.fitness, Seed: 1,
		})
		require.NoError(t, err)
		var all []int
		for i := range j.Readings {
			all = append(all, i)
		}
		losses, _, err := j.evaluate(t.Context(), constant{e, c.nll}, nil,
			j.Rope.Identity(target), nil, all)
		require.NoError(t, err)
		for i, r := range j.Readings {
			want := c.text
			if r.Kind == "key" {
				want = c.key
			}
			assert.InDelta(t, want, losses[i], 1e-12, "%s of %g nats", r.Kind, c.nll)
		}
	}
}
