package tests

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/strict"
)

const metalSource = "../build/host/ml/backend/ggml/ggml/src/ggml-metal"

// metal is the library of the host's Metal backend on the CPU, see metalshim/Makefile, built again
// when its sources changed. The error is fs.ErrNotExist where it cannot be built.
var metal = sync.OnceValues(func() (string, error) {
	if runtime.GOOS != "linux" {
		return "", fmt.Errorf("the Metal backend is built as C++ on linux only: %w", fs.ErrNotExist)
	}
	for _, path := range []string{metalSource, "../build/lib/ollama/libggml-base.so"} {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("make build first: %w", err)
		}
	}
	if out, err := exec.Command("make", "-s", "-C", "metalshim").CombinedOutput(); err != nil {
		return "", fmt.Errorf("tests/metalshim does not build: %w\n%s", err, out)
	}
	return filepath.Abs("../build/metalshim/libggml-metal.so")
})

// TestMetalShim says whether the tests of kernels have the Metal backend: its shader, and the host
// code around it, on a machine without Metal.
//
// That shows that the kernels compute the op: which row, which plane, which pair, under every name
// that the host asks for. It does not show what is Apple's: that its compiler takes the shader,
// what its fast sin, cos and pow lose at far positions, and what runs at the same time. Nothing of
// this was ever run on a Mac; there, TestConformance finds the device.
func TestMetalShim(t *testing.T) {
	if _, err := metal(); errors.Is(err, fs.ErrNotExist) {
		if strings.Contains(err.Error(), "make build") {
			strict.Skipf(t, "the Metal kernels are not tested: %v", err)
		}
		t.Skipf("the Metal kernels are not tested: %v", err)
	} else {
		require.NoError(t, err)
	}
	t.Run("address spaces", func(t *testing.T) {
		python := os.Getenv("PYTHON")
		if python == "" {
			python = "python3"
		}
		out, err := exec.Command(python, "-c", "import clang.cindex").CombinedOutput()
		if err != nil {
			t.Skipf("nothing checks that the shader's pointers keep to their address spaces: %s "+
				"needs libclang (make venv): %s", python, out)
		}
		out, err = exec.Command("make", "-s", "-C", "metalshim", "spaces", "PYTHON="+python).
			CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
}

// The shader that go build puts into a binary is a merged copy. It must be what the host's go
// generate makes.
func TestMetalEmbed(t *testing.T) {
	want, err := os.ReadFile(metalSource + "/ggml-metal-embed.metal")
	if os.IsNotExist(err) {
		strict.Skipf(t, "no host in build/host: run make host first")
	}
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "ggml-metal"), 0o777))
	for _, name := range []string{
		"ggml-common.h", "ggml-metal/metal.go", "ggml-metal/ggml-metal.metal",
		"ggml-metal/ggml-metal-impl.h",
	} {
		text, err := os.ReadFile(filepath.Join(metalSource, "..", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o666))
	}
	cmd := exec.Command("go", "generate", "metal.go")
	cmd.Dir = filepath.Join(dir, "ggml-metal")
	// the file is for Macs only
	cmd.Env = append(os.Environ(), "GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	got, err := os.ReadFile(filepath.Join(cmd.Dir, "ggml-metal-embed.metal"))
	require.NoError(t, err)
	assert.True(t, string(got) == string(want),
		"ggml-metal-embed.metal is not what go generate makes of ggml-metal.metal: generate "+
			"it again in the patch")
}
