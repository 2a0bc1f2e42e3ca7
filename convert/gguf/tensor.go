package gguf

import (
	"fmt"
	"math/bits"
	"sort"
)

// tensor reads one tensor's entry.
func (d *decoder) tensor(seen map[string]struct{}) error {
	d.key = fmt.Sprintf("tensor %d", len(d.p.tensors)+1)
	name, err := d.name(MaxNameLength)
	if err != nil {
		return err
	}
	if name == "" {
		return d.fail(ErrKey, "a tensor without a name")
	}
	d.key = name
	if _, twice := seen[name]; twice {
		return d.fail(ErrDuplicate, "")
	}
	seen[name] = struct{}{}

	nDims, err := d.u32()
	if err != nil {
		return err
	}
	if nDims > 4 {
		return d.fail(ErrDimensions, "%d dimensions, 4 is the most", nDims)
	}
	t := Tensor{Name: name, Dims: make([]uint64, nDims)}
	elements := uint64(1)
	for i := range t.Dims {
		if t.Dims[i], err = d.u64(); err != nil {
			return err
		}
		hi, lo := bits.Mul64(elements, t.Dims[i])
		if t.Dims[i] == 0 || hi != 0 || lo > 1<<60 {
			return d.fail(ErrDimensions, "dimension %d is %d", i, t.Dims[i])
		}
		elements = lo
	}
	kind, err := d.u32()
	if err != nil {
		return err
	}
	if kind > maxTensorType {
		return d.fail(ErrTensorType, "%d", kind)
	}
	t.Type = TensorType(kind)
	if l, ok := tensorTypes[t.Type]; ok {
		if (nDims > 0 && t.Dims[0]%l.block != 0) || (nDims == 0 && l.block > 1) {
			return d.fail(ErrDimensions, "rows of %s are made of blocks of %d elements", l.name,
				l.block)
		}
		hi, lo := bits.Mul64(elements/l.block, l.size)
		if hi != 0 {
			return d.fail(ErrDimensions, "%d elements", elements)
		}
		t.Size = lo
	}
	if t.Offset, err = d.u64(); err != nil {
		return err
	}
	if t.Offset%d.p.align != 0 {
		return d.fail(ErrOffset, "%d is not a multiple of the alignment %d", t.Offset, d.p.align)
	}
	d.p.tensors = append(d.p.tensors, t)
	return nil
}

// checkTensors compares the tensors' extents with the file and with each other.
func (d *decoder) checkTensors() error {
	ts := d.p.tensors
	if len(ts) == 0 {
		return nil
	}
	if d.p.data > d.p.size {
		return d.fail(ErrTruncated, "the tensor data should start at byte %d of %d", d.p.data,
			d.p.size)
	}
	space := uint64(d.p.size - d.p.data)
	order := byOffset(ts)
	for i, j := range order {
		t := &ts[j]
		d.key = t.Name
		end := space
		if i+1 < len(order) {
			end = ts[order[i+1]].Offset
		}
		if t.Offset > space {
			return d.fail(ErrOffset,
				"%d is past the end: the file holds %d bytes of tensor data; it is damaged or was "+
					"not downloaded completely", t.Offset, space)
		}
		if _, known := tensorTypes[t.Type]; !known {
			if end < t.Offset || (i+1 < len(order) && end == t.Offset) {
				return d.fail(ErrOverlap, "with %q", Clip(ts[order[i+1]].Name))
			}
			t.Size = min(end, space) - t.Offset
			continue
		}
		if t.Size > space-t.Offset {
			return d.fail(ErrTruncated,
				"its data end at byte %d of %d of tensor data; the file is damaged or was not "+
					"downloaded completely", t.Offset+t.Size, space)
		}
		if i+1 < len(order) && t.Offset+t.Size > end {
			return d.fail(ErrOverlap, "with %q", Clip(ts[order[i+1]].Name))
		}
	}
	return nil
}

// byOffset gives the indices of ts in the order of their data.
func byOffset(ts []Tensor) []int {
	order := make([]int, len(ts))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order,
		func(a, b int) bool { return ts[order[a]].Offset < ts[order[b]].Offset })
	return order
}

// align rounds n up to a multiple of a, a power of two.
func align(n, a uint64) uint64 { return (n + a - 1) &^ (a - 1) }
