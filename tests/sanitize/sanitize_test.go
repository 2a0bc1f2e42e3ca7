package sanitize

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	tree = "../../build/host"
	libs = "../../build/lib/ollama"
)

// TestLadder: whatever the metadata of a ladder, it is taken or refused with a reason.
func TestLadder(t *testing.T) {
	const src, ggml = "llama/llama.cpp/src/", "ml/backend/ggml/ggml/src/"
	run(t, "ladder", "20000",
		src+"llama-longrope.cpp", src+"llama-longrope.h", src+"llama-nll.cpp", src+"llama-nll.h",
		src+"llama-cparams.h", src+"llama-io.h", ggml+"gguf.cpp")
}

// run compiles a program next to copies of the host's files and runs it on so many inputs.
func run(t *testing.T, program, count string, files ...string) {
	if testing.Short() {
		t.Skip("compiles with sanitizers; leave out -short")
	}
	compiler, err := exec.LookPath("g++")
	if err != nil {
		t.Skip("no g++")
	}
	if _, err := os.Stat(filepath.Join(libs, "libggml-base.so")); err != nil {
		t.Skip("no build/lib/ollama: make build")
	}
	dir := t.TempDir()
	own, err := filepath.Glob("src/*")
	require.NoError(t, err)
	for _, path := range own {
		copied(t, path, dir)
	}
	for _, path := range files {
		copied(t, filepath.Join(tree, path), dir)
	}
	root, err := filepath.Abs(tree)
	require.NoError(t, err)
	lib, err := filepath.Abs(libs)
	require.NoError(t, err)
	const ggml = "/ml/backend/ggml/ggml/"
	cmd := exec.Command(compiler, "-std=c++17", "-g", "-O1", "-fsanitize=address,undefined",
		"-fno-sanitize-recover=all",
		// the host loads the types of a file into an enum before it compares them
		"-fno-sanitize=enum",
		"-I"+root+ggml+"include", "-I"+root+ggml+"src",
		"-I"+root+ggml+"src/ggml-cpu", "-I"+root+"/llama/llama.cpp/include", program+".cpp",
		"-o", program, "-L"+lib, "-lggml-base", "-Wl,-rpath,"+lib,
		// of the parts of a file that are not called
		"-Wl,--unresolved-symbols=ignore-all")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))

	if n := os.Getenv("LONGROPE_SANITIZE"); n != "" {
		count = n
	}
	cmd = exec.Command(filepath.Join(dir, program), "1", count)
	cmd.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=0")
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("%s", out)
}

func copied(t *testing.T, path, dir string) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o600))
}
