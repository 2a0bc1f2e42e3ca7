package search

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale/study"
)

// TestJudge: no generation is scored on what decides, keys of different uses differ, and each kind
// weighs the same in all.
func TestJudge(t *testing.T) {
	const target = 2048
	e, info := openTiny(t, target)
	texts, err := TextsFor(e, nil, searchBooks, target, 4)
	require.NoError(t, err)
	judged := func(target int, o Options) (*judge, error) {
		o.Info, o.Called = info, Names{"Keys": "--keys", "Fitness": "--fitness"}
		return newJudge(e, texts, target, 4, &o)
	}
	type key struct {
		use  study.Use
		kind string
	}
	for _, c := range []struct {
		algorithm, fitness string
		target             int
		want               map[key]float64 // weight
		sequences          int
	}{
		{"cma", "", target, map[key]float64{
			{"", "text"}: 1, {"", "key"}: needleWeight, {study.ForGenerations, "text"}: 4,
			{study.ForGenerations, "key"}: 4 * needleWeight,
			{study.ForFinalists, "key"}:   needleWeight,
		}, 4 + 16 + 4},
		{"cma", "needle", target, map[key]float64{
			{"", "key"}: 1, {study.ForGenerations, "key"}: 4,
			{study.ForFinalists, "key"}: 1,
		}, 4 + 16 + 4},
		{"cma", "perplexity", target, map[key]float64{{"", "text"}: 1}, 4},
		{"dim-mono", "", target, map[key]float64{
			{"", "text"}: 1, {"", "key"}: needleWeight,
		}, 4},
		{"cma", "", 256, map[key]float64{{"", "text"}: 1}, 4}, // too short for keys
	} {
		t.Run(fmt.Sprint(c.algorithm, c.fitness, c.target), func(t *testing.T) {
			j, err := judged(c.target, Options{Algorithm: c.algorithm, Fitness: c.fitness, Seed: 1})
			require.NoError(t, err)
			require.NoError(t, j.check(c.target, 256))
			require.Len(t, j.Samples, c.sequences)
			require.Equal(t, 4*c.target, j.tokens())
			got, asked := map[key]float64{}, map[string]study.Use{}
			for i, pass := range study.Passes(j.Readings) {
				for k, at := range pass {
					r := j.Readings[at]
					got[key{r.Use, r.Kind}] += r.Weight
					if r.Kind != "key" {
						continue
					}
					s := j.Samples[i]
					span := s.Scored[k][0]
					digits, err := e.Detokenize(
						s.Tokens[span.From-1 : span.To]) // the first is given
					require.NoError(t, err)
					use, known := asked[digits]
					require.False(t, known && use != r.Use, "key %s is for %q and %q", digits, use,
						r.Use)
					asked[digits] = r.Use
				}
			}
			for k, w := range c.want {
				assert.InDelta(t, w, got[k], 1e-9, "%v", k)
			}
			assert.Len(t, got, len(c.want))
		})
	}
	j, err := judged(target, Options{Algorithm: "cma", Keys: 1})
	require.NoError(t, err)
	require.Len(t, study.Passes(j.Readings)[0], 2)
	_, err = judged(target, Options{Algorithm: "cma", Keys: 9})
	require.ErrorContains(t, err, "--keys 9: window 1: a prompt with 9 keys leaves")
	_, err = judged(256, Options{Algorithm: "cma", Fitness: "needle"})
	require.ErrorContains(t, err, "--fitness needle: window 1: a prompt with 1 keys leaves")
}
