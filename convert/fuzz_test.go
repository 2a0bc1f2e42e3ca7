package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
)

// words are the bytes of an array of 32-bit numbers.
func words[T uint32 | float32](b []byte, of func(uint32) T) []T {
	var out []T
	for ; len(b) >= 4; b = b[4:] {
		out = append(out, of(binary.LittleEndian.Uint32(b)))
	}
	return out
}

// FuzzLadderKeys: whatever is in the keys of a ladder, nothing panics. A ladder that is taken in
// can be replaced by another, and that stripped; the file then has none and can be read.
func FuzzLadderKeys(f *testing.F) {
	number := func(u uint32) uint32 { return u }
	add := func(version uint32, lengths, windows []uint32, attention, factors []float32,
		source, replaced string, target int, crossing string,
	) {
		bits := func(xs []float32) (b []byte) {
			for _, x := range xs {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
			return b
		}
		ints := func(xs []uint32) (b []byte) {
			for _, x := range xs {
				b = binary.LittleEndian.AppendUint32(b, x)
			}
			return b
		}
		f.Add(version, ints(lengths), ints(windows), bits(attention), bits(factors), source,
			replaced, uint32(target), crossing)
	}
	fx := gguftest.Tiny("llama")
	other := ladder()
	pairs := other.RopeDimensionCount / 2
	whole := make([]float32, 2*pairs)
	for i := range whole {
		whole[i] = 1 + float32(i)
	}
	l := uint32(other.OriginalContextLength)
	add(1, []uint32{l, 4 * l}, []uint32{0, 4}, []float32{1, 1.1}, whole, `{"method":"yarn"}`, "", int(4*l),
		"rerotate")
	add(1, []uint32{l}, []uint32{0}, []float32{1}, whole[:pairs], "", "{}", int(l), "fast")
	add(2, []uint32{0, 1 << 31}, []uint32{1 << 31, 0}, []float32{0, 1e38}, whole, "{", "[]", 1<<31,
		"")
	f.Fuzz(func(t *testing.T, version uint32, lengths, windows, attention, factors []byte,
		source, replaced string, contextLength uint32, crossing string,
	) {
		key := func(name string) string { return gguf.LadderKey("llama", name) }
		g := fx.With(key("version"), version).With(key("lengths"), words(lengths, number)).
			With(key("start_windows"), words(windows, number)).
			With(key("attention_factors"), words(attention, math.Float32frombits)).
			With(key("factors"), words(factors, math.Float32frombits)).
			With(key("source"), source).With(key("crossing"), crossing).
			With("llama.context_length", contextLength)
		if replaced != "" {
			g = g.With(key("replaced"), replaced)
		}
		file, err := decodeBytes(g.Bytes())
		require.NoError(t, err)
		m, err := inspect(file)
		if err == nil && m.Ladder != nil {
			require.NoError(t, m.Ladder.Validate())
		}
		j, err := prepare(file, nil, other, Options{})
		if err != nil {
			return
		}
		converted, err := decodeBytes(written(t, j.e))
		require.NoError(t, err)
		m, err = inspect(converted)
		require.NoError(t, err)
		require.NotNil(t, m.Ladder)
		require.Equal(t, other.Rungs[0].StartWindow, m.Ladder.Rungs[0].StartWindow)
		e := gguf.NewEdit(converted)
		if known, err := e.Undo("llama"); err != nil || !known {
			return // it says that the file cannot be given back
		}
		stripped, err := decodeBytes(written(t, e))
		require.NoError(t, err)
		again, err := gguf.ReadLadder(stripped, "llama")
		require.NoError(t, err)
		require.Nil(t, again)
	})
}

func written(t *testing.T, e *gguf.Edit) []byte {
	p, err := e.Lay()
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, p.Write(context.Background(), &out, nil))
	return out.Bytes()
}
