package evals

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// ForkOptions say what of a window is scored by forks; zero values are the defaults named.
type ForkOptions struct {
	// Stretches of text are scored, their ends evenly apart and the last one's at the end of the
	// prefix; 0 is 4.
	Stretches int `json:"stretches"`
	// StretchTokens is the length of each; 0 is 128.
	StretchTokens int `json:"stretch_tokens"`
	// Whole has all text of the window scored, in place of stretches: see Forked.Text.
	Whole bool `json:"whole,omitempty"`
	// Keys are hidden in the window, and each is asked for by a fork of its own behind the whole
	// prefix; 0 is none, 90 the most.
	Keys int `json:"keys"`
	// Seed, Digits and Template are those of PasskeyOptions.
	Seed     uint64   `json:"seed"`
	Digits   int      `json:"digits"`
	Template Template `json:"template"`
}

// effective has the defaults filled in, and those of keys in windows of so many tokens.
func (o ForkOptions) effective(e Engine, length int) (ForkOptions, PasskeyOptions, error) {
	if o.Stretches == 0 {
		o.Stretches = 4
	}
	if o.StretchTokens == 0 {
		o.StretchTokens = 128
	}
	switch {
	case o.Stretches < 1 || o.StretchTokens < 1:
		return o, PasskeyOptions{}, fmt.Errorf("%d stretches of %d tokens: ask for at least 1 of 1",
			o.Stretches, o.StretchTokens)
	case o.Keys < 0 || o.Keys > maxForkKeys:
		return o, PasskeyOptions{}, fmt.Errorf("%d keys in a window: ask for 0 to %d",
			o.Keys, maxForkKeys)
	}
	p, err := PasskeyOptions{
		Lengths: []int{length}, Seed: o.Seed, Digits: o.Digits, Template: o.Template,
	}.effective(e)
	o.Digits, o.Template = p.Digits, p.Template
	return o, p, err
}

// maxForkKeys have different digits at their beginning, two each.
const maxForkKeys = 90

// Forked is a window of which little is scored: stretches of its text, and keys hidden in it. All
// of that are forks of one prefix, so an engine that keeps the prefix (Forker) evaluates little.
type Forked struct {
	// Tokens are the prefix.
	Tokens []int
	Forks  []Fork
	// Scored are, for each score, the spans of forks that it is the mean of.
	Scored [][]ForkSpan
	// Text are spans of Tokens. Where there are any, their mean is a score that comes before the
	// others, and Exact gives it.
	Text []Span `json:",omitempty"`
}

// Scores is how many there are.
func (f Forked) Scores() int { return len(f.Scored) + min(len(f.Text), 1) }

// Exact evaluates prefix and forks under a rung, in full, and returns the mean NLL of each score.
func (f Forked) Exact(ctx context.Context, e Forker, g ropescale.Rung) ([]float64, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	from := len(f.Tokens)
	for _, s := range f.Text {
		from = min(from, s.From)
	}
	p, values, err := e.NewPrefix(ctx, f.Tokens, g, from)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var scores []float64
	if len(f.Text) > 0 {
		if len(values) != len(f.Tokens)-from {
			return nil, fmt.Errorf("engine gave %d values for %d scored tokens", len(values),
				len(f.Tokens)-from)
		}
		sum, n := 0.0, 0
		for _, s := range f.Text {
			for i, v := range values[s.From-from : s.To-from] {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					return nil, fmt.Errorf("%w: %v at position %d: check the factors for values "+
						"that overflow", ErrNotFinite, v, s.From+i)
				}
				sum += v
			}
			n += s.To - s.From
		}
		scores = append(scores, sum/float64(n))
	}
	if len(f.Forks) == 0 {
		return scores, nil
	}
	keys, err := f.Score(ctx, p, g)
	return append(scores, keys...), err
}

// ForkSpan is a span of the tokens of a fork, by its place among them.
type ForkSpan struct {
	Fork int
	Span
}

// Computed is how many tokens the prefix takes and how many all forks take. With W windows, R
// renewals of the base and C candidates, a search by forks computes W (R prefix + C forks) tokens;
// by exact readings it computes W C (prefix + forks).
func (f Forked) Computed() (prefix, forks int) {
	for _, fork := range f.Forks {
		forks += len(fork.Tokens) - 1 // the last is scored, no more
	}
	return len(f.Tokens), forks
}

// Check finds what cannot be scored.
func (f Forked) Check() error {
	if f.Scores() == 0 {
		return fmt.Errorf("nothing of %d forks is to be scored", len(f.Forks))
	}
	for _, s := range f.Text {
		if s.From < 1 || s.To <= s.From || s.To > len(f.Tokens) {
			return fmt.Errorf("cannot score tokens %d to %d of %d", s.From, s.To, len(f.Tokens))
		}
	}
	for i, fork := range f.Forks {
		switch {
		case fork.At < 1 || fork.At > len(f.Tokens):
			return fmt.Errorf("fork %d leaves a prefix of %d tokens after %d",
				i, len(f.Tokens), fork.At)
		case fork.From < 1 || fork.From >= len(fork.Tokens):
			return fmt.Errorf("fork %d is scored from token %d of %d",
				i, fork.From, len(fork.Tokens))
		}
	}
	for _, spans := range f.Scored {
		if len(spans) == 0 {
			return fmt.Errorf("a score of %d forks has no span", len(f.Forks))
		}
		for _, p := range spans {
			if p.Fork < 0 || p.Fork >= len(f.Forks) {
				return fmt.Errorf("there is no fork %d of %d to score", p.Fork, len(f.Forks))
			}
			from, n := f.Forks[p.Fork].From, len(f.Forks[p.Fork].Tokens)
			if p.From < from || p.To <= p.From || p.To > n {
				return fmt.Errorf("cannot score tokens %d to %d of fork %d, from %d of %d", p.From,
					p.To, p.Fork, from, n)
			}
		}
	}
	return nil
}

// Score evaluates the forks of a prefix of f.Tokens under a rung and returns the mean NLL of each
// score, in nats. Values that are not finite are ErrNotFinite.
func (f Forked) Score(ctx context.Context, p Prefix, g ropescale.Rung) ([]float64, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	values, err := p.Score(ctx, g, f.Forks)
	if err != nil {
		return nil, err
	}
	for i, fork := range f.Forks {
		if len(values) != len(f.Forks) || len(values[i]) != len(fork.Tokens)-fork.From {
			return nil, fmt.Errorf("engine gave values of other tokens than those of %d forks",
				len(f.Forks))
		}
		for _, v := range values[i] {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("%w: %v after %d tokens: %s", ErrNotFinite, v, fork.At,
					"check the factors for values that overflow")
			}
		}
	}
	means := make([]float64, len(f.Scored))
	for k, spans := range f.Scored {
		n := 0
		for _, p := range spans {
			from := f.Forks[p.Fork].From
			for _, v := range values[p.Fork][p.From-from : p.To-from] {
				means[k] += v
			}
			n += p.To - p.From
		}
		means[k] /= float64(n)
	}
	return means, nil
}

// HideForks lays forks over windows of text, with keys hidden in them as HideKeys does. Score 0 is
// that of the text, without what was added to it, score 1+k that of key k. Where there are several
// keys, the question gives the first digit of the one it asks for, or the first two where there are
// more than 9, and the score is that of its other tokens.
//
// Windows have one length, BOS included, at which the longest question ends. It is an error where
// less than half of the length would be left to text.
func HideForks(e Engine, windows [][]int, o ForkOptions) ([]Forked, error) {
	bos, err := BOS(e)
	if err != nil {
		return nil, err
	}
	var all []Forked
	for i, w := range windows {
		eff, p, err := o.effective(e, len(w))
		if err != nil {
			return nil, err
		}
		b := &promptBuilder{e: e, o: p}
		var depths []float64
		for k := range o.Keys {
			share := float64(i) / float64(len(windows)) // so that windows differ
			depths = append(depths, (float64(k)+share)/float64(o.Keys))
		}
		f, err := b.fork(w, len(bos), eff, depths, i)
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i+1, err)
		}
		all = append(all, f)
	}
	return all, nil
}

// fork hides a key at each depth of a window behind its BOS and lays forks over it.
func (b *promptBuilder) fork(
	window []int, bos int, o ForkOptions, depths []float64, number int,
) (Forked, error) {
	h := hiding{head: window[:bos]}
	if len(depths) > 0 {
		var err error
		if h, err = b.questions(len(window), depths, number); err != nil {
			return Forked{}, err
		}
	}
	left := len(window) - len(h.head) - h.added
	if left < len(window)/2 {
		return Forked{}, fmt.Errorf("a prompt with %d keys leaves %d of %d tokens to text",
			len(depths), max(left, 0), len(window))
	}
	tokens, spans := weave(slices.Clone(h.head), window[bos:][:left], h.needles, h.pieces)
	f := Forked{Tokens: tokens}
	if o.Whole {
		f.Text = inner(spans)
	} else {
		forks, scored, err := stretches(tokens, spans, o)
		if err != nil {
			return Forked{}, err
		}
		f.Forks, f.Scored = forks, [][]ForkSpan{scored}
	}
	for _, q := range h.questions {
		q.At = len(tokens)
		f.Scored = append(f.Scored, []ForkSpan{{len(f.Forks), Span{q.From, len(q.Tokens)}}})
		f.Forks = append(f.Forks, q)
	}
	return f, nil
}

// hiding is all that keys add to a window.
type hiding struct {
	head      []int // in place of the window's BOS
	needles   []needle
	pieces    [][]int // tokens of each needle
	questions []Fork  // one for each needle; At is still open
	added     int     // tokens of all needles and of the longest question
}

// questions draws keys, and what is asked for them.
func (b *promptBuilder) questions(length int, depths []float64, number int) (h hiding, err error) {
	rng := rand.New(rand.NewPCG(b.o.Seed, uint64(length)<<32^uint64(number)))
	t, name := b.o.Template, nameWords[rng.IntN(len(nameWords))]
	if h.head, err = b.e.Tokenize(fill(t.Intro, name, ""), true); err != nil {
		return h, err
	}
	d := draft{question: fill(t.Question, name, "")}
	question, err := b.e.Tokenize(t.separator()+d.question, false)
	if err != nil {
		return h, err
	}
	longest := 0
	from, to := 1, 10 // the digits that a key begins with, all different
	if len(depths) > 9 {
		from, to = 10, 100
	}
	leads := rng.Perm(to - from)
	for k, depth := range depths {
		key, answer, given, err := b.cued(d, from+leads[k], len(depths) > 1, rng)
		if err != nil {
			return h, err
		}
		h.needles = append(h.needles, needle{depth, fill(t.Needle, name, key), true})
		piece, err := b.e.Tokenize(t.separator()+h.needles[k].text, false)
		if err != nil {
			return h, err
		}
		h.pieces = append(h.pieces, piece)
		h.added += len(piece)
		q := Fork{Tokens: slices.Concat(question, answer), From: len(question) + given}
		h.questions = append(h.questions, q)
		longest = max(longest, len(q.Tokens))
	}
	h.added += longest
	return h, nil
}

// inner are spans without the first token of each, which follows something else.
func inner(spans []Span) (text []Span) {
	for _, s := range spans {
		if s.From++; s.From < s.To {
			text = append(text, s)
		}
	}
	return text
}

// stretches are forks that repeat the tokens of a prefix, and the spans of them that are text: the
// given spans of tokens are, but for the first token of each, which follows something else.
func stretches(tokens []int, text []Span, o ForkOptions) ([]Fork, []ForkSpan, error) {
	var forks []Fork
	var scored []ForkSpan
	if o.Stretches*(o.StretchTokens+2) > len(tokens) {
		return nil, nil, fmt.Errorf("%d tokens are too short for %d stretches of %d: %s",
			len(tokens), o.Stretches, o.StretchTokens, "ask for fewer or shorter ones")
	}
	for k := range o.Stretches {
		end := len(tokens) * (k + 1) / o.Stretches
		at := end - o.StretchTokens - 1
		for _, s := range text {
			if from, to := max(s.From, at)+1, min(s.To, end); from < to {
				scored = append(scored, ForkSpan{k, Span{from - at, to - at}})
			}
		}
		forks = append(forks, Fork{At: at, Tokens: tokens[at:end], From: 1})
	}
	if len(scored) == 0 {
		return nil, nil, fmt.Errorf("keys leave no text in %d stretches of %d tokens: %s",
			o.Stretches, o.StretchTokens, "ask for fewer keys or longer stretches")
	}
	return forks, scored, nil
}
