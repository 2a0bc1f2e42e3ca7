package recall

import (
	"strings"
)

// All is RULER's metric string_match_all: the share of references that are in the answer, whatever
// their case.
func All(answer string, references []string) float64 {
	return float64(found(answer, references)) / float64(len(references))
}

// Any is RULER's metric string_match_part: 1 when one of the references is in the answer.
//
// lm-evaluation-harness 0.4.13 has a function of the same name that returns the share of the
// references instead, so its figures for qa_1, whose questions have several, are lower.
func Any(answer string, references []string) float64 {
	return float64(min(found(answer, references), 1))
}

func found(answer string, references []string) (n int) {
	answer = strings.ToLower(clean(answer))
	for _, r := range references {
		if strings.Contains(answer, strings.ToLower(r)) {
			n++
		}
	}
	return n
}

// clean is what RULER does with an answer before it is scored: control characters become line
// breaks, and blanks at both ends go.
func clean(answer string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 0x20 {
			return '\n'
		}
		return r
	}, strings.TrimSpace(answer)))
}

// Word is 1 when the first reference is a word of the answer, whole: what InfiniteBench takes as an
// exact match of key-value retrieval.
func Word(answer string, references []string) float64 {
	for _, w := range strings.FieldsFunc(answer, func(r rune) bool {
		return strings.ContainsRune(" \t\n:\"'.,?!{}", r)
	}) {
		if w == references[0] {
			return 1
		}
	}
	return 0
}
