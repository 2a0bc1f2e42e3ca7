package study

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// evolution is the paper's search (Algorithm 1): an elitist evolutionary search on the grid of
// monotone lambda, jointly with n-hat. Its generations:
//
//  1. PI, NTK and YaRN as published (for comparison: they have attention factors of their own);
//  2. the first population: the three on the grid, with the search's attention factor and n-hat 0
//     (further starts keep theirs where it is allowed), and their mutants;
//  3. Iterations times: the best Parents of all that survived, Mutations mutants and Crossovers
//     children of them.
//
// Every individual keeps 1 <= lambda_0 <= … <= lambda_{d/2-1} <= 1.25 s by construction: a gene
// is drawn between its neighbours, so nothing is ever repaired or thrown away.
type evolution struct {
	*space
	phase      int
	asked      []individual // the generation that waits for its fitness
	population []individual
	seen       map[string]bool
	top        int // the largest lambda, in steps above 1
	attention  [2]int
}

// individual holds genes in grid units, so that equality and monotony are exact.
type individual struct {
	lambda    []int // steps above 1
	window    int   // index into StartWindows
	attention int   // thousandths; 0 when fixed
	id        int
	fitness   float64
	origin    string
	parents   []int
}

func newEvolution(sp *space) algorithm {
	e := &evolution{space: sp, seen: map[string]bool{}}
	e.top = int(math.Floor((sp.maxFactor-1)/sp.step + 1e-9))
	// From no change to twice the formula's rise.
	e.attention = [2]int{1000, int(math.Round(1000 * (2*sp.attentionFactor - 1)))}
	if e.attention[1] < e.attention[0] {
		e.attention[0], e.attention[1] = e.attention[1], e.attention[0]
	}
	e.attention[0] = max(1, e.attention[0])
	return e
}

// Ask implements algorithm.
func (e *evolution) Ask() []Candidate {
	e.asked = nil
	switch {
	case e.phase == 0:
		return e.seeds()
	case e.phase == 1:
		for _, s := range e.seeds() {
			e.ask(e.onGrid(s, e.attentionFactor))
		}
		e.asked = e.asked[:min(len(e.asked), e.Population)]
		seeds := e.asked
		for i := len(seeds); i < e.Population; i++ {
			e.ask(e.mutant(seeds[i%len(seeds)]))
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
	for _, x := range e.asked {
		c = append(c, e.candidate(x))
	}
	return c
}

// Adopt implements algorithm.
func (e *evolution) Adopt(batch []Candidate) {
	e.asked = nil
	if e.phase == 0 {
		return
	}
	for _, c := range batch {
		e.ask(e.onGrid(c, c.Rung.AttentionFactor))
	}
}

func (e *evolution) ask(x individual) {
	e.seen[x.key()] = true
	e.asked = append(e.asked, x)
}

// Tell implements algorithm: Top-k, the oldest of equals first.
func (e *evolution) Tell(batch []result) {
	if e.phase > 0 {
		for i, r := range batch {
			x := e.asked[i]
			x.id, x.fitness = r.Candidate, r.Fitness
			e.population = append(e.population, x)
		}
		slices.SortStableFunc(e.population, func(a, b individual) int {
			return cmp.Or(cmp.Compare(a.fitness, b.fitness), cmp.Compare(a.id, b.id))
		})
		e.population = e.population[:min(len(e.population), e.parents)]
	}
	e.phase++
}

// mutant redraws each lambda with probability p, uniformly among the grid points between its
// neighbours (the lower one as just mutated), and n-hat and a searched attention factor with
// probability p among theirs. It tries until the individual is new; in a space so small that a
// hundred tries find none, the study drops the repetition.
func (e *evolution) mutant(parent individual) individual {
	x := individual{origin: "mutation"}
	if parent.id > 0 || len(e.population) > 0 {
		x.parents = []int{parent.id}
	} else {
		x.origin = "mutation of " + parent.origin
	}
	for range 100 {
		x.lambda, x.window, x.attention = slices.Clone(parent.lambda), parent.window,
			parent.attention
		for i := range x.lambda {
			if e.rng.Float64() >= e.mutationProbability {
				continue
			}
			lo, hi := 0, e.top
			if i > 0 {
				lo = x.lambda[i-1]
			}
			if i+1 < len(x.lambda) {
				hi = x.lambda[i+1]
			}
			x.lambda[i] = lo + e.rng.IntN(hi-lo+1)
		}
		if e.rng.Float64() < e.mutationProbability {
			x.window = e.rng.IntN(len(e.StartWindows))
		}
		if x.attention != 0 && e.rng.Float64() < e.mutationProbability {
			x.attention = e.attention[0] + e.rng.IntN(e.attention[1]-e.attention[0]+1)
		}
		if !e.seen[x.key()] {
			break
		}
	}
	return x
}

// child starts as the better of two parents and takes each lambda of the other with probability p
// where that keeps it monotone, and n-hat and a searched attention factor of either. After 20 tries
// without anything new it is a mutant of the better parent, as in the authors' code.
func (e *evolution) child() individual {
	i, j := e.two(len(e.population))
	if i == j {
		return e.mutant(e.population[0])
	}
	a, b := e.population[i], e.population[j]
	x := individual{origin: "crossover", parents: []int{a.id, b.id}}
	for range 20 {
		x.lambda, x.window, x.attention = slices.Clone(a.lambda), a.window, a.attention
		for i := range x.lambda {
			if e.rng.Float64() >= e.mutationProbability {
				continue
			}
			if g := b.lambda[i]; (i == 0 || g >= x.lambda[i-1]) &&
				(i+1 == len(x.lambda) || g <= x.lambda[i+1]) {
				x.lambda[i] = g
			}
		}
		if e.rng.Float64() < 0.5 {
			x.window = b.window
		}
		if e.rng.Float64() < 0.5 {
			x.attention = b.attention
		}
		if !e.seen[x.key()] {
			return x
		}
	}
	return e.mutant(a)
}

// onGrid is the individual nearest to a candidate with another attention factor, within the bounds.
func (e *evolution) onGrid(c Candidate, attention float64) individual {
	x := individual{
		origin: c.Origin, parents: c.Parents,
		window: max(0, slices.Index(e.StartWindows, c.Rung.StartWindow)),
	}
	least := 0
	for _, f := range c.Rung.Factors {
		least = min(max(int(math.Round((f-1)/e.step)), least), e.top)
		x.lambda = append(x.lambda, least)
	}
	if e.Attention == "search" {
		x.attention = min(max(int(math.Round(1000*attention)), e.attention[0]), e.attention[1])
	}
	return x
}

func (e *evolution) candidate(x individual) Candidate {
	factors := make([]float64, len(x.lambda))
	for i, k := range x.lambda {
		// the double nearest to the decimal, for short JSON
		factors[i] = math.Round((1+float64(k)*e.step)*1e8) / 1e8
	}
	attention := e.attentionFactor
	if x.attention != 0 {
		attention = float64(x.attention) / 1000
	}
	return Candidate{
		Rung: e.rung(factors, e.StartWindows[x.window], attention), Origin: x.origin,
		Parents: x.parents,
	}
}

// key identifies an individual by its genes.
func (x individual) key() string {
	b := binary.AppendVarint(nil, int64(x.window))
	b = binary.AppendVarint(b, int64(x.attention))
	for _, k := range x.lambda {
		b = binary.AppendVarint(b, int64(k))
	}
	return string(b)
}
