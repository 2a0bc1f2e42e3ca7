package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
)

// Edit is a changed copy of a model's header. The rest keeps its bytes and its place.
type Edit struct {
	f       *File
	kvs     []KV
	Tensors []Tensor
	// tail is the length of the data section that the file had before tensors were added to it, 0
	// if not known.
	tail uint64
}

func NewEdit(f *File) *Edit {
	return &Edit{f: f, kvs: slices.Clone(f.KVs), Tensors: slices.Clone(f.Tensors)}
}

// Clone is a copy that later changes of e leave alone.
func (e *Edit) Clone() *Edit {
	return &Edit{f: e.f, kvs: slices.Clone(e.kvs), Tensors: slices.Clone(e.Tensors), tail: e.tail}
}

func (e *Edit) index(key string) int {
	return slices.IndexFunc(e.kvs, func(kv KV) bool { return kv.Key == key })
}

// Set replaces the key's value where it stands, or appends it.
func (e *Edit) Set(key string, value any) {
	kv := newKV(e.f.Order, key, value)
	if i := e.index(key); i >= 0 {
		e.kvs[i] = kv
		return
	}
	e.kvs = append(e.kvs, kv)
}

func (e *Edit) Remove(keys ...string) {
	e.kvs = slices.DeleteFunc(e.kvs, func(kv KV) bool { return slices.Contains(keys, kv.Key) })
}

func (e *Edit) tensorIndex(name string) int {
	return slices.IndexFunc(e.Tensors, func(t Tensor) bool { return t.Name == name })
}

// setTensor gives an F32 vector these bytes: in place when there is one of the same name and size,
// else at the end.
func (e *Edit) setTensor(name string, data []byte) {
	t := Tensor{
		Name: name, Dims: []uint64{uint64(len(data) / 4)}, Type: TensorF32,
		Size: uint64(len(data)), part: -1, data: data,
	}
	if i := e.tensorIndex(name); i >= 0 {
		if old := &e.Tensors[i]; old.Size == t.Size && old.Type == t.Type {
			old.data = data
			return
		}
		e.removeTensor(name)
	}
	e.Tensors = append(e.Tensors, t)
}

func (e *Edit) removeTensor(name string) {
	e.Tensors = slices.DeleteFunc(e.Tensors, func(t Tensor) bool { return t.Name == name })
}

// View is the edited header as a File, to read from. It shares the files of the original.
func (e *Edit) View() *File {
	f := *e.f
	f.KVs, f.Tensors = e.kvs, e.Tensors
	return &f
}

// segment is a run of bytes of the output: of a source file, or given, or zeros.
type segment struct {
	part int // source, -1: none
	off  int64
	data []byte
	size int64
}

// Plan is an output laid out to the byte before the first one is written.
type Plan struct {
	f        *File
	segments []segment
	Size     int64
}

func (p *Plan) add(s segment) {
	if s.size == 0 {
		return
	}
	p.Size += s.size
	// Runs that follow each other in the source become one, so that a model of a thousand tensors
	// is one long copy.
	if n := len(p.segments); n > 0 {
		if last := &p.segments[n-1]; s.part >= 0 && last.part == s.part &&
			last.off+last.size == s.off {
			last.size += s.size
			return
		}
	}
	p.segments = append(p.segments, s)
}

func (p *Plan) copy(part int, off, size int64) { p.add(segment{part: part, off: off, size: size}) }
func (p *Plan) bytes(b []byte) {
	p.add(segment{
		part: -1, data: b,
		size: int64(len(b)),
	})
}
func (p *Plan) zeros(n int64) { p.add(segment{part: -1, size: n}) }

// Lay plans the output. Tensors of an ordinary single file keep their offsets; if parts are joined,
// or a tensor in the middle goes, the data are packed again in the same order, each at a multiple
// of the alignment.
func (e *Edit) Lay() (*Plan, error) {
	offsets, end := e.offsets()
	p := &Plan{f: e.f}
	if err := e.header(p, offsets); err != nil {
		return nil, err
	}

	order := make([]int, len(e.Tensors))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return offsets[order[a]] < offsets[order[b]] })
	base := uint64(p.Size)
	at := uint64(0) // within the data section
	// from and src say what follows at in the source, so that padding is kept as well.
	from, src := 0, e.f.parts[0].data
	if len(e.f.parts) > 1 {
		from = -1
	}
	gap := func(to uint64) {
		n := int64(to - at)
		if from >= 0 {
			m := min(n, max(0, e.f.parts[from].size-src))
			p.copy(from, src, m)
			n -= m
		}
		p.zeros(n)
		at = to
	}
	for _, i := range order {
		t := &e.Tensors[i]
		gap(offsets[i])
		if t.data != nil {
			p.bytes(t.data)
			from = -1
		} else {
			q := e.f.parts[t.part]
			p.copy(t.part, q.data+int64(t.Offset), int64(t.Size))
		}
		if t.part >= 0 {
			from, src = t.part, e.f.parts[t.part].data+int64(t.Offset+t.Size)
		}
		at += t.Size
	}
	if end < at {
		return nil, fmt.Errorf("convert: %s: laid out %d bytes of data, expected %d", e.f.Path, at,
			end)
	}
	gap(end)
	if uint64(p.Size) != base+end {
		return nil, fmt.Errorf("convert: %s: planned %d bytes, expected %d", e.f.Path, p.Size,
			base+end)
	}
	return p, nil
}

// offsets places every tensor and gives the length of the data section.
func (e *Edit) offsets() ([]uint64, uint64) {
	offsets := make([]uint64, len(e.Tensors))
	kept, added := 0, false
	last := uint64(0) // end of the kept tensors
	for _, t := range e.Tensors {
		if t.part >= 0 {
			kept++
			last = max(last, t.Offset+t.Size)
		} else {
			added = true
		}
	}
	inPlace := len(e.f.parts) == 1
	if kept < len(e.f.Tensors) {
		// Offsets survive the removal of tensors only if those were the last ones.
		names := make(map[string]bool, kept)
		for _, t := range e.Tensors {
			names[t.Name] = t.part >= 0
		}
		for _, t := range e.f.Tensors {
			if !names[t.Name] && t.Offset < last {
				inPlace = false
			}
		}
	}

	end := uint64(0)
	place := func(i int) {
		end = align(end, e.f.Alignment)
		offsets[i] = end
		end += e.Tensors[i].Size
	}
	if inPlace {
		for i, t := range e.Tensors {
			if t.part >= 0 {
				offsets[i] = t.Offset
			}
		}
		end = last
	} else {
		order := make([]int, 0, kept)
		for i, t := range e.Tensors {
			if t.part >= 0 {
				order = append(order, i)
			}
		}
		sort.SliceStable(order, func(a, b int) bool {
			x, y := &e.Tensors[order[a]], &e.Tensors[order[b]]
			return x.part < y.part || x.part == y.part && x.Offset < y.Offset
		})
		for _, i := range order {
			place(i)
		}
	}
	for i, t := range e.Tensors {
		if t.part < 0 {
			place(i)
		}
	}
	switch padded := align(end, e.f.Alignment); {
	case inPlace && !added && kept == len(e.f.Tensors):
		// Nothing moved: what follows the last tensor stays too, padding or not.
		end = max(end, uint64(max(0, e.f.parts[0].size-e.f.parts[0].data)))
	case inPlace && !added && e.tail >= end && e.tail <= padded:
		end = e.tail
	default:
		end = padded
	}
	return offsets, end
}

// header plans everything before the tensor data, padded to the alignment.
func (e *Edit) header(p *Plan, offsets []uint64) error {
	var b []byte
	order := e.f.Order.(binary.AppendByteOrder)
	str := func(s string) { b = append(order.AppendUint64(b, uint64(len(s))), s...) }
	flush := func() { p.bytes(b); b = nil }

	b = append(b, "GGUF"...)
	b = order.AppendUint32(b, e.f.Version)
	b = order.AppendUint64(b, uint64(len(e.Tensors)))
	b = order.AppendUint64(b, uint64(len(e.kvs)))
	for _, kv := range e.kvs {
		str(kv.Key)
		b = order.AppendUint32(b, uint32(kv.Type))
		if kv.raw == nil && kv.size > 0 {
			flush()
			p.copy(kv.part, kv.off, kv.size)
			continue
		}
		b = append(b, kv.raw...)
	}
	for i, t := range e.Tensors {
		str(t.Name)
		b = order.AppendUint32(b, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = order.AppendUint64(b, d)
		}
		b = order.AppendUint32(b, uint32(t.Type))
		b = order.AppendUint64(b, offsets[i])
	}
	flush()
	if len(e.kvs) > maxKeys || len(e.Tensors) > MaxTensors {
		return fmt.Errorf("%s: %w: no room for the ladder's keys and tensors", e.f.Path,
			ErrTooLarge)
	}
	q := e.f.parts[0]
	same := len(e.f.parts) == 1 && p.Size == q.head // then the padding's bytes are kept too
	switch pad := int64(align(uint64(p.Size), e.f.Alignment)) - p.Size; {
	case len(e.Tensors) == 0 && len(e.f.parts) == 1 && q.size < q.data:
		// A file of metadata only may end without padding; it is left as it was.
		p.copy(0, q.head, q.size-q.head)
	case same:
		p.copy(0, q.head, pad)
	default:
		p.zeros(pad)
	}
	return nil
}

// reader gives the planned output as a stream; the fast way is plan.write.
func (p *Plan) reader() io.Reader {
	rs := make([]io.Reader, len(p.segments))
	for i, s := range p.segments {
		switch {
		case s.part >= 0:
			rs[i] = io.NewSectionReader(p.f.parts[s.part].src, s.off, s.size)
		case s.data != nil:
			rs[i] = bytes.NewReader(s.data)
		default:
			rs[i] = io.LimitReader(zeroReader{}, s.size)
		}
	}
	return io.MultiReader(rs...)
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// Change is one key or tensor that a conversion changed.
type Change struct {
	Key string `json:"key"`
	Old string `json:"old,omitempty"` // empty: it was not there
	New string `json:"new,omitempty"` // empty: it is gone
}

// Changes compares the edit with the file.
func (e *Edit) Changes() []Change {
	var cs []Change
	f := e.View()
	for _, old := range e.f.KVs {
		i := e.index(old.Key)
		switch {
		case i < 0:
			cs = append(cs, Change{Key: old.Key, Old: e.f.show(&old)})
		case !same(&old, &e.kvs[i]):
			cs = append(cs, Change{Key: old.Key, Old: e.f.show(&old), New: f.show(&e.kvs[i])})
		}
	}
	for _, kv := range e.kvs {
		if _, ok := e.f.Lookup(kv.Key); !ok {
			cs = append(cs, Change{Key: kv.Key, New: f.show(&kv)})
		}
	}
	describe := func(t *Tensor) string { return fmt.Sprintf("%s %v", t.Type, t.Dims) }
	for _, old := range e.f.Tensors {
		switch i := e.tensorIndex(old.Name); {
		case i < 0:
			cs = append(cs, Change{Key: old.Name, Old: describe(&old)})
		case e.Tensors[i].data != nil:
			cs = append(cs, Change{
				Key: old.Name, Old: describe(&old),
				New: describe(&e.Tensors[i]),
			})
		}
	}
	for _, t := range e.Tensors {
		if _, ok := e.f.Tensor(t.Name); !ok {
			cs = append(cs, Change{Key: t.Name, New: describe(&t)})
		}
	}
	return cs
}

func readFull(p *Plan, b []byte) (int, error) { return io.ReadFull(p.reader(), b) }
