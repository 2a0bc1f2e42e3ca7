package longrope

import (
	"math"

	"github.com/longrope/longrope/ropescale"
)

// scores are what a candidate is worth by kind of reading: the perplexity of the search text, and the NLL of hidden keys in nats.
// nil: the fitness has none of that kind, or it was not all read, or is not finite.
type scores struct{ text, keys *float64 }

// scoresOf are those of all candidates of a study. A fitness of text and keys is no perplexity, and not to be compared with
// that of held-out text; the text's part of it is.
func scoresOf(s *ropescale.Study) map[int]scores {
	readings := s.Options().Readings
	var all struct{ text, keys int } // readings
	for _, r := range readings {
		if r.Kind == "key" {
			all.keys++
		} else {
			all.text++
		}
	}
	type sum struct {
		text, keys float64
		n          struct{ text, keys int }
	}
	sums := map[int]sum{}
	for _, t := range s.History() {
		c := sums[t.Candidate]
		for i, reading := range t.Readings {
			if readings[reading].Kind == "key" {
				c.keys += t.Losses[i]
				c.n.keys++
			} else {
				c.text += t.Losses[i]
				c.n.text++
			}
		}
		sums[t.Candidate] = c
	}
	out := map[int]scores{}
	for id, c := range sums {
		var s scores
		if c.n.text == all.text && all.text > 0 {
			s.text = finite(math.Exp(c.text / float64(all.text)))
		}
		if c.n.keys == all.keys && all.keys > 0 {
			s.keys = finite(c.keys / float64(all.keys))
		}
		out[id] = s
	}
	return out
}
