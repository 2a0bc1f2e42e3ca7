package cma

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestModelChoosesBetterDraws(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	f := func(x []float64) (y float64) {
		for i, v := range x {
			y += float64(i+1) * (v - 0.3) * (v - 0.3)
		}
		return y + x[0]*x[1]
	}
	point := func() []float64 {
		x := make([]float64, 4)
		for i := range x {
			x[i] = 0.5 * rng.NormFloat64()
		}
		return x
	}
	var q Quadratic
	for group := range 10 {
		var xs [][]float64
		var ys []float64
		for range 8 {
			xs = append(xs, point())
			// another reading, another level
			ys = append(ys, f(xs[len(xs)-1])+10*float64(group%3)+0.05*rng.NormFloat64())
		}
		ys[group%8] = math.Inf(1) // a failure is no value
		q.Add(xs, ys)
	}
	q.Fit(make([]float64, 4))
	right := 0
	for range 500 {
		a, b := point(), point()
		if (q.At(a) < q.At(b)) == (f(a) < f(b)) {
			right++
		}
	}
	t.Logf("%d of 500 pairs are ranked as they are", right)
	assert.Greater(t, right, 450)
}

// The model ranks with these numbers: a reach of half a variable, a variance of 0.02 for noise and
// 1 for a group's shift. It forgets all but the last 100 points.
func TestQuadraticKernel(t *testing.T) {
	q := Quadratic{center: []float64{0, 0}}
	assert.InDelta(t, math.Pow(1+0.06/0.25, 2), q.kernel([]float64{0.2, 0.1}, []float64{0.2, 0.2}),
		1e-12)
	// Two points of two groups at the center: K = 1 + shift + noise on the diagonal, 1 off it.
	q = Quadratic{}
	q.Add([][]float64{{0, 0}}, []float64{3})
	q.Add([][]float64{{0, 0}}, []float64{5})
	q.Fit([]float64{0, 0})
	assert.InDelta(t, 1/(2.02-1), q.alpha[1], 1e-12)
	// Of one group: 1 + shift off it, too.
	q = Quadratic{}
	q.Add([][]float64{{0, 0}, {0, 0}}, []float64{3, 5})
	q.Fit([]float64{0, 0})
	assert.InDelta(t, 1/0.02, q.alpha[1], 1e-9)
	for range 30 {
		q.Add(slices.Repeat([][]float64{{1, 1}}, 4), []float64{1, 2, 3, 4})
	}
	assert.Len(t, q.points, 100)
}
