package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// One error per way of being malformed; a *FormatError wraps each with the file, the key or tensor,
// and the offset.
var (
	// ErrNotGGUF: the first four bytes are not "GGUF".
	ErrNotGGUF = errors.New("not a GGUF file")
	// ErrVersion: a version other than 2 or 3.
	ErrVersion = errors.New("unsupported GGUF version")
	// ErrTruncated: the file ends inside a header, a value or a tensor's data.
	ErrTruncated = errors.New("file is truncated")
	// ErrCount: a count of keys, tensors or array elements that the rest of the file cannot hold.
	ErrCount = errors.New("count does not fit in the file")
	// ErrLength: a string length that the rest of the file cannot hold, or above what a name may
	// have.
	ErrLength = errors.New("length does not fit")
	// ErrKey: an empty key.
	ErrKey = errors.New("empty key")
	// ErrDuplicate: a key or a tensor name that occurs twice.
	ErrDuplicate = errors.New("occurs twice")
	// ErrValueType: a value type that GGUF does not define, or arrays nested deeper than
	// maxNesting.
	ErrValueType = errors.New("unknown value type")
	// ErrValue: a known key whose value has the wrong type or is out of range.
	ErrValue = errors.New("bad value")
	// ErrAlignment: general.alignment is not a uint32 power of two, or is above maxAlignment.
	ErrAlignment = errors.New("bad alignment")
	// ErrDimensions: a tensor with more than four dimensions, a zero one, too many elements, or
	// rows that are no whole number of its type's blocks.
	ErrDimensions = errors.New("bad dimensions")
	// ErrTensorType: a tensor type number that no GGUF writer uses.
	ErrTensorType = errors.New("unknown tensor type")
	// ErrOffset: a tensor offset that is not aligned, or lies outside of the file.
	ErrOffset = errors.New("bad tensor offset")
	// ErrOverlap: two tensors that share bytes.
	ErrOverlap = errors.New("tensors overlap")
	// ErrSplit: parts of a split file that are missing or do not belong together.
	ErrSplit = errors.New("bad split file")
	// ErrTooLarge: more metadata than this package holds in memory.
	ErrTooLarge = errors.New("too much metadata")
)

// Caps. They are checked before anything is allocated, and keep the memory of any file's header
// below 32 MiB.
const (
	maxKeyLength   = 1<<16 - 1 // GGUF specification
	MaxNameLength  = 1 << 10   // ggml's own limit is 64 bytes; other writers have used more
	maxKeys        = 1 << 16
	MaxTensors     = 1 << 16
	maxNames       = 8 << 20 // bytes of all keys and names together
	maxInlineValue = 16 << 10
	maxAlignment   = 1 << 20
	maxNesting     = 4
	MaxParts       = 1000
)

// maxInlineValues is how many bytes of all values are held; the others stay in the file. Tests
// lower it, so that files of their size reach behind it.
var maxInlineValues = 8 << 20

// FormatError says where a file is malformed.
type FormatError struct {
	Path   string
	Key    string // key or tensor name; empty in the file's header
	Offset int64  // byte in the file
	Detail string
	Err    error // one of the errors above
}

func (e *FormatError) Error() string {
	s := e.Path + ": "
	if e.Key != "" {
		s += strconv.Quote(Clip(e.Key)) + ": "
	}
	s += e.Err.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s + fmt.Sprintf(" (at byte %d)", e.Offset)
}

// Unwrap gives the error's kind to errors.Is.
func (e *FormatError) Unwrap() error { return e.Err }

// Clip keeps a hostile name from filling a terminal.
func Clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// ValueType is the type of a metadata value, numbered as in the GGUF specification.
type ValueType uint32

// The value types of GGUF.
const (
	TypeUint8 ValueType = iota
	TypeInt8
	TypeUint16
	TypeInt16
	TypeUint32
	TypeInt32
	TypeFloat32
	TypeBool
	TypeString
	TypeArray
	TypeUint64
	TypeInt64
	TypeFloat64
)

// size is a value's bytes, 0 for strings and arrays, -1 for a type that does not exist.
func (t ValueType) size() int {
	switch t {
	case TypeUint8, TypeInt8, TypeBool:
		return 1
	case TypeUint16, TypeInt16:
		return 2
	case TypeUint32, TypeInt32, TypeFloat32:
		return 4
	case TypeUint64, TypeInt64, TypeFloat64:
		return 8
	case TypeString, TypeArray:
		return 0
	}
	return -1
}

func (t ValueType) String() string {
	names := []string{
		"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool",
		"string", "array", "uint64", "int64", "float64",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// KV is one metadata key with its value as the bytes it has in the file.
type KV struct {
	Key  string
	Type ValueType
	Elem ValueType // of an array's elements
	Len  uint64    // elements of an array, bytes of a string

	raw  []byte // the encoded value without its type, or nil when it stays in the file:
	part int    // index in File.parts
	off  int64  // first byte of the encoded value
	size int64
}

// TensorType numbers how a tensor's elements are stored, as ggml does.
type TensorType uint32

// The tensor types that this package reads values of.
const (
	TensorF32  TensorType = 0
	TensorF16  TensorType = 1
	TensorBF16 TensorType = 30
)

type tensorLayout struct {
	name  string
	block uint64 // elements in a block
	size  uint64 // bytes of a block
}

// tensorTypes is ggml's type table (ggml.h, ggml-common.h). A type that is missing here, because it
// is newer or an old one of the host's (4, MXFP4), passes through: its extent then is the space up
// to the next tensor.
var tensorTypes = map[TensorType]tensorLayout{
	0: {"F32", 1, 4}, 1: {"F16", 1, 2}, 2: {"Q4_0", 32, 18}, 3: {"Q4_1", 32, 20},
	6: {"Q5_0", 32, 22}, 7: {"Q5_1", 32, 24}, 8: {"Q8_0", 32, 34},
	10: {"Q2_K", 256, 84}, 11: {"Q3_K", 256, 110}, 12: {"Q4_K", 256, 144}, 13: {"Q5_K", 256, 176},
	14: {"Q6_K", 256, 210}, 15: {"Q8_K", 256, 292}, 16: {"IQ2_XXS", 256, 66}, 17: {
		"IQ2_XS", 256,
		74,
	},
	18: {"IQ3_XXS", 256, 98}, 19: {"IQ1_S", 256, 50}, 20: {"IQ4_NL", 32, 18}, 21: {
		"IQ3_S", 256,
		110,
	},
	22: {"IQ2_S", 256, 82}, 23: {"IQ4_XS", 256, 136}, 24: {"I8", 1, 1}, 25: {"I16", 1, 2},
	26: {"I32", 1, 4}, 27: {"I64", 1, 8}, 28: {"F64", 1, 8}, 29: {"IQ1_M", 256, 56}, 30: {
		"BF16", 1,
		2,
	},
	34: {"TQ1_0", 256, 54}, 35: {"TQ2_0", 256, 66}, 39: {"MXFP4", 32, 17}, 40: {"NVFP4", 64, 36},
}

// maxTensorType leaves room for types to come; above it the number is no type but damage.
const maxTensorType = 255

func (t TensorType) String() string {
	if l, ok := tensorTypes[t]; ok {
		return l.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Tensor is one tensor's entry in the header.
type Tensor struct {
	Name   string
	Dims   []uint64 // ggml's order: the contiguous dimension first
	Type   TensorType
	Offset uint64 // from the start of the data section of its part, bytes
	Size   uint64 // bytes, without padding

	part int    // index in File.parts, -1: not in a file
	data []byte // given by an edit instead of the file's
}

// Elements is the number of the tensor's elements.
func (t *Tensor) Elements() uint64 {
	n := uint64(1)
	for _, d := range t.Dims {
		n *= d
	}
	return n
}

// File is an open GGUF model: the metadata and tensor infos of one file, or of all parts of a split
// one. The data of tensors, and large metadata values, stay on disk. It holds its files open until
// Close.
type File struct {
	Path      string // as opened
	Version   uint32 // 2 or 3
	Order     binary.ByteOrder
	Alignment uint64
	KVs       []KV
	Tensors   []Tensor

	parts []*part
}

// part is one file on disk.
type part struct {
	path    string
	src     io.ReaderAt
	file    *os.File // src, when it is a file
	size    int64
	head    int64 // first byte after the header, before its padding
	data    int64 // first byte of the data section
	version uint32
	order   binary.ByteOrder
	align   uint64
	kvs     []KV
	tensors []Tensor
}

// Parts are the paths of the files that the model is made of, in order.
func (f *File) Parts() []string {
	paths := make([]string, len(f.parts))
	for i, p := range f.parts {
		paths[i] = p.path
	}
	return paths
}

// BigEndian reports whether numbers in the file are stored most significant byte first.
func (f *File) BigEndian() bool { return f.Order == binary.BigEndian }

// Close closes the files.
func (f *File) Close() error {
	var errs []error
	for _, p := range f.parts {
		if p.file != nil {
			errs = append(errs, p.file.Close())
		}
	}
	return errors.Join(errs...)
}

// Lookup finds a key.
func (f *File) Lookup(key string) (*KV, bool) {
	for i := range f.KVs {
		if f.KVs[i].Key == key {
			return &f.KVs[i], true
		}
	}
	return nil, false
}

// Tensor finds a tensor by its name.
func (f *File) Tensor(name string) (*Tensor, bool) {
	for i := range f.Tensors {
		if f.Tensors[i].Name == name {
			return &f.Tensors[i], true
		}
	}
	return nil, false
}

// bad makes the error of a key's value.
func (f *File) bad(kv *KV, kind error, format string, args ...any) error {
	path := f.Path
	if kv.part < len(f.parts) {
		path = f.parts[kv.part].path
	}
	return &FormatError{
		Path: path, Key: kv.Key, Offset: kv.off,
		Detail: fmt.Sprintf(format, args...), Err: kind,
	}
}
