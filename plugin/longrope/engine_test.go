//go:build cgo

package longrope

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
)

// TestRealEngine takes the default model through search, convert, eval and show on the engine that the program has. The
// budgets are so small that the search finds next to nothing; what a search is worth is measured elsewhere.
func TestRealEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a model for some seconds; leave out -short")
	}
	dir := t.TempDir()
	model, long, factors := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "long.gguf"), filepath.Join(dir, "factors.json")
	require.NoError(t, os.WriteFile(model, defaultmodel.Model, 0o644))
	run := func(args ...string) []byte {
		var out, stderr bytes.Buffer
		cmd := newCommand(openEngine)
		cmd.SetOut(&out)
		cmd.SetErr(&stderr)
		cmd.SetArgs(args)
		require.NoError(t, cmd.Execute(), "%v\n%s", args, stderr.String())
		return out.Bytes()
	}

	var found searchResult
	require.NoError(t, json.Unmarshal(run("search", model, "--target", "512", "--windows", "1", "--budget", "2560", "-o", factors, "--json"), &found))
	require.Len(t, found.Rungs, 1)
	require.Len(t, found.Rungs[0].Rows, 4)
	fitness := map[string]float64{}
	for _, r := range found.Rungs[0].Rows {
		require.NotNil(t, r.Fitness, r.Method)
		require.NotNil(t, r.HeldOut, r.Method)
		fitness[r.Method] = *r.Fitness
	}
	for _, name := range seedOrder {
		assert.LessOrEqual(t, fitness["longrope"], fitness[name], "the search evaluates %s too", name)
	}
	assert.Equal(t, 5, found.Trials)

	run("convert", model, "--factors", factors, "-o", long)
	// What is measured with factors set on the plain model is what the converted one carries.
	var set, carried evals.Comparison
	args := []string{"--lengths", "512", "--windows", "1", "--json"}
	require.NoError(t, json.Unmarshal(run(append([]string{"eval", "perplexity", model, "--methods", "stock," + factors}, args...)...), &set))
	require.NoError(t, json.Unmarshal(run(append([]string{"eval", "perplexity", long}, args...)...), &carried))
	require.Len(t, set.Rows, 2)
	require.Len(t, carried.Rows, 2)
	for i := range set.Rows {
		assert.Equal(t, set.Rows[i].Method, carried.Rows[i].Method)
		assert.InEpsilon(t, *set.Rows[i].Perplexity, *carried.Rows[i].Perplexity, 1e-4, "%s: factors in the file are float32", set.Rows[i].Method)
	}
	assert.NotEqual(t, *set.Rows[0].Perplexity, *set.Rows[1].Perplexity, "factors change something")
	assert.Contains(t, string(run("show", long)), "rung 1             512     2x")
}
