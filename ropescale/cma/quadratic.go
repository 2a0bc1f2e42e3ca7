package cma

import "math"

// Quadratic is a regression on all quadratic functions of a few variables, with a normal prior on
// the coefficients, from groups of points whose values have an unknown shift in common: candidates
// that were scored on the same readings. In the terms of Gaussian processes its kernel is (1 +
// <a-c, b-c>/rho^2)^2 around a center c, plus a constant for two points of a group, plus noise;
// values are in units of their standard deviation. It only chooses between draws, so its constants
// are no more than about right.
type Quadratic struct {
	points [][]float64
	values []float64
	group  []int
	groups int

	center []float64
	alpha  []float64
}

const (
	quadraticReach = 0.5  // rho, in variables
	quadraticNoise = 0.02 // variance of a value
	quadraticShift = 1    // variance of a group's shift
	// points; older ones, which are farther away, are forgotten, since fit takes the cube of their
	// number
	quadraticMost = 100
)

// Add takes a group of points. A value that is not finite has no place in a sum of squares: it is
// left out.
func (q *Quadratic) Add(points [][]float64, values []float64) {
	for i, v := range values {
		if !math.IsInf(v, 0) {
			q.points, q.values, q.group = append(q.points, points[i]), append(q.values, v),
				append(q.group, q.groups)
		}
	}
	q.groups++
	if old := len(q.points) - quadraticMost; old > 0 {
		q.points, q.values, q.group = q.points[old:], q.values[old:], q.group[old:]
	}
}

func (q *Quadratic) kernel(a, b []float64) float64 {
	var dot float64
	for i := range a {
		dot += (a[i] - q.center[i]) * (b[i] - q.center[i])
	}
	k := 1 + dot/(quadraticReach*quadraticReach)
	return k * k
}

// Fit solves (K + shift + noise) alpha = values, standardised, by Cholesky decomposition.
func (q *Quadratic) Fit(center []float64) {
	q.center = center
	n := len(q.points)
	var mean, deviation float64
	for _, v := range q.values {
		mean += v / float64(n)
	}
	for _, v := range q.values {
		deviation += (v - mean) * (v - mean) / float64(n)
	}
	deviation = math.Sqrt(max(deviation, 1e-300))
	l := make([][]float64, n)
	q.alpha = make([]float64, n)
	for i := range l {
		l[i] = make([]float64, i+1)
		for j := range l[i] {
			v := q.kernel(q.points[i], q.points[j])
			if q.group[i] == q.group[j] {
				v += quadraticShift
			}
			if i == j {
				v += quadraticNoise
			}
			for k := range j {
				v -= l[i][k] * l[j][k]
			}
			if i == j {
				// at least the noise, but for rounding
				l[i][i] = math.Sqrt(max(v, quadraticNoise/2))
			} else {
				l[i][j] = v / l[j][j]
			}
		}
		q.alpha[i] = (q.values[i] - mean) / deviation
		for k := range i {
			q.alpha[i] -= l[i][k] * q.alpha[k]
		}
		q.alpha[i] /= l[i][i]
	}
	for i := n - 1; i >= 0; i-- {
		for k := i + 1; k < n; k++ {
			q.alpha[i] -= l[k][i] * q.alpha[k]
		}
		q.alpha[i] /= l[i][i]
	}
}

// At is the value that the model expects at x, up to scale and shift: it ranks.
func (q *Quadratic) At(x []float64) (v float64) {
	for i, p := range q.points {
		v += q.alpha[i] * q.kernel(x, p)
	}
	return v
}

// Empty says that no value was added yet.
func (q *Quadratic) Empty() bool { return len(q.values) == 0 }
