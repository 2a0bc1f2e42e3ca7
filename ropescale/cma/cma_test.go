package cma

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCMAOnStandardFunctions(t *testing.T) {
	sphere := func(x []float64) (f float64) {
		for _, v := range x {
			f += v * v
		}
		return f
	}
	ellipsoid := func(x []float64) (f float64) {
		for i, v := range x {
			f += math.Pow(1e6, float64(i)/float64(len(x)-1)) * v * v
		}
		return f
	}
	rosenbrock := func(x []float64) (f float64) {
		for i := range x[1:] {
			a, b := x[i+1]-x[i]*x[i], 1-x[i]
			f += 100*a*a + b*b
		}
		return f
	}
	rotated := func(x []float64) float64 { // the ellipsoid along axes that are no coordinates
		y := slices.Clone(x)
		for i := range y[1:] {
			y[i], y[i+1] = (y[i]-y[i+1])/math.Sqrt2, (y[i]+y[i+1])/math.Sqrt2
		}
		return ellipsoid(y)
	}
	for _, c := range []struct {
		name        string
		f           func([]float64) float64
		evaluations int // about twice what the tutorial's code needs
	}{
		{"sphere", sphere, 2500},
		{"ellipsoid", ellipsoid, 9000},
		{"rotated ellipsoid", rotated, 9000},
		{"rosenbrock", rosenbrock, 12000},
	} {
		t.Run(c.name, func(t *testing.T) {
			const n = 9
			mean := slices.Repeat([]float64{0.5}, n)
			e := New(mean, 0.3, 4+int(3*math.Log(n)), rand.New(rand.NewPCG(1, 1)))
			assert.Equal(t, 10, e.Lambda, "(eq. 48)")
			best, used := math.Inf(1), 0
			for best > 1e-9 && used < c.evaluations {
				xs := e.Ask()
				fs := make([]float64, len(xs))
				for i, x := range xs {
					fs[i] = c.f(x)
					best = min(best, fs[i])
				}
				used += len(xs)
				e.Tell(xs, fs)
			}
			t.Logf("%.2g after %d evaluations", best, used)
			assert.LessOrEqual(t, best, 1e-9)
		})
	}
}

func TestJacobiDecomposition(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for n := 1; n < 12; n++ {
		e := New(make([]float64, n), 1, 6, rng)
		want := identity(n)
		for range 3 {
			v := make([]float64, n)
			for i := range v {
				v[i] = rng.NormFloat64()
			}
			for i := range n {
				for j := range n {
					want[i][j] += v[i] * v[j]
				}
			}
		}
		e.c = want
		e.decompose()
		for i := range n {
			for j := range n {
				var got, orth float64
				for k := range n {
					got += e.b[i][k] * e.d[k] * e.d[k] * e.b[j][k]
					orth += e.b[k][i] * e.b[k][j]
				}
				assert.InDelta(t, want[i][j], got, 1e-10, "B D D B^T = C")
				assert.InDelta(t, identity(n)[i][j], orth, 1e-12, "B is orthogonal")
			}
		}
	}
}
