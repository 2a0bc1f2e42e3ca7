package tests

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/reference"
)

// newEngine makes the host use its Go engine where it has a choice.
const newEngine = "OLLAMA_NEW_ENGINE=1"

// The whole path on a real server whose models run on the Go engine.
func TestServerGo(t *testing.T) {
	h := newHost(t, newEngine)
	t.Run("past L", h.testPastL)
	require.Contains(t, said(h.Log()), "--ollama-engine")
	require.NotContains(t, said(h.Log()), "switching to compatibility mode")
	t.Run("crossing by request", h.testRequestCrosses)
	t.Run("crossing by growth", h.testGrowthCrosses)
	t.Run("version", h.testVersion)
	t.Run("misfit", h.testMisfit)
	t.Run("parallel", h.testParallel)
	t.Run("bad requests", h.testBadRequests)
	t.Run("policies", h.testPolicies)
	t.Run("exact", h.testExact)
	t.Run("caching", h.testCaching)
	t.Run("fork", h.testFork)
	t.Run("long life", h.testLongLife)
}

// A ladder that does not fit the model is an error when it is loaded, which the user sees.
func (h *host) testMisfit(t *testing.T) {
	converted := h.path("misfit.gguf")
	_, err := h.Run(t.Context(), nil, "longrope", "convert", h.path("default.gguf"), "--factors",
		h.path("factors.json"), "-o", converted)
	require.NoError(t, err)
	f, err := reference.ReadFile(converted)
	require.NoError(t, err)
	ones := make([]float32, 3*h.ladder.RopeDimensionCount/4) // half of what three rows have
	for i := range ones {
		ones[i] = 1
	}
	f.Set("llama.rope.longrope.factors", ones)
	require.NoError(t, f.WriteFile(converted))
	h.create(t, "misfit", "misfit.gguf")
	_, err = ask(t.Context(), h.Server, "misfit", "In the beginning", 1)
	require.ErrorContains(t, err,
		"16 factors in a row, but the model rotates 64 dimensions: needs 32")
	t.Log(err)
}
