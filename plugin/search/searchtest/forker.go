package searchtest

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Forker is a Fake that keeps prefixes. Its cheap scores are those of the candidate, less Flattery
// for each unit of distance from the base.
type Forker struct {
	*Fake
	Flattery float64
	// Bytes is the memory of a prefix's token.
	Bytes int64
	// Refuses is what NewPrefix and PrefixBytes return.
	Refuses error
	// Open counts prefixes that were not closed, Most is the largest number of them, and Made
	// counts all.
	Open, Most, Made int
}

var _ evals.Forker = (*Forker)(nil)

// PrefixBytes is evals.Forker's.
func (f *Forker) PrefixBytes(n int) (int64, error) { return int64(n) * f.Bytes, f.Refuses }

// NewPrefix is evals.Forker's.
func (f *Forker) NewPrefix(
	ctx context.Context, tokens []int, base ropescale.Rung, from int,
) (evals.Prefix, []float64, error) {
	if f.Refuses != nil {
		return nil, nil, f.Refuses
	}
	if err := wait(ctx); err != nil {
		return nil, nil, err
	}
	f.Made++
	f.Open++
	f.Most = max(f.Most, f.Open)
	p := &prefix{f, slices.Clone(tokens), base}
	return p, p.losses(tokens[from:], base), nil
}

type prefix struct {
	f      *Forker
	tokens []int // nil: closed
	base   ropescale.Rung
}

func (p *prefix) Close() {
	if p.tokens != nil {
		p.f.Open--
		p.tokens = nil
	}
}

// losses are those of tokens behind p under a rung, whatever their number.
func (p *prefix) losses(tokens []int, g ropescale.Rung) []float64 {
	own := p.f.ladder
	defer func() { p.f.ladder = own }()
	g.Length = math.MaxInt32
	p.f.ladder = &ropescale.Ladder{
		OriginalContextLength: p.f.info.OriginalContextLength, Rungs: []ropescale.Rung{g},
	}
	loss := p.f.Error(len(p.tokens)) - p.f.Flattery*ropescale.Distance(g, p.base)
	values := make([]float64, len(tokens))
	for i, t := range tokens {
		values[i] = 2 + float64(t%7)/100 + loss
	}
	return values
}

func (p *prefix) Score(ctx context.Context, g ropescale.Rung, forks []evals.Fork) (
	scores [][]float64, err error,
) {
	if p.tokens == nil {
		return nil, errors.New("the prefix is closed")
	}
	for _, fork := range forks {
		scores = append(scores, p.losses(fork.Tokens[fork.From:], g))
	}
	return scores, ctx.Err()
}
