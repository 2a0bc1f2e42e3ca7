package hf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sort"

	"github.com/longrope/longrope/convert/gguf"
)

// ErrNotSafetensors: the first eight bytes are no header length, or no JSON object follows them.
var ErrNotSafetensors = errors.New("not a safetensors file")

// Caps of a safetensors header. The format's own limit of its length is 100 MB; a model of 10,000 tensors has 1 MB.
const (
	maxSafetensorsHeader = 32 << 20
	maxSafetensorsDims   = 16
)

// safetensorsBits is the size of an element in bits. A type that is missing here, because it is newer, passes through:
// its extent is not checked against its shape.
var safetensorsBits = map[string]uint64{
	"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
	"U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
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

// openShard reads the header of the safetensors file at path and compares it with the file's size. Errors about the
// content are a *FormatError.
func openShard(path string) (*shard, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	return decodeShard(f, fi.Size(), path)
}

// decodeShard reads a header: eight bytes, little-endian, that say its length, then a JSON object with an entry for each
// tensor, whose data fill the rest of the file without a gap (the format's own rule, which also keeps a file from being
// two things at once).
func decodeShard(src io.ReaderAt, size int64, path string) (*shard, error) {
	fail := func(at int64, key string, kind error, format string, args ...any) (*shard, error) {
		return nil, &gguf.FormatError{Path: path, Key: key, Offset: at, Detail: fmt.Sprintf(format, args...), Err: kind}
	}
	if size < 8 {
		return fail(0, "", gguf.ErrTruncated, "%d bytes; a header length alone has 8", size)
	}
	var length [8]byte
	if _, err := src.ReadAt(length[:], 0); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch {
	case n > maxSafetensorsHeader && n > uint64(size):
		return fail(0, "", ErrNotSafetensors, "a header of %d bytes in a file of %d", n, size)
	case n > maxSafetensorsHeader:
		return fail(0, "", gguf.ErrTooLarge, "a header of %d bytes, %d is the most", n, maxSafetensorsHeader)
	case n > uint64(size-8):
		return fail(8, "", gguf.ErrTruncated, "a header of %d bytes, %d left; it is damaged or was not downloaded completely", n, size-8)
	}
	header := make([]byte, n)
	if _, err := src.ReadAt(header, 8); err != nil && !(errors.Is(err, io.EOF) && size == 8+int64(n)) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if n == 0 || header[0] != '{' {
		return fail(8, "", ErrNotSafetensors, "the header does not begin with {")
	}

	s := &shard{Path: path, Size: size}
	space := uint64(size-8) - n
	dec := json.NewDecoder(bytes.NewReader(header))
	at := func() int64 { return 8 + dec.InputOffset() }
	if _, err := dec.Token(); err != nil {
		return fail(at(), "", gguf.ErrValue, "%v", err)
	}
	seen := make(map[string]bool)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return fail(at(), "", gguf.ErrValue, "%v", err)
		}
		name, start := token.(string), at() // the key of an object is a string
		if seen[name] {
			return fail(start, name, gguf.ErrDuplicate, "")
		}
		seen[name] = true
		if name == "__metadata__" {
			var texts map[string]string
			if err := dec.Decode(&texts); err != nil {
				return fail(start, name, gguf.ErrValue, "%v", err)
			}
			continue
		}
		var entry struct {
			Type    string   `json:"dtype"`
			Shape   []uint64 `json:"shape"`
			Offsets []uint64 `json:"data_offsets"`
		}
		if err := dec.Decode(&entry); err != nil {
			return fail(start, name, gguf.ErrValue, "%v", err)
		}
		switch {
		case name == "":
			return fail(start, "", gguf.ErrKey, "a tensor without a name")
		case len(name) > gguf.MaxNameLength:
			return fail(start, name, gguf.ErrLength, "a name of %d bytes, %d is the most", len(name), gguf.MaxNameLength)
		case len(s.Tensors) >= gguf.MaxTensors:
			return fail(start, name, gguf.ErrTooLarge, "more than %d tensors", gguf.MaxTensors)
		case entry.Type == "":
			return fail(start, name, gguf.ErrTensorType, "it has no dtype")
		case len(entry.Shape) > maxSafetensorsDims:
			return fail(start, name, gguf.ErrDimensions, "%d dimensions, %d is the most", len(entry.Shape), maxSafetensorsDims)
		case len(entry.Offsets) != 2:
			return fail(start, name, gguf.ErrOffset, "%d data_offsets, want 2", len(entry.Offsets))
		}
		t := shardTensor{name: name, Dtype: entry.Type, Elements: 1, Begin: entry.Offsets[0], End: entry.Offsets[1]}
		for i, d := range entry.Shape {
			hi, lo := bits.Mul64(t.Elements, d)
			if hi != 0 || lo > 1<<60 {
				return fail(start, name, gguf.ErrDimensions, "dimension %d is %d", i, d)
			}
			t.Elements = lo
		}
		switch {
		case t.Begin > t.End:
			return fail(start, name, gguf.ErrOffset, "its data go from byte %d to %d", t.Begin, t.End)
		case t.End > space:
			return fail(start, name, gguf.ErrTruncated, "its data end at byte %d of %d; the file is damaged or was not downloaded completely", t.End, space)
		}
		if width, ok := safetensorsBits[t.Dtype]; ok {
			hi, lo := bits.Mul64(t.Elements, width)
			if hi != 0 || lo%8 != 0 || lo/8 != t.End-t.Begin {
				return fail(start, name, gguf.ErrDimensions, "%d elements of %s in %d bytes", t.Elements, gguf.Clip(t.Dtype), t.End-t.Begin)
			}
		}
		s.Tensors = append(s.Tensors, t)
	}
	if _, err := dec.Token(); err != nil {
		return fail(at(), "", gguf.ErrValue, "%v", err)
	}
	if rest := bytes.Trim(header[dec.InputOffset():], " "); len(rest) > 0 {
		return fail(at(), "", gguf.ErrValue, "%d bytes follow the header's object", len(rest))
	}

	sort.SliceStable(s.Tensors, func(i, j int) bool {
		a, b := &s.Tensors[i], &s.Tensors[j]
		return a.Begin < b.Begin || a.Begin == b.Begin && a.End < b.End
	})
	next := uint64(0)
	for _, t := range s.Tensors {
		switch {
		case t.Begin < next:
			return fail(8+int64(n)+int64(t.Begin), t.name, gguf.ErrOverlap, "it begins at byte %d, the one before ends at %d", t.Begin, next)
		case t.Begin > next:
			return fail(8+int64(n)+int64(next), t.name, gguf.ErrOffset, "nothing has the bytes from %d to %d", next, t.Begin)
		}
		next = t.End
	}
	if next != space {
		return fail(8+int64(n)+int64(next), "", gguf.ErrOffset, "nothing has the last %d bytes", space-next)
	}
	return s, nil
}
