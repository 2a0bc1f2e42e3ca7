package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/strict"
)

var (
	hipKernel = regexp.MustCompile(
		`Function Name: _Z\w*?(rope_(?:norm|neox|multi|vision))ILb([01])EL7rope_ff([012])E(\w*?)Ev`)
	hipSpill = regexp.MustCompile(`(?:ScratchSize \[bytes/lane\]|[SV]GPRs Spill): ([1-9]\d*)`)
)

// The CUDA source is HIP's too: it compiles for AMD's GPUs, device code and all, and no kernel
// spills. hipBLAS and what the host wants of ROCm 6.1 that an older HIP has not are declared in
// cudashim/hip. Nothing of it was run: no such GPU was available.
func TestHIPCompiles(t *testing.T) {
	hipcc, err := exec.LookPath("hipcc")
	if err != nil {
		t.Skip("the CUDA source is not compiled as HIP, no hipcc: run make hipcc first")
	}
	const ggml = "../build/host/ml/backend/ggml/ggml"
	if _, err := os.Stat(ggml); err != nil {
		strict.Skipf(t, "no %s: run make host first", ggml)
	}
	// an RDNA 2 of 32 lanes, as in Radeon RX 6800, and a CDNA 2 of 64, as in Instinct MI210
	archs := []string{"gfx1030", "gfx90a"}
	args := []string{
		"-std=c++17",
		"-O3",
		"-DGGML_USE_HIP",
		"-DGGML_HIP_NO_VMM",
		"-Rpass-analysis=kernel-resource-usage",
		"-I" + ggml + "/include",
		"-I" + ggml + "/src",
		"-Icudashim/hip",
		"-c",
		ggml + "/src/ggml-cuda/rope.cu",
		"-o",
		filepath.Join(t.TempDir(), "rope.o"),
	}
	for _, arch := range archs {
		args = append(args, "--offload-arch="+arch)
	}
	out, err := exec.CommandContext(t.Context(), hipcc, args...).CombinedOutput()
	require.NoError(t, err, "hipcc %s\n%s", strings.Join(args, " "), out)

	found := map[string]int{}
	for _, entry := range strings.Split(string(out), "remark: Function Name")[1:] {
		entry = "Function Name" + entry
		name := hipKernel.FindStringSubmatch(entry)
		require.NotNil(t, name, "a kernel of a form that is not known: %.200s", entry)
		found[name[3]]++
		assert.Empty(t, hipSpill.FindString(entry), name[0])
	}
	// as TestCUDACompiles counts them: for none, a vector and rows
	const each = 2 * (2*3 + 2*2)
	for _, ff := range []string{"0", "1", "2"} {
		assert.Equal(t, each*len(archs), found[ff], "kernels, rope_ff %s", ff)
	}
	t.Logf("%d kernels for %s: %v by rope_ff, none spills", len(archs)*3*each,
		strings.Join(archs, " and "), found)
}
