package longrope

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// step is the search for one rung of a ladder: for which length, and what its candidates stretch. There are three kinds.
//
//   - A model without a ladder is stretched from its own RoPE.
//   - A target above the last rung of a ladder that the model carries is stretched from that rung: the model was fine-tuned with
//     it, or it is at least the nearest thing to a model for that length. This is the second interpolation of the paper's
//     section 3.2. The start window still has row 0.
//   - A target up to that last rung is a readjustment (section 3.4): the weights know the last rung's factors, so anything between
//     the own RoPE and these may be best for a shorter text.
type step struct {
	target int
	// rope and base are what candidates stretch: base was trained for rope.OriginalContextLength. nil is plain RoPE.
	rope ropescale.Rope
	base *ropescale.Rung
	// stretch is how far factors may reach beyond base; 0: as far as the target is beyond what base was trained for.
	stretch float64
	// relative says in words what is stretched, "" the own RoPE.
	relative string
	// starts are candidates to start from beside the methods that need no search, relative to base.
	starts []ropescale.Candidate
	// given are those that the user names, relative to base.
	given []ropescale.Candidate
}

// plan makes a step for each target, in their order.
func plan(m *convert.ModelInfo, targets []int) []step {
	var carried []ropescale.Rung
	if l := carriedBy(m); l != nil {
		carried = l.Rungs
	}
	var steps []step
	for _, target := range targets {
		s := step{target: target, rope: m.Rope(), base: m.Base}
		if len(carried) > 0 {
			last := carried[len(carried)-1]
			if target > last.Length {
				s.rope.OriginalContextLength, s.base = last.Length, &last
				s.relative = fmt.Sprintf("the model's rung for %s tokens", size(last.Length))
			} else {
				s.readjust(carried)
			}
		}
		steps = append(steps, s)
	}
	return steps
}

// readjust lets the step search between the own RoPE and the last rung that the model carries, and start from there.
func (s *step) readjust(carried []ropescale.Rung) {
	last := relativeTo(carried[len(carried)-1], s.base)
	s.stretch = max(slices.Max(last.Factors), s.rope.Scale(s.target), 1.25) // where the ladder stretches nothing, a little
	s.relative = fmt.Sprintf("the own RoPE, up to the factors of the rung for %s tokens", size(last.Length))
	for _, power := range []float64{1, 0.75, 0.5, 0.25} {
		g := ropescale.Rung{Length: s.target, AttentionFactor: math.Pow(last.AttentionFactor, power)}
		for _, f := range last.Factors {
			g.Factors = append(g.Factors, math.Pow(f, power))
		}
		if last.StartWindow < s.target {
			g.StartWindow = last.StartWindow
		}
		s.starts = append(s.starts, ropescale.Candidate{Rung: g, Origin: fmt.Sprintf("%s^%g", size(last.Length), power)})
	}
	for _, g := range carried[:len(carried)-1] {
		if g.Length == s.target { // readjusted before
			s.starts = append(s.starts, ropescale.Candidate{Rung: relativeTo(g, s.base), Origin: size(g.Length)})
		}
	}
}

// unscaled adds YaRN without its attention factor as a start. That factor is for models that are fine-tuned with it; one that
// was not may retrieve as well, and read text better, without (evals/RESULTS.md).
func (s *step) unscaled() error {
	if s.target <= s.rope.OriginalContextLength {
		return nil
	}
	g, err := ropescale.YaRN(s.rope, s.target, ropescale.MethodOptions{AttentionFactor: 1})
	if err != nil {
		return err
	}
	s.starts = append(s.starts, ropescale.Candidate{Rung: g, Origin: "yarn without its attention factor"})
	return nil
}

// from adds starts out of factors files, or out of models that carry factors: those published for a relative of this model, or
// found by an earlier search. A ladder gives the rung that serves the target.
func (s *step) from(own ropescale.Rope, paths []string) error {
	for _, path := range paths {
		f, err := readFactors(path)
		if err != nil {
			return err
		}
		var g ropescale.Rung
		if f.factors != nil {
			g, err = ropescale.LongRoPE(own, s.target, ropescale.MethodOptions{Factors: f.factors})
		} else if row := f.ladder.RungFor(s.target); row > 0 {
			g = f.ladder.Rungs[row-1]
		} else {
			err = fmt.Errorf("it has no rung for %s tokens", size(s.target))
		}
		if err == nil && len(g.Factors) != own.Pairs() {
			err = fmt.Errorf("the factors are for %d rotary dimensions, the model has %d", 2*len(g.Factors), own.Dims)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		g = relativeTo(g, s.base)
		g.Length, g.Extra = s.target, nil
		if g.StartWindow >= s.target {
			g.StartWindow = 0
		}
		s.given = append(s.given, ropescale.Candidate{Rung: g, Origin: filepath.Base(path)})
	}
	return nil
}

// allow gives every start one of the windows, ascending, that the user allows: the next lower one; none named is all.
func (s *step) allow(windows []int) {
	if len(windows) == 0 {
		return
	}
	for _, starts := range [][]ropescale.Candidate{s.starts, s.given} {
		for i := range starts {
			g := &starts[i].Rung
			at, exact := slices.BinarySearch(windows, g.StartWindow)
			if !exact {
				g.StartWindow = windows[max(0, at-1)]
			}
		}
	}
}

// above are further starts: the rung below as it was found, stretched the rest of the way by each method, or for a
// readjustment as it is.
func (s *step) above(below ropescale.Rung) []ropescale.Candidate {
	rel := relativeTo(below, s.base)
	if s.stretch > 0 {
		rel.Length = s.target
		return []ropescale.Candidate{{Rung: rel, Origin: size(below.Length)}}
	}
	rope := s.rope
	rope.OriginalContextLength = below.Length
	var starts []ropescale.Candidate
	for _, name := range seedOrder {
		method, err := ropescale.MethodByName(name)
		if err != nil {
			continue
		}
		g, err := method.Rung(rope, s.target, ropescale.MethodOptions{StartWindow: below.StartWindow})
		if err != nil {
			continue
		}
		starts = append(starts, ropescale.Candidate{Rung: g.Over(&rel), Origin: size(below.Length) + "+" + name})
	}
	return starts
}

// relativeTo is a rung as it acts on top of base: the inverse of Over.
func relativeTo(g ropescale.Rung, base *ropescale.Rung) ropescale.Rung {
	if base == nil {
		return g
	}
	f := make([]float64, len(g.Factors))
	for i := range f {
		f[i] = g.Factors[i] / base.Factors[i]
	}
	g.Factors, g.AttentionFactor = f, g.AttentionFactor/base.AttentionFactor
	return g
}

// ladderWith is the model's ladder with rungs that were found: they replace those of the same length.
func ladderWith(m *convert.ModelInfo, found ...ropescale.Rung) (*ropescale.Ladder, error) {
	rungs := slices.Clone(found)
	if l := carriedBy(m); l != nil {
		for _, g := range l.Rungs {
			if !slices.ContainsFunc(found, func(f ropescale.Rung) bool { return f.Length == g.Length }) {
				rungs = append(rungs, g)
			}
		}
	}
	slices.SortFunc(rungs, func(a, b ropescale.Rung) int { return a.Length - b.Length })
	return ropescale.NewLadder(m.Rope(), m.Base, rungs...)
}

// doublings are the lengths for which a ladder up to a target has rungs: each doubling of from below it, and the target.
func doublings(from, target int) []int {
	var lengths []int
	for n := 2 * from; n < target; n *= 2 {
		lengths = append(lengths, n)
	}
	return append(lengths, target)
}

// shares divide a budget of tokens over rungs: each has its least, and the rest goes by what their algorithm would spend
// beyond that.
func shares(budget int, least, usual []int) []int {
	out := slices.Clone(least)
	rest, beyond := budget-sum(least), max(1, sum(usual)-sum(least))
	for i := range out {
		out[i] += int(float64(rest) * float64(usual[i]-least[i]) / float64(beyond))
	}
	out[len(out)-1] += budget - sum(out) // the rounding
	return out
}

func sum(n []int) int {
	all := 0
	for _, v := range n {
		all += v
	}
	return all
}
