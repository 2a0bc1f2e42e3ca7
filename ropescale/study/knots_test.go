package study

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// geometries are those of published models, and how many of eight knots lie before the pairs that
// turn 32 to 1 times within L, among them, and behind.
var geometries = []struct {
	name                  string
	rope                  ropescale.Rope
	before, among, behind int
}{
	{"default", rope(64, 1e4, 256), 1, 5, 2},
	{"SmolLM2-135M", rope(64, 1e5, 8192), 2, 4, 2},
	{"Llama-2-7B", rope(128, 1e4, 4096), 2, 4, 2},
	{"Llama-3-8B", rope(128, 5e5, 8192), 2, 4, 2},
	{"Mistral-7B", rope(128, 1e4, 8192), 2, 4, 2},
	{"Qwen2.5-3B", rope(128, 1e6, 32768), 2, 4, 2},
	{"Phi-3-mini", rope(96, 1e4, 4096), 2, 4, 2},
	{"Gemma-7B", rope(256, 1e4, 8192), 2, 4, 2},
	{"Gemma-3-4B", rope(256, 1e6, 131072), 2, 4, 2},
	{"40 % partial rotary", rope(32, 1e4, 2048), 2, 4, 2},
	{"gpt-oss", rope(64, 150000, 4096), 2, 4, 2},
	{"all pairs turn", rope(8, 2, 1<<20), 0, 4, 0},
}

func rope(dims int, base float64, length int) ropescale.Rope {
	return ropescale.Rope{Dims: dims, FreqBase: base, OriginalContextLength: length}
}

func TestKnotsByTurns(t *testing.T) {
	for _, c := range geometries {
		knots := knotsFor(c.rope, min(8, c.rope.Pairs()))
		lo, hi := c.rope.PairTurning(32), c.rope.PairTurning(1)
		if c.rope.FreqBase == 2 {
			lo, hi = 0, 3
		}
		var before, among, behind int
		for i, at := range knots {
			require.True(t, i == 0 || at > knots[i-1], "%s: %v", c.name, knots)
			switch {
			case at < lo-0.5-1e-9:
				before++
			case at > hi+0.5+1e-9:
				behind++
			default:
				among++
			}
		}
		assert.Equal(t, []int{c.before, c.among, c.behind}, []int{before, among, behind},
			"%s: %.1f; %.1f to %.1f", c.name, knots, lo, hi)
		assert.GreaterOrEqual(t, knots[0], 0.0)
		assert.InDelta(t, c.rope.Pairs()-1, knots[len(knots)-1], 1e-9, "the last pair is a knot")
	}
	for n := 1; n <= 32; n++ { // any number of knots
		for _, c := range geometries {
			knots := knotsFor(c.rope, min(n, c.rope.Pairs()))
			require.Len(t, knots, min(n, c.rope.Pairs()))
			require.True(t, slices.IsSorted(knots), "%s: %v", c.name, knots)
			require.Len(t, slices.Compact(slices.Clone(knots)), len(knots), "%s: %v", c.name, knots)
		}
	}
}

// Knots of Llama-2-7B: pairs 20.9 to 45 turn 32 to 1 times within 4,096 tokens.
func TestWhereKnotsAre(t *testing.T) {
	lo, hi := llama2.PairTurning(32), llama2.PairTurning(1)
	assert.InDelta(t, 20.94, lo, 0.01)
	assert.InDelta(t, 45.03, hi, 0.01)
	assert.Equal(t, []float64{0, 10, 21, 29, 37, 45, 54, 63}, knotsFor(llama2, 8))
}

// A search that begins at another start forgets points that were around the one before.
func TestModelIsOfOneStart(t *testing.T) {
	sp, _, err := newSpace(Options{Rope: llama2, Target: 32768})
	require.NoError(t, err)
	s := newSampledSearch(sp).(*sampledSearch)
	starts := sp.seeds()
	s.begin(result{Rung: starts[0].Rung})
	s.model.Add([][]float64{make([]float64, 10)}, []float64{1})
	require.False(t, s.model.Empty())
	s.begin(result{Rung: starts[2].Rung})
	assert.True(t, s.model.Empty())
}

// Log-spaced knots do for the default model alone, and where there is no band.
func TestWhoseKnotsAreByTurns(t *testing.T) {
	for _, c := range geometries {
		want := c.name != "default"
		assert.Equal(t, want, byTurns(c.rope, min(8, c.rope.Pairs())), c.name)
		sp, _, err := newSpace(Options{Rope: c.rope, Target: 4 * c.rope.OriginalContextLength})
		require.NoError(t, err)
		most := 1.25 * 4
		if want {
			most = 2 * 4
		}
		assert.Equal(t, most, sp.maxFactor, c.name)
		sp, _, err = newSpace(Options{
			Rope: c.rope, Target: 4 * c.rope.OriginalContextLength, Stretch: 8,
		})
		require.NoError(t, err)
		assert.Equal(t, 1.25*8, sp.maxFactor, "a given stretch is all that the model knows")
	}
}

// Every closed form, with its wavelengths rounded or not, and any other set is given back by encode
// and decode where it is the start: to the four decimals that factors have.
func TestEveryStartIsInTheSpace(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, c := range geometries {
		if !byTurns(c.rope, 8) {
			continue
		}
		for _, s := range []int{2, 8, 32} {
			target := s * c.rope.OriginalContextLength
			sp, _, err := newSpace(Options{Rope: c.rope, Target: target})
			require.NoError(t, err)
			curve := newCurve(sp)
			var starts []ropescale.Rung
			for _, m := range ropescale.Methods() {
				if !m.Use.Has(ropescale.ClosedForm) {
					continue
				}
				g, err := m.Rung(c.rope, target, ropescale.MethodOptions{StartWindow: 32})
				require.NoError(t, err)
				starts = append(starts, g, g.Resonance(c.rope))
			}
			starts = append(starts, c.rope.Identity(target))
			wild := c.rope.Identity(target) // not monotone, below 1 and above the bound
			for i := range wild.Factors {
				wild.Factors[i] = math.Exp(0.5*rng.NormFloat64()) * float64(s)
			}
			wild.AttentionFactor = 1.9
			starts = append(starts, wild)
			for _, g := range starts {
				curve.around(g)
				got := curve.decode(curve.encode(g))
				assert.InDeltaSlice(t, g.Factors, got.Factors, 1e-4, c.name)
				assert.InDelta(t, g.AttentionFactor, got.AttentionFactor, 1e-4, c.name)
				assert.Equal(t, g.StartWindow, got.StartWindow, c.name)
			}
		}
	}
}

// So is every published set, with factors that fall and such above 1.25 s, for the models that it
// may be tried on.
func TestPublishedSetsAreInTheSpace(t *testing.T) {
	files, err := filepath.Glob("../published/data/*.csv")
	require.NoError(t, err)
	require.Len(t, files, 31)
	for _, file := range files {
		f, err := os.Open(file)
		require.NoError(t, err)
		factors, err := ropescale.ReadFactorsCSV(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		for _, r := range []ropescale.Rope{
			rope(128, 1e4, 4096),
			rope(128, 5e5, 8192),
			rope(128, 1e4, 8192),
			rope(128, 1e4, 32768),
		} {
			for _, target := range []int{2 * r.OriginalContextLength, 131072, 1 << 21} {
				sp, _, err := newSpace(Options{Rope: r, Target: target})
				require.NoError(t, err)
				g, err := ropescale.LongRoPE(r, target, ropescale.MethodOptions{Factors: factors})
				require.NoError(t, err)
				c := newCurve(sp)
				c.around(g)
				got := c.decode(c.encode(g))
				require.InDeltaSlice(t, g.Factors, got.Factors, 1e-4, file)
				require.InDelta(t, g.AttentionFactor, got.AttentionFactor, 1e-4, file)
			}
		}
	}
}

// Around a monotone start all candidates are monotone and within 1 and 2 s; around one that falls,
// they fall no more.
func TestCurveKeepsTheOrderOfItsStart(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	sp, _, err := newSpace(Options{Rope: llama2, Target: 32768})
	require.NoError(t, err)
	c := newCurve(sp)
	yarn, err := ropescale.YaRN(llama2, 32768, ropescale.MethodOptions{})
	require.NoError(t, err)
	falls := yarn
	falls.Factors = slices.Clone(yarn.Factors)
	falls.Factors[40] *= 0.9
	for range 300 {
		for _, start := range []ropescale.Rung{yarn, falls} {
			c.around(start)
			x := c.encode(start)
			for i := range x {
				x[i] += rng.NormFloat64()
			}
			f := c.decode(x).Factors
			for i := range f {
				require.True(t, f[i] >= 1 && f[i] <= 16, "%v", f)
				if i > 0 {
					least := f[i-1] * min(1, start.Factors[i]/start.Factors[i-1])
					require.GreaterOrEqual(t, f[i], least-1e-3)
				}
			}
		}
	}
}
