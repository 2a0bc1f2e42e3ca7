// Package kernel runs ggml's RoPE op by itself, on any device of the host, so that it can be measured against an oracle.
//
// It is what ggml's test-backend-ops does for this op; the host's source does not ship that program. The package uses
// nothing of the patches, so it builds against the unpatched host as well.
package kernel

/*
#cgo CPPFLAGS: -I${SRCDIR}/../../build/host/ml/backend/ggml/ggml/include
#cgo linux LDFLAGS: -lstdc++ -lm
#include "kernel.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	ggml "github.com/ollama/ollama/ml/backend/ggml/ggml/src"
)

// ErrUnsupported is returned when the device refuses the op. The scheduler then runs it on the CPU.
var ErrUnsupported = errors.New("op is not supported by the device")

// Device is a backend device of the host: a CPU variant or a GPU.
type Device struct {
	index   int
	backend C.ggml_backend_t
}

var devices = sync.OnceValue(func() []*Device {
	ggml.OnceLoad()
	var ds []*Device
	for i := range int(C.ggml_backend_dev_count()) {
		if b := C.ggml_backend_dev_init(C.ggml_backend_dev_get(C.size_t(i)), nil); b != nil {
			ds = append(ds, &Device{index: i, backend: b})
		}
	}
	return ds
})

// Devices are all devices that the host finds, OLLAMA_LIBRARY_PATH included.
func Devices() []*Device { return devices() }

// Name is the device's name and its place in the host's list: "CPU.0".
func (d *Device) Name() string {
	return fmt.Sprintf("%s.%d", C.GoString(C.ggml_backend_dev_name(C.ggml_backend_dev_get(C.size_t(d.index)))), d.index)
}

// CPU says whether the device is the processor, which must support every case.
func (d *Device) CPU() bool {
	return C.ggml_backend_dev_type(C.ggml_backend_dev_get(C.size_t(d.index))) == C.GGML_BACKEND_DEVICE_TYPE_CPU
}

// Graph is one op with its tensors on a device. Free it.
type Graph struct {
	c Case
	g *C.kernel_graph
}

// NewGraph puts a case on the device and fills its inputs. x is what Case.Input gives. The error is ErrUnsupported when
// the device refuses the op.
func (d *Device) NewGraph(c Case, x []float32) (*Graph, error) {
	if len(x) != c.InputLen() || len(c.Positions) != c.planes()*c.Tokens {
		return nil, fmt.Errorf("kernel: %d values and %d positions for %v", len(x), len(c.Positions), c)
	}
	p := C.kernel_params{
		mode: C.int(c.Mode), f16: C.bool(c.F16), back: C.bool(c.Back), in_place: C.bool(c.InPlace), view: C.int(c.View),
		n_dims: C.int(c.Dims), head_dim: C.int(c.HeadDim), n_heads: C.int(c.Heads), n_tokens: C.int(c.Tokens),
		n_batch: C.int(c.Batch), n_pos: C.int(len(c.Positions)),
		freq_base: C.float(c.FreqBase), freq_scale: C.float(c.FreqScale), ext_factor: C.float(c.ExtFactor),
		attn_factor: C.float(c.AttnFactor), beta_fast: 32, beta_slow: 1, n_ctx_orig: C.int(c.Original),
	}
	for i, s := range c.Sections {
		p.sections[i] = C.int(s)
	}
	var factors []float32
	for _, row := range c.Factors {
		factors = append(factors, row...)
		p.n_cols = C.int(len(row))
	}
	p.n_rows = C.int(len(c.Factors))
	C.kernel_set_threads(d.backend, C.int(c.Threads))
	g := C.kernel_new(d.backend, p, (*C.float)(unsafe.Pointer(&x[0])), (*C.int32_t)(unsafe.Pointer(&c.Positions[0])),
		(*C.float)(unsafe.Pointer(unsafe.SliceData(factors))))
	if g == nil {
		return nil, ErrUnsupported
	}
	return &Graph{c, g}, nil
}

// Compute runs the op n times.
func (g *Graph) Compute(n int) error {
	for range n {
		if s := C.kernel_compute(g.g); s != 0 {
			return fmt.Errorf("kernel: compute failed with status %d: %v", int(s), g.c)
		}
	}
	return nil
}

// Output is the op's result as float32: laid out as the input when the case is in place, else contiguous
// [batch][token][head][element].
func (g *Graph) Output() []float32 {
	n := g.c.InputLen()
	if !g.c.InPlace {
		n = g.c.Batch * g.c.Tokens * g.c.Heads * g.c.HeadDim
	}
	out := make([]float32, n)
	C.kernel_output(g.g, (*C.float)(unsafe.Pointer(&out[0])), C.size_t(n))
	return out
}

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
