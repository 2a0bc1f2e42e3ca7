package ropescale

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
)

// sampledSearch is CMA-ES on a curve of factors, made for evaluations that are dear and can be had in parts:
//
//  1. PI, NTK and YaRN as published, and what other starts there are, are scored on all that the fitness is made of.
//     The search starts at the best.
//  2. A generation is scored on one reading of each kind only, of those for generations where there are any: the next of a deck
//     that is shuffled anew when all were dealt.
//     Where a sequence gives several kinds, they are dealt together. All candidates of a generation read the same, so their
//     differences are paired, and all that CMA-ES takes is their ranking. No window is read often enough to be fitted.
//  3. From the second generation on, each candidate is the best of four draws by a quadratic model of all that was read so
//     far.
//  4. The mean of the distribution is scored on all that the fitness is made of at the end, and on the way each time
//     that the tokens spent have grown by half. Only these and the starts can be the best: what happened to look good on one reading cannot.
//  5. The two best starts and the two best means are finalists: they read those for finalists too, which decide between them
//     (Study.Best). The best of a handful is the luckiest of them where few keys tell them apart; more keys for all would cost too much.
//  6. Where a start wins, nothing was found: the search begins anew there, if it may (Params.Retries).
//  7. A search that is to end early (Study.SetEnding) scores the mean and has its finals then, and can go on from where it was.
type sampledSearch struct {
	curve
	starts []Result
	means  []Result // of this try
	finals []Result // of all
	cma    *cmaes
	decks  []*deck
	model  quadratic
	spent  int  // tokens
	begun  int  // tokens spent before this try, as if each had its own starts
	limit  int  // tokens spent at which a try is over
	tries  int  // left
	check  int  // tokens spent at which the mean is scored
	over   bool // there are no more generations: the mean is scored, then there are finals
	ending bool // and that is to be so now
	cut    bool // and it is only because of that

	// The batch last asked for; points is nil where it is no generation.
	points [][]float64
	hand   []int
	judged bool
}

// draws is how many points the model chooses each candidate from.
const draws = 4

// checkpoint is the growth of tokens spent between two scores of the mean.
const checkpoint = 1.5

func newSampledSearch(sp *space) Algorithm {
	return &sampledSearch{curve: newCurve(sp), decks: newDecks(sp.readings), tries: sp.Retries, limit: sp.budget - sp.Retries*sp.retry}
}

// deck deals sequences that give readings of the same kinds, all of them before one comes again.
type deck struct {
	passes [][]int
	dealt  int
}

func newDecks(readings []Reading) []*deck {
	var decks []*deck
	at := map[string]int{} // of decks, by the kinds
	use := Use("")
	if places(readings, ForGenerations) != nil {
		use = ForGenerations
	}
	for _, pass := range Passes(readings) {
		if readings[pass[0]].Use != use {
			continue
		}
		var kinds []string
		for _, i := range pass {
			kinds = append(kinds, readings[i].Kind)
		}
		key := strings.Join(kinds, "\x00")
		if _, ok := at[key]; !ok {
			at[key], decks = len(decks), append(decks, &deck{})
		}
		decks[at[key]].passes = append(decks[at[key]].passes, pass)
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
	s.points, s.judged = nil, false
	switch {
	case s.starts == nil:
		c := s.seeds()
		s.spend(len(c) * s.full)
		return c
	case s.over && s.final > 0 && len(s.means) > 0:
		return s.finalists()
	case s.over && !s.again(), s.ending && s.cma == nil:
		return nil
	}
	if s.cma == nil {
		s.begin(slices.MinFunc(s.starts, func(a, b Result) int { return cmp.Compare(a.Fitness, b.Fitness) }))
	}
	s.over = s.cma.spread() < 1e-4 || s.spent+s.closing() > s.limit
	s.cut = s.ending && !s.over
	s.over = s.over || s.ending
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

func (s *sampledSearch) begin(at Result) {
	s.cma = newCMAES(s.encode(at.Rung), s.Sigma, s.Population, s.rng)
}

// finalists are the best starts and the best of what this try found, to be scored on the readings for them.
func (s *sampledSearch) finalists() (c []Candidate) {
	final := places(s.readings, ForFinalists)
	best := func(results []Result, most int) {
		slices.SortStableFunc(results, func(a, b Result) int { return cmp.Compare(a.Fitness, b.Fitness) })
		for _, r := range results[:min(most, len(results))] {
			c = append(c, Candidate{Rung: r.Rung, Origin: "final", Readings: final})
		}
	}
	if s.finals == nil {
		best(slices.Clone(s.starts), finalStarts)
	}
	best(s.means, finalMeans)
	s.means, s.judged = nil, true
	s.spend(len(c) * s.final)
	return c
}

// again begins anew where a start won and there is a try left.
func (s *sampledSearch) again() bool {
	best, ok := winner(s.finals, s.readings, s.isStart)
	if !ok || !s.isStart(best.Candidate) || s.tries == 0 || s.ending {
		return false
	}
	s.tries--
	s.limit += s.retry
	s.begun = s.spent - s.least
	s.spend(0)
	s.begin(best)
	return true
}

func (s *sampledSearch) isStart(candidate int) bool {
	return slices.ContainsFunc(s.starts, func(r Result) bool { return r.Candidate == candidate })
}

// setEnding is Study.SetEnding.
func (s *sampledSearch) setEnding(early bool) {
	s.ending = early
	if !early && s.cut {
		s.over, s.cut = false, false
	}
}

// closing is how many tokens one more generation reads, and what comes after the last.
func (s *sampledSearch) closing() int {
	n := s.generationTokens() + s.full + finalMeans*s.final
	if s.finals == nil {
		n += finalStarts * s.final
	}
	return n
}

// spend counts what no generation reads.
func (s *sampledSearch) spend(tokens int) {
	s.spent += tokens
	s.check = s.begun + int(checkpoint*float64(s.spent-s.begun))
}

// finalStarts and finalMeans are how many starts and means are finalists.
const finalStarts, finalMeans = 2, 2

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
	switch {
	case s.starts == nil:
		s.starts = batch
		return
	case s.judged:
		s.finals = append(s.finals, batch...)
		return
	case s.points == nil:
		if !slices.ContainsFunc(s.means, func(r Result) bool { return r.Candidate == batch[0].Candidate }) {
			s.means = append(s.means, batch...)
		}
		return
	}
	value := make([]float64, len(batch))
	for i, r := range batch {
		value[i] = estimate(r.Losses, s.readings, s.hand)
	}
	s.model.add(s.points, value)
	s.cma.tell(s.points, value)
}
