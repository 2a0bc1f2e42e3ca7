package search

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// FuzzReadings: whatever a search hands to a worker as its readings, what passes the worker's
// checks is within its length and its vocabulary, and goes out again as it came.
func FuzzReadings(f *testing.F) {
	const length, vocabulary = 64, 100
	whole := judge{
		Name:     "perplexity",
		Rope:     ropescale.Rope{Dims: 4, FreqBase: 10000, OriginalContextLength: 8},
		Readings: []study.Reading{{Name: "window 1", Kind: "text", Tokens: 4, Weight: 1}},
		Samples: []evals.Sample{{
			Tokens: []int{1, 2, 3, 99}, Scored: [][]evals.Span{{{From: 1, To: 4}}},
		}},
	}
	forked := whole
	forked.Samples = nil
	forked.Whole = []evals.Forked{{
		Tokens: []int{1, 2, 3, 4}, Text: []evals.Span{{From: 1, To: 4}},
	}}
	for _, j := range []judge{whole, forked, {}} {
		b, err := json.Marshal(j)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = CheckSpec(workers.Spec{Length: length, Readings: b})
		var j judge
		if json.Unmarshal(b, &j) != nil || j.check(length, vocabulary) != nil {
			return
		}
		assert.LessOrEqual(t, j.length(), length)
		assert.NotPanics(t, func() { j.first() })
		for _, s := range j.Samples {
			for _, token := range s.Tokens {
				assert.True(t, token >= 0 && token < vocabulary)
			}
		}
		out, err := json.Marshal(j)
		require.NoError(t, err)
		var again judge
		require.NoError(t, json.Unmarshal(out, &again))
		require.NoError(t, again.check(length, vocabulary))
		assert.Equal(t, study.Passes(j.Readings), study.Passes(again.Readings))
	})
}
