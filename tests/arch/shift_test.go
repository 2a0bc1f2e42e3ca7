package arch

import (
	"errors"
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// shift holds all cached keys after a context shift against the oracle.
func (c *candidate) shift(base run, watch session.Options, pairs int) (note string) {
	if slices.ContainsFunc(base.layers,
		func(l Layer) bool { return len(l.Ropes) > 0 && l.Ropes[0].Mode&8 != 0 }) {
		return noShift // the engine aborts: its runner must not ask for one
	}
	off, err := c.shifted(c.ladder(Ladder(pairs)), watch, 2, base, pairs)
	if err != nil {
		return err.Error()
	}
	if off < bound {
		return ""
	}
	hosts, err := c.shifted(c.plain, watch, -1, base, pairs)
	require.NoError(c, err)
	require.Greater(c, hosts, bound,
		"keys are off by %g after a context shift, and not without a ladder", off)
	return "the host's own context shift is wrong"
}

const (
	keep    = 4
	discard = 10
	noShift = "no context shift"
)

// shifted is how far keys are off after a shift. An error is why there is none.
func (c *candidate) shifted(
	path string,
	watch session.Options,
	rung int,
	base run,
	pairs int,
) (worst float64, err error) {
	s, err := session.Open(path, watch)
	require.NoError(c, err)
	defer s.Close()
	if !s.CanShift() {
		return 0, errors.New(noShift)
	}
	if rung >= 0 {
		s.SetRung(0, rung)
	}
	text := ids(Long + 1)
	_, err = s.Prefill(text[:Long], 0, 0, Long)
	require.NoError(c, err)
	before := c.layers(s)
	if s.Shift(0, keep, discard, Long) != nil {
		return 0, fmt.Errorf("no context shift: recurrent")
	}
	require.NoError(c, s.Decode(session.Token{ID: text[Long], Pos: Long - discard, Logits: true}))
	after := c.layers(s)
	after = after[len(after)-len(before):]

	moved := make([]int, Long)
	for i := range moved {
		switch {
		case i < keep:
			moved[i] = i
		case i < keep+discard:
			moved[i] = -1
		default:
			moved[i] = i - discard
		}
	}
	for i, l := range before {
		r := func(int) ropescale.Rung { return Plain(pairs) }
		if len(l.Ropes) > 0 {
			g, unknown := own(base.layers[i].Ropes[0])
			if unknown != nil && (l.Local || rung < 0) {
				continue
			}
			if r = func(int) ropescale.Rung { return g }; rung >= 0 {
				if r, err = c.row(l, base.layers[i].Ropes[0], c.row0); err != nil {
					return 0, err
				}
			}
		}
		d, err := l.Shifted(after[i], moved, r)
		if err != nil {
			return 0, err
		}
		if d > bound {
			c.Logf("after a context shift keys of attention %d are off by %.2g (ladder: %v, "+
				"local: %v, RoPE: %d)", i, d, rung >= 0, l.Local, len(l.Ropes))
		}
		worst = max(worst, d)
	}
	return worst, nil
}
