package search

import (
	"slices"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// Carried is the ladder that a model comes with: one that was put into it, or the one that its
// authors trained; nil for none.
func Carried(m *convert.ModelInfo) *ropescale.Ladder {
	if m.Ladder == nil && m.Own != nil {
		return OwnLadder(m)
	}
	return m.Ladder
}

// OwnLadder is the RoPE of a model without a ladder, in the form of one.
func OwnLadder(m *convert.ModelInfo) *ropescale.Ladder {
	l := &ropescale.Ladder{
		Version:               ropescale.LadderVersion,
		OriginalContextLength: m.OriginalContextLength,
		RopeDimensionCount:    m.RopeDimensionCount,
		Base:                  m.Base,
	}
	if m.Own != nil {
		l.Rungs = append(l.Rungs, *m.Own)
	}
	return l
}

// LongestTrained is the longest length that a model was trained for or carries a rung for, tokens.
func LongestTrained(m *convert.ModelInfo) int {
	if l := Carried(m); l != nil && len(l.Rungs) > 0 {
		return l.Rungs[len(l.Rungs)-1].Length
	}
	return m.OriginalContextLength
}

// Doublings are each doubling of from below the target, and the target.
func Doublings(from, target int) []int {
	var lengths []int
	for n := 2 * from; n < target; n *= 2 {
		lengths = append(lengths, n)
	}
	return append(lengths, target)
}

// ladderWith is the model's ladder with new rungs, which replace those of the same length.
func ladderWith(m *convert.ModelInfo, searched ...ropescale.Rung) (*ropescale.Ladder, error) {
	rungs := slices.Clone(searched)
	if l := Carried(m); l != nil {
		for _, old := range l.Rungs {
			replaced := slices.ContainsFunc(searched, func(r ropescale.Rung) bool {
				return r.Length == old.Length
			})
			if !replaced {
				rungs = append(rungs, old)
			}
		}
	}
	slices.SortFunc(rungs, func(a, b ropescale.Rung) int { return a.Length - b.Length })
	return ropescale.NewLadder(m.Rope(), m.Base, rungs...)
}
