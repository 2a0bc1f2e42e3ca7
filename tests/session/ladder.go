//go:build !stock

package session

/*
#cgo CPPFLAGS: -I${SRCDIR}/../../build/host/llama/llama.cpp/src
#cgo CXXFLAGS: -std=c++17
#include <stdlib.h>
#include "llama-longrope.h"
#include "session.h"

bool session_rename(session * s, const char * from, const char * to);
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/longrope/longrope/ropescale"
)

// SetLadder replaces the factors; nil restores the model's own. It clears the cache.
func (s *Session) SetLadder(l *ropescale.Ladder) error {
	if l == nil {
		if C.llama_longrope_set(s.c.ctx, nil, nil, nil, 0, 0) != 0 {
			return s.refused()
		}
		return nil
	}
	rows, windows := l.Rows()
	var data []float32
	var lengths []int32
	for r, row := range rows {
		data = append(data, row...)
		lengths = append(lengths, int32(l.At(r).Length))
	}
	if C.llama_longrope_set(s.c.ctx, (*C.float)(unsafe.Pointer(&data[0])),
		(*C.int32_t)(unsafe.Pointer(&lengths[0])), (*C.int32_t)(unsafe.Pointer(&windows[0])),
		C.int32_t(len(rows)), C.int32_t(len(rows[0]))) != 0 {
		return s.refused()
	}
	return nil
}

func (s *Session) refused() error {
	return fmt.Errorf("session: %s", C.GoString(C.llama_longrope_error(s.c.ctx)))
}

// Rename gives a tensor of the model another name, which graphs that are built later see. The
// tensor is the one that the file has under a name.
func (s *Session) Rename(from, to string) error {
	f, t := C.CString(from), C.CString(to)
	defer C.free(unsafe.Pointer(f))
	defer C.free(unsafe.Pointer(t))
	if !C.session_rename(s.c, f, t) {
		return fmt.Errorf("session: the model has no tensor %s", from)
	}
	return nil
}

// SetRung puts a sequence on a rung; cached keys that it has are rotated to it. That can fail, with
// no keys it cannot.
func (s *Session) SetRung(seq, rung int) error {
	if C.llama_longrope_set_rung(s.c.ctx, C.llama_seq_id(seq), C.int32_t(rung)) != 0 {
		return fmt.Errorf("session: the cached keys of sequence %d cannot be rotated to rung %d",
			seq, rung)
	}
	return nil
}

// Rung is the rung of a sequence.
func (s *Session) Rung(seq int) int {
	return int(C.llama_longrope_get_rung(s.c.ctx, C.llama_seq_id(seq)))
}

// RungFor is the rung that the engine gives to a sequence of n tokens.
func (s *Session) RungFor(
	n int,
) int {
	return int(C.llama_longrope_rung_for(s.c.ctx, C.int32_t(n)))
}
