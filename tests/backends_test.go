package tests

import (
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A backend that is neither here nor taught must refuse rows, or the scheduler would let it take the first row for every
// token. Without its device that can be seen in its source only.
func TestBackendsRefuseRows(t *testing.T) {
	const src = "../build/host/ml/backend/ggml/ggml/src/"
	if _, err := os.Stat(src); err != nil {
		t.Skip("no host in build/host: run make host first")
	}
	for _, b := range []struct{ name, file, kernels string }{
		{"CUDA", "ggml-cuda/ggml-cuda.cu", "ggml-cuda/rope.cu"},
		{"Metal", "ggml-metal/ggml-metal-device.m", "ggml-metal/ggml-metal-ops.cpp"},
		{"Vulkan", "ggml-vulkan/ggml-vulkan.cpp", ""},
	} {
		t.Run(b.name, func(t *testing.T) {
			text, err := os.ReadFile(src + b.file)
			require.NoError(t, err)
			// the case of supports_op, up to the return that answers it
			supports := regexp.MustCompile(`case GGML_OP_ROPE:(?s:.{0,200}?)return ([^;]*);`).FindAllString(string(text), -1)
			refusal := regexp.MustCompile(`return !ggml_rope_has_rows\(op\);|if \(ggml_rope_has_rows\(op\)\) \{\s*return false;`)
			answers := slices.DeleteFunc(supports, func(s string) bool { return !refusal.MatchString(s) })
			if len(answers) > 0 {
				return
			}
			if b.kernels != "" {
				text, err = os.ReadFile(src + b.kernels)
				require.NoError(t, err)
			}
			assert.Contains(t, string(text), "ggml_rope_has_rows", "%s takes rows in %s but has no kernel for them", b.name, b.file)
		})
	}
}

// The fast CPU backends are libraries with the same function names as the slow one inside the program. If the program
// exports those names, the loader gives a library the program's functions instead of its own, and it is as slow: without
// an error, and without a trace in any log.
func TestBackendsNotShadowed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into ELF files")
	}
	own, err := os.Executable()
	require.NoError(t, err)
	for _, path := range []string{"../build/bin/ollama", own} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if path == own && os.Getenv("OLLAMA_LIBRARY_PATH") == "" {
				t.Skip("this program loads no libraries: OLLAMA_LIBRARY_PATH is not set")
			}
			f, err := elf.Open(path)
			if os.IsNotExist(err) {
				t.Skipf("no %s: run make build first", path)
			}
			require.NoError(t, err)
			defer f.Close()
			symbols, err := f.DynamicSymbols()
			require.NoError(t, err)
			for _, s := range symbols {
				if s.Name == "ggml_graph_compute" && s.Section != elf.SHN_UNDEF {
					t.Fatalf("%s exports ggml's functions to the backends. Go's linker does so if it cannot ask the C compiler for "+
						"its options, as with CC=\"ccache gcc\": build with CC=gcc, or with -ldflags=-extld=gcc", path)
				}
			}
		})
	}
}
