// Package session runs a model through the C interface of the host's llama.cpp engine, where tests
// need what the host's Go binding keeps to itself: caches in float32, the bytes of cached keys,
// several sequences in one batch.
//
// All but ladder.go is on what the unpatched host has too; built with the tag stock, the package
// needs no patch.
package session

/*
#cgo CPPFLAGS: -I${SRCDIR}/../../build/host/llama/llama.cpp/include
#cgo CPPFLAGS: -I${SRCDIR}/../../build/host/ml/backend/ggml/ggml/include
#cgo linux LDFLAGS: -lstdc++ -lm
#include <stdlib.h>
#include "session.h"
*/
import "C"

import (
	"fmt"
	"strings"
	"sync"
	"unsafe"

	_ "github.com/ollama/ollama/llama/llama.cpp/src"
	ggml "github.com/ollama/ollama/ml/backend/ggml/ggml/src"
)

// Options of a session. The zero value is one sequence of 512 tokens with caches in float32, on one
// thread.
type Options struct {
	// Context is the number of tokens that each sequence can have; 0 is 512.
	Context int
	// Batch is the largest number of tokens that the engine computes at once; 0 is 512.
	Batch int
	// Sequences is how many there are; 0 is 1.
	Sequences int
	// Keys is the type of cached keys: "f32" (the default), "f16" or "q8_0".
	Keys string
	// Flash computes attention as one op, with values in float16; else it is three ops and values
	// have the type of keys, float16 if that is quantised.
	Flash bool
	// Threads is the number of CPU threads; 0 is 1.
	Threads int
	// GPULayers is how many layers, from the last, go to the GPUs that the host finds; 0 is none.
	GPULayers int
	// Unified has all sequences in one stream of cells, where copies share them; else each has its
	// own.
	Unified bool
	// FreqScale is what RoPE multiplies angles by, in layers that are not local; 0 is the model's
	// own.
	FreqScale float32
	// Hidden makes Logits return the last hidden states, which is all that an encoder has.
	Hidden bool
	// Watch computes node by node and records the RoPE and attention nodes, for Watched.
	Watch bool
}

// Session is a loaded model with a context. Close it. It is not safe for concurrent use.
type Session struct {
	c      *C.session
	vocab  int
	hidden bool
}

// Token is one entry of a batch.
type Token struct {
	ID, Pos, Seq int
	Logits       bool // whether its logits are wanted
	Shared       bool // whether it is in sequence Seq+1 too
}

var start = sync.OnceFunc(func() {
	ggml.OnceLoad()
	C.session_start()
})

// Open loads a GGUF.
func Open(path string, o Options) (*Session, error) {
	start()
	or := func(v, d int) C.int {
		if v == 0 {
			v = d
		}
		return C.int(v)
	}
	types := map[string]C.enum_ggml_type{
		"":     C.GGML_TYPE_F32,
		"f32":  C.GGML_TYPE_F32,
		"f16":  C.GGML_TYPE_F16,
		"q8_0": C.GGML_TYPE_Q8_0,
	}
	keys, ok := types[o.Keys]
	if !ok {
		return nil, fmt.Errorf("session: unknown type of keys %q", o.Keys)
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	c := C.session_open(
		cpath,
		or(o.Context, 512),
		or(o.Batch, 512),
		or(o.Sequences, 1),
		or(o.Threads, 1),
		C.int(o.GPULayers),
		keys,
		C.bool(o.Flash),
		C.bool(o.Unified),
		C.session_extra{
			freq_scale: C.float(o.FreqScale),
			hidden:     C.bool(o.Hidden),
			watch:      C.bool(o.Watch),
		},
	)
	if c == nil {
		return nil, fmt.Errorf("session: the engine cannot load %s: %s", path,
			strings.TrimSpace(C.GoString(C.session_error())))
	}
	return &Session{c, int(C.session_vocab(c)), o.Hidden}, nil
}

// Close frees the model and its context.
func (s *Session) Close() { C.session_close(s.c) }

// Vocab is the number of tokens that the model knows.
func (s *Session) Vocab() int { return s.vocab }

// Decode computes a batch.
func (s *Session) Decode(batch ...Token) error {
	b := C.llama_batch_init(C.int(len(batch)), 0, 2)
	defer C.llama_batch_free(b)
	for _, t := range batch {
		other := -1
		if t.Shared {
			other = t.Seq + 1
		}
		C.session_add(&b, C.int(t.ID), C.int(t.Pos), C.int(t.Seq), C.int(other), C.bool(t.Logits))
	}
	if code := C.session_decode(s.c, b); code != 0 {
		return fmt.Errorf("session: decoding %d tokens failed with code %d", len(batch), int(code))
	}
	return nil
}

// DecodeImage computes a batch of embeddings in place of tokens, as an image's are, with the
// positions of M-RoPE in each plane.
func (s *Session) DecodeImage(embeddings [][]float32, at [][4]int, seq int) error {
	n := len(embeddings)
	var data []float32
	pos := make([]int32, 4*n)
	for i, e := range embeddings {
		data = append(data, e...)
		for plane, p := range at[i] {
			pos[plane*n+i] = int32(p)
		}
	}
	code := C.session_decode_embd(s.c, C.int(n), (*C.float)(unsafe.Pointer(&data[0])),
		(*C.int32_t)(unsafe.Pointer(&pos[0])), C.int(seq))
	if code != 0 {
		return fmt.Errorf("session: decoding an image of %d tokens failed with code %d", n,
			int(code))
	}
	return nil
}

// Logits of the ith entry of the last batch; nil if they were not asked for.
func (s *Session) Logits(i int) []float32 {
	n := C.int(s.vocab)
	p := (*C.float)(nil)
	if s.hidden {
		p = C.session_hidden(s.c, C.int(i), &n)
	} else {
		p = C.session_logits(s.c, C.int(i))
	}
	if p == nil {
		return nil
	}
	return floats(p, int(n))
}

// Prefill decodes tokens from position pos on in pieces of at most chunk, and returns all their
// logits.
func (s *Session) Prefill(tokens []int, seq, pos, chunk int) ([][]float32, error) {
	return Prefill(s, tokens, seq, pos, chunk)
}

// Prefill is the method of that name, for the sessions of all engines.
func Prefill(s interface {
	Decode(...Token) error
	Logits(i int) []float32
}, tokens []int, seq, pos, chunk int,
) ([][]float32, error) {
	var logits [][]float32
	for i := 0; i < len(tokens); i += chunk {
		var batch []Token
		for j := i; j < min(i+chunk, len(tokens)); j++ {
			batch = append(batch, Token{ID: tokens[j], Pos: pos + j, Seq: seq, Logits: true})
		}
		if err := s.Decode(batch...); err != nil {
			return nil, err
		}
		for j := range batch {
			logits = append(logits, s.Logits(j))
		}
	}
	return logits, nil
}

// Clear empties the cache of every sequence.
func (s *Session) Clear() { C.session_clear(s.c) }

// Remove drops a sequence's positions from p0 to below p1.
func (s *Session) Remove(seq, p0, p1 int) error {
	if !C.session_remove(s.c, C.int(seq), C.int(p0), C.int(p1)) {
		return fmt.Errorf("session: cannot remove positions %d to %d of sequence %d", p0, p1, seq)
	}
	return nil
}

// CanShift says whether the engine moves cached keys of the model.
func (s *Session) CanShift() bool { return bool(C.session_can_move(s.c)) }

// Shift is a context shift as the host's runner does it: positions keep to keep+discard of the
// sequence are removed and the later ones, up to length, move down by discard.
func (s *Session) Shift(seq, keep, discard, length int) error {
	if err := s.Remove(seq, keep, keep+discard); err != nil {
		return err
	}
	C.session_move(s.c, C.int(seq), C.int(keep+discard), C.int(length), C.int(-discard))
	return nil
}

// Keys are a sequence's cached keys of layer 0 by position, each with the heads one after the
// other; quantised ones are given as what they stand for. Shifts that are due are applied by the
// next Decode, and with a ladder here too.
func (s *Session) Keys(seq int) (map[int][]float32, error) {
	var n, width C.int
	k := C.session_keys(s.c, C.int(seq), &n, &width)
	if k == nil {
		return nil, fmt.Errorf("session: the state of sequence %d has no keys", seq)
	}
	defer C.session_keys_free(k)
	keys := make(map[int][]float32, int(n))
	pos := unsafe.Slice((*int32)(k.pos), int(n))
	data := unsafe.Slice((*float32)(k.data), int(n)*int(width))
	for i, p := range pos {
		row := make([]float32, int(width))
		copy(row, data[i*int(width):])
		keys[int(p)] = row
	}
	return keys, nil
}

// Abort makes every computation from now on fail before its first op, or no longer.
func (s *Session) Abort(abort bool) { C.session_abort(s.c, C.bool(abort)) }

// Copy gives sequence dst, which must be empty, the tokens of src. With a ladder, put dst on the
// rung of src before.
func (s *Session) Copy(src, dst int) { C.session_copy(s.c, C.int(src), C.int(dst)) }

// All stands for all sequences where one is named: the whole state of the engine.
const All = -1

// State is what the engine saves of a sequence.
func (s *Session) State(seq int) ([]byte, error) {
	b := make([]byte, C.session_state(s.c, C.int(seq), nil, 0))
	if len(b) == 0 ||
		int(C.session_state(s.c, C.int(seq), (*C.uint8_t)(&b[0]), C.size_t(len(b)))) != len(b) {
		return nil, fmt.Errorf("session: cannot save the state of sequence %d: %s", seq,
			C.GoString(C.session_error()))
	}
	return b, nil
}

// SetState gives a sequence what State saved.
func (s *Session) SetState(seq int, state []byte) error {
	if int(
		C.session_set_state(s.c, C.int(seq), (*C.uint8_t)(&state[0]), C.size_t(len(state)))) != len(
		state,
	) {
		return fmt.Errorf("session: cannot load the state of sequence %d: %s", seq,
			C.GoString(C.session_error()))
	}
	return nil
}
