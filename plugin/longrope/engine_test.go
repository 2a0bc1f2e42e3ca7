//go:build cgo

package longrope

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// runCommand runs a command on the engine that the program has, and returns its standard output.
func runCommand(t *testing.T, args ...string) []byte {
	var out, stderr bytes.Buffer
	cmd := newCommand(openEngine)
	cmd.SetOut(&out)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	require.NoError(t, cmd.Execute(), "%v\n%s", args, stderr.String())
	return out.Bytes()
}

// TestRealEngine takes the default model through search, convert, eval and show on the engine that
// the program has. The budgets are so small that the search finds next to nothing; what a search is
// worth is measured elsewhere.
func TestRealEngine(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a model for some seconds; leave out -short")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	model, long, factors := path("model.gguf"), path("long.gguf"), path("factors.json")
	require.NoError(t, os.WriteFile(model, defaultmodel.Model, 0o644))
	run := func(args ...string) []byte { return runCommand(t, args...) }

	var found search.Result
	said := run("search", model, "--target", "512", "--windows", "1", "--budget", "5k",
		"-o", factors, "--json")
	require.NoError(t, json.Unmarshal(said, &found))
	require.Len(t, found.Rungs, 1)
	methods := ropescale.SeedNames("cma", ropescale.Rope{OriginalContextLength: 256}, 512)
	require.Len(t, found.Rungs[0].Rows, len(methods)+1)
	fitness := map[string]float64{}
	for _, r := range found.Rungs[0].Rows {
		require.NotNil(t, r.Fitness, r.Method)
		fitness[r.Method] = *r.Fitness
	}
	rows := found.Rungs[0].Rows
	rival := slices.MinFunc(rows[:len(rows)-1], func(a, b search.Row) int {
		return cmp.Compare(*a.Fitness, *b.Fitness)
	})
	for _, r := range []search.Row{rival, rows[len(rows)-1]} {
		require.NotNil(t, r.HeldOut, r.Method)
	}
	for _, name := range methods {
		assert.LessOrEqual(t, fitness["longrope"], fitness[name], "it evaluates %s too", name)
	}
	assert.Equal(t, len(methods)+2, found.Trials, "the methods, a start and the mean")

	run("convert", model, "--factors", factors, "-o", long)
	// Factors set on the plain model measure the same as those that the converted one carries.
	var set, carried evals.Comparison
	args := []string{"--lengths", "512", "--windows", "1", "--json"}
	measure := func(c *evals.Comparison, of ...string) {
		of = append([]string{"eval", "perplexity"}, of...)
		require.NoError(t, json.Unmarshal(run(append(of, args...)...), c))
	}
	measure(&set, model, "--methods", "stock,"+factors)
	measure(&carried, long)
	require.Len(t, set.Rows, 2)
	require.Len(t, carried.Rows, 2)
	for i := range set.Rows {
		assert.Equal(t, set.Rows[i].Method, carried.Rows[i].Method)
		assert.InEpsilon(t, *set.Rows[i].Figure("perplexity"),
			*carried.Rows[i].Figure("perplexity"), 1e-4,
			"%s: factors in the file are float32", set.Rows[i].Method)
	}
	assert.NotEqual(t, *set.Rows[0].Figure("perplexity"), *set.Rows[1].Figure("perplexity"),
		"factors change something")
	assert.Contains(t, string(run("show", long)), "rung 1             512     2x")
}

// TestRealReadjustment takes an extended model on from its last rung, and readjusts it for its
// original length, on the engine that the program has: such a rung serves texts that the own RoPE
// served before, and its start window keeps that.
func TestRealReadjustment(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a model for some seconds; leave out -short")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(path("model.gguf"), defaultmodel.Model, 0o644))
	runCommand(t, "convert", path("model.gguf"), "--method", "yarn", "--target", "512",
		"-o", path("long.gguf"))

	var found search.Result
	said := runCommand(t, "search", path("long.gguf"), "--target", "256,1k", "--windows", "1",
		"--budget", "20k", "-o", path("f.json"), "--json")
	require.NoError(t, json.Unmarshal(said, &found))
	require.Len(t, found.Rungs, 2)
	require.Len(t, found.Ladder.Rungs, 3, "the rung for 512 stays")
	methods := func(r search.RungResult) (names []string) {
		for _, row := range r.Rows {
			require.NotNil(t, row.Fitness)
			names = append(names, row.Method)
		}
		return names
	}
	assert.Equal(t, []string{"own", "longrope"}, methods(found.Rungs[0]))
	assert.LessOrEqual(t, *found.Rungs[0].Rows[1].Fitness, *found.Rungs[0].Rows[0].Fitness)
	seeds := ropescale.SeedNames("cma", ropescale.Rope{OriginalContextLength: 512}, 1024)
	assert.Equal(t, append(seeds, "longrope"), methods(found.Rungs[1]))
	// PI is relative to the rung for 512: the pairs that YaRN kept are stretched by 2, those that
	// it stretched by 4.
	linear := found.Rungs[1].Rows[0]
	require.Equal(t, "linear", linear.Method)
	f, err := readFactors(path("f.json"))
	require.NoError(t, err)
	g, err := readFactors(path("long.gguf"))
	require.NoError(t, err)
	assert.Equal(t, g.ladder.Rungs[0].Factors, f.ladder.Rungs[1].Factors)
	again, err := study.Read(path("f.json-1k.study"))
	require.NoError(t, err)
	for i, x := range again.Seeds()["linear"].Rung.Factors {
		assert.InDelta(t, 2*g.ladder.Rungs[0].Factors[i], x, 1e-9)
	}

	// Factors for the original length that are not the own RoPE, as the search of a fine-tuned
	// model finds them.
	const window = 16
	own := &f.ladder.Rungs[0]
	require.Equal(t, 256, own.Length)
	for i := range own.Factors {
		own.Factors[i] = 1 + float64(i)/float64(len(own.Factors))
	}
	own.StartWindow, own.AttentionFactor = window, 1.02
	require.NoError(t, atomicfile.Write(path("hand.json"), f.ladder.WriteFactors))
	runCommand(t, "convert", path("long.gguf"), "--factors", path("hand.json"),
		"-o", path("longer.gguf"))
	nll := func(model string, n int) []float64 {
		e, err := loadEngine(path(model), openOptions{Length: 512})
		require.NoError(t, err)
		defer e.Close()
		tokens, err := e.Tokenize(defaultmodel.TestTexts()[0].Body, false)
		require.NoError(t, err)
		values, err := e.NLL(t.Context(), tokens[:n], 1)
		require.NoError(t, err)
		return values
	}
	plain, readjusted := nll("model.gguf", 256), nll("longer.gguf", 256)
	assert.Equal(t, plain[:window-1], readjusted[:window-1], "the start window keeps the own RoPE")
	different := 0
	for i := window; i < len(plain); i++ {
		if plain[i] != readjusted[i] {
			different++
		}
	}
	assert.Greater(t, different, len(plain)-2*window, "the rest has the rung's factors")
	assert.Equal(t, nll("long.gguf", 400), nll("longer.gguf", 400),
		"a longer text has the rung for 512, as before")
	shown := string(runCommand(t, "show", path("longer.gguf")))
	assert.Contains(t, shown, "no sequences: a shorter rung serves them")
}
