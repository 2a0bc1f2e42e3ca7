package cma

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// From the same points and values, cmaes computes the same distribution as the PyPI package cmaes,
// after every generation; testdata/cma.py makes the traces.
func TestCMAAgreesWithCmaes(t *testing.T) {
	b, err := os.ReadFile("testdata/cma.json")
	require.NoError(t, err)
	var doc struct {
		Command, Cmaes string
		Cases          []struct {
			Name                string
			Mean                []float64
			Sigma               float64
			Population, Stalled int
			Generations         []struct {
				Points      [][]float64
				Values      []float64
				Mean        []float64
				Sigma       float64
				PSigma      []float64   `json:"p_sigma"`
				PC          []float64   `json:"p_c"`
				Covariances [][]float64 `json:"c"`
			}
		}
	}
	require.NoError(t, json.Unmarshal(b, &doc))
	require.Len(t, doc.Cases, 4)
	stalled, worst := 0, 0.0
	for _, c := range doc.Cases {
		t.Run(c.Name, func(t *testing.T) {
			stalled += c.Stalled
			e := New(c.Mean, c.Sigma, c.Population, rand.New(rand.NewPCG(1, 1)))
			for g, want := range c.Generations {
				e.Tell(want.Points, want.Values)
				got := append(slices.Clone(e.Mean), e.Sigma)
				all := append(slices.Clone(want.Mean), want.Sigma)
				got, all = append(got, e.pSigma...), append(all, want.PSigma...)
				got, all = append(got, e.pc...), append(all, want.PC...)
				for i := range e.c {
					got, all = append(got, e.c[i]...), append(all, want.Covariances[i]...)
				}
				scale := 0.0
				for _, v := range want.Covariances {
					scale = max(scale, math.Abs(slices.Max(v)))
				}
				for i := range got {
					d := math.Abs(got[i]-all[i]) / max(1, scale)
					worst = max(worst, d)
					require.LessOrEqual(t, d, 1e-6, "generation %d, number %d of mean, sigma, "+
						"p_sigma, p_c, C; "+
						"made by %s with cmaes %s", g, i, doc.Command, doc.Cmaes)
				}
			}
		})
	}
	require.Positive(t, stalled, "h_sigma is 0 in some generation")
	t.Logf("largest deviation %.2g", worst)
}

// The constants of the default search, 10 variables and 8 points, are those of cmaes. (eq. 49-58)
func TestCMAConstants(t *testing.T) {
	e := New(make([]float64, 10), 0.2, 8, nil)
	for name, v := range map[string][2]float64{
		"mu_eff":  {e.muEff, 2.6001788},
		"c_sigma": {e.cSigma, 0.2613711},
		"d_sigma": {e.dSigma, 1.2613711},
		"c_c":     {e.cc, 0.2933889},
		"c_1":     {e.c1, 0.0153504},
		"c_mu":    {e.cMu, 0.0134347},
		"chi_n":   {e.chiN, 3.0847266},
	} {
		assert.InDelta(t, v[1], v[0], 1e-6, name)
	}
	assert.InDelta(t, 5.7368606, New(make([]float64, 2), 0.2, 100, nil).dSigma, 1e-6,
		"many points")
	var positive, negative float64
	for _, w := range e.weights {
		positive, negative = positive+max(w, 0), negative+min(w, 0)
	}
	assert.InDelta(t, 1, positive, 1e-12)
	assert.Less(t, negative, -1.0, "the worse half counts, against")
}

// p_c stalls just where ||p_sigma|| over what it would be in generation g exceeds its bound; the
// exponent there is 2g, g counted from 1. (below eq. 45)
func TestHSigma(t *testing.T) {
	const n = 4
	for g := 1; g <= 3; g++ {
		for _, c := range []struct {
			share float64 // of the bound
			moves bool
		}{{0.999, true}, {1.001, false}} {
			e := New(make([]float64, n), 1, 8, nil)
			e.g = g - 1
			bound := (1.4 + 2./(n+1)) * e.chiN * math.Sqrt(1-math.Pow(1-e.cSigma, 2*float64(g)))
			// The points all lie at one place, so that <y>_w is it and p_sigma what it makes alone.
			x := make([]float64, n)
			x[0] = c.share * bound / math.Sqrt(e.cSigma*(2-e.cSigma)*e.muEff)
			e.Tell(slices.Repeat([][]float64{x}, 8), make([]float64, 8))
			assert.Equal(t, c.moves, e.pc[0] != 0, fmt.Sprint("generation ", g, ", share ",
				c.share))
		}
	}
}

// The step size grows by a factor of e in a generation, at most. (eq. 44)
func TestSigmaGrowsByEAtMost(t *testing.T) {
	e := New(make([]float64, 3), 1, 8, nil)
	e.Tell(slices.Repeat([][]float64{{1e3, 0, 0}}, 8), make([]float64, 8))
	assert.InDelta(t, math.E, e.Sigma, 1e-12)
}
