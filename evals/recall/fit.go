package recall

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"github.com/longrope/longrope/evals"
)

// generator makes the samples of a task at a length. Samples are made when they are asked for,
// since many long ones do not fit into memory.
type generator struct {
	kind   Kind
	engine evals.Engine
	chat   func(user string) (string, error) // nil: plain prompts
	words  []string
	once   int
	data   any
	seed   uint64
	length int
	each   int // questions to a context
	limit  int // samples

	units   int     // of haystack in the first sample
	rate    float64 // tokens of a unit, about
	context int     // that made are the prompts of
	made    []prompt
}

// errUnfit is that a prompt does not fit a length with any amount of haystack.
var errUnfit = errors.New("does not fit")

// prompt is a question with its context, in text and in tokens.
type prompt struct {
	sample, context int
	input, prefix   string // as RULER's files have them
	text            string // as the model gets it
	template        bool   // it is in a chat template
	tokens          []int  // nil where the engine cannot tokenize
	size            int    // how many tokens those are
	references      []string
}

// draw makes the sample of a context with n units of haystack.
func (g *generator) draw(context, n int) (Sample, error) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d %d", g.kind.Name, g.length, context)
	questions := min(g.each, g.limit-context*g.each)
	return g.kind.Draw(Request{
		Rand: rand.New(rand.NewPCG(g.seed, h.Sum64())), Units: n, Questions: questions,
		Length: g.length, Index: context, Words: g.words, Once: g.once, Data: g.data,
	})
}

// prompts are those of a sample, in tokens.
func (g *generator) prompts(context int, s Sample) (all []prompt, most int, err error) {
	for i, q := range s.Questions {
		p := prompt{
			sample: context*g.each + i, context: context, references: q.References,
			input: s.Context + q.Text, prefix: q.Prefix,
		}
		if err := p.encode(g.engine, g.chat); err != nil {
			return nil, 0, err
		}
		most = max(most, len(p.tokens))
		all = append(all, p)
	}
	return all, most, nil
}

// continued are the tokens of a prompt and what follows it.
func (p *prompt) continued(e evals.Engine, more string) ([]int, error) {
	all := prompt{text: p.text + more, template: p.template}
	err := all.tokenize(e)
	return all.tokens, err
}

// encode makes text and tokens of a prompt.
func (p *prompt) encode(e evals.Engine, chat func(string) (string, error)) (err error) {
	p.text = p.input + p.prefix
	if chat != nil {
		if p.text, err = chat(p.input); err != nil {
			return fmt.Errorf("chat template: %w", err)
		}
		p.text += p.prefix
		p.template = true
	}
	return p.tokenize(e)
}

// tokenize makes tokens of the text.
func (p *prompt) tokenize(e evals.Engine) (err error) {
	p.tokens, err = e.Tokenize(p.text, true)
	if errors.Is(err, evals.ErrNoTokenizer) && p.size > 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot tokenize a prompt: %w", err)
	}
	if p.template { // which may have a BOS of its own
		bos, err := evals.BOS(e)
		if err != nil {
			return err
		}
		if n := len(bos); n > 0 && len(p.tokens) > 2*n && p.tokens[n] == bos[0] &&
			p.tokens[2*n-1] == bos[n-1] {
			p.tokens = p.tokens[n:]
		}
	}
	p.size = len(p.tokens)
	return nil
}

// fit finds the amount of haystack for a length, by the first sample. An error that is errUnfit
// says what length would be enough.
func (g *generator) fit() (err error) {
	g.units, g.rate, err = g.largest(g.target(), func(n int) (int, error) {
		s, err := g.draw(0, n)
		if err != nil {
			return 0, err
		}
		_, most, err := g.prompts(0, s)
		return most, err
	})
	return err
}

// target is what a prompt may take, in tokens.
func (g *generator) target() int { return g.length - g.kind.Answer }

// make is the sample of a context, with less haystack than the first one's where that is too long.
func (g *generator) make(context int) ([]prompt, error) {
	for n := g.units; ; {
		s, err := g.draw(context, n)
		if err != nil {
			return nil, err
		}
		all, tokens, err := g.prompts(context, s)
		switch {
		case err != nil || tokens <= g.target():
			return all, err
		case n == 0:
			return nil, g.unfit(tokens)
		}
		n = max(0, n-1-int(float64(tokens-g.target())/g.rate))
	}
}

// prompt is the i-th one of all samples. Those of a context are made once, if they are asked for
// one after the other.
func (g *generator) prompt(i int) (p prompt, err error) {
	if context := i / g.each; g.made == nil || context != g.context {
		g.made = nil
		if g.made, err = g.make(context); err != nil {
			return p, err
		}
		g.context = context
	}
	return g.made[i%g.each], nil
}

// unfit says what length a prompt of so many tokens without haystack needs.
func (g *generator) unfit(tokens int) error {
	return fmt.Errorf("%w: %s takes at least %d tokens in this model, %d of them for the answer, "+
		"and the length is %d", errUnfit, g.kind.Name, tokens+g.kind.Answer, g.kind.Answer,
		g.length)
}

// largest is the largest number of units that gives at most target tokens, and the tokens of a
// unit, about.
func (g *generator) largest(target int, count func(n int) (int, error)) (int, float64, error) {
	least, err := count(0)
	if err != nil {
		return 0, 0, err
	}
	if least > target {
		return 0, 0, g.unfit(least)
	}
	most := g.kind.Units
	if most == 0 {
		most = 1 << 26
	}
	lo, has := 0, least // fits
	hi, over := most+1, 0
	for step := 16; over == 0 && lo < most; {
		n := min(step, most)
		tokens, err := count(n)
		if err != nil {
			return 0, 0, err
		}
		if tokens > target {
			hi, over = n, tokens
			break
		}
		perUnit := max(float64(tokens-least)/float64(n), 0.01)
		lo, has, step = n, tokens, n+min(3*n, 1+int(1.02*float64(target-tokens)/perUnit))
	}
	for k := 0; over > 0 && hi-lo > 1; k++ {
		n := (lo + hi) / 2
		if k%3 < 2 { // between the two, and now and then in the middle, since this can creep
			n = lo + int(float64(hi-lo)*float64(target-has)/float64(over-has))
			n = min(max(n+k%3, lo+1), hi-1)
		}
		tokens, err := count(n)
		if err != nil {
			return 0, 0, err
		}
		if tokens > target {
			hi, over = n, tokens
		} else {
			lo, has = n, tokens
		}
	}
	return lo, max(float64(has-least)/float64(max(lo, 1)), 0.01), nil
}
