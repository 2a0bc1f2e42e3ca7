//go:build cgo

package engine

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// The tokens that are kept of the last sequence change no bit of a result, and are not computed
// again.
func TestKept(t *testing.T) {
	open := func() *Engine { return openPrefixes(t, "", length, Options{}).Engine }
	e, fresh := open(), open()
	long := ladder(t, e, rung(e, length, 16, 8, 1.1))
	body := text(t, e, 700)
	with := func(n int, tail ...int) []int { return append(body[:n:n], tail...) }
	other := append([]int{body[7]}, body[1:600]...)
	type call struct {
		name     string
		tokens   []int
		from     int // 0: generate
		ladder   *ropescale.Ladder
		computed int
	}
	for _, c := range []call{
		{"first", with(600, 5, 6, 7), 0, nil, 603},
		{"whether it can be cut is asked", with(600, 8, 9), 0, nil, 602},
		{"another question", with(600, 10, 11, 12), 0, nil, 603 - 512},
		{"its answer is scored", with(600, 10, 11, 12, 13, 14), 603, nil, 605 - 512},
		{"scored from the start", with(400), 1, nil, 400},
		{"from the second batch on", with(600), 300, nil, 600 - 256},
		{"a shorter one", with(400), 0, nil, 400 - 256},
		{"the same", with(512), 0, nil, 512 - 256},
		{"the same again", with(512), 0, nil, 512 - 256},
		{"another text", other, 0, nil, 600},
		{"its own again", with(600), 0, nil, 600},
		{"another ladder", with(600), 0, long, 600},
		{"on its rung", with(600, 3), 0, long, 601 - 512},
		{"a shorter one on another rung", with(200), 0, long, 200},
		{"the longer one again", with(600, 3), 0, long, 601},
	} {
		for _, x := range []*Engine{e, fresh} {
			require.NoError(t, setLadder(x, c.ladder, x == fresh))
		}
		before := e.kept.computed
		if c.from == 0 {
			got, err := e.Generate(context.Background(), c.tokens, 12)
			require.NoError(t, err)
			want, err := fresh.Generate(context.Background(), c.tokens, 12)
			require.NoError(t, err)
			assert.Equal(t, want, got, c.name)
		} else {
			got, err := e.NLL(context.Background(), c.tokens, c.from)
			require.NoError(t, err)
			want, err := fresh.NLL(context.Background(), c.tokens, c.from)
			require.NoError(t, err)
			assert.Equal(t, want, got, c.name)
		}
		assert.Equal(t, c.computed, e.kept.computed-before, c.name)
	}
}

// setLadder sets a ladder where it is another, or always, which empties the cache.
func setLadder(e *Engine, l *ropescale.Ladder, always bool) error {
	if !always && (l == nil) == (e.own.values == nil) {
		return nil
	}
	return e.SetLadder(l)
}

// A result that is no number is not carried on.
func TestKeptIsNotSpoiled(t *testing.T) {
	e := openPrefixes(t, "", length, Options{}).Engine
	body := text(t, e, 600)
	want, err := e.NLL(context.Background(), body, 500)
	require.NoError(t, err)
	bad := rung(e, length, 0, 1, 1)
	for i := range bad.Factors {
		bad.Factors[i] = 1e-19 // angles that float32 knows nothing of
	}
	require.NoError(t, e.SetLadder(ladder(t, e, bad)))
	e.kept.spoiled = true // as after an output that was not finite
	_, err = e.NLL(context.Background(), body, 500)
	require.NoError(t, err)
	e.kept.check(1)
	require.NoError(t, e.SetLadder(nil))
	got, err := e.NLL(context.Background(), body, 500)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	// An interrupted run leaves nothing to go by.
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = e.NLL(ended, body, 500)
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, e.kept.tokens)
	got, err = e.NLL(context.Background(), body, 500)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

// The keys of a prefix and what is kept do not mix.
func TestKeptAndPrefixes(t *testing.T) {
	e := openPrefixes(t, "", length, Options{Forks: 1}).Engine
	body := text(t, e, 600)
	want, err := e.NLL(context.Background(), body, 300)
	require.NoError(t, err)
	p, _, err := e.NewPrefix(context.Background(), body[:500], rung(e, length, 0, 4, 1), 1)
	require.NoError(t, err)
	defer p.Close()
	got, err := e.NLL(context.Background(), body, 300)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}
