package ropescale

import (
	"math"
	"slices"
)

// knotSearch is CMA-ES on a low-dimensional family of monotone factors. log lambda is piecewise linear in the pair's
// index over knots that are log-spaced, dense at the fast pairs, and rises by a non-negative increment at each; the
// first increment is log lambda_0. One more variable is the log of the attention factor. Its generations:
//
//  1. PI, NTK and YaRN as published; the best of them, on the knots, is where CMA-ES starts;
//  2. as many generations of CMA-ES as leave the budget for
//  3. n-hat: the best candidate so far with every other start window.
//
// Bounds are the paper's, 1 <= lambda <= MaxScale*s. Variables are unbounded: an increment is the square of its
// variable, in units of an even rise of ln s over the knots, and increments that add up to more than ln(MaxScale*s) are
// scaled down to it. The square keeps zero increments near zero under the first, large steps: perplexity is far more
// sensitive to the fast pairs, which YaRN leaves alone, than to the slow ones.
type knotSearch struct {
	*space
	knots      []float64 // pair indices
	unit       []float64 // of each variable, in log units
	cma        *cmaes
	points     [][]float64
	best       Result
	generation int
	rounds     int // of CMA-ES
	sweep      int // windows to try at the end
	swept      bool
}

// attentionBound bounds |ln attention factor|: 0.61 to 1.65, logits times 0.37 to 2.7.
const attentionBound = 0.5

func newKnotSearch(sp *space) Algorithm {
	k := &knotSearch{space: sp, best: Result{Fitness: math.Inf(1)}}
	half := float64(sp.rope.Pairs())
	for i := range sp.Knots {
		at := half - 1
		if sp.Knots > 1 {
			at = math.Pow(half, float64(i)/float64(sp.Knots-1)) - 1
		}
		k.knots = append(k.knots, at)
		k.unit = append(k.unit, math.Log(sp.stretch)/float64(sp.Knots))
	}
	if sp.Attention == "search" {
		k.unit = append(k.unit, sp.attentionUnit())
	}
	// A fifth of the budget is enough for n-hat, which matters less than lambda (figures of the paper, table 2).
	others := len(sp.StartWindows) - 1
	left := sp.budget/sp.full - len(seedMethods) - len(sp.starts)
	k.rounds = max(0, left-min(others, sp.budget/sp.full/5)) / sp.Population
	k.sweep = min(others, left-k.rounds*sp.Population)
	return k
}

// Ask implements Algorithm.
func (k *knotSearch) Ask() []Candidate {
	k.points = nil
	if k.generation == 0 {
		return k.seeds()
	}
	if k.generation == 1 {
		k.cma = newCMAES(k.encode(k.best.Rung), k.Sigma, k.Population, k.rng)
	}
	if k.generation <= k.rounds && k.cma.spread() > 1e-4 {
		k.points = k.cma.ask()
		var c []Candidate
		for _, x := range k.points {
			c = append(c, Candidate{Rung: k.decode(x), Origin: "cma"})
		}
		return c
	}
	if k.swept {
		return nil
	}
	k.swept = true
	return k.windows()
}

// Tell implements Algorithm.
func (k *knotSearch) Tell(batch []Result) {
	k.generation++
	fitness := make([]float64, len(batch))
	for i, t := range batch {
		fitness[i] = t.Fitness
		if t.Fitness < k.best.Fitness || k.best.Rung.Factors == nil {
			k.best = t
		}
	}
	if k.points != nil {
		k.cma.tell(k.points, fitness)
	}
}

// encode returns the variables whose decode is nearest to g at the knots.
func (k *knotSearch) encode(g Rung) []float64 {
	var x []float64
	before := 0.0
	for i, at := range k.knots {
		lo := min(int(at), len(g.Factors)-1)
		hi := min(lo+1, len(g.Factors)-1)
		frac := at - float64(lo)
		v := (1-frac)*math.Log(g.Factors[lo]) + frac*math.Log(g.Factors[hi])
		x = append(x, math.Sqrt(max(0, v-before)/k.unit[i]))
		before = v
	}
	if k.Attention == "search" {
		x = append(x, math.Log(g.AttentionFactor)/k.unit[len(x)])
	}
	return x
}

// decode returns the rung of variables x, factors to four decimals.
func (k *knotSearch) decode(x []float64) Rung {
	rise := make([]float64, len(k.knots)) // log lambda at the knots
	total := 0.0
	for i := range rise {
		total += x[i] * x[i] * k.unit[i]
		rise[i] = total
	}
	if limit := math.Log(k.maxFactor); total > limit {
		for i := range rise {
			rise[i] *= limit / total
		}
	}
	factors := make([]float64, k.rope.Pairs())
	seg := 0
	for i := range factors {
		at := float64(i)
		for seg+2 < len(k.knots) && at > k.knots[seg+1] {
			seg++
		}
		v := rise[len(rise)-1]
		if len(k.knots) > 1 && at < k.knots[len(k.knots)-1] {
			frac := (at - k.knots[seg]) / (k.knots[seg+1] - k.knots[seg])
			v = rise[seg] + frac*(rise[seg+1]-rise[seg])
		}
		factors[i] = min(max(1, round4(math.Exp(v))), math.Floor(k.maxFactor*1e4)/1e4)
	}
	attention := k.AttentionFactor
	if k.Attention == "search" {
		n := len(k.knots)
		attention = round4(math.Exp(min(max(x[n]*k.unit[n], -attentionBound), attentionBound)))
	}
	return k.rung(factors, k.firstWindow(), attention)
}

// firstWindow is the n-hat during CMA-ES: 0, or the first of the allowed ones where 0 is not allowed.
func (k *knotSearch) firstWindow() int {
	if slices.Contains(k.StartWindows, 0) {
		return 0
	}
	return k.StartWindows[0]
}

// windows are the best candidate with other start windows, evenly over the allowed ones where the budget is short. When
// the best is still a seed, it is brought into the space: a seed may exceed a MaxScale below 1 and has an attention
// factor of its own.
func (k *knotSearch) windows() []Candidate {
	factors, attention := slices.Clone(k.best.Rung.Factors), k.best.Rung.AttentionFactor
	for i, f := range factors {
		factors[i] = min(f, k.maxFactor)
	}
	if k.Attention == "fixed" {
		attention = k.AttentionFactor
	}
	var others []int
	for _, w := range k.StartWindows {
		if w != k.best.Rung.StartWindow {
			others = append(others, w)
		}
	}
	var c []Candidate
	n := min(k.sweep, len(others))
	for i := range n {
		w := others[(2*i+1)*len(others)/(2*n)]
		c = append(c, Candidate{Rung: k.rung(factors, w, attention), Origin: "start window", Parents: []int{k.best.Candidate}})
	}
	return c
}

func round4(v float64) float64 { return math.Round(v*1e4) / 1e4 }
