package search

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale/study"
)

// TestNewEvaluator: a worker takes from a search what its engine can read, and nothing else.
func TestNewEvaluator(t *testing.T) {
	e, info := openTiny(t, 256)
	sample := func(from, to int, tokens ...int) []evals.Sample {
		return []evals.Sample{{Tokens: tokens, Scored: [][]evals.Span{{{From: from, To: to}}}}}
	}
	good := judge{
		Rope: info.Rope(), Samples: sample(1, 3, 1, 2, 3),
		Readings: []study.Reading{{Name: "x", Tokens: 3, Weight: 1}},
	}
	prepare := func(j judge, digest string) error {
		b, err := json.Marshal(j)
		require.NoError(t, err)
		_, err = NewEvaluator(t.Context(), e, workers.Spec{
			ModelDigest: digest, Length: 256, Readings: b,
		}, 1)
		return err
	}
	require.NoError(t, prepare(good, e.Info().Digest))
	assert.ErrorContains(t, prepare(good, "sha256:0"), "has changed: its digest is sha256:")
	for want, change := range map[string]func(*judge){
		"the search has no readings":               func(j *judge) { j.Readings = nil },
		"readings of 1 sequences, and 0 sequences": func(j *judge) { j.Samples = nil },
		"1 scores for 2 readings": func(j *judge) {
			j.Readings = append(j.Readings, study.Reading{Name: "y", Weight: 1})
		},
		"nothing of 3 tokens is to be scored": func(j *judge) {
			j.Samples = []evals.Sample{{Tokens: []int{1, 2, 3}}}
		},
		"a score of 2 tokens has no span": func(j *judge) {
			j.Samples = []evals.Sample{{Tokens: []int{1, 2}, Scored: [][]evals.Span{{}}}}
		},
		"token 256 is not in": func(j *judge) { j.Samples = sample(1, 2, 1, 256) },
		"token -1 is not in":  func(j *judge) { j.Samples = sample(1, 2, -1, 2) },
		"300 tokens at a length of 256": func(j *judge) {
			j.Samples = sample(1, 300, make([]int, 300)...)
		},
		"cannot score tokens 3 to 4 of 3": func(j *judge) { j.Samples = sample(3, 4, 1, 2, 3) },
	} {
		j := good
		j.Readings = append([]study.Reading(nil), good.Readings...)
		change(&j)
		assert.ErrorContains(t, prepare(j, e.Info().Digest), want)
	}
	negative := good
	negative.Readings = []study.Reading{{Name: "x", Tokens: -3, Weight: 1}}
	assert.ErrorContains(t, prepare(negative, e.Info().Digest), "the search has no readings")
	for _, r := range []int{-1, 1} {
		_, _, err := good.evaluate(t.Context(), e, nil, info.Rope().Identity(256), nil, []int{0, r})
		assert.ErrorContains(t, err, "there is no reading")
	}
	assert.Equal(t, "factors", studyName("/a/b/factors.json.study"))
	assert.Equal(t, "my-model-8b", studyName("my model:8b.study"))
	assert.Equal(t, "search", studyName("…"))
}
