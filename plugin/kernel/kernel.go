// Package kernel runs ggml's RoPE op by itself, on any device of the host, so that it can be
// measured against an oracle: by "ollama longrope doctor" on the machine of a user, and by tests.
//
// It is what ggml's test-backend-ops does for this op; the host's source does not ship that
// program. With the tag stock the package uses nothing of the patches: it builds against the
// unpatched host, and cases with rows end the program.
package kernel

/*
#cgo CPPFLAGS: -I${SRCDIR}/../../build/host/ml/backend/ggml/ggml/include
#cgo linux LDFLAGS: -lstdc++ -lm -ldl
#include <stdlib.h>
#include "kernel.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"

	ggml "github.com/ollama/ollama/ml/backend/ggml/ggml/src"
)

// ErrUnsupported is returned when the device refuses the op. The scheduler then runs it on the CPU.
var ErrUnsupported = errors.New("op is not supported by the device")

// CPULibrary is the file of the CPU backend that this process has loaded, the fastest that the
// processor can run. It is empty where there is none: then the code that is compiled in is used,
// slower by ten times and more. It is empty too on systems other than Linux.
func CPULibrary() string {
	ggml.OnceLoad()
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(maps)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), "/"); ok &&
			strings.Contains(path, "ggml-cpu") {
			return "/" + path
		}
	}
	return ""
}

// Device is a backend device of the host: a CPU variant or a GPU.
type Device struct {
	name    string
	dev     C.ggml_backend_dev_t
	backend C.ggml_backend_t
}

var devices = sync.OnceValue(func() []*Device {
	ggml.OnceLoad()
	var ds []*Device
	for i := range int(C.ggml_backend_dev_count()) {
		dev := C.ggml_backend_dev_get(C.size_t(i))
		name := C.GoString(C.ggml_backend_dev_name(dev))
		if d := start(dev, fmt.Sprintf("%s.%d", name, i)); d != nil {
			ds = append(ds, d)
		}
	}
	return ds
})

func start(dev C.ggml_backend_dev_t, name string) *Device {
	b := C.ggml_backend_dev_init(dev, nil)
	if b == nil {
		return nil
	}
	return &Device{name, dev, b}
}

// Devices are all devices that the host finds, OLLAMA_LIBRARY_PATH included.
func Devices() []*Device { return devices() }

// Open loads a backend library for its devices alone: the host's list does not get them, so that
// models do not run there.
func Open(path string) ([]*Device, error) {
	ggml.OnceLoad()
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var devs [16]C.ggml_backend_dev_t
	var ds []*Device
	for i := range int(C.kernel_open(cpath, &devs[0], C.int(len(devs)))) {
		if d := start(devs[i], C.GoString(C.ggml_backend_dev_name(devs[i]))); d != nil {
			ds = append(ds, d)
		}
	}
	if len(ds) == 0 {
		return nil, fmt.Errorf("%s: no backend library, or one without a device", path)
	}
	return ds, nil
}

// Name is the device's name, with its place in the host's list if it is there: "CPU.0".
func (d *Device) Name() string { return d.name }

// Description is the device's own: the model of a GPU.
func (d *Device) Description() string { return C.GoString(C.ggml_backend_dev_description(d.dev)) }

// Memory is what is free on the device and what it has, in bytes; 0 where it does not say.
func (d *Device) Memory() (free, total uint64) {
	var f, t C.size_t
	C.ggml_backend_dev_memory(d.dev, &f, &t)
	return uint64(f), uint64(t)
}

// CPU says whether the device is the processor, which must support every case.
func (d *Device) CPU() bool {
	return C.ggml_backend_dev_type(d.dev) == C.GGML_BACKEND_DEVICE_TYPE_CPU
}

// Graph is one op with its tensors on a device. Free it.
type Graph struct {
	c Case
	g *C.kernel_graph
}

// NewGraph puts a case on the device and fills its inputs. x is what Case.Input gives. The error is
// ErrUnsupported when the device refuses the op.
func (d *Device) NewGraph(c Case, x []float32) (*Graph, error) {
	if len(x) != c.InputLen() || len(c.Positions) != c.planes()*c.Tokens {
		return nil, fmt.Errorf("kernel: %d values and %d positions for %v", len(x),
			len(c.Positions), c)
	}
	p, factors := c.params()
	cells := make([]int64, c.Tokens)
	for t := range cells {
		cells[t] = int64(c.Cell(t))
	}
	C.kernel_set_threads(d.backend, C.int(c.Threads))
	g := C.kernel_new(d.backend, p, (*C.float)(unsafe.Pointer(&x[0])),
		(*C.int32_t)(unsafe.Pointer(&c.Positions[0])),
		(*C.float)(unsafe.Pointer(unsafe.SliceData(factors))),
		(*C.int64_t)(unsafe.Pointer(&cells[0])))
	if g == nil {
		return nil, ErrUnsupported
	}
	return &Graph{c, g}, nil
}

// params is the case as C has it, and its factors row by row.
func (c Case) params() (p C.kernel_params, factors []float32) {
	p = C.kernel_params{
		mode: C.int(c.Mode), f16: C.bool(c.F16), back: C.bool(c.Back), in_place: C.bool(c.InPlace),
		view:   C.int(c.View),
		n_dims: C.int(c.Dims), head_dim: C.int(c.HeadDim), n_heads: C.int(c.Heads),
		n_tokens: C.int(c.Tokens),
		n_batch:  C.int(c.Batch), n_pos: C.int(len(c.Positions)), n_cells: C.int(c.Cells()),
		n_ops:     C.int(max(c.Ops, 1)),
		cache_f16: C.bool(c.CacheF16), norm: C.bool(c.Norm), rows: C.bool(c.Rows),
		guard:     C.bool(c.Guard),
		freq_base: C.float(c.FreqBase), freq_scale: C.float(c.FreqScale),
		ext_factor:  C.float(c.ExtFactor),
		attn_factor: C.float(c.AttnFactor), beta_fast: 32, beta_slow: 1,
		n_ctx_orig: C.int(c.Original),
	}
	for i, s := range c.Sections {
		p.sections[i] = C.int(s)
	}
	for _, row := range c.Factors {
		factors = append(factors, row...)
		p.n_cols = C.int(len(row))
	}
	p.n_rows = C.int(len(c.Factors))
	return p, factors
}

// Backward is the op that ggml's backward pass makes of a case's op.
type Backward struct {
	SamePositions, SameFactors bool      // it takes those of the op
	Params, Back               [16]int32 // op_params of the op, and of the backward one
}

// BackwardOf is what ggml's backward pass makes of a case, which may have no tokens. Nothing is
// computed. An error if it makes no RoPE of it.
func BackwardOf(c Case) (b Backward, err error) {
	p, _ := c.params()
	r := C.kernel_backward_of(p)
	if !r.found {
		return b, fmt.Errorf("kernel: the backward pass has no RoPE: %v", c)
	}
	b.SamePositions, b.SameFactors = bool(r.same_pos), bool(r.same_factors)
	for i := range b.Params {
		b.Params[i], b.Back[i] = int32(r.params[i]), int32(r.back[i])
	}
	return b, nil
}

// Compute runs the graph n times.
func (g *Graph) Compute(n int) error {
	for range n {
		if s := C.kernel_compute(g.g); s != 0 {
			return fmt.Errorf("kernel: compute failed with status %d: %v", int(s), g.c)
		}
	}
	return nil
}

// Output is the op's result as float32: laid out as the input when the case is in place, as the
// cache when it is stored there, else contiguous [batch][token][head][element].
func (g *Graph) Output() []float32 {
	out := make([]float32, g.c.OutputLen())
	C.kernel_output(g.g, (*C.float)(unsafe.Pointer(&out[0])), C.size_t(len(out)))
	return out
}

// Fused says whether the device computed as one what the case names apart: the op and the store of
// its result in the cache, or the norm before it and the op. Values between them are then never
// written.
func (g *Graph) Fused() bool { return bool(C.kernel_fused(g.g)) }

// Free gives back what the graph holds.
func (g *Graph) Free() { C.kernel_free(g.g) }

// Run computes a case once.
func (d *Device) Run(c Case, x []float32) ([]float32, error) {
	g, err := d.NewGraph(c, x)
	if err != nil {
		return nil, err
	}
	defer g.Free()
	if err := g.Compute(1); err != nil {
		return nil, err
	}
	return g.Output(), nil
}
