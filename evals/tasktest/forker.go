package tasktest

import (
	"context"
	"errors"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Forker is an Engine that keeps prefixes. It computes the same with and without: its cheap scores
// are exact. Calls has the tokens that it evaluated each time.
type Forker struct {
	*Engine
	Refuses error // what NewPrefix returns
	Open    int   // prefixes that were not closed
}

var _ evals.Forker = (*Forker)(nil)

// NewPrefix keeps the tokens.
func (f *Forker) NewPrefix(
	ctx context.Context, tokens []int, base ropescale.Rung, from int,
) (evals.Prefix, []float64, error) {
	if f.Refuses != nil {
		return nil, nil, f.Refuses
	}
	own := f.Ladder
	defer func() { f.Ladder = own }()
	f.Ladder = &ropescale.Ladder{Rungs: []ropescale.Rung{base}}
	values, err := f.NLL(ctx, tokens, from)
	if err != nil {
		return nil, nil, err
	}
	f.Open++
	return &forkerPrefix{f, slices.Clone(tokens)}, values, nil
}

// PrefixBytes is 8 bytes a token.
func (f *Forker) PrefixBytes(n int) (int64, error) { return int64(8 * n), f.Refuses }

type forkerPrefix struct {
	f      *Forker
	tokens []int // nil: closed
}

func (p *forkerPrefix) Close() {
	if p.tokens != nil {
		p.f.Open--
		p.tokens = nil
	}
}

func (p *forkerPrefix) Score(ctx context.Context, g ropescale.Rung, forks []evals.Fork) (
	scores [][]float64, err error,
) {
	if p.tokens == nil {
		return nil, errors.New("the prefix is closed")
	}
	own := p.f.Ladder
	defer func() { p.f.Ladder = own }()
	p.f.Ladder = &ropescale.Ladder{Rungs: []ropescale.Rung{g}}
	for _, f := range forks {
		all := slices.Concat(p.tokens[:f.At], f.Tokens)
		values, err := p.f.NLL(ctx, all, f.At+f.From)
		if err != nil {
			return nil, err
		}
		p.f.Calls[len(p.f.Calls)-1] = len(f.Tokens) - 1
		scores = append(scores, values)
	}
	return scores, nil
}
