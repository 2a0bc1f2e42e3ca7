package evals

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ask puts one question to the model. A prompt that a server cut or refused is noted.
func (r *PasskeyResult) ask(ctx context.Context, e Engine, p *Prompt,
	o PasskeyOptions,
) (PasskeyTrial, error) {
	t := PasskeyTrial{
		PromptTokens: len(p.Tokens), NeedleStart: p.NeedleStart,
		Retokenizes: p.Retokenizes, Key: p.Key,
	}
	generated, err := t.answer(ctx, e, p, o.AnswerTokens)
	if errors.Is(err, ErrUnanswered) {
		t.Note = err.Error()
		return t, nil
	}
	if err != nil {
		return t, err
	}
	t.Correct = integer.FindString(t.Answer) == p.Key
	r.EvaluatedTokens += len(p.Tokens) + generated
	if o.NeedleNLL {
		s := p.Sample()
		means, err := s.Score(ctx, e)
		if err != nil {
			return t, err
		}
		t.NLL = &means[0]
		r.EvaluatedTokens += len(s.Tokens)
	}
	return t, nil
}

// answer asks the model, and returns how many tokens it generated, as far as they can be counted.
func (t *PasskeyTrial) answer(ctx context.Context, e Engine, p *Prompt, most int) (
	n int, err error,
) {
	if a, ok := AsAnswerer(e); ok {
		t.Answer, err = a.Answer(ctx, Ask{Input: p.Text, Tokens: len(p.Tokens), Answer: most})
		return 0, err
	}
	generated, err := e.Generate(ctx, p.Tokens, most)
	if err != nil {
		return 0, err
	}
	t.Answer, err = e.Detokenize(generated)
	return len(generated), err
}

// cell sums up the trials so far of a length and a depth, any depth if negative.
func (r *PasskeyResult) cell(length int, depth float64) PasskeyCell {
	c := PasskeyCell{Length: length, Depth: depth}
	var correct, trials int
	var losses []float64
	for _, t := range r.Details {
		if t.Length != length || depth >= 0 && t.Depth != depth {
			continue
		}
		if t.Note != "" {
			c.Unscored++
			continue
		}
		trials++
		if t.Correct {
			correct++
		}
		if t.NLL != nil {
			losses = append(losses, *t.NLL)
		}
	}
	c.Proportion = NewProportion(correct, trials)
	if len(losses) > 0 {
		mean, _ := MeanStderr(losses)
		c.NLL = &mean
	}
	return c
}

// scored is p where a trial was scored, nil otherwise.
func (c *PasskeyCell) scored(p *float64) *float64 {
	if c.Trials == 0 {
		return nil
	}
	return p
}

// Note says what was not scored and why.
func (r *PasskeyResult) Note() string {
	var notes []string
	for _, c := range r.Lengths {
		for _, t := range r.Details {
			if t.Length == c.Length && t.Note != "" {
				notes = append(notes, fmt.Sprintf("passkey at %d tokens: %d of %d trials not "+
					"scored: %s", c.Length, c.Unscored, c.Unscored+c.Trials, t.Note))
				break
			}
		}
	}
	return strings.Join(notes, "\n")
}
