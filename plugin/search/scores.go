package search

import (
	"math"

	"github.com/longrope/longrope/ropescale/study"
)

// Scores are the fitness of a candidate by kind of reading: the perplexity of the search text, the
// NLL of hidden keys in nats, and that of the further keys which finalists look for. nil: the
// search has none of that kind, or not all of it was evaluated, or it is not finite.
type Scores struct{ Text, Keys, Further *float64 }

// ScoresOf are those of all candidates of a study. A fitness of text and keys is no perplexity, and
// not to be compared with that of held-out text; the text's part of it is.
func ScoresOf(s *study.Study) map[int]Scores {
	const text, keys, further, generation = 0, 1, 2, 3
	kind := func(r study.Reading) int {
		switch {
		case r.Use == study.ForFinalists:
			return further
		case r.Use == study.ForGenerations, r.Use == study.ForBases:
			return generation
		case r.Kind == "key":
			return keys
		}
		return text
	}
	type sums struct {
		loss [4]float64
		n    [4]int // readings
	}
	readings := s.Options().Readings
	var all [4]int
	for _, r := range readings {
		all[kind(r)]++
	}
	candidates := map[int]sums{}
	for _, t := range s.History() {
		c := candidates[t.Candidate]
		for i, reading := range t.Readings {
			k := kind(readings[reading])
			c.loss[k] += t.Losses[i]
			c.n[k]++
		}
		candidates[t.Candidate] = c
	}
	out := map[int]Scores{}
	for id, c := range candidates {
		mean := func(kind int) *float64 {
			if c.n[kind] < all[kind] || all[kind] == 0 {
				return nil
			}
			return Finite(c.loss[kind] / float64(all[kind]))
		}
		scores := Scores{Text: mean(text), Keys: mean(keys), Further: mean(further)}
		if scores.Text != nil {
			scores.Text = Finite(math.Exp(*scores.Text))
		}
		out[id] = scores
	}
	return out
}

// Finite is x, nil if it is no finite number.
func Finite(x float64) *float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return nil
	}
	return &x
}
