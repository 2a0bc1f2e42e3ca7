package longrope

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale"
)

// TestPrepare: a worker takes from a search what its engine can read, and nothing else.
func TestPrepare(t *testing.T) {
	m := tinyModel(t)
	e, err := openFake(m.path, openOptions{Length: 256})
	require.NoError(t, err)
	good := judge{Rope: m.info.Rope(), Samples: []evals.Sample{{Tokens: []int{1, 2, 3}, From: 1}}, Readings: []ropescale.Reading{{Name: "x", Tokens: 3, Weight: 1}}}
	prepare := func(j judge, digest string) error {
		b, err := json.Marshal(j)
		require.NoError(t, err)
		return (&worker{e: e}).prepare(context.Background(), workers.Spec{ModelDigest: digest, Length: 256, Readings: b}, 1)
	}
	require.NoError(t, prepare(good, e.Info().Digest))
	assert.ErrorContains(t, prepare(good, "sha256:0"), "has changed: its digest is sha256:")
	for want, change := range map[string]func(*judge){
		"0 readings of 1 sequences":      func(j *judge) { j.Readings = nil },
		"0 readings of 0 sequences":      func(j *judge) { j.Readings, j.Samples = nil, nil },
		"token 256 is not in":            func(j *judge) { j.Samples = []evals.Sample{{Tokens: []int{1, 256}, From: 1}} },
		"token -1 is not in":             func(j *judge) { j.Samples = []evals.Sample{{Tokens: []int{-1, 2}, From: 1}} },
		"300 tokens, scored from 1 to 0": func(j *judge) { j.Samples = []evals.Sample{{Tokens: make([]int, 300), From: 1}} },
		"3 tokens, scored from 3 to 0":   func(j *judge) { j.Samples = []evals.Sample{{Tokens: []int{1, 2, 3}, From: 3}} },
	} {
		j := good
		change(&j)
		assert.ErrorContains(t, prepare(j, e.Info().Digest), want)
	}
	assert.Equal(t, "factors", studyName("/a/b/factors.json.study"))
	assert.Equal(t, "my-model-8b", studyName("my model:8b.study"))
	assert.Equal(t, "search", studyName("…"))
}
