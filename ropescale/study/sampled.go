package study

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/longrope/longrope/ropescale/cma"

	"github.com/longrope/longrope/ropescale"
)

// sampledSearch is CMA-ES on a curve of factors, made for evaluations that are dear and can be had
// in parts:
//
//  1. The seeds as published, and what other starts there are, are scored on all that the fitness
//     is made of. The search starts at the best.
//  2. A generation is scored on one reading of each kind only, of those for generations where there
//     are any (cheap ones: see bases): the next of a deck that is shuffled again when all were
//     dealt. Where a sequence gives several kinds, they are dealt together. All candidates of a
//     generation get the same, so their differences are paired, and all that CMA-ES takes is their
//     ranking. No window comes often enough to be fitted.
//  3. From the second generation on, each candidate is the best of four draws by a quadratic model
//     of all that was told so far.
//  4. The mean of the distribution is scored on all that the fitness is made of at the end, and on
//     the way each time that the tokens spent have grown by half. Only these and the starts can be
//     the best: a candidate that happened to look good on one reading cannot.
//  5. The two best starts and the two best means are finalists: they are scored on the readings for
//     finalists too, which decide between them (Study.Best). The best of a handful is the luckiest
//     of them where few keys tell them apart; more keys for all would cost too much.
//  6. Where a start wins, the search restarts there, if it may (Params.Retries).
//  7. A search that is to end early (Study.SetEnding) scores the mean and has its finals then, and
//     can resume from where it was.
type sampledSearch struct {
	curve
	starts []result
	means  []result // of this try, that no final compared yet
	finals []result // of all
	cma    *cma.ES
	decks  []*deck
	bases  *bases // nil: generations are scored exactly
	model  cma.Quadratic

	bars     bars     // of the starts
	emphasis emphasis // of the kinds of readings, in generations

	phase  phase  // of the batch at hand
	reason reason // there are no more generations: the mean is scored, then there are finals
	ending bool   // the search is to end early

	spent int // tokens
	begun int // tokens spent before this try, as if each had its own starts
	limit int // tokens spent at which a try is over
	tries int // left
	check int // tokens spent at which the mean is scored

	cost   int         // tokens of the batch at hand
	points [][]float64 // of the generation at hand
	hand   []int       // the readings that it is scored on
}

// phase of a sampledSearch.
type phase string

const (
	starting   phase = "starts"
	comparing  phase = "cheap reading of the next base"
	renewing   phase = "base"
	generating phase = "generation"
	judging    phase = "mean"
	finishing  phase = "finals"
)

// reason why a try has no more generations.
type reason string

const (
	exhausted reason = "its tokens are spent, or the distribution is a point"
	cutShort  reason = "the search is to end early"
)

// The origins of cma's candidates, by which a batch of an earlier version is known, too.
const (
	originSample   = "cma"
	originMean     = "cma mean"
	originFinal    = "final"
	originBase     = "base"
	originCompared = "base by the one before"
)

const (
	// draws is how many points the model chooses each candidate from.
	draws = 4
	// checkpoint is the growth of tokens spent between two scores of the mean.
	checkpoint = 1.5
	// smallestSpread of the distribution, in variables, is as good as a point.
	smallestSpread = 1e-4
	// finalStarts and finalMeans are how many starts and means are finalists.
	finalStarts, finalMeans = 2, 2
)

func newSampledSearch(sp *space) algorithm {
	decks := newDecks(sp.readings)
	return &sampledSearch{
		curve: newCurve(sp), decks: decks, bases: newBases(sp.readings, decks), tries: sp.Retries,
		limit: sp.budget - sp.Retries*sp.retry, emphasis: emphasis{},
	}
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
		pass = slices.DeleteFunc(pass, func(i int) bool { return readings[i].Use != use })
		if len(pass) == 0 {
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

// Ask implements algorithm.
func (s *sampledSearch) Ask() []Candidate {
	switch {
	case s.starts == nil:
		return s.ask(starting, s.whole(s.seeds()))
	case s.reason != "" && s.finalized && len(s.means) > 0:
		return s.ask(finishing, s.finalists())
	case s.reason != "" && !s.restart(), s.ending && s.cma == nil:
		return nil
	}
	if s.cma == nil {
		s.begin(s.bars.best(s.starts, s.readings, 1)[0])
	}
	switch {
	case s.cma.Spread() < smallestSpread || s.spent+s.closing() > s.limit:
		s.reason = exhausted
	case s.ending:
		s.reason = cutShort
	default:
		s.reason = ""
	}
	if s.reason != "" || s.spent >= s.check {
		mean := Candidate{Rung: s.decode(s.cma.Mean), Origin: originMean}
		return s.ask(judging, s.whole([]Candidate{mean}))
	}
	if c, p := s.renewal(); p != "" {
		return s.ask(p, []Candidate{c})
	}
	hand, base := s.dealt()
	s.points = s.propose()
	var c []Candidate
	for _, x := range s.points {
		c = append(c, Candidate{
			Rung: s.decode(x), Base: base, Origin: originSample, Readings: hand,
		})
	}
	return s.ask(generating, c)
}

// whole has candidates scored on all that the fitness is made of, and on what finalists are scored
// on where the same sequences give both.
func (s *sampledSearch) whole(c []Candidate) []Candidate {
	if !s.finalized || s.final > 0 {
		return c
	}
	for i := range c {
		c[i].Readings = slices.Sorted(slices.Values(deciding(s.readings)))
	}
	return c
}

// dealt is what the next generation is scored on, and with what base.
func (s *sampledSearch) dealt() (hand []int, base *ropescale.Rung) {
	if s.bases != nil && !s.bases.fallback {
		return s.bases.hand(), &s.bases.base.Rung
	}
	for _, d := range s.decks {
		hand = append(hand, d.deal(s.rng)...)
	}
	if s.bases != nil {
		hand = s.bases.exact(hand)
	}
	return hand, nil
}

// renewal makes the mean the base of cheap readings, if that is due ("": it is not): the base at
// hand scores it first, and then it is evaluated in full.
func (s *sampledSearch) renewal() (Candidate, phase) {
	b, mean := s.bases, s.decode(s.cma.Mean)
	switch {
	case b == nil || b.fallback || !b.due(mean):
		return Candidate{}, ""
	case b.base != nil && !b.compared:
		return Candidate{
			Rung: mean, Base: &b.base.Rung, Origin: originCompared, Readings: b.keep(),
		}, comparing
	}
	b.deal(s.rng)
	return Candidate{Rung: mean, Origin: originBase, Readings: b.exact(b.hand())}, renewing
}

// ask makes a batch the one at hand.
func (s *sampledSearch) ask(p phase, batch []Candidate) []Candidate {
	s.phase, s.hand = p, places(s.readings, "")
	if batch[0].Readings != nil {
		s.hand = batch[0].Readings
	}
	s.cost = 0
	for _, i := range s.hand {
		s.cost += len(batch) * s.readings[i].Tokens
	}
	return batch
}

// Adopt implements algorithm: the origins of the candidates tell the phase.
func (s *sampledSearch) Adopt(batch []Candidate) {
	p := starting
	switch {
	case s.starts == nil:
	case batch[0].Origin == originMean:
		p = judging
	case batch[0].Origin == originFinal:
		p = finishing
	case batch[0].Origin == originCompared && s.bases != nil:
		p, s.bases.kept = comparing, batch[0].Readings
	case batch[0].Origin == originBase && s.bases != nil:
		p = renewing
		s.bases.adopt(batch[0].Readings)
	default:
		p, s.reason, s.points = generating, "", nil
		if s.cma == nil {
			s.begin(s.bars.best(s.starts, s.readings, 1)[0])
		}
		if g := batch[0].Base; s.bases != nil && g != nil && s.bases.base == nil {
			nan := slices.Repeat(Losses{math.NaN()}, len(s.readings))
			s.bases.base = &result{Rung: *g, Losses: nan}
		}
		for _, c := range batch {
			s.points = append(s.points, s.encode(c.Rung))
		}
	}
	s.ask(p, batch)
}

func (s *sampledSearch) begin(at result) {
	if s.around(at.Rung) {
		s.model = cma.Quadratic{} // its points were around another start
	}
	s.cma = cma.New(s.encode(at.Rung), s.sigma, s.Population, s.rng)
	if s.bases != nil {
		s.bases.restart()
	}
}

// finalists are the best starts and the best means of this try.
func (s *sampledSearch) finalists() (c []Candidate) {
	best := s.bars.best(s.means, s.readings, finalMeans)
	if s.finals == nil {
		best = append(s.bars.best(s.starts, s.readings, finalStarts), best...)
	}
	for _, r := range best {
		c = append(c, Candidate{
			Rung: r.Rung, Origin: originFinal,
			Readings: places(s.readings, ForFinalists),
		})
	}
	return c
}

// restart begins another try where a start won and there is one left.
func (s *sampledSearch) restart() bool {
	best, ok := winner(s.finals, s.readings, s.isStart)
	if !ok || !s.isStart(best.Candidate) || s.tries == 0 || s.ending {
		return false
	}
	s.tries--
	s.limit += s.retry
	s.begun = s.spent - s.least
	s.nextCheck()
	s.begin(best)
	return true
}

func (s *sampledSearch) isStart(candidate int) bool {
	return slices.ContainsFunc(s.starts, func(r result) bool { return r.Candidate == candidate })
}

// setEnding implements ender.
func (s *sampledSearch) setEnding(early bool) {
	s.ending = early
	if !early && s.reason == cutShort {
		s.reason = ""
	}
}

// isEnding implements ender.
func (s *sampledSearch) isEnding() bool { return s.ending }

// foreseen implements ender.
func (s *sampledSearch) foreseen() int { return s.limit }

// closing implements ender: a generation, with a new base where it needs one, the mean and the
// finals.
func (s *sampledSearch) closing() int {
	n := s.generationTokens() + s.bases.tokens() + s.full + finalMeans*s.final
	if s.bases != nil && s.bases.fallback {
		n = s.Population*s.bases.most(true) + s.full + finalMeans*s.final
	}
	if s.finals == nil {
		n += finalStarts * s.final
	}
	return n
}

func (s *sampledSearch) nextCheck() {
	s.check = s.begun + int(checkpoint*float64(s.spent-s.begun))
}

// generationTokens is the most that a generation takes.
func (sp *space) generationTokens() int {
	n := 0
	for _, d := range newDecks(sp.readings) {
		most := 0
		for _, pass := range d.passes {
			most = max(most, sp.readings[pass[0]].Tokens)
		}
		n += most
	}
	if places(sp.readings, ForBases) != nil {
		n *= HandPasses
	}
	return n * sp.Population
}

// propose draws a generation.
func (s *sampledSearch) propose() [][]float64 {
	points := s.cma.Ask()
	if s.model.Empty() {
		return points
	}
	s.model.Fit(s.cma.Mean)
	value := make([]float64, len(points))
	for i, x := range points {
		value[i] = s.model.At(x)
	}
	for range draws - 1 {
		for i, x := range s.cma.Ask() {
			if v := s.model.At(x); v < value[i] {
				points[i], value[i] = x, v
			}
		}
	}
	return points
}

// Tell implements algorithm.
func (s *sampledSearch) Tell(batch []result) {
	s.spent += s.cost
	if s.phase != generating && s.phase != comparing && s.phase != renewing {
		s.nextCheck()
	}
	switch s.phase {
	case starting:
		s.starts = batch
		s.bars = newBars(batch, s.readings, s.hand)
	case judging:
		s.steer(batch[0])
		seen := func(r result) bool { return r.Candidate == batch[0].Candidate }
		if !slices.ContainsFunc(s.means, seen) {
			s.means = append(s.means, batch...)
		}
	case finishing:
		s.finals, s.means = append(s.finals, batch...), nil
	case comparing:
		b := s.bases
		b.compared, b.cheap = true, estimate(batch[0].Losses, s.readings, b.kept)
	case renewing:
		s.bases.renew(batch[0])
	case generating:
		s.learn(batch)
	}
}

// steer has generations make up for what their mean is behind the starts in.
func (s *sampledSearch) steer(mean result) {
	kinds := byKind(mean.Losses, s.readings, s.hand)
	if s.emphasis.steer(s.bars, kinds) {
		s.model = cma.Quadratic{} // it knows sums of the former weights
	}
}

// learn moves the distribution by a generation. One that is not whole, which an earlier version of
// the program may have left, only informs the model.
func (s *sampledSearch) learn(batch []result) {
	value := make([]float64, len(batch))
	for i, r := range batch {
		value[i] = s.emphasis.sum(byKind(r.Losses, s.readings, s.hand))
		if math.IsNaN(value[i]) { // not all of it was evaluated
			value[i] = math.Inf(1)
		}
	}
	if s.bases != nil {
		s.bases.since++
	}
	s.model.Add(s.points, value)
	if len(batch) == s.cma.Lambda {
		s.cma.Tell(s.points, value)
	}
}
