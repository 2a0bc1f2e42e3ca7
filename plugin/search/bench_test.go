//go:build cgo

package search

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// BenchmarkSearchTokens compares the tokens that a search evaluates in a second with those of plain
// perplexity of the same model and length, in turns, so that the machine's other work meets both.
// x/plain is their ratio.
func BenchmarkSearchTokens(b *testing.B) {
	const target = 2048
	path := filepath.Join(b.TempDir(), "model.gguf")
	require.NoError(b, os.WriteFile(path, defaultmodel.Model, 0o644))
	e, err := engine.Open(path, engine.Options{Length: target, Threads: 1})
	require.NoError(b, err)
	defer e.Close()
	info := e.Info()
	rope := ropescale.Rope{
		Dims: info.RopeDimensionCount, FreqBase: info.FreqBase,
		OriginalContextLength: info.OriginalContextLength,
	}
	texts, err := TextsFor(e, nil, searchBooks, target, 2)
	require.NoError(b, err)
	model, err := convert.Inspect(path)
	require.NoError(b, err)
	j, err := newJudge(e, texts, target, 2, &Options{Info: model, Algorithm: "cma", Seed: 1})
	require.NoError(b, err)
	study, err := study.New(study.Options{
		Rope: rope, Target: target, Readings: j.Readings, Budget: 1 << 30,
	})
	require.NoError(b, err)
	ladder, err := ropescale.NewLadder(rope, nil, study.Ask()[1].Rung)
	require.NoError(b, err)

	// Of each round: tokens per second of the search over those of plain perplexity.
	var ratios []float64
	var tokens, seconds float64
	for b.Loop() {
		read := 0
		started := time.Now()
		for _, t := range study.Ask()[:1] {
			losses, n, err := j.evaluate(b.Context(), e, &prefixes{}, t.Rung, t.Base,
				t.Readings)
			require.NoError(b, err)
			require.NoError(b, study.Tell(t.ID, losses, n))
			read += n
		}
		search := time.Since(started).Seconds()
		tokens, seconds = tokens+float64(read), seconds+search
		started = time.Now()
		r, err := evals.Perplexity(b.Context(), e, evals.Method{Name: "ntk", Ladder: ladder},
			texts[:1], evals.PerplexityOptions{Length: target, MaxWindows: 2})
		require.NoError(b, err)
		plain := float64(r.EvaluatedTokens) / time.Since(started).Seconds()
		ratios = append(ratios, float64(read)/search/plain)
	}
	slices.Sort(ratios)
	b.ReportMetric(tokens/seconds, "tokens/s")
	b.ReportMetric(ratios[len(ratios)/2], "x/plain")
	b.ReportMetric(ratios[len(ratios)/4], "x/plain-quartile1")
	b.ReportMetric(ratios[len(ratios)*3/4], "x/plain-quartile3")
}
