package gosession

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/ollama/ollama/kvcache"
	"github.com/ollama/ollama/ml"
)

// Keys are a sequence's cached keys of a layer by position, each with the heads one after the
// other; quantised ones are given as what they stand for.
func (s *Session) Keys(seq, layer int) (map[int][]float32, error) {
	for _, c := range causals(reflect.ValueOf(s.cache)) {
		stored := field[map[int]ml.Tensor](c, "keys")
		key := stored[layer]
		if key == nil {
			continue
		}
		ctx := s.model.Backend().NewContext()
		defer ctx.Close()
		all := key.Cast(ctx, ml.DTypeF32)
		ctx.Forward(all).Compute(all)
		data, width := all.Floats(), key.Dim(0)*key.Dim(1)

		keys := map[int][]float32{}
		cells := c.Elem().FieldByName("cells")
		for i := range cells.Len() {
			cell := cells.Index(i)
			if slices.Contains(field[[]int](cell.Addr(), "sequences"), seq) {
				keys[int(cell.FieldByName("pos").Int())] = data[i*width : (i+1)*width]
			}
		}
		return keys, nil
	}
	return nil, fmt.Errorf("gosession: no keys of layer %d in a cache of type %T", layer, s.cache)
}

// causals are the key caches inside of a cache, whose fields the host keeps to itself.
func causals(c reflect.Value) []reflect.Value {
	switch cache := c.Interface().(type) {
	case *kvcache.Causal:
		return []reflect.Value{c}
	case *kvcache.Recurrent:
		return []reflect.Value{reflect.ValueOf(field[*kvcache.Causal](c, "kv"))}
	case *kvcache.WrapperCache:
		var all []reflect.Value
		for _, inner := range field[[]kvcache.Cache](reflect.ValueOf(cache), "caches") {
			all = append(all, causals(reflect.ValueOf(inner))...)
		}
		return all
	case *kvcache.EncoderCache:
		return nil
	}
	// the hybrid caches of models embed it
	return causals(reflect.ValueOf(field[*kvcache.Recurrent](c, "Recurrent")))
}

// field reads a field of the struct that p points to, exported or not.
func field[T any](p reflect.Value, name string) T {
	f := p.Elem().FieldByName(name)
	return *(*T)(unsafe.Pointer(f.UnsafeAddr()))
}
