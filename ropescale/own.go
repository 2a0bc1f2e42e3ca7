package ropescale

import (
	"fmt"
	"math"
)

// OpParams are the parameters that a runtime hands to ggml_rope_ext for a model with scaling of its
// own. The zero value of each field is the op's neutral value, or YaRN's default.
type OpParams struct {
	// FreqFactors divide the angles before anything else (rope_freqs.weight, Llama 3.1 and later);
	// nil means none.
	FreqFactors []float32
	// FreqScale is 1/s; 0 means 1. Linear scaling is this alone.
	FreqScale float64
	// ExtFactor mixes YaRN's extrapolation in; 0 turns YaRN off, 1 is YaRN.
	ExtFactor float64
	// AttnFactor multiplies cos and sin; 0 means 1. With ExtFactor != 0 the op multiplies 1 +
	// 0.1*ln(1/FreqScale) on top: see HostAttnFactor for what llama.cpp passes to allow for that.
	AttnFactor float64
	// BetaFast and BetaSlow are the ramp in rotations; 0 means 32 and 1.
	BetaFast, BetaSlow float64
	// OriginalContextLength is n_ctx_orig of the ramp; 0 means the Rope's.
	OriginalContextLength int
}

// Own turns a model's own scaling into row 0: the rung with which the op with neutral parameters
// computes what ggml's op computes with p (ggml-cpu/ops.cpp, rope_yarn, and ggml.c,
// ggml_rope_yarn_corr_dims, of ollama v0.17.4). Its Length is L. The ends of the ramp are computed
// in float32 as there, since they are rounded to integers; the rest in float64. (eq. 11, 12)
func Own(r Rope, p OpParams) (Rung, error) {
	if err := r.Validate(); err != nil {
		return Rung{}, err
	}
	if p.FreqFactors != nil && len(p.FreqFactors) != r.Pairs() {
		return Rung{}, fmt.Errorf("own rope: %d freq factors, "+
			"want %d (half of rope_dimension_count)", len(p.FreqFactors), r.Pairs())
	}
	scale, fast, slow := orDefault(p.FreqScale, 1), orDefault(p.BetaFast, 32),
		orDefault(p.BetaSlow, 1)
	orig := p.OriginalContextLength
	if orig == 0 {
		orig = r.OriginalContextLength
	}
	switch {
	case !Usable(scale):
		return Rung{}, fmt.Errorf("own rope: freq_scale is %g, want a positive finite number",
			scale)
	case p.ExtFactor != 0 && (!Usable(fast) || !Usable(slow)):
		return Rung{}, fmt.Errorf("own rope: beta_fast is %g and beta_slow is %g, want positive "+
			"finite numbers", fast, slow)
	case orig < 1 || math.IsNaN(p.ExtFactor) || math.IsInf(p.ExtFactor, 0):
		return Rung{}, fmt.Errorf("own rope: ext_factor is %g and n_ctx_orig is %d, want a "+
			"finite number and at least 1", p.ExtFactor, orig)
	}
	low, high := corrDims(r, orig, fast, slow)

	g := r.Identity(r.OriginalContextLength)
	g.AttentionFactor = orDefault(p.AttnFactor, 1)
	if p.ExtFactor != 0 {
		g.AttentionFactor *= 1 + 0.1*math.Log(1/scale)
	}
	for i := range g.Factors {
		f := 1.0
		if p.FreqFactors != nil {
			f = float64(p.FreqFactors[i])
		}
		mix := 0.0
		if p.ExtFactor != 0 {
			y := (float64(i) - low) / max(0.001, high-low)
			mix = (1 - min(1, max(0, y))) * p.ExtFactor
		}
		g.Factors[i] = f / (scale*(1-mix) + mix)
	}
	if err := g.Check(r.Pairs()); err != nil {
		return Rung{}, fmt.Errorf("own rope: %w", err)
	}
	return g, nil
}

// corrDims is ggml_rope_yarn_corr_dims: the pairs between which the ramp falls.
func corrDims(r Rope, orig int, fast, slow float64) (low, high float64) {
	log := func(x float32) float32 { return float32(math.Log(float64(x))) }
	dim := func(rotations float64) float32 {
		turns := float32(orig) / (float32(rotations) * 2 * float32(math.Pi))
		return float32(r.Dims) * log(turns) / (2 * log(float32(r.FreqBase)))
	}
	low = max(0, math.Floor(float64(dim(fast))))
	high = min(float64(r.Dims-1), math.Ceil(float64(dim(slow))))
	return low, high
}

// HostAttnFactor is the attn_factor that llama.cpp passes to the op (llama-context.cpp of ollama
// v0.17.4) for a model whose file says rope.scaling.attn_factor (attn; 0: absent) and
// rope.scaling.yarn_log_multiplier divided by 0.1 (logMul; 0: absent). With YaRN on it cancels the
// factor that the op multiplies on top, so that only the one for logMul is left.
func HostAttnFactor(attn, freqScale, extFactor, logMul float64) float64 {
	attn = orDefault(attn, 1)
	if extFactor == 0 {
		return attn
	}
	factor := 1 / orDefault(freqScale, 1)
	mscale := func(m float64) float64 {
		if factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(factor) + 1
	}
	f := mscale(1)
	if logMul != 0 {
		f /= mscale(logMul)
	}
	return attn * f / (1 + 0.1*math.Log(factor))
}

// Llama3Params are the numbers of a Hugging Face configuration with rope_type "llama3"; a GGUF file
// has the resulting factors in rope_freqs.weight instead.
type Llama3Params struct {
	Factor, LowFreqFactor, HighFreqFactor float64
	// OriginalContextLength is the model's length before its own extension (8192 for Llama 3.1),
	// not L.
	OriginalContextLength int
}

// Llama3 returns the factors of Llama 3.1's own scaling as row 0: wavelengths below
// orig/HighFreqFactor are kept, those above orig/LowFreqFactor are divided by Factor, with a linear
// transition in 1/wavelength between, if there is a between (transformers,
// _compute_llama3_parameters). (eq. 13)
func Llama3(r Rope, p Llama3Params) (Rung, error) {
	if err := r.Validate(); err != nil {
		return Rung{}, err
	}
	if !Usable(p.Factor) || !Usable(p.LowFreqFactor) || !(p.HighFreqFactor >= p.LowFreqFactor) ||
		!Usable(p.HighFreqFactor) || p.OriginalContextLength < 1 {
		return Rung{}, fmt.Errorf("llama3: factor %g, low_freq_factor %g, high_freq_factor %g, "+
			"original length %d: want positive numbers, high above low or the same",
			p.Factor, p.LowFreqFactor, p.HighFreqFactor, p.OriginalContextLength)
	}
	g := r.Identity(r.OriginalContextLength)
	for i, wavelength := range r.Wavelengths() {
		turns := float64(p.OriginalContextLength) / wavelength
		smooth := 0.0
		switch {
		case turns < p.LowFreqFactor:
		case turns >= p.HighFreqFactor:
			smooth = 1
		default:
			smooth = (turns - p.LowFreqFactor) / (p.HighFreqFactor - p.LowFreqFactor)
		}
		g.Factors[i] = 1 / ((1-smooth)/p.Factor + smooth)
	}
	return g, nil
}
