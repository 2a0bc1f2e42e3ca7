package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tools are stand-ins for the programs that cuda.sh runs: five files to compile, half a second for
// each.
var tools = map[string]string{
	"nvcc":  `echo "Cuda compilation tools, release 13.0, V13.0.88"`,
	"nproc": `echo 2`,
	"cmake": `case $1 in
--preset) touch build-cuda/build.ninja ;;
--install) mkdir -p ../build/lib/ollama/cuda_v13 && cp lib.so ../build/lib/ollama/cuda_v13/libggml-cuda.so ;;
esac`,
	"ninja": `[ "$1" = -C ] && cd "$2" && shift 2
case $1 in
-t) for i in 1 2 3 4 5; do echo "x/$i.cu.o: CUDA_COMPILER__ggml-cuda_Release"; done ;;
-n) for i in 1 2 3 4 5; do [ -e x/$i.cu.o ] || echo "[$i/6] Building CUDA object x/$i.cu.o"; done ;;
ggml-cuda) cat x/1.cu.o x/2.cu.o x/3.cu.o x/4.cu.o x/5.cu.o >../lib.so ;;
*) mkdir -p x; for f; do [ "$f" != "$BROKEN" ] || { echo FAILED: $f; exit 1; }; sleep 0.5; echo $f >>$f; done ;;
esac`,
}

// TestCUDABudget: what is compiled within a time budget is kept, the next call resumes, and the
// backend is in the release when all is compiled.
func TestCUDABudget(t *testing.T) {
	script, err := filepath.Abs("../../patches/scripts/cuda.sh")
	require.NoError(t, err)
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("SKIP: no bash")
	}
	top, bin := t.TempDir(), t.TempDir()
	for name, text := range tools {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"),
			0o755))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(top, "host"), 0o755))
	r := release{build: filepath.Join(top, "build")}
	run := func(budget string, env ...string) (string, error) {
		cmd := exec.Command("bash", script, "host", "build", budget)
		cmd.Dir = top
		cmd.Env = append([]string{"PATH=" + bin + ":/usr/bin:/bin"}, env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	leaves := func(budget, want string, made bool) {
		t.Helper()
		out, err := run(budget)
		require.NoError(t, err, out)
		text, is := r.made("cuda")
		assert.Contains(t, text, want)
		assert.Equal(t, made, is)
	}
	leaves("0", "left out: the time budget was 0", false)
	leaves("1", "left out: 2 of 5 files were compiled when the time budget of 1 was over", false)
	out, err := run("1m", "BROKEN=x/5.cu.o")
	require.Error(t, err, "a file that does not compile is a failure")
	assert.Contains(t, out, "FAILED: x/5.cu.o")
	leaves("1m", "made: for 75-virtual;80-virtual;86-virtual;89-virtual;90-virtual;120-virtual, "+
		"by nvcc 13.0", true)
	lib, err := os.ReadFile(filepath.Join(top, "build/lib/ollama/cuda_v13/libggml-cuda.so"))
	require.NoError(t, err)
	assert.Equal(t, 5, strings.Count(string(lib), "\n"), "each file is compiled once")
	leaves("1s", "made: ", true)
	for _, budget := range []string{"x", "m", "1d", "-1", "1m2"} {
		out, err := run(budget)
		require.Error(t, err)
		assert.Contains(t, out, "the time budget is "+budget)
	}
	_, is := r.made("arm64")
	assert.False(t, is)
}
