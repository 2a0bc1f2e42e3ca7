package study

import (
	"math"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// curve is a low-dimensional family of factors, with a start window and an attention factor, in
// unbounded variables:
//
//   - log lambda is piecewise linear in the pair's index and rises by a non-negative increment at
//     each knot; the first increment is log lambda_0;
//   - the log of the attention factor, where that is searched;
//   - the place of n-hat in StartWindows, where there are several.
//
// Knots have to be where sets of factors differ. Pairs that turn more than 32 times within L need
// nothing or a little, those that turn less than once need about s, and all methods differ in the
// transition between, the band (ropescale's band.go). Knots that are log-spaced, dense at the fast
// pairs, have four in the band of a model that was trained for some hundred tokens, and one or two
// in that of Llama, Mistral, Qwen, Phi, Gemma or SmolLM2. There the curve misses YaRN by up to a
// factor of 2.6 in lambda, and a search that begins next to its start first has to find back to it.
// So with fewer than half of them there
//
//   - knots are placed by turns: some before the band, most in it, two behind;
//   - the curve leads through the start that the search begins at: what the start has on top of its
//     own curve, all points have on top of theirs;
//   - lambda is bounded by 2 s in place of LongRoPE's 1.25 s. Of LongRoPE2's published factors for
//     Llama-3-8B half are above that, up to 1.63 s.
//
// An increment is the square of its variable, in units of an even rise of ln s over the knots, and
// increments that add up to more than ln(maxFactor) are scaled down to it. The square keeps zero
// increments near zero under the first, large steps: perplexity is far more sensitive to the fast
// pairs, which YaRN leaves alone, than to the slow ones.
//
// Bounds are 1 <= lambda <= maxFactor, and lambda falls from one pair to the next no more than the
// start's does; a start that is outside keeps its own values as bounds.
type curve struct {
	*space
	knots []float64 // pair indices, ascending
	unit  []float64 // of each variable
	start []float64 // ln lambda of the start; nil: a point of the curve
	rest  []float64 // what the start has on top of its curve
	// attentionMost bounds |ln attention factor|.
	attentionMost float64
}

// attentionBound bounds |ln attention factor|: 0.61 to 1.65, logits times 0.37 to 2.7.
const attentionBound = 0.5

// windowUnit is how many places of StartWindows a variable of 1 moves n-hat.
const windowUnit = 8

func newCurve(sp *space) curve {
	c := curve{
		space: sp, knots: logSpaced(sp.rope, sp.Knots), attentionMost: attentionBound,
		rest: make([]float64, sp.rope.Pairs()),
	}
	if byTurns(sp.rope, sp.Knots) {
		c.knots = knotsFor(sp.rope, sp.Knots)
	}
	for range c.knots {
		c.unit = append(c.unit, math.Log(sp.stretch)/float64(sp.Knots))
	}
	if sp.Attention == "search" {
		c.unit = append(c.unit, sp.attentionUnit())
	}
	if len(sp.StartWindows) > 1 {
		c.unit = append(c.unit, windowUnit)
	}
	return c
}

// logSpaced are n pair indices, dense at the fast pairs.
func logSpaced(r ropescale.Rope, n int) (knots []float64) {
	pairs := float64(r.Pairs())
	for i := range n {
		at := pairs - 1
		if n > 1 {
			at = math.Pow(pairs, float64(i)/float64(n-1)) - 1
		}
		knots = append(knots, at)
	}
	return knots
}

// byTurns reports whether less than half of n knots would be in the band if they were log-spaced.
func byTurns(r ropescale.Rope, n int) bool {
	in := 0
	for _, at := range logSpaced(r, n) {
		if at >= r.PairTurning(32) && at <= r.PairTurning(1) {
			in++
		}
	}
	return 2*in < n
}

// knotsFor are n pairs: the first pair and one between it and the band of pairs that turn 32 to
// 1 times within L, most of them in the band, its ends among them, one behind it and the last pair.
// Where a part has no room its knots are in the band; where there is no band they are spread
// evenly.
func knotsFor(r ropescale.Rope, n int) []float64 {
	last := float64(r.Pairs() - 1)
	lo, hi := min(max(r.PairTurning(32), 0), last), min(max(r.PairTurning(1), 0), last)
	if hi-lo < 1 {
		lo, hi = 0, last
	}
	var before, behind []float64
	if lo >= 2 && n > 6 {
		before = []float64{0, lo / 2}
	} else if lo >= 0.5 && n > 3 {
		before = []float64{0}
	}
	if last-hi >= 2 && n > 5 {
		behind = []float64{(hi + last) / 2, last}
	} else if last-hi >= 0.5 && n > 2 {
		behind = []float64{last}
	}
	band := n - len(before) - len(behind)
	knots := before
	for i := range band {
		at := hi
		if band > 1 {
			at = lo + (hi-lo)*float64(i)/float64(band-1)
		}
		knots = append(knots, at)
	}
	return whole(append(knots, behind...), last)
}

// whole rounds knots to pairs, so that a curve has its knots' values at pairs. No two are at one.
func whole(knots []float64, last float64) []float64 {
	for i := range knots {
		knots[i] = math.Round(knots[i])
		if i > 0 {
			knots[i] = max(knots[i], knots[i-1]+1)
		}
	}
	for i := len(knots) - 1; i >= 0; i-- {
		knots[i] = min(knots[i], last)
		last = knots[i] - 1
	}
	return knots
}

// around has the curve lead through a start, and is true, where its knots are placed by turns.
func (c *curve) around(start ropescale.Rung) bool {
	if !byTurns(c.rope, c.Knots) {
		return false
	}
	c.start, c.attentionMost = nil, math.Inf(1)
	clear(c.rest)
	on := c.log(c.encode(start))
	log := make([]float64, len(on))
	for i, f := range start.Factors {
		log[i] = math.Log(f)
		c.rest[i] = log[i] - on[i]
	}
	c.start = log
	c.attentionMost = max(attentionBound, math.Abs(math.Log(start.AttentionFactor)))
	return true
}

// encode returns the variables whose decode is nearest to g at the knots.
func (c *curve) encode(g ropescale.Rung) []float64 {
	var x []float64
	before := 0.0
	for i, at := range c.knots {
		lo := min(int(at), len(g.Factors)-1)
		hi := min(lo+1, len(g.Factors)-1)
		frac := at - float64(lo)
		v := (1-frac)*(math.Log(g.Factors[lo])-c.rest[lo]) +
			frac*(math.Log(g.Factors[hi])-c.rest[hi])
		x = append(x, math.Sqrt(max(0, v-before)/c.unit[i]))
		before = v
	}
	if c.Attention == "search" {
		x = append(x, math.Log(g.AttentionFactor)/c.unit[len(x)])
	}
	if len(c.StartWindows) > 1 {
		place, exact := slices.BinarySearch(c.StartWindows, g.StartWindow)
		if !exact { // the next lower one
			place = max(0, place-1)
		}
		x = append(x, float64(place)/windowUnit)
	}
	return x
}

// log is ln lambda of the curve alone, of each pair.
func (c *curve) log(x []float64) []float64 {
	rise := make([]float64, len(c.knots)) // at the knots
	total := 0.0
	for i := range rise {
		total += x[i] * x[i] * c.unit[i]
		rise[i] = total
	}
	if limit := math.Log(c.maxFactor); total > limit {
		for i := range rise {
			rise[i] *= limit / total
		}
	}
	log := make([]float64, c.rope.Pairs())
	seg, last := 0, len(c.knots)-1
	for i := range log {
		at := float64(i)
		for seg+2 < len(c.knots) && at > c.knots[seg+1] {
			seg++
		}
		switch {
		case at <= c.knots[0]:
			log[i] = rise[0]
		case at >= c.knots[last]:
			log[i] = rise[last]
		default:
			frac := (at - c.knots[seg]) / (c.knots[seg+1] - c.knots[seg])
			log[i] = rise[seg] + frac*(rise[seg+1]-rise[seg])
		}
	}
	return log
}

// decode returns the rung of variables x, factors to four decimals.
func (c *curve) decode(x []float64) ropescale.Rung {
	factors := c.log(x)
	least, most, before := 0.0, math.Log(math.Floor(c.maxFactor*1e4)/1e4), 0.0
	for i, v := range factors {
		v += c.rest[i]
		low, high, fall := least, most, 0.0
		if c.start != nil {
			low, high = min(least, c.start[i]), max(most, c.start[i])
			if i > 0 {
				fall = min(0, c.start[i]-c.start[i-1])
			}
		}
		if i > 0 {
			v = max(v, before+fall)
		}
		before = min(max(v, low), high)
		factors[i] = round4(math.Exp(before))
	}
	attention := c.attentionFactor
	if c.Attention == "search" {
		n := len(c.knots)
		attention = round4(math.Exp(min(max(x[n]*c.unit[n], -c.attentionMost), c.attentionMost)))
	}
	window := c.StartWindows[0]
	if n := len(c.StartWindows); n > 1 {
		at := math.Abs(x[len(x)-1]) * windowUnit
		window = c.StartWindows[int(min(math.Round(at), float64(n-1)))]
	}
	return c.rung(factors, window, attention)
}

func round4(v float64) float64 { return math.Round(v*1e4) / 1e4 }
