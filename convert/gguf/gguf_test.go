package gguf

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func DecodeBytes(b []byte) (*File, error) {
	return Read(bytes.NewReader(b), int64(len(b)), "x.gguf")
}

func encode(t testing.TB, e *Edit) []byte {
	t.Helper()
	p, err := e.Lay()
	require.NoError(t, err)
	b, err := io.ReadAll(p.reader())
	require.NoError(t, err)
	require.EqualValues(t, p.Size, len(b))
	var w bytes.Buffer
	require.NoError(t, p.Write(context.Background(), &w, nil))
	require.True(t, bytes.Equal(b, w.Bytes()), "reader and write differ")
	return b
}

// TestDecode holds the header of a golden file to what was put into it.
func TestDecode(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, version := range []uint32{2, 3} {
			fx := gguftest.Tiny("llama")
			fx.Order, fx.Version = order, version
			f, err := DecodeBytes(fx.Bytes())
			require.NoError(t, err)
			assert.Equal(t, version, f.Version)
			assert.Equal(t, order == binary.BigEndian, f.BigEndian())
			require.Len(t, f.KVs, len(fx.KVs))
			for i, kv := range f.KVs {
				assert.Equal(t, fx.KVs[i].Key, kv.Key)
			}
			require.Len(t, f.Tensors, len(fx.Tensors))
			for i, tensor := range f.Tensors {
				assert.Equal(t, fx.Tensors[i].Name, tensor.Name)
				assert.Equal(t, fx.Tensors[i].Dims, tensor.Dims)
				b, err := f.TensorBytes(&tensor)
				require.NoError(t, err)
				assert.Equal(t, fx.Tensors[i].Data, b)
			}
			name, ok, err := f.String("general.name")
			assert.Equal(t, "Tiny Ünïcode", name)
			assert.True(t, ok)
			assert.NoError(t, err)
			for key, want := range map[string]int{
				"foreign.u8": 200, "foreign.u16": 65000,
				"llama.context_length": 128,
			} {
				n, ok, err := f.Int(key)
				assert.Equal(t, want, n, key)
				assert.True(t, ok)
				assert.NoError(t, err)
			}
			for _, key := range []string{
				"foreign.i8", "foreign.i64", "foreign.u64", "general.name",
				"tokenizer.ggml.scores",
			} {
				_, _, err := f.Int(key)
				assert.ErrorIs(t, err, ErrValue, key)
			}
			x, _, err := f.Float("foreign.f64")
			assert.Equal(t, 0.1, x)
			assert.NoError(t, err)
			xs, _, err := f.Floats("tokenizer.ggml.scores")
			assert.Equal(t, []float64{0, -1, -2, -3}, xs)
			assert.NoError(t, err)
			ns, _, err := f.Ints("tokenizer.ggml.token_type")
			assert.Equal(t, []int{3, 1, 1, 1}, ns)
			assert.NoError(t, err)
			_, _, err = f.Ints("tokenizer.ggml.tokens")
			assert.ErrorIs(t, err, ErrValue)
			_, ok, err = f.Int("no.such")
			assert.False(t, ok)
			assert.NoError(t, err)
		}
	}
}

// TestEncodeIdentity: a file without changes is written as it was read, whatever its shape.
func TestEncodeIdentity(t *testing.T) {
	for name, b := range seeds() {
		f, err := DecodeBytes(b)
		require.NoError(t, err, name)
		assert.True(t, bytes.Equal(b, encode(t, NewEdit(f))), name)
	}
}

// TestEncodeEdits: what an edit does not touch keeps its bytes, and offsets are what the host's
// reader insists on.
func TestEncodeEdits(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		fx := gguftest.Tiny("llama")
		fx.Order = order
		fx.Unpadded = true
		f, err := DecodeBytes(fx.Bytes())
		require.NoError(t, err)

		e := NewEdit(f)
		e.Set("llama.context_length", uint32(4096))
		e.Set("new.floats", []float32{1, 2.5})
		e.Set("new.string", "x")
		e.Remove("foreign.f64")
		e.setTensor("added.weight", FloatBytes(order, []float64{1, 2, 3}))
		e.setTensor("second.weight", FloatBytes(order, []float64{4}))
		e.removeTensor("output_norm.weight")
		g, err := DecodeBytes(encode(t, e))
		require.NoError(t, err)

		n, _, err := g.Int("llama.context_length")
		require.NoError(t, err)
		assert.Equal(t, 4096, n)
		xs, _, err := g.Floats("new.floats")
		require.NoError(t, err)
		assert.Equal(t, []float64{1, 2.5}, xs)
		_, found := g.Lookup("foreign.f64")
		assert.False(t, found)
		require.Len(t, g.KVs, len(f.KVs)+1)
		var names []string
		at := uint64(0)
		for _, tensor := range g.Tensors {
			names = append(names, tensor.Name)
			assert.Equal(t, at, tensor.Offset, tensor.Name)
			at = align(at+tensor.Size, 32)
		}
		assert.Equal(t, []string{
			"token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
			"added.weight", "second.weight",
		}, names)
		for _, old := range fx.Tensors {
			if tensor, ok := g.Tensor(old.Name); ok {
				b, err := g.TensorBytes(tensor)
				require.NoError(t, err)
				assert.Equal(t, old.Data, b, old.Name)
			}
		}
		tensor, _ := g.Tensor("added.weight")
		xs, err = g.tensorFloats(tensor)
		require.NoError(t, err)
		assert.Equal(t, []float64{1, 2, 3}, xs)
	}
}

// seeds are well-formed files of every shape that the reader knows.
func seeds() map[string][]byte {
	big := gguftest.Tiny("llama")
	big.Order = binary.BigEndian
	v2 := gguftest.Tiny("phi3")
	v2.Version = 2
	wide := gguftest.Tiny("llama").With("general.alignment", uint32(256))
	wide.Alignment = 256
	bare := gguftest.Tiny("llama")
	bare.Unpadded = true
	trailing := gguftest.Tiny("llama")
	trailing.Tail = []byte("trailing")
	long := gguftest.Tiny("llama").With("foreign.long", string(gguftest.Noise(9, maxInlineValue+1)))
	vocab := gguftest.Tiny("llama")
	vocab.Tensors = nil
	ragged := vocab
	ragged.Unpadded = true
	raggedTail := ragged.With("foreign.odd", "odd")
	raggedTail.Tail = []byte{1, 2, 3}
	hole := gguftest.Tiny("llama")
	hole.Tensors = append([]gguftest.Tensor(nil), hole.Tensors...)
	hole.Tensors[3].Offset = gguftest.Ptr(uint64(2048))
	hole.Tail = gguftest.Noise(5, 2048)
	swapped := gguftest.Tiny("llama")
	swapped.Tensors = []gguftest.Tensor{
		{
			Name: "b", Dims: []uint64{8}, Kind: 0, Data: gguftest.Noise(1, 32),
			Offset: gguftest.Ptr(uint64(32)),
		},
		{
			Name: "a", Dims: []uint64{8}, Kind: 0, Data: gguftest.Noise(2, 32),
			Offset: gguftest.Ptr(uint64(0)),
		},
	}
	newer := gguftest.Tiny("llama")
	newer.Tensors = append(newer.Tensors[:2:2],
		gguftest.Tensor{
			Name: "blk.0.new", Dims: []uint64{64}, Kind: 200,
			Data: gguftest.Noise(6, 77),
		})
	nested := gguftest.Tiny("llama").With("foreign.nested",
		gguftest.Raw("\x09\x00\x00\x00\x09\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"+
			"\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x07\x08"))
	return map[string][]byte{
		"plain": gguftest.Tiny("llama").Bytes(), "big-endian": big.Bytes(), "v2": v2.Bytes(),
		"alignment 256": wide.Bytes(),
		"unpadded":      bare.Bytes(), "trailing": trailing.Bytes(), "long value": long.Bytes(),
		"vocabulary":          vocab.Bytes(),
		"vocabulary unpadded": ragged.Bytes(), "vocabulary ragged": raggedTail.Bytes(),
		"hole":               hole.Bytes(),
		"infos out of order": swapped.Bytes(), "newer type": newer.Bytes(),
		"nested array": nested.Bytes(),
		"empty":        gguftest.Fixture{}.Bytes(),
	}
}

// TestMalformed has one file for each way of being malformed.
func TestMalformed(t *testing.T) {
	with := func(change func(*gguftest.Fixture)) []byte {
		fx := gguftest.Tiny("llama")
		fx.Tensors = append([]gguftest.Tensor(nil), fx.Tensors...)
		change(&fx)
		return fx.Bytes()
	}
	tensor := func(i int, change func(*gguftest.Tensor)) []byte {
		return with(func(fx *gguftest.Fixture) { change(&fx.Tensors[i]) })
	}
	array := func(elem, count string) gguftest.Raw {
		return gguftest.Raw("\x09\x00\x00\x00" + elem + "\x00\x00\x00" + count)
	}
	huge := "\xff\xff\xff\xff\xff\xff\xff\x7f"
	nest := "\x09\x00\x00\x00"
	for range maxNesting + 1 {
		nest += "\x09\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"
	}
	good := gguftest.Tiny("llama").Bytes()

	for _, c := range []struct {
		name string
		b    []byte
		want error
		key  string
	}{
		{"empty", nil, ErrNotGGUF, ""},
		{"three bytes", []byte("GGU"), ErrNotGGUF, ""},
		{"other magic", with(func(fx *gguftest.Fixture) { fx.Magic = "ggml" }), ErrNotGGUF, ""},
		{"safetensors", []byte("\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":1}"), ErrNotGGUF, ""},
		{"magic only", []byte("GGUF"), ErrTruncated, ""},
		{"version 1", with(func(fx *gguftest.Fixture) { fx.Version = 1 }), ErrVersion, ""},
		{"version 4", with(func(fx *gguftest.Fixture) { fx.Version = 4 }), ErrVersion, ""},
		{"version 0", append([]byte("GGUF\x00\x00\x00\x00"), make([]byte, 64)...), ErrVersion, ""},
		{
			"key count lies",
			with(func(fx *gguftest.Fixture) { fx.NKVs = gguftest.Ptr(uint64(1 << 62)) }), ErrCount,
			"",
		},
		{
			"tensor count lies",
			with(func(fx *gguftest.Fixture) { fx.NTensors = gguftest.Ptr(uint64(1 << 62)) }),
			ErrCount, "",
		},
		{
			"key count above the cap",
			append(with(func(fx *gguftest.Fixture) { fx.NKVs = gguftest.Ptr(uint64(maxKeys + 1)) }),
				make([]byte, 14*maxKeys)...), ErrTooLarge, "",
		},
		{
			"tensor count above the cap",
			append(with(func(fx *gguftest.Fixture) {
				fx.NTensors = gguftest.Ptr(uint64(MaxTensors + 1))
			}), make([]byte, 33*MaxTensors)...), ErrTooLarge, "",
		},
		{
			"key of lying length",
			append([]byte("GGUF\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"+
				"\x01\x00\x00\x00\x00\x00\x00\x00"+huge), make([]byte, 16)...), ErrLength, "",
		},
		{"key too long", with(func(fx *gguftest.Fixture) {
			fx.KVs = append(fx.KVs, gguftest.KV{
				Key:   string(make([]byte, maxKeyLength+1)),
				Value: true,
			})
		}), ErrLength, ""},
		{"empty key", with(func(fx *gguftest.Fixture) {
			fx.KVs = append(fx.KVs, gguftest.KV{
				Key:   "",
				Value: true,
			})
		}), ErrKey, ""},
		{"key twice", with(func(fx *gguftest.Fixture) {
			fx.KVs = append(fx.KVs,
				gguftest.KV{Key: "general.name", Value: true})
		}), ErrDuplicate, "general.name"},
		{"value type 13", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k",
				gguftest.Raw("\x0d\x00\x00\x00"))
		}), ErrValueType, "k"},
		{"array of type 99", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k", array("\x63",
				"\x01\x00\x00\x00\x00\x00\x00\x00"))
		}), ErrValueType, "k"},
		{"array nested too deep", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k",
				gguftest.Raw(nest))
		}), ErrValueType, "k"},
		{"bool of 2", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k",
				gguftest.Raw("\x07\x00\x00\x00\x02"))
		}), ErrValue, "k"},
		{"string of lying length", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k",
				gguftest.Raw("\x08\x00\x00\x00"+huge))
		}), ErrLength, "k"},
		{"array of lying length", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k", array("\x04",
				huge))
		}), ErrCount, "k"},
		{"strings of lying count", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k",
				array("\x08", huge))
		}), ErrCount, "k"},
		{"arrays of lying count", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k", array("\x09",
				huge))
		}), ErrCount, "k"},
		{"string in array lies", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("k", array("\x08",
				"\x01\x00\x00\x00\x00\x00\x00\x00"+huge))
		}), ErrLength, "k"},
		{"alignment of 48", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("general.alignment",
				uint32(48))
		}), ErrAlignment, "general.alignment"},
		{"alignment of 0", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("general.alignment",
				uint32(0))
		}), ErrAlignment, "general.alignment"},
		{"alignment of 2 GiB", with(func(fx *gguftest.Fixture) {
			*fx = fx.With("general.alignment",
				uint32(1<<31))
		}), ErrAlignment, "general.alignment"},
		{
			"alignment as a string",
			with(func(fx *gguftest.Fixture) {
				*fx = fx.With("general.alignment",
					"32")
			}), ErrAlignment, "general.alignment",
		},
		{
			"tensor without name", tensor(1, func(x *gguftest.Tensor) { x.Name = "" }), ErrKey,
			"tensor 2",
		},
		{"tensor name too long", tensor(1, func(x *gguftest.Tensor) {
			x.Name = string(make([]byte,
				MaxNameLength+1))
		}), ErrLength, "tensor 2"},
		{
			"tensor twice", tensor(1, func(x *gguftest.Tensor) { x.Name = "token_embd.weight" }),
			ErrDuplicate, "token_embd.weight",
		},
		{"five dimensions", tensor(0, func(x *gguftest.Tensor) {
			x.Dims = []uint64{
				1, 1, 1, 1,
				128,
			}
		}), ErrDimensions, "token_embd.weight"},
		{
			"dimension of 0", tensor(0, func(x *gguftest.Tensor) { x.Dims = []uint64{0, 4} }),
			ErrDimensions, "token_embd.weight",
		},
		{"dimensions overflow", tensor(0, func(x *gguftest.Tensor) {
			x.Dims = []uint64{
				1 << 33,
				1 << 33,
			}
		}), ErrDimensions, "token_embd.weight"},
		{
			"row is no whole block", tensor(2, func(x *gguftest.Tensor) {
				x.Dims = []uint64{
					33,
					32,
				}
			}),
			ErrDimensions, "blk.0.attn_q.weight",
		},
		{
			"tensor type 1000", tensor(0, func(x *gguftest.Tensor) { x.Kind = 1000 }),
			ErrTensorType,
			"token_embd.weight",
		},
		{
			"offset not aligned",
			tensor(1,
				func(x *gguftest.Tensor) { x.Offset = gguftest.Ptr(uint64(513)) }), ErrOffset,
			"output_norm.weight",
		},
		{
			"offset past the end",
			tensor(1,
				func(x *gguftest.Tensor) { x.Offset = gguftest.Ptr(uint64(1 << 40)) }), ErrOffset,
			"output_norm.weight",
		},
		{
			"offset near 2^64",
			tensor(1,
				func(x *gguftest.Tensor) { x.Offset = gguftest.Ptr(^uint64(31)) }), ErrOffset,
			"output_norm.weight",
		},
		{
			"tensors overlap",
			tensor(1,
				func(x *gguftest.Tensor) { x.Offset = gguftest.Ptr(uint64(0)) }), ErrOverlap, "",
		},
		{
			"dimensions lie", tensor(3, func(x *gguftest.Tensor) {
				x.Dims = []uint64{
					256,
					1 << 20,
				}
			}),
			ErrTruncated, "blk.0.attn_k.weight",
		},
		{"data cut off", good[:len(good)-64], ErrTruncated, "blk.0.attn_k.weight"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeBytes(c.b)
		runtime.ReadMemStats(&after)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20),
			"%s: a lie must not cost memory", c.name)
		if !assert.ErrorIs(t, err, c.want, c.name) {
			continue
		}
		var format *FormatError
		require.ErrorAs(t, err, &format, c.name)
		assert.Equal(t, "x.gguf", format.Path, c.name)
		if c.key != "" {
			assert.Equal(t, c.key, format.Key, c.name)
		}
		assert.Contains(t, err.Error(), "x.gguf: ", c.name)
	}
}

// TestTruncated cuts a file at every byte: each is refused, none panics.
func TestTruncated(t *testing.T) {
	fx := gguftest.Tiny("llama")
	fx.Unpadded = true
	good := fx.Bytes()
	_, err := DecodeBytes(good)
	require.NoError(t, err)
	for n := range good {
		_, err := DecodeBytes(good[:n])
		var format *FormatError
		require.ErrorAs(t, err, &format, "cut at %d", n)
	}
}

// splitModel writes a model as three files and gives their paths.
func splitModel(t testing.TB, fx gguftest.Fixture) []string {
	dir := t.TempDir()
	var paths []string
	bounds := []int{0, 0, 2, len(fx.Tensors)}
	for i := range 3 {
		part := gguftest.Fixture{Order: fx.Order, Version: fx.Version}
		if i == 0 {
			part.KVs = append(part.KVs, fx.KVs...)
		}
		part.KVs = append(part.KVs,
			gguftest.KV{Key: "split.no", Value: uint16(i)}, gguftest.KV{
				Key:   "split.count",
				Value: uint16(3),
			}, gguftest.KV{Key: "split.tensors.count", Value: int32(len(fx.Tensors))})
		part.Tensors = fx.Tensors[bounds[i]:bounds[i+1]]
		paths = append(paths, part.Write(t, filepath.Join(dir,
			"tiny-0000"+string(rune('1'+i))+"-of-00003.gguf")))
	}
	return paths
}

// TestSplit: the parts of a model are read as one, from whichever is named, and written as one.
func TestSplit(t *testing.T) {
	fx := gguftest.Tiny("llama")
	paths := splitModel(t, fx)
	for _, path := range paths {
		f, err := Open(path)
		require.NoError(t, err)
		assert.Equal(t, paths, f.Parts())
		assert.Equal(t, fx.Bytes(), encode(t, NewEdit(f)))
		require.NoError(t, f.Close())
	}

	f, err := Open(paths[1])
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.RefuseOverlap(filepath.Join(t.TempDir(), "new")))
	require.Error(t, f.RefuseOverlap(paths[2]))

	fail := func(want error, format string) {
		_, err := Open(paths[0])
		assert.ErrorIs(t, err, want)
		assert.ErrorContains(t, err, format)
	}
	third, err := os.ReadFile(paths[2])
	require.NoError(t, err)
	second, err := os.ReadFile(paths[1])
	require.NoError(t, err)
	require.NoError(t, os.Remove(paths[2]))
	fail(ErrSplit, "part 3 of 3 is missing")
	require.NoError(t, os.WriteFile(paths[2], second, 0o644))
	fail(ErrSplit, "the name says part 3 of 3, the file part 2 of 3")
	other := gguftest.Fixture{
		Order: binary.BigEndian,
		KVs: []gguftest.KV{
			{Key: "split.no", Value: uint16(2)},
			{Key: "split.count", Value: uint16(3)},
		}, Tensors: fx.Tensors[2:],
	}
	require.NoError(t, os.WriteFile(paths[2], other.Bytes(), 0o644))
	fail(ErrSplit, "byte order")
	other = gguftest.Fixture{KVs: other.KVs, Tensors: fx.Tensors[1:]}
	require.NoError(t, os.WriteFile(paths[2], other.Bytes(), 0o644))
	fail(ErrSplit, "5 tensors in all parts")
	other = gguftest.Fixture{
		KVs:     other.KVs,
		Tensors: append([]gguftest.Tensor{fx.Tensors[0]}, fx.Tensors[3]),
	}
	require.NoError(t, os.WriteFile(paths[2], other.Bytes(), 0o644))
	fail(ErrDuplicate, "token_embd.weight")
	require.NoError(t, os.WriteFile(paths[2], third[:len(third)-100], 0o644))
	fail(ErrTruncated, "of-00003")

	renamed := filepath.Join(t.TempDir(), "renamed.gguf")
	require.NoError(t, os.Rename(paths[0], renamed))
	_, err = Open(renamed)
	assert.ErrorIs(t, err, ErrSplit)
	assert.ErrorContains(t, err, "one of 3 parts")
}

// TestBehindHeldValues: once so many bytes are held, the rest of a header decodes as ever.
func TestBehindHeldValues(t *testing.T) {
	b := gguftest.Tiny("llama").With("a.b", "more than is held").
		With("general.alignment", uint32(32)).Bytes()
	want, err := DecodeBytes(b)
	require.NoError(t, err)
	defer func(n int) { maxInlineValues = n }(maxInlineValues)
	maxInlineValues = 0
	f, err := DecodeBytes(b)
	require.NoError(t, err)
	for _, kv := range want.KVs {
		assert.Equal(t, want.show(&kv), f.show(&kv), kv.Key)
	}
	assert.Equal(t, b, encode(t, NewEdit(f)))
}

// FuzzBehindHeldValues is FuzzDecode where next to nothing is held.
func FuzzBehindHeldValues(f *testing.F) {
	defer func(n int) { maxInlineValues = n }(maxInlineValues)
	maxInlineValues = 64
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Add(gguftest.Tiny("llama").With("general.alignment", uint32(32)).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := DecodeBytes(b)
		if err != nil {
			return
		}
		if got := encode(t, NewEdit(file)); !bytes.Equal(b, got) {
			t.Fatalf("decode and encode: %d bytes in, %d out", len(b), len(got))
		}
		ReadLadder(file, "llama")
	})
}

func FuzzDecode(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := DecodeBytes(b)
		if err != nil {
			return
		}
		if got := encode(t, NewEdit(file)); !bytes.Equal(b, got) {
			t.Fatalf("decode and encode: %d bytes in, %d out", len(b), len(got))
		}
		for _, kv := range file.KVs {
			file.show(&kv)
			file.Float(kv.Key)
			file.Floats(kv.Key)
			file.Ints(kv.Key)
		}
	})
}
