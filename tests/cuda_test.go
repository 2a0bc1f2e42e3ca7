package tests

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/strict"
)

const cudaSource = "/ml/backend/ggml/ggml/src/ggml-cuda/"

// nvcc compiles one file of the host's CUDA source and returns what the compilers say. cuBLAS is
// declared, not there.
func nvcc(t *testing.T, tree, file string, flags ...string) string {
	const compiler = "../build/nvcc/bin/nvcc"
	if _, err := os.Stat(compiler); err != nil {
		t.Skip("the CUDA source is not compiled, no nvcc in build/nvcc: run " +
			"patches/scripts/nvcc.sh first")
	}
	source := tree + cudaSource + file
	if _, err := os.Stat(source); err != nil {
		strict.Skipf(t, "no %s: run make host first", source)
	}
	ggml := tree + "/ml/backend/ggml/ggml"
	// as the host's cmake has it
	args := append(
		[]string{
			"-ccbin",
			"g++",
			"-std=c++17",
			"-use_fast_math",
			"-extended-lambda",
			"-DGGML_CUDA_USE_GRAPHS",
			"-I" + ggml + "/include",
			"-I" + ggml + "/src",
			"-Icudashim/nvcc",
			source,
		},
		flags...)
	out, err := exec.CommandContext(t.Context(), compiler, args...).CombinedOutput()
	require.NoError(t, err, "nvcc %s\n%s", strings.Join(args, " "), out)
	return string(out)
}

var (
	ptxasKernel = regexp.MustCompile(`Compiling entry function ` +
		`'_Z\w*?(rope_(?:norm|neox|multi|vision))ILb([01])E(?:Lb|L7rope_ff)([012])E(\w*?)Ev`)
	ptxasUse = regexp.MustCompile(
		`(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\n.*Used ` +
			`(\d+) registers`)
)

// use is what a kernel takes of a GPU: registers, and bytes of stack and of spilled registers.
type use struct{ registers, stack, spilled int }

// kernelUse is what each instance of the RoPE kernels takes.
func kernelUse(t *testing.T, tree, arch string) map[string]use {
	log := nvcc(t, tree, "rope.cu", "-arch", arch, "-cubin", "-Xptxas", "-v", "-o",
		filepath.Join(t.TempDir(), "rope.cubin"))
	uses := map[string]use{}
	for _, entry := range strings.Split(log, "ptxas info    : Compiling")[1:] {
		name := ptxasKernel.FindStringSubmatch("Compiling" + entry)
		numbers := ptxasUse.FindStringSubmatch(entry)
		require.NotNil(t, name, "a kernel of a form that is not known: %s", entry)
		require.NotNil(t, numbers, entry)
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(numbers[i+1]) // digits
		}
		ff := map[string]string{"0": "none", "1": "vector", "2": "rows"}[name[3]]
		// as they are mangled
		types := strings.NewReplacer(
			"6__half", "half ", "S0_", "half ", "S1_", "half ", "f", "float ",
		).Replace(name[4])
		kernel := fmt.Sprintf(
			"%s<forward=%s, %s, %s>", name[1], name[2], ff, strings.TrimSpace(types))
		uses[kernel] = use{n[3], n[0], n[1] + n[2]}
	}
	return uses
}

// The source compiles for the GPUs of each generation that nvcc 13 knows, and no kernel spills.
func TestCUDACompiles(t *testing.T) {
	for _, arch := range []string{"sm_75", "sm_80", "sm_90", "sm_120"} {
		t.Run(arch, func(t *testing.T) {
			uses := kernelUse(t, "../build/host", arch)
			rows := 0
			for kernel, use := range uses {
				if strings.Contains(kernel, "rows") {
					rows++
				}
				assert.Zero(t, use.spilled, kernel)
			}
			// norm and neox in f32, f32 to f16, f16; multi and vision in f32, f16; each forward and
			// back
			assert.Equal(t, 2*(2*3+2*2), rows, "instances of the kernels with rows")
			assert.Len(t, uses, 3*rows)
		})
	}
	t.Run("ggml-cuda.cu", func(t *testing.T) {
		nvcc(t, "../build/host", "ggml-cuda.cu", "-arch", "sm_90", "-c", "-o",
			filepath.Join(t.TempDir(), "ggml-cuda.o"))
	})
}

// Whoever has no ladder pays nothing: the kernels for no factors and for a vector take no more of a
// GPU than the unpatched host's.
func TestCUDAKernelsAsStock(t *testing.T) {
	const arch = "sm_90"
	stock := kernelUse(t, "../build/host-stock", arch)
	patched := kernelUse(t, "../build/host", arch)
	require.NotEmpty(t, stock)
	most := map[string]int{}
	for _, kernel := range slices.Sorted(maps.Keys(stock)) {
		was, is := stock[kernel], patched[kernel]
		require.NotZero(t, is.registers, kernel)
		assert.LessOrEqual(t, is.registers, was.registers, kernel)
		assert.LessOrEqual(t, is.stack+is.spilled, was.stack+was.spilled, kernel)
		rows := patched[strings.NewReplacer("none", "rows", "vector", "rows").Replace(kernel)]
		most["stock"], most["patched"], most["rows"] = max(most["stock"], was.registers), max(
			most["patched"], is.registers), max(
			most["rows"],
			rows.registers,
		)
	}
	t.Logf("%s, %d kernels: at most %d registers in the unpatched host, %d in the patched one, "+
		"%d with rows", arch, len(stock), most["stock"], most["patched"], most["rows"])
}
