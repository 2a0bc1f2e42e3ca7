package ropescale

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
)

// sampledSearch is CMA-ES on a curve of factors, made for evaluations that are dear and can be had in parts:
//
//  1. PI, NTK and YaRN as published, and what other starts there are, are scored on all readings. The search starts at the
//     best.
//  2. A generation is scored on one reading of each kind only: the next of a deck that is shuffled anew when all were dealt.
//     Where a sequence gives several kinds, they are dealt together. All candidates of a generation read the same, so their
//     differences are paired, and all that CMA-ES takes is their ranking. No window is read often enough to be fitted.
//  3. From the second generation on, each candidate is the best of four draws by a quadratic model of all that was read so
//     far.
//  4. The mean of the distribution is scored on all readings at the end, and on the way each time that the tokens spent have
//     grown by half. Only these and the starts can be the best: what happened to look good on one reading cannot.
type sampledSearch struct {
	curve
	starts []Result
	cma    *cmaes
	decks  []*deck
	model  quadratic
	spent  int // tokens
	check  int // tokens spent at which the mean is scored
	over   bool

	// The batch last asked for; points is nil where it is scored on all readings.
	points [][]float64
	hand   []int
}

// draws is how many points the model chooses each candidate from.
const draws = 4

// checkpoint is the growth of tokens spent between two scores of the mean.
const checkpoint = 1.5

func newSampledSearch(sp *space) Algorithm {
	return &sampledSearch{curve: newCurve(sp), decks: newDecks(sp.readings)}
}

// deck deals sequences that give readings of the same kinds, all of them before one comes again.
type deck struct {
	passes [][]int
	dealt  int
}

func newDecks(readings []Reading) []*deck {
	var decks []*deck
	places := map[string]int{} // of decks, by the kinds
	for _, pass := range Passes(readings) {
		var kinds []string
		for _, i := range pass {
			kinds = append(kinds, readings[i].Kind)
		}
		key := strings.Join(kinds, "\x00")
		at, ok := places[key]
		if !ok {
			at = len(decks)
			places[key], decks = at, append(decks, &deck{})
		}
		decks[at].passes = append(decks[at].passes, pass)
	}
	return decks
}

func (d *deck) deal(rng *rand.Rand) []int {
	n := len(d.passes)
	if d.dealt%n == 0 {
		rng.Shuffle(n, func(i, j int) { d.passes[i], d.passes[j] = d.passes[j], d.passes[i] })
	}
	d.dealt++
	return d.passes[(d.dealt-1)%n]
}

// Ask implements Algorithm.
func (s *sampledSearch) Ask() []Candidate {
	s.points = nil
	switch {
	case s.starts == nil:
		c := s.seeds()
		s.spend(len(c) * s.full)
		return c
	case s.over:
		return nil
	}
	if s.cma == nil {
		best := slices.MinFunc(s.starts, func(a, b Result) int { return cmp.Compare(a.Fitness, b.Fitness) })
		s.cma = newCMAES(s.encode(best.Rung), s.Sigma, s.Population, s.rng)
	}
	s.over = s.cma.spread() < 1e-4 || s.spent+s.generationTokens()+s.full > s.budget
	if s.over || s.spent >= s.check {
		s.spend(s.full)
		return []Candidate{{Rung: s.decode(s.cma.mean), Origin: "cma mean"}}
	}
	s.hand = nil
	for _, d := range s.decks {
		s.hand = append(s.hand, d.deal(s.rng)...)
	}
	s.points = s.propose()
	var c []Candidate
	for _, x := range s.points {
		c = append(c, Candidate{Rung: s.decode(x), Origin: "cma", Readings: s.hand})
	}
	for _, i := range s.hand {
		s.spent += s.Population * s.readings[i].Tokens
	}
	return c
}

// spend counts what is scored on all readings.
func (s *sampledSearch) spend(tokens int) {
	s.spent += tokens
	s.check = int(checkpoint * float64(s.spent))
}

// generationTokens is the most that a generation reads.
func (sp *space) generationTokens() int {
	n := 0
	for _, d := range newDecks(sp.readings) {
		most := 0
		for _, pass := range d.passes {
			most = max(most, sp.readings[pass[0]].Tokens)
		}
		n += most
	}
	return n * sp.Population
}

// propose draws a generation.
func (s *sampledSearch) propose() [][]float64 {
	points := s.cma.ask()
	if len(s.model.values) == 0 {
		return points
	}
	s.model.fit(s.cma.mean)
	value := make([]float64, len(points))
	for i, x := range points {
		value[i] = s.model.at(x)
	}
	for range draws - 1 {
		for i, x := range s.cma.ask() {
			if v := s.model.at(x); v < value[i] {
				points[i], value[i] = x, v
			}
		}
	}
	return points
}

// Tell implements Algorithm.
func (s *sampledSearch) Tell(batch []Result) {
	if s.starts == nil {
		s.starts = batch
	}
	if s.points == nil {
		return
	}
	// The fitness of the hand: each kind has the weight of all its readings.
	weight, share := map[string]float64{}, map[string]float64{}
	for _, r := range s.readings {
		weight[r.Kind] += r.Weight
	}
	for _, i := range s.hand {
		share[s.readings[i].Kind]++
	}
	value := make([]float64, len(batch))
	for i, r := range batch {
		for _, k := range s.hand {
			kind := s.readings[k].Kind
			value[i] += weight[kind] / share[kind] * r.Losses[k]
		}
	}
	s.model.add(s.points, value)
	s.cma.tell(s.points, value)
}
