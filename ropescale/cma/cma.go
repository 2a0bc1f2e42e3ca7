// Package cma is CMA-ES, an evolution strategy that adapts a covariance matrix, and a quadratic
// model that chooses between its draws. Both work in unbounded variables and know nothing of RoPE.
package cma

import (
	"math"
	"math/rand/v2"
	"slices"
)

// ES is the (mu/mu_w, lambda)-CMA-ES with active update. The equation numbers and names are
// those of N. Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772 (2016). It
// minimises, in n unbounded dimensions; n is small here, so the eigensystem is computed again for
// every generation.
type ES struct {
	n       int
	Lambda  int       // points of a generation
	weights []float64 // lambda of them; the first mu are positive and sum to 1
	muEff   float64
	cSigma  float64
	dSigma  float64
	cc      float64
	c1      float64
	cMu     float64
	chiN    float64 // E||N(0, I)||

	Mean   []float64
	Sigma  float64
	c      [][]float64 // covariance
	b      [][]float64 // columns are C's eigenvectors
	d      []float64   // square roots of its eigenvalues
	pSigma []float64
	pc     []float64
	g      int // generations told
	RNG    *rand.Rand
}

// New starts a distribution around a mean, with the same step size sigma in every variable. lambda
// is the number of points of a generation, at least 2.
func New(mean []float64, sigma float64, lambda int, rng *rand.Rand) *ES {
	n := len(mean)
	nf := float64(n)
	e := &ES{
		n: n, Lambda: lambda, Mean: slices.Clone(mean), Sigma: sigma, RNG: rng,
		pSigma: make([]float64, n), pc: make([]float64, n), c: identity(n),
	}

	// w'_i = ln((lambda+1)/2) - ln i. (eq. 49)
	w := make([]float64, lambda)
	mu := lambda / 2
	var sum, sum2, neg, neg2 float64
	for i := range w {
		w[i] = math.Log(float64(lambda+1)/2) - math.Log(float64(i+1))
		if i < mu {
			sum, sum2 = sum+w[i], sum2+w[i]*w[i]
		} else {
			neg, neg2 = neg+w[i], neg2+w[i]*w[i]
		}
	}
	e.muEff = sum * sum / sum2
	muEffNeg := neg * neg / neg2

	const alphaCov = 2
	// (eq. 57)
	e.c1 = alphaCov / ((nf+1.3)*(nf+1.3) + e.muEff)
	// (eq. 58)
	e.cMu = min(1-e.c1, alphaCov*(e.muEff-2+1/e.muEff)/((nf+2)*(nf+2)+alphaCov*e.muEff/2))
	// (eq. 50-52)
	alpha := min(1+e.c1/max(e.cMu, 1e-300), 1+2*muEffNeg/(e.muEff+2),
		(1-e.c1-e.cMu)/(nf*max(e.cMu, 1e-300)))
	var positive, negative float64
	for _, v := range w {
		positive, negative = positive+max(v, 0), negative-min(v, 0)
	}
	for i := range w { // (eq. 53)
		if w[i] >= 0 {
			w[i] /= positive
		} else {
			w[i] *= alpha / negative
		}
	}
	e.weights = w

	e.cSigma = (e.muEff + 2) / (nf + e.muEff + 5)                       // (eq. 55)
	e.dSigma = 1 + 2*max(0, math.Sqrt((e.muEff-1)/(nf+1))-1) + e.cSigma // (eq. 55)
	e.cc = (4 + e.muEff/nf) / (nf + 4 + 2*e.muEff/nf)                   // (eq. 56)
	e.chiN = math.Sqrt(nf) * (1 - 1/(4*nf) + 1/(21*nf*nf))              // (below eq. 44)
	e.b, e.d = identity(n), slices.Repeat([]float64{1}, n)
	return e
}

// Ask samples lambda points: z ~ N(0, I), y = B D z ~ N(0, C), x = m + sigma y. (eq. 38-40)
func (e *ES) Ask() [][]float64 {
	xs := make([][]float64, e.Lambda)
	for k := range xs {
		z := make([]float64, e.n)
		for i := range z {
			z[i] = e.d[i] * e.RNG.NormFloat64()
		}
		x := make([]float64, e.n)
		for i := range x {
			for j := range z {
				x[i] += e.b[i][j] * z[j]
			}
			x[i] = e.Mean[i] + e.Sigma*x[i]
		}
		xs[k] = x
	}
	return xs
}

// Tell updates the distribution from the points of the last ask and their fitness, in the same
// order. Equal fitness is ranked by that order.
func (e *ES) Tell(xs [][]float64, fitness []float64) {
	e.g++
	order := make([]int, len(xs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case fitness[a] < fitness[b]:
			return -1
		case fitness[a] > fitness[b]:
			return 1
		}
		return 0
	})

	y := make([][]float64, len(xs)) // by rank
	yw := make([]float64, e.n)      // <y>_w (eq. 41)
	for k, idx := range order {
		y[k] = make([]float64, e.n)
		for i := range y[k] {
			y[k][i] = (xs[idx][i] - e.Mean[i]) / e.Sigma
			if e.weights[k] > 0 {
				yw[i] += e.weights[k] * y[k][i]
			}
		}
	}
	for i := range e.Mean { // m += c_m sigma <y>_w, c_m = 1 (eq. 42, 54)
		e.Mean[i] += e.Sigma * yw[i]
	}

	// p_sigma = (1-c_sigma) p_sigma + sqrt(c_sigma (2-c_sigma) mu_eff) C^-1/2 <y>_w (eq. 43)
	inv := e.invSqrt(yw)
	a := math.Sqrt(e.cSigma * (2 - e.cSigma) * e.muEff)
	for i := range e.pSigma {
		e.pSigma[i] = (1-e.cSigma)*e.pSigma[i] + a*inv[i]
	}
	// sigma *= exp(c_sigma/d_sigma (||p_sigma||/E||N(0,I)|| - 1)), at most by e a generation (eq.
	// 44)
	length := norm(e.pSigma)
	e.Sigma *= math.Exp(min(1, e.cSigma/e.dSigma*(length/e.chiN-1)))

	// h_sigma stalls p_c while ||p_sigma|| is large. (below eq. 45)
	hSigma := 0.0
	if length/math.Sqrt(1-math.Pow(1-e.cSigma, 2*float64(e.g))) < (1.4+2/(float64(e.n)+1))*e.chiN {
		hSigma = 1
	}
	// p_c = (1-c_c) p_c + h_sigma sqrt(c_c (2-c_c) mu_eff) <y>_w (eq. 45)
	a = hSigma * math.Sqrt(e.cc*(2-e.cc)*e.muEff)
	for i := range e.pc {
		e.pc[i] = (1-e.cc)*e.pc[i] + a*yw[i]
	}

	// w°_i = w_i (w_i >= 0), else w_i n/||C^-1/2 y||^2 (eq. 46)
	var sumW float64
	wo := make([]float64, len(y))
	for k, w := range e.weights {
		sumW += w
		wo[k] = w
		if w < 0 {
			l := norm(e.invSqrt(y[k]))
			wo[k] = w * float64(e.n) / max(l*l, 1e-300)
		}
	}
	// C = (1 + c_1 delta(h_sigma) - c_1 - c_mu sum w) C + c_1 p_c p_c^T + c_mu sum w° y y^T (eq.
	// 47)
	keep := 1 + e.c1*(1-hSigma)*e.cc*(2-e.cc) - e.c1 - e.cMu*sumW
	for i := range e.c {
		for j := range i + 1 {
			v := keep*e.c[i][j] + e.c1*e.pc[i]*e.pc[j]
			for k := range y {
				v += e.cMu * wo[k] * y[k][i] * y[k][j]
			}
			e.c[i][j], e.c[j][i] = v, v
		}
	}
	e.decompose()
}

// invSqrt returns C^-1/2 v = B D^-1 B^T v.
func (e *ES) invSqrt(v []float64) []float64 {
	out := make([]float64, e.n)
	for j := range e.n {
		var s float64
		for i := range e.n {
			s += e.b[i][j] * v[i]
		}
		s /= e.d[j]
		for i := range e.n {
			out[i] += e.b[i][j] * s
		}
	}
	return out
}

// Spread is the largest standard deviation of the distribution along any direction.
func (e *ES) Spread() float64 { return e.Sigma * slices.Max(e.d) }

// decompose sets b and d from c by Jacobi rotations, which are exact to rounding for a symmetric
// matrix of this size and, unlike QR, a page of code. Eigenvalues are kept above 1e-14 of the
// largest.
func (e *ES) decompose() {
	n := e.n
	a := make([][]float64, n)
	for i := range a {
		a[i] = slices.Clone(e.c[i])
	}
	v := identity(n)
	for range 50 { // sweeps; convergence is quadratic and takes about 8
		var off, diag float64
		for i := range n {
			diag += a[i][i] * a[i][i]
			for j := range i {
				off += a[i][j] * a[i][j]
			}
		}
		if off <= 1e-30*diag {
			break
		}
		for p := range n {
			for q := p + 1; q < n; q++ {
				if a[p][q] == 0 {
					continue
				}
				theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
				t := math.Copysign(1, theta) / (math.Abs(theta) + math.Hypot(theta, 1))
				cos := 1 / math.Hypot(t, 1)
				sin := t * cos
				for i := range n {
					a[i][p], a[i][q] = cos*a[i][p]-sin*a[i][q], sin*a[i][p]+cos*a[i][q]
				}
				for i := range n {
					a[p][i], a[q][i] = cos*a[p][i]-sin*a[q][i], sin*a[p][i]+cos*a[q][i]
					v[i][p], v[i][q] = cos*v[i][p]-sin*v[i][q], sin*v[i][p]+cos*v[i][q]
				}
			}
		}
	}
	var largest float64
	for i := range n {
		largest = max(largest, a[i][i])
	}
	for i := range n {
		e.d[i] = math.Sqrt(max(a[i][i], 1e-14*largest, 1e-300))
	}
	e.b = v
}

func identity(n int) [][]float64 {
	m := make([][]float64, n)
	for i := range m {
		m[i] = make([]float64, n)
		m[i][i] = 1
	}
	return m
}

func norm(v []float64) float64 {
	var s float64
	for _, x := range v {
		s += x * x
	}
	return math.Sqrt(s)
}
