package convert

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/longrope/longrope/ropescale"
)

// scaled are models with scaling of their own.
func scaled() map[string]gguftest.Fixture {
	phi := withFactors(gguftest.Tiny("phi3"), "rope_factors_long.weight", 1, 2, 3, 4)
	phi = withFactors(phi, "rope_factors_short.weight", 1, 1.1, 1.2, 1.3)
	phi = phi.With("phi3.rope.scaling.type", "longrope").With("phi3.rope.scaling.attn_factor",
		float32(1.19)).
		With("phi3.rope.scaling.original_context_length", uint32(32))
	yarn := gguftest.Tiny("qwen2").With("qwen2.rope.scaling.type",
		"yarn").With("qwen2.rope.scaling.factor", float32(4)).
		With("qwen2.rope.scaling.original_context_length",
			uint32(32)).With("qwen2.rope.dimension_count", uint32(8))
	yarnLlama := gguftest.Tiny("llama").With("llama.rope.scaling.type",
		"yarn").With("llama.rope.scaling.factor", float32(4)).
		With("llama.rope.scaling.original_context_length", uint32(32))
	return map[string]gguftest.Fixture{
		"plain":      gguftest.Tiny("llama"),
		"rope_freqs": withFactors(gguftest.Tiny("llama"), "rope_freqs.weight", 1, 1, 3.5, 8),
		"linear": gguftest.Tiny("llama").With("llama.rope.scaling.type",
			"linear").With("llama.rope.scaling.factor", float32(2)),
		"old linear": gguftest.Tiny("qwen2").With("qwen2.rope.scale_linear", float32(4)),
		"type none": gguftest.Tiny("llama").With("llama.rope.scaling.type",
			"none").With("llama.rope.scaling.factor", float32(2)),
		"yarn":        yarn,
		"yarn llama":  yarnLlama,
		"longrope":    phi,
		"attn_factor": gguftest.Tiny("llama").With("llama.rope.scaling.attn_factor", float32(1.25)),
		"gptoss": gguftest.Tiny("gptoss").With("gptoss.rope.scaling.factor", float32(4)).
			With("gptoss.rope.scaling.original_context_length", uint32(32)),
		"mistral3": gguftest.Tiny("mistral3").With("mistral3.rope.scaling.type",
			"yarn").With("mistral3.rope.scaling.factor", float32(4)).
			With("mistral3.rope.scaling.original_context_length",
				uint32(32)).With("mistral3.rope.scaling.beta_fast", float32(32)).
			With("mistral3.rope.scaling.beta_slow",
				float32(0.25)).With("mistral3.rope.scaling.mscale",
			float32(1)).With("mistral3.rope.scaling.mscale_all_dim", float32(1)),
		"qwen3 yarn": gguftest.Tiny("qwen3").With("qwen3.rope.scaling.type",
			"yarn").With("qwen3.rope.scaling.factor", float32(4)).
			With("qwen3.rope.scaling.original_context_length", uint32(32)),
		"gemma3 4B": gguftest.Tiny("gemma3").With("gemma3.block_count",
			uint32(34)).With("gemma3.attention.sliding_window", uint32(16)),
	}
}

// TestOwnScaling: row 0 is the model's own RoPE.
func TestOwnScaling(t *testing.T) {
	for name, want := range map[string]struct {
		scaling   string
		factors   []float64
		attention float64
		length    int
	}{
		"plain":      {"", []float64{1, 1, 1, 1}, 1, 128},
		"rope_freqs": {"rope_freqs", []float64{1, 1, 3.5, 8}, 1, 128},
		"linear":     {"linear", []float64{2, 2, 2, 2}, 1, 128},
		"old linear": {"linear", []float64{4, 4, 4, 4}, 1, 128},
		"type none":  {"", []float64{1, 1, 1, 1}, 1, 128},
		// ggml's ramp for d = 8, base 10000, n_ctx_orig 32: corr_dim(32) = -0.80 and corr_dim(1) =
		// 0.71, so pairs from 0 to 1: pair 0 is kept, the others are divided by 4; and 1 + 0.1 ln
		// 4.
		"yarn":        {"yarn", []float64{1, 4, 4, 4}, 1.1386294361119891, 128},
		"yarn llama":  {"yarn", []float64{1, 4, 4, 4}, 1.1386294361119891, 128},
		"longrope":    {"longrope", []float64{1, 1.1, 1.2, 1.3}, 1.19, 32},
		"gptoss":      {"yarn", []float64{1, 4, 4, 4}, 1.1386294361119891, 128},
		"attn_factor": {"", []float64{1, 1, 1, 1}, 1.25, 128},
		// corr_dim(0.25) = 1.31, so the ramp ends at pair 2 and pair 1 is half of both: 1/(0.5 +
		// 0.5/4)
		"mistral3":   {"yarn", []float64{1, 1.6, 4, 4}, 1, 128},
		"qwen3 yarn": {"yarn", []float64{1, 4, 4, 4}, 1, 128}, // the host cancels the factor
		// which the host knows by its blocks
		"gemma3 4B": {"linear", []float64{8, 8, 8, 8}, 1, 128},
	} {
		fx := scaled()[name]
		in := fx.Write(t, "in.gguf")
		info, err := Inspect(in)
		require.NoError(t, err, name)
		assert.Equal(t, want.scaling, info.Scaling, name)
		assert.Equal(t, want.length, info.OriginalContextLength, name)
		base := ropescale.Rung{
			Length: want.length, AttentionFactor: 1,
			Factors: []float64{1, 1, 1, 1},
		}
		if info.Base != nil {
			base = *info.Base
		}
		assert.InDeltaSlice(t, want.factors, base.Factors, 1e-6, name)
		assert.InDelta(t, want.attention, base.AttentionFactor, 1e-6, name)

		l := ladder()
		l.OriginalContextLength = want.length
		out, r := convert(t, in, l, Options{})
		assert.InDeltaSlice(t, want.factors, r.Ladder.Base.Factors, 1e-6, name)
		after, err := Inspect(out)
		require.NoError(t, err, name)
		assert.InDeltaSlice(t, want.factors, after.Ladder.Base.Factors, 1e-6, name)
		assert.InDelta(t, want.attention, after.Ladder.Base.AttentionFactor, 1e-6, name)
		assert.Equal(t, want.scaling, after.Scaling, name)
		assert.Equal(t, want.length, after.OriginalContextLength, name)
		assert.Equal(t, 1024, after.ContextLength, name)

		// The absolute factors of the stock rung must not be scaled once more by what was there
		// before.
		f, err := gguf.Open(out)
		require.NoError(t, err)
		arch := info.Architecture
		_, hasFactor := f.Lookup(arch + ".rope.scaling.factor")
		kind, _, _ := f.String(arch + ".rope.scaling.type")
		orig, _, _ := f.Int(arch + ".rope.scaling.original_context_length")
		switch gguf.StockFor(arch) {
		case gguf.StockNothing:
			assert.Equal(t, want.scaling == "yarn", hasFactor, name)
			assert.Equal(t, map[bool]int{true: 32, false: 128}[hasFactor], orig, name)
		default:
			assert.False(t, hasFactor, name)
			assert.NotEqual(t, "yarn", kind, name)
			assert.Equal(t, want.length, orig, name)
			assert.Equal(t, len(r.Ladder.Rungs), r.Stock.Rung, name)
		}
		require.NoError(t, f.Close())
	}

	// The host's Go engine scales the queries of a mistral3 as soon as it reads an original context
	// length.
	out, _ := convert(t, gguftest.Tiny("mistral3").Write(t, "in.gguf"), ladder(), Options{})
	f, err := gguf.Open(out)
	require.NoError(t, err)
	_, there := f.Lookup("mistral3.rope.scaling.original_context_length")
	assert.False(t, there)
	require.NoError(t, f.Close())

	// Phi-3's own long factors stay as a rung below the new ones.
	info, err := Inspect(scaled()["longrope"].Write(t, "in.gguf"))
	require.NoError(t, err)
	require.NotNil(t, info.Own)
	assert.Equal(t, 128, info.Own.Length)
	l := ladder()
	l.OriginalContextLength = 32
	_, r := convert(t, info.Path, l, Options{StockRung: 1})
	require.Len(t, r.Ladder.Rungs, 3)
	assert.Equal(t, []float64{1, 2, 3, 4}, r.Ladder.Rungs[0].Factors)
	assert.Equal(t, 128, r.Ladder.Rungs[0].Length)
	assert.Equal(t, 2, r.Stock.Rung, "rung 1 of the ladder given is row 2 of the file's")
	assert.Contains(t, r.Notes[0], "own long factors stay")
}
