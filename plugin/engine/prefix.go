//go:build cgo

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ollama/ollama/llama"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Rows of the context's ladder while a prefix is in use; row 0 is the model's own RoPE.
const (
	baseRow      = 1 // what the prefix was evaluated under
	candidateRow = 2 // what it is scored under
)

var _ evals.Forker = (*Engine)(nil)

// prefix is an evals.Prefix. A copy of what the cache had of it is kept in RAM, wherever the cache
// itself is. For each candidate the copy is loaded, and then the keys are rotated; the copy never
// changes, since keys that are rotated again and again drift.
type prefix struct {
	e      *Engine
	tokens int
	base   row
	state  *llama.SequenceState // nil: closed
}

// row is a rung as a row of the context's ladder.
type row struct {
	values []float32
	window int
}

func (r row) equal(s row) bool { return r.window == s.window && slices.Equal(r.values, s.values) }

// NewPrefix evaluates tokens under base and keeps their keys and values; see evals.Prefix. The
// engine must have been opened with Options.Forks. With 1, forks are evaluated one at a time, and
// the score of each is the same to the last bit whatever the others are. With more, a batch has
// several: that is faster where a batch costs little more than a token, and scores differ by
// rounding.
func (e *Engine) NewPrefix(
	ctx context.Context, tokens []int, base ropescale.Rung, from int,
) (evals.Prefix, []float64, error) {
	err := e.checkPrefix(len(tokens))
	switch {
	case err != nil:
	case from < 1 || from > len(tokens):
		err = fmt.Errorf("score a prefix of %d tokens from token %d: want 1 to %d",
			len(tokens), from, len(tokens))
	default:
		err = checkTokens(tokens, e.info.VocabSize)
	}
	if err != nil {
		return nil, nil, err
	}
	r, err := e.row(base)
	if err != nil {
		return nil, nil, err
	}
	if err := e.enterPrefix(r); err != nil {
		return nil, nil, err
	}
	e.lc.SetRung(0, baseRow)
	var values []float64
	err = e.run(ctx, tokens, 0, func(i int) bool { return i >= from-1 && i+1 < len(tokens) },
		func(out, i int) { values = append(values, e.lc.NLL(out, tokens[i+1])) })
	if err != nil {
		return nil, nil, err
	}
	state, err := e.lc.SaveSequence(0)
	if err != nil {
		return nil, nil, fmt.Errorf("a prefix of %d tokens: %w", len(tokens), err)
	}
	return &prefix{e, len(tokens), r, state}, values, nil
}

// PrefixBytes is the memory that a prefix of n tokens takes until it is closed, in bytes of RAM.
// The engine's own cache is not in it.
func (e *Engine) PrefixBytes(n int) (int64, error) {
	if err := e.checkPrefix(n); err != nil {
		return 0, err
	}
	if e.prefixBytes[1] == 0 { // measured, since it depends on all that a cache can be
		own, err := e.row(ropescale.Rope{Dims: e.info.RopeDimensionCount}.Identity(1))
		if err == nil {
			err = e.enterPrefix(own)
		}
		if err != nil {
			return 0, err
		}
		e.lc.SetRung(0, baseRow)
		var size [2]int64
		for i := range size {
			e.batch.Clear()
			e.batch.Add(0, nil, i, true, 0)
			if err := e.lc.Decode(e.batch); err != nil {
				return 0, err
			}
			size[i] = e.lc.SequenceStateSize(0)
		}
		e.prefixBytes = [2]int64{2*size[0] - size[1], size[1] - size[0]}
	}
	return e.prefixBytes[0] + int64(n)*e.prefixBytes[1], nil
}

// checkPrefix says why there can be no prefix of n tokens.
func (e *Engine) checkPrefix(n int) error {
	switch {
	case e.forks == 0:
		return fmt.Errorf("%w: %s was opened without forks", evals.ErrNoForks, e.info.Model)
	case n < 1:
		return errors.New("a prefix needs at least one token")
	case n > e.info.MaxLength:
		return fmt.Errorf("%d tokens do not fit the %d that %s was opened for",
			n, e.info.MaxLength, e.info.Model)
	}
	return nil
}

// row checks a rung. The length that it serves does not matter here.
func (e *Engine) row(g ropescale.Rung) (row, error) {
	g.Length = max(g.Length, g.StartWindow+1)
	l, err := e.ladder(g)
	if err != nil {
		return row{}, err
	}
	values, _ := l.Rows()
	return row{values[1], g.StartWindow}, nil
}

// ladder has the model's own RoPE as row 0.
func (e *Engine) ladder(rungs ...ropescale.Rung) (*ropescale.Ladder, error) {
	rope := ropescale.Rope{
		Dims: e.info.RopeDimensionCount, FreqBase: e.info.FreqBase,
		OriginalContextLength: e.info.OriginalContextLength,
	}
	return ropescale.NewLadder(rope, e.base, rungs...)
}

// enterPrefix empties the cache and makes both rows of the context's ladder base: that is the
// ladder under which a prefix of this base is saved and loaded. The engine's own ladder returns
// with the next call that needs it.
func (e *Engine) enterPrefix(base row) error {
	e.kept.forget()
	if e.inPrefix {
		if e.dirty { // attention to what is masked is 0 times what is there
			e.lc.KvCacheClear()
			e.dirty = false
		}
		e.lc.KvCacheSeqRm(-1, -1, -1)
		for _, r := range []int{baseRow, candidateRow} {
			if err := e.lc.SetLadderRow(r, base.values, base.window); err != nil {
				return err
			}
		}
		return nil
	}
	l, err := e.ladder()
	if err != nil {
		return err
	}
	own, _ := l.Rows()
	// lengths have to ascend, no more: sequences here are put on their rungs
	lengths := []int32{int32(e.info.OriginalContextLength), math.MaxInt32 - 1, math.MaxInt32}
	windows := []int32{0, int32(base.window), int32(base.window)}
	rows := [][]float32{own[0], base.values, base.values}
	if err := e.lc.SetLadder(rows, lengths, windows); err != nil {
		return fmt.Errorf("%w: %w", evals.ErrNoForks, err)
	}
	e.inPrefix, e.dirty = true, false
	if why := e.lc.CannotFork(); why != "" {
		return fmt.Errorf("%w: architecture %s: %s", evals.ErrNoForks, e.info.Architecture, why)
	}
	e.lc.KvCacheClear()
	return nil
}

// Close gives the memory back.
func (p *prefix) Close() {
	if p.state != nil {
		p.state.Free()
		p.state = nil
	}
}

// Score is evals.Prefix's.
func (p *prefix) Score(ctx context.Context, g ropescale.Rung, forks []evals.Fork) (
	[][]float64, error,
) {
	if p.state == nil {
		return nil, errors.New("the prefix is closed")
	}
	candidate, err := p.e.row(g)
	if err != nil {
		return nil, err
	}
	order := make([]int, len(forks))
	for i, f := range forks {
		if err := p.check(f); err != nil {
			return nil, fmt.Errorf("fork %d: %w", i, err)
		}
		order[i] = i
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rung, err := p.load(candidate)
	if err != nil {
		return nil, err
	}
	scores := make([][]float64, len(forks))
	// Those that leave late come first: what the prefix has behind the place where one leaves it is
	// then not needed any more.
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(forks[b].At, forks[a].At)
	})
	for len(order) > 0 {
		n := p.e.together(forks, order)
		if err := p.e.score(ctx, rung, forks, order[:n], scores); err != nil {
			return nil, err
		}
		order = order[n:]
	}
	return scores, nil
}

func (p *prefix) check(f evals.Fork) error {
	switch {
	case f.At < 1 || f.At > p.tokens:
		return fmt.Errorf("it leaves a prefix of %d tokens after %d", p.tokens, f.At)
	case f.From < 1 || f.From >= len(f.Tokens):
		return fmt.Errorf("score from token %d of %d: nothing to score", f.From, len(f.Tokens))
	case f.At+len(f.Tokens)-1 > p.e.cells:
		return fmt.Errorf("%d tokens after %d do not fit the cache of %d",
			len(f.Tokens), f.At, p.e.cells)
	}
	return checkTokens(f.Tokens, p.e.info.VocabSize)
}

// load has the prefix in the cache as sequence 0, with its keys rotated to the candidate, and
// returns the candidate's rung.
func (p *prefix) load(candidate row) (rung int, err error) {
	if err := p.e.enterPrefix(p.base); err != nil {
		return 0, err
	}
	if err := p.e.lc.LoadSequence(0, p.state); err != nil {
		return 0, err
	}
	if candidate.equal(p.base) {
		return baseRow, nil
	}
	if err := p.e.lc.SetLadderRow(candidateRow, candidate.values, candidate.window); err != nil {
		return 0, err
	}
	if !p.e.lc.SetRung(0, candidateRow) {
		return 0, fmt.Errorf("%w: architecture %s: its cached keys cannot be rotated",
			evals.ErrNoForks, p.e.info.Architecture)
	}
	return candidateRow, nil
}

// together is how many of the forks, in this order, are evaluated at once: those that leave at one
// place, as far as there are sequences and one batch takes them.
func (e *Engine) together(forks []evals.Fork, order []int) (n int) {
	tokens := 0
	for _, i := range order {
		tokens += len(forks[i].Tokens) - 1
		if n == e.forks || n > 0 && (forks[i].At != forks[order[0]].At || tokens > e.size) {
			break
		}
		n++
	}
	return n
}

// score evaluates some forks that leave the prefix at one place, each as a sequence that shares its
// cells up to there. The last token of a fork is scored only.
func (e *Engine) score(
	ctx context.Context, rung int, forks []evals.Fork, which []int, scores [][]float64,
) error {
	at := forks[which[0]].At
	e.lc.KvCacheSeqRm(0, at, -1)
	for s := range which {
		e.lc.SetRung(s+1, rung)
		e.lc.KvCacheSeqCp(0, s+1, 0, at)
		defer e.lc.KvCacheSeqRm(s+1, -1, -1)
	}
	type place struct{ fork, token int } // of a token in the batch
	var batch []place
	e.batch.Clear()
	decode := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.lc.Decode(e.batch); err != nil {
			return err
		}
		for i, p := range batch {
			if f := forks[p.fork]; p.token+1 >= f.From {
				v := e.lc.NLL(i, f.Tokens[p.token+1])
				scores[p.fork] = append(scores[p.fork], v)
				e.dirty = e.dirty || math.IsNaN(v) || math.IsInf(v, 0)
			}
		}
		e.batch.Clear()
		batch = batch[:0]
		return nil
	}
	for s, i := range which {
		f := forks[i]
		for j, t := range f.Tokens[:len(f.Tokens)-1] {
			if len(batch) == e.size {
				if err := decode(); err != nil {
					return err
				}
			}
			e.batch.Add(t, nil, at+j, j+1 >= f.From, s+1)
			batch = append(batch, place{i, j})
		}
	}
	return decode()
}
