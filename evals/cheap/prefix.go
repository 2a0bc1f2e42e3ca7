// Package cheap is for searches that score candidates by forks of kept prefixes (evals.Forked): a
// prefix of any engine, and how well cheap scores agree with exact ones.
//
// A search keeps a prefix for each window, under a base rung, and scores its candidates on it. As
// the base it takes the mean of its distribution, and keeps the prefix again (renews the base) when
// the mean has moved. Candidates for which an exact score is wanted, finalists among them, are
// scored on a prefix of their own. Each renewal has exact and cheap scores of the same candidates:
// if they do not agree (Agree), the search had better use exact ones.
package cheap

import (
	"context"
	"errors"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Keep evaluates tokens under base and keeps what forks need of them. Where the engine cannot (it
// is no evals.Forker, or its answer is ErrNoForks), the prefix is evaluated again for each score:
// its scores are then exact, why is the reason, and base does not matter.
func Keep(ctx context.Context, e evals.Engine, tokens []int, base ropescale.Rung) (
	p evals.Prefix, why error, err error,
) {
	f, ok := e.(evals.Forker)
	if !ok {
		return exactPrefix{e, tokens}, evals.ErrNoForks, nil
	}
	p, _, err = f.NewPrefix(ctx, tokens, base, len(tokens))
	if errors.Is(err, evals.ErrNoForks) {
		return exactPrefix{e, tokens}, err, nil
	}
	return p, nil, err
}

// exactPrefix is a Prefix of any engine, of which nothing is kept.
type exactPrefix struct {
	e      evals.Engine
	tokens []int
}

func (exactPrefix) Close() {}

// Score evaluates each fork behind its prefix as a sequence of its own, and all that repeat the
// prefix as one.
func (p exactPrefix) Score(ctx context.Context, g ropescale.Rung, forks []evals.Fork) (
	[][]float64, error,
) {
	info := p.e.Info()
	// A sequence of no more than the original context length would be on the model's own RoPE.
	least := info.OriginalContextLength + 1
	g.Length = max(g.Length, least)
	for _, f := range forks {
		g.Length = max(g.Length, f.At+len(f.Tokens))
	}
	l := &ropescale.Ladder{
		Version: ropescale.LadderVersion, OriginalContextLength: info.OriginalContextLength,
		RopeDimensionCount: info.RopeDimensionCount, Rungs: []ropescale.Rung{g},
	}
	if err := p.e.SetLadder(l); err != nil {
		return nil, err
	}
	evaluate := func(tokens []int, from int) ([]float64, error) {
		n := len(tokens)
		for len(tokens) < least {
			tokens = append(slices.Clip(tokens), tokens[n-1])
		}
		values, err := p.e.NLL(ctx, tokens, from)
		return values[:min(n-from, len(values))], err
	}
	repeats := func(f evals.Fork) bool {
		return f.At+len(f.Tokens) <= len(p.tokens) &&
			slices.Equal(f.Tokens, p.tokens[f.At:][:len(f.Tokens)])
	}
	var text []float64 // of the prefix itself, from token first
	first, last := len(p.tokens), 0
	for _, f := range forks {
		if repeats(f) {
			first, last = min(first, f.At+f.From), max(last, f.At+len(f.Tokens))
		}
	}
	if first < last {
		var err error
		if text, err = evaluate(p.tokens[:last], first); err != nil {
			return nil, err
		}
	}
	scores := make([][]float64, len(forks))
	for i, f := range forks {
		if repeats(f) {
			scores[i] = text[f.At+f.From-first:][:len(f.Tokens)-f.From]
			continue
		}
		var err error
		scores[i], err = evaluate(slices.Concat(p.tokens[:f.At], f.Tokens), f.At+f.From)
		if err != nil {
			return nil, err
		}
	}
	return scores, nil
}
