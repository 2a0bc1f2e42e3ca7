package ropescale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	tiny   = Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 256}
	llama2 = Rope{Dims: 128, FreqBase: 10000, OriginalContextLength: 4096}
)

// vector is a reference value; testdata/vectors.py makes the file.
type vector struct {
	Name, Method         string
	Dims, Length, Target int
	Base                 float64
	Options              json.RawMessage
	InvFreq              []float64 `json:"inv_freq"`
	AttentionFactor      float64   `json:"attention_factor"`
	Rotated              []struct {
		Position int
		X, Y     []float64
	}
	// Of transitions.json.
	Factors    []float64
	Fast, Slow int
	madeBy     string
}

func goldenVectors(t testing.TB, file string) []vector {
	b, err := os.ReadFile("testdata/" + file)
	require.NoError(t, err)
	var doc struct {
		Command, Torch, Transformers string
		Cases                        []vector
	}
	require.NoError(t, json.Unmarshal(b, &doc))
	require.NotEmpty(t, doc.Cases, file)
	for i := range doc.Cases {
		doc.Cases[i].madeBy = "made by " + doc.Command
		if doc.Transformers != "" {
			doc.Cases[i].madeBy += " with transformers " + doc.Transformers
		}
	}
	return doc.Cases
}

// exactVectors are those of forms that transformers lacks: in every file of testdata but
// vectors.json. A new method brings a file of its own.
func exactVectors(t *testing.T) (all []vector) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	for _, file := range files {
		if name := filepath.Base(file); name != "vectors.json" {
			all = append(all, goldenVectors(t, name)...)
		}
	}
	require.Greater(t, len(all), 20)
	return all
}

// The forms that transformers lacks agree with exact arithmetic, to rounding.
func TestMethodsAgreeWithTheirFormulas(t *testing.T) {
	for _, c := range exactVectors(t) {
		t.Run(c.Name, func(t *testing.T) {
			r := Rope{Dims: c.Dims, FreqBase: c.Base, OriginalContextLength: c.Length}
			m, err := MethodByName(c.Method)
			require.NoError(t, err)
			g, err := m.Rung(r, c.Target, MethodOptions{})
			require.NoError(t, err)
			assert.InDelta(t, c.AttentionFactor, g.AttentionFactor, 1e-14, c.madeBy)
			require.Len(t, g.Factors, len(c.Factors))
			for i, f := range c.Factors {
				assert.InEpsilon(t, f, g.Factors[i], 1e-12, "factor %d; %s", i, c.madeBy)
			}
			if c.Slow == 0 { // not a transition
				return
			}
			fast, slow := r.band()
			assert.Equal(t, [2]int{c.Fast, c.Slow}, [2]int{fast, slow}, c.madeBy)
			for i, f := range g.Factors {
				if i <= fast {
					assert.Equal(t, 1.0, f, "pairs up to the last fast one keep 1")
				}
				if i >= slow {
					assert.InEpsilon(t, r.Scale(c.Target), f, 1e-12,
						"pairs from the first slow one get s")
				}
			}
		})
	}
}

// Resonance makes wavelengths whole, moves none by more than half a token, keeps their order,
// and changes nothing the second time.
func TestResonance(t *testing.T) {
	for _, r := range []Rope{tiny, llama2, {128, 500000, 8192}} {
		for _, m := range Methods() {
			if !m.Use.Has(ClosedForm) {
				continue
			}
			g, err := m.Rung(r, 8*r.OriginalContextLength, MethodOptions{StartWindow: 4})
			require.NoError(t, err)
			whole := g.Resonance(r)
			var wavelengths []float64
			for i, w := range r.Wavelengths() {
				assert.InDelta(t, math.Round(w*g.Factors[i]), w*whole.Factors[i], 1e-9*w)
				wavelengths = append(wavelengths, w*whole.Factors[i])
				assert.LessOrEqual(t, math.Abs(w*(whole.Factors[i]-g.Factors[i])), 0.5+1e-9)
			}
			assert.IsNonDecreasing(t, wavelengths)
			assert.InDeltaSlice(t, whole.Factors, whole.Resonance(r).Factors, 1e-9)
			assert.Equal(t, []any{g.Length, g.StartWindow, g.AttentionFactor},
				[]any{whole.Length, whole.StartWindow, whole.AttentionFactor})
		}
	}
	g := Rope{Dims: 4, FreqBase: 1e4, OriginalContextLength: 64}.Identity(64)
	g.Factors[0] = 0.01
	assert.InDelta(t, 1/(2*math.Pi), g.Resonance(Rope{4, 1e4, 64}).Factors[0], 1e-12,
		"at least one token")
}

func TestMethodsAgreeWithTransformers(t *testing.T) {
	cases := goldenVectors(t, "vectors.json")
	require.Greater(t, len(cases), 20)
	var worstFreq, worstTurn float64
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			r := Rope{Dims: c.Dims, FreqBase: c.Base, OriginalContextLength: c.Length}
			var g Rung
			var err error
			if c.Method == "llama3" {
				var p Llama3Params
				require.NoError(t, json.Unmarshal(c.Options, &p))
				g, err = Llama3(r, p)
			} else {
				var o MethodOptions
				require.NoError(t, json.Unmarshal(c.Options, &o))
				m, merr := MethodByName(c.Method)
				require.NoError(t, merr)
				g, err = m.Rung(r, c.Target, o)
			}
			require.NoError(t, err)
			require.Len(t, g.Factors, len(c.InvFreq))
			assert.InDelta(t, c.AttentionFactor, g.AttentionFactor, 1e-12)
			for i, w := range r.InverseFrequencies() {
				d := math.Abs(w/g.Factors[i]/c.InvFreq[i] - 1)
				worstFreq = max(worstFreq, d)
				// transformers raises the base to a power in float32: a few units of 2^-23.
				assert.LessOrEqual(t, d, 2e-6, "inverse frequency %d; %s", i, c.madeBy)
			}
			for _, v := range c.Rotated {
				y := append([]float64(nil), v.X...)
				r.Rotate(y, v.Position, g, NeoX)
				// A float32 angle p*omega is off by up to 2^-23*p from the frequency and half as
				// much from rounding; elements are below 2.
				tol := 2*2e-6*float64(v.Position) + 1e-5
				for i := range y {
					d := math.Abs(y[i] - v.Y[i])
					worstTurn = max(worstTurn, d/tol)
					assert.LessOrEqual(t, d, tol, "position %d element %d", v.Position, i)
				}
			}
		})
	}
	t.Logf("%d cases: inverse frequencies within %.2g relative, rotations within %.2g of their "+
		"tolerance", len(cases), worstFreq, worstTurn)
}

func randomHead(rng *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	return x
}

func randomRung(rng *rand.Rand, r Rope) Rung {
	g := r.Identity(r.OriginalContextLength * 4)
	for i := range g.Factors {
		g.Factors[i] = 0.5 + 8*rng.Float64()
	}
	g.AttentionFactor = 0.5 + rng.Float64()
	return g
}

func dot(a, b []float64) (s float64) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

func rotated(r Rope, x []float64, p int, g Rung, layout Layout) []float64 {
	y := append([]float64(nil), x...)
	r.Rotate(y, p, g, layout)
	return y
}

func TestRotationLaws(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, layout := range []Layout{Normal, NeoX} {
		for _, width := range []int{64, 80} { // 80: a partial rotary embedding
			t.Run(fmt.Sprintf("%s/%d", layout, width), func(t *testing.T) {
				for range 50 {
					x, y := randomHead(rng, width), randomHead(rng, width)
					g := randomRung(rng, tiny)
					p, q := rng.IntN(4096), rng.IntN(4096)
					unit := g
					unit.AttentionFactor = 1

					assert.Equal(t, x, rotated(tiny, x, 0, unit, layout), "R(0) is the identity")
					assert.InDeltaSlice(t, rotated(tiny, x, p+q, unit, layout),
						rotated(tiny, rotated(tiny, x, p, unit, layout), q, unit, layout), 1e-9,
						"R(p)R(q) = R(p+q)")
					assert.InDeltaSlice(t, x, rotated(tiny, rotated(tiny, x, p, unit, layout), -p,
						unit, layout), 1e-9, "R(-p) undoes R(p)")
					assert.InDelta(t, dot(x, x), dot(rotated(tiny, x, p, unit, layout),
						rotated(tiny, x, p, unit, layout)), 1e-9, "lengths are kept")
					assert.Equal(t, x[tiny.Dims:], rotated(tiny, x, p, g, layout)[tiny.Dims:],
						"beyond n_dims nothing changes")

					shift := rng.IntN(4096)
					assert.InDelta(t, dot(rotated(tiny, x, p, g, layout),
						rotated(tiny, y, q, g, layout)),
						dot(rotated(tiny, x, p+shift, g, layout),
							rotated(tiny, y, q+shift, g, layout)), 1e-8,
						"logits depend on p-q only")
					one := dot(rotated(tiny, x[:64], p, unit, layout),
						rotated(tiny, y[:64], q, unit, layout))
					a := dot(rotated(tiny, x[:64], p, g, layout),
						rotated(tiny, y[:64], q, g, layout))
					assert.InDelta(t, one*g.AttentionFactor*g.AttentionFactor, a, 1e-9,
						"logits grow with the attention factor's square")
				}
			})
		}
	}
}

// Plain RoPE written out from the paper, independently of Rotate.
func TestIdentityRungIsPlainRope(t *testing.T) {
	r := Rope{Dims: 4, FreqBase: 100, OriginalContextLength: 16}
	x := []float64{1, 2, 3, 4, 5}
	const p = 3
	s0, c0, s1, c1 := math.Sin(p), math.Cos(p), math.Sin(p*0.1), math.Cos(p*0.1)
	assert.InDeltaSlice(t, []float64{c0 - 2*s0, s0 + 2*c0, 3*c1 - 4*s1, 3*s1 + 4*c1, 5},
		rotated(r, x, p, r.Identity(16), Normal), 1e-12)
	assert.InDeltaSlice(t, []float64{c0 - 3*s0, 2*c1 - 4*s1, s0 + 3*c0, 2*s1 + 4*c1, 5},
		rotated(r, x, p, r.Identity(16), NeoX), 1e-12)
	assert.InDeltaSlice(t, []float64{2 * math.Pi, 20 * math.Pi}, r.Wavelengths(), 1e-12)
}

func TestRotatePanicsOnWrongSizes(t *testing.T) {
	assert.Panics(t, func() { tiny.Rotate(make([]float64, 63), 1, tiny.Identity(1), Normal) })
	assert.Panics(t, func() { tiny.Rotate(make([]float64, 64), 1, llama2.Identity(1), Normal) })
}

func TestLadderRotateUsesStartWindow(t *testing.T) {
	g, err := YaRN(tiny, 2048, MethodOptions{StartWindow: 32})
	require.NoError(t, err)
	base := tiny.Identity(256)
	base.Factors[5] = 3
	l, err := NewLadder(tiny, &base, g)
	require.NoError(t, err)
	x := randomHead(rand.New(rand.NewPCG(3, 4)), 64)
	for _, p := range []int{0, 1, 31, 32, 2047} {
		y := append([]float64(nil), x...)
		l.Rotate(tiny, y, 1, p, NeoX)
		want := g
		if p < 32 {
			want = base
		}
		assert.Equal(t, rotated(tiny, x, p, want, NeoX), y, "position %d", p)
	}
}

func TestMethodLaws(t *testing.T) {
	some := make([]float64, 32)
	for i := range some {
		some[i] = 1 + float64(i)/8
	}
	for _, m := range Methods() {
		obeys := func(law Laws) bool { return m.Laws&law != 0 }
		t.Run(m.Name, func(t *testing.T) {
			o := MethodOptions{Factors: some}
			for _, target := range []int{257, 300, 2048, 1 << 20} {
				g, err := m.Rung(tiny, target, o)
				require.NoError(t, err)
				s := tiny.Scale(target)
				_, err = NewLadder(tiny, nil, g)
				require.NoError(t, err, "what a method returns is a valid rung")
				assert.Equal(t, target, g.Length)
				if obeys(Monotone) {
					assert.IsNonDecreasing(t, g.Factors)
				}
				if obeys(EndsAtScale) {
					assert.GreaterOrEqual(t, slices.Min(g.Factors), 1.0)
					assert.LessOrEqual(t, slices.Max(g.Factors), s*(1+1e-12))
					assert.InDelta(t, s, g.Factors[31], s*1e-9,
						"the slowest pair is interpolated in full")
				}
				assert.GreaterOrEqual(t, g.AttentionFactor, 1.0)
			}
			if obeys(IdentityToL) {
				for _, target := range []int{1, 255, 256} {
					g, err := m.Rung(tiny, target, o)
					require.NoError(t, err)
					assert.Equal(t, tiny.Identity(target), g, "up to L nothing changes")
				}
				big := Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 1 << 20}
				g, err := m.Rung(big, 1<<20+1, o)
				require.NoError(t, err)
				assert.InDeltaSlice(t, big.Identity(0).Factors, g.Factors, 1e-5,
					"s to 1 gives the identity")
				assert.InDelta(t, 1, g.AttentionFactor, 1e-6)
			}
			g, err := m.Rung(tiny, 2048, MethodOptions{
				Factors: some, AttentionFactor: 1.5,
				StartWindow: 8,
			})
			require.NoError(t, err)
			assert.Equal(t, 1.5, g.AttentionFactor)
			assert.Equal(t, 8, g.StartWindow)

			for _, bad := range []struct {
				r      Rope
				target int
				o      MethodOptions
				want   string
			}{
				{
					Rope{Dims: 63, FreqBase: 1e4, OriginalContextLength: 256},
					512, o,
					"rope_dimension_count is 63",
				},
				{
					Rope{Dims: 64, FreqBase: math.NaN(), OriginalContextLength: 256},
					512, o,
					"freq_base is NaN",
				},
				{Rope{Dims: 64, FreqBase: 1e4}, 512, o, "original_context_length is 0"},
				{tiny, 0, o, "target length is 0"},
				{tiny, 512, MethodOptions{Factors: some, StartWindow: 512}, "start window is 512"},
				{
					tiny, 512,
					MethodOptions{Factors: some, AttentionFactor: -1},
					"attention factor is -1",
				},
			} {
				_, err := m.Rung(bad.r, bad.target, bad.o)
				assert.ErrorContains(t, err, bad.want)
			}
		})
	}
	_, err := MethodByName("su")
	for _, m := range Methods() {
		assert.ErrorContains(t, err, m.Name)
	}
}

// lawsOf are the laws that a closed form obeys.
func lawsOf(t *testing.T, m Method) (laws Laws) {
	t.Helper()
	rung := func(r Rope, target int) Rung {
		g, err := m.Rung(r, target, MethodOptions{})
		require.NoError(t, err)
		return g
	}
	g := rung(tiny, 2048).Factors
	if slices.IsSorted(g) {
		laws |= Monotone
	}
	if slices.Min(g) >= 1 && slices.Max(g) <= 8*(1+1e-12) && math.Abs(g[31]-8) < 1e-8 {
		laws |= EndsAtScale
	}
	if reflect.DeepEqual(tiny.Identity(255), rung(tiny, 255)) {
		laws |= IdentityToL
	}
	return laws
}

// The table is whole: every method has a name and a label of its own, laws where it is a closed
// form, and golden vectors; the seeds are closed forms and, with the own RoPE, all that a study can
// begin with.
func TestMethodTable(t *testing.T) {
	golden := map[string]bool{}
	for _, c := range append(goldenVectors(t, "vectors.json"), exactVectors(t)...) {
		golden[c.Method] = true
	}
	seen := map[string]bool{}
	for _, m := range Methods() {
		assert.Regexp(t, `^[a-z][a-z0-9-]*$`, m.Name)
		for _, name := range []string{m.Name, m.Label} {
			assert.NotEmpty(t, name)
			assert.False(t, seen[name], "%q is taken", name)
			seen[name] = true
		}
		if m.Use.Has(ClosedForm) {
			assert.Equal(t, lawsOf(t, m), m.Laws, "%s declares the laws that it obeys", m.Name)
			assert.True(t, golden[m.Name], "%s has golden vectors, in testdata/vectors.py or a "+
				"file of its own", m.Name)
		}
		if m.Use.Has(Seed) || m.Use.Has(Start) || m.Use.Has(EachLength) {
			assert.True(t, m.Use.Has(ClosedForm), m.Name)
		}
		assert.Equal(t, m.Label, MethodLabel(m.Name))
	}
	for _, algorithm := range []string{"cma", "longrope", "dim-mono", "dim-piece-mono"} {
		assert.Equal(t, []string{"own"}, SeedNames(algorithm, tiny, 256))
		if algorithm != "cma" {
			assert.Equal(t, MethodNames(Seed), SeedNames(algorithm, tiny, 257))
		}
	}
	assert.Equal(t, []string{"linear", "ntk", "yarn", "mrrope-pro", "tailspline"},
		SeedNames("cma", tiny, 257))
	assert.Equal(t, "ft.json", MethodLabel("ft.json"))
}

func TestMethodArguments(t *testing.T) {
	_, err := NTK(Rope{Dims: 2, FreqBase: 1e4, OriginalContextLength: 8}, 16, MethodOptions{})
	assert.ErrorContains(t, err, "want at least 4")
	_, err = YaRN(tiny, 512, MethodOptions{BetaFast: 1, BetaSlow: 2})
	assert.ErrorContains(t, err, "beta_fast")
	_, err = LongRoPE(tiny, 512, MethodOptions{})
	assert.ErrorContains(t, err, "0 factors, want 32")
	short, err := LongRoPE(tiny, 128, MethodOptions{Factors: tiny.Identity(0).Factors})
	require.NoError(t, err)
	assert.Equal(t, 1.0, short.AttentionFactor)
	d, err := dynamicNTK(tiny, 2048, MethodOptions{})
	require.NoError(t, err)
	n, err := NTK(tiny, 2048, MethodOptions{})
	require.NoError(t, err)
	assert.Equal(t, n, d, "the dynamic rung at n is NTK's for n")
	assert.InDelta(t, 1.1726, LongRoPEAttentionFactor(2048, 256), 1e-4)
	assert.InDelta(t, 1+0.1*math.Log(8), YaRNAttentionFactor(8), 1e-15)
}

// ropeYarn is ggml's rope_yarn with the angle's factors pulled out, float64 and term by term as in
// the C.
func ropeYarn(theta, freqScale, low, high float64, i0 int, ext, mscale float64) (angle, m float64) {
	interp := freqScale * theta
	angle = interp
	if ext != 0 {
		y := (float64(i0/2) - low) / math.Max(0.001, high-low)
		ramp := (1 - math.Min(1, math.Max(0, y))) * ext
		angle = interp*(1-ramp) + theta*ramp
		mscale *= 1 + 0.1*math.Log(1/freqScale)
	}
	return angle, mscale
}

func TestOwnIsWhatTheOpComputes(t *testing.T) {
	ff := make([]float32, 64)
	for i := range ff {
		ff[i] = 1 + float32(i)/4
	}
	for _, p := range []OpParams{
		{},
		{FreqScale: 0.25},
		{FreqFactors: ff},
		{FreqScale: 1.0 / 32, ExtFactor: 1},
		{
			FreqScale: 1.0 / 32, ExtFactor: 1, AttnFactor: 1.1, BetaFast: 16, BetaSlow: 2,
			OriginalContextLength: 2048,
		},
		{FreqScale: 0.5, ExtFactor: 0.3, FreqFactors: ff},
		{FreqScale: 0.5, AttnFactor: 1.2},
	} {
		g, err := Own(llama2, p)
		require.NoError(t, err)
		scale, fast, slow, orig := orDefault(p.FreqScale, 1), orDefault(p.BetaFast, 32),
			orDefault(p.BetaSlow, 1), p.OriginalContextLength
		if orig == 0 {
			orig = 4096
		}
		dim := func(rot float64) float64 {
			return 128 * math.Log(float64(orig)/(rot*2*math.Pi)) / (2 * math.Log(10000))
		}
		low, high := math.Max(0, math.Floor(dim(fast))), math.Min(127, math.Ceil(dim(slow)))
		for i, w := range llama2.InverseFrequencies() {
			f := 1.0
			if p.FreqFactors != nil {
				f = float64(ff[i])
			}
			angle, m := ropeYarn(1000*w/f, scale, low, high, 2*i, p.ExtFactor,
				orDefault(p.AttnFactor, 1))
			assert.InEpsilon(t, angle, 1000*w/g.Factors[i], 1e-12)
			assert.InEpsilon(t, m, g.AttentionFactor, 1e-12)
		}
	}
	// What llama.cpp passes for a plain YaRN model makes the op's total the paper's attention
	// factor.
	for _, s := range []float64{2, 8, 40} {
		g, err := Own(llama2, OpParams{
			FreqScale: 1 / s, ExtFactor: 1,
			AttnFactor: HostAttnFactor(0, 1/s, 1, 0),
		})
		require.NoError(t, err)
		assert.InDelta(t, YaRNAttentionFactor(s), g.AttentionFactor, 1e-12)
		y, err := YaRN(llama2, int(4096*s), MethodOptions{})
		require.NoError(t, err)
		assert.InDeltaSlice(t, y.Factors, g.Factors, 1e-9, "and the factors are YaRN's")
		assert.InDelta(t, (0.1*math.Log(s)+1)/(0.1*0.707*math.Log(s)+1)/(0.1*math.Log(s)+1),
			HostAttnFactor(0, 1/s, 1, 0.707), 1e-12)
	}
	assert.Equal(t, 1.3, HostAttnFactor(1.3, 0.25, 0, 0))
	for want, p := range map[string]OpParams{
		"63 freq factors":  {FreqFactors: ff[:63]},
		"factor 0 is 0":    {FreqFactors: make([]float32, 64)},
		"freq_scale is -1": {FreqScale: -1},
		"beta_fast is -1":  {FreqScale: 0.5, ExtFactor: 1, BetaFast: -1},
		"ext_factor is":    {ExtFactor: math.NaN()},
		"attention_factor": {AttnFactor: math.Inf(1)},
	} {
		_, err := Own(llama2, p)
		assert.ErrorContains(t, err, want)
	}
	_, err := Llama3(llama2, Llama3Params{
		Factor: 8, LowFreqFactor: 4, HighFreqFactor: 1,
		OriginalContextLength: 8192,
	})
	assert.ErrorContains(t, err, "high above low")
}

func TestOver(t *testing.T) {
	base, err := Llama3(llama2, Llama3Params{8, 1, 4, 1024})
	require.NoError(t, err)
	base.AttentionFactor = 1.5
	g, err := linear(llama2, 8192, MethodOptions{AttentionFactor: 1.2, StartWindow: 4})
	require.NoError(t, err)
	over := g.Over(&base)
	assert.InDelta(t, 2*base.Factors[63], over.Factors[63], 1e-12)
	assert.InDelta(t, 1.8, over.AttentionFactor, 1e-12)
	assert.Equal(t, 4, over.StartWindow)
	assert.Equal(t, 2.0, g.Factors[63], "the method's rung is untouched")
	assert.Equal(t, g, g.Over(nil))
}

func ExampleYaRN() {
	r := Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 256}
	g, _ := YaRN(r, 2048, MethodOptions{})
	fmt.Printf("lambda_0 %.2f, lambda_6 %.2f, lambda_31 %.2f, attention factor %.3f\n",
		g.Factors[0], g.Factors[6], g.Factors[31], g.AttentionFactor)
	// Output: lambda_0 1.00, lambda_6 1.68, lambda_31 8.00, attention factor 1.208
}

func ExampleLadder_RungFor() {
	r := Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 256}
	short, _ := linear(r, 1024, MethodOptions{})
	long, _ := linear(r, 2048, MethodOptions{StartWindow: 4})
	l, _ := NewLadder(r, nil, short, long)
	for _, n := range []int{256, 257, 1500, 9999} {
		rung := l.RungFor(n)
		fmt.Printf("%d tokens: rung %d, rows of the first and last token %d %d\n", n, rung,
			l.Row(rung, 0), l.Row(rung, n-1))
	}
	// Output:
	// 256 tokens: rung 0, rows of the first and last token 0 0
	// 257 tokens: rung 1, rows of the first and last token 1 1
	// 1500 tokens: rung 2, rows of the first and last token 0 2
	// 9999 tokens: rung 2, rows of the first and last token 0 2
}

func ExampleReadFactors() {
	l, err := ReadFactors(bytes.NewReader([]byte(`{"version": 1, "original_context_length": 256, "rope_dimension_count": 4,
		"rungs": [{"length": 2048, "factors": [1, 8]}]}`)))
	if err != nil {
		fmt.Println(err)
		return
	}
	rows, windows := l.Rows()
	fmt.Println(rows, windows)
	// Output: [[1 1 1] [1 8 1.172604]] [0 0]
}

// Pairs from half the critical dimension on are those whose wavelength exceeds L.
func TestCriticalDimension(t *testing.T) {
	for _, r := range []Rope{
		{64, 10000, 256},
		{128, 10000, 4096},
		{128, 500000, 8192},
		{96, 10000, 4096},
		{64, 100000, 8192},
	} {
		critical := r.CriticalDimension()
		require.Zero(t, critical%2)
		for i, wavelength := range r.Wavelengths() {
			assert.Equal(t, i >= critical/2, wavelength >= float64(r.OriginalContextLength),
				"%+v, pair %d of wavelength %g", r, i, wavelength)
		}
	}
	// LongRoPE2 (arXiv 2502.20082, table 1) counts pairs: 31 for Phi3-mini, 35 for LLaMA3-8B.
	assert.Equal(t, 2*31, Rope{96, 10000, 2048}.CriticalDimension())
	assert.Equal(t, 2*35, Rope{128, 500000, 8192}.CriticalDimension())
	assert.Equal(t, 8, Rope{8, 2, 1 << 20}.CriticalDimension(), "all pairs turn")
	assert.Zero(t, Rope{8, 10000, 4}.CriticalDimension())
}
