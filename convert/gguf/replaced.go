package gguf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNoLadder: Strip of a file that carries no ladder, or none that this package put there.
var ErrNoLadder = errors.New("no ladder to take out")

// replaced is what a conversion took away, so that Strip can give it back: the value of the key
// ARCH.rope.longrope.replaced, JSON. Bytes are in the file's byte order.
type replaced struct {
	Version int `json:"version"`
	// Keys had these values. A key that was removed returns to its Index.
	Keys []replacedKey `json:"keys,omitempty"`
	// Added are keys that were not there, in addition to ARCH.rope.longrope.*.
	Added []string `json:"added,omitempty"`
	// Tensors had these data; all are F32 vectors.
	Tensors []replacedTensor `json:"tensors,omitempty"`
	// AddedTensors were not there.
	AddedTensors []string `json:"added_tensors,omitempty"`
	// Tail is the length of the data section, if its last tensor was not padded in full.
	Tail uint64 `json:"tail,omitempty"`
}

type replacedKey struct {
	Key   string    `json:"key"`
	Type  ValueType `json:"type"`
	Elem  ValueType `json:"elem,omitempty"`
	Len   uint64    `json:"len,omitempty"`
	Raw   []byte    `json:"raw"`
	Index *int      `json:"index,omitempty"` // nil: the key is still there, with another value
}

type replacedTensor struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Record compares the header before and after, and puts what is needed to go back into the edit.
func (e *Edit) Record(before *Edit, arch string) error {
	r := replaced{Version: 1}
	f := before.View()
	for i, old := range before.kvs {
		j := e.index(old.Key)
		// row 0 of the model: undo removes all such keys first
		row := strings.HasPrefix(old.Key, LadderKey(arch, ""))
		if !row && j >= 0 && same(&old, &e.kvs[j]) {
			continue
		}
		raw, err := f.BytesOf(&old)
		if err != nil {
			return err
		}
		k := replacedKey{Key: old.Key, Type: old.Type, Elem: old.Elem, Len: old.Len, Raw: raw}
		if row || j < 0 {
			k.Index = &i
		}
		r.Keys = append(r.Keys, k)
	}
	for _, kv := range e.kvs {
		if before.index(kv.Key) < 0 && !strings.HasPrefix(kv.Key, LadderKey(arch, "")) {
			r.Added = append(r.Added, kv.Key)
		}
	}
	added := false
	for _, t := range e.Tensors {
		if before.tensorIndex(t.Name) < 0 {
			r.AddedTensors = append(r.AddedTensors, t.Name)
			added = true
		}
	}
	for _, old := range before.Tensors {
		i := e.tensorIndex(old.Name)
		if i >= 0 && e.Tensors[i].data == nil {
			continue
		}
		data, err := e.f.TensorBytes(&old)
		if err != nil {
			return err
		}
		if i >= 0 && bytes.Equal(e.Tensors[i].data, data) {
			continue
		}
		r.Tensors = append(r.Tensors, replacedTensor{old.Name, data})
	}
	if added && len(e.f.parts) == 1 {
		if r.Tail = before.tail; r.Tail == 0 {
			q := e.f.parts[0]
			r.Tail = uint64(max(0, q.size-q.data))
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	e.Set(LadderKey(arch, "replaced"), string(b))
	return nil
}

func same(a, b *KV) bool {
	if a.raw == nil || b.raw == nil { // in the file: only an unchanged value is
		return a.part == b.part && a.off == b.off && a.size == b.size
	}
	return a.Type == b.Type && bytes.Equal(a.raw, b.raw)
}

// Undo takes a ladder out of the edit. It reports false when the file does not say what it was like
// before; then the ladder's keys are gone and all else is as it was.
func (e *Edit) Undo(arch string) (bool, error) {
	key := LadderKey(arch, "replaced")
	text, ok, err := e.f.String(key)
	if err != nil {
		return false, err
	}
	e.kvs = slices.DeleteFunc(e.kvs, func(kv KV) bool {
		return strings.HasPrefix(kv.Key,
			LadderKey(arch, ""))
	})
	if !ok {
		return false, nil
	}
	var r replaced
	fail := func(format string, args ...any) (bool, error) {
		return false, fmt.Errorf("%s: %s: %s; convert the original model again", e.f.Path, key,
			fmt.Sprintf(format, args...))
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return fail("%v", err)
	}
	if r.Version != 1 {
		return fail("version %d, this program reads version 1", r.Version)
	}
	// A conversion touches the architecture's keys and the tensors of factors, so a record has no
	// say over others.
	foreign := func(key string) bool { return !strings.HasPrefix(key, arch+".") }
	for _, key := range r.Added {
		if foreign(key) {
			return fail("it names %q", Clip(key))
		}
	}
	e.Remove(r.Added...)
	for _, k := range r.Keys {
		if foreign(k.Key) {
			return fail("it names %q", Clip(k.Key))
		}
		kv := KV{
			Key: k.Key, Type: k.Type, Elem: k.Elem, Len: k.Len, raw: k.Raw,
			size: int64(len(k.Raw)),
		}
		if err := check(&kv, e.f); err != nil {
			return fail("the old value of %q cannot be: %v", Clip(k.Key), err)
		}
		i := e.index(k.Key)
		switch {
		case k.Index == nil && i >= 0:
			e.kvs[i] = kv
		case k.Index != nil && i < 0 && *k.Index >= 0 && *k.Index <= len(e.kvs):
			e.kvs = slices.Insert(e.kvs, *k.Index, kv)
		default:
			return fail("the key %q is not where it should be", Clip(k.Key))
		}
	}
	factors := []string{TensorRopeFreqs, TensorRopeLong, TensorRopeShort}
	for _, name := range r.AddedTensors {
		if !slices.Contains(factors, name) {
			return fail("it names the tensor %q", Clip(name))
		}
		e.removeTensor(name)
	}
	for _, t := range r.Tensors {
		if len(t.Data) == 0 || len(t.Data)%4 != 0 || !slices.Contains(factors, t.Name) {
			return fail("tensor %q of %d bytes", Clip(t.Name), len(t.Data))
		}
		e.setTensor(t.Name, t.Data)
	}
	e.tail = r.Tail
	return true, nil
}

// check decodes a recorded value on its own, so that a damaged record cannot make a damaged file.
func check(kv *KV, f *File) error {
	fx := NewEdit(&File{
		Path: "record", Version: 3, Order: f.Order, Alignment: 32,
		parts: []*part{{}},
	})
	fx.kvs = []KV{*kv}
	p, err := fx.Lay()
	if err != nil {
		return err
	}
	b := make([]byte, p.Size)
	if _, err := readFull(p, b); err != nil {
		return err
	}
	q, err := decode(bytes.NewReader(b), p.Size, "record")
	if err != nil {
		return err
	}
	kv.Elem, kv.Len = q.kvs[0].Elem, q.kvs[0].Len
	if q.kvs[0].size != kv.size {
		return errors.New("bytes are left over")
	}
	return nil
}
