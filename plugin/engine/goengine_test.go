//go:build cgo

package engine

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/ropescale"
)

// onGo is the default model on the Go engine.
func onGo(t testing.TB, o Options) *goEngine {
	path := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, os.WriteFile(path, defaultmodel.Model, 0o600))
	e, err := openGo(path, o)
	require.NoError(t, err)
	t.Cleanup(e.Close)
	return e
}

// sameNLL is how far apart the engines' NLLs may be, in nats: sums of some hundred float32 have
// other orders, and where a cached key falls on the other side of a float16 it is off by 2^-11.
const sameNLL = 1e-3

// TestEnginesAgree: where both engines run a model, they give the same tokens, NLLs and text, with
// and without factors.
func TestEnginesAgree(t *testing.T) {
	a, b := openDefault(t), onGo(t, Options{Length: length, Threads: 1})
	assert.Equal(t, "go", b.Info().Engine)
	same := b.Info()
	same.Engine, same.Model = a.Info().Engine, a.Info().Model
	assert.Equal(t, a.Info(), same)

	body := defaultmodel.TestTexts()[0].Body + " The pass key is 71432.\n\n\t<s> é ü"
	for _, special := range []bool{false, true} {
		x, err := a.Tokenize(body, special)
		require.NoError(t, err)
		y, err := b.Tokenize(body, special)
		require.NoError(t, err)
		assert.Equal(t, x, y)
		if !special {
			back, err := b.Detokenize(y)
			require.NoError(t, err)
			assert.Equal(t, body, back)
		}
	}

	tokens := text(t, a, length)
	stock := nllOf(t, b, tokens)
	for name, l := range map[string]*ropescale.Ladder{
		"stock": nil, "ladder": ladder(t, a, rung(a, length, 16, 4, 1.1)),
	} {
		require.NoError(t, a.SetLadder(l))
		require.NoError(t, b.SetLadder(l))
		got, want := nllOf(t, b, tokens), nll(t, a, tokens)
		worst, mean := 0.0, 0.0
		for i := range want {
			worst = max(worst, math.Abs(got[i]-want[i]))
			mean += (got[i] - want[i]) / float64(len(want))
		}
		t.Logf("%s: NLLs differ by up to %.2g nats, their means by %.2g", name, worst, mean)
		assert.Less(t, worst, sameNLL, name)
		assert.Less(t, math.Abs(mean), sameNLL/10, name)
		if l != nil {
			assert.NotEqual(t, stock, got, "factors change something")
		}
		x, err := a.Generate(context.Background(), tokens[:200], 8)
		require.NoError(t, err)
		y, err := b.Generate(context.Background(), tokens[:200], 8)
		require.NoError(t, err)
		assert.Equal(t, x, y, name)
	}
}

func nllOf(t testing.TB, e *goEngine, tokens []int) []float64 {
	x, err := e.NLL(context.Background(), tokens, 1)
	require.NoError(t, err)
	require.Len(t, x, len(tokens)-1)
	return x
}

// TestGoKept: what the Go engine keeps of a prefix changes no bit, and what is not finite leaves
// nothing behind.
func TestGoKept(t *testing.T) {
	e := onGo(t, Options{Length: length, Batch: 64, Threads: 1})
	tokens, err := e.Tokenize(defaultmodel.TestTexts()[0].Body, false)
	require.NoError(t, err)
	first, second := tokens[:500], append(append([]int{}, tokens[:300]...), tokens[600:800]...)
	want := nllOf(t, e, second)
	nllOf(t, e, first)
	before := e.kept.computed
	got, err := e.NLL(context.Background(), second, 300)
	require.NoError(t, err)
	assert.Equal(t, want[299:], got)
	assert.Equal(t, 500-256, e.kept.computed-before, "whole batches of the prefix are kept")

	rope := ropescale.Rope{Dims: 64, FreqBase: e.Info().FreqBase, OriginalContextLength: 256}
	loud := rope.Identity(1)
	loud.Length, loud.AttentionFactor = length, 1e6 // keys are float16
	l, err := ropescale.NewLadder(rope, nil, loud)
	require.NoError(t, err)
	require.NoError(t, e.SetLadder(l))
	bad, err := e.NLL(context.Background(), tokens[:length], 1)
	require.NoError(t, err)
	require.True(t, math.IsNaN(bad[len(bad)-1]) || math.IsInf(bad[len(bad)-1], 0))
	require.NoError(t, e.SetLadder(nil))
	assert.Equal(t, want, nllOf(t, e, second))
}

// TestCutSpecial: a text never has the letters of a special token in one part.
func TestCutSpecial(t *testing.T) {
	special := []string{"<s>", "</s>", "<|end|>", "é|", "x"}
	assert.Equal(t, []string{"plain x"}, cutSpecial("plain x", special))
	assert.Equal(t, []string{"a <", "s> <", "/s><", "|end|>"},
		cutSpecial("a <s> </s><|end|>", special))
	assert.Equal(t, []string{"é", "|"}, cutSpecial("é|", special))
}

// TestOpenOn: the engine that is asked for is the one that is opened, and names are held to.
func TestOpenOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, os.WriteFile(path, defaultmodel.Model, 0o600))
	for name, want := range map[string]string{
		"": evals.LlamaEngine, evals.LlamaEngine: evals.LlamaEngine, evals.GoEngine: evals.GoEngine,
	} {
		e, err := OpenOn(name, path, Options{Length: 64})
		require.NoError(t, err)
		assert.Equal(t, want, e.Info().Engine)
		e.Close()
	}
	_, err := OpenOn("rust", path, Options{})
	assert.ErrorContains(t, err, `engine "rust": want llama.cpp or go`)
}
