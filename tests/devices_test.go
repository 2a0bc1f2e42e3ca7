package tests

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/kernel"
	"github.com/longrope/longrope/tests/cudashim"
	"github.com/longrope/longrope/tests/strict"
)

// shim is the backend that runs the CUDA kernels on the CPU.
var shim = sync.OnceValues(func() (string, error) {
	libs, err := filepath.Abs("../build/lib/ollama")
	if err != nil {
		return "", err
	}
	for _, needed := range []string{"../build/host", libs + "/libggml-base.so"} {
		if _, err := os.Stat(needed); err != nil {
			return "", fmt.Errorf("no %s: run make build first", needed)
		}
	}
	return cudashim.Build("../build/host", "cudashim/src", libs, "../build/cudashim/lib/ollama")
})

var opened = sync.OnceValues(func() ([]*kernel.Device, error) {
	var ds []*kernel.Device
	for _, path := range filepath.SplitList(os.Getenv("LONGROPE_TEST_BACKENDS")) {
		more, err := kernel.Open(path)
		if err != nil {
			return nil, err
		}
		ds = append(ds, more...)
	}
	for _, shim := range []func() (string, error){shim, metal} {
		path, err := shim()
		if err != nil {
			continue // TestCUDAShim and TestMetalShim say so
		}
		more, err := kernel.Open(path)
		if err != nil {
			return nil, err
		}
		ds = append(ds, more...)
	}
	return ds, nil
})

// devices are the host's (OLLAMA_LIBRARY_PATH included), those of the libraries in
// LONGROPE_TEST_BACKENDS, and the CUDA and Metal kernels on the CPU.
func devices(t testing.TB) []*kernel.Device {
	require.NotEmpty(t, kernel.Devices(), "the host has no device at all, not even a CPU")
	more, err := opened()
	require.NoError(t, err)
	return append(kernel.Devices()[:len(kernel.Devices()):len(kernel.Devices())], more...)
}

// TestDevices says what there is to run on; make gpu-check reads it.
func TestDevices(t *testing.T) {
	for _, d := range devices(t) {
		kind := "GPU"
		if d.CPU() {
			kind = "CPU"
		}
		t.Logf("device %s, %s: %s", d.Name(), kind, d.Description())
	}
}

func TestCUDAShim(t *testing.T) {
	if _, err := shim(); err != nil {
		if strings.Contains(err.Error(), "make build") {
			strict.Skipf(t, "the CUDA kernels are not tested: %v", err)
		}
		require.NoError(t, err)
	}
}

// CUDA and Vulkan store rotated keys in the cache with one kernel, rows or not. That path has no
// other test: what it writes is TestConformance's business.
func TestFusedRope(t *testing.T) {
	for _, d := range devices(t) {
		t.Run(d.Name(), func(t *testing.T) {
			fused := map[bool]int{}
			for _, c := range kernel.Cases() {
				if !c.Cache || c.Where == "zero" {
					continue
				}
				g, err := d.NewGraph(c, c.Input())
				if errors.Is(err, kernel.ErrUnsupported) {
					continue
				}
				require.NoError(t, err)
				require.NoError(t, g.Compute(1))
				fused[g.Fused()]++
				if strings.HasPrefix(d.Name(), "CUDA") || strings.HasPrefix(d.Name(), "Vulkan") {
					assert.Equal(t, !c.Mode.Multi(), g.Fused(), "%v", c)
				}
				g.Free()
			}
			t.Logf("of the cases with a cache %d fused, %d not", fused[true], fused[false])
		})
	}
}

// fastMath says whether a device has approximate functions, as the host compiles CUDA
// (-use_fast_math) and shaders are. By NVIDIA's documentation cosf is good to 2^-20 between -pi and
// pi, and beyond loses what a product with 1/(2 pi) in float32 loses of the angle, 3 units. powf is
// exp2f(y*log2f(x)): 2^-22 in the logarithm, which is in the bound already, a rounded product and 2
// units in the last place after it, 15 units together. A division has 2 in the last place, 4 units.
// This was computed, not seen: no GPU was available.
func fastMath(d *kernel.Device) bool { return !d.CPU() && !strings.Contains(d.Name(), "-shim") }

// mustTake says whether a device that refuses a case is at fault. CUDA writes contiguous results
// and wants contiguous batches; the shim of Metal stores nothing in a cache; GPUs that are here may
// refuse what they like.
func mustTake(d *kernel.Device, c kernel.Case) bool {
	strided := c.InPlace && c.View != kernel.Contiguous || c.View == kernel.Permuted && c.Batch > 1
	return d.CPU() || strings.HasPrefix(d.Name(), "CUDA") && !strided ||
		strings.HasPrefix(d.Name(), "Metal") && !c.Cache
}

// BenchmarkRope is the op as a model of 8B parameters has it (32 heads of 128, 512 tokens): what
// rows cost, as time per op and as a share of what a vector costs in the same round, medians over
// b.N rounds. Say -benchtime 9x.
func BenchmarkRope(b *testing.B) {
	const ops = 16 // a graph, so that the op and not its launch is what takes time
	kinds := []string{"none", "vector", "matrix5"}
	for _, d := range devices(b) {
		for _, mode := range []kernel.Mode{kernel.Normal, kernel.NeoX} {
			b.Run(d.Name()+"/"+mode.String(), func(b *testing.B) {
				graphs := map[string]*kernel.Graph{}
				for _, c := range kernel.Cases() {
					if c.Mode != mode || c.F16 || c.Dims != 64 || c.HeadDim != 64 ||
						c.View != kernel.Contiguous || c.InPlace || c.Cache ||
						c.Where != "window" || c.AttnFactor != 1 || c.FreqScale != 1 ||
						graphs[c.Kind] != nil {
						continue
					}
					c = c.Grow(128, 32, 512)
					c.Ops = ops
					g, err := d.NewGraph(c, c.Input())
					if err == kernel.ErrUnsupported {
						continue
					}
					require.NoError(b, err)
					defer g.Free()
					require.NoError(b, g.Compute(1))
					graphs[c.Kind] = g
				}
				spent := map[string][]float64{} // of each round, microseconds
				b.ResetTimer()
				for i := range b.N {
					for j := range kinds {
						kind := kinds[(i+j)%len(kinds)] // none is always the first
						if graphs[kind] == nil {
							continue
						}
						start := time.Now()
						require.NoError(b, graphs[kind].Compute(1))
						spent[kind] = append(spent[kind],
							float64(time.Since(start).Nanoseconds())/1000/ops)
					}
				}
				b.ReportMetric(0, "ns/op")
				for _, kind := range kinds {
					if graphs[kind] == nil {
						b.Logf("%s is not supported by %s", kind, d.Name())
						continue
					}
					b.ReportMetric(median(spent[kind]), kind+"-us/op")
				}
				if graphs["vector"] != nil && graphs["matrix5"] != nil {
					ratios := make([]float64, b.N)
					for i := range ratios {
						ratios[i] = spent["matrix5"][i] / spent["vector"][i]
					}
					b.ReportMetric(median(ratios), "rows/vector")
				}
			})
		}
	}
}
