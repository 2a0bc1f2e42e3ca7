//go:build cgo

package engine

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/ropescale"
)

// window is the length of most prefixes here: the rung that serves it is not the model's own RoPE.
const window = 640

const smollm2 = "../../build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

// Where sums are the same but for their order, float16 activations (and 8-bit ones, with quantised
// weights) that lie between two values are rounded to either: what comes of it is far below what
// candidates differ by, hundredths of a nat in the mean of hundreds of tokens.
const (
	sameToken = 0.02  // of one token
	sameMean  = 0.001 // of the mean of a hundred and more
)

// prefixes is a model that is opened for forks, and n tokens of text for it.
type prefixes struct {
	*Engine
	rope   ropescale.Rope
	tokens []int
}

func openPrefixes(t testing.TB, path string, n int, o Options) prefixes {
	if path == "" {
		path = filepath.Join(t.TempDir(), "model.gguf")
		require.NoError(t, os.WriteFile(path, defaultmodel.Model, 0o600))
	}
	o.Length, o.Threads = n, 1
	e, err := Open(path, o)
	require.NoError(t, err)
	t.Cleanup(e.Close)
	i := e.Info()
	rope := ropescale.Rope{
		Dims: i.RopeDimensionCount, FreqBase: i.FreqBase,
		OriginalContextLength: i.OriginalContextLength,
	}
	return prefixes{e, rope, text(t, e, n)}
}

type method = func(ropescale.Rope, int, ropescale.MethodOptions) (ropescale.Rung, error)

func (e prefixes) method(t testing.TB, m method, start int) ropescale.Rung {
	g, err := m(e.rope, 8*e.rope.OriginalContextLength, ropescale.MethodOptions{StartWindow: start})
	require.NoError(t, err)
	return g
}

// exact evaluates a fork as an exact reading does: as one sequence, on a rung that serves it.
func (e prefixes) exact(t testing.TB, g ropescale.Rung, f evals.Fork) []float64 {
	g.Length = e.info.MaxLength
	require.NoError(t, e.SetLadder(ladder(t, e.Engine, g)))
	tokens := slices.Concat(e.tokens[:f.At], f.Tokens)
	n := len(tokens)
	if g.Length > e.rope.OriginalContextLength {
		for len(tokens) <= e.rope.OriginalContextLength { // the model's own RoPE serves these
			tokens = append(tokens, 0)
		}
	}
	x, err := e.NLL(context.Background(), tokens, f.At+f.From)
	require.NoError(t, err)
	return x[:n-f.At-f.From]
}

func (e prefixes) open(t testing.TB, base ropescale.Rung) evals.Prefix {
	p, _, err := e.NewPrefix(context.Background(), e.tokens[:len(e.tokens)-64], base, 64)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func score(t testing.TB, p evals.Prefix, g ropescale.Rung, forks ...evals.Fork) [][]float64 {
	x, err := p.Score(context.Background(), g, forks)
	require.NoError(t, err)
	require.Len(t, x, len(forks))
	for i, f := range forks {
		require.Len(t, x[i], len(f.Tokens)-f.From)
	}
	return x
}

// forks have different lengths and leave the prefix at several places; one repeats the text.
func (e prefixes) forks() []evals.Fork {
	n := len(e.tokens) - 64
	return []evals.Fork{
		{At: n / 2, Tokens: e.tokens[n/2 : n/2+150], From: 1},
		{At: n, Tokens: e.tokens[10:40], From: 7},
		{At: n, Tokens: e.tokens[n:], From: 1},
		{At: 1, Tokens: e.tokens[1:30], From: 20},
		{At: n / 2, Tokens: e.tokens[100:130], From: 1},
		{At: n - 1, Tokens: e.tokens[400:402], From: 1},
	}
}

// near wants two lists of scores to be the same but for rounding, and returns the largest
// difference of a token.
func near(t testing.TB, want, got [][]float64) (worst float64) {
	require.Len(t, got, len(want))
	var sum, n float64
	for i := range want {
		require.Len(t, got[i], len(want[i]))
		for j := range want[i] {
			worst = max(worst, math.Abs(want[i][j]-got[i][j]))
			sum += got[i][j] - want[i][j]
			n++
		}
	}
	assert.LessOrEqual(t, worst, sameToken)
	assert.LessOrEqual(t, math.Abs(sum/n), sameMean)
	return worst
}

// TestPrefixOfBase: under the base itself, forks score what exact readings do. One at a time, bit
// for bit on a CPU: they are in the same cells. (A batch of a single token is computed in another
// way, so not the last fork.)
func TestPrefixOfBase(t *testing.T) {
	for _, forks := range []int{1, 4} {
		e := openPrefixes(t, "", window, Options{Forks: forks})
		for _, base := range []ropescale.Rung{
			e.method(t, ropescale.YaRN, 0), e.method(t, ropescale.NTK, 40),
		} {
			var want [][]float64
			for _, f := range e.forks() {
				want = append(want, e.exact(t, base, f))
			}
			got := score(t, e.open(t, base), base, e.forks()...)
			t.Logf("%d at once: %.2g nats", forks, near(t, want, got))
			if forks == 1 && e.info.Backend == "CPU" {
				last := len(want) - 1
				assert.Equal(t, want[:last], got[:last])
			}
		}
	}
}

// TestPrefixThereAndBack: keys that are turned from a row to one that does the same score the same.
// At position 0 NTK does what the model's own RoPE does, so a start window of one token is another
// row and changes nothing.
func TestPrefixThereAndBack(t *testing.T) {
	e := openPrefixes(t, "", window, Options{Forks: 4})
	base, other := e.method(t, ropescale.NTK, 0), e.method(t, ropescale.NTK, 1)
	p := e.open(t, base)
	want := score(t, p, base, e.forks()...)
	t.Logf("turned there and back: %.2g nats", near(t, want, score(t, p, other, e.forks()...)))
}

// TestPrefixOfCandidate: a candidate's forks score nearly what exact readings do, and much nearer
// than those of the base. They are the same when they are scored again, after other candidates, and
// in the company of other forks.
func TestPrefixOfCandidate(t *testing.T) {
	e := openPrefixes(t, "", window, Options{Forks: 3})
	base := e.method(t, ropescale.YaRN, 8)
	for _, candidate := range []ropescale.Rung{
		e.method(t, ropescale.NTK, 0), e.method(t, ropescale.NTK, 8),
		e.method(t, ropescale.YaRN, 100),
	} {
		p := e.open(t, base)
		atBase := score(t, p, base, e.forks()...)
		got := score(t, p, candidate, e.forks()...)
		for i, f := range e.forks() {
			want, _ := evals.MeanStderr(e.exact(t, candidate, f))
			cheap, _ := evals.MeanStderr(got[i])
			was, _ := evals.MeanStderr(atBase[i])
			t.Logf("fork %d: exact %.4f, cheap %.4f, base %.4f", i, want, cheap, was)
			if len(got[i]) >= 50 && f.At > 1 {
				assert.Less(t, math.Abs(cheap-want), math.Abs(was-want)/2+0.01)
			}
		}
		assert.Equal(t, got, score(t, p, candidate, e.forks()...), "the same bits again")
		score(t, p, rung(e.Engine, window, 3, 9, 1.2), e.forks()...)
		assert.Equal(t, atBase, score(t, p, base, e.forks()...), "no drift")

		reversed := e.forks()
		slices.Reverse(reversed)
		back := score(t, p, candidate, reversed...)
		slices.Reverse(back)
		t.Logf("in another order: %.2g nats", near(t, got, back))
		var alone [][]float64
		for _, f := range e.forks() {
			alone = append(alone, score(t, p, candidate, f)...)
		}
		t.Logf("one by one: %.2g nats", near(t, got, alone))
	}
}

// TestPrefixSmolLM2: a real model, of grouped queries and 4-bit weights.
func TestPrefixSmolLM2(t *testing.T) {
	if _, err := os.Stat(smollm2); err != nil {
		t.Skip("no build/smollm2: make smollm2")
	}
	e := openPrefixes(t, smollm2, window, Options{Forks: 1})
	base, candidate := e.method(t, ropescale.YaRN, 0), e.method(t, ropescale.NTK, 4)
	p := e.open(t, base)
	for _, f := range e.forks()[:2] {
		assert.Equal(t, e.exact(t, base, f), score(t, p, base, f)[0])
	}
	f := e.forks()[0]
	want, _ := evals.MeanStderr(e.exact(t, candidate, f))
	cheap, _ := evals.MeanStderr(score(t, p, candidate, f)[0])
	was, _ := evals.MeanStderr(score(t, p, base, f)[0])
	t.Logf("exact %.4f, cheap %.4f, base %.4f", want, cheap, was)
	assert.Less(t, math.Abs(cheap-want), math.Abs(was-want)/2+0.01)
}

// TestPrefixes: several prefixes of one engine, with other bases, keep apart, from each other and
// from exact readings.
func TestPrefixes(t *testing.T) {
	e := openPrefixes(t, "", window, Options{Forks: 2})
	yarn, ntk := e.method(t, ropescale.YaRN, 0), e.method(t, ropescale.NTK, 16)
	require.NoError(t, e.SetLadder(ladder(t, e.Engine, rung(e.Engine, window, 16, 4, 1.1))))
	exact := nll(t, e.Engine, e.tokens)
	p, q := e.open(t, yarn), e.open(t, ntk)
	first, second := score(t, p, ntk, e.forks()...), score(t, q, ntk, e.forks()...)
	assert.NotEqual(t, first, second)
	assert.Equal(t, exact, nll(t, e.Engine, e.tokens), "the ladder that was set is still in force")
	assert.Equal(t, first, score(t, p, ntk, e.forks()...))
	assert.Equal(t, second, score(t, q, ntk, e.forks()...))

	// a candidate with which nothing is finite leaves nothing behind
	bad := ntk
	bad.AttentionFactor = 1e9
	x := score(t, p, bad, e.forks()[0])
	assert.True(t, slices.ContainsFunc(x[0], func(v float64) bool {
		return math.IsNaN(v) || math.IsInf(v, 0)
	}))
	assert.Equal(t, second, score(t, q, ntk, e.forks()...))
	q.Close()
	_, err := q.Score(context.Background(), ntk, e.forks())
	assert.ErrorContains(t, err, "closed")
}

// TestPrefixBytes: the memory is known before.
func TestPrefixBytes(t *testing.T) {
	e := openPrefixes(t, "", window, Options{Forks: 2})
	for _, n := range []int{1, 7, window} {
		want, err := e.PrefixBytes(n)
		require.NoError(t, err)
		yarn := e.method(t, ropescale.YaRN, 0)
		p, _, err := e.NewPrefix(context.Background(), e.tokens[:n], yarn, n)
		require.NoError(t, err)
		assert.Equal(t, want, p.(*prefix).state.Size(), n)
		p.Close()
	}
	per, err := e.PrefixBytes(window)
	require.NoError(t, err)
	assert.InEpsilon(t, window*5*2*128*2, per, 0.02, "5 layers of 128 keys and 128 values, float16")
}

// TestPrefixText: what a prefix gives of its own text is the same as when it is evaluated alone.
func TestPrefixText(t *testing.T) {
	e := openPrefixes(t, "", window, Options{Forks: 1})
	g, n := e.method(t, ropescale.YaRN, 16), len(e.tokens)
	p, values, err := e.NewPrefix(context.Background(), e.tokens, g, 100)
	require.NoError(t, err)
	defer p.Close()
	near(t, [][]float64{e.exact(t, g, evals.Fork{At: 1, Tokens: e.tokens[1:], From: 99})},
		[][]float64{values})
	p, values, err = e.NewPrefix(context.Background(), e.tokens, g, n)
	require.NoError(t, err)
	p.Close()
	assert.Empty(t, values)
	_, _, err = e.NewPrefix(context.Background(), e.tokens, g, 0)
	assert.ErrorContains(t, err, "from token 0: want 1 to 640")
	_, _, err = e.NewPrefix(context.Background(), e.tokens, g, n+1)
	assert.ErrorContains(t, err, "from token 641")
}

func TestPrefixBadInput(t *testing.T) {
	ctx := context.Background()
	yarn := func(e prefixes) ropescale.Rung { return e.method(t, ropescale.YaRN, 0) }
	none := openPrefixes(t, "", window, Options{})
	_, _, err := none.NewPrefix(ctx, none.tokens, yarn(none), 1)
	assert.ErrorIs(t, err, evals.ErrNoForks)
	_, err = none.PrefixBytes(10)
	assert.ErrorIs(t, err, evals.ErrNoForks)

	e := openPrefixes(t, "", window, Options{Forks: 2})
	_, _, err = e.NewPrefix(ctx, make([]int, window+1), yarn(e), 1)
	assert.ErrorContains(t, err, "do not fit")
	_, _, err = e.NewPrefix(ctx, nil, yarn(e), 1)
	assert.ErrorContains(t, err, "at least one token")
	bad := yarn(e)
	bad.Factors = bad.Factors[1:]
	_, _, err = e.NewPrefix(ctx, e.tokens, bad, 1)
	assert.ErrorContains(t, err, "factors")
	p := e.open(t, yarn(e))
	_, err = p.Score(ctx, bad, e.forks())
	assert.ErrorContains(t, err, "factors")
	n := window - 64
	for want, f := range map[string]evals.Fork{
		"nothing to score":         {At: 5, Tokens: []int{1, 2}, From: 2},
		"score from token 0":       {At: 5, Tokens: []int{1, 2}},
		"leaves a prefix":          {At: n + 1, Tokens: []int{1, 2}, From: 1},
		"after 0":                  {At: 0, Tokens: []int{1, 2}, From: 1},
		"do not fit the cache":     {At: n, Tokens: make([]int, 2*window), From: 1},
		"is not in the vocabulary": {At: n, Tokens: []int{1, e.info.VocabSize}, From: 1},
	} {
		_, err = p.Score(ctx, yarn(e), []evals.Fork{e.forks()[0], f})
		assert.ErrorContains(t, err, "fork 1: ")
		assert.ErrorContains(t, err, want)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = p.Score(cancelled, yarn(e), e.forks())
	assert.ErrorIs(t, err, context.Canceled)
	_, _, err = e.NewPrefix(cancelled, e.tokens, yarn(e), 1)
	assert.ErrorIs(t, err, context.Canceled)
	score(t, p, yarn(e), e.forks()...)

	_, err = Open(filepath.Join(t.TempDir(), "model.gguf"), Options{Forks: 64})
	assert.ErrorContains(t, err, "forks")
}

// BenchmarkPrefix is what a cheap reading takes of an exact one: 256 tokens of text at the end of a
// window, and 16 questions of 24 tokens, each reading in turn with its rival.
func BenchmarkPrefix(b *testing.B) {
	b.Run("default/2048", func(b *testing.B) { benchmarkPrefix(b, "", 2048) })
	b.Run("smollm2/16384", func(b *testing.B) {
		if _, err := os.Stat(smollm2); err != nil {
			b.Skip("no build/smollm2: make smollm2")
		}
		benchmarkPrefix(b, smollm2, 16384)
	})
}

func benchmarkPrefix(b *testing.B, path string, n int) {
	e := openPrefixes(b, path, n, Options{Forks: 16})
	base, candidate := e.method(b, ropescale.YaRN, 0), e.method(b, ropescale.NTK, 0)
	forks := []evals.Fork{{At: n - 257, Tokens: e.tokens[n-257:], From: 1}}
	for i := range 16 {
		forks = append(forks, evals.Fork{At: n - 64, Tokens: e.tokens[30*i:][:25], From: 18})
	}
	p, _, err := e.NewPrefix(context.Background(), e.tokens, base, len(e.tokens))
	require.NoError(b, err)
	defer p.Close()
	candidate.Length = n
	l := ladder(b, e.Engine, candidate)
	timed := func(f func()) float64 {
		started := time.Now()
		f()
		return time.Since(started).Seconds()
	}
	var exact, cheap, turn []float64
	for range b.N {
		require.NoError(b, e.SetLadder(l))
		exact = append(exact, timed(func() {
			_, err := e.NLL(context.Background(), e.tokens, n-256)
			require.NoError(b, err)
		}))
		score(b, p, base, forks[0])
		cheap = append(cheap, timed(func() { score(b, p, candidate, forks...) }))
		turn = append(turn, timed(func() {
			c, err := e.row(candidate)
			require.NoError(b, err)
			_, err = p.(*prefix).load(c)
			require.NoError(b, err)
		}))
	}
	for _, x := range [][]float64{exact, cheap, turn} {
		slices.Sort(x)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(exact[b.N/2], "exact-s")
	b.ReportMetric(cheap[b.N/2], "cheap-s")
	b.ReportMetric(turn[b.N/2], "turning-s")
	b.ReportMetric(exact[b.N/2]/cheap[b.N/2], "exact/cheap")
}
