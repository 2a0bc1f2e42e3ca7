package search

import (
	"fmt"
	"math"
	"slices"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// goal is what the search for one rung of a ladder is about: for which length, and what its
// candidates stretch. There are three kinds.
//
//   - A model without a ladder is stretched from its own RoPE.
//   - A target above the last rung of a ladder that the model carries is stretched from that rung:
//     the model was fine-tuned with it, or it is at least the nearest thing to a model for that
//     length. This is the second interpolation of the paper's section 3.2. The start window still
//     has row 0.
//   - A target up to that last rung is a readjustment (section 3.4): the weights know the last
//     rung's factors, so anything between the own RoPE and these may be best for a shorter text.
type goal struct {
	target int
	// rope and base are what candidates stretch: base was trained for rope.OriginalContextLength.
	// A base of nil is plain RoPE.
	rope ropescale.Rope
	base *ropescale.Rung
	// reach is how far factors may go beyond base; 0: as far as the target is beyond the length
	// that base was trained for.
	reach float64
	// relative says in words what is stretched, "" the own RoPE.
	relative string
	// starts are candidates to start from in addition to the methods that need no search, relative
	// to base.
	starts []study.Candidate
	// given are those of Options.Starts, relative to base.
	given []study.Candidate
}

// goalsFor makes a goal for each target, in their order.
func goalsFor(m *convert.ModelInfo, targets []int) []goal {
	var carried []ropescale.Rung
	if l := Carried(m); l != nil {
		carried = l.Rungs
	}
	var goals []goal
	for _, target := range targets {
		g := goal{target: target, rope: m.Rope(), base: m.Base}
		if len(carried) > 0 {
			last := carried[len(carried)-1]
			if target > last.Length {
				g.rope.OriginalContextLength, g.base = last.Length, &last
				g.relative = fmt.Sprintf("the model's rung for %s tokens", label.Size(last.Length))
			} else {
				g.readjust(carried)
			}
		}
		goals = append(goals, g)
	}
	return goals
}

// readjust lets candidates be between the own RoPE and the last rung that the model carries, and
// start from there.
func (g *goal) readjust(carried []ropescale.Rung) {
	last := carried[len(carried)-1].Relative(g.base)
	length := label.Size(last.Length)
	// Where the ladder stretches nothing, a little.
	g.reach = max(slices.Max(last.Factors), g.rope.Scale(g.target), 1.25)
	g.relative = fmt.Sprintf("the own RoPE, up to the factors of the rung for %s tokens", length)
	for _, power := range []float64{1, 0.75, 0.5, 0.25} {
		r := ropescale.Rung{
			Length:          g.target,
			AttentionFactor: math.Pow(last.AttentionFactor, power),
		}
		for _, f := range last.Factors {
			r.Factors = append(r.Factors, math.Pow(f, power))
		}
		if last.StartWindow < g.target {
			r.StartWindow = last.StartWindow
		}
		origin := fmt.Sprintf("%s^%g", length, power)
		g.starts = append(g.starts, study.Candidate{Rung: r, Origin: origin})
	}
	for _, r := range carried[:len(carried)-1] {
		if r.Length == g.target { // readjusted before
			before := study.Candidate{Rung: r.Relative(g.base), Origin: label.Size(r.Length)}
			g.starts = append(g.starts, before)
		}
	}
}

// unscaled adds YaRN without its attention factor as a start. That factor is for models that are
// fine-tuned with it; one that was not may retrieve as well, and read text better, without
// (evals/RESULTS.md).
func (g *goal) unscaled() error {
	if g.target <= g.rope.OriginalContextLength {
		return nil
	}
	r, err := ropescale.YaRN(g.rope, g.target, ropescale.MethodOptions{AttentionFactor: 1})
	if err != nil {
		return err
	}
	yarn := study.Candidate{Rung: r, Origin: "yarn without its attention factor"}
	g.starts = append(g.starts, yarn)
	return nil
}

// startFrom adds factors of another model as starts: those published for a relative of this one, or
// found by an earlier search. A ladder gives the rung that serves the target.
func (g *goal) startFrom(own ropescale.Rope, starts []Start) error {
	for _, start := range starts {
		r, err := start.rung(own, g.target)
		if err == nil && len(r.Factors) != own.Pairs() {
			err = fmt.Errorf("the factors are for %d rotary dimensions, the model has %d",
				2*len(r.Factors), own.Dims)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", start.Path, err)
		}
		r = r.Relative(g.base)
		r.Length, r.Extra = g.target, nil
		if r.StartWindow >= g.target {
			r.StartWindow = 0
		}
		g.given = append(g.given, study.Candidate{Rung: r, Origin: start.Name})
	}
	return nil
}

// rung is what a start has for a target.
func (s Start) rung(own ropescale.Rope, target int) (ropescale.Rung, error) {
	if s.Published != nil {
		return s.Published.Rung(own, target)
	}
	if s.Factors != nil {
		return ropescale.LongRoPE(own, target, ropescale.MethodOptions{Factors: s.Factors})
	}
	if row := s.Ladder.RungFor(target); row > 0 {
		return s.Ladder.Rungs[row-1], nil
	}
	return ropescale.Rung{}, fmt.Errorf("it has no rung for %s tokens", label.Size(target))
}

// allow gives every start one of the windows, ascending, that are allowed: the next lower one; none
// named is all.
func (g *goal) allow(windows []int) {
	if len(windows) == 0 {
		return
	}
	for _, starts := range [][]study.Candidate{g.starts, g.given} {
		for i := range starts {
			r := &starts[i].Rung
			at, exact := slices.BinarySearch(windows, r.StartWindow)
			if !exact {
				r.StartWindow = windows[max(0, at-1)]
			}
		}
	}
}

// above are further starts: the factors that were found for the rung below, stretched the rest of
// the way by each method, or for a readjustment as they are.
func (g *goal) above(below ropescale.Rung) []study.Candidate {
	rel := below.Relative(g.base)
	if g.reach > 0 {
		rel.Length = g.target
		return []study.Candidate{{Rung: rel, Origin: label.Size(below.Length)}}
	}
	rope := g.rope
	rope.OriginalContextLength = below.Length
	var starts []study.Candidate
	for _, name := range ropescale.MethodNames(ropescale.Seed) {
		method, err := ropescale.MethodByName(name)
		if err != nil {
			continue
		}
		options := ropescale.MethodOptions{StartWindow: below.StartWindow}
		r, err := method.Rung(rope, g.target, options)
		if err != nil {
			continue
		}
		origin := label.Size(below.Length) + "+" + name
		starts = append(starts, study.Candidate{Rung: r.Over(&rel), Origin: origin})
	}
	return starts
}

// standIns are as many starts as the rung below will give, before its factors are found.
func (g *goal) standIns() []study.Candidate {
	return g.above(g.rope.Identity(g.target - 1).Over(g.base))
}

// methods are the methods that a study with an algorithm evaluates first.
func (g *goal) methods(algorithm string) []string {
	return ropescale.SeedNames(algorithm, g.rope, g.target)
}
