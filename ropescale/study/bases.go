package study

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// bases is how sampledSearch has generations scored by cheap readings: of the windows in hand, the
// engine keeps what it computed under a base rung, and scores candidates behind that. Their
// differences are right near the base. So:
//
//   - The base is the mean of the distribution. It is renewed when the mean has moved by a radius
//     (Distance), or after some generations in any case.
//   - Each renewal replaces one of the windows in hand, so that none is fitted. On those that stay
//     there are, of the new base, a cheap loss by the old base and an exact one by itself, and an
//     exact one of the old base: how much it was to gain, and how much it gained.
//   - A base that lacks most of what it was to gain halves the radius. After two in a row,
//     generations are scored exactly.
type bases struct {
	readings []Reading
	decks    []*deck
	exactly  map[int]int // the reading for bases that is the same as one for generations
	hands    [][][]int   // of each deck the passes in hand, the oldest first
	kept     []int       // readings of the passes that the next base has in hand too
	base     *result     // nil: none yet
	radius   float64
	since    int     // generations with this base
	compared bool    // there is a cheap loss of the next base
	cheap    float64 // that loss, an estimate
	strikes  int     // renewals in a row that did not agree
	fallback bool    // generations are scored exactly
	renewals []Renewal
}

// Renewal is a change of the base of cheap readings, from one to the next. Losses are logs of what
// the fitness would be on the windows that both bases have.
type Renewal struct {
	Candidate int     `json:"candidate"` // the new base
	Distance  float64 `json:"distance"`  // from the old base
	// Before is the exact loss of the old base, Cheap and Exact are losses of the new one.
	Before float64 `json:"before"`
	Cheap  float64 `json:"cheap"`
	Exact  float64 `json:"exact"`
	// Agrees is false where the new base lacks most of what it was to gain.
	Agrees bool `json:"agrees"`
}

const (
	// HandPasses are how many windows a generation is scored on, of each kind.
	HandPasses = 2
	// mostGenerations are scored with one base.
	mostGenerations = 3
	// flattery is how much of what a base was to change the exact loss may lack, but for
	// cheapNoise, nats: that is what a cheap loss near the base is off by.
	flattery, cheapNoise = 0.75, 0.01
	// mostStrikes in a row are enough to do without cheap readings.
	mostStrikes = 2
	// foreseenRenewals are in the budget of a try.
	foreseenRenewals = 8
)

// newBases is nil where the readings for generations are not cheap.
func newBases(readings []Reading, decks []*deck) *bases {
	exact := places(readings, ForBases)
	if exact == nil {
		return nil
	}
	b := &bases{
		readings: readings, decks: decks, exactly: map[int]int{}, radius: ropescale.Near,
		hands: make([][][]int, len(decks)),
	}
	for k, i := range places(readings, ForGenerations) {
		b.exactly[i] = exact[k]
	}
	return b
}

// restart has the next base be the first of a try.
func (b *bases) restart() {
	b.base, b.compared, b.radius, b.strikes = nil, false, ropescale.Near, 0
}

// due reports whether a generation around mean needs another base.
func (b *bases) due(mean ropescale.Rung) bool {
	return b.base == nil || b.since >= mostGenerations ||
		ropescale.Distance(mean, b.base.Rung) > b.radius
}

// keep settles which windows the next base has in hand too: all but the oldest.
func (b *bases) keep() []int {
	b.kept = nil
	for d, hand := range b.hands {
		if len(hand) == HandPasses || len(hand) == len(b.decks[d].passes) && len(hand) > 1 {
			hand = hand[1:]
		}
		b.kept = append(b.kept, slices.Concat(hand...)...)
	}
	return b.kept
}

// deal fills the hands for a new base: what is kept, and others.
func (b *bases) deal(rng *rand.Rand) {
	for d, before := range b.hands {
		var hand [][]int
		for _, pass := range before {
			if slices.Contains(b.kept, pass[0]) {
				hand = append(hand, pass)
			}
		}
		passes := len(b.decks[d].passes)
		for len(hand) < min(HandPasses, passes) {
			next := b.decks[d].deal(rng)
			had := func(pass []int) bool { return pass[0] == next[0] }
			if !slices.ContainsFunc(hand, had) &&
				(passes <= HandPasses || !slices.ContainsFunc(before, had)) {
				hand = append(hand, next)
			}
		}
		b.hands[d] = hand
	}
}

// hand is the readings that a generation is scored on.
func (b *bases) hand() (hand []int) {
	for _, h := range b.hands {
		hand = append(hand, slices.Concat(h...)...)
	}
	return hand
}

// exact are the same readings in full.
func (b *bases) exact(cheap []int) (exact []int) {
	for _, i := range cheap {
		exact = append(exact, b.exactly[i])
	}
	return exact
}

// adopt has in hand what another version of the program dealt for a base.
func (b *bases) adopt(exact []int) {
	for d, deck := range b.decks {
		b.hands[d] = nil
		for _, pass := range deck.passes {
			if slices.Contains(exact, b.exactly[pass[0]]) {
				b.hands[d] = append(b.hands[d], pass)
			}
		}
	}
}

// renew makes r the base, with its exact losses on what is in hand.
func (b *bases) renew(r result) {
	if b.base != nil {
		b.compare(r)
	}
	whole := estimate(r.Losses, b.readings, b.exact(b.hand()))
	b.fallback = b.strikes >= mostStrikes || math.IsInf(whole, 0)
	b.base, b.compared, b.since = &r, false, 0
}

// compare records how the cheap loss of the new base r agrees with the exact one.
func (b *bases) compare(r result) {
	kept := b.exact(b.kept)
	n := Renewal{
		Candidate: r.Candidate, Distance: ropescale.Distance(r.Rung, b.base.Rung), Cheap: b.cheap,
		Before: estimate(b.base.Losses, b.readings, kept),
		Exact:  estimate(r.Losses, b.readings, kept),
	}
	if v := n.Before + n.Cheap + n.Exact; math.IsNaN(v) || math.IsInf(v, 0) {
		return // another version of the program dealt
	}
	n.Agrees = n.Exact-n.Cheap <= flattery*math.Abs(n.Cheap-n.Before)+cheapNoise
	if n.Agrees {
		b.strikes, b.radius = 0, min(ropescale.Near, 2*b.radius)
	} else {
		b.strikes, b.radius = b.strikes+1, b.radius/2
	}
	b.renewals = append(b.renewals, n)
}

// tokens is what a base takes for the hand, at most.
func (b *bases) tokens() int {
	if b == nil {
		return 0
	}
	return HandPasses * b.most(true)
}

// most is what the longest pass of each deck takes, in full or by cheap readings.
func (b *bases) most(exact bool) (n int) {
	for _, d := range b.decks {
		most := 0
		for _, pass := range d.passes {
			at := pass[0]
			if exact {
				at = b.exactly[at]
			}
			most = max(most, b.readings[at].Tokens)
		}
		n += most
	}
	return n
}

// FellBack reports whether cheap readings did not agree with exact ones, so that generations are
// scored exactly since.
func (s *Study) FellBack() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.algorithm.(*sampledSearch)
	return ok && a.bases != nil && a.bases.fallback
}

// Renewals are the changes of the base of cheap readings, in their order; none where generations
// are scored exactly from the beginning.
func (s *Study) Renewals() []Renewal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.algorithm.(*sampledSearch); ok && a.bases != nil {
		return slices.Clone(a.bases.renewals)
	}
	return nil
}
