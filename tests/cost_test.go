package tests

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// BenchmarkCost is what rows cost: tokens per second of the patched host with a ladder and without,
// as shares of the unpatched host's. The three run in turn, so that a machine whose speed drifts
// slows all alike; the figures are medians over b.N rounds. Say -benchtime 9x.
func BenchmarkCost(b *testing.B) {
	small := writeDefault(b, nil)
	for _, m := range []struct {
		name, path      string
		prefill, decode int
	}{
		{"default", small, 2048, 256},
		{"SmolLM2", smollm2(b), 1024, 64},
	} {
		b.Run(m.name, func(b *testing.B) {
			if m.path == "" {
				b.Skip("no model in build/smollm2: run make smollm2 first")
			}
			laddered := withLadder(b, m.path, m.prefill+m.decode)
			rates := map[string][]float64{}
			sides := []struct{ name, host, model string }{
				{"stock", "stock", m.path},
				{"patched", "patched", m.path},
				{"ladder", "patched", laddered},
			}
			for i := range b.N {
				for j := range sides {
					side := sides[(i+j)%len(sides)] // none is always the first
					var r map[string]float64
					probe(b, side.host, &r, "speed", side.model, strconv.Itoa(m.prefill),
						strconv.Itoa(m.decode))
					for _, phase := range []string{"prefill", "decode"} {
						rates[side.name+" "+phase] = append(rates[side.name+" "+phase], r[phase])
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			for _, phase := range []string{"prefill", "decode"} {
				stock := rates["stock "+phase]
				b.ReportMetric(median(stock), phase+"-tokens/s")
				for _, side := range []string{"patched", "ladder"} {
					ratios := make([]float64, b.N)
					for i, r := range rates[side+" "+phase] {
						ratios[i] = r / stock[i]
					}
					b.ReportMetric(median(ratios), fmt.Sprintf("%s-%s/stock", side, phase))
					b.ReportMetric(slices.Min(ratios), fmt.Sprintf("%s-%s-min", side, phase))
					b.ReportMetric(slices.Max(ratios), fmt.Sprintf("%s-%s-max", side, phase))
				}
			}
		})
	}
}

// smollm2 is the path of the real model, "" where it was not fetched.
func smollm2(t testing.TB) string {
	paths, err := filepath.Glob("../build/smollm2/*.gguf")
	require.NoError(t, err)
	if len(paths) == 0 {
		return ""
	}
	return paths[0]
}

// withLadder converts a model for sequences of n tokens, with a start window; for n up to L the
// rung is one for such lengths.
func withLadder(t testing.TB, path string, n int) string {
	m, err := convert.Inspect(path)
	require.NoError(t, err)
	rungs := []ropescale.Rung{someRung(m.Rope(), n, 16, 1.1)}
	if n <= m.OriginalContextLength {
		rungs = append(rungs, someRung(m.Rope(), 2*m.OriginalContextLength, 16, 1.1))
	}
	out := filepath.Join(t.TempDir(), "ladder.gguf")
	_, err = convert.Convert(t.Context(), path, out, someLadder(t, m.Rope(), rungs...),
		convert.Options{})
	require.NoError(t, err)
	return out
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return x[len(x)/2]
}
