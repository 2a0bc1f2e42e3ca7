package search

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// The parts of a fitness are distinguished, also of a candidate that was evaluated in parts; what
// failed or is incomplete is left out.
func TestScoresOf(t *testing.T) {
	rope := ropescale.Rope{Dims: 16, FreqBase: 10000, OriginalContextLength: 128}
	readings := []study.Reading{
		{Name: "window 1", Kind: "text", Tokens: 4, Weight: 0.5},
		{Name: "window 2", Kind: "text", Tokens: 4, Weight: 0.5},
		{Name: "key 1", Kind: "key", Tokens: 2, Weight: 0.1},
	}
	s, err := study.New(study.Options{
		Rope: rope, Target: 512, Budget: 400, Readings: readings,
	})
	require.NoError(t, err)
	all := map[int][]float64{} // losses of a candidate
	for !s.Done() {
		for _, trial := range s.Ask() {
			var losses []float64
			for _, r := range trial.Readings {
				losses = append(losses, []float64{2, 3, 0.5}[r])
			}
			if trial.ID == 1 {
				losses[2] = math.Inf(1)
			}
			require.NoError(t, s.Tell(trial.ID, losses, 1))
			all[trial.Candidate] = append(all[trial.Candidate], losses...)
		}
	}
	got, parts := ScoresOf(s), 0
	for id, losses := range all {
		switch {
		case id == 1:
			assert.Nil(t, got[id].Keys)
		case len(losses) == 3:
			require.NotNil(t, got[id].Text)
			require.NotNil(t, got[id].Keys)
			assert.InDelta(t, math.Exp(2.5), *got[id].Text, 1e-9)
			assert.InDelta(t, 0.5, *got[id].Keys, 1e-9)
		default:
			parts++
			assert.Nil(t, got[id].Text)
		}
	}
	assert.Positive(t, parts, "the default algorithm reads in parts")
}
