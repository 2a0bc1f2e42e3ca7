package tests

import (
	"log/slog"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/gosession"
	"github.com/longrope/longrope/tests/session"
)

// yarnLadder has a YaRN rung for each scale, with a start window.
func yarnLadder(t testing.TB, r ropescale.Rope, scales ...int) *ropescale.Ladder {
	var rungs []ropescale.Rung
	for _, s := range scales {
		g, err := ropescale.YaRN(r, s*r.OriginalContextLength, ropescale.MethodOptions{})
		require.NoError(t, err)
		g.StartWindow = 8
		for i, f := range g.Factors {
			g.Factors[i] = float64(float32(f))
		}
		rungs = append(rungs, g)
	}
	return someLadder(t, r, rungs...)
}

// testTokens are tokens of a text that the default model has not seen.
func testTokens(t testing.TB, path string) []int {
	e, err := engine.Open(path, engine.Options{Length: 512})
	require.NoError(t, err)
	defer e.Close()
	tokens, err := e.Tokenize(defaultmodel.TestTexts()[0].Body, false)
	require.NoError(t, err)
	return tokens
}

// crosser is a session of either engine.
type crosser interface {
	Decode(batch ...session.Token) error
	Logits(i int) []float32
	Prefill(tokens []int, seq, pos, chunk int) ([][]float32, error)
	Vocab() int
	SetLadder(l *ropescale.Ladder) error
	SetRung(seq, rung int) error // rotates the cached keys that there are
	Truncate(seq, from int) error
}

type llamaCrosser struct{ *session.Session }

func (s llamaCrosser) Truncate(seq, from int) error { return s.Remove(seq, from, -1) }

type goCrosser struct{ *gosession.Session }

func (s goCrosser) Truncate(seq, from int) error { return s.Remove(seq, from) }
func (s goCrosser) SetRung(seq, rung int) error  { return s.Rerotate(seq, rung) }

var bothEngines = []string{"llama.cpp", "Go"}

// crossers open the model on each engine, as the host does: keys in float16. One thread.
func crossers(path string) map[string]func(b *testing.B, o session.Options) crosser {
	return map[string]func(b *testing.B, o session.Options) crosser{
		"llama.cpp": func(b *testing.B, o session.Options) crosser {
			o.Keys, o.Flash = "f16", true
			return llamaCrosser{open(b, path, o)}
		},
		"Go": func(b *testing.B, o session.Options) crosser {
			// what the engine says would come between a benchmark's name and its result
			was := slog.SetLogLoggerLevel(slog.LevelWarn)
			b.Cleanup(func() { slog.SetLogLoggerLevel(was) })
			o.Keys = "f16"
			return goCrosser{openGo(b, path, o)}
		},
	}
}

func lnPerplexity(logits []float32, token int) float64 {
	most := math.Inf(-1)
	for _, v := range logits {
		most = math.Max(most, float64(v))
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - most)
	}
	return math.Log(sum) + most - float64(logits[token])
}
