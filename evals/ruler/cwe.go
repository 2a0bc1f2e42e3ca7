package ruler

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/longrope/longrope/evals/recall"
)

const (
	common  = 10 // words that are asked for
	cweText = "Below is a numbered list of words. In these words, some appear more often than " +
		"others. Memorize the ones that appear most often.\n"
	cweQuestion = "\nQuestion: What are the 10 most common words in the above list?"
	cwePrefix   = " Answer: The top 10 words that appear most often in the list are:"
)

// cwe is common words extraction: a worked example and a list in which ten words are more frequent.
// A unit of haystack is another word of the list.
func cwe(name, help string) recall.Kind {
	return ruler(recall.Kind{
		Name: name, Help: help, Answer: 120, Draw: drawCWE, Score: recall.All,
		Write: func(references []string) string { return " " + numbered(references) },
	})
}

func drawCWE(r recall.Request) (recall.Sample, error) {
	// words of the example, repeats in it, words that are not common at least, repeats
	example, often, seldom, mainOften, mainSeldom := 40, 10, 3, 30, 3
	if r.Length < 4096 {
		example, often, seldom, mainOften, mainSeldom = 20, 3, 1, 6, 1
	}
	list, words := wordList(r.Rand, example, often, seldom)
	intro := cweText + list + cweQuestion + cwePrefix + " " + numbered(words) + "\n"
	list, words = wordList(r.Rand, common+r.Units, mainOften, mainSeldom)
	return recall.Sample{Context: intro + cweText + list, Questions: []recall.Question{{
		Text: cweQuestion, Prefix: cwePrefix, References: words,
	}}}, nil
}

// wordList draws n words and shuffles them: the common ones often, the others seldom.
func wordList(rng *rand.Rand, n, often, seldom int) (list string, frequent []string) {
	known := allWords()
	var words, all []string
	for _, i := range rng.Perm(len(known))[:min(n, len(known))] {
		words = append(words, known[i])
	}
	seen := map[string]bool{}
	for len(words) < n {
		if w := twoWords(rng); !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	for i, w := range words {
		times := seldom
		if i < common {
			times = often
		}
		for range times {
			all = append(all, w)
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return numbered(all), words[:common]
}

// numbered writes "1. word 2. word …".
func numbered(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d. %s", i+1, w)
	}
	return b.String()
}
