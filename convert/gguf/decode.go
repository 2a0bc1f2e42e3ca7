package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"path/filepath"

	"github.com/longrope/longrope/convert/atomicfile"
)

// Open reads the header of a GGUF file, version 2 or 3, of either endianness. A file whose name
// says that it is one part of several (NAME-00001-of-00003.gguf, any of them) is opened as the
// whole model. Errors about the content are a *FormatError.
func Open(path string) (*File, error) {
	first, err := openPart(path)
	if err != nil {
		return nil, err
	}
	parts, err := openSplit(path, first)
	if err != nil {
		first.file.Close()
		return nil, err
	}
	return join(path, parts)
}

// Read is Open for a model of one part that is not a file. path is its name in errors.
func Read(src io.ReaderAt, size int64, path string) (*File, error) {
	p, err := decode(src, size, path)
	if err != nil {
		return nil, err
	}
	return join(path, []*part{p})
}

// Size is that of all parts, in bytes.
func (f *File) Size() (n int64) {
	for _, p := range f.parts {
		n += p.size
	}
	return n
}

func openPart(path string) (*part, error) {
	file, err := atomicfile.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	p, err := decode(file, fi.Size(), path)
	if err != nil {
		file.Close()
		return nil, err
	}
	p.file = file
	return p, nil
}

// decoder walks a header once, front to back, never trusting a number before comparing it with what
// is left of the file.
type decoder struct {
	p     *part
	r     *bufio.Reader
	off   int64 // of the next byte
	key   string
	names int // bytes of keys and names so far
	held  int // bytes of values so far
	buf   [8]byte
}

// decode reads the header of one file of the given size.
func decode(src io.ReaderAt, size int64, path string) (*part, error) {
	d := &decoder{
		p: &part{path: path, src: src, size: size, order: binary.LittleEndian, align: 32},
		r: bufio.NewReaderSize(io.NewSectionReader(src, 0, size), 64<<10),
	}
	if err := d.header(); err != nil {
		return nil, err
	}
	if err := d.checkTensors(); err != nil {
		return nil, err
	}
	return d.p, nil
}

func (d *decoder) fail(kind error, format string, args ...any) error {
	return &FormatError{
		Path: d.p.path, Key: d.key, Offset: d.off,
		Detail: fmt.Sprintf(format, args...), Err: kind,
	}
}

func (d *decoder) left() uint64 { return uint64(d.p.size - d.off) }

func (d *decoder) bytes(b []byte) error {
	n, err := io.ReadFull(d.r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return d.fail(ErrTruncated, "%d bytes wanted, %d left", len(b), n)
	}
	if err != nil {
		return fmt.Errorf("%s: reading at byte %d: %w", d.p.path, d.off, err)
	}
	d.off += int64(n)
	return nil
}

func (d *decoder) skip(n uint64) error {
	if n > d.left() {
		return d.fail(ErrTruncated, "%d bytes wanted, %d left", n, d.left())
	}
	for n > 0 {
		m, err := d.r.Discard(int(min(n, 1<<30)))
		d.off += int64(m)
		n -= uint64(m)
		if err == io.EOF {
			return d.fail(ErrTruncated, "%d bytes wanted, none left", n)
		}
		if err != nil {
			return fmt.Errorf("%s: reading at byte %d: %w", d.p.path, d.off, err)
		}
	}
	return nil
}

func (d *decoder) u32() (uint32, error) {
	if err := d.bytes(d.buf[:4]); err != nil {
		return 0, err
	}
	return d.p.order.Uint32(d.buf[:4]), nil
}

func (d *decoder) u64() (uint64, error) {
	if err := d.bytes(d.buf[:8]); err != nil {
		return 0, err
	}
	return d.p.order.Uint64(d.buf[:8]), nil
}

// name reads a string that is held in memory.
func (d *decoder) name(limit uint64) (string, error) {
	n, err := d.u64()
	if err != nil {
		return "", err
	}
	switch {
	case n > d.left():
		return "", d.fail(ErrLength, "a name of %d bytes, %d left", n, d.left())
	case n > limit:
		return "", d.fail(ErrLength, "a name of %d bytes, %d is the most", n, limit)
	case d.names+int(n) > maxNames:
		return "", d.fail(ErrTooLarge, "keys and tensor names take more than %d bytes", maxNames)
	}
	b := make([]byte, n)
	if err := d.bytes(b); err != nil {
		return "", err
	}
	d.names += len(b)
	return string(b), nil
}

func (d *decoder) header() error {
	var magic [4]byte
	if d.p.size < 4 {
		return d.fail(ErrNotGGUF, "%d bytes long", d.p.size)
	}
	if err := d.bytes(magic[:]); err != nil {
		return err
	}
	if string(magic[:]) != "GGUF" {
		return d.fail(ErrNotGGUF, "starts with %q", magic[:])
	}
	version, err := d.u32()
	if err != nil {
		return err
	}
	// The specification has no flag for it: a version that is only small when read backwards is
	// big-endian.
	if version&0xffff == 0 && version != 0 {
		d.p.order = binary.BigEndian
		version = bits.ReverseBytes32(version)
	}
	d.p.version = version
	if version != 2 && version != 3 {
		d.off = 4
		return d.fail(ErrVersion,
			"%d; versions 2 and 3 are read, make the file again with a current converter", version)
	}
	nTensors, err := d.u64()
	if err != nil {
		return err
	}
	nKVs, err := d.u64()
	if err != nil {
		return err
	}
	// The smallest key-value pair takes 14 bytes (one-letter key, one-byte value), the smallest
	// tensor info 33.
	switch {
	case nKVs > d.left()/14:
		return d.fail(ErrCount, "%d keys, but %d bytes follow", nKVs, d.left())
	case nTensors > d.left()/33:
		return d.fail(ErrCount, "%d tensors, but %d bytes follow", nTensors, d.left())
	case nKVs > maxKeys:
		return d.fail(ErrTooLarge, "%d keys, %d is the most", nKVs, maxKeys)
	case nTensors > MaxTensors:
		return d.fail(ErrTooLarge, "%d tensors, %d is the most", nTensors, MaxTensors)
	}
	seen := make(map[string]struct{})
	for range nKVs {
		if err := d.kv(seen); err != nil {
			return err
		}
	}
	clear(seen)
	for range nTensors {
		if err := d.tensor(seen); err != nil {
			return err
		}
	}
	d.key = ""
	d.p.head = d.off
	d.p.data = int64(align(uint64(d.off), d.p.align))
	return nil
}

func (d *decoder) kv(seen map[string]struct{}) error {
	d.key = ""
	key, err := d.name(maxKeyLength)
	if err != nil {
		return err
	}
	if key == "" {
		return d.fail(ErrKey, "key %d", len(d.p.kvs)+1)
	}
	d.key = key
	if _, twice := seen[key]; twice {
		return d.fail(ErrDuplicate, "")
	}
	seen[key] = struct{}{}

	t, err := d.u32()
	if err != nil {
		return err
	}
	kv := KV{Key: key, Type: ValueType(t), off: d.off}
	if err := d.value(&kv); err != nil {
		return err
	}
	kv.size = d.off - kv.off
	// The decoder itself looks at numbers, wherever they stand: they are always held.
	number := kv.Type != TypeString && kv.Type != TypeArray
	if number || kv.size <= maxInlineValue && d.held+int(kv.size) <= maxInlineValues {
		kv.raw = make([]byte, kv.size)
		if _, err := d.p.src.ReadAt(kv.raw, kv.off); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: reading at byte %d: %w", d.p.path, kv.off, err)
		}
		d.held += int(kv.size)
	}
	d.p.kvs = append(d.p.kvs, kv)

	switch key {
	case "general.alignment":
		if kv.Type != TypeUint32 {
			return d.fail(ErrAlignment, "a %s instead of a uint32", kv.Type)
		}
		a := d.p.order.Uint32(kv.raw)
		if bits.OnesCount32(a) != 1 || a > maxAlignment {
			return d.fail(ErrAlignment, "%d is not a power of two up to %d", a, maxAlignment)
		}
		d.p.align = uint64(a)
	}
	return nil
}

// value walks over one value of kv's type and fills in Elem and Len.
func (d *decoder) value(kv *KV) error {
	switch kv.Type {
	case TypeString:
		n, err := d.stringLength()
		if err != nil {
			return err
		}
		kv.Len = n
		return d.skip(n)
	case TypeArray:
		elem, n, err := d.array(1)
		kv.Elem, kv.Len = elem, n
		return err
	case TypeBool:
		if err := d.bytes(d.buf[:1]); err != nil {
			return err
		}
		if d.buf[0] > 1 {
			return d.fail(ErrValue, "a bool of %d", d.buf[0])
		}
		return nil
	}
	n := kv.Type.size()
	if n < 0 {
		return d.fail(ErrValueType, "%d", uint32(kv.Type))
	}
	return d.skip(uint64(n))
}

func (d *decoder) stringLength() (uint64, error) {
	n, err := d.u64()
	if err == nil && n > d.left() {
		err = d.fail(ErrLength, "a string of %d bytes, %d left", n, d.left())
	}
	return n, err
}

func (d *decoder) array(depth int) (ValueType, uint64, error) {
	t, err := d.u32()
	if err != nil {
		return 0, 0, err
	}
	elem := ValueType(t)
	n, err := d.u64()
	if err != nil {
		return 0, 0, err
	}
	least := uint64(max(elem.size(), 0))
	switch {
	case elem.size() < 0:
		return 0, 0, d.fail(ErrValueType, "array of type %d", t)
	case elem == TypeString:
		least = 8
	case elem == TypeArray:
		least = 12
		if depth == maxNesting {
			return 0, 0, d.fail(ErrValueType, "arrays nested more than %d deep", maxNesting)
		}
	}
	if n > d.left()/least {
		return 0, 0, d.fail(ErrCount, "an array of %d elements, but %d bytes follow", n, d.left())
	}
	switch elem {
	case TypeString:
		for range n {
			m, err := d.stringLength()
			if err != nil {
				return 0, 0, err
			}
			if err := d.skip(m); err != nil {
				return 0, 0, err
			}
		}
	case TypeArray:
		for range n {
			if _, _, err := d.array(depth + 1); err != nil {
				return 0, 0, err
			}
		}
	default:
		err = d.skip(n * least)
	}
	return elem, n, err
}

// join makes one model of parts.
func join(path string, parts []*part) (*File, error) {
	p := parts[0]
	f := &File{Path: path, Version: p.version, Order: p.order, Alignment: p.align, parts: parts}
	f.KVs = p.kvs
	if len(parts) == 1 {
		f.Tensors = p.tensors
		return f, nil
	}
	f.KVs = nil
	for _, kv := range p.kvs {
		if !isSplitKey(kv.Key) {
			f.KVs = append(f.KVs, kv)
		}
	}
	seen := make(map[string]int)
	for i, q := range parts {
		fail := func(key string, kind error, format string, args ...any) (*File, error) {
			f.Close()
			return nil, &FormatError{
				Path: q.path, Key: key, Detail: fmt.Sprintf(format, args...),
				Err: kind,
			}
		}
		if q.version != p.version || q.order != p.order || q.align != p.align {
			return fail("", ErrSplit, "version, byte order or alignment differ from %s",
				filepath.Base(p.path))
		}
		for _, t := range q.tensors {
			if j, twice := seen[t.Name]; twice {
				return fail(t.Name, ErrDuplicate, "also in %s", filepath.Base(parts[j].path))
			}
			if len(seen) == MaxTensors {
				return fail("", ErrTooLarge, "more than %d tensors", MaxTensors)
			}
			seen[t.Name] = i
			t.part = i
			f.Tensors = append(f.Tensors, t)
		}
	}
	return f, nil
}
