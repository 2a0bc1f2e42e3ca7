package evals

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// tokenizer is what the fakes differ in.
type tokenizer interface {
	tokenize(text string, special bool) []int
	detokenize(tokens []int) string
}

// byteTokenizer has a token per byte and BOS 256.
type byteTokenizer struct{ bos bool }

func (t byteTokenizer) tokenize(text string, special bool) []int {
	var ids []int
	if special && t.bos {
		ids = append(ids, 256)
	}
	for _, b := range []byte(text) {
		ids = append(ids, int(b))
	}
	return ids
}

func (byteTokenizer) detokenize(tokens []int) string {
	var s strings.Builder
	for _, id := range tokens {
		if id < 256 {
			s.WriteByte(byte(id))
		}
	}
	return s.String()
}

// mergeTokenizer takes the longest piece that matches, across sentences, lines and digits, and bytes otherwise: cutting
// text at any place changes the tokens before the cut. Ids are 300 + index into pieces.
type mergeTokenizer struct{ pieces []string }

func newMergeTokenizer() mergeTokenizer {
	return mergeTokenizer{[]string{
		"The grass is green. The", " sky is blue. The sun", " sky", " is", ".\nThe", ". The", " green", "\nWhat is the", " pass key? The pass key is",
		" is 1", " is 2", "12", "34", "90", "77", " again.\n", "again.\nWhat", " there", "ere ", " go. There", "an", "and", "in", "is 9", " 8", ".\n", "e sun is yellow. Here we go",
	}}
}

func (t mergeTokenizer) tokenize(text string, special bool) []int {
	var ids []int
	if special {
		ids = append(ids, 256, 257) // a model with two tokens before every text
	}
	for len(text) > 0 {
		id, n := int(text[0]), 1
		for i, p := range t.pieces {
			if len(p) > n && p[0] == text[0] && strings.HasPrefix(text, p) {
				id, n = 300+i, len(p)
			}
		}
		ids = append(ids, id)
		text = text[n:]
	}
	return ids
}

func (t mergeTokenizer) detokenize(tokens []int) string {
	var s strings.Builder
	for _, id := range tokens {
		if id >= 300 {
			s.WriteString(t.pieces[id-300])
		} else if id < 256 {
			s.WriteByte(byte(id))
		}
	}
	return s.String()
}

// pairTokenizer has two tokens per byte: only even counts can be reached by trimming text.
type pairTokenizer struct{}

func (pairTokenizer) tokenize(text string, _ bool) []int {
	var ids []int
	for _, b := range []byte(text) {
		ids = append(ids, int(b>>4), 16+int(b&15))
	}
	return ids
}

func (pairTokenizer) detokenize(tokens []int) string {
	var s strings.Builder
	for i := 0; i+1 < len(tokens); i++ {
		if tokens[i] < 16 && tokens[i+1] >= 16 {
			s.WriteByte(byte(tokens[i]<<4 | tokens[i+1]&15))
		}
	}
	return s.String()
}

// fakeEngine is a bigram model with known probabilities that finds passkeys up to a reach and no further. The reach is the
// ladder's top rung, or original without one; beyond it every token costs penalty nats more.
type fakeEngine struct {
	tokenizer
	original, most int
	ladder         *ropescale.Ladder
	calls          []int // lengths that the model was asked for
	bad            float64
}

func newFake(t tokenizer) *fakeEngine { return &fakeEngine{tokenizer: t, original: 64, most: 1 << 20} }

const penalty = 1.5

func (f *fakeEngine) Info() Info {
	return Info{Model: "fake", Digest: "sha256:0", Architecture: "bigram", Engine: "fake", OriginalContextLength: f.original, VocabSize: 512, MaxLength: f.most}
}

func (f *fakeEngine) Tokenize(text string, special bool) ([]int, error) {
	return f.tokenize(text, special), nil
}

func (f *fakeEngine) Detokenize(tokens []int) (string, error) { return f.detokenize(tokens), nil }

func (f *fakeEngine) SetLadder(l *ropescale.Ladder) error {
	if l != nil && len(l.Rungs) == 0 {
		return fmt.Errorf("ladder has no rungs")
	}
	f.ladder = l
	return nil
}

func (f *fakeEngine) reach() int {
	if f.ladder == nil {
		return f.original
	}
	return f.ladder.Rungs[len(f.ladder.Rungs)-1].Length
}

// bigram is -ln p(next | last): half for the token that follows in order, the other half shared by the rest.
func bigram(last, next int) float64 {
	if next == last+1 {
		return math.Ln2
	}
	return math.Ln2 + math.Log(511)
}

func (f *fakeEngine) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.calls = append(f.calls, len(tokens))
	var values []float64
	for i := from; i < len(tokens); i++ {
		v := bigram(tokens[i-1], tokens[i])
		if i >= f.reach() {
			v += penalty
		}
		values = append(values, v+f.bad)
	}
	return values, nil
}

var hidden = regexp.MustCompile(`(?:pass key is|number of \w+ is) ([0-9]+)\.`)

func (f *fakeEngine) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.calls = append(f.calls, len(tokens)+n)
	answer := " 0."
	if found := hidden.FindStringSubmatch(f.detokenize(tokens)); found != nil && len(tokens)+n <= f.reach() {
		answer = " " + found[1] + ". The"
	}
	ids := f.tokenize(answer, false)
	return ids[:min(n, len(ids))], nil
}

func ladderTo(length int) *ropescale.Ladder {
	return &ropescale.Ladder{Version: 1, OriginalContextLength: 64, RopeDimensionCount: 4, Rungs: []ropescale.Rung{{Length: length, AttentionFactor: 1.1, Factors: []float64{1, 4}}}}
}
