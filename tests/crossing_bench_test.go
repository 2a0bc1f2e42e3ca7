package tests

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"testing"
	"time"

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

// fill gives sequence 0 a prompt as the runner does: in batches of 512, for one token's logits.
func fill(b *testing.B, s crosser, tokens []int, rung int) {
	require.NoError(b, s.Truncate(0, 0))
	require.NoError(b, s.SetRung(0, rung))
	for i := 0; i < len(tokens); i += 512 {
		var batch []session.Token
		for j := i; j < min(i+512, len(tokens)); j++ {
			batch = append(batch, session.Token{ID: tokens[j], Pos: j, Logits: j+1 == len(tokens)})
		}
		require.NoError(b, s.Decode(batch...))
	}
}

// BenchmarkCrossing is what a user chooses by: when a sequence of the default model grows past a rung of a YaRN ladder, the
// time that each policy takes, and the perplexity of the next 127 tokens of text, in 16 windows of a text that the model has
// not seen. "stay" goes on with the old rung's factors. In each window the policies take turns, another one first each time:
// times are medians over windows, their ratio has quartiles, and the difference of NLL is window by window. Say -benchtime 1x.
func BenchmarkCrossing(b *testing.B) {
	const after, windows = 128, 16
	path := writeDefault(b, nil)
	r := defaultLlama(b).Rope
	L := r.OriginalContextLength
	l := yarnLadder(b, r, 2, 4, 8)
	text := testTokens(b, path)
	policies := []string{"recompute", "rerotate", "stay"}
	for _, engine := range bothEngines {
		open := crossers(path)[engine]
		for i, n := range []int{L, 2 * L, 4 * L} {
			rung := i + 1
			b.Run(fmt.Sprintf("%s/%d", engine, n), func(b *testing.B) {
				s := open(b, session.Options{Context: n + after + 1})
				require.NoError(b, s.SetLadder(l))
				times, nlls := map[string][]float64{}, map[string][]float64{}
				for round := range b.N {
					for w := range windows {
						tokens := text[w*(len(text)-n-after)/windows:][:n+after]
						for k := range policies {
							policy := policies[(k+w+round)%len(policies)]
							fill(b, s, tokens[:n], rung-1)
							started := time.Now()
							switch policy {
							case "recompute":
								fill(b, s, tokens[:n], rung)
							case "rerotate":
								require.NoError(b, s.SetRung(0, rung))
							}
							times[policy] = append(times[policy], time.Since(started).Seconds()*1000)
							logits, err := s.Prefill(tokens[n:n+after-1], 0, n, 512)
							require.NoError(b, err)
							nll := 0.0
							for i, x := range logits {
								nll += lnPerplexity(x, tokens[n+i+1]) / float64(after-1)
							}
							nlls[policy] = append(nlls[policy], nll)
						}
					}
				}
				b.ReportMetric(0, "ns/op")
				for _, policy := range policies {
					b.ReportMetric(math.Exp(mean(nlls[policy])), policy+"-perplexity")
					if policy != "stay" {
						b.ReportMetric(median(times[policy]), policy+"-ms")
					}
				}
				var ratios, more []float64
				for i := range times["recompute"] {
					ratios = append(ratios, times["recompute"][i]/times["rerotate"][i])
					more = append(more, nlls["rerotate"][i]-nlls["recompute"][i])
				}
				reportQuartiles(b, ratios, "recompute/rerotate")
				more = more[:windows] // the same in every round
				b.ReportMetric(mean(more), "rerotate-more-nats")
				b.ReportMetric(spread(more)/math.Sqrt(windows), "rerotate-more-nats-se")
			})
		}
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

// reportQuartiles reports the median of ratios, the quartiles, and the ends of the 95 % confidence interval of the median, which
// are order statistics and assume nothing of the distribution.
func reportQuartiles(b *testing.B, ratios []float64, name string) {
	x := slices.Sorted(slices.Values(ratios))
	at := func(i float64) float64 { return x[min(max(int(math.Round(i)), 0), len(x)-1)] }
	n := float64(len(x))
	half := 1.96 * math.Sqrt(n) / 2
	b.ReportMetric(median(x), name)
	b.ReportMetric(at(n/4-0.5), name+"-q1")
	b.ReportMetric(at(n*3/4-0.5), name+"-q3")
	b.ReportMetric(at(n/2-0.5-half), name+"-low95")
	b.ReportMetric(at(n/2-0.5+half), name+"-high95")
}

// spread is the standard deviation of a sample.
func spread(x []float64) float64 {
	m, sum := mean(x), 0.0
	for _, v := range x {
		sum += (v - m) * (v - m)
	}
	return math.Sqrt(sum / float64(len(x)-1))
}
