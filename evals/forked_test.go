package evals_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/tasktest"
	"github.com/longrope/longrope/ropescale"
)

// plain has a token for each byte.
var plain = tasktest.Bytes{BOS: true}

func forkWindows(t *testing.T, e Engine, length, n int) [][]int {
	windows, err := SampleWindows(e, []Text{*book(12000)}, length, n)
	require.NoError(t, err)
	return windows
}

// TestHideForks: a window's forks score its own text and the keys hidden in it, each asked for by
// itself at the end.
func TestHideForks(t *testing.T) {
	for _, tokenizer := range []tasktest.Tokenizer{plain, tasktest.NewMerges()} {
		for _, keys := range []int{0, 1, 4, 12} {
			e := tasktest.New(tokenizer)
			const length = 2400
			windows := forkWindows(t, e, length, 3)
			o := ForkOptions{Keys: keys, Seed: 1, Stretches: 3, StretchTokens: 200}
			all, err := HideForks(e, windows, o)
			require.NoError(t, err)
			require.Len(t, all, 3)
			for i, f := range all {
				checkForked(t, e, f, windows[i], keys)
			}
			again, err := HideForks(e, windows, o)
			require.NoError(t, err)
			require.Equal(t, all, again)
		}
	}
}

func checkForked(t *testing.T, e *tasktest.Engine, f Forked, window []int, keys int) {
	read := func(tokens []int) string {
		text, err := e.Detokenize(tokens)
		require.NoError(t, err)
		return text
	}
	require.Len(t, f.Scored, 1+keys)
	require.Len(t, f.Forks, 3+keys)
	own := read(window)
	for i, fork := range f.Forks[:3] {
		require.Equal(t, f.Tokens[fork.At:][:len(fork.Tokens)], fork.Tokens, "the prefix's tokens")
		require.Equal(t, len(f.Tokens)*(i+1)/3, fork.At+len(fork.Tokens))
	}
	scored := 0
	for _, s := range f.Scored[0] {
		require.GreaterOrEqual(t, s.From, f.Forks[s.Fork].From)
		text := read(f.Forks[s.Fork].Tokens[s.From:s.To])
		require.Contains(t, own, strings.TrimSpace(strings.ToValidUTF8(text, "")), "its own text")
		require.NotRegexp(t, "pass key|[0-9]{5}", text)
		scored += s.To - s.From
	}
	require.LessOrEqual(t, scored, 600)
	require.Greater(t, scored, 600-60*(1+keys))
	longest := 0
	leads := map[string]bool{}
	for k, spans := range f.Scored[1:] {
		require.Len(t, spans, 1)
		fork := f.Forks[spans[0].Fork]
		require.Equal(t, len(f.Tokens), fork.At)
		require.Equal(t, fork.From, spans[0].From)
		require.Equal(t, len(fork.Tokens), spans[0].To)
		longest = max(longest, len(fork.Tokens))
		question, key, ok := strings.Cut(read(fork.Tokens), "The pass key is ")
		require.True(t, ok)
		require.Contains(t, question, "What is the pass key?")
		require.Regexp(t, "^[1-9][0-9]{4}$", key)
		given := len(key) - len(strings.TrimSpace(read(fork.Tokens[fork.From:])))
		switch {
		case keys == 1:
			require.Zero(t, given)
		case keys <= 9:
			require.GreaterOrEqual(t, given, 1)
			leads[key[:1]] = true
		default:
			require.GreaterOrEqual(t, given, 2)
			leads[key[:2]] = true
		}
		require.Less(t, given, len(key))
		at := strings.Index(read(f.Tokens), "The pass key is "+key+". Remember it.")
		require.GreaterOrEqual(t, at, 0, "key %d is hidden", k)
	}
	require.True(t, keys < 2 || len(leads) == keys, "no two begin alike")
	require.Equal(t, len(window), len(f.Tokens)+longest)
	prefix, forks := f.Computed()
	require.Equal(t, len(f.Tokens), prefix)
	require.Greater(t, forks, 600-1)
	require.Less(t, forks, 600+longest*keys+1)
}

// TestForkedScore: scores are means over spans, and the engine evaluates as many tokens as Computed
// returns.
func TestForkedScore(t *testing.T) {
	ctx := context.Background()
	fake := tasktest.New(plain)
	all, err := HideForks(fake, forkWindows(t, fake, 2400, 1), ForkOptions{Keys: 4, Seed: 2})
	require.NoError(t, err)
	f := all[0]
	// The length is the reach of the fake.
	g := ropescale.Rung{Length: 2000, AttentionFactor: 1, Factors: []float64{1, 4}}

	var want []float64
	for _, spans := range f.Scored {
		sum, n := 0.0, 0
		for _, s := range spans {
			fork := f.Forks[s.Fork]
			all := slices.Concat(f.Tokens[:fork.At], fork.Tokens)
			for i := fork.At + s.From; i < fork.At+s.To; i++ {
				sum += tasktest.Bigram(all[i-1], all[i])
				if i >= g.Length {
					sum += tasktest.Penalty
				}
				n++
			}
		}
		want = append(want, sum/float64(n))
	}
	forker := &tasktest.Forker{Engine: tasktest.New(plain)}
	p, _, err := forker.NewPrefix(ctx, f.Tokens, g, len(f.Tokens))
	require.NoError(t, err)
	got, err := f.Score(ctx, p, g)
	require.NoError(t, err)
	require.InDeltaSlice(t, want, got, 1e-9)
	prefix, forks := f.Computed()
	sum := 0
	for _, n := range forker.Calls {
		sum += n
	}
	require.Equal(t, prefix+forks, sum)
	p.Close()
	require.Zero(t, forker.Open)
}

// TestForkedBadInput: what cannot be laid out or scored is an error that says so.
func TestForkedBadInput(t *testing.T) {
	ctx := context.Background()
	e := &tasktest.Forker{Engine: tasktest.New(plain)}
	windows := forkWindows(t, e, 1200, 1)
	for want, o := range map[string]ForkOptions{
		"ask for 0 to 90":               {Keys: 91},
		"-1 stretches of 128 tokens":    {Stretches: -1},
		"too short for 4 stretches":     {StretchTokens: 299},
		"tokens to text":                {Keys: 12},
		"keys of 1 digits are single":   {Keys: 2, Digits: 1, StretchTokens: 50},
		"digits 19 is outside":          {Digits: 19},
		"keys of 2 digits are single t": {Keys: 10, Digits: 2, StretchTokens: 50, Template: tiny},
	} {
		_, err := HideForks(e, windows, o)
		require.ErrorContains(t, err, want)
	}
	all, err := HideForks(e, windows, ForkOptions{})
	require.NoError(t, err)
	p, _, err := e.NewPrefix(ctx, all[0].Tokens, ropescale.Rung{Length: 1200}, 1200)
	require.NoError(t, err)
	e.Bad = math.Inf(1)
	_, err = all[0].Score(ctx, p, ropescale.Rung{Length: 1200})
	require.ErrorIs(t, err, ErrNotFinite)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = all[0].Score(cancelled, p, ropescale.Rung{Length: 1200})
	require.ErrorIs(t, err, context.Canceled)
}

// TestForkedCheck: what comes from elsewhere is checked before an engine sees it.
func TestForkedCheck(t *testing.T) {
	whole := func() Forked {
		return Forked{
			Tokens: []int{1, 2, 3}, Forks: []Fork{{At: 2, Tokens: []int{3, 4, 5}, From: 1}},
			Scored: [][]ForkSpan{{{0, Span{1, 3}}}},
		}
	}
	require.NoError(t, whole().Check())
	for want, spoil := range map[string]func(*Forked){
		"nothing of 1 forks":              func(f *Forked) { f.Scored = nil },
		"has no span":                     func(f *Forked) { f.Scored[0] = nil },
		"prefix of 3 tokens after 0":      func(f *Forked) { f.Forks[0].At = 0 },
		"prefix of 3 tokens after 4":      func(f *Forked) { f.Forks[0].At = 4 },
		"scored from token 0 of 3":        func(f *Forked) { f.Forks[0].From = 0 },
		"scored from token 3 of 3":        func(f *Forked) { f.Forks[0].From = 3 },
		"no fork 1 of 1":                  func(f *Forked) { f.Scored[0][0].Fork = 1 },
		"no fork -1 of 1":                 func(f *Forked) { f.Scored[0][0].Fork = -1 },
		"tokens 0 to 3 of fork 0":         func(f *Forked) { f.Scored[0][0].From = 0 },
		"tokens 1 to 4 of fork 0":         func(f *Forked) { f.Scored[0][0].To = 4 },
		"tokens 1 to 1 of fork 0":         func(f *Forked) { f.Scored[0][0].To = 1 },
		"tokens 1 to 3 of fork 0, from 2": func(f *Forked) { f.Forks[0].From = 2 },
	} {
		f := whole()
		spoil(&f)
		require.ErrorContains(t, f.Check(), want)
		_, err := f.Score(context.Background(), nil, ropescale.Rung{})
		require.ErrorContains(t, err, want)
	}
}

// tiny leaves much text.
var tiny = Template{Name: "tiny", Filler: "a ", Needle: "{key} ", Question: "What?"}
