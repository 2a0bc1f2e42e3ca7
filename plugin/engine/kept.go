//go:build cgo

package engine

import (
	"math"
	"slices"
)

// kept is what the cache has of the last sequence. Questions to one text, the choices of a question
// and an answer that is scored after it was generated have their first tokens in common, which are
// then not computed again.
//
// Results are the same to the last bit with and without: what is kept ends at the end of a batch,
// so the batches are those of a run from the start, at the same places of the cache.
type kept struct {
	tokens   []int // nil: nothing
	rung     int
	spoiled  bool // an output was not finite: what attends to it, masked or not, may be too
	can      bool // the memory of this model can be cut back
	asked    bool // can is known
	computed int  // tokens that were run, in all
}

func (k *kept) forget() { k.tokens = nil }

// check is called with every output.
func (k *kept) check(v float64) { k.spoiled = k.spoiled || math.IsNaN(v) || math.IsInf(v, 0) }

func (k *kept) remember(tokens []int, rung int) {
	k.tokens, k.rung = slices.Clone(tokens), rung
}

// common is how many tokens of a sequence the cache has, as whole batches, but none from needed on.
func (k *kept) common(tokens []int, rung, needed, batch int) int {
	if k.tokens == nil || k.spoiled || k.rung != rung {
		return 0
	}
	n, most := 0, min(len(tokens), len(k.tokens), needed)
	for n < most && tokens[n] == k.tokens[n] {
		n++
	}
	return n / batch * batch
}

// reuse has the cache ready for tokens on a rung, and returns how many of them it has.
func (e *Engine) reuse(tokens []int, rung, needed int) (int, error) {
	n := e.kept.common(tokens, rung, needed, e.size)
	if n > 0 && !e.kept.asked {
		e.kept.asked, n = true, 0
		var err error
		if e.kept.can, err = e.canCut(); err != nil {
			return 0, err
		}
	}
	e.kept.spoiled = false
	e.kept.forget()
	if n > 0 && e.kept.can && e.lc.KvCacheSeqRm(0, n, -1) {
		return n, nil
	}
	e.lc.KvCacheClear()
	e.lc.SetRung(0, rung)
	return 0, nil
}

// canCut reports whether a sequence that is cut back leaves the cache as it was before. Recurrent
// states and the keys of local layers, of which the last ones alone are kept, do not. The host can
// be asked while a ladder is set.
func (e *Engine) canCut() (bool, error) {
	l, err := e.ladder()
	if err != nil {
		return false, nil
	}
	own, _ := l.Rows()
	lengths := []int32{int32(e.info.OriginalContextLength), math.MaxInt32}
	can := e.lc.SetLadder([][]float32{own[0], own[0]}, lengths, []int32{0, 0}) == nil &&
		e.lc.CannotFork() == ""
	return can, e.lc.SetLadder(e.own.values, e.own.lengths, e.own.windows)
}
