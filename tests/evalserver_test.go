package tests

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/evals/recall"
	"github.com/longrope/longrope/plugin/longrope"
	"github.com/longrope/longrope/plugin/server"
	"github.com/longrope/longrope/tests/strict"
)

// eval runs "longrope eval" and returns its result and what it said.
func eval(t *testing.T, args ...string) (c *evals.Comparison, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := longrope.NewCommand()
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(append([]string{"eval"}, append(args, "--threads", "1")...))
	require.NoError(t, cmd.Execute(), "%s", stderr.String())
	if stdout.Len() > 0 {
		c = new(evals.Comparison)
		require.NoError(t, json.Unmarshal(stdout.Bytes(), c))
	}
	return c, stderr.String()
}

// TestEvalStock: samples that the engine here is asked are asked of the unpatched host too, through
// both of its APIs. It cuts what its default num_ctx does not hold, which is reported as truncated.
func TestEvalStock(t *testing.T) {
	binary, err := filepath.Abs("../build/stock/bin/ollama")
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		strict.Skipf(t, "no unpatched host (%v): run make stock first", err)
	}
	s, err := server.Start(t.Context(), binary, t.TempDir(), "OLLAMA_CONTEXT_LENGTH=",
		"OLLAMA_NUM_PARALLEL=1")
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	h := &host{Server: s, dir: t.TempDir()}
	require.NoError(t, os.WriteFile(h.path("default.gguf"), defaultmodel.Model, 0o644))
	cmd := longrope.NewCommand()
	cmd.SetArgs([]string{
		"convert", h.path("default.gguf"), "--method", "yarn", "--target", "8k", "-o",
		h.path("long.gguf"),
	})
	require.NoError(t, cmd.Execute())
	h.create(t, "long", "long.gguf") // whose context length is more than the host's default

	samples := h.path("samples.jsonl")
	lengths := []string{"--lengths", "1k,6k", "--limit", "3"}
	eval(t, append([]string{
		"niah_single_1", h.path("long.gguf"), "--write-samples", samples,
	}, lengths...)...)
	scores := func(args ...string) (cells []recall.Cell, said string) {
		c, said := eval(t, append(append([]string{
			"niah_single_1", h.path("long.gguf"), "--samples", samples, "--json",
		}, lengths...), args...)...)
		return c.Tasks[0].Results[0].(*recall.Result).Lengths, said
	}
	here, _ := scores("--methods", "model")
	for _, url := range []string{s.URL(), s.URL() + "/v1"} {
		there, said := scores("--server", url, "--server-model", "long")
		require.Equal(t, 3, there[0].Samples)
		assert.InDelta(t, *here[0].Score, *there[0].Score, 0.34, "of three, a tie at most")
		assert.Nil(t, there[1].Score, "not 0 %%")
		assert.Equal(t, 3, there[1].Unscored)
		assert.Regexp(t, `niah_single_1 at 6144 tokens: 3 of 3 samples not scored: not answered: `+
			`truncated: the server read \d{4} of \d{4} tokens`, said)
		t.Log(said)
	}
	c, said := eval(t, "passkey", h.path("long.gguf"), "--lengths", "1k,6k", "--trials", "1",
		"--depths", "0.5,1", "--server", s.URL(), "--server-model", "long", "--json")
	assert.Equal(t, 2, c.Tasks[0].Results[0].(*evals.PasskeyResult).Lengths[0].Trials)
	assert.Contains(t, said, "passkey at 6144 tokens: 2 of 2 trials not scored: not answered: "+
		"truncated: the server read ")
	// The same server with a context that holds them.
	held, said := scores("--server", s.URL(), "--server-model", "long", "--num-ctx", "8k")
	require.NotNil(t, held[1].Score, said)
	assert.InDelta(t, *here[1].Score, *held[1].Score, 0.34)
}
