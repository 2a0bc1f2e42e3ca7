package ropescale

import (
	"fmt"
	"math"
)

// Rope is a model's rotary position embedding as it was trained, before any scaling.
type Rope struct {
	// Dims is d, the number of rotary dimensions of a head (GGUF rope.dimension_count); even. Heads
	// may be wider: what lies beyond Dims is not rotated.
	Dims int `json:"rope_dimension_count"`
	// FreqBase is b, the base of the geometric series of frequencies (Hugging Face rope_theta).
	FreqBase float64 `json:"freq_base"`
	// OriginalContextLength is L, the length in tokens that the model was trained for.
	OriginalContextLength int `json:"original_context_length"`
}

// maxDims and MaxLength, in tokens, bound what Validate accepts: far above every model, low enough
// that no file can make the package allocate without limit. Positions are int32 in the engine.
const (
	maxDims   = 1 << 14
	MaxLength = math.MaxInt32
)

// Validate reports the first field that no model can have.
func (r Rope) Validate() error {
	switch {
	case r.Dims <= 0 || r.Dims%2 != 0 || r.Dims > maxDims:
		return fmt.Errorf("rope: rope_dimension_count is %d, want an even number from 2 to %d",
			r.Dims, maxDims)
	case !(r.FreqBase > 1) || math.IsInf(r.FreqBase, 0):
		return fmt.Errorf("rope: freq_base is %g, want a finite number above 1", r.FreqBase)
	case r.OriginalContextLength < 2 || r.OriginalContextLength > MaxLength:
		return fmt.Errorf("rope: original_context_length is %d, want 2 to %d",
			r.OriginalContextLength, MaxLength)
	}
	return nil
}

// Pairs is d/2, the number of rotated pairs and so of rescale factors.
func (r Rope) Pairs() int { return r.Dims / 2 }

// Scale is s = target/L.
func (r Rope) Scale(target int) float64 {
	return float64(target) / float64(r.OriginalContextLength)
}

// InverseFrequencies returns omega_i = b^(-2i/d) in radians per token, d/2 of them, descending from
// 1. (eq. 1)
func (r Rope) InverseFrequencies() []float64 {
	w := make([]float64, r.Pairs())
	for i := range w {
		w[i] = math.Pow(r.FreqBase, -2*float64(i)/float64(r.Dims))
	}
	return w
}

// Wavelengths returns 2*pi/omega_i in tokens, d/2 of them, ascending: how far apart two tokens are
// when pair i has turned once. Pairs whose wavelength exceeds L never turned fully in training;
// they are what extrapolation breaks.
func (r Rope) Wavelengths() []float64 {
	w := r.InverseFrequencies()
	for i := range w {
		w[i] = 2 * math.Pi / w[i]
	}
	return w
}

// Identity is the rung that changes nothing: all factors 1, attention factor 1, no start window.
func (r Rope) Identity(length int) Rung {
	g := Rung{Length: length, AttentionFactor: 1, Factors: make([]float64, r.Pairs())}
	for i := range g.Factors {
		g.Factors[i] = 1
	}
	return g
}

// Layout says which two elements of a head make pair i.
type Layout int

const (
	// Normal pairs neighbours, (2i, 2i+1): ggml's GGML_ROPE_TYPE_NORMAL, the llama architecture in
	// GGUF files.
	Normal Layout = iota
	// NeoX pairs halves, (i, i+d/2): ggml's GGML_ROPE_TYPE_NEOX, and Hugging Face's rotate_half.
	NeoX
)

// String is the layout's name in test and error messages.
func (l Layout) String() string {
	if l == NeoX {
		return "neox"
	}
	return "normal"
}

// Rotate turns one head x in place by the rotation of position pos under rung g, in float64: the
// oracle that kernels are measured against. len(x) >= r.Dims; elements beyond Dims keep their value
// (partial rotary embedding). The rung's start window is not looked at: see Ladder.Rotate. pos may
// be negative, which undoes a rotation. (eq. 2)
func (r Rope) Rotate(x []float64, pos int, g Rung, layout Layout) {
	half := r.Pairs()
	if len(x) < r.Dims || len(g.Factors) != half {
		panic(fmt.Sprintf("ropescale: rotate: %d elements and %d factors for %d rotary dimensions",
			len(x), len(g.Factors), r.Dims))
	}
	for i, w := range r.InverseFrequencies() {
		sin, cos := math.Sincos(float64(pos) * w / g.Factors[i])
		sin, cos = sin*g.AttentionFactor, cos*g.AttentionFactor
		a, b := 2*i, 2*i+1
		if layout == NeoX {
			a, b = i, i+half
		}
		x[a], x[b] = x[a]*cos-x[b]*sin, x[a]*sin+x[b]*cos
	}
}

// Rotate turns one head x in place as the engine does for a token at position pos of a sequence on
// the given rung: with row 0 below the rung's start window and with the rung's row from there on.
// (eq. 3)
func (l *Ladder) Rotate(r Rope, x []float64, rung, pos int, layout Layout) {
	r.Rotate(x, pos, l.At(l.Row(rung, pos)), layout)
}

// CriticalDimension is LongRoPE2's d_crit = 2*ceil(d/2 * ln(L/(2 pi))/ln b): dimensions from there
// on belong to pairs whose wavelength exceeds L, which never turned once in training (arXiv
// 2502.20082, section 3.1). Pair d_crit/2 is the first of them; the result is at most d, which is
// none, and at least 0.
func (r Rope) CriticalDimension() int {
	first := int(math.Ceil(r.PairTurning(1)))
	return 2 * min(max(first, 0), r.Pairs())
}
