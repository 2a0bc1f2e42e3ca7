//go:build unix

package tests

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

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

// BenchmarkCrossing is what a user chooses by: when a sequence of the default model grows past a
// rung of a YaRN ladder, the time that each policy takes, and the perplexity of the next 127 tokens
// of text, in 16 windows of a text that the model has not seen. "stay" continues with the old
// rung's factors. In each window the policies take turns, another one first each time: times are
// the processor's, medians over windows, their ratio has quartiles, and the difference of NLL is
// window by window. Say -benchtime 1x.
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
							started := cpu(b)
							switch policy {
							case "recompute":
								fill(b, s, tokens[:n], rung)
							case "rerotate":
								require.NoError(b, s.SetRung(0, rung))
							}
							times[policy] = append(times[policy], (cpu(b)-started).Seconds()*1000)
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

// BenchmarkMixedRungs is the time of batches in which four sequences are on rungs 0, 1, 2 and 2,
// over that of the same batches with all on rung 2, on each engine: decode, one token of each
// sequence at a time, and prefill of 32 tokens of each. Both are in one session, so graphs and
// places in memory are the same. Say -benchtime 200x.
func BenchmarkMixedRungs(b *testing.B) {
	const sequences, n = 4, 192
	for _, engine := range bothEngines {
		open := crossers(writeDefault(b, nil))[engine]
		for _, c := range []struct {
			name        string
			each, steps int // tokens of a sequence in a batch, batches that are timed
		}{{"decode", 1, 8}, {"prefill", 32, 1}} {
			b.Run(engine+"/"+c.name, func(b *testing.B) {
				s := open(b, session.Options{Context: 256, Sequences: sequences})
				require.NoError(b, s.SetLadder(rungLadder(b, defaultLlama(b).Rope)))
				for seq := range sequences {
					_, err := s.Prefill(someTokens(n, s.Vocab(), uint64(seq)), seq, 0, 64)
					require.NoError(b, err)
				}
				round := func(rungs [sequences]int) func() time.Duration {
					return func() (spent time.Duration) {
						for seq, rung := range rungs {
							// which keys these are is all the same to the time
							require.NoError(b, s.SetRung(seq, rung))
						}
						for i := range c.steps + 1 {
							var batch []session.Token
							for seq := range sequences {
								for j := range c.each {
									batch = append(
										batch,
										session.Token{
											ID:     i + j + seq,
											Pos:    n + i*c.each + j,
											Seq:    seq,
											Logits: j+1 == c.each,
										},
									)
								}
							}
							started := cpu(b)
							require.NoError(b, s.Decode(batch...))
							if i > 0 { // the first makes a new graph
								spent += cpu(b) - started
							}
						}
						for seq := range sequences {
							require.NoError(b, s.Truncate(seq, n))
						}
						return spent
					}
				}
				reportRatio(b, "mixed/one", round([sequences]int{0, 1, 2, 2}),
					round([sequences]int{2, 2, 2, 2}))
			})
		}
	}
}

// BenchmarkGoLadder is what rows cost the Go engine: batches of four sequences on a rung, over the
// same without a ladder. Both are in one session; the ladder is set again and prompts are filled in
// between. Say -benchtime 50x.
func BenchmarkGoLadder(b *testing.B) {
	const sequences, n, steps = 4, 64, 16
	s := crossers(writeDefault(b, nil))["Go"](b,
		session.Options{Context: 256, Sequences: sequences})
	l := rungLadder(b, defaultLlama(b).Rope)
	round := func(ladder *ropescale.Ladder, rung int) func() time.Duration {
		return func() (spent time.Duration) {
			require.NoError(b, s.SetLadder(ladder))
			for seq := range sequences {
				require.NoError(b, s.SetRung(seq, rung))
				_, err := s.Prefill(someTokens(n, s.Vocab(), uint64(seq)), seq, 0, n)
				require.NoError(b, err)
			}
			for i := range steps {
				var batch []session.Token
				for seq := range sequences {
					batch = append(batch,
						session.Token{ID: i + seq, Pos: n + i, Seq: seq, Logits: true})
				}
				started := cpu(b)
				require.NoError(b, s.Decode(batch...))
				spent += cpu(b) - started
			}
			return spent
		}
	}
	reportRatio(b, "ladder/none", round(l, 2), round(nil, 0))
}

// cpu is the time that the process has had a processor: what other processes take does not count.
func cpu(b *testing.B) time.Duration {
	var t unix.Timespec
	require.NoError(b, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t))
	return time.Duration(t.Nano())
}

// reportRatio takes the times of two ways in turn, b a a b in each of b.N rounds so that a drift of
// the machine's speed counts for neither, and reports the rounds' ratios a/b.
func reportRatio(b *testing.B, name string, a, other func() time.Duration) {
	a()
	other() // warm
	var ratios []float64
	for range b.N {
		t1, t2 := other(), a()
		t3, t4 := a(), other()
		ratios = append(ratios, float64(t2+t3)/float64(t1+t4))
	}
	b.ReportMetric(0, "ns/op")
	reportQuartiles(b, ratios, name)
}

// reportQuartiles reports the median of ratios, the quartiles, and the ends of the 95 % confidence
// interval of the median, which are order statistics and assume nothing of the distribution.
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
