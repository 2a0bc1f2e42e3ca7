//go:build unix

package tests

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// BenchmarkMixedRungs is the time of batches in which four sequences are on rungs 0, 1, 2 and 2, over that of the same
// batches with all on rung 2, on each engine: decode, one token of each sequence at a time, and prefill of 32 tokens of each.
// Both are in one session, so graphs and places in memory are the same. Say -benchtime 200x.
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
							require.NoError(b, s.SetRung(seq, rung)) // which keys these are is all the same to the time
						}
						for i := range c.steps + 1 {
							var batch []session.Token
							for seq := range sequences {
								for j := range c.each {
									batch = append(batch, session.Token{ID: i + j + seq, Pos: n + i*c.each + j, Seq: seq, Logits: j+1 == c.each})
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
				reportRatio(b, "mixed/one", round([sequences]int{0, 1, 2, 2}), round([sequences]int{2, 2, 2, 2}))
			})
		}
	}
}

// BenchmarkGoLadder is what rows cost the Go engine: batches of four sequences on a rung, over the same without a ladder.
// Both are in one session; the ladder is set anew and prompts are filled in between. Say -benchtime 50x.
func BenchmarkGoLadder(b *testing.B) {
	const sequences, n, steps = 4, 64, 16
	s := crossers(writeDefault(b, nil))["Go"](b, session.Options{Context: 256, Sequences: sequences})
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
					batch = append(batch, session.Token{ID: i + seq, Pos: n + i, Seq: seq, Logits: true})
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

// reportRatio takes the times of two ways in turn, b a a b in each of b.N rounds so that a drift of the machine's speed counts
// for neither, and reports the rounds' ratios a/b.
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
