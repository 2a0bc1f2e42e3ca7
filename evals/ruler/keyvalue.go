package ruler

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/longrope/longrope/evals/recall"
)

// keyValue is key-value retrieval: a JSON object of random pairs, of which one is asked for. The
// prompt is that of Liu et al. (Lost in the Middle, arXiv 2307.03172), as HELMET has it; an answer
// counts when the value is one of its words, as in InfiniteBench. Numbers are for models that know
// no words. It is no part of RULER's average.
func keyValue(name, help string, answer int, draw func(*rand.Rand) string) recall.Kind {
	return recall.Kind{
		Name: name, Group: "keyvalue", Version: version, Help: help, Answer: answer, Questions: 8,
		Score: recall.Word,
		Write: func(references []string) string { return fmt.Sprintf(" %q", references[0]) },
		Draw: func(r recall.Request) (recall.Sample, error) {
			return drawPairs(r, draw), nil
		},
	}
}

func fiveDigits(rng *rand.Rand) string { return fmt.Sprint(10_000 + rng.IntN(90_000)) }

// drawPairs makes a pair for each question and as many others as there are units.
func drawPairs(r recall.Request, draw func(*rand.Rand) string) recall.Sample {
	seen := map[string]bool{}
	fresh := func() string {
		for {
			// Short keys run out before a long text does: then some stand there twice, though never
			// one that is asked for.
			if k := draw(r.Rand); !seen[k] || len(seen) > 40_000 {
				return k
			}
		}
	}
	var asked []pair
	places := make([]float64, r.Questions)
	for i := range places {
		k := fresh()
		seen[k] = true
		asked, places[i] = append(asked, pair{k, []string{draw(r.Rand)}}), r.Rand.Float64()
	}
	n := r.Units + len(asked)
	at := map[int]pair{}
	for i, x := range asked {
		place := int(places[i] * float64(n))
		for at[place].key != "" {
			place = (place + 1) % n
		}
		at[place] = x
	}
	mine := map[string]bool{}
	for _, x := range asked {
		mine[x.key] = true
	}
	lines := make([]string, n)
	for i := range lines {
		x, ok := at[i]
		for !ok {
			if x = (pair{fresh(), []string{draw(r.Rand)}}); !mine[x.key] {
				seen[x.key], ok = true, true
			}
		}
		lines[i] = fmt.Sprintf("%q: %q", x.key, x.values[0])
	}
	s := recall.Sample{
		Context: "Extract the value corresponding to the specified key in the JSON object below." +
			"\n\nJSON data:\n{" + strings.Join(lines, ",\n ") + "}",
	}
	for _, x := range asked {
		s.Questions = append(s.Questions, recall.Question{
			Text:   "\n\nKey: \"" + x.key + "\"\n",
			Prefix: "Corresponding value:", References: x.values,
		})
	}
	return s
}
