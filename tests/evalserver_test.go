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

// eval runs "longrope eval" and returns its result, where it has one.
func eval(t *testing.T, args ...string) (c *evals.Comparison) {
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
	return c
}

// TestEvalStock: samples that the engine here is asked are asked of the unpatched host too, through
// both of its APIs. It cuts what its default num_ctx does not hold, which is reported as truncated.
func TestEvalStock(t *testing.T) {
	binary, err := filepath.Abs("../build/stock/bin/ollama")
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		strict.Skipf(t, "no unpatched host (%v): run make stock first", err)
	}
	// Without a GPU the default is 4,096 tokens.
	s, err := server.Start(t.Context(), binary, t.TempDir(), "OLLAMA_CONTEXT_LENGTH=",
		"OLLAMA_NUM_PARALLEL=1", "CUDA_VISIBLE_DEVICES=-1", "HIP_VISIBLE_DEVICES=-1",
		"GGML_VK_VISIBLE_DEVICES=-1")
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
	lengths := []string{"--lengths", "1k,6k", "--limit", "2"}
	eval(t, append([]string{
		"niah_single_1", h.path("long.gguf"), "--write-samples", samples,
	}, lengths...)...)
	scores := func(args ...string) []recall.Cell {
		c := eval(t, append(append([]string{
			"niah_single_1", h.path("long.gguf"), "--samples", samples, "--json",
		}, lengths...), args...)...)
		return c.Tasks[0].Results[0].(*recall.Result).Lengths
	}
	here := scores("--methods", "model")
	for _, url := range []string{s.URL(), s.URL() + "/v1"} {
		there := scores("--server", url, "--server-model", "long")
		require.Equal(t, 2, there[0].Samples)
		assert.InDelta(t, *here[0].Score, *there[0].Score, 0.51, "of two, a tie at most")
		assert.Nil(t, there[1].Score, "not 0 %%")
		assert.Equal(t, 2, there[1].Unscored)
		assert.Regexp(t, `^not answered: truncated: the server read \d{4} of \d{4} tokens$`,
			there[1].Note)
		t.Log(there[1].Note)
	}
	c := eval(t, "passkey", h.path("long.gguf"), "--lengths", "1k,6k", "--trials", "1",
		"--depths", "0.5,1", "--server", s.URL(), "--server-model", "long", "--json")
	keys := c.Tasks[0].Results[0].(*evals.PasskeyResult)
	assert.Equal(t, 2, keys.Lengths[0].Trials)
	assert.Contains(t, keys.Note(), "passkey at 6144 tokens: 2 of 2 trials not scored: not "+
		"answered: truncated: the server read ")
	// The same server with a context that holds them.
	held := scores("--server", s.URL(), "--server-model", "long", "--num-ctx", "8k")
	require.NotNil(t, held[1].Score, held[1].Note)
	assert.InDelta(t, *here[1].Score, *held[1].Score, 0.51)
}
