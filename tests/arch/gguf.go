package arch

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
)

// Model is a tiny model: metadata and the shapes of its tensors, which are all float32. Weights are
// made when it is written, from the names of the tensors, so a model is the same every time.
type Model struct {
	// KV is metadata: uint32, float32, bool, string, []uint32, []int32, []float32, []string or
	// []bool.
	KV map[string]any
	// Tensors are shapes as ggml has them, the fastest dimension first.
	Tensors map[string][]int
	// Zero names tensors whose weights are all zero; nil is none.
	Zero func(name string) bool
}

const alignment = 32

// Save writes the model as a GGUF, without weights (all zero, and no room on the disk) if it is
// only to be looked at.
func (m *Model) Save(path string, weights bool) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := bufio.NewWriter(f)
	names := slices.Sorted(maps.Keys(m.Tensors))
	header, size := m.header(names)
	if _, err := w.Write(header); err != nil {
		return err
	}
	if !weights {
		if err := w.Flush(); err != nil {
			return err
		}
		return f.Truncate(int64(len(header) + size))
	}
	for _, name := range names {
		var data []byte
		for _, x := range values(name, m.Tensors[name]) {
			if m.Zero != nil && m.Zero(name) {
				x = 0
			}
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
		if _, err := w.Write(pad(data)); err != nil {
			return err
		}
	}
	return w.Flush()
}

// header is all before the tensors' data; size is that of the data.
func (m *Model) header(names []string) (header []byte, size int) {
	le := binary.LittleEndian
	var b []byte
	str := func(s string) { b = append(le.AppendUint64(b, uint64(len(s))), s...) }
	b = append(b, "GGUF"...)
	b = le.AppendUint32(b, 3)
	b = le.AppendUint64(b, uint64(len(names)))
	b = le.AppendUint64(b, uint64(len(m.KV)))
	for _, key := range slices.Sorted(maps.Keys(m.KV)) {
		str(key)
		b = value(b, m.KV[key])
	}
	for _, name := range names {
		shape := m.Tensors[name]
		str(name)
		b = le.AppendUint32(b, uint32(len(shape)))
		n := 4
		for _, d := range shape {
			b = le.AppendUint64(b, uint64(d))
			n *= d
		}
		b = le.AppendUint32(b, 0) // F32
		b = le.AppendUint64(b, uint64(size))
		size += (n + alignment - 1) / alignment * alignment
	}
	return pad(b), size
}

func pad(b []byte) []byte {
	return append(b, make([]byte, (alignment-len(b)%alignment)%alignment)...)
}

// value appends a type and a value. The numbers are those of the format.
func value(b []byte, v any) []byte {
	le := binary.LittleEndian
	array := func(kind uint32, n int) {
		b = le.AppendUint64(le.AppendUint32(le.AppendUint32(b, 9), kind), uint64(n))
	}
	switch v := v.(type) {
	case uint32:
		return le.AppendUint32(le.AppendUint32(b, 4), v)
	case float32:
		return le.AppendUint32(le.AppendUint32(b, 6), math.Float32bits(v))
	case bool:
		return append(le.AppendUint32(b, 7), truth(v))
	case string:
		return append(le.AppendUint64(le.AppendUint32(b, 8), uint64(len(v))), v...)
	case []uint32:
		array(4, len(v))
		for _, x := range v {
			b = le.AppendUint32(b, x)
		}
	case []int32:
		array(5, len(v))
		for _, x := range v {
			b = le.AppendUint32(b, uint32(x))
		}
	case []float32:
		array(6, len(v))
		for _, x := range v {
			b = le.AppendUint32(b, math.Float32bits(x))
		}
	case []bool:
		array(7, len(v))
		for _, x := range v {
			b = append(b, truth(x))
		}
	case []string:
		array(8, len(v))
		for _, x := range v {
			b = append(le.AppendUint64(b, uint64(len(x))), x...)
		}
	default:
		panic(fmt.Sprintf("arch: metadata of type %T", v))
	}
	return b
}

func truth(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// values are a tensor's: such that hidden states keep their size from layer to layer and every part
// has a say.
func values(name string, shape []int) []float32 {
	n := 1
	for _, d := range shape {
		n *= d
	}
	h := fnv.New64a()
	h.Write([]byte(strings.TrimSuffix(name, ".weight")))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))
	x := make([]float32, n)
	for i := range x {
		g := rng.NormFloat64()
		switch {
		case strings.HasSuffix(name, "ssm_a"): // decays
			g = -0.5 - math.Abs(g)
		case strings.Contains(name, "norm") && !strings.HasSuffix(name, "bias"):
			g = 1 + g/8
		case len(shape) == 1:
			g /= 8
		default:
			g /= math.Sqrt(float64(shape[0]))
		}
		x[i] = float32(g)
	}
	return x
}
