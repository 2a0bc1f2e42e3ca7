package tests

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// sameSums is what logits may differ by when the engine adds the same products in another order, as
// it does for another number of tokens in a batch: float32 sums of up to 704 products, some 35
// deep: 2^-24 * sqrt(704 * 35) is 1e-5 of the largest logit; three times that for both sides and
// the worst of many.
const sameSums = 3e-5

func rungLadder(t testing.TB, r ropescale.Rope) *ropescale.Ladder {
	L := r.OriginalContextLength
	return someLadder(t, r, someRung(r, 2*L, 8, 1.05), someRung(r, 8*L, 20, 1.1))
}

// Sequences on different rungs in one batch have the logits that each has alone: the rung is the
// sequence's, not the batch's.
func TestRungs(t *testing.T) {
	path := writeDefault(t, nil)
	l := rungLadder(t, defaultLlama(t).Rope)
	const n, sequences = 72, 4
	rungs := [sequences]int{2, 0, 1, 2}

	alone := make([][][]float32, sequences)
	s := open(t, path, session.Options{Context: 128})
	require.NoError(t, s.SetLadder(l))
	for seq, rung := range rungs {
		s.Clear()
		require.NoError(t, s.SetRung(0, rung))
		var err error
		alone[seq], err = s.Prefill(someTokens(n, s.Vocab(), uint64(seq)), 0, 0, 512)
		require.NoError(t, err)
	}

	// in batches of unlike shares: sequence q starts q tokens later and gives q+1 tokens at a time
	all := open(t, path, session.Options{Context: 128, Sequences: sequences})
	require.NoError(t, all.SetLadder(l))
	for seq, rung := range rungs {
		require.NoError(t, all.SetRung(seq, rung))
	}
	got := make([][][]float32, sequences)
	for step := 0; ; step++ {
		var batch []session.Token
		for seq := range sequences {
			tokens := someTokens(n, s.Vocab(), uint64(seq))
			for range seq*3 + 2 {
				p := len(got[seq])
				for _, b := range batch {
					if b.Seq == seq {
						p++
					}
				}
				if step >= seq && p < n {
					batch = append(batch,
						session.Token{ID: tokens[p], Pos: p, Seq: seq, Logits: true})
				}
			}
		}
		if len(batch) == 0 {
			break
		}
		require.NoError(t, all.Decode(batch...))
		for i, b := range batch {
			got[b.Seq] = append(got[b.Seq], all.Logits(i))
		}
	}
	for seq, rung := range rungs {
		d := compare(t, alone[seq], got[seq])
		t.Logf("sequence %d on rung %d: %v", seq, rung, d)
		assert.LessOrEqual(t, d.worst, sameSums*d.largest, "sequence %d on rung %d", seq, rung)
	}

	// the rungs differ by more than that
	s.Clear()
	require.NoError(t, s.SetRung(0, 1))
	other, err := s.Prefill(someTokens(n, s.Vocab(), 0), 0, 0, 512)
	require.NoError(t, err)
	d := compare(t, alone[0], other)
	assert.Greater(t, d.worst, 100*sameSums*d.largest, "rungs 1 and 2 give the same")
}

// However a prompt is cut, and with a cached prefix, it has the logits of one plain run. In float32
// up to the order of sums. With the host's own settings the engine also adds up attention's values
// in float16, which rounds by 2^-11 a step, up or down, and it does so in another order for one
// token than for several: 4 * 2^-11 of the largest logit.
func TestChunks(t *testing.T) {
	m := defaultLlama(t)
	L := m.Rope.OriginalContextLength
	path := writeDefault(t, nil)
	l := rungLadder(t, m.Rope)
	for _, c := range []struct {
		name  string
		o     session.Options
		bound float64
	}{
		{"f32", session.Options{Context: 2 * L}, sameSums},
		{"f16 flash", session.Options{Context: 2 * L, Keys: "f16", Flash: true}, 4 * unit16},
	} {
		s := open(t, path, c.o)
		require.NoError(t, s.SetLadder(l))
		tokens := someTokens(L+40, s.Vocab(), 5) // past L, inside of the first chunk of 512
		rung := s.RungFor(len(tokens))
		require.Equal(t, l.RungFor(len(tokens)), rung)
		run := func(t *testing.T, chunk int) [][]float32 {
			t.Helper()
			s.Clear()
			require.NoError(t, s.SetRung(0, rung))
			logits, err := s.Prefill(tokens, 0, 0, chunk)
			require.NoError(t, err)
			return logits
		}
		same := func(t *testing.T, want, got [][]float32) {
			d := compare(t, want, got)
			t.Log(d)
			assert.LessOrEqual(t, d.worst, c.bound*d.largest)
		}

		plain := run(t, 512)
		for _, chunk := range []int{1, 7, 32} {
			t.Run(fmt.Sprintf("%s/%d", c.name, chunk),
				func(t *testing.T) { same(t, plain, run(t, chunk)) })
		}
		t.Run(c.name+"/prefix", func(t *testing.T) {
			run(t, 512)
			const from = 100
			require.NoError(t, s.Remove(0, from, len(tokens)))
			again, err := s.Prefill(tokens[from:], 0, from, 64)
			require.NoError(t, err)
			same(t, plain[from:], again)
		})
	}
}
