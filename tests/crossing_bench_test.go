package tests

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/ropescale"
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

// BenchmarkCrossing is what a user chooses by: when a sequence of the default model grows past a rung of a YaRN ladder, the
// time that each policy takes, and the perplexity of the next 128 tokens of text. "stay" goes on with the old rung's factors.
// Keys are float16, as the host's; one thread.
func BenchmarkCrossing(b *testing.B) {
	const after, windows = 128, 16
	path := writeDefault(b, nil)
	r := defaultLlama(b).Rope
	L := r.OriginalContextLength
	l := yarnLadder(b, r, 2, 4, 8)
	text := testTokens(b, path)
	s := open(b, path, session.Options{Context: 8*L + after, Keys: "f16", Flash: true})
	require.NoError(b, s.SetLadder(l))

	// a prompt as the runner has it: one token's logits
	fill := func(tokens []int, rung int) {
		require.NoError(b, s.Remove(0, 0, -1))
		require.NoError(b, s.SetRung(0, rung))
		for i := 0; i < len(tokens); i += 512 {
			var batch []session.Token
			for j := i; j < min(i+512, len(tokens)); j++ {
				batch = append(batch, session.Token{ID: tokens[j], Pos: j, Logits: j+1 == len(tokens)})
			}
			require.NoError(b, s.Decode(batch...))
		}
	}
	for i, n := range []int{L, 2 * L, 4 * L} {
		rung := i + 1
		for _, policy := range []string{"recompute", "rerotate", "stay"} {
			b.Run(fmt.Sprintf("%d/%s", n, policy), func(b *testing.B) {
				var spent time.Duration
				nll := 0.0
				for range b.N {
					spent, nll = 0, 0
					for w := range windows {
						tokens := text[w*len(text)/windows:][:n+after]
						if policy != "recompute" {
							fill(tokens[:n], rung-1)
						}
						started := time.Now()
						switch policy {
						case "recompute":
							fill(tokens[:n], rung)
						case "rerotate":
							require.NoError(b, s.SetRung(0, rung))
						}
						spent += time.Since(started)
						logits, err := s.Prefill(tokens[n:n+after-1], 0, n, 512)
						require.NoError(b, err)
						for i, x := range logits {
							nll += lnPerplexity(x, tokens[n+i+1]) / float64(windows*(after-1))
						}
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(spent.Microseconds())/windows/1000, "ms/crossing")
				b.ReportMetric(math.Exp(nll), "perplexity")
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

// BenchmarkMixedRungs is the time of batches in which four sequences are on rungs 0, 1, 2 and 2, over that of batches in which
// all are on rung 2: the median over rounds that take turns in one session. Say -benchtime 200x.
func BenchmarkMixedRungs(b *testing.B) {
	const sequences, n, steps = 4, 192, 8
	s := open(b, writeDefault(b, nil), session.Options{Context: 256, Sequences: sequences, Keys: "f16", Flash: true})
	require.NoError(b, s.SetLadder(rungLadder(b, defaultLlama(b).Rope)))
	for seq := range sequences {
		_, err := s.Prefill(someTokens(n, s.Vocab(), uint64(seq)), seq, 0, 64)
		require.NoError(b, err)
	}
	round := func(rungs [sequences]int) (spent time.Duration) {
		for seq, rung := range rungs {
			require.NoError(b, s.SetRung(seq, rung)) // which keys these are is all the same to the time
		}
		for i := range steps + 1 {
			var batch [sequences]session.Token
			for seq := range batch {
				batch[seq] = session.Token{ID: i + seq, Pos: n + i, Seq: seq, Logits: true}
			}
			started := time.Now()
			require.NoError(b, s.Decode(batch[:]...))
			if i > 0 { // the first makes a new graph
				spent += time.Since(started)
			}
		}
		for seq := range sequences {
			require.NoError(b, s.Remove(seq, n, -1))
		}
		return spent
	}
	one, mixed := [sequences]int{2, 2, 2, 2}, [sequences]int{0, 1, 2, 2}
	var ratios []float64
	for range b.N {
		t1, t2 := round(one), round(mixed)
		t3, t4 := round(mixed), round(one)
		ratios = append(ratios, float64(t2+t3)/float64(t1+t4))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios), "mixed/one")
}
