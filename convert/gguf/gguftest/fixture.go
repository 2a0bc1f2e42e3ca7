// Package gguftest makes GGUF files for tests: whole ones, and ones with a lie in any field.
package gguftest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Fixture is the one generator of test files: it writes a GGUF field by field, so that a test can
// put a lie in any of them. It shares no code with the encoder under test.
type Fixture struct {
	Magic     string
	Version   uint32
	Order     binary.ByteOrder
	NTensors  *uint64 // nil: the truth
	NKVs      *uint64 // nil: the truth
	KVs       []KV
	Tensors   []Tensor
	Alignment int    // of what is laid out; 0: 32
	Tail      []byte // after the last tensor
	Unpadded  bool   // nothing after the last tensor's data
}

// KV is a key and its value: of a Go type that GGUF has, a slice of uint32, int32, float32 or
// string, or Raw.
type KV struct {
	Key   string
	Value any
}

// Raw is a type and a value as they stand in the file.
type Raw []byte

// Tensor is an entry of the header and its data.
type Tensor struct {
	Name   string
	Dims   []uint64
	Kind   uint32
	Data   []byte
	Offset *uint64 // nil: the truth
}

// Ptr is a pointer to x.
func Ptr[T any](x T) *T { return &x }

// writer appends fields in a byte order.
type writer struct {
	b     []byte
	order binary.ByteOrder
}

func (w *writer) u32(n uint32) { w.put(n) }
func (w *writer) u64(n uint64) { w.put(n) }

// put writes a number or a slice of numbers.
func (w *writer) put(v any) {
	var err error
	if w.b, err = binary.Append(w.b, w.order, v); err != nil {
		panic(err)
	}
}

func (w *writer) str(s string) {
	w.u64(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) pad(to int) {
	for len(w.b)%to != 0 {
		w.b = append(w.b, 0)
	}
}

// value writes the type of v, then v.
func (w *writer) value(v any) {
	typed := func(t uint32) { w.u32(t); w.put(v) }
	array := func(t uint32, n int) { w.u32(9); w.u32(t); w.u64(uint64(n)); w.put(v) }
	switch v := v.(type) {
	case uint8:
		typed(0)
	case int8:
		typed(1)
	case uint16:
		typed(2)
	case int16:
		typed(3)
	case uint32:
		typed(4)
	case int32:
		typed(5)
	case float32:
		typed(6)
	case bool:
		typed(7)
	case string:
		w.u32(8)
		w.str(v)
	case uint64:
		typed(10)
	case int64:
		typed(11)
	case float64:
		typed(12)
	case []uint32:
		array(4, len(v))
	case []int32:
		array(5, len(v))
	case []float32:
		array(6, len(v))
	case []string:
		w.u32(9)
		w.u32(8)
		w.u64(uint64(len(v)))
		for _, s := range v {
			w.str(s)
		}
	case Raw:
		w.b = append(w.b, v...)
	default:
		panic("fixture: value type")
	}
}

// Bytes is the file.
func (fx Fixture) Bytes() []byte {
	order := fx.Order
	if order == nil {
		order = binary.LittleEndian
	}
	head, data := &writer{order: order}, &writer{order: order}
	align := cmp.Or(fx.Alignment, 32)
	count := func(claim *uint64, n int) uint64 {
		if claim != nil {
			return *claim
		}
		return uint64(n)
	}
	head.b = []byte(cmp.Or(fx.Magic, "GGUF"))
	head.u32(cmp.Or(fx.Version, 3))
	head.u64(count(fx.NTensors, len(fx.Tensors)))
	head.u64(count(fx.NKVs, len(fx.KVs)))
	for _, kv := range fx.KVs {
		head.str(kv.Key)
		head.value(kv.Value)
	}
	for i, t := range fx.Tensors {
		data.pad(align)
		head.str(t.Name)
		head.u32(uint32(len(t.Dims)))
		for _, d := range t.Dims {
			head.u64(d)
		}
		head.u32(t.Kind)
		head.u64(count(t.Offset, len(data.b)))
		data.b = append(data.b, t.Data...)
		if i == len(fx.Tensors)-1 && !fx.Unpadded {
			data.pad(align)
		}
	}
	if len(fx.Tensors) > 0 || !fx.Unpadded {
		head.pad(align)
	}
	return append(append(head.b, data.b...), fx.Tail...)
}

// Write writes the file, into a folder of the test's unless name is absolute, and returns its path.
func (fx Fixture) Write(t testing.TB, name string) string {
	t.Helper()
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join(t.TempDir(), name)
	}
	require.NoError(t, os.WriteFile(path, fx.Bytes(), 0o644))
	return path
}

// With sets or adds a key; nil removes it.
func (fx Fixture) With(key string, value any) Fixture {
	kvs := make([]KV, 0, len(fx.KVs)+1)
	found := false
	for _, kv := range fx.KVs {
		if kv.Key != key {
			kvs = append(kvs, kv)
			continue
		}
		found = true
		if value != nil {
			kvs = append(kvs, KV{key, value})
		}
	}
	if !found && value != nil {
		kvs = append(kvs, KV{key, value})
	}
	fx.KVs = kvs
	return fx
}

// Noise is n random bytes.
func Noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Tiny is a small model of an architecture: d = 8, L = 128, every value type, quantised tensors,
// odd sizes.
func Tiny(arch string) Fixture {
	return Fixture{
		KVs: []KV{
			{"general.architecture", arch},
			{"general.name", "Tiny Ünïcode"},
			{"general.file_type", uint32(2)},
			{"foreign.u8", uint8(200)},
			{"foreign.i8", int8(-3)},
			{"foreign.u16", uint16(65000)},
			{"foreign.i16", int16(-300)},
			{"foreign.i32", int32(-70000)},
			{"foreign.u64", uint64(1 << 60)},
			{"foreign.i64", int64(-1 << 60)},
			{"foreign.f64", 0.1},
			{"foreign.bool", true},
			{arch + ".context_length", uint32(128)},
			{arch + ".embedding_length", uint32(32)},
			{arch + ".block_count", uint32(1)},
			{arch + ".attention.head_count", uint32(4)},
			{arch + ".attention.head_count_kv", uint32(2)},
			{arch + ".rope.freq_base", float32(10000)},
			{"tokenizer.ggml.model", "gpt2"},
			{"tokenizer.ggml.tokens", []string{"<s>", "", "ab", "ünï"}},
			{"tokenizer.ggml.scores", []float32{0, -1, -2, -3}},
			{"tokenizer.ggml.token_type", []int32{3, 1, 1, 1}},
		},
		Tensors: []Tensor{
			{Name: "token_embd.weight", Dims: []uint64{32, 4}, Kind: 0, Data: Noise(1, 512)},
			{Name: "output_norm.weight", Dims: []uint64{3}, Kind: 0, Data: Noise(2, 12)},
			{Name: "blk.0.attn_q.weight", Dims: []uint64{32, 32}, Kind: 2, Data: Noise(3, 32*18)},
			{Name: "blk.0.attn_k.weight", Dims: []uint64{256, 2}, Kind: 14, Data: Noise(4, 420)},
		},
	}
}

// Large writes a model whose one tensor has size bytes; sparse, unless filled.
func Large(t testing.TB, dir string, size int64, fill bool) string {
	t.Helper()
	fx := Tiny("llama")
	fx.Tensors = []Tensor{{
		Name: "blk.0.ffn_up.weight", Dims: []uint64{1024, uint64(size / 1024)},
		Kind: 24,
	}}
	fx.Unpadded = true
	path := filepath.Join(dir, "large.gguf")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	head := fx.Bytes()
	_, err = f.Write(head)
	require.NoError(t, err)
	if fill {
		block := Noise(1, 1<<20)
		for n := int64(0); n < size; n += int64(len(block)) {
			_, err := f.Write(block[:min(int64(len(block)), size-n)])
			require.NoError(t, err)
		}
	} else {
		for n := int64(0); n < size; n += 64 << 20 { // a landmark in each hole
			_, err := f.WriteAt([]byte(fmt.Sprint(n)), int64(len(head))+n)
			require.NoError(t, err)
		}
		require.NoError(t, f.Truncate(int64(len(head))+size))
	}
	require.NoError(t, f.Sync())
	return path
}
