package session

/*
#include <stdlib.h>
#include "ggml-backend.h"
#include "watch.h"
*/
import "C"

import (
	"math"
	"unsafe"
)

// Node is what a node of the graph computed, a RoPE or the softmax of an attention, in the order of
// computation. Attention comes after the RoPE of its queries and keys.
type Node struct {
	Name string
	// Rope says which of the two it is.
	Rope bool

	// Of a RoPE: rotated elements, mode, base, what the op scales by, and the sections of M-RoPE.
	Dims, Mode                                 int
	FreqBase, FreqScale, ExtFactor, AttnFactor float32
	Sections                                   [4]int
	// Argument and result: [tokens][heads][elements].
	Tokens, Heads, HeadDim int
	In, Out                []float32
	// Positions has one plane of Tokens numbers, four with M-RoPE, and one more where Factors is a
	// matrix.
	Positions []int32
	// Factors are nil, one vector, or the rows of a matrix.
	Factors [][]float32

	// Of an attention: Mask[query][cell] is whether the query sees the cell (nil: it sees all),
	// Keys[cell] the cached key, heads in turn.
	Mask   [][]bool
	Keys   [][]float32
	KeyDim int // elements of a head of the keys
}

// Watched gives what was computed since the last call. The session must have been opened with
// Options.Watch.
func (s *Session) Watched() []Node { return watched(s.c.watch) }

// Watch records the RoPE and attention nodes of a scheduler that another engine has. Close it after
// the engine.
type Watch struct{ w *C.session_watch }

// NewWatch has a scheduler, a ggml_backend_sched_t on the CPU, compute node by node.
func NewWatch(sched unsafe.Pointer) *Watch {
	w := (*C.session_watch)(C.calloc(1, C.sizeof_session_watch))
	C.ggml_backend_sched_set_eval_callback(C.ggml_backend_sched_t(sched),
		C.ggml_backend_sched_eval_callback(C.session_watch_eval), unsafe.Pointer(w))
	return &Watch{w}
}

// Nodes gives what was computed since the last call.
func (w *Watch) Nodes() []Node { return watched(w.w) }

// Close frees what was recorded.
func (w *Watch) Close() {
	C.session_watch_reset(w.w)
	C.free(unsafe.Pointer(w.w))
}

func watched(w *C.session_watch) []Node {
	nodes := make([]Node, 0, w.n)
	for _, c := range unsafe.Slice(w.nodes, w.n) {
		n := Node{Name: C.GoString(&c.name[0]), Rope: bool(c.rope)}
		if n.Rope {
			n.rope(&c)
		} else {
			n.attention(&c)
		}
		nodes = append(nodes, n)
	}
	C.session_watch_reset(w)
	return nodes
}

func (n *Node) rope(c *C.session_node) {
	f := func(i int) float32 { return math.Float32frombits(uint32(c.params[i])) }
	n.Dims, n.Mode = int(c.params[1]), int(c.params[2])
	n.FreqBase, n.FreqScale, n.ExtFactor, n.AttnFactor = f(5), f(6), f(7), f(8)
	for i := range n.Sections {
		n.Sections[i] = int(c.params[11+i])
	}
	n.HeadDim, n.Heads, n.Tokens = int(c.ne[0]), int(c.ne[1]), int(c.ne[2]*c.ne[3])
	n.In = floats(c.in, n.HeadDim*n.Heads*n.Tokens)
	n.Out = floats(c.out, len(n.In))
	n.Positions = append([]int32(nil), unsafe.Slice((*int32)(c.pos), int(c.n_pos))...)
	n.Factors = rows(c.factors, c.f_ne)
}

func (n *Node) attention(c *C.session_node) {
	for _, row := range rows(c.mask, c.m_ne) {
		seen := make([]bool, len(row))
		for i, x := range row {
			seen[i] = !math.IsInf(float64(x), -1)
		}
		n.Mask = append(n.Mask, seen)
	}
	n.KeyDim = int(c.k_ne[0])
	cells, heads := int(c.k_ne[1]), int(c.k_ne[2])
	all := floats(c.keys, n.KeyDim*cells*heads)
	for cell := range cells {
		var key []float32
		for h := range heads {
			key = append(key, all[(h*cells+cell)*n.KeyDim:][:n.KeyDim]...)
		}
		n.Keys = append(n.Keys, key)
	}
}

func floats(p *C.float, n int) []float32 {
	return append([]float32(nil), unsafe.Slice((*float32)(p), n)...)
}

func rows(p *C.float, ne [2]C.int64_t) (m [][]float32) {
	all := floats(p, int(ne[0]*ne[1]))
	for i := range int(ne[1]) {
		m = append(m, all[i*int(ne[0]):][:ne[0]])
	}
	return m
}
