package hf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sort"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale/jsontext"
)

// ErrNotSafetensors: the first eight bytes are no header length, or no JSON object follows them.
var ErrNotSafetensors = errors.New("not a safetensors file")

// Caps of a safetensors header. The format's own limit of its length is 100 MB; a model of 10,000
// tensors has 1 MB.
const (
	maxSafetensorsHeader = 32 << 20
	maxSafetensorsDims   = 16
)

// safetensorsBits is the size of an element in bits. A type that is missing here, because it is
// newer, passes through: its extent is not checked against its shape.
var safetensorsBits = map[string]uint64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
	"F8_E8M0": 8,
	"U16":     16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64,
	"I64": 64, "F64": 64, "C64": 64,
}

// shard is one safetensors file: its header, read with the same distrust as a GGUF's.
type shard struct {
	Path    string
	Size    int64
	Tensors []shardTensor // in the order of their data
}

type shardTensor struct {
	name     string
	Dtype    string
	Elements uint64
	Begin    uint64 // from the end of the header
	End      uint64
}

// openShard reads the header of the safetensors file at path and compares it with the file's size.
// Errors about the content are a *FormatError.
func openShard(path string) (*shard, error) {
	f, err := atomicfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return decodeShard(f, fi.Size(), path)
}

// decodeShard reads a header: eight bytes, little-endian, that say its length, then a JSON object
// with an entry for each tensor, whose data fill the rest of the file without a gap (the format's
// own rule, which also keeps a file from being two things at once).
func decodeShard(src io.ReaderAt, size int64, path string) (*shard, error) {
	d := &shardDecoder{s: &shard{Path: path, Size: size}, seen: make(map[string]bool)}
	if err := d.readHeader(src); err != nil {
		return nil, err
	}
	if err := d.entries(); err != nil {
		return nil, err
	}
	return d.s, d.filled()
}

// shardDecoder reads the header of one file.
type shardDecoder struct {
	s      *shard
	header []byte
	dec    *json.Decoder // of header
	seen   map[string]bool
}

func (d *shardDecoder) fail(at int64, key string, kind error, format string, args ...any) error {
	return &gguf.FormatError{
		Path: d.s.Path, Key: key, Offset: at, Detail: fmt.Sprintf(format, args...), Err: kind,
	}
}

// at is the byte of the file that the decoder is at.
func (d *shardDecoder) at() int64 { return 8 + d.dec.InputOffset() }

// data is the byte where tensors begin.
func (d *shardDecoder) data() int64 { return 8 + int64(len(d.header)) }

// space is the number of bytes of all tensors.
func (d *shardDecoder) space() uint64 { return uint64(d.s.Size - d.data()) }

// readHeader reads the header whole; nothing is allocated before its length is checked.
func (d *shardDecoder) readHeader(src io.ReaderAt) error {
	size := d.s.Size
	if size < 8 {
		return d.fail(0, "", gguf.ErrTruncated, "%d bytes; a header length alone has 8", size)
	}
	var length [8]byte
	if _, err := src.ReadAt(length[:], 0); err != nil {
		return fmt.Errorf("%s: %w", d.s.Path, err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch {
	case n > maxSafetensorsHeader && n > uint64(size):
		return d.fail(0, "", ErrNotSafetensors, "a header of %d bytes in a file of %d", n, size)
	case n > maxSafetensorsHeader:
		return d.fail(0, "", gguf.ErrTooLarge, "a header of %d bytes, %d is the most", n,
			maxSafetensorsHeader)
	case n > uint64(size-8):
		return d.fail(8, "", gguf.ErrTruncated,
			"a header of %d bytes, %d left; it is damaged or was not downloaded completely",
			n, size-8)
	}
	d.header = make([]byte, n)
	if _, err := src.ReadAt(d.header, 8); err != nil &&
		!(errors.Is(err, io.EOF) && size == 8+int64(n)) {
		return fmt.Errorf("%s: %w", d.s.Path, err)
	}
	if n == 0 || d.header[0] != '{' {
		return d.fail(8, "", ErrNotSafetensors, "the header does not begin with {")
	}
	return nil
}

// entries reads the header's object.
func (d *shardDecoder) entries() error {
	d.dec = json.NewDecoder(bytes.NewReader(d.header))
	if _, err := d.dec.Token(); err != nil {
		return d.fail(d.at(), "", gguf.ErrValue, "%v", err)
	}
	for d.dec.More() {
		token, err := d.dec.Token()
		if err != nil {
			return d.fail(d.at(), "", gguf.ErrValue, "%v", err)
		}
		name, start := token.(string), d.at() // the key of an object is a string
		if d.seen[name] {
			return d.fail(start, name, gguf.ErrDuplicate, "")
		}
		d.seen[name] = true
		if name == "__metadata__" {
			var texts map[string]string
			if err := jsontext.Plain(d.dec.Decode(&texts)); err != nil {
				return d.fail(start, name, gguf.ErrValue, "%v", err)
			}
			continue
		}
		if err := d.entry(name, start); err != nil {
			return err
		}
	}
	if _, err := d.dec.Token(); err != nil {
		return d.fail(d.at(), "", gguf.ErrValue, "%v", err)
	}
	if rest := bytes.Trim(d.header[d.dec.InputOffset():], " "); len(rest) > 0 {
		return d.fail(d.at(), "", gguf.ErrValue, "%d bytes follow the header's object", len(rest))
	}
	return nil
}

// entry reads the tensor of a name, whose value begins at byte start.
func (d *shardDecoder) entry(name string, start int64) error {
	var entry struct {
		Type    string   `json:"dtype"`
		Shape   []uint64 `json:"shape"`
		Offsets []uint64 `json:"data_offsets"`
	}
	if err := jsontext.Plain(d.dec.Decode(&entry)); err != nil {
		return d.fail(start, name, gguf.ErrValue, "%v", err)
	}
	switch {
	case name == "":
		return d.fail(start, "", gguf.ErrKey, "a tensor without a name")
	case len(name) > gguf.MaxNameLength:
		return d.fail(start, name, gguf.ErrLength, "a name of %d bytes, %d is the most",
			len(name), gguf.MaxNameLength)
	case len(d.s.Tensors) >= gguf.MaxTensors:
		return d.fail(start, name, gguf.ErrTooLarge, "more than %d tensors", gguf.MaxTensors)
	case entry.Type == "":
		return d.fail(start, name, gguf.ErrTensorType, "it has no dtype")
	case len(entry.Shape) > maxSafetensorsDims:
		return d.fail(start, name, gguf.ErrDimensions, "%d dimensions, %d is the most",
			len(entry.Shape), maxSafetensorsDims)
	case len(entry.Offsets) != 2:
		return d.fail(start, name, gguf.ErrOffset, "%d data_offsets, want 2", len(entry.Offsets))
	}
	t := shardTensor{
		name: name, Dtype: entry.Type, Elements: 1, Begin: entry.Offsets[0], End: entry.Offsets[1],
	}
	for i, n := range entry.Shape {
		hi, lo := bits.Mul64(t.Elements, n)
		if hi != 0 || lo > 1<<60 {
			return d.fail(start, name, gguf.ErrDimensions, "dimension %d is %d", i, n)
		}
		t.Elements = lo
	}
	switch {
	case t.Begin > t.End:
		return d.fail(start, name, gguf.ErrOffset, "its data go from byte %d to %d", t.Begin, t.End)
	case t.End > d.space():
		return d.fail(start, name, gguf.ErrTruncated,
			"its data end at byte %d of %d; the file is damaged or was not downloaded completely",
			t.End, d.space())
	}
	if width, ok := safetensorsBits[t.Dtype]; ok {
		hi, lo := bits.Mul64(t.Elements, width)
		if hi != 0 || lo%8 != 0 || lo/8 != t.End-t.Begin {
			return d.fail(start, name, gguf.ErrDimensions, "%d elements of %s in %d bytes",
				t.Elements, gguf.Clip(t.Dtype), t.End-t.Begin)
		}
	}
	d.s.Tensors = append(d.s.Tensors, t)
	return nil
}

// filled sorts the tensors, and checks that each byte behind the header is of one of them.
func (d *shardDecoder) filled() error {
	sort.SliceStable(d.s.Tensors, func(i, j int) bool {
		a, b := &d.s.Tensors[i], &d.s.Tensors[j]
		return a.Begin < b.Begin || a.Begin == b.Begin && a.End < b.End
	})
	next := uint64(0)
	for _, t := range d.s.Tensors {
		switch {
		case t.Begin < next:
			return d.fail(d.data()+int64(t.Begin), t.name, gguf.ErrOverlap,
				"it begins at byte %d, the one before ends at %d", t.Begin, next)
		case t.Begin > next:
			return d.fail(d.data()+int64(next), t.name, gguf.ErrOffset,
				"nothing has the bytes from %d to %d", next, t.Begin)
		}
		next = t.End
	}
	if next != d.space() {
		return d.fail(d.data()+int64(next), "", gguf.ErrOffset, "nothing has the last %d bytes",
			d.space()-next)
	}
	return nil
}
