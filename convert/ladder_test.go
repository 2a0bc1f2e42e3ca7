package convert

import (
	"bytes"
	"context"
	"encoding/binary"
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
