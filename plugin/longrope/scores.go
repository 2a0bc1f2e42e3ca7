package longrope

import (
	"math"

	"github.com/longrope/longrope/ropescale"
)

// scores are what a candidate is worth by kind of reading: the perplexity of the search text, the
// NLL of hidden keys in nats, and that of the further keys which finalists look for. nil: the
// search has none of that kind, or it was not all read, or is not finite.
type scores struct{ text, keys, further *float64 }

// scoresOf are those of all candidates of a study. A fitness of text and keys is no perplexity, and
// not to be compared with that of held-out text; the text's part of it is.
func scoresOf(s *ropescale.Study) map[int]scores {
	const text, keys, further, generation = 0, 1, 2, 3
	kind := func(r ropescale.Reading) int {
		switch {
		case r.Use == ropescale.ForFinalists:
			return further
		case r.Use == ropescale.ForGenerations:
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
	out := map[int]scores{}
	for id, c := range candidates {
		mean := func(kind int) *float64 {
			if c.n[kind] < all[kind] || all[kind] == 0 {
				return nil
			}
			return finite(c.loss[kind] / float64(all[kind]))
		}
		scores := scores{text: mean(text), keys: mean(keys), further: mean(further)}
		if scores.text != nil {
			scores.text = finite(math.Exp(*scores.text))
		}
		out[id] = scores
	}
	return out
}
