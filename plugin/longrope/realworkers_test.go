//go:build cgo

package longrope

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ollama/ollama/ml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/tests/strict"
)

// TestRealWorkers: two processes with an engine each find what one finds.
func TestRealWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a model for some seconds; leave out -short")
	}
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	require.NoError(t, os.WriteFile(model, defaultmodel.Model, 0o644))
	search := func(out string, args ...string) (factors, said string) {
		cmd := exec.Command("ollama-engine", append([]string{
			"longrope", "search", model, "--target", "512", "--windows", "2",
			"--budget", "7k", "--no-report", "--threads", "1",
			"-o", filepath.Join(dir, out),
		}, args...)...)
		stderr, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", stderr)
		b, err := os.ReadFile(filepath.Join(dir, out))
		require.NoError(t, err)
		return string(b), string(stderr)
	}
	alone, _ := search("alone.json")
	together, said := search("together.json", "--workers", "2")
	assert.Equal(t, alone, together)
	assert.NotContains(t, said, "bits", "one engine computes what the other does")
	assert.NotContains(t, said, "started again")
}

// TestDeviceEnv: each worker process sees one GPU.
func TestDeviceEnv(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "")
	assert.Empty(t, deviceEnv(0))
	t.Setenv("CUDA_VISIBLE_DEVICES", "4,5")
	assert.Equal(t, []string{"CUDA_VISIBLE_DEVICES=5"}, deviceEnv(1))
	assert.Equal(t, []string{"CUDA_VISIBLE_DEVICES=4"}, deviceEnv(2))
	devices = []ml.DeviceInfo{
		{DeviceID: ml.DeviceID{ID: "GPU-a", Library: "CUDA"}},
		{DeviceID: ml.DeviceID{ID: "GPU-b", Library: "CUDA"}},
	}
	defer func() { devices = nil }()
	assert.Equal(t, []string{"CUDA_VISIBLE_DEVICES=GPU-b"}, deviceEnv(1))
	assert.Equal(t, []string{"CUDA_VISIBLE_DEVICES=GPU-a"}, deviceEnv(2))
}

// A program that was moved away from its backends says why it is slow.
func TestSlowCPU(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, os.WriteFile(model, defaultmodel.Model, 0o644))
	run := func(env ...string) string {
		cmd := exec.Command("ollama-engine", "longrope", "eval", "perplexity", model, "--lengths",
			"128", "--windows", "1", "--methods", "stock")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	nowhere := filepath.Join(t.TempDir(), "lib", "ollama")
	require.Contains(t, run("OLLAMA_LIBRARY_PATH="+nowhere),
		"no CPU backend of the host's is loaded from "+nowhere)
	library := os.Getenv("OLLAMA_LIBRARY_PATH")
	if libs, _ := filepath.Glob(filepath.Join(library, "*ggml-cpu*")); len(libs) == 0 {
		strict.Skipf(
			t,
			"OLLAMA_LIBRARY_PATH names no folder with CPU backends: whether they quiet the "+
				"warning is not tested",
		)
	}
	require.NotContains(t, run(), "no CPU backend")

	// The host loads nothing from a folder whose path does not hold lib/ollama.
	elsewhere := filepath.Join(t.TempDir(), "backends")
	require.NoError(t, os.Symlink(library, elsewhere))
	require.Contains(t, run("OLLAMA_LIBRARY_PATH="+elsewhere),
		"no CPU backend of the host's is loaded from "+elsewhere)
}
