package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/longrope/longrope/ropescale"
)

// ladder is one of two rungs for tiny: d = 8, L = 128. The factors are not monotone, as the
// authors' are not.
func ladder() *ropescale.Ladder {
	return &ropescale.Ladder{
		Version: 1, OriginalContextLength: 128, RopeDimensionCount: 8,
		Rungs: []ropescale.Rung{
			{
				Length: 512, StartWindow: 4, AttentionFactor: 1.05,
				Factors: []float64{1, 1.5, 1.25, 4},
			},
			{
				Length: 1024, StartWindow: 16, AttentionFactor: 1.1,
				Factors: []float64{1, 2.5, 2.25, 8.125},
			},
		},
		Source: &ropescale.Source{Method: "longrope", Seed: 7},
	}
}

func convert(t testing.TB, in string, l *ropescale.Ladder, opts Options) (string, *Report) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.gguf")
	r, err := Convert(context.Background(), in, out, l, opts)
	require.NoError(t, err)
	onlyFiles(t, filepath.Dir(out), "out.gguf")
	fi, err := os.Stat(out)
	require.NoError(t, err)
	require.Equal(t, fi.Size(), r.Size)
	return out, r
}

// onlyFiles asserts that nothing else was left in a folder.
func onlyFiles(t testing.TB, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(names)
	require.ElementsMatch(t, names, got)
}

func decodeBytes(b []byte) (*gguf.File, error) {
	return gguf.Read(bytes.NewReader(b), int64(len(b)), "x.gguf")
}

// requireCarried asserts that every key and tensor of fx is in the file at path with the same
// bytes, but for those named.
func requireCarried(t testing.TB, fx gguftest.Fixture, path string, but ...string) {
	t.Helper()
	before, err := decodeBytes(fx.Bytes())
	require.NoError(t, err)
	after, err := gguf.Open(path)
	require.NoError(t, err)
	defer after.Close()
	for _, kv := range before.KVs {
		if slices.Contains(but, kv.Key) {
			continue
		}
		got, ok := after.Lookup(kv.Key)
		require.True(t, ok, kv.Key)
		want, err := before.BytesOf(&kv)
		require.NoError(t, err)
		have, err := after.BytesOf(got)
		require.NoError(t, err)
		require.Equal(t, kv.Type, got.Type, kv.Key)
		require.Equal(t, want, have, kv.Key)
	}
	for _, tensor := range before.Tensors {
		if slices.Contains(but, tensor.Name) {
			continue
		}
		got, ok := after.Tensor(tensor.Name)
		require.True(t, ok, tensor.Name)
		want, err := before.TensorBytes(&tensor)
		require.NoError(t, err)
		have, err := after.TensorBytes(got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, have), tensor.Name)
		require.Equal(t, tensor.Type, got.Type, tensor.Name)
		require.Equal(t, tensor.Dims, got.Dims, tensor.Name)
	}
}

// TestConvert follows one ladder into a llama file, key by key.
func TestConvert(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		fx := gguftest.Tiny("llama")
		fx.Order = order
		out, r := convert(t, fx.Write(t, "in.gguf"), ladder(), Options{})
		requireCarried(t, fx, out, "llama.context_length")

		f, err := gguf.Open(out)
		require.NoError(t, err)
		defer f.Close()
		require.Equal(t, order == binary.BigEndian, f.BigEndian())
		ints := func(key string) []int {
			xs, ok, err := f.Ints(key)
			require.NoError(t, err)
			require.True(t, ok, key)
			return xs
		}
		floats := func(key string) []float64 {
			xs, ok, err := f.Floats(key)
			require.NoError(t, err)
			require.True(t, ok, key)
			return xs
		}
		n, _, err := f.Int("llama.rope.longrope.version")
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		assert.Equal(t, []int{128, 512, 1024}, ints("llama.rope.longrope.lengths"))
		assert.Equal(t, []int{0, 4, 16}, ints("llama.rope.longrope.start_windows"))
		assert.InDeltaSlice(t, []float64{1, 1.05, 1.1},
			floats("llama.rope.longrope.attention_factors"), 1e-7)
		assert.Equal(t, []float64{1, 1, 1, 1, 1, 1.5, 1.25, 4, 1, 2.5, 2.25, 8.125},
			floats("llama.rope.longrope.factors"))
		source, _, err := f.String("llama.rope.longrope.source")
		require.NoError(t, err)
		assert.JSONEq(t, `{"method":"longrope","seed":7}`, source)
		for key, want := range map[string]int{
			"llama.context_length":                       1024,
			"llama.rope.scaling.original_context_length": 128,
		} {
			kv, ok := f.Lookup(key)
			require.True(t, ok, key)
			assert.Equal(t, gguf.TypeUint32, kv.Type, key)
			n, _, err := f.Int(key)
			require.NoError(t, err)
			assert.Equal(t, want, n, key)
		}

		// An unpatched host gets the last rung.
		freqs, err := f.Factors("rope_freqs.weight", 4)
		require.NoError(t, err)
		assert.Equal(t, []float32{1, 2.5, 2.25, 8.125}, freqs)
		x, _, err := f.Float("llama.rope.scaling.attn_factor")
		require.NoError(t, err)
		assert.InDelta(t, 1.1, x, 1e-7)
		_, ok := f.Lookup("llama.rope.scaling.type")
		assert.False(t, ok)
		assert.Equal(t, gguf.Stock{
			Loads: true, Form: gguf.StockFreqs, Rung: 2, ContextLength: 1024,
			Notes: []string{"it applies rung 2 (1024 tokens) at every length, without a start " +
				"window"},
		}, r.Stock)

		info, err := Inspect(out)
		require.NoError(t, err)
		assert.Equal(t, 1024, info.ContextLength)
		assert.Equal(t, 128, info.OriginalContextLength)
		assert.Equal(t, 8, info.RopeDimensionCount)
		assert.Equal(t, 10000.0, info.FreqBase)
		assert.Equal(t, "Q4_0", info.FileType)
		assert.Equal(t, 4, info.VocabSize)
		assert.Equal(t, 4, info.HeadCount)
		assert.Equal(t, 2, info.HeadCountKV)
		assert.Equal(t, "", info.Scaling)
		assert.Nil(t, info.Base)
		assert.Equal(t, r.Stock, info.Stock)
		require.NotNil(t, info.Ladder)
		assert.Equal(t, "longrope", info.Ladder.Source.Method)
		require.Len(t, info.Ladder.Rungs, 2)
		assert.Equal(t, ladder().Rungs[0].Factors, info.Ladder.Rungs[0].Factors)
	}
}

// TestStockForms: what each kind of architecture gets for unpatched hosts.
func TestStockForms(t *testing.T) {
	for _, c := range []struct {
		arch  string
		rung  int
		form  gguf.StockForm
		row   int
		keys  map[string]any // nil: must be absent
		names []string       // of tensors added
	}{
		{
			"llama", 1, gguf.StockFreqs, 1,
			map[string]any{
				"scaling.type":        nil,
				"scaling.attn_factor": 1.05,
			},
			[]string{"rope_freqs.weight"},
		},
		{
			"llama", StockNone, gguf.StockNothing, 0,
			map[string]any{"scaling.type": nil, "scaling.attn_factor": nil},
			nil,
		},
		{
			"exaone", 0, gguf.StockFreqs, 2,
			map[string]any{"scaling.attn_factor": 1.1},
			[]string{"rope_freqs.weight"},
		},
		{"phi3", 0, gguf.StockLong, 2, map[string]any{
			"scaling.type":        "longrope",
			"scaling.attn_factor": 1.1,
		}, []string{"rope_factors_long.weight", "rope_factors_short.weight"}},
		{
			"minicpm3", 1, gguf.StockLong, 1,
			map[string]any{
				"scaling.type":        "longrope",
				"scaling.attn_factor": 1.05,
			},
			[]string{"rope_factors_long.weight", "rope_factors_short.weight"},
		},
		{
			"granite", 0, gguf.StockNothing, 0,
			map[string]any{"scaling.type": nil, "scaling.attn_factor": nil},
			nil,
		},
		{
			"qwen2", 0, gguf.StockNothing, 0,
			map[string]any{"scaling.type": nil, "scaling.attn_factor": nil},
			nil,
		},
	} {
		fx := gguftest.Tiny(c.arch)
		out, r := convert(t, fx.Write(t, "in.gguf"), ladder(), Options{StockRung: c.rung})
		requireCarried(t, fx, out, c.arch+".context_length")
		f, err := gguf.Open(out)
		require.NoError(t, err)
		assert.Equal(t, c.form, r.Stock.Form, c.arch)
		assert.Equal(t, c.row, r.Stock.Rung, c.arch)
		assert.True(t, r.Stock.Loads)
		assert.NotEmpty(t, r.Stock.Notes, c.arch)
		var names []string
		for _, tensor := range f.Tensors[len(fx.Tensors):] {
			names = append(names, tensor.Name)
		}
		assert.Equal(t, c.names, names, c.arch)
		for name, want := range c.keys {
			key := c.arch + ".rope." + name
			switch want := want.(type) {
			case nil:
				_, ok := f.Lookup(key)
				assert.False(t, ok, key)
			case string:
				s, _, err := f.String(key)
				assert.NoError(t, err)
				assert.Equal(t, want, s, key)
			case float64:
				x, _, err := f.Float(key)
				assert.NoError(t, err)
				assert.InDelta(t, want, x, 1e-7, key)
			}
		}
		if c.form == gguf.StockLong {
			long, err := f.Factors("rope_factors_long.weight", 4)
			require.NoError(t, err)
			assert.Equal(t, float32(ladder().Rungs[c.row-1].Factors[3]), long[3])
			short, err := f.Factors("rope_factors_short.weight", 4)
			require.NoError(t, err)
			assert.Equal(t, []float32{1, 1, 1, 1}, short)
		}
		require.NoError(t, f.Close())
	}
}

// withFactors adds a tensor of factors in the middle of a fixture.
func withFactors(fx gguftest.Fixture, name string, xs ...float64) gguftest.Fixture {
	t := gguftest.Tensor{
		Name: name, Dims: []uint64{uint64(len(xs))}, Kind: 0,
		Data: gguf.FloatBytes(binary.LittleEndian, xs),
	}
	fx.Tensors = slices.Insert(slices.Clone(fx.Tensors), 1, t)
	return fx
}

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

// TestStripAndConvertAgain: taking the ladder out gives the very file that it was put into; putting
// another in replaces the first; doing it twice changes nothing.
func TestStripAndConvertAgain(t *testing.T) {
	ctx := context.Background()
	cases := scaled()
	cases["unpadded"] = gguftest.Tiny("llama")
	unpadded := gguftest.Tiny("llama")
	unpadded.Unpadded = true
	unpadded.Tensors[3].Data = gguftest.Noise(4, 420)
	cases["unpadded"] = unpadded
	big := gguftest.Tiny("llama")
	big.Order = binary.BigEndian
	cases["big-endian"] = big.With("llama.rope.scaling.factor", float32(2))
	for name, fx := range cases {
		in := fx.Write(t, "in.gguf")
		info, err := Inspect(in)
		require.NoError(t, err, name)
		l := ladder()
		l.OriginalContextLength = info.OriginalContextLength
		for _, stock := range []int{0, 1, StockNone} {
			once, _ := convert(t, in, l, Options{StockRung: stock})
			back := filepath.Join(t.TempDir(), "back.gguf")
			r, err := Strip(ctx, once, back, Options{})
			require.NoError(t, err, name)
			assert.Nil(t, r.Ladder)
			got, err := os.ReadFile(back)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(fx.Bytes(), got),
				"%s, stock rung %d: strip gives another file", name, stock)

			twice, _ := convert(t, once, l, Options{StockRung: stock})
			a, err := os.ReadFile(once)
			require.NoError(t, err)
			b, err := os.ReadFile(twice)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(a, b),
				"%s, stock rung %d: converting again gives another file", name, stock)

			other := ladder()
			other.OriginalContextLength = info.OriginalContextLength
			other.Rungs = other.Rungs[:1]
			direct, _ := convert(t, in, other, Options{})
			over, _ := convert(t, once, other, Options{})
			a, err = os.ReadFile(direct)
			require.NoError(t, err)
			b, err = os.ReadFile(over)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(a, b),
				"%s, stock rung %d: replacing a ladder differs from putting it in", name, stock)
		}
	}
	_, err := Strip(ctx, gguftest.Tiny("llama").Write(t, "in.gguf"),
		filepath.Join(t.TempDir(), "x"), Options{})
	assert.ErrorIs(t, err, gguf.ErrNoLadder)
}

// TestForeignLadder: a ladder that another program wrote, without a record, is read and replaced,
// not stripped.
func TestForeignLadder(t *testing.T) {
	fx := gguftest.Tiny("llama").With("llama.context_length", uint32(512)).
		With("llama.rope.longrope.version", uint32(1)).
		With("llama.rope.longrope.lengths", []uint32{128, 512}).
		With("llama.rope.longrope.start_windows", []uint32{0, 3}).
		With("llama.rope.longrope.attention_factors", []float32{1, 1.5}).
		With("llama.rope.longrope.factors", []float32{1, 1, 2, 2, 4, 4, 4, 4})
	fx = withFactors(fx, "rope_freqs.weight", 4, 4, 4, 4)
	in := fx.Write(t, "in.gguf")
	info, err := Inspect(in)
	require.NoError(t, err)
	assert.Equal(t, 128, info.OriginalContextLength)
	assert.Equal(t, []float64{1, 1, 2, 2}, info.Base.Factors)
	assert.Equal(t, 1, info.Stock.Rung)
	_, r := convert(t, in, ladder(), Options{})
	assert.Equal(t, []float64{1, 1, 2, 2}, r.Ladder.Base.Factors)
	_, err = Strip(context.Background(), in, filepath.Join(t.TempDir(), "x"), Options{})
	assert.ErrorIs(t, err, gguf.ErrNoLadder)
}

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
