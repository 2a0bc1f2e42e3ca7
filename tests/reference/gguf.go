package reference

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

// File is a GGUF held in memory: enough to compute with a small model, to change its metadata and
// to write it again. It shares no code with package convert, which it thereby checks.
type File struct {
	keys    []string
	values  map[string][]byte // type and value as encoded
	Tensors []Tensor
}

// Tensor is a tensor's values. Dims has the contiguous dimension first, as in the file.
type Tensor struct {
	Name string
	Dims []uint64
	Data []float32
}

// ReadFile reads a little-endian GGUF whose tensors are all f32 or f16.
func ReadFile(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := Read(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Read is ReadFile of bytes.
func Read(b []byte) (f *File, err error) {
	d := &decoder{b: b}
	defer func() { // the decoder runs off the end of what is no GGUF
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("not a GGUF this reader understands: %v", r)
		}
	}()
	if string(d.next(4)) != "GGUF" {
		return nil, fmt.Errorf("not a GGUF file")
	}
	d.u32() // version: 2 and 3 do not differ for us
	tensors, keys := d.u64(), d.u64()
	f = &File{values: map[string][]byte{}}
	for range keys {
		key := d.str()
		at := d.at
		d.skip(d.u32())
		f.keys = append(f.keys, key)
		f.values[key] = b[at:d.at]
	}
	var types []uint32
	var offsets []uint64
	for range tensors {
		t := Tensor{Name: d.str()}
		for range d.u32() {
			t.Dims = append(t.Dims, d.u64())
		}
		types, offsets = append(types, d.u32()), append(offsets, d.u64())
		f.Tensors = append(f.Tensors, t)
	}
	align := int(f.Uint("general.alignment", 32))
	data := b[(d.at+align-1)/align*align:]
	for i := range f.Tensors {
		f.Tensors[i].Data, err = floats(data[offsets[i]:], types[i], f.Tensors[i].Len())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Tensors[i].Name, err)
		}
	}
	return f, nil
}

// Len is the number of elements.
func (t Tensor) Len() int {
	n := uint64(1)
	for _, d := range t.Dims {
		n *= d
	}
	return int(n)
}

func floats(b []byte, typ uint32, n int) ([]float32, error) {
	out := make([]float32, n)
	for i := range out {
		switch typ {
		case 0:
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		case 1:
			out[i] = half(binary.LittleEndian.Uint16(b[2*i:]))
		default:
			return nil, fmt.Errorf("tensor type %d is neither f32 nor f16", typ)
		}
	}
	return out, nil
}

// half is a float16's value.
func half(h uint16) float32 {
	sign, exp, frac := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch exp {
	case 0:
		return float32(sign * math.Ldexp(frac, -24))
	case 31:
		return float32(sign * math.Inf(1))
	}
	return float32(sign * math.Ldexp(1024+frac, exp-25))
}

type decoder struct {
	b  []byte
	at int
}

func (d *decoder) next(n int) []byte { d.at += n; return d.b[d.at-n : d.at] }
func (d *decoder) u32() uint32       { return binary.LittleEndian.Uint32(d.next(4)) }
func (d *decoder) u64() uint64       { return binary.LittleEndian.Uint64(d.next(8)) }
func (d *decoder) str() string       { return string(d.next(int(d.u64()))) }

func (d *decoder) skip(typ uint32) {
	switch typ {
	case 0, 1, 7:
		d.next(1)
	case 2, 3:
		d.next(2)
	case 4, 5, 6:
		d.next(4)
	case 10, 11, 12:
		d.next(8)
	case 8:
		d.str()
	case 9:
		elem := d.u32()
		for range d.u64() {
			d.skip(elem)
		}
	default:
		panic(fmt.Sprintf("value type %d", typ))
	}
}

// String is a key's value, "" if it is not a string.
func (f *File) String(key string) string {
	if v := f.values[key]; len(v) > 12 && v[0] == 8 {
		return string(v[12:])
	}
	return ""
}

// Uint is a key's value, or def if it is no uint32.
func (f *File) Uint(key string, def uint32) uint32 {
	if v := f.values[key]; len(v) == 8 && v[0] == 4 {
		return binary.LittleEndian.Uint32(v[4:])
	}
	return def
}

// Float is a key's value, or def if it is no float32.
func (f *File) Float(key string, def float32) float32 {
	if v := f.values[key]; len(v) == 8 && v[0] == 6 {
		return math.Float32frombits(binary.LittleEndian.Uint32(v[4:]))
	}
	return def
}

// Set gives a key a value of type uint32, float32, string, []uint32 or []float32.
func (f *File) Set(key string, value any) {
	var b bytes.Buffer
	switch v := value.(type) {
	case uint32:
		put(&b, uint32(4))
	case float32:
		put(&b, uint32(6))
	case []uint32:
		put(&b, uint32(9))
		put(&b, uint32(4))
		put(&b, uint64(len(v)))
	case []float32:
		put(&b, uint32(9))
		put(&b, uint32(6))
		put(&b, uint64(len(v)))
	case string:
		put(&b, uint32(8))
		put(&b, uint64(len(v)))
		value = []byte(v)
	default:
		panic(fmt.Sprintf("reference: set %s to a %T", key, value))
	}
	put(&b, value)
	if f.values[key] == nil {
		f.keys = append(f.keys, key)
	}
	f.values[key] = b.Bytes()
}

// SetArchitecture turns the model into one of another architecture with the same tensors: keys of
// the old one get the new one's name.
func (f *File) SetArchitecture(name string) {
	old := f.String("general.architecture")
	for i, key := range f.keys {
		if rest, ok := strings.CutPrefix(key, old+"."); ok {
			f.keys[i] = name + "." + rest
			f.values[f.keys[i]] = f.values[key]
			delete(f.values, key)
		}
	}
	b := binary.LittleEndian.AppendUint64([]byte{8, 0, 0, 0}, uint64(len(name)))
	f.values["general.architecture"] = append(b, name...)
}

func put(w io.Writer, v any) {
	if err := binary.Write(w, binary.LittleEndian, v); err != nil {
		panic(err) // to memory, of types with a fixed size
	}
}

// WriteFile writes the model with all tensors as f32. The engine multiplies f16 weights with
// activations rounded to f16; of f32 ones it computes in float32 throughout, which is what a
// float64 reference can be compared with.
func (f *File) WriteFile(path string) error {
	const align = 32
	var head, data bytes.Buffer
	str := func(s string) { put(&head, uint64(len(s))); head.WriteString(s) }
	pad := func(b *bytes.Buffer) { b.Write(make([]byte, (align-b.Len()%align)%align)) }

	head.WriteString("GGUF")
	put(&head, uint32(3))
	put(&head, uint64(len(f.Tensors)))
	put(&head, uint64(len(f.keys)))
	f.Set("general.file_type", uint32(0))
	f.Set("general.alignment", uint32(align))
	binary.LittleEndian.PutUint64(head.Bytes()[16:], uint64(len(f.keys)))
	for _, key := range f.keys {
		str(key)
		head.Write(f.values[key])
	}
	for _, t := range f.Tensors {
		str(t.Name)
		put(&head, uint32(len(t.Dims)))
		put(&head, t.Dims)
		put(&head, uint32(0))
		put(&head, uint64(data.Len()))
		put(&data, t.Data)
		pad(&data)
	}
	pad(&head)
	return os.WriteFile(path, append(head.Bytes(), data.Bytes()...), 0o644)
}
