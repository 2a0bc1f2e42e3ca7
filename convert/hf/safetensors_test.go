package hf

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rawShard is a file with this header and n bytes of data.
func rawShard(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

// abuses are the ways in which a file may lie, each with its error.
var abuses = []struct {
	name string
	file []byte
	want error
}{
	{"empty", nil, gguf.ErrTruncated},
	{"short", []byte("1234567"), gguf.ErrTruncated},
	{"no header", make([]byte, 8), ErrNotSafetensors},
	{"text", []byte("version https://git-lfs.github.com/spec/v1"), ErrNotSafetensors},
	{"endless header", append(bytes.Repeat([]byte{0xff}, 8), '{'), ErrNotSafetensors},
	{"long header", rawShard(`{}`, 0)[:9], gguf.ErrTruncated},
	{"a list", rawShard(`[]`, 0), ErrNotSafetensors},
	{"not json", rawShard(`{"a": }`, 0), gguf.ErrValue},
	{"cut json", rawShard(`{"a": {"dtype": "U8"`, 0), gguf.ErrValue},
	{"after", rawShard(`{}{}`, 0), gguf.ErrValue},
	{
		"twice",
		rawShard(`{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
 "a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}`, 2), gguf.ErrDuplicate,
	},
	{
		"no name", rawShard(`{"": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}`, 1),
		gguf.ErrKey,
	},
	{"long name", rawShard(`{"`+strings.Repeat("a",
		2000)+`": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}`, 1), gguf.ErrLength},
	{"no dtype", rawShard(`{"a": {"shape": [1], "data_offsets": [0, 1]}}`, 1), gguf.ErrTensorType},
	{"no offsets", rawShard(`{"a": {"dtype": "U8", "shape": [1]}}`, 1), gguf.ErrOffset},
	{
		"negative", rawShard(`{"a": {"dtype": "U8", "shape": [1], "data_offsets": [-1, 1]}}`, 1),
		gguf.ErrValue,
	},
	{
		"backwards", rawShard(`{"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}}`, 1),
		gguf.ErrOffset,
	},
	{
		"past the end", rawShard(`{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}`, 1),
		gguf.ErrTruncated,
	},
	{
		"wrong size", rawShard(`{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}`, 4),
		gguf.ErrDimensions,
	},
	{
		"overflow",
		rawShard(`{"a": {"dtype": "U8", "shape": [4294967296, 4294967296, 4294967296],
 "data_offsets": [0, 1]}}`, 1), gguf.ErrDimensions,
	},
	{
		"half a byte", rawShard(`{"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 1]}}`, 1),
		gguf.ErrDimensions,
	},
	{"many dimensions", rawShard(`{"a": {"dtype": "U8", "shape": [`+strings.Repeat("1,",
		20)+`1], "data_offsets": [0, 1]}}`, 1), gguf.ErrDimensions},
	{
		"hole", rawShard(`{"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}`, 2),
		gguf.ErrOffset,
	},
	{
		"overlap",
		rawShard(`{"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
 "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}`, 3), gguf.ErrOverlap,
	},
	{
		"left over", rawShard(`{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}`, 2),
		gguf.ErrOffset,
	},
	{"metadata", rawShard(`{"__metadata__": {"a": 1}}`, 0), gguf.ErrValue},
}

func TestShard(t *testing.T) {
	for _, a := range abuses {
		_, err := decodeShard(bytes.NewReader(a.file), int64(len(a.file)), "x.safetensors")
		assert.ErrorIs(t, err, a.want, a.name)
		assert.ErrorContains(t, err, "x.safetensors: ", a.name)
	}
	b := rawShard(`{"__metadata__": {"format": "pt"}, "b": {"dtype": "NEW", "shape": [3], "data_offsets": [8, 10]},
 "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}, "c": {"dtype": "F16", "shape": [0], "data_offsets": [10, 10]}}   `, 10)
	s, err := decodeShard(bytes.NewReader(b), int64(len(b)), "x")
	require.NoError(t, err)
	require.Equal(t, []shardTensor{{"a", "F32", 2, 0, 8}, {"b", "NEW", 3, 8, 10}, {
		"c", "F16", 0,
		10, 10,
	}}, s.Tensors)
}

// FuzzShard: no panic, and what is accepted fills its file.
func FuzzShard(f *testing.F) {
	for _, a := range abuses {
		f.Add(a.file)
	}
	f.Add(rawShard(`{"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}`, 12))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeShard(bytes.NewReader(b), int64(len(b)), "x")
		if err != nil {
			return
		}
		n := uint64(8) + binary.LittleEndian.Uint64(b)
		for _, tensor := range s.Tensors {
			n += tensor.End - tensor.Begin
		}
		if n != uint64(len(b)) {
			t.Fatalf("%d bytes are accounted for, of %d", n, len(b))
		}
	})
}

// FuzzConfig: no panic; an edit that is undone gives the same bytes.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"model_type": "llama", "max_position_embeddings": 128,
 "rope_scaling": {"type": "yarn", "factor": 4}}`))
	f.Add([]byte(`{"text_config": {"model_type": "gemma3_text",
 "rope_parameters": {"full_attention": {"rope_theta": 1e6}}}}`))
	f.Add([]byte(`{"max_position_embeddings":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseJSON("x", b)
		if err != nil {
			return
		}
		inside, err := textObject(d)
		if err != nil {
			return
		}
		if r, err := readRope(d, inside); err == nil {
			r.asRun()
		}
		if len(d.top) == 0 {
			return
		}
		e := &jsonEdit{d: d, members: d.top, after: d.top[len(d.top)-1].key}
		for _, key := range []string{"new", "new too"} {
			if _, there := find(d.top, key); there {
				return
			}
			e.set(key, `{"a": [1, 2]}`)
		}
		first := d.top[0]
		if first.key != e.after {
			e.set(first.key, "7")
		}
		changed, err := e.apply()
		if err != nil {
			t.Fatal(err)
		}
		back := &jsonEdit{d: changed, members: changed.top, after: first.key}
		back.remove("new too")
		back.remove("new")
		if first.key != e.after {
			back.set(first.key, string(d.raw(first)))
		}
		same, err := back.apply()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, same.text) {
			t.Fatalf("%q became %q", b, same.text)
		}
	})
}
