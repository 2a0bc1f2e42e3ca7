package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// errNoKey: the metadata have no such key.
var errNoKey = errors.New("no key")

// maxRead caps the values and tensors that are read into memory: names, factors, provenance. Tokens
// never are.
const maxRead = 4 << 20

// BytesOf gives a value's encoded bytes, from the file if need be.
func (f *File) BytesOf(kv *KV) ([]byte, error) {
	if kv.raw != nil || kv.size == 0 {
		return kv.raw, nil
	}
	if kv.size > maxRead {
		return nil, f.bad(kv, ErrTooLarge, "%d bytes, %d is the most for this key", kv.size,
			maxRead)
	}
	b := make([]byte, kv.size)
	p := f.parts[kv.part]
	if _, err := io.ReadFull(io.NewSectionReader(p.src, kv.off, kv.size), b); err != nil {
		return nil, fmt.Errorf("%s: reading %q: %w", p.path, kv.Key, err)
	}
	return b, nil
}

func (f *File) uintOf(kv *KV) (uint64, error) {
	b, err := f.BytesOf(kv)
	if err != nil {
		return 0, err
	}
	n, ok := int64(0), true
	switch kv.Type {
	case TypeUint8:
		n = int64(b[0])
	case TypeInt8:
		n = int64(int8(b[0]))
	case TypeUint16:
		n = int64(f.Order.Uint16(b))
	case TypeInt16:
		n = int64(int16(f.Order.Uint16(b)))
	case TypeUint32:
		n = int64(f.Order.Uint32(b))
	case TypeInt32:
		n = int64(int32(f.Order.Uint32(b)))
	case TypeUint64, TypeInt64:
		n = int64(f.Order.Uint64(b))
	default:
		ok = false
	}
	if !ok {
		return 0, f.bad(kv, ErrValue, "a %s instead of an integer", kv.Type)
	}
	if n < 0 {
		return 0, f.bad(kv, ErrValue, "%d is negative or too large", n)
	}
	return uint64(n), nil
}

func (f *File) floatOf(kv *KV) (float64, error) {
	b, err := f.BytesOf(kv)
	if err != nil {
		return 0, err
	}
	var x float64
	switch kv.Type {
	case TypeFloat32:
		x = float64(math.Float32frombits(f.Order.Uint32(b)))
	case TypeFloat64:
		x = math.Float64frombits(f.Order.Uint64(b))
	default:
		n, err := f.uintOf(kv)
		if err != nil {
			return 0, f.bad(kv, ErrValue, "a %s instead of a number", kv.Type)
		}
		x = float64(n)
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, f.bad(kv, ErrValue, "%v", x)
	}
	return x, nil
}

// String reads a string; ok is false when the key is missing.
func (f *File) String(key string) (s string, ok bool, err error) {
	kv, ok := f.Lookup(key)
	if !ok {
		return "", false, nil
	}
	if kv.Type != TypeString {
		return "", false, f.bad(kv, ErrValue, "a %s instead of a string", kv.Type)
	}
	b, err := f.BytesOf(kv)
	if err != nil {
		return "", false, err
	}
	return string(b[8:]), true, nil
}

// Int reads an integer of any width; ok is false when the key is missing.
func (f *File) Int(key string) (n int, ok bool, err error) {
	kv, ok := f.Lookup(key)
	if !ok {
		return 0, false, nil
	}
	u, err := f.uintOf(kv)
	if err == nil && u > math.MaxInt32 {
		err = f.bad(kv, ErrValue, "%d is too large", u)
	}
	return int(u), err == nil, err
}

// Float reads a number of any type; ok is false when the key is missing.
func (f *File) Float(key string) (x float64, ok bool, err error) {
	kv, ok := f.Lookup(key)
	if !ok {
		return 0, false, nil
	}
	x, err = f.floatOf(kv)
	return x, err == nil, err
}

// Floats reads an array of float32; ok is false when the key is missing.
func (f *File) Floats(key string) (xs []float64, ok bool, err error) {
	b, ok, err := f.arrayOf(key, TypeFloat32)
	if !ok {
		return nil, false, err
	}
	xs = make([]float64, len(b)/4)
	for i := range xs {
		xs[i] = float64(math.Float32frombits(f.Order.Uint32(b[4*i:])))
	}
	return xs, true, nil
}

// Ints reads an array of uint32 or int32; ok is false when the key is missing.
func (f *File) Ints(key string) (xs []int, ok bool, err error) {
	b, ok, err := f.arrayOf(key, TypeUint32, TypeInt32)
	if !ok {
		return nil, false, err
	}
	kv, _ := f.Lookup(key)
	xs = make([]int, len(b)/4)
	for i := range xs {
		u := f.Order.Uint32(b[4*i:])
		if u > math.MaxInt32 {
			return nil, false, f.bad(kv, ErrValue, "element %d is negative or too large", i)
		}
		xs[i] = int(u)
	}
	return xs, true, nil
}

// arrayOf gives the elements' bytes of an array of one of the types.
func (f *File) arrayOf(key string, types ...ValueType) ([]byte, bool, error) {
	kv, ok := f.Lookup(key)
	if !ok {
		return nil, false, nil
	}
	ok = false
	for _, t := range types {
		ok = ok || kv.Type == TypeArray && kv.Elem == t
	}
	if !ok {
		return nil, false, f.bad(kv, ErrValue, "an array of %s was expected", types[0])
	}
	b, err := f.BytesOf(kv)
	if err != nil {
		return nil, false, err
	}
	return b[12:], true, nil
}

// tensorFloats reads a small F32 tensor.
func (f *File) tensorFloats(t *Tensor) ([]float64, error) {
	b, err := f.TensorBytes(t)
	if err != nil {
		return nil, err
	}
	if t.Type != TensorF32 {
		return nil, fmt.Errorf("%s: tensor %q is %s; factors are read from F32 only", f.Path,
			t.Name, t.Type)
	}
	xs := make([]float64, t.Elements())
	for i := range xs {
		xs[i] = float64(math.Float32frombits(f.Order.Uint32(b[4*i:])))
	}
	return xs, nil
}

// Reader reads the data of a tensor of the file.
func (f *File) Reader(t *Tensor) *io.SectionReader {
	p := f.parts[t.part]
	return io.NewSectionReader(p.src, p.data+int64(t.Offset), int64(t.Size))
}

func (f *File) TensorBytes(t *Tensor) ([]byte, error) {
	if t.data != nil {
		return t.data, nil
	}
	p := f.parts[t.part]
	if t.Size > maxRead {
		return nil, fmt.Errorf("%s: tensor %q has %d bytes; factors have at most %d", p.path,
			t.Name, t.Size, maxRead)
	}
	b := make([]byte, t.Size)
	if _, err := io.ReadFull(f.Reader(t), b); err != nil {
		return nil, fmt.Errorf("%s: reading tensor %q: %w", p.path, t.Name, err)
	}
	return b, nil
}

// newKV encodes a value in the file's byte order. It takes what a ladder is written with: uint32,
// float32, string, []uint32, []float32.
func newKV(order binary.ByteOrder, key string, value any) KV {
	kv := KV{Key: key}
	var b []byte
	u32 := func(n uint32) { var x [4]byte; order.PutUint32(x[:], n); b = append(b, x[:]...) }
	u64 := func(n uint64) { var x [8]byte; order.PutUint64(x[:], n); b = append(b, x[:]...) }
	array := func(t ValueType, n int) {
		kv.Type, kv.Elem, kv.Len = TypeArray, t, uint64(n)
		u32(uint32(t))
		u64(uint64(n))
	}
	switch v := value.(type) {
	case uint32:
		kv.Type = TypeUint32
		u32(v)
	case float32:
		kv.Type = TypeFloat32
		u32(math.Float32bits(v))
	case string:
		kv.Type, kv.Len = TypeString, uint64(len(v))
		u64(kv.Len)
		b = append(b, v...)
	case []uint32:
		array(TypeUint32, len(v))
		for _, n := range v {
			u32(n)
		}
	case []float32:
		array(TypeFloat32, len(v))
		for _, x := range v {
			u32(math.Float32bits(x))
		}
	default:
		panic(fmt.Sprintf("convert: newKV of %T", value))
	}
	kv.raw, kv.size = b, int64(len(b))
	return kv
}

// show renders a value for people: numbers and strings as they are, arrays by their first elements.
func (f *File) show(kv *KV) string {
	switch kv.Type {
	case TypeString:
		if kv.size > maxRead {
			return fmt.Sprintf("string of %d bytes", kv.Len)
		}
		b, err := f.BytesOf(kv)
		if err != nil {
			return err.Error()
		}
		return Clip(string(b[8:]))
	case TypeArray:
		return fmt.Sprintf("%d x %s", kv.Len, kv.Elem)
	case TypeFloat32, TypeFloat64:
		x, err := f.floatOf(kv)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%.6g", x)
	case TypeBool:
		b, err := f.BytesOf(kv)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(b[0] == 1)
	}
	n, err := f.uintOf(kv)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(n)
}

// FloatBytes encodes values as the data of an F32 tensor.
func FloatBytes(order binary.ByteOrder, xs []float64) []byte {
	b := make([]byte, 4*len(xs))
	for i, x := range xs {
		order.PutUint32(b[4*i:], math.Float32bits(float32(x)))
	}
	return b
}
