package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/session"
	"github.com/longrope/longrope/tests/strict"
)

// offloaded is what a process of its own computes, since a process has one list of devices: logits
// of a prefill and after a context shift.
type offloaded struct {
	Prefill, Shifted [][]float32
}

const offloadChild = "LONGROPE_TEST_OFFLOAD" // path, layers, rung, result

func TestOffloadChild(t *testing.T) {
	args := strings.Split(os.Getenv(offloadChild), "|")
	if len(args) != 4 {
		return // this test is what TestOffload runs
	}
	layers, err := strconv.Atoi(args[1])
	require.NoError(t, err)
	rung, err := strconv.Atoi(args[2])
	require.NoError(t, err)

	const n = 300
	s := open(t, args[0],
		session.Options{Context: n + 64, Batch: 64, Keys: "f16", GPULayers: layers})
	s.SetRung(0, rung)
	var out offloaded
	tokens := someTokens(n+1, s.Vocab(), 1)
	logits, err := s.Prefill(tokens[:n], 0, 0, 64)
	require.NoError(t, err)
	out.Prefill = logits[n-4:]
	require.NoError(t, s.Shift(0, 4, 96, n))
	out.Shifted, err = s.Prefill(tokens[n:], 0, n-96, 1)
	require.NoError(t, err)

	text, err := json.Marshal(out)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(args[3], text, 0o644))
}

var shimCounts = regexp.MustCompile(`(CUDA-shim\d): (\d+) RoPE, (\d+) with rows, (\d+) fused`)

// offload runs the child with so many layers on GPUs, and returns what it computed and what it
// printed.
func offload(
	t *testing.T,
	path string,
	layers, rung int,
	env ...string,
) (out offloaded, text string) {
	t.Helper()
	result := filepath.Join(t.TempDir(), "logits.json")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestOffloadChild$")
	cmd.Env = append(
		append(os.Environ(),
			fmt.Sprintf("%s=%s|%d|%d|%s", offloadChild, path, layers, rung, result)),
		env...)
	printed, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", printed)
	data, err := os.ReadFile(result)
	require.NoError(t, err, "%s", printed)
	require.NoError(t, json.Unmarshal(data, &out))
	return out, string(printed)
}

// agree compares what devices computed with what the CPU did. Their angles differ by the rounding
// of float32 (see oracle); keys are float16. Both come to about 2^-9 of the largest logit; another
// row is far beyond.
func (cpu offloaded) agree(t *testing.T, got offloaded) {
	t.Helper()
	for name, s := range map[string]span{
		"prefill":       compare(t, cpu.Prefill, got.Prefill),
		"after a shift": compare(t, cpu.Shifted, got.Shifted),
	} {
		t.Logf("%s: %v", name, s)
		assert.LessOrEqual(t, s.worst, s.largest/100, name)
	}
}

// Rows reach every device: a model on two, on one, on one and the CPU computes what it computes on
// the CPU. The devices are those of cudashim, whose memory the scheduler has to copy the graph's
// inputs to, and whose RoPE is CUDA's.
func TestOffload(t *testing.T) {
	lib, err := shim()
	if err != nil {
		strict.Skipf(t, "no devices: %v", err)
	}
	libs, err := filepath.Abs("../build/lib/ollama")
	require.NoError(t, err)
	dir, err := filepath.Abs(filepath.Dir(lib))
	require.NoError(t, err)
	plain := writeDefault(t, nil)
	rows := withLadder(t, plain, 1024)

	run := func(
		t *testing.T, path string, devices, layers, rung int,
	) (offloaded, map[string][3]int) {
		t.Helper()
		env := []string{"OLLAMA_LIBRARY_PATH=" + libs}
		if devices > 0 {
			env = []string{
				"OLLAMA_LIBRARY_PATH=" + libs + string(filepath.ListSeparator) + dir,
				fmt.Sprintf("CUDASHIM_DEVICES=%d", devices),
				"CUDASHIM_VERBOSE=1",
			}
		}
		out, text := offload(t, path, layers, rung, env...)
		counts := map[string][3]int{}
		for _, m := range shimCounts.FindAllStringSubmatch(text, -1) {
			var n [3]int
			for i := range n {
				n[i], _ = strconv.Atoi(m[2+i]) // digits
			}
			counts[m[1]] = n
		}
		return out, counts
	}

	for _, m := range []struct {
		name, path string
		rung       int
	}{{"ladder", rows, 1}, {"plain", plain, 0}} {
		cpu, _ := run(t, m.path, 0, 0, m.rung)
		for _, on := range []struct {
			name            string
			devices, layers int
		}{
			{"one device", 1, 99},
			{"half on the CPU", 1, 3},
			{"two devices", 2, 99},
			{"two devices and the CPU", 2, 4},
		} {
			t.Run(m.name+"/"+on.name, func(t *testing.T) {
				got, counts := run(t, m.path, on.devices, on.layers, m.rung)
				require.Len(t, counts, on.devices, "devices that were used")
				for name, n := range counts {
					require.Positive(t, n[0], "%s has no RoPE to do", name)
					if m.rung > 0 {
						assert.Equal(t, n[0], n[1], "%s: all with rows", name)
					} else {
						assert.Zero(t, n[1], name)
					}
				}
				t.Logf("RoPE, rows, fused: %v", counts)
				cpu.agree(t, got)
			})
		}
		if m.rung > 0 {
			other, _ := run(t, m.path, 1, 99, 0)
			s := compare(t, cpu.Prefill, other.Prefill)
			t.Logf("on another rung: %v", s)
			assert.Greater(t, s.worst, s.largest/10, "the test cannot tell rungs apart")
		}
	}
}

var vulkanRopes = regexp.MustCompile(`ROPE: (\d+) x`)

// The same on two Vulkan devices. The backend prints which ops a device computes in each graph:
// RoPE of all layers is there, so none went to the CPU.
func TestOffloadVulkan(t *testing.T) {
	path := withLadder(t, writeDefault(t, nil), 1024)
	env := append(vulkan(t, 2), "GGML_VK_PERF_LOGGER=1")
	libs, err := filepath.Abs("../build/lib/ollama")
	require.NoError(t, err)
	cpu, _ := offload(t, path, 0, 1, "OLLAMA_LIBRARY_PATH="+libs)
	// of a layer: queries and keys in five batches of the prompt and in one of a token, keys back
	// and forth in a shift
	const graphs, layers, each = 5 + 1 + 1, 5, 2*(5+1) + 2
	for _, on := range []struct {
		name          string
		offload, gpus int // layers, the output being one more
	}{{"all", layers + 1, layers}, {"some on the CPU", 4, 3}} {
		t.Run(on.name, func(t *testing.T) {
			got, text := offload(t, path, on.offload, 1, env...)
			assert.GreaterOrEqual(t, strings.Count(text, "Vulkan Timings:"), 2*graphs,
				"graphs that devices computed")
			ropes := 0
			for _, m := range vulkanRopes.FindAllStringSubmatch(text, -1) {
				n, _ := strconv.Atoi(m[1]) // digits
				ropes += n
			}
			t.Logf("%d RoPE on Vulkan", ropes)
			assert.GreaterOrEqual(t, ropes, each*on.gpus, "RoPE on Vulkan")
			cpu.agree(t, got)
		})
	}
}

// The commands that run a model find the GPU that "ollama run" would, and leave it alone when told
// to.
func TestEvalFindsGPU(t *testing.T) {
	lib, err := shim()
	if err != nil {
		strict.Skipf(t, "no devices: %v", err)
	}
	if _, err := os.Stat("../build/bin/ollama"); err != nil {
		strict.Skipf(t, "no build/bin/ollama: run make build first")
	}
	prefix := t.TempDir()
	libs := filepath.Join(prefix, "lib/ollama")
	require.NoError(t, os.MkdirAll(libs+"/cuda_shim", 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(prefix, "bin"), 0o755))
	program := filepath.Join(prefix, "bin/ollama")
	text, err := os.ReadFile("../build/bin/ollama")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, text, 0o755))
	backends, err := filepath.Glob("../build/lib/ollama/*.so*")
	require.NoError(t, err)
	for _, b := range append(backends, lib) {
		path, err := filepath.Abs(b)
		require.NoError(t, err)
		to := libs
		if b == lib {
			to += "/cuda_shim"
		}
		require.NoError(t, os.Symlink(path, filepath.Join(to, filepath.Base(b))))
	}

	model := writeDefault(t, nil)
	for _, c := range []struct{ layers, backend string }{
		{"-1", "CUDA-shim"}, {"2", "CUDA-shim, 2 layers"}, {"0", "CPU"},
	} {
		cmd := exec.CommandContext(t.Context(), program, "longrope", "eval", "perplexity", model,
			"--lengths", "128", "--methods", "stock", "--windows", "1", "--threads", "1",
			"--gpu-layers", c.layers)
		for _, v := range os.Environ() {
			if !strings.HasPrefix(v, "OLLAMA_") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "tokens evaluated on "+c.backend+" (", "--gpu-layers %s",
			c.layers)
	}
}
