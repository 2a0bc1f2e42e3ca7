// Package tasktest has an engine without a model, whose answers are known, and the suite that every
// task of package evals passes.
package tasktest

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Tokenizer is what the fakes differ in.
type Tokenizer interface {
	Encode(text string, special bool) []int
	Decode(tokens []int) string
}

// Bytes has a token per byte and BOS 256.
type Bytes struct{ BOS bool }

func (t Bytes) Encode(text string, special bool) []int {
	var ids []int
	if special && t.BOS {
		ids = append(ids, 256)
	}
	for _, b := range []byte(text) {
		ids = append(ids, int(b))
	}
	return ids
}

func (Bytes) Decode(tokens []int) string {
	var s strings.Builder
	for _, id := range tokens {
		if id < 256 {
			s.WriteByte(byte(id))
		}
	}
	return s.String()
}

// Merges takes the longest piece that matches, across sentences, lines and digits, and bytes
// otherwise: cutting text at any place changes the tokens before the cut. Ids are 300 + index into
// pieces.
type Merges struct{ pieces []string }

func NewMerges() Merges {
	return Merges{[]string{
		"The grass is green. The", " sky is blue. The sun", " sky", " is", ".\nThe", ". The",
		" green", "\nWhat is the", " pass key? The pass key is",
		" is 1", " is 2", "12", "34", "90", "77", " again.\n", "again.\nWhat", " there", "ere ",
		" go. There", "an", "and", "in", "is 9", " 8", ".\n", "e sun is yellow. Here we go",
	}}
}

func (t Merges) Encode(text string, special bool) []int {
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

func (t Merges) Decode(tokens []int) string {
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

// Pairs has two tokens per byte: only even counts can be reached by trimming text.
type Pairs struct{}

func (Pairs) Encode(text string, _ bool) []int {
	var ids []int
	for _, b := range []byte(text) {
		ids = append(ids, int(b>>4), 16+int(b&15))
	}
	return ids
}

func (Pairs) Decode(tokens []int) string {
	var s strings.Builder
	for i := 0; i+1 < len(tokens); i++ {
		if tokens[i] < 16 && tokens[i+1] >= 16 {
			s.WriteByte(byte(tokens[i]<<4 | tokens[i+1]&15))
		}
	}
	return s.String()
}

// Engine is a bigram model with known probabilities that finds passkeys up to a reach and no
// further. The reach is the ladder's top rung, or original without one; beyond it every token costs
// penalty nats more.
type Engine struct {
	Tokenizer
	Original, Most int
	Ladder         *ropescale.Ladder
	Calls          []int    // lengths that the model was asked for
	Texts          []string // what it was asked, where Keep is set
	Keep           bool
	Bad            float64 // added to every NLL
}

// New is an engine of a model trained for 64 tokens.
func New(t Tokenizer) *Engine { return &Engine{Tokenizer: t, Original: 64, Most: 1 << 20} }

// Penalty is what each token beyond the reach costs more, in nats.
const Penalty = 1.5

func (f *Engine) Info() evals.Info {
	return evals.Info{
		Model: "fake", Digest: "sha256:0", Architecture: "bigram", Engine: "fake",
		OriginalContextLength: f.Original, VocabSize: 512, MaxLength: f.Most,
	}
}

func (f *Engine) Tokenize(text string, special bool) ([]int, error) {
	return f.Encode(text, special), nil
}

func (f *Engine) Detokenize(tokens []int) (string, error) { return f.Decode(tokens), nil }

func (f *Engine) SetLadder(l *ropescale.Ladder) error {
	if l != nil && len(l.Rungs) == 0 {
		return fmt.Errorf("ladder has no rungs")
	}
	f.Ladder = l
	return nil
}

func (f *Engine) asked(tokens []int, length int) {
	f.Calls = append(f.Calls, length)
	if f.Keep {
		f.Texts = append(f.Texts, f.Decode(tokens))
	}
}

func (f *Engine) reach() int {
	if f.Ladder == nil {
		return f.Original
	}
	return f.Ladder.Rungs[len(f.Ladder.Rungs)-1].Length
}

// Bigram is -ln p(next | last): half for the token that follows in order, the other half shared by
// the rest.
func Bigram(last, next int) float64 {
	if next == last+1 {
		return math.Ln2
	}
	return math.Ln2 + math.Log(511)
}

func (f *Engine) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.asked(tokens, len(tokens))
	var values []float64
	for i := from; i < len(tokens); i++ {
		v := Bigram(tokens[i-1], tokens[i])
		if i >= f.reach() {
			v += Penalty
		}
		values = append(values, v+f.Bad)
	}
	return values, nil
}

// Hidden finds a needle of any template up to its key, and the key.
var Hidden = func() *regexp.Regexp {
	var all []string
	for _, t := range evals.Templates() {
		before, _, _ := strings.Cut(t.Needle, "{key}")
		all = append(all, strings.ReplaceAll(regexp.QuoteMeta(before), `\{name\}`, `\w+`))
	}
	return regexp.MustCompile(`(?:` + strings.Join(all, "|") + `)([0-9]+)`)
}()

func (f *Engine) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.asked(tokens, len(tokens)+n)
	answer := " 0."
	if found := Hidden.FindStringSubmatch(f.Decode(tokens)); found != nil &&
		len(tokens)+n <= f.reach() {
		answer = " " + found[1] + ". The"
	}
	ids := f.Encode(answer, false)
	return ids[:min(n, len(ids))], nil
}

// LadderTo is a ladder of one rung.
func LadderTo(length int) *ropescale.Ladder {
	return &ropescale.Ladder{
		Version: 1, OriginalContextLength: 64, RopeDimensionCount: 4,
		Rungs: []ropescale.Rung{{Length: length, AttentionFactor: 1.1, Factors: []float64{1, 4}}},
	}
}
