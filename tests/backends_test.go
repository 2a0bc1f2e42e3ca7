package tests

import (
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/strict"
)

// A backend that is neither here nor taught must refuse rows, or the scheduler would let it take
// the first row for every token. Without its device that can be seen in its source only.
func TestBackendsRefuseRows(t *testing.T) {
	const src = "../build/host/ml/backend/ggml/ggml/src/"
	dirs, err := filepath.Glob(src + "ggml-*/CMakeLists.txt")
	require.NoError(t, err)
	if len(dirs) == 0 {
		strict.Skipf(t, "no host in build/host: run make host first")
	}
	// which file answers supports_op, and which one rotates, if another
	backends := map[string]struct{ answer, kernels string }{
		"ggml-cpu":  {"ggml-cpu.cpp", "ops.cpp"},
		"ggml-blas": {"ggml-blas.cpp", ""},
		"ggml-cuda": {"ggml-cuda.cu", "rope.cu"},
		// compiles CUDA's source
		"ggml-hip":    {"../ggml-cuda/ggml-cuda.cu", "../ggml-cuda/rope.cu"},
		"ggml-metal":  {"ggml-metal-device.m", "ggml-metal-device.cpp"},
		"ggml-vulkan": {"ggml-vulkan.cpp", ""},
	}
	// the case of supports_op, up to the return that answers it
	answer := regexp.MustCompile(`case GGML_OP_ROPE:(?s:.{0,300}?)return ([^;]*);`)
	refusal := regexp.MustCompile(
		`return !ggml_rope_has_rows\(op\);|if \(ggml_rope_has_rows\(op\)\) \{\s*return false;`)
	for _, dir := range dirs {
		dir = filepath.Dir(dir)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			b, ok := backends[filepath.Base(dir)]
			require.True(t, ok,
				"a backend that this test does not know: teach it rows or have it refuse "+
					"them, then name it here")
			text, err := os.ReadFile(filepath.Join(dir, b.answer))
			require.NoError(t, err)
			source := string(text)
			if !strings.Contains(source, "GGML_OP_ROPE") && b.kernels == "" {
				t.Log("takes no RoPE at all")
				return
			}
			if slices.ContainsFunc(answer.FindAllString(source, -1), refusal.MatchString) {
				t.Log("refuses rows: they go to the CPU")
				return
			}
			if b.kernels != "" {
				text, err = os.ReadFile(filepath.Join(dir, b.kernels))
				require.NoError(t, err)
				source = string(text)
			}
			assert.Contains(t, source, "ggml_rope_has_rows",
				"does not refuse rows, and has no kernel for them")
			t.Log("takes rows")
		})
	}
}

// The fast CPU backends are libraries with the same function names as the slow one inside the
// program. If the program exports those names, the loader gives a library the program's functions
// instead of its own, and it is as slow: without an error, and without a trace in any log.
func TestBackendsNotShadowed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into ELF files")
	}
	own, err := os.Executable()
	require.NoError(t, err)
	for _, path := range []string{"../build/bin/ollama", own} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if path == own && os.Getenv("OLLAMA_LIBRARY_PATH") == "" {
				strict.Skipf(t, "this program loads no libraries: OLLAMA_LIBRARY_PATH is not set")
			}
			f, err := elf.Open(path)
			if os.IsNotExist(err) {
				strict.Skipf(t, "no %s: run make build first", path)
			}
			require.NoError(t, err)
			defer f.Close()
			symbols, err := f.DynamicSymbols()
			require.NoError(t, err)
			for _, s := range symbols {
				if s.Name == "ggml_graph_compute" && s.Section != elf.SHN_UNDEF {
					t.Fatalf("%s exports ggml's functions to the backends. Go's linker does so if "+
						"it cannot ask the C compiler for "+
						"its options, as with CC=\"ccache gcc\": build with CC=gcc, or "+
						"with -ldflags=-extld=gcc", path)
				}
			}
		})
	}
}
