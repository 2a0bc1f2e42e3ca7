package evals

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Prompt is one passkey question, fitted to a length in tokens.
type Prompt struct {
	// Tokens is the prompt in the model's tokens, BOS included: Length less the tokens kept for the
	// answer.
	Tokens []int
	// Text is the prompt as a person would send it. The tokenizer makes Tokens of it if
	// Retokenizes.
	Text string
	// Key is the digits to be found; Answer its tokens as they would follow the prompt.
	Key    string
	Answer []int
	// NeedleStart is the token at which the needle begins, to within a token.
	NeedleStart int
	// Retokenizes is false where no trimming of the text gave the exact number of tokens; Tokens
	// then is the pieces' tokens joined, which the tokenizer alone would not produce.
	Retokenizes bool

	length int // asked for
}

// Sample returns prompt and answer to be scored: the answer only. An answer that is shorter than
// the room kept for it is followed by a filler, so that the rung is the one of Length.
func (p *Prompt) Sample() Sample {
	tokens := append(slices.Clone(p.Tokens), p.Answer...)
	for last := tokens[len(tokens)-1]; len(tokens) < p.length; {
		tokens = append(tokens, last)
	}
	return Sample{
		Tokens: tokens,
		Scored: [][]Span{{{len(p.Tokens), len(p.Tokens) + len(p.Answer)}}},
	}
}

// promptBuilder makes prompts for one model and one set of options (already effective).
type promptBuilder struct {
	e   Engine
	o   PasskeyOptions
	hay haystack
	// rate is the filler's tokens per byte, about: where to begin when fitting. It does not depend
	// on what was fitted before, so that neither do prompts.
	rate float64
}

// needle is a line to be hidden and where: 0 before all filler, 1 after it.
type needle struct {
	depth float64
	text  string
	asked bool
}

// draft is a prompt before it is fitted: everything but the amount of filler.
type draft struct {
	intro, question string
	needles         []needle // ascending by depth
	start           int      // of the filler in the haystack
	key             string
}

// build makes the prompt of one trial. All randomness comes from (seed, length, depth, trial), so a
// grid with more lengths or depths repeats the trials of a smaller one.
func (b *promptBuilder) build(length int, depth float64, trial int) (*Prompt, error) {
	return b.finish(b.draft(length, depth, trial), length)
}

// finish fits a draft.
func (b *promptBuilder) finish(d draft, length int) (*Prompt, error) {
	answer, err := b.answer(d)
	if err != nil {
		return nil, err
	}
	if len(answer) > b.o.AnswerTokens {
		return nil, fmt.Errorf("answer tokens %d are fewer than the %d that key %s takes in this "+
			"model", b.o.AnswerTokens, len(answer), d.key)
	}
	p, err := b.fit(d, length-b.o.AnswerTokens, length)
	if err != nil {
		return nil, err
	}
	if len(p.Tokens) != length-b.o.AnswerTokens {
		return nil, fmt.Errorf("prompt has %d tokens instead of %d", len(p.Tokens),
			length-b.o.AnswerTokens)
	}
	p.Key, p.Answer, p.length = d.key, answer, length
	return p, nil
}

func (b *promptBuilder) draft(length int, depth float64, trial int) draft {
	rng := rand.New(rand.NewPCG(b.o.Seed,
		uint64(length)<<32^uint64(trial)^math.Float64bits(depth)*0x9e3779b97f4a7c15))
	t := b.o.Template
	names := rng.Perm(len(nameWords))
	keys := map[string]bool{}
	key := func() string {
		for {
			low := int64(math.Pow10(b.o.Digits - 1))
			k := strconv.FormatInt(low+rng.Int64N(9*low), 10)
			if !keys[k] {
				keys[k] = true
				return k
			}
		}
	}
	name := nameWords[names[0]]
	d := draft{intro: fill(t.Intro, name, ""), question: fill(t.Question, name, ""), key: key()}
	d.needles = []needle{{depth, fill(t.Needle, name, d.key), true}}
	for i := range t.Distractors {
		d.needles = append(d.needles, needle{
			rng.Float64(),
			fill(t.Needle, nameWords[names[i+1]], key()), false,
		})
	}
	sort.SliceStable(d.needles,
		func(i, j int) bool { return d.needles[i].depth < d.needles[j].depth })
	d.start = b.hay.begin(rng)
	return d
}

// answer returns the tokens that make the key when they follow the question. The tokens of a space
// or a digit depend on the text before them, so those of question and key are compared with those
// of the question.
func (b *promptBuilder) answer(d draft) ([]int, error) {
	without, err := b.e.Tokenize(d.question, false)
	if err != nil {
		return nil, fmt.Errorf("cannot tokenize the question: %w", err)
	}
	with, err := b.e.Tokenize(d.question+" "+d.key, false)
	if err != nil {
		return nil, fmt.Errorf("cannot tokenize the answer: %w", err)
	}
	if len(with) > len(without) && slices.Equal(with[:len(without)], without) {
		return with[len(without):], nil
	}
	// The question's last token merges with the answer's first: the prompt, which ends with the
	// question, cannot be followed by those tokens.
	return b.e.Tokenize(" "+d.key, false)
}

// assemble joins the pieces around size bytes of filler and puts blank more separators before the
// question. before is the length in bytes of what stands before the needle asked for.
func (b *promptBuilder) assemble(d draft, size, blank int) (text string, before int) {
	filler := b.hay.take(d.start, size)
	var s strings.Builder
	s.WriteString(d.intro)
	end := b.o.Template.separator()
	line := func(part string) {
		part = strings.Trim(part, " ")
		s.WriteString(part)
		if part != "" && !strings.HasSuffix(part, "\n") {
			s.WriteString(end)
		}
	}
	at := 0
	for _, n := range d.needles {
		to := max(at, boundary(filler, n.depth))
		line(filler[at:to])
		at = to
		if n.asked {
			before = s.Len()
		}
		s.WriteString(n.text)
	}
	line(filler[at:])
	s.WriteString(strings.Repeat(end, blank))
	s.WriteString(d.question)
	return s.String(), before
}

// boundary returns the end of a sentence or line nearest to depth in text, or an end of text.
func boundary(text string, depth float64) int {
	want := int(math.Round(depth * float64(len(text))))
	ends := func(i int) bool {
		if i == 0 || i == len(text) || text[i-1] == '\n' {
			return true
		}
		return i >= 2 && text[i-1] == ' ' && strings.IndexByte(".!?", text[i-2]) >= 0
	}
	for off := 0; ; off++ {
		if i := want - off; i >= 0 && ends(i) {
			return i
		}
		if i := want + off; i <= len(text) && ends(i) {
			return i
		}
	}
}

// fit finds the amount of filler with which the text has exactly target tokens. The count grows
// with the filler, though not at every byte and not by one, since pieces merge: so the amount is
// bracketed, and what lies near is tried, with up to three empty lines (or spaces). Failing that,
// token ids are joined.
func (b *promptBuilder) fit(d draft, target, length int) (*Prompt, error) {
	counts := map[int]int{}
	count := func(size int) (int, error) {
		if n, ok := counts[size]; ok {
			return n, nil
		}
		text, _ := b.assemble(d, size, 0)
		ids, err := b.e.Tokenize(text, true)
		if err != nil {
			return 0, fmt.Errorf("cannot tokenize a prompt: %w", err)
		}
		counts[size] = len(ids)
		return len(ids), nil
	}
	least, err := count(0)
	if err != nil {
		return nil, err
	}
	if least > target {
		return nil,
			fmt.Errorf("length %d is too small for the prompt %q: without filler it takes %d "+
				"tokens and %d are kept for the answer, so ask for at least %d",
				length, b.o.Template.Name, least, b.o.AnswerTokens, least+b.o.AnswerTokens)
	}
	size, err := b.bracket(count, target, length)
	if err != nil {
		return nil, err
	}
	near := b.near(d, size)
	for blank := range 4 {
		for _, size := range near {
			if n, ok := counts[size]; ok && blank == 0 && n != target {
				continue
			}
			text, before := b.assemble(d, size, blank)
			ids, err := b.e.Tokenize(text, true)
			if err != nil {
				return nil, err
			}
			if len(ids) != target {
				continue
			}
			head, err := b.e.Tokenize(text[:before], true)
			if err != nil {
				return nil, err
			}
			return &Prompt{Tokens: ids, Text: text, NeedleStart: len(head), Retokenizes: true}, nil
		}
	}
	return b.join(d, target, size)
}

// bracket returns a size of filler that gives target tokens, or else the largest found that gives
// fewer while the next byte gives more. It interpolates, and bisects now and then, since
// interpolation alone can creep.
func (b *promptBuilder) bracket(count func(size int) (int, error), target, length int) (int,
	error,
) {
	lo, hi, nhi := 0, -1, 0 // lo has too few tokens; hi, once it is known, too many
	nlo, err := count(0)
	if err != nil || nlo == target {
		return 0, err
	}
	at := int(float64(target-nlo) / b.rate)
	for step := 0; hi != lo+1; step++ {
		if at = max(at, lo+1); hi >= 0 {
			at = min(at, hi-1)
		}
		if at > 1024*target {
			return 0, fmt.Errorf("tokenizer gives fewer than %d tokens for %d bytes of filler: "+
				"cannot fit the prompt", target, at)
		}
		all := b.hay.most > 0 && at >= b.hay.most
		if all {
			at = b.hay.most
		}
		n, err := count(at)
		switch {
		case err != nil || n == target:
			return at, err
		case n > target:
			hi, nhi = at, n
		case all:
			return 0, fmt.Errorf("haystack %q gives a prompt of %d tokens and %d are needed for "+
				"length %d: give a longer text", b.o.Haystack.Name, n, target, length)
		default:
			lo, nlo = at, n
		}
		switch {
		case hi < 0:
			// Continue as far as seems to be missing and a little more, after some misses twice as
			// far each time.
			at = lo + int(float64(target-nlo)*1.05/b.rate)<<min(max(0, step-3), 10) + 1
		case step%4 == 3:
			at = (lo + hi) / 2
		default:
			at = lo + int(float64(hi-lo)*float64(target-nlo)/float64(nhi-nlo))
		}
	}
	return lo, nil
}

// near lists sizes to try around one that fits or almost does: ends of words first, for the look of
// it, then every byte.
func (b *promptBuilder) near(d draft, size int) []int {
	const reach = 24
	last := size + reach
	if b.hay.most > 0 {
		last = min(last, b.hay.most)
	}
	text := b.hay.take(d.start, last+1)
	var words, others []int
	for off := range reach + 1 {
		for _, at := range []int{size - off, size + off} {
			switch {
			case at < 0 || at > last || off == 0 && len(words)+len(others) > 0:
			case len(words) < 4 && (at == 0 || at < len(text) &&
				(text[at] == ' ' || text[at] == '\n')):
				words = append(words, at)
			default:
				others = append(others, at)
			}
		}
	}
	return append(words, others...)
}

// join makes the prompt of the tokens of its pieces, the filler's cut to what is missing.
func (b *promptBuilder) join(d draft, target, size int) (*Prompt, error) {
	pieces := make([][]int, len(d.needles))
	head, err := b.e.Tokenize(d.intro, true)
	if err != nil {
		return nil, err
	}
	used := len(head)
	for i, n := range d.needles {
		if pieces[i], err = b.e.Tokenize(b.o.Template.separator()+n.text, false); err != nil {
			return nil, err
		}
		used += len(pieces[i])
	}
	tail, err := b.e.Tokenize(b.o.Template.separator()+d.question, false)
	if err != nil {
		return nil, err
	}
	missing := target - used - len(tail)
	if missing < 0 {
		return nil, fmt.Errorf("the prompt %q cannot be fitted to %d tokens: ask for a length of "+
			"at least %d", b.o.Template.Name, target, used+len(tail)+b.o.AnswerTokens)
	}
	var filler []int
	for want := size + 64; len(filler) < missing; want *= 2 {
		if b.hay.most > 0 && want > 2*b.hay.most {
			return nil, fmt.Errorf("haystack %q is too short for a prompt of %d tokens: give a "+
				"longer text", b.o.Haystack.Name, target)
		}
		if want > 1024*(target+size+64) {
			return nil, fmt.Errorf("tokenizer gives %d tokens for %d bytes of filler: cannot fit "+
				"the prompt", len(filler), want/2)
		}
		if filler, err = b.e.Tokenize(b.hay.take(d.start, want), false); err != nil {
			return nil, err
		}
	}
	tokens, spans := weave(head, filler[:missing], d.needles, pieces)
	p := &Prompt{Tokens: append(tokens, tail...)}
	for i, n := range d.needles {
		if n.asked {
			p.NeedleStart = spans[i].To
		}
	}
	p.Text, err = b.e.Detokenize(p.Tokens)
	return p, err
}

// weave puts the tokens of needles into filler, each at its depth, after head. spans are where
// filler is: before each needle and after the last.
func weave(head, filler []int, needles []needle, pieces [][]int) (tokens []int, spans []Span) {
	tokens = head
	at := 0
	fillTo := func(to int) {
		spans = append(spans, Span{len(tokens), len(tokens) + to - at})
		tokens = append(tokens, filler[at:to]...)
		at = to
	}
	for i, n := range needles {
		fillTo(max(at, int(math.Round(n.depth*float64(len(filler))))))
		tokens = append(tokens, pieces[i]...)
	}
	fillTo(len(filler))
	return tokens, spans
}

// haystack is filler: either a sentence repeated without end or a text that is used once.
type haystack struct {
	text string
	most int // bytes that can be taken, 0 without limit
}

// begin draws where filler begins: at the start of a repeated sentence, at the beginning of any
// line of a text.
func (h haystack) begin(rng *rand.Rand) int {
	if h.most == 0 {
		return 0
	}
	at := rng.IntN(len(h.text))
	if i := strings.IndexByte(h.text[at:], '\n'); i >= 0 && at+i+1 < len(h.text) {
		return at + i + 1
	}
	return 0
}

// take returns size bytes from start on, going round at the end, cut back to whole runes.
func (h haystack) take(start, size int) string {
	if h.most > 0 {
		size = min(size, h.most)
	}
	var s strings.Builder
	s.Grow(size)
	for at := start; s.Len() < size; at = 0 {
		s.WriteString(h.text[at:min(len(h.text), at+size-s.Len())])
	}
	text := s.String()
	for n := len(text); n > 0 && n > len(text)-utf8.UTFMax; n-- {
		if utf8.RuneStart(text[n-1]) {
			if !utf8.FullRuneInString(text[n-1:]) {
				text = text[:n-1]
			}
			break
		}
	}
	return text
}
