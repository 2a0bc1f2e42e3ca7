package arch

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// TestForks: every architecture that takes rows in the llama.cpp engine keeps prefixes and forks
// them, or reports why it cannot.
//
// Scores of forks are exact where the layers before the last one with RoPE compute the same under
// every rung. So the models here have attention in that layer alone: in all others its result is
// multiplied by zero.
func TestForks(t *testing.T) {
	names, err := Names(host)
	require.NoError(t, err)
	for _, name := range Variants(names) {
		t.Run(name, func(t *testing.T) {
			arch, _, _ := strings.Cut(name, ",")
			c := &candidate{T: t, arch: arch, hint: Hints[name], dir: t.TempDir()}
			switch {
			case c.hint.NoRoPE:
				t.Skip("no RoPE")
			case arch == "cogvlm":
				t.Skip("the host returns logits of other tokens than those asked for")
			case arch == "chameleon":
				t.Skip("it never says the tokens of so small a vocabulary")
			}
			kv, tensors := c.hint.Start(arch)
			if c.model, err = discover(kv, tensors, c.dir, c.tryOpen); err != nil {
				t.Skip(err)
			}
			c.forks()
		})
	}
}

// forks holds forks against exact readings.
func (c *candidate) forks() {
	c.plain = filepath.Join(c.dir, "plain.gguf")
	require.NoError(c, c.model.Save(c.plain, true))
	watch := c.options()
	watch.Watch = true
	layers := c.compute(c.plain, watch, -1, Long).layers
	last := -1
	for i, l := range layers {
		if len(l.Ropes) > 0 && !l.Local {
			last = i
		}
	}
	if last < 0 {
		c.Skip("no layer that a ladder acts on")
	}
	c.model.Zero = func(name string) bool {
		return strings.HasSuffix(name, ".attn_output.weight") &&
			!strings.HasPrefix(name, fmt.Sprintf("blk.%d.", last))
	}
	path := filepath.Join(c.dir, "last.gguf")
	require.NoError(c, c.model.Save(path, true))

	e, err := engine.Open(path,
		engine.Options{Length: 128, Threads: 1, GPULayers: new(int), Forks: 3})
	require.NoError(c, err)
	defer e.Close()
	pairs := layers[last].Ropes[0].Dims / 2
	base, candidate := Ladder(pairs)[0], Ladder(pairs)[1]
	p, _, err := e.NewPrefix(context.Background(), ids(Long), base, Long)
	if why := c.cannotFork(layers); why != "" {
		require.ErrorIs(c, err, evals.ErrNoForks)
		require.ErrorContains(c, err, why)
		return
	}
	require.NoError(c, err)
	defer p.Close()

	forks := []evals.Fork{
		{At: Long, Tokens: ids(80)[60:], From: 3},
		{At: 40, Tokens: ids(60)[40:], From: 1},
		{At: Long, Tokens: ids(20), From: 1},
	}
	score := func(g ropescale.Rung) [][]float64 {
		scores, err := p.Score(context.Background(), g, forks)
		require.NoError(c, err)
		return scores
	}
	got, was := score(candidate), score(base)
	for _, g := range []ropescale.Rung{candidate, base} {
		g.Length = 128
		rope := ropescale.Rope{Dims: 2 * pairs, FreqBase: freqBase, OriginalContextLength: Original}
		l, err := ropescale.NewLadder(rope, e.Base(), g)
		require.NoError(c, err)
		require.NoError(c, e.SetLadder(l))
		var off, apart float64
		for i, f := range forks {
			tokens := slices.Concat(ids(Long)[:f.At], f.Tokens)
			want, err := e.NLL(context.Background(), tokens, f.At+f.From)
			require.NoError(c, err)
			scores := [2][][]float64{got, was}
			for j := range want {
				if g.StartWindow == base.StartWindow {
					scores = [2][][]float64{was, got}
				}
				off = max(off, math.Abs(scores[0][i][j]-want[j]))
				apart = max(apart, math.Abs(scores[1][i][j]-want[j]))
			}
		}
		c.Logf("off by %.2g nats, the other rung by %.2g", off, apart)
		assert.Less(c, off, apart/20)
	}
}

// cannotFork is what the engine should say of why there are no forks, "" if there should be.
func (c *candidate) cannotFork(layers []Layer) string {
	s, err := session.Open(c.plain, c.options())
	require.NoError(c, err)
	defer s.Close()
	switch {
	case slices.ContainsFunc(layers, func(l Layer) bool {
		return len(l.Ropes) > 0 && l.Ropes[0].Mode&8 != 0
	}):
		return "several positions each"
	case !s.CanShift(), c.recurrent():
		return "not a cache of keys alone"
	case slices.ContainsFunc(layers, func(l Layer) bool {
		_, _, ok := l.cached()
		return len(l.Ropes) > 0 && !l.Local && !ok
	}):
		return "changed after RoPE"
	}
	return ""
}

// recurrent says whether some layers have a state in place of keys.
func (c *candidate) recurrent() bool {
	for name := range c.model.Tensors {
		if strings.Contains(name, ".ssm_") || strings.Contains(name, ".shortconv.") {
			return true
		}
	}
	return false
}
