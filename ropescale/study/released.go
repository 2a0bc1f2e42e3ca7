package study

import (
	"cmp"
	"math"
	"slices"
)

// released is the search as the authors released it (github.com/microsoft/LongRoPE,
// evolution/algorithms), which is not the paper's: it starts from YaRN's factors alone, crosses one
// gene at a time, and never searches n-hat. It is here to compare with, so its habits are kept, the
// odd ones too:
//
//   - the first population is YaRN's factors and mutants of these (run_genetic_algorithm);
//   - a mutant is redrawn, gene by gene on top of what came before, until it is monotone and new
//     (mutate);
//   - lambda_i is drawn at steps from its lower neighbour, so not on a grid of its own; the last
//     goes up to 1 + s and part of a step, not to 1.25 s;
//   - a child is the better parent with, as a rule, a single gene of the other (crossover);
//   - dim-piece-mono has two genes more, alpha and beta: redrawn lambda_i up to alpha become 1,
//     those above beta s. The last two lambda_i never change there.
//
// After PI, NTK and YaRN as published, which every study evaluates, come its 64 + 40*32 = 1,344
// candidates.
type released struct {
	*space
	piece      bool
	phase      int
	asked      []genes
	population []genes
	history    [][]float64
}

// genes are alpha and beta (0 without piece), then the factors.
type genes struct {
	x       []float64
	id      int
	fitness float64
	origin  string
	parents []int
}

// maxRedraws ends a mutation that finds nothing new; the authors' never ends. The study drops
// the repetition.
const maxRedraws = 1000

// crossoverTries is the authors' max_crossover_try.
const crossoverTries = 20

func newDimMono(sp *space) algorithm      { return &released{space: sp} }
func newDimPieceMono(sp *space) algorithm { return &released{space: sp, piece: true} }

// Ask implements algorithm.
func (e *released) Ask() []Candidate {
	e.asked = nil
	switch {
	case e.phase == 0:
		return e.seeds()
	case e.phase == 1:
		seeds := e.seeds() // the last is YaRN, or the own RoPE; there are no further starts
		yarn := genes{
			x:      append([]float64{0, 0}, seeds[len(seeds)-1].Rung.Factors...),
			origin: seeds[len(seeds)-1].Origin,
		}
		e.ask(yarn)
		for len(e.asked) < e.Population {
			e.ask(e.mutant(yarn))
		}
	case e.phase < 2+e.iterations:
		for range e.mutations {
			e.ask(e.mutant(e.population[e.rng.IntN(len(e.population))]))
		}
		for range e.crossovers {
			e.ask(e.child())
		}
	}
	var c []Candidate
	for _, g := range e.asked {
		c = append(c, Candidate{
			Rung:   e.rung(slices.Clone(g.x[2:]), 0, e.attentionFactor),
			Origin: g.origin, Parents: g.parents,
		})
	}
	return c
}

// Adopt implements algorithm. Factors say nothing of alpha and beta, which begin again at 0.
func (e *released) Adopt(batch []Candidate) {
	e.asked = nil
	if e.phase == 0 {
		return
	}
	for _, c := range batch {
		x := append([]float64{0, 0}, c.Rung.Factors...)
		e.ask(genes{x: x, origin: c.Origin, parents: c.Parents})
	}
}

func (e *released) ask(g genes) {
	e.history = append(e.history, g.x)
	e.asked = append(e.asked, g)
}

// Tell implements algorithm: the parents are the best of parents, mutants and children.
func (e *released) Tell(batch []result) {
	if e.phase > 0 {
		for i, r := range batch {
			g := e.asked[i]
			g.id, g.fitness = r.Candidate, r.Fitness
			e.population = append(e.population, g)
		}
		slices.SortStableFunc(e.population, func(a, b genes) int {
			return cmp.Compare(a.fitness,
				b.fitness)
		})
		e.population = e.population[:min(len(e.population), e.parents)]
	}
	e.phase++
}

// valid is the condition under which mutate and crossover take new genes.
func (e *released) valid(x []float64) bool {
	return slices.IsSorted(x[2:]) && x[0] <= x[1] && !slices.ContainsFunc(e.history,
		func(h []float64) bool { return allClose(x, h) })
}

// allClose is numpy's, with its defaults.
func allClose(a, b []float64) bool {
	for i := range a {
		if math.Abs(a[i]-b[i]) > 1e-8+1e-5*math.Abs(b[i]) {
			return false
		}
	}
	return true
}

func (e *released) mutant(parent genes) genes {
	g := genes{x: slices.Clone(parent.x), origin: "mutation", parents: []int{parent.id}}
	if len(e.population) == 0 {
		g.origin, g.parents = "mutation of yarn", nil
	}
	for range maxRedraws {
		if e.valid(g.x) {
			break
		}
		e.redraw(g.x)
	}
	return g
}

// redraw is one pass of mutate over the genes.
func (e *released) redraw(x []float64) {
	f, s := x[2:], e.stretch
	n := len(f)
	if e.piece {
		e.redrawPiece(x)
		n -= 2
	}
	for i := range n {
		if e.rng.Float64() >= e.mutationProbability {
			continue
		}
		var choices int
		lo := 1.0
		switch {
		case e.piece && float64(i) <= x[0]:
			f[i] = 1
			continue
		case e.piece && float64(i) > x[1]:
			f[i] = s
			continue
		case i == 0:
			choices = int(math.Ceil((f[1]-1)/e.step - 1e-9)) // without its neighbour's value
		case i == len(f)-1:
			lo = f[i-1]
			choices = steps(lo, 1+s, e.step)
		default:
			lo = f[i-1]
			choices = steps(lo, f[i+1], e.step)
		}
		if choices > 0 {
			f[i] = lo + float64(e.rng.IntN(choices))*e.step
		}
	}
}

// steps is the length of numpy's arange(lo, hi+step, step): where hi is no whole number of steps
// away, the last value is above it, and the pass that draws it is not the last.
func steps(lo, hi, step float64) int {
	return int(math.Ceil((hi-lo)/step + 1 - 1e-9))
}

// redrawPiece moves alpha or beta by a normal deviate of 2 pairs, until 0 <= alpha < beta < d/2.
func (e *released) redrawPiece(x []float64) {
	for first := true; first || !(0 <= x[0] && x[0] < x[1] && int(x[1]) < len(x)-2); first = false {
		i := 1
		if e.rng.Float64() < 0.5 {
			i = 0
		}
		x[i] = math.Trunc(x[i] + 2*e.rng.NormFloat64())
	}
}

// child copies genes of the worse of two parents to the better one, one after the other, until what
// it has is monotone and new.
func (e *released) child() genes {
	i, j := e.two(len(e.population))
	if i == j {
		return e.mutant(e.population[0])
	}
	a, b := e.population[i], e.population[j]
	g := genes{x: slices.Clone(a.x), origin: "crossover", parents: []int{a.id, b.id}}
	from := 2
	if e.piece {
		from = 0
	}
	for range crossoverTries {
		if allClose(a.x, b.x) {
			break
		}
		for k := from; k < len(g.x); k++ {
			if e.rng.Float64() >= e.mutationProbability {
				continue
			}
			if e.rng.Float64() < 0.5 {
				if k < 2 {
					g.x[0], g.x[1] = b.x[0], b.x[1]
				} else {
					g.x[k] = b.x[k]
				}
			}
			if e.valid(g.x) {
				return g
			}
		}
	}
	return e.mutant(a)
}
