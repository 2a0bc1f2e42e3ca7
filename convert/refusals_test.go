package convert

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/longrope/longrope/ropescale"
)

// TestRefusals: everything that does not fit is refused before a file appears.
func TestRefusals(t *testing.T) {
	change := func(f func(*ropescale.Ladder)) *ropescale.Ladder { l := ladder(); f(l); return l }
	laddered := func(key string, value any) gguftest.Fixture {
		return gguftest.Tiny("llama").
			With("llama.rope.longrope.version", uint32(1)).
			With("llama.rope.longrope.lengths", []uint32{128, 512}).
			With("llama.rope.longrope.start_windows", []uint32{0, 3}).
			With("llama.rope.longrope.attention_factors", []float32{1, 1.5}).
			With("llama.rope.longrope.factors", []float32{1, 1, 2, 2, 4, 4, 4, 4}).
			With("llama.rope.longrope."+key, value)
	}
	learned := gguftest.Tiny("bert")
	learned.Tensors = append(learned.Tensors[:1:1],
		gguftest.Tensor{
			Name: "position_embd.weight", Dims: []uint64{32},
			Data: gguftest.Noise(1, 128),
		})
	for name, c := range map[string]struct {
		fx   gguftest.Fixture
		l    *ropescale.Ladder
		opts Options
		want string
	}{
		"no ladder": {gguftest.Tiny("llama"), nil, Options{}, "no ladder"},
		"no rungs": {
			gguftest.Tiny("llama"),
			change(func(l *ropescale.Ladder) { l.Rungs = nil }),
			Options{},
			"no rungs",
		},
		"other n_dims": {gguftest.Tiny("llama").With("llama.rope.dimension_count",
			uint32(64)), ladder(), Options{}, "rotates 64 dimensions"},
		"key_length": {gguftest.Tiny("llama").With("llama.attention.key_length",
			uint32(16)), ladder(), Options{}, "rotates 16 dimensions"},
		"too few factors": {
			gguftest.Tiny("llama"),
			change(func(l *ropescale.Ladder) {
				l.Rungs[0].Factors = []float64{
					1,
					2,
				}
			}),
			Options{},
			"2 factors, want 4",
		},
		"factor of zero": {
			gguftest.Tiny("llama"),
			change(func(l *ropescale.Ladder) { l.Rungs[0].Factors[1] = 0 }),
			Options{},
			"factor 1 is 0",
		},
		"negative factor": {
			gguftest.Tiny("llama"),
			change(func(l *ropescale.Ladder) { l.Rungs[0].Factors[1] = -1 }),
			Options{},
			"factor 1 is -1",
		},
		"factor of NaN": {
			gguftest.Tiny("llama"),
			change(func(l *ropescale.Ladder) { l.Rungs[0].Factors[1] = math.NaN() }),
			Options{},
			"factor 1 is NaN",
		},
		"target not larger": {
			gguftest.Tiny("llama").With("llama.context_length", uint32(2048)),
			ladder(),
			Options{},
			"context length is 2048 already",
		},
		"target below L": {
			gguftest.Tiny("llama"),
			change(func(l *ropescale.Ladder) { l.Rungs = l.Rungs[:1]; l.Rungs[0].Length = 100 }),
			Options{},
			"not longer than original_context_length",
		},
		"L above the model's": {
			gguftest.Tiny("llama").With("llama.context_length", uint32(64)),
			ladder(),
			Options{},
			"context length is 64",
		},
		"ladder version": {
			gguftest.Tiny("llama"),
			change(func(l *ropescale.Ladder) { l.Version = 2 }),
			Options{},
			"version is 2",
		},
		"base of other model": {withFactors(gguftest.Tiny("llama"), "rope_freqs.weight", 1, 1, 3.5,
			8), change(func(l *ropescale.Ladder) {
			l.Base = &ropescale.Rung{AttentionFactor: 1, Factors: []float64{1, 1, 1, 1}}
		}), Options{}, "factor 1 for pair 2; this one's is 3.5"},
		"stock rung": {
			gguftest.Tiny("llama"), ladder(),
			Options{StockRung: 3},
			"rungs 1 to 2",
		},
		"crossing": {
			gguftest.Tiny("llama"), ladder(),
			Options{Crossing: "fast"},
			"want recompute or rerotate",
		},
		"gpt2":              {gguftest.Tiny("gpt2"), ladder(), Options{}, "has no RoPE"},
		"mamba":             {gguftest.Tiny("mamba"), ladder(), Options{}, "has no RoPE"},
		"learned positions": {learned, ladder(), Options{}, "has no RoPE"},
		"no rope key": {
			gguftest.Tiny("strange").With("strange.rope.freq_base", nil),
			ladder(),
			Options{},
			"no key strange.rope.*",
		},
		"no heads": {
			gguftest.Tiny("llama").With("llama.attention.head_count", nil),
			ladder(),
			Options{},
			"head_count",
		},
		"odd dimensions": {gguftest.Tiny("llama").With("llama.rope.dimension_count",
			uint32(7)), ladder(), Options{}, "rotates 7 dimensions"},
		"no context length": {
			gguftest.Tiny("llama").With("llama.context_length", nil),
			ladder(),
			Options{},
			"llama.context_length",
		},
		"no architecture": {
			gguftest.Tiny("llama").With("general.architecture", nil),
			ladder(),
			Options{},
			"general.architecture",
		},
		"architecture a number": {
			gguftest.Tiny("llama").With("general.architecture", uint32(1)),
			ladder(),
			Options{},
			"instead of a string",
		},
		"adapter": {
			gguftest.Tiny("llama").With("general.type", "adapter"), ladder(),
			Options{},
			"adapter",
		},
		"scaling type": {
			gguftest.Tiny("llama").With("llama.rope.scaling.type", "magic"),
			ladder(),
			Options{},
			`"magic"`,
		},
		"freqs do not fit": {
			withFactors(gguftest.Tiny("llama"), "rope_freqs.weight", 1, 2),
			ladder(),
			Options{},
			"has 2 factors",
		},
		"freqs of zero": {withFactors(gguftest.Tiny("llama"), "rope_freqs.weight", 1, 2, 0,
			1), ladder(), Options{}, "factor 2 is 0"},
		"freq base NaN": {gguftest.Tiny("llama").With("llama.rope.freq_base",
			float32(math.NaN())), ladder(), Options{}, "freq_base"},
		"key version":     {laddered("version", uint32(2)), ladder(), Options{}, "version 2"},
		"lengths missing": {laddered("lengths", nil), ladder(), Options{}, "lengths"},
		"windows short": {
			laddered("start_windows", []uint32{0}), ladder(),
			Options{},
			"1 elements, 2 rows",
		},
		"attention short": {
			laddered("attention_factors", []float32{1}), ladder(),
			Options{},
			"1 elements, 2 rows",
		},
		"factors ragged": {
			laddered("factors", []float32{1, 2, 3}), ladder(),
			Options{},
			"do not make 2 rows",
		},
		"factors of NaN": {laddered("factors",
			[]float32{1, 1, 1, 1, 1, 1, 1, float32(math.NaN())}), ladder(), Options{}, "NaN"},
		"cohere2": {
			gguftest.Tiny("cohere2"), ladder(),
			Options{},
			"cohere2: model has RoPE only in local",
		},
		"llama4": {
			gguftest.Tiny("llama4"), ladder(),
			Options{},
			"RoPE only in local",
		},
		"exaone4, 32B": {
			gguftest.Tiny("exaone4").With("exaone4.block_count", uint32(64)),
			ladder(),
			Options{},
			"RoPE only in local",
		},
		"afmoe": {gguftest.Tiny("afmoe").With("afmoe.attention.sliding_window",
			uint32(64)), ladder(), Options{}, "RoPE only in local"},
		"smallthinker":    {gguftest.Tiny("smallthinker").With("smallthinker.attention.sliding_window", uint32(64)), ladder(), Options{}, "RoPE only in local"},
		"record not json": {laddered("replaced", "{"), ladder(), Options{}, "replaced"},
		"record lies": {
			laddered("replaced",
				`{"version":1,"keys":[{"key":"llama.x","type":4,"raw":"AAA="}]}`), ladder(),
			Options{},
			"cannot be",
		},
		"record version": {
			laddered("replaced", `{"version":9}`), ladder(),
			Options{},
			"version 9",
		},
		"record of other keys": {
			laddered("replaced",
				`{"version":1,"added":["general.alignment"]}`), ladder(),
			Options{},
			"general.alignment",
		},
		"record of tensors": {
			laddered("replaced",
				`{"version":1,"added_tensors":["token_embd.weight"]}`), ladder(),
			Options{},
			"token_embd",
		},
		"record of bad index": {
			laddered("replaced",
				`{"version":1,"keys":[{"key":"llama.x","type":4,"raw":"AAAAAA==","index":-1}]}`),
			ladder(),
			Options{},
			"not where it should be",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := c.fx.Write(t, filepath.Join(dir, "in.gguf"))
			_, err := Convert(context.Background(), in, filepath.Join(dir, "out.gguf"), c.l, c.opts)
			require.ErrorContains(t, err, c.want)
			onlyFiles(t, dir, "in.gguf")
			if errors.Is(err, gguf.ErrNoRoPE) {
				_, err = Inspect(in)
				require.ErrorIs(t, err, gguf.ErrNoRoPE)
			}
		})
	}
}

// TestOwnLadder: the factors that a model was published with are a ladder, which may stand in its
// file as one.
func TestOwnLadder(t *testing.T) {
	phi := withFactors(withFactors(gguftest.Tiny("phi3"), "rope_factors_long.weight", 1, 2, 3, 4),
		"rope_factors_short.weight", 1, 1, 1, 2).
		With("phi3.rope.scaling.original_context_length",
			uint32(64)).With("phi3.rope.scaling.attn_factor", float32(1.25))
	in := phi.Write(t, "phi.gguf")
	info, err := Inspect(in)
	require.NoError(t, err)
	l := &ropescale.Ladder{
		Version: 1, OriginalContextLength: 64, RopeDimensionCount: 8,
		Rungs: []ropescale.Rung{*info.Own},
	}
	out, r := convert(t, in, l, Options{})
	require.Len(t, r.Ladder.Rungs, 1)
	got, err := Inspect(out)
	require.NoError(t, err)
	assert.Equal(t, 128, got.ContextLength)
	assert.Equal(t, []float64{1, 1, 1, 2}, got.Ladder.Base.Factors)
	assert.Equal(t, []float64{1, 2, 3, 4}, got.Ladder.Rungs[0].Factors)
	assert.Equal(t, 1.25, got.Ladder.Rungs[0].AttentionFactor)
	// A model that has none cannot be "extended" to the length that it has.
	plain := &ropescale.Ladder{
		Version: 1, OriginalContextLength: 64, RopeDimensionCount: 8,
		Rungs: l.Rungs,
	}
	_, err = Convert(context.Background(), gguftest.Tiny("llama").Write(t, "plain.gguf"),
		filepath.Join(t.TempDir(), "x.gguf"), plain, Options{})
	require.ErrorContains(t, err, "extends nothing")
}
