package tests

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/reference"
)

// The whole path on a real server whose models run on the Go engine.
func TestServerGo(t *testing.T) {
	h := newHost(t, "OLLAMA_NEW_ENGINE=1")
	t.Run("past L", h.testPastL)
	require.Contains(t, said(h.Log()), "--ollama-engine")
	require.NotContains(t, said(h.Log()), "switching to compatibility mode")
	t.Run("crossing by request", h.testRequestCrosses)
	t.Run("crossing by growth", h.testGrowthCrosses)
	t.Run("crossing by rotation", h.testRerotates)
	t.Run("version", h.testVersion)
	t.Run("misfit", h.testMisfit)
	t.Run("parallel", h.testParallel)
}

// A request that reuses a prefix of another rung, and a sequence that grows past its own, rotate cached keys if the user
// wants that; nothing is processed again.
func (h *host) testRerotates(t *testing.T) {
	const n = 16
	first, second := h.prompt(t, 3000, serverL-2*n), h.prompt(t, 3000, serverL+n)
	s := startServer(t, h.binary, h.store, append(h.env, "OLLAMA_NUM_PARALLEL=1", "OLLAMA_LONGROPE_CROSSING=rerotate")...)
	_, err := ask(t.Context(), s, "default-2k", first, n)
	require.NoError(t, err)
	a, err := ask(t.Context(), s, "default-2k", second, n)
	require.NoError(t, err)
	assert.Regexp(t, crossing+`".* from=0 to=1 cause=request policy=rerotate tokens=[1-9]`, said(s.Log()))
	t.Logf("re-rotated: %q", a.text)

	at := len(s.Log())
	_, err = ask(t.Context(), s, "default-2k", first, -3*n)
	require.NoError(t, err)
	assert.Regexp(t, crossing+`".* from=1 to=0 cause=request policy=rerotate`, said(s.Log()[at:]))
	assert.Regexp(t, crossing+`".* from=0 to=1 cause=growth policy=rerotate tokens=256 `, said(s.Log()[at:]))
}

// A ladder that does not fit the model is an error when it is loaded.
func (h *host) testMisfit(t *testing.T) {
	converted := h.path("misfit.gguf")
	_, err := h.Run(t.Context(), nil, "longrope", "convert", h.path("default.gguf"), "--factors", h.path("factors.json"), "-o", converted)
	require.NoError(t, err)
	f, err := reference.ReadFile(converted)
	require.NoError(t, err)
	f.Set("llama.rope.dimension_count", uint32(h.ladder.RopeDimensionCount/2))
	require.NoError(t, f.WriteFile(converted))
	h.create(t, "misfit", "misfit.gguf")
	_, err = ask(t.Context(), h.Server, "misfit", "In the beginning", 1)
	require.Error(t, err)
	t.Log(err)
	assert.Contains(t, err.Error()+said(h.Log()), "32 factors in a row, but the model rotates 32 dimensions: needs 16")
}
