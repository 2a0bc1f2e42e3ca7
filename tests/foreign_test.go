package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/strict"
)

// TestForeignBackends: a library folder of a host without these patches, as an official ollama has
// one, is refused, and the doctor calls it a fault: its backends would leave out the factors.
func TestForeignBackends(t *testing.T) {
	binary := program(t)
	theirs, err := filepath.Abs("../build/stock/lib/ollama")
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(theirs, "libggml-base.so")); err != nil {
		strict.Skipf(t, "no libraries of an unpatched host (%v): run make stock first", err)
	}
	doctor := func(libs string) (string, error) {
		cmd := exec.Command(binary, "longrope", "doctor")
		cmd.Env = append(os.Environ(), "OLLAMA_LIBRARY_PATH="+libs, "OLLAMA_MODELS="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const foreign = "is of another build of ollama and is not used"
	out, err := doctor(theirs)
	assert.Error(t, err, "a fault")
	assert.Regexp(t, `fault +CPU +its library `+foreign, out)
	out, _ = doctor(filepath.Join(filepath.Dir(binary), "..", "lib", "ollama"))
	assert.NotContains(t, out, foreign, "its own")
}
