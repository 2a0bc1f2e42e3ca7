package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fixture is the one generator of test files: it writes a GGUF field by field, so that a test can put a lie in any of
// them. It shares no code with the encoder under test.
type fixture struct {
	magic     string
	version   uint32
	order     binary.ByteOrder
	nTensors  *uint64 // nil: the truth
	nKVs      *uint64
	kvs       []fixtureKV
	tensors   []fixtureTensor
	alignment int    // of what is laid out; 0: 32
	tail      []byte // after the last tensor
	unpadded  bool   // nothing after the last tensor's data
}

type fixtureKV struct {
	key   string
	value any // uint8 … string, []uint32, []float32, []string, bool, or raw (type and value) as rawValue
}

type rawValue []byte

type fixtureTensor struct {
	name   string
	dims   []uint64
	kind   uint32
	data   []byte
	offset *uint64 // nil: the truth
}

func ptr[T any](x T) *T { return &x }

func (fx fixture) bytes() []byte {
	order := fx.order
	if order == nil {
		order = binary.LittleEndian
	}
	ap := order.(binary.AppendByteOrder)
	a := fx.alignment
	if a == 0 {
		a = 32
	}
	pad := func(b []byte) []byte {
		for len(b)%a != 0 {
			b = append(b, 0)
		}
		return b
	}
	str := func(b []byte, s string) []byte { return append(ap.AppendUint64(b, uint64(len(s))), s...) }

	b := []byte("GGUF")
	if fx.magic != "" {
		b = []byte(fx.magic)
	}
	version := fx.version
	if version == 0 {
		version = 3
	}
	b = ap.AppendUint32(b, version)
	count := func(claim *uint64, n int) uint64 {
		if claim != nil {
			return *claim
		}
		return uint64(n)
	}
	b = ap.AppendUint64(b, count(fx.nTensors, len(fx.tensors)))
	b = ap.AppendUint64(b, count(fx.nKVs, len(fx.kvs)))
	for _, kv := range fx.kvs {
		b = str(b, kv.key)
		typed := func(t uint32, v any) {
			b = ap.AppendUint32(b, t)
			var w bytes.Buffer
			if err := binary.Write(&w, order, v); err != nil {
				panic(err)
			}
			b = append(b, w.Bytes()...)
		}
		array := func(t uint32, n int, v any) {
			b = ap.AppendUint32(b, 9)
			b = ap.AppendUint32(b, t)
			b = ap.AppendUint64(b, uint64(n))
			var w bytes.Buffer
			if err := binary.Write(&w, order, v); err != nil {
				panic(err)
			}
			b = append(b, w.Bytes()...)
		}
		switch v := kv.value.(type) {
		case uint8:
			typed(0, v)
		case int8:
			typed(1, v)
		case uint16:
			typed(2, v)
		case int16:
			typed(3, v)
		case uint32:
			typed(4, v)
		case int32:
			typed(5, v)
		case float32:
			typed(6, v)
		case bool:
			typed(7, v)
		case string:
			b = ap.AppendUint32(b, 8)
			b = str(b, v)
		case uint64:
			typed(10, v)
		case int64:
			typed(11, v)
		case float64:
			typed(12, v)
		case []uint32:
			array(4, len(v), v)
		case []int32:
			array(5, len(v), v)
		case []float32:
			array(6, len(v), v)
		case []string:
			b = ap.AppendUint32(b, 9)
			b = ap.AppendUint32(b, 8)
			b = ap.AppendUint64(b, uint64(len(v)))
			for _, s := range v {
				b = str(b, s)
			}
		case rawValue:
			b = append(b, v...)
		default:
			panic("fixture: value type")
		}
	}
	var data []byte
	for i, t := range fx.tensors {
		data = pad(data)
		offset := uint64(len(data))
		if t.offset != nil {
			offset = *t.offset
		}
		b = str(b, t.name)
		b = ap.AppendUint32(b, uint32(len(t.dims)))
		for _, d := range t.dims {
			b = ap.AppendUint64(b, d)
		}
		b = ap.AppendUint32(b, t.kind)
		b = ap.AppendUint64(b, offset)
		data = append(data, t.data...)
		if i == len(fx.tensors)-1 && !fx.unpadded {
			data = pad(data)
		}
	}
	if len(fx.tensors) > 0 || !fx.unpadded {
		b = pad(b)
	}
	return append(append(b, data...), fx.tail...)
}

func (fx fixture) write(t testing.TB, name string) string {
	t.Helper()
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join(t.TempDir(), name)
	}
	require.NoError(t, os.WriteFile(path, fx.bytes(), 0o644))
	return path
}

// with sets or adds a key; nil removes it.
func (fx fixture) with(key string, value any) fixture {
	kvs := make([]fixtureKV, 0, len(fx.kvs)+1)
	found := false
	for _, kv := range fx.kvs {
		if kv.key != key {
			kvs = append(kvs, kv)
			continue
		}
		found = true
		if value != nil {
			kvs = append(kvs, fixtureKV{key, value})
		}
	}
	if !found && value != nil {
		kvs = append(kvs, fixtureKV{key, value})
	}
	fx.kvs = kvs
	return fx
}

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// tiny is a small model of an architecture: d = 8, L = 128, every value type, quantised tensors, odd sizes.
func tiny(arch string) fixture {
	return fixture{
		kvs: []fixtureKV{
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
		tensors: []fixtureTensor{
			{name: "token_embd.weight", dims: []uint64{32, 4}, kind: 0, data: noise(1, 512)},
			{name: "output_norm.weight", dims: []uint64{3}, kind: 0, data: noise(2, 12)},
			{name: "blk.0.attn_q.weight", dims: []uint64{32, 32}, kind: 2, data: noise(3, 32*18)},
			{name: "blk.0.attn_k.weight", dims: []uint64{256, 2}, kind: 14, data: noise(4, 420)},
		},
	}
}

// largeModel writes a model whose one tensor has size bytes; sparse, unless filled.
func largeModel(t testing.TB, dir string, size int64, fill bool) string {
	t.Helper()
	fx := tiny("llama")
	fx.tensors = []fixtureTensor{{name: "blk.0.ffn_up.weight", dims: []uint64{1024, uint64(size / 1024)}, kind: 24}}
	fx.unpadded = true
	path := filepath.Join(dir, "large.gguf")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	head := fx.bytes()
	_, err = f.Write(head)
	require.NoError(t, err)
	if fill {
		block := noise(1, 1<<20)
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
