package tests

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// The engine's logits are the reference's, with the start window that no other implementation has.
// Weights, activations and cache are float32 here, so what is left is rounding: relative 2^-24 a
// step, in sums of up to 704 products, some 35 of them deep, which is 2^-24 * sqrt(704 * 35) or
// 1e-5; and angles, wrong by up to p * 2^-23 rad (7e-5 at p = 600) in pairs whose scores are about
// 10. Hence 5e-5 of the largest logit. Each case also shows that it would notice: without its start
// window, or else without its rung, logits move by more than forty times that.
func TestReference(t *testing.T) {
	path := writeDefault(t, nil)
	m := defaultLlama(t)
	r := m.Rope
	L := r.OriginalContextLength
	s := open(t, path, session.Options{Context: 4 * L})

	for _, c := range []struct {
		name   string
		tokens int
		rung   *ropescale.Rung
	}{
		{name: "plain", tokens: L},
		{name: "plain past L", tokens: L + L/4},
		{name: "no start window", tokens: L + L/4, rung: ptr(someRung(r, 4*L, 0, 1))},
		{name: "start window", tokens: L + L/4, rung: ptr(someRung(r, 4*L, 20, 1))},
		{name: "attention factor", tokens: L, rung: ptr(someRung(r, 4*L, 0, 1.1))},
		{name: "start window and attention factor", tokens: 2 * L, rung: ptr(someRung(r, 4*L, 32, 1.1))},
		{name: "start window longer than the text", tokens: 48, rung: ptr(someRung(r, 4*L, 64, 1.1))},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := someTokens(c.tokens, s.Vocab(), uint64(c.tokens))
			l, rung := someLadder(t, r), 0
			if c.rung != nil {
				l, rung = someLadder(t, r, *c.rung), 1
				require.NoError(t, s.SetLadder(l))
			} else {
				require.NoError(t, s.SetLadder(nil)) // clears the cache, as any ladder does
			}
			require.NoError(t, s.SetRung(0, rung))
			got, err := s.Prefill(tokens, 0, 0, 512)
			require.NoError(t, err)

			d := compare(t, m.Logits(tokens, l, rung), got)
			t.Log(d)
			assert.LessOrEqual(t, d.worst, 5e-5*d.largest, "engine and reference differ: %v", d)

			if c.rung == nil || c.rung.StartWindow > c.tokens {
				return
			}
			without := r.Identity(4 * L)
			if c.rung.StartWindow > 0 {
				without = *c.rung
				without.StartWindow = 0
			}
			require.NoError(t, s.SetLadder(someLadder(t, r, without)))
			require.NoError(t, s.SetRung(0, 1))
			other, err := s.Prefill(tokens, 0, 0, 512)
			require.NoError(t, err)
			assert.Greater(t, compare(t, other, got).worst, 2e-3*d.largest,
				"the case cannot tell its rung from another")
		})
	}
}

func ptr[T any](v T) *T { return &v }
