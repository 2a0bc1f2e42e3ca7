package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Mode is a RoPE mode, numbered as GGML_ROPE_TYPE_* are.
type Mode int

// The modes of ggml.h.
const (
	Normal Mode = 0
	NeoX   Mode = 2
	MRope  Mode = 8
	Vision Mode = 24
	IMRope Mode = 40
)

// modes are all of them.
var modes = []Mode{Normal, NeoX, MRope, IMRope, Vision}

func (m Mode) String() string {
	return map[Mode]string{
		Normal: "normal", NeoX: "neox", MRope: "mrope", Vision: "vision", IMRope: "imrope",
	}[m]
}

// Multi says whether a token has four positions.
func (m Mode) Multi() bool { return m&MRope != 0 }

// View is how the rotated tensor lies in memory.
type View int

const (
	// Contiguous is [batch][token][head][element].
	Contiguous View = iota
	// Fused is the second of three slices of a projection, as q, k and v in one matrix.
	Fused
	// Permuted is [batch][head][token][element].
	Permuted
)

func (v View) String() string { return [...]string{"contiguous", "fused", "permuted"}[v] }

// Case is one RoPE op: its parameters, positions and factors.
type Case struct {
	Mode Mode
	F16  bool
	// rotated elements, n_dims; of the vision mode half of HeadDim, though it rotates all
	Dims    int
	View    View
	InPlace bool
	Back    bool

	// Cache has the result stored in the cells of a cache, as a model does with its keys; Batch is
	// 1 then, InPlace false.
	Cache, CacheF16 bool
	// Norm has what is rotated normed before (see Normed), as some models do with queries and keys.
	Norm bool
	// Guard has the factors end where memory ends, so that a read beyond them is a fault. Of CPUs
	// only.
	Guard bool
	// Ops is how often the graph has the op, for timing; 0 is once.
	Ops int

	HeadDim, Heads, Tokens, Batch int
	Sections                      [4]int

	FreqBase, FreqScale, ExtFactor, AttnFactor float32
	Original                                   int // n_ctx_orig, used by YaRN

	// Positions has one plane of Tokens numbers, four when Mode.Multi, and one more, the rows, when
	// Factors is a matrix.
	Positions []int32
	// Window is the start window, n-hat, of cases with positions 0, 1, 2, …
	Window int
	// Rows says whether Factors is a matrix; then the last column is the row's attention factor.
	Rows bool
	// Threads of a CPU that share the heads of all tokens.
	Threads int
	// Factors is nothing, one vector of Pairs numbers, or a matrix with one column more.
	Factors [][]float32

	Where, Kind string // names of what Positions and Factors are, for messages
}

// Pairs is the number of rotated pairs of a head and so of factors.
func (c Case) Pairs() int {
	if c.Mode == Vision {
		return c.Dims
	}
	return c.Dims / 2
}

func (c Case) planes() int {
	n := 1
	if c.Mode.Multi() {
		n = 4
	}
	if c.Rows {
		n++
	}
	return n
}

// Row is the token's row of Factors.
func (c Case) Row(token int) int {
	if !c.Rows {
		return 0
	}
	return int(c.Positions[len(c.Positions)-c.Tokens+token])
}

// Type is the name of the element type, and of the cache's if there is one.
func (c Case) Type() string {
	switch {
	case c.F16:
		return "f16"
	case c.CacheF16:
		return "f32-cache16"
	case c.Cache:
		return "f32-cache32"
	}
	return "f32"
}

func (c Case) String() string {
	return fmt.Sprintf(
		"%s %s dims=%d/%d heads=%d tokens=%d batch=%d view=%s inplace=%v cache=%v/%v back=%v "+
			"factors=%s positions=%s attn=%g freq_scale=%g ext=%g",
		c.Mode, c.Type(), c.Dims, c.HeadDim,
		c.Heads, c.Tokens, c.Batch, c.View, c.InPlace, c.Cache, c.CacheF16, c.Back, c.Kind, c.Where,
		c.AttnFactor, c.FreqScale, c.ExtFactor)
}

// InputLen is the number of elements of the tensor that the rotated one is a view of.
func (c Case) InputLen() int {
	n := c.Batch * c.Tokens * c.Heads * c.HeadDim
	if c.View == Fused {
		n *= 3
	}
	return n
}

// Index is where the input (or a result in place) has element 0 of a head.
func (c Case) Index(batch, token, head int) int {
	switch c.View {
	case Fused:
		return ((batch*c.Tokens+token)*3+1)*c.Heads*c.HeadDim + head*c.HeadDim
	case Permuted:
		return ((batch*c.Heads+head)*c.Tokens + token) * c.HeadDim
	}
	return ((batch*c.Tokens+token)*c.Heads + head) * c.HeadDim
}

// Cells is the number of cells of the cache, 0 if there is none.
func (c Case) Cells() int {
	if !c.Cache {
		return 0
	}
	return 2*c.Tokens + 1
}

// Cell is where in the cache a token is stored: later tokens in front of earlier ones, none next to
// another.
func (c Case) Cell(token int) int { return 2 * (c.Tokens - token) }

// OutputLen is the number of elements of the result.
func (c Case) OutputLen() int {
	switch {
	case c.InPlace:
		return c.InputLen()
	case c.Cache:
		return c.Cells() * c.Heads * c.HeadDim
	}
	return c.Batch * c.Tokens * c.Heads * c.HeadDim
}

// OutputIndex is where the result has element 0 of a head.
func (c Case) OutputIndex(batch, token, head int) int {
	if c.Cache {
		return (c.Cell(token)*c.Heads + head) * c.HeadDim
	}
	if !c.InPlace {
		c.View = Contiguous
	}
	return c.Index(batch, token, head)
}

// Input is what the case rotates: multiples of 1/64 in (-2, 2), which both element types hold
// exactly.
func (c Case) Input() []float32 {
	rng := rand.New(rand.NewPCG(1, uint64(c.InputLen())))
	x := make([]float32, c.InputLen())
	for i := range x {
		x[i] = float32(rng.IntN(255)-127) / 64
	}
	return x
}

// Normed is the RMS norm of each head of x times 1/2 + element/dimension: what a case with Norm
// rotates. Float32 and contiguous.
func (c Case) Normed(x []float32) []float32 {
	out := make([]float32, len(x))
	for at := 0; at < len(x); at += c.HeadDim {
		sum := 1e-5 * float64(c.HeadDim) // the epsilon of kernel.c
		for _, v := range x[at : at+c.HeadDim] {
			sum += float64(v) * float64(v)
		}
		scale := 1 / math.Sqrt(sum/float64(c.HeadDim))
		for i := range c.HeadDim {
			out[at+i] = float32(float64(x[at+i]) * scale * (0.5 + float64(i)/float64(c.HeadDim)))
		}
	}
	return out
}

// placements are the positions that cases have. Tokens of one batch are of several sequences, or of
// one that crosses a start window. Rows are those of Case.Window in the "window" placement, else
// another one token by token.
var placements = []struct {
	name string
	at   []int32
}{
	{"zero", []int32{0}},
	{"window", nil}, // 0, 1, 2, … across a start window
	{
		"far",
		[]int32{
			0, 1, 255, 256, 4095, 8192, 16383, 32768, 65535, 131071, 131072, 262143, 524288,
			1 << 20,
			1<<21 - 2,
			1<<21 - 1,
			1 << 21,
		},
	},
	// a shift's
	{"back", []int32{-1, -2, -3, -17, -256, -1000, -4096, -8191, -16384, -65536, -131072, 5, -7}},
}

// Cases are all cases: every mode, type and place, with every kind of factors. Each call makes them
// again.
func Cases() []Case {
	var cs []Case
	for _, mode := range modes {
		for _, f16 := range []bool{false, true} {
			for _, full := range []bool{true, false} {
				for _, view := range []View{Contiguous, Fused, Permuted} {
					for _, inPlace := range []bool{false, true} {
						base := Case{
							Mode: mode, F16: f16, View: view, InPlace: inPlace,
							HeadDim: 64, Dims: 64, Heads: 3, Tokens: 17, Batch: 2,
							FreqBase: 10000, FreqScale: 1, AttnFactor: 1, Original: 4096, Window: 5,
						}
						switch {
						case mode == Vision && !full:
							continue // the mode is defined for n_dims = half of the head only
						case mode == Vision:
							base.Dims = 32
							base.Sections = [4]int{16, 16, 0, 0}
						case !full:
							base.Dims = 40
							base.Sections = [4]int{6, 7, 7, 0}
						default:
							base.Sections = [4]int{8, 12, 8, 4}
						}
						base.interleave()
						cs = append(cs, base.variants()...)
						cs = append(cs, base.shapes()...)
						if !f16 && !inPlace && view != Permuted {
							cs = append(cs, base.cached()...)
						}
					}
				}
			}
		}
	}
	return cs
}

// interleave makes the sections of about one size, as imrope needs them.
func (c *Case) interleave() {
	if c.Mode == IMRope {
		c.Sections[1] = c.Sections[2]
		c.Sections[0] = c.Pairs() - 2*c.Sections[1]
		c.Sections[3] = 0
	}
}

// shapes are other sizes of heads, tokens and batch, and start windows of none and of all tokens.
func (c Case) shapes() []Case {
	var cs []Case
	c.AttnFactor, c.Where, c.Threads = 1.1875, "window", 1
	add := func(v Case) {
		for _, rows := range []int{-1, 0, 3} {
			v.place(nil, rows)
			cs = append(cs, v)
		}
	}
	for _, window := range []int{0, 1, c.Tokens} {
		v := c
		v.Window = window
		v.place(nil, 3)
		cs = append(cs, v)
	}
	for _, s := range []struct{ head, heads, tokens, batch int }{
		{64, 1, 1, 1}, {64, 4, 33, 1}, {128, 2, 3, 1}, {256, 1, 2, 3},
	} {
		v := c
		v.HeadDim, v.Heads, v.Tokens, v.Batch = s.head, s.heads, s.tokens, s.batch
		if c.Mode == Vision {
			v.Dims = s.head / 2
			v.Sections = [4]int{v.Dims / 2, v.Dims / 2, 0, 0}
		} else if c.Dims == c.HeadDim {
			v.Dims = s.head
		}
		v.interleave()
		add(v)
	}
	return cs
}

// cached are cases whose result goes to the cells of a cache, in both of its types.
func (c Case) cached() []Case {
	var cs []Case
	c.Batch, c.Cache = 1, true
	for _, v := range c.variants() {
		if v.FreqScale != 1 || v.Kind == "matrix1" || v.Kind == "matrix2" {
			continue
		}
		cs = append(cs, v)
		v.CacheF16 = true
		cs = append(cs, v)
	}
	return cs
}

// variants gives a case every placement, every kind of factors and every scaling.
func (c Case) variants() []Case {
	var cs []Case
	for _, place := range placements {
		for _, attn := range []float32{1, 1.1875} {
			for _, rows := range []int{-1, 0, 1, 2, 5} { // no factors, a vector, matrices
				v := c
				v.AttnFactor, v.Where = attn, place.name
				v.place(place.at, rows)
				if v.Threads = 1; c.View == Fused && place.at == nil {
					v.Threads = 3 // shares that end inside a token
				}
				cs = append(cs, v)
				if rows > 0 || place.name == "zero" || c.View != Contiguous {
					continue
				}
				// scaling of the op's own goes with vectors; while rows are active it is neutral
				v.FreqScale = 0.25
				cs = append(cs, v)
				v.ExtFactor = 1 // YaRN
				cs = append(cs, v)
			}
		}
	}
	return cs
}

// place fills in positions and factors; rows < 0 is no factors, 0 a vector.
func (c *Case) place(at []int32, rows int) {
	c.Rows = rows > 0
	c.Positions = make([]int32, c.planes()*c.Tokens)
	for t := range c.Tokens {
		p, row := int32(t), t%max(rows, 1)
		if at != nil {
			p = at[t%len(at)]
		} else if row = rows - 1; t < c.Window {
			row = 0
		}
		for plane := range c.planes() {
			// height and width differ from time
			c.Positions[plane*c.Tokens+t] = p - int32(plane)*p/5
		}
		if c.Rows {
			c.Positions[(c.planes()-1)*c.Tokens+t] = int32(row)
		}
	}

	c.Factors, c.Kind = nil, "none"
	switch {
	case rows == 0:
		c.Factors, c.Kind = [][]float32{c.factors(3)}, "vector"
	case rows > 0:
		c.Kind = fmt.Sprintf("matrix%d", rows)
		for r := range rows {
			attn := float32(1)
			if r > 0 && c.AttnFactor != 1 { // the start window does not get the attention factor
				attn = 1 + float32(r)/8
			}
			c.Factors = append(c.Factors, append(c.factors(r), attn))
		}
	}
}

// factors are a row's: all 1 in row 0, else ascending from 1 to about 2^r, but not monotone, as the
// authors' are not.
func (c Case) factors(row int) []float32 {
	f := make([]float32, c.Pairs())
	for i := range f {
		f[i] = 1 + float32(row*row)*float32(i)/float32(len(f))
		if row > 0 && i%7 == 3 {
			f[i] *= 0.875
		}
	}
	return f
}

// Grow is the case with larger heads and more of them, all rotated, at positions 0, 1, 2, … of one
// sequence.
func (c Case) Grow(headDim, heads, tokens int) Case {
	rows := len(c.Factors)
	switch {
	case rows == 0:
		rows = -1
	case !c.Rows:
		rows = 0
	}
	c.Dims, c.HeadDim, c.Heads, c.Tokens, c.Batch = headDim, headDim, heads, tokens, 1
	c.place(nil, rows)
	return c
}
