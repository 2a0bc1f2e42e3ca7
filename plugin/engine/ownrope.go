//go:build cgo

package engine

import (
	"context"
	"fmt"
	"math"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Tokens of a probe of the model's own RoPE, and how far apart, in nats, its NLLs may be: rounding
// makes a hundredth of that.
const (
	ownTokens = 48
	ownApart  = 0.1
)

// checkOwn finds a model whose own scaling the host's Go engine does not apply, or not all of it:
// each of its architectures reads some metadata and ignores others, without a word. Row 0 of a
// ladder is that scaling as factors, so its NLLs are those of the model without a ladder. It does
// nothing for plain RoPE, and while a ladder is set.
func (e *goEngine) checkOwn(ctx context.Context) error {
	n := min(ownTokens, e.o.Length, e.info.OriginalContextLength)
	if e.same || e.base == nil || e.ladder != nil || n < 2 {
		return nil
	}
	e.same = true // for the calls below
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = i * 7919 % e.info.VocabSize
	}
	own, err := e.NLL(ctx, tokens, 1)
	if err != nil {
		return err
	}
	r := ropescale.Rope{
		Dims: e.info.RopeDimensionCount, FreqBase: e.info.FreqBase,
		OriginalContextLength: e.info.OriginalContextLength,
	}
	l, err := ropescale.NewLadder(r, e.base, r.Identity(2*r.OriginalContextLength))
	if err != nil {
		return err
	}
	if e.SetLadder(l) != nil { // it takes no ladder: there is nothing to compare with
		return e.SetLadder(nil)
	}
	said, err := e.NLL(ctx, tokens, 1)
	if back := e.SetLadder(nil); err == nil {
		err = back
	}
	if err != nil {
		e.same = false
		return err
	}
	apart := 0.0
	for i := range own {
		apart = max(apart, math.Abs(own[i]-said[i]))
	}
	if !(apart <= ownApart) {
		e.same = false
		return fmt.Errorf("%s: the host's Go engine does not run it with the scaled RoPE of its "+
			"file: NLLs are up to %.2g nats off; run it on the %s engine, or give it factors "+
			"(methods other than stock)", e.info.Model, apart, evals.LlamaEngine)
	}
	return nil
}
