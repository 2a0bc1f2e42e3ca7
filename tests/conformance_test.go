package tests

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/kernel"
	"github.com/longrope/longrope/ropescale"
)

const (
	unit32 = 1.0 / (1 << 24) // half a unit in the last place of 1, float32
	unit16 = 1.0 / (1 << 11) // float16
	tiny16 = 1.0 / (1 << 25) // half of float16's smallest number
)

// turn is what the oracle knows of one pair of one token: the angle in radians with the bound of
// what float32 loses of it, and what multiplies cos and sin.
type turn struct {
	angle, loss float64
	magnitude   float64
}

// oracle is the definition of the op for pair i of a token, in float64, with row in place of the
// token's own if row >= 0.
//
// The loss is that of any implementation that multiplies up the series of frequencies in float32,
// as ggml's do: each step rounds theta once and has a rounded ratio (pow, good to a unit in the
// last place), 3 units together; dividing by lambda and multiplying by freq_scale add one each
// unless they are 1. At p = 131072 and pair 0 with lambda != 1 that is 2^-7 rad.
func oracle(c kernel.Case, token, i, row int) turn {
	p, step := int32(0), i // theta_i = p * base^(-2*step/dims)
	planes := func(k int) int32 { return c.Positions[k*c.Tokens+token] }
	switch s := c.Sections; c.Mode {
	case kernel.Normal, kernel.NeoX:
		p = planes(0)
	case kernel.IMRope: // t h w t h w …, as long as there are h and w; then t
		p = planes(0)
		if k := i % (s[0] + s[1] + s[2] + s[3]); k%3 == 1 && k < 3*s[1] || k%3 == 2 && k < 3*s[2] {
			p = planes(k % 3)
		}
	default: // t … t h … h w … w e … e, again and again
		k := i % (s[0] + s[1] + s[2] + s[3])
		plane := 0
		for ; plane < 3 && k >= s[plane]; plane++ {
			k -= s[plane]
		}
		p = planes(plane)
		if c.Mode == kernel.Vision {
			step = k // each section has a series of its own
		}
	}

	theta := float64(p) * math.Pow(float64(c.FreqBase), -2*float64(step)/float64(c.Dims))
	t := turn{angle: theta, magnitude: float64(c.AttnFactor)}
	units := float64(3 * step)
	if len(c.Factors) > 0 {
		if row < 0 {
			row = c.Row(token)
		}
		lambda := float64(c.Factors[row][i])
		if t.angle /= lambda; lambda != 1 {
			units++
		}
		if c.Rows {
			t.magnitude *= float64(c.Factors[row][c.Pairs()])
		}
	}
	if c.FreqScale != 1 {
		units++
		whole := t.angle
		t.angle *= float64(c.FreqScale)
		if c.ExtFactor != 0 { // YaRN: fast pairs keep their frequency, with a ramp between
			mix := float64(c.ExtFactor) * ramp(c, i)
			t.angle = t.angle*(1-mix) + whole*mix
			t.magnitude *= 1 + 0.1*math.Log(1/float64(c.FreqScale))
			// blending, and the ramp's own ends
			t.loss += (5 + 8*float64(c.Dims)) * unit32 * math.Abs(whole)
		}
	}
	t.loss += units * unit32 * math.Abs(t.angle)
	return t
}

// ramp is YaRN's share of the unscaled frequency in pair i (arXiv 2309.00071, eq. 23, in dimensions
// rather than turns).
func ramp(c kernel.Case, i int) float64 {
	dim := func(turns float64) float64 {
		return float64(c.Dims) * math.Log(
			float64(c.Original)/(turns*2*math.Pi)) / (2 * math.Log(float64(c.FreqBase)))
	}
	low, high := math.Max(0, math.Floor(dim(32))), math.Min(float64(c.Dims-1), math.Ceil(dim(1)))
	return 1 - math.Min(1, math.Max(0, (float64(i)-low)/math.Max(0.001, high-low)))
}

// pair says which two elements of a head make pair i.
func pair(c kernel.Case, i int) (int, int) {
	switch c.Mode {
	case kernel.Normal:
		return 2 * i, 2*i + 1
	case kernel.Vision:
		return i, i + c.Dims
	}
	return i, i + c.Dims/2
}

// deviation of a case's output from the oracle.
type deviation struct {
	worst float64 // absolute
	ratio float64 // to the bound; above 1 is wrong
	where string
}

// measure compares all of an output with the oracle. The bound of an element is magnitude * ((|a| +
// |b|) * (loss + 8 units) + units of the element type * |result|): the angle's loss (a rotation
// moves by no more than its angle), cos, sin, their product with the magnitude and two products and
// a sum of float32, and the rounding to the element type. Elements that are not rotated must be
// what they were.
func measure(d *kernel.Device, c kernel.Case, x, y []float32, row int) deviation {
	var dev deviation
	note := func(got float32, want, bound float64, what string, at ...int) {
		e := math.Abs(float64(got) - want)
		dev.worst = math.Max(dev.worst, e)
		r := e / bound
		if bound == 0 && e == 0 {
			r = 0
		}
		if r > dev.ratio || math.IsNaN(r) {
			dev.ratio, dev.where = r, fmt.Sprintf("%s %v: got %g, want %g ± %g", what, at, got,
				want, bound)
		}
	}

	turns := make([]turn, c.Pairs())
	for t := range c.Tokens {
		for i := range turns {
			turns[i] = oracle(c, t, i, row)
			turns[i].loss += 8 * unit32
			if c.Norm { // a sum of HeadDim squares, a root and three products
				turns[i].loss += (5 + math.Sqrt(float64(c.HeadDim))) * unit32
			}
			if fastMath(d) {
				turns[i].loss += 24*unit32 + 25*unit32*math.Abs(turns[i].angle)
			}
		}
		for b := range c.Batch {
			for h := range c.Heads {
				in := x[c.Index(b, t, h):][:c.HeadDim]
				out := y[c.OutputIndex(b, t, h):][:c.HeadDim]
				for i, turn := range turns {
					ia, ib := pair(c, i)
					sin, cos := math.Sincos(turn.angle)
					if c.Back {
						sin = -sin
					}
					m, va, vb := turn.magnitude, float64(in[ia]), float64(in[ib])
					slack := m * (math.Abs(va) + math.Abs(vb)) * turn.loss
					for k, want := range []float64{m * (va*cos - vb*sin), m * (va*sin + vb*cos)} {
						bound := slack
						if c.F16 || c.CacheF16 {
							bound += unit16*math.Abs(want) + tiny16
						}
						note(out[[]int{ia, ib}[k]], want, bound, "batch, token, head, pair", b, t,
							h, i)
					}
				}
				for i := 2 * c.Pairs(); i < c.HeadDim; i++ {
					note(out[i], float64(in[i]), 0, "not rotated: batch, token, head, element", b,
						t, h, i)
				}
			}
		}
	}
	if c.Cache { // cells between those of the tokens
		n := c.Heads * c.HeadDim
		for i := range y {
			if i/n%2 == 1 || i < n {
				note(y[i], 0, 0, "another cell of the cache: element", i)
			}
		}
	}
	if c.InPlace && c.View == kernel.Fused { // the neighbours in the projection
		n := c.Heads * c.HeadDim
		for i := range x {
			if i/n%3 != 1 {
				note(y[i], float64(x[i]), 0, "neighbour of the view: element", i)
			}
		}
	}
	return dev
}

// onDevices runs f for each device, mode and type with that group's cases. The names of the
// subtests are the filter:
//
//	go test ./tests -v -run 'Conformance/CUDA/neox/f16'
func onDevices(t *testing.T, f func(t *testing.T, d *kernel.Device, cases []kernel.Case)) {
	groups := map[string][]kernel.Case{}
	var names []string
	for _, c := range kernel.Cases() {
		name := c.Mode.String() + "/" + c.Type()
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], c)
	}
	for _, d := range devices(t) {
		for _, name := range names {
			t.Run(d.Name()+"/"+name, func(t *testing.T) { f(t, d, groups[name]) })
		}
	}
}

// skipUnsupported ends a subtest whose cases the device refuses: no failure of a GPU.
func skipUnsupported(t *testing.T, d *kernel.Device, refused, all int) {
	if refused == 0 {
		return
	}
	if refused == all {
		t.Skipf("not supported by %s: all %d cases go to the CPU", d.Name(), all)
	}
	t.Logf("not supported by %s: %d of %d cases go to the CPU", d.Name(), refused, all)
}

func TestConformance(t *testing.T) {
	onDevices(t, func(t *testing.T, d *kernel.Device, cases []kernel.Case) {
		refused, failed := 0, 0
		var worst deviation
		places, fromCPU := map[string]float64{}, 0.0
		for _, c := range cases {
			x := c.Input()
			y, err := d.Run(c, x)
			if errors.Is(err, kernel.ErrUnsupported) {
				require.False(t, mustTake(d, c), "%s refuses %v", d.Name(), c)
				refused++
				continue
			}
			require.NoError(t, err)
			if cpu := kernel.Devices()[0]; !d.CPU() && cpu.CPU() {
				z, err := cpu.Run(c, x)
				require.NoError(t, err)
				for i := range z {
					fromCPU = math.Max(fromCPU, math.Abs(float64(y[i]-z[i])))
				}
			}
			dev := measure(d, c, x, y, -1)
			if !(dev.ratio <= 1) && failed < 5 {
				failed++
				assert.Fail(t, "outside of its bound", "%v\n%.3g of the bound at %s", c, dev.ratio,
					dev.where)
			}
			// A case of several rows must not pass with another one: else the case could not fail.
			if c.Rows && len(c.Factors) > 1 && c.Where != "zero" {
				wrong := len(c.Factors) - 1
				if c.Row(0) == wrong && c.Row(c.Tokens-1) == wrong {
					wrong = 0
				}
				other := measure(d, c, x, y, wrong)
				assert.Greater(t, other.ratio, 1.0, "cannot tell rows apart: %v", c)
			}
			if places[c.Where] = math.Max(places[c.Where], dev.worst); dev.ratio > worst.ratio {
				worst.ratio, worst.where = dev.ratio, c.Where+" "+c.Kind
			}
		}
		skipUnsupported(t, d, refused, len(cases))
		t.Logf("%d cases, worst deviation at positions 0: %.2g, 0..16: %.2g, down to -131072: "+
			"%.2g, up to 2M: %.2g; worst of its bound %.3f (%s); from the CPU %.2g",
			len(cases)-refused, places["zero"], places["window"], places["back"], places["far"],
			worst.ratio, worst.where, fromCPU)
	})
}

// The oracle of this test, written for all modes, is ropescale's where that has the mode.
func TestOracleIsRopescales(t *testing.T) {
	for _, c := range kernel.Cases() {
		if c.Mode != kernel.Normal && c.Mode != kernel.NeoX || c.FreqScale != 1 || c.F16 ||
			c.Cache ||
			c.View != kernel.Contiguous {
			continue
		}
		layout := ropescale.Normal
		if c.Mode == kernel.NeoX {
			layout = ropescale.NeoX
		}
		r := ropescale.Rope{
			Dims:                  c.Dims,
			FreqBase:              float64(c.FreqBase),
			OriginalContextLength: 4096,
		}
		for token := range c.Tokens {
			rung := r.Identity(4096)
			if len(c.Factors) > 0 {
				row := c.Factors[c.Row(token)]
				for i := range rung.Factors {
					rung.Factors[i] = float64(row[i])
				}
				if c.Rows {
					rung.AttentionFactor = float64(row[c.Pairs()])
				}
			}
			rung.AttentionFactor *= float64(c.AttnFactor)

			x := make([]float64, c.HeadDim)
			for i := range x {
				x[i] = float64(i%7) - 3
			}
			want := slices.Clone(x)
			r.Rotate(want, int(c.Positions[token]), rung, layout)
			for i := range c.Pairs() {
				a, b := pair(c, i)
				turn := oracle(c, token, i, -1)
				sin, cos := math.Sincos(turn.angle)
				require.InDelta(t, want[a], turn.magnitude*(x[a]*cos-x[b]*sin), 1e-9,
					"%v token %d pair %d", c, token, i)
				require.InDelta(t, want[b], turn.magnitude*(x[a]*sin+x[b]*cos), 1e-9,
					"%v token %d pair %d", c, token, i)
			}
		}
	}
}

// A vector of factors means what it meant, and a matrix all of whose rows are that vector is the
// same op: bit for bit, wherever the attention factor stands.
func TestRowsOfOneVector(t *testing.T) {
	onDevices(t, func(t *testing.T, d *kernel.Device, cases []kernel.Case) {
		refused, all := 0, 0
	cases:
		for _, c := range cases {
			if c.Kind != "vector" {
				continue
			}
			all++
			x := c.Input()
			want, err := d.Run(c, x)
			if errors.Is(err, kernel.ErrUnsupported) {
				refused++
				continue
			}
			require.NoError(t, err)
			for _, rows := range []int{1, 3} {
				for _, inRow := range []bool{false, true} {
					m := c
					m.Rows, m.Factors, m.Kind = true, nil, fmt.Sprintf("%d equal rows", rows)
					attn := float32(1)
					if inRow {
						m.AttnFactor, attn = 1, c.AttnFactor
					}
					if inRow && c.ExtFactor != 0 {
						continue // YaRN's magnitude multiplies the op's, in another order
					}
					m.Positions = slices.Clone(c.Positions)
					for token := range c.Tokens {
						m.Positions = append(m.Positions, int32(token%rows))
					}
					for range rows {
						m.Factors = append(m.Factors, append(slices.Clone(c.Factors[0]), attn))
					}
					got, err := d.Run(m, x)
					if errors.Is(err, kernel.ErrUnsupported) {
						refused++
						continue cases
					}
					require.NoError(t, err)
					require.Equal(t, want, got, "%v differs from a vector", m)
				}
			}
		}
		skipUnsupported(t, d, refused, all)
	})
}

// The backward op is the transposed rotation, with rows too: it has the same oracle with sin
// negated, and undoes the forward op up to the square of the magnitude. That holds better than
// either does by itself, for both take the same cos and sin: the angle's loss cancels.
func TestBackward(t *testing.T) {
	onDevices(t, func(t *testing.T, d *kernel.Device, cases []kernel.Case) {
		refused, all, worst := 0, 0, 0.0
		for _, c := range cases {
			if c.InPlace || c.Cache || c.View != kernel.Contiguous || c.FreqScale != 1 {
				continue
			}
			all++
			x := c.Input()
			back := c
			back.Back = true
			y, err := d.Run(c, x)
			var g, z []float32
			if err == nil {
				g, err = d.Run(back, x)
			}
			if err == nil {
				z, err = d.Run(back, y)
			}
			if errors.Is(err, kernel.ErrUnsupported) {
				refused++
				continue
			}
			require.NoError(t, err)
			dev := measure(d, back, x, g, -1)
			require.LessOrEqual(t, dev.ratio, 1.0, "%v\n%s", back, dev.where)

			for token := range c.Tokens {
				m := oracle(c, token, 0, -1).magnitude
				for b := range c.Batch {
					for h := range c.Heads {
						at := c.Index(b, token, h)
						for i := range c.Pairs() {
							ia, ib := pair(c, i)
							va, vb := float64(x[at+ia]), float64(x[at+ib])
							// two rotations: 8 units each of both elements; in float16 the first
							// rounds both, the second one
							bound := m * m * (math.Abs(va) + math.Abs(vb)) * 16 * unit32
							if fastMath(d) {
								bound *= 4
							}
							if c.F16 {
								bound += m*m*(math.Abs(va)+math.Abs(vb))*3*unit16 + 3*m*tiny16
							}
							for k, v := range []float64{va, vb} {
								e := math.Abs(float64(z[at+[]int{ia, ib}[k]]) - m*m*v)
								require.LessOrEqual(t, e, bound,
									"%v token %d pair %d does not come back", c, token, i)
								worst = math.Max(worst, e)
							}
						}
					}
				}
			}
		}
		if all == 0 {
			return // the op back does not go to a cache
		}
		skipUnsupported(t, d, refused, all)
		t.Logf("%d cases, worst deviation of a round trip %.3g", all-refused, worst)
	})
}
