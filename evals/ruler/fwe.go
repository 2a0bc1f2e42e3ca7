package ruler

import (
	"math"
	"strings"

	"github.com/longrope/longrope/evals/recall"
)

const (
	fweText = "Read the following coded text and track the frequency of each coded word. Find " +
		"the three most frequently appeared coded words. "
	fweQuestion = "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. " +
		"What are the three most frequently appeared words in the above coded text?"
	fwePrefix = " Answer: According to the coded text above, the three most frequently appeared " +
		"words are:"
	fweAnswer  = 50
	wordLength = 6
)

// fwe is frequent words extraction: a text of coded words, of which word k comes n/(k² zeta(2))
// times. The most frequent one is dots, which are not asked for. A unit of haystack is one of n.
func fwe(name, help string) recall.Kind {
	return ruler(recall.Kind{
		Name: name, Help: help, Answer: fweAnswer, Draw: drawFWE, Score: recall.All,
	})
}

func drawFWE(r recall.Request) (recall.Sample, error) {
	size := max((r.Length-fweAnswer)/50, 4)
	words, seen := make([]string, 0, size), map[string]bool{}
	for len(words) < size {
		w := make([]byte, wordLength)
		for i := range w {
			w[i] = byte('a' + r.Rand.IntN(26))
		}
		if !seen[string(w)] {
			seen[string(w)] = true
			words = append(words, string(w))
		}
	}
	words[0] = "..."
	var all []string
	for i, w := range words {
		k := float64(i + 1)
		for range int(float64(r.Units) / (k * k) / (math.Pi * math.Pi / 6)) {
			all = append(all, w)
		}
	}
	r.Rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return recall.Sample{
		Context: fweText + strings.Join(all, " "),
		Questions: []recall.Question{{
			Text: fweQuestion, Prefix: fwePrefix, References: words[1:4],
		}},
	}, nil
}
