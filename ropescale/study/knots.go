package study

import (
	"math"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// curve is a low-dimensional family of monotone factors with a start window and an attention
// factor, in unbounded variables:
//
//   - log lambda is piecewise linear in the pair's index over knots that are log-spaced, dense at
//     the fast pairs, and rises by a non-negative increment at each; the first increment is log
//     lambda_0;
//   - the log of the attention factor, where that is searched;
//   - the place of n-hat in StartWindows, where there are several.
//
// Bounds are the paper's, 1 <= lambda <= MaxScale*s. An increment is the square of its variable, in
// units of an even rise of ln s over the knots, and increments that add up to more than
// ln(MaxScale*s) are scaled down to it. The square keeps zero increments near zero under the first,
// large steps: perplexity is far more sensitive to the fast pairs, which YaRN leaves alone, than to
// the slow ones.
type curve struct {
	*space
	knots []float64 // pair indices
	unit  []float64 // of each variable
}

// attentionBound bounds |ln attention factor|: 0.61 to 1.65, logits times 0.37 to 2.7.
const attentionBound = 0.5

// windowUnit is how many places of StartWindows a variable of 1 moves n-hat.
const windowUnit = 8

func newCurve(sp *space) curve {
	c := curve{space: sp}
	half := float64(sp.rope.Pairs())
	for i := range sp.Knots {
		at := half - 1
		if sp.Knots > 1 {
			at = math.Pow(half, float64(i)/float64(sp.Knots-1)) - 1
		}
		c.knots = append(c.knots, at)
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

// encode returns the variables whose decode is nearest to g at the knots.
func (c curve) encode(g ropescale.Rung) []float64 {
	var x []float64
	before := 0.0
	for i, at := range c.knots {
		lo := min(int(at), len(g.Factors)-1)
		hi := min(lo+1, len(g.Factors)-1)
		frac := at - float64(lo)
		v := (1-frac)*math.Log(g.Factors[lo]) + frac*math.Log(g.Factors[hi])
		x = append(x, math.Sqrt(max(0, v-before)/c.unit[i]))
		before = v
	}
	if c.Attention == "search" {
		x = append(x, math.Log(g.AttentionFactor)/c.unit[len(x)])
	}
	if len(c.StartWindows) > 1 {
		x = append(x, float64(max(0, slices.Index(c.StartWindows, g.StartWindow)))/windowUnit)
	}
	return x
}

// decode returns the rung of variables x, factors to four decimals.
func (c curve) decode(x []float64) ropescale.Rung {
	rise := make([]float64, len(c.knots)) // log lambda at the knots
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
	factors := make([]float64, c.rope.Pairs())
	seg := 0
	for i := range factors {
		at := float64(i)
		for seg+2 < len(c.knots) && at > c.knots[seg+1] {
			seg++
		}
		v := rise[len(rise)-1]
		if len(c.knots) > 1 && at < c.knots[len(c.knots)-1] {
			frac := (at - c.knots[seg]) / (c.knots[seg+1] - c.knots[seg])
			v = rise[seg] + frac*(rise[seg+1]-rise[seg])
		}
		factors[i] = min(max(1, round4(math.Exp(v))), math.Floor(c.maxFactor*1e4)/1e4)
	}
	attention := c.attentionFactor
	if c.Attention == "search" {
		n := len(c.knots)
		attention = round4(math.Exp(min(max(x[n]*c.unit[n], -attentionBound), attentionBound)))
	}
	window := c.StartWindows[0]
	if n := len(c.StartWindows); n > 1 {
		at := math.Abs(x[len(x)-1]) * windowUnit
		window = c.StartWindows[int(min(math.Round(at), float64(n-1)))]
	}
	return c.rung(factors, window, attention)
}

func round4(v float64) float64 { return math.Round(v*1e4) / 1e4 }
