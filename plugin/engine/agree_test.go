//go:build cgo

package engine

import (
	"context"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/ropescale"
)

// The measurement of evals/results/2026-11-30-cheap-readings.md is TestAgreement with more sets.
var agree = struct {
	model, text                               *string
	tokens, target, sets, windows, keys, tail *int
}{
	flag.String("agree-model", "", "model of TestAgreement; the default model if empty"),
	flag.String("agree-text", "", "its text; the default model's test texts if empty"),
	flag.Int("agree-tokens", 2048, "tokens of its windows"),
	flag.Int("agree-target", 2048, "tokens that its sets of factors are made for"),
	flag.Int("agree-sets", 10, "sets of factors"),
	flag.Int("agree-windows", 1, "windows"),
	flag.Int("agree-keys", 4, "keys in each"),
	flag.Int("agree-tail", 256, "tokens of text scored at the end of each"),
}

// aroundYaRN are sets of factors near YaRN and far from it: NTK, between the two, between YaRN and
// position interpolation, other attention factors and start windows, and smooth random changes of
// 3 to 30 %.
func aroundYaRN(t *testing.T, r ropescale.Rope, target, n int) []ropescale.Rung {
	yarn, err := ropescale.YaRN(r, target, ropescale.MethodOptions{})
	require.NoError(t, err)
	ntk, err := ropescale.NTK(r, target, ropescale.MethodOptions{})
	require.NoError(t, err)
	pi := r.Identity(target)
	for i := range pi.Factors {
		pi.Factors[i] = r.Scale(target)
	}
	plain, window := yarn, yarn
	plain.AttentionFactor, window.StartWindow = 1, 32
	sets := []ropescale.Rung{yarn, ntk, plain, between(yarn, ntk), between(yarn, pi), window}
	rng := rand.New(rand.NewPCG(7, 8))
	for len(sets) < n {
		size := []float64{0.03, 0.1, 0.2, 0.3}[len(sets)%4]
		var knots [7]float64
		for k := range knots {
			knots[k] = size * rng.NormFloat64()
		}
		g := yarn
		g.Factors = nil
		for i, f := range yarn.Factors {
			k, part := math.Modf(float64(i) / float64(len(yarn.Factors)) * float64(len(knots)-1))
			by := knots[int(k)]*(1-part) + knots[int(k)+1]*part
			g.Factors = append(g.Factors, max(f*math.Exp(by), 0.9))
		}
		g.AttentionFactor *= 1 + size/3*rng.NormFloat64()
		sets = append(sets, g)
	}
	return sets[:n]
}

// between is the geometric mean of two rungs.
func between(a, b ropescale.Rung) ropescale.Rung {
	g := a
	g.Factors = nil
	for i := range a.Factors {
		g.Factors = append(g.Factors, math.Sqrt(a.Factors[i]*b.Factors[i]))
	}
	g.AttentionFactor = math.Sqrt(a.AttentionFactor * b.AttentionFactor)
	return g
}

// TestAgreement measures how far cheap losses of sets of factors, with YaRN as the base and with
// NTK, agree with exact ones: those of a prefix whose base is the set itself.
func TestAgreement(t *testing.T) {
	texts := []evals.Text{}
	for _, x := range defaultmodel.TestTexts() {
		texts = append(texts, evals.Text(x))
	}
	if *agree.text != "" {
		b, err := os.ReadFile(*agree.text)
		require.NoError(t, err)
		texts = []evals.Text{{Name: *agree.text, Body: string(b)}}
	}
	e := openPrefixes(t, *agree.model, *agree.tokens, Options{Forks: 1})
	windows, err := evals.SampleWindows(e, texts, *agree.tokens, *agree.windows)
	require.NoError(t, err)
	all, err := evals.HideForks(e, windows,
		evals.ForkOptions{Stretches: 1, StretchTokens: *agree.tail, Keys: *agree.keys, Seed: 3})
	require.NoError(t, err)
	sets := aroundYaRN(t, e.rope, *agree.target, *agree.sets)

	ctx := context.Background()
	kinds := []string{"text", "keys"}
	names := []string{"exact", "base YaRN", "base NTK"}
	losses := map[string]map[string][]float64{}
	for _, kind := range kinds {
		losses[kind] = map[string][]float64{}
		for _, name := range names {
			losses[kind][name] = make([]float64, len(sets))
		}
	}
	for _, f := range all {
		bases := [3]evals.Prefix{}
		for b := range 2 {
			bases[1+b], _, err = e.NewPrefix(ctx, f.Tokens, sets[b], len(f.Tokens))
			require.NoError(t, err)
		}
		for i, g := range sets {
			bases[0], _, err = e.NewPrefix(ctx, f.Tokens, g, len(f.Tokens))
			require.NoError(t, err)
			for b, name := range names {
				scores, err := f.Score(ctx, bases[b], g)
				require.NoError(t, err)
				keys, _ := evals.MeanStderr(scores[1:])
				losses["text"][name][i] += scores[0] / float64(len(all))
				losses["keys"][name][i] += keys / float64(len(all))
			}
			bases[0].Close()
			t.Logf("set %d so far: text %.4f, keys %.3f", i, losses["text"]["exact"][i],
				losses["keys"]["exact"][i])
		}
		bases[1].Close()
		bases[2].Close()
	}
	for i, g := range sets {
		t.Logf("%.3f from YaRN, %.3f from NTK: text %.4f %.4f %.4f, keys %.3f %.3f %.3f",
			ropescale.Distance(sets[0], g), ropescale.Distance(sets[1], g),
			losses["text"][names[0]][i], losses["text"][names[1]][i], losses["text"][names[2]][i],
			losses["keys"][names[0]][i], losses["keys"][names[1]][i], losses["keys"][names[2]][i])
	}
	for _, kind := range kinds {
		for _, name := range names[1:] {
			a := agreementOf(losses[kind][name], losses[kind]["exact"])
			t.Logf("%s, %s: Spearman %.3f, bias %.4f, spread %.4f", kind, name, a.Spearman, a.Bias,
				a.Spread)
			if kind == "text" && len(sets) >= 10 {
				assert.Greater(t, a.Spearman, 0.8)
			}
		}
	}
	// the base itself is exact
	assert.Equal(t, losses["text"]["exact"][0], losses["text"]["base YaRN"][0])
	assert.Equal(t, losses["keys"]["exact"][1], losses["keys"]["base NTK"][1])
}
