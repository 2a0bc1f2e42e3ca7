package study

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

// barReadings are a window of text and two keys, with a weight of 0.2.
func barReadings() []Reading {
	return []Reading{
		{Kind: "text", Tokens: 10, Weight: 1},
		{Kind: "key", Weight: 0.1},
		{Kind: "key", Weight: 0.1},
		{Kind: "key", Weight: 0.1, Use: ForFinalists},
	}
}

// Losses above the best start's of a kind count five times.
func TestBehindCountsFiveTimes(t *testing.T) {
	readings, all := barReadings(), []int{0, 1, 2}
	starts := []result{{Losses: Losses{2, 1, 3, 9}}, {Losses: Losses{3, 1, 1, 9}}}
	b := newBars(starts, readings, all)
	assert.Equal(t, bars{"text": 2, "key": 1}, b)
	for _, c := range []struct {
		text, key, want float64
	}{
		{2, 1, 2.2},                     // at the bars
		{1.9, 0.5, 1.9 + 0.1},           // ahead of them
		{2.1, 0.5, 2.1 + 0.1 + 4*0.1},   // behind in text
		{1.9, 2, 1.9 + 0.4 + 4*0.2},     // behind in keys
		{3, 2, 3 + 0.4 + 4*1.2},         // behind in both
		{math.Inf(1), 0.5, math.Inf(1)}, // no text
		{1.9, math.Inf(1), math.Inf(1)}, // no keys
	} {
		losses := Losses{c.text, c.key, c.key, 0}
		assert.InDelta(t, c.want, b.score(losses, readings, all), 1e-9, "%v", losses)
	}
	few := bars{}.best([]result{
		{Candidate: 1, Losses: Losses{3, 1, 1, 0}},
		{Candidate: 2, Losses: Losses{2, 1, 1, 0}},
		{Candidate: 3, Losses: Losses{2, 1, 1, 0}},
	}, readings, 2)
	assert.Equal(t, 2, few[0].Candidate, "the lowest score, the earliest of equals")
	assert.Equal(t, 3, few[1].Candidate)
	few = bars{}.best([]result{
		{Candidate: 1, Losses: Losses{2, 1, 1, 4}},
		{Candidate: 2, Losses: Losses{2, 1, 1, 3}},
	}, readings, 1)
	assert.Equal(t, 2, few[0].Candidate, "both have the key for finalists")
	few = bars{}.best([]result{
		{Candidate: 1, Losses: Losses{2, 1, 1, 4}},
		{Candidate: 2, Losses: Losses{2, 1, 1, math.NaN()}},
	}, readings, 1)
	assert.Equal(t, 1, few[0].Candidate, "one lacks it")
}

// A kind in which a mean is behind has four times its emphasis, up to 16; one that is behind in
// all, or in none, changes nothing.
func TestSteer(t *testing.T) {
	e, b := emphasis{}, bars{"text": 2, "key": 1}
	kinds := func(text, key float64) []kindLoss {
		return []kindLoss{{"text", 1, text}, {"key", 0.2, key}}
	}
	assert.False(t, e.steer(b, kinds(3, 3)))
	assert.False(t, e.steer(b, kinds(2, 1)))
	assert.True(t, e.steer(b, kinds(2.001, 1)))
	assert.Equal(t, emphasis{"text": 4}, e)
	value := e.sum(byKind(Losses{3, 4, 4, 0}, barReadings(), []int{0, 1, 2}))
	assert.InDelta(t, 4*3+0.2*4, value, 1e-9)
	assert.True(t, e.steer(b, kinds(1, 1.5)))
	assert.Equal(t, emphasis{"text": 4, "key": 4}, e)
	assert.True(t, e.steer(b, kinds(1, math.Inf(1))))
	assert.False(t, e.steer(b, kinds(1, 1.5)))
	assert.Equal(t, emphasis{"text": 4, "key": 16}, e)
}

// Starts and means are scored on what finalists are scored on at once, where the sequences of the
// fitness give it: then there are finals, and they take no token.
func TestFinalsThatCostNothing(t *testing.T) {
	readings := barReadings()
	s := newStudy(t, Options{
		Rope: tiny, Target: 2048, Seed: 3, Readings: readings, Params: Params{Retries: 1},
	})
	tell(t, s, 0, nil, func(trial Trial) (losses []float64, tokens int) {
		for _, i := range trial.Readings {
			losses = append(losses, noisy(trial.Rung, i))
			tokens += readings[i].Tokens
		}
		return losses, tokens
	})
	means := 0
	for _, trial := range s.History() {
		switch trial.Origin {
		case originFinal:
			t.Error("a final took an evaluation")
		case originSample:
			assert.Equal(t, []int{0, 1, 2}, trial.Readings)
		default:
			assert.Equal(t, []int{0, 1, 2, 3}, trial.Readings, trial.Origin)
			if trial.Origin == originMean {
				means++
			}
		}
	}
	assert.Greater(t, means, 1)
	_, decided := s.winner()
	assert.True(t, decided)
	assert.True(t, s.Done())
}
