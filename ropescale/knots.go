package ropescale

import (
	"math"
	"slices"
)

// curve is a low-dimensional family of factors around a start, with a start window and an attention
// factor, in unbounded variables that are all 0 at the start, but for n-hat:
//
//   - what log lambda deviates by from the start's is piecewise linear in the pair's index, between
//     knots that are placed by turns;
//   - the deviation of the log of the attention factor, where that is searched;
//   - the place of n-hat in StartWindows, where there are several.
//
// The variables are deviations so that every start lies in the family, whatever its shape: a curve
// through a few knots misses YaRN by up to a factor of 2.6 in lambda on published models, and a
// search that begins next to a start first has to find back to it.
//
// Knots are placed by turns because that is where sets of factors differ. Pairs that turn more than
// 32 times within L need nothing or a little, those that turn less than once need about s, and all
// methods differ in the transition between (band.go). There most knots are; a few are before it,
// since some published sets rise from the first pair, and two behind.
//
// Bounds are 1 <= lambda <= maxScale*s, and lambda falls from one pair to the next no more than the
// start's does; a start that is outside keeps its own values as bounds.
type curve struct {
	*space
	knots []float64 // pair indices, ascending
	unit  []float64 // of each variable

	start Rung
	log   []float64 // ln lambda of the start
}

// attentionBound bounds |ln attention factor|: 0.61 to 1.65, logits times 0.37 to 2.7.
const attentionBound = 0.5

// windowUnit is how many places of StartWindows a variable of 1 moves n-hat.
const windowUnit = 8

// The units of deviations, in ln s, for knots at pairs that turn more than 32 times within L and
// for the others. Text is far more sensitive to the fast pairs, which most methods leave alone.
const fastUnit, slowUnit = 0.05, 0.25

func newCurve(sp *space) curve {
	c := curve{space: sp, knots: sp.rope.knots(sp.Knots)}
	fast := sp.rope.pairTurning(32)
	for _, at := range c.knots {
		unit := slowUnit
		if at < fast {
			unit = fastUnit
		}
		c.unit = append(c.unit, unit*math.Log(sp.stretch))
	}
	if sp.Attention == "search" {
		c.unit = append(c.unit, sp.attentionUnit())
	}
	if len(sp.StartWindows) > 1 {
		c.unit = append(c.unit, windowUnit)
	}
	return c
}

// knots are n pair indices: the first pair and one between it and the band of pairs that turn 32 to
// 1 times within L, most of them in the band, its ends among them, one behind it and the last pair.
// Where a part has no room its knots are in the band; where there is no band they are spread
// evenly.
func (r Rope) knots(n int) []float64 {
	last := float64(r.Pairs() - 1)
	lo, hi := min(max(r.pairTurning(32), 0), last), min(max(r.pairTurning(1), 0), last)
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
	return append(knots, behind...)
}

// around centers the curve on a start.
func (c *curve) around(start Rung) {
	c.start, c.log = start, make([]float64, len(start.Factors))
	for i, f := range start.Factors {
		c.log[i] = math.Log(f)
	}
}

// encode returns the variables whose decode is nearest to g at the knots.
func (c *curve) encode(g Rung) []float64 {
	var x []float64
	for i, at := range c.knots {
		lo := min(int(at), len(g.Factors)-1)
		hi := min(lo+1, len(g.Factors)-1)
		frac := at - float64(lo)
		v := (1-frac)*(math.Log(g.Factors[lo])-c.log[lo]) + frac*(math.Log(g.Factors[hi])-c.log[hi])
		x = append(x, v/c.unit[i])
	}
	if c.Attention == "search" {
		x = append(x, math.Log(g.AttentionFactor/c.start.AttentionFactor)/c.unit[len(x)])
	}
	if len(c.StartWindows) > 1 {
		x = append(x, float64(max(0, slices.Index(c.StartWindows, g.StartWindow)))/windowUnit)
	}
	return x
}

// decode returns the rung of variables x, factors to four decimals.
func (c *curve) decode(x []float64) Rung {
	factors := make([]float64, c.rope.Pairs())
	seg, before := 0, 0.0
	for i := range factors {
		at := float64(i)
		for seg+2 < len(c.knots) && at > c.knots[seg+1] {
			seg++
		}
		v := max(c.log[i]+c.deviation(x, seg, at), min(0, c.log[i]))
		if i > 0 { // no steeper fall than the start's
			v = max(v, before+min(0, c.log[i]-c.log[i-1]))
		}
		most := max(math.Log(c.maxFactor), c.log[i])
		before = min(v, most)
		factors[i] = round4(math.Exp(before))
		if factors[i] > c.maxFactor && c.start.Factors[i] <= c.maxFactor {
			factors[i] = math.Floor(c.maxFactor*1e4) / 1e4
		}
	}
	attention := c.attentionFactor
	if c.Attention == "search" {
		n := len(c.knots)
		at := math.Log(c.start.AttentionFactor)
		most := max(attentionBound, math.Abs(at))
		attention = round4(math.Exp(min(max(at+x[n]*c.unit[n], -most), most)))
	}
	window := c.StartWindows[0]
	if n := len(c.StartWindows); n > 1 {
		at := math.Abs(x[len(x)-1]) * windowUnit
		window = c.StartWindows[int(min(math.Round(at), float64(n-1)))]
	}
	return c.rung(factors, window, attention)
}

// deviation is that of variables x at a pair on the segment of knots seg, or outside the knots.
func (c *curve) deviation(x []float64, seg int, at float64) float64 {
	last := len(c.knots) - 1
	switch {
	case at <= c.knots[0]:
		return x[0] * c.unit[0]
	case at >= c.knots[last]:
		return x[last] * c.unit[last]
	}
	frac := (at - c.knots[seg]) / (c.knots[seg+1] - c.knots[seg])
	return (1-frac)*x[seg]*c.unit[seg] + frac*x[seg+1]*c.unit[seg+1]
}

func round4(v float64) float64 { return math.Round(v*1e4) / 1e4 }
