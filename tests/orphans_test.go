package tests

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/api"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/tests/reference"
)

// runners are the runners of models in a store.
func runners(t *testing.T, store string) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, path := range lines {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), "\x00runner\x00") &&
			strings.Contains(string(b), store) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// A server that crashes leaves no runner, a num_predict of 0 has an end, and metadata that JSON has
// no numbers for is shown.
func TestOrphans(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("runners are looked for in /proc")
	}
	h := newHost(t)
	f, err := reference.Read(defaultmodel.Model)
	require.NoError(t, err)
	f.Set("llama.nan", float32(math.NaN()))
	f.Set("llama.nans", []float32{1, float32(math.Inf(-1))})
	require.NoError(t, f.WriteFile(h.path("nan.gguf")))
	h.create(t, "nan", "nan.gguf")
	for _, verbose := range []bool{false, true} {
		status, answer := post(t, h.Server, "/api/show",
			fmt.Sprintf(`{"model":"nan","verbose":%v}`, verbose))
		assert.Equal(t, http.StatusOK, status)
		assert.Contains(t, answer, `"llama.nan":"NaN"`)
		assert.Equal(t, verbose, strings.Contains(answer, `"llama.nans":[1,"-Inf"]`))
	}

	var last api.GenerateResponse
	require.NoError(t, h.Client().Generate(t.Context(), &api.GenerateRequest{
		Model: "default", Prompt: "Call me", Options: map[string]any{
			"num_predict": 0, "num_ctx": 16, "num_thread": 1,
		},
	}, func(r api.GenerateResponse) error {
		last = r
		return nil
	}))
	assert.True(t, last.Done)
	assert.LessOrEqual(t, last.EvalCount, 10*16)

	require.NotEmpty(t, runners(t, h.store))
	h.Kill()
	require.Eventually(t, func() bool { return len(runners(t, h.store)) == 0 }, 20*time.Second,
		50*time.Millisecond, "a runner outlives its server")
}
