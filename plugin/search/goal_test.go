package search

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// rising has factors from 1 to top, like those of a search.
func rising(length, window int, top, attention float64) ropescale.Rung {
	g := ropescale.Rung{Length: length, StartWindow: window, AttentionFactor: attention}
	for i := range 8 {
		g.Factors = append(g.Factors, math.Pow(top, float64(i)/7))
	}
	return g
}

// tinyInfo is a model of 8 pairs, trained for 128 tokens; with a base it has scaling of its own.
func tinyInfo(base *ropescale.Rung) *convert.ModelInfo {
	return &convert.ModelInfo{
		OriginalContextLength: 128, RopeDimensionCount: 16, FreqBase: 10000, Base: base,
	}
}

// extended is that model with a ladder for 256 and 1k tokens; with a base it has scaling of its
// own.
func extended(base *ropescale.Rung) *convert.ModelInfo {
	m := tinyInfo(base)
	m.Ladder, _ = ropescale.NewLadder(m.Rope(), base,
		rising(256, 4, 2, 1.02).Over(base), rising(1024, 16, 8, 1.1).Over(base))
	return m
}

func TestGoals(t *testing.T) {
	plain := tinyInfo(nil)
	for _, s := range goalsFor(plain, []int{256, 1024}) {
		assert.Equal(t, plain.Rope(), s.rope)
		assert.Nil(t, s.base)
		assert.Zero(t, s.reach)
		assert.Empty(t, s.starts)
	}

	base := rising(128, 0, 3, 1.2)
	for name, base := range map[string]*ropescale.Rung{"plain": nil, "scaled": &base} {
		t.Run(name, func(t *testing.T) {
			m := extended(base)
			goals := goalsFor(m, []int{64, 256, 512, 1024, 4096})
			for _, s := range goals[:4] {
				assert.Equal(t, m.Rope(), s.rope, "a readjustment is relative to the own RoPE")
				assert.Equal(t, base, s.base)
				assert.InDelta(t, 8, s.reach, 1e-9, "up to the last rung's factors")
				for i, g := range s.starts[:4] {
					power := 1 - 0.25*float64(i)
					assert.InDelta(t, math.Pow(8, power), g.Rung.Factors[7], 1e-9)
					assert.InDelta(t, math.Pow(1.1, power), g.Rung.AttentionFactor, 1e-9)
					assert.Less(t, g.Rung.StartWindow, s.target)
				}
			}
			assert.Len(t, goals[0].starts, 4)
			assert.Len(t, goals[1].starts, 5, "a rung that was readjusted before is a start")
			assert.InDelta(t, 2, goals[1].starts[4].Rung.Factors[7], 1e-9)
			on := goals[4]
			assert.Equal(t, 1024, on.rope.OriginalContextLength, "stretched from the last rung")
			assert.Equal(t, &m.Ladder.Rungs[1], on.base)
			assert.Zero(t, on.reach)
			assert.Equal(t, "the model's rung for 1k tokens", on.relative)

			// Whatever the search finds, the ladder has it and the other rungs, with the model's
			// own RoPE as row 0.
			l, err := ladderWith(m, rising(64, 0, 1.5, 1), rising(1024, 0, 9, 1),
				rising(4096, 0, 32, 1))
			require.NoError(t, err)
			var lengths []int
			for _, g := range l.Rungs {
				lengths = append(lengths, g.Length)
			}
			assert.Equal(t, []int{64, 256, 1024, 4096}, lengths)
			assert.InDelta(t, 9, l.Rungs[2].Factors[7], 1e-9, "found again")
			assert.Equal(t, base, l.Base)
		})
	}
}

// The starts of a rung are the factors of the one below, stretched the rest of the way; composed
// with the base they are as long as the target asks, and monotone.
func TestAbove(t *testing.T) {
	base := rising(128, 0, 3, 1.2)
	m := extended(&base)
	s := goalsFor(tinyInfo(&base), []int{1024})[0]
	below := rising(256, 8, 2, 1.03).Over(&base)
	starts := s.above(below)
	require.Len(t, starts, 3)
	for i, name := range ropescale.MethodNames(ropescale.Seed) {
		g := starts[i].Rung.Over(s.base)
		assert.Equal(t, "256+"+name, starts[i].Origin)
		assert.InDelta(t, 3*8, g.Factors[7], 1e-9, "%s: the slowest pair is stretched by 8 in all",
			name)
		assert.True(t, slices.IsSorted(g.Factors), name)
		assert.Equal(t, 8, g.StartWindow)
		assert.Equal(t, 1024, g.Length)
	}
	assert.InDelta(t, 1.03, starts[1].Rung.AttentionFactor, 1e-9, "NTK adds none")
	assert.InDelta(t, 1.03*ropescale.YaRNAttentionFactor(4), starts[2].Rung.AttentionFactor, 1e-9)

	again := goalsFor(m, []int{64, 128})[1]
	starts = again.above(rising(64, 8, 1.5, 1).Over(&base))
	require.Len(t, starts, 1, "a readjusted rung is tried as it is")
	assert.InDelta(t, 1.5, starts[0].Rung.Factors[7], 1e-9)
	assert.Equal(t, 128, starts[0].Rung.Length)
}

// A start from elsewhere is the rung that serves the target, relative to what is stretched,
// whatever length its model was trained for.
func TestStartFromElsewhere(t *testing.T) {
	base := rising(128, 0, 3, 1.2)
	relative := ropescale.Rope{Dims: 16, FreqBase: 500000, OriginalContextLength: 200}
	l, err := ropescale.NewLadder(relative, nil, rising(400, 4, 6, 1.05),
		rising(2000, 600, 30, 1.3))
	require.NoError(t, err)
	ladder := Start{Name: "relative.json", Path: "a/relative.json", Ladder: l}
	csv := Start{
		Name:    "published.csv",
		Path:    "a/published.csv",
		Factors: []float64{1, 1, 1, 2, 2, 3, 3, 4},
	}

	m := tinyInfo(&base)
	goals := goalsFor(m, []int{256, 512, 4096})
	for i, top := range []float64{6, 30, 30} {
		s := &goals[i]
		require.NoError(t, s.startFrom(m.Rope(), []Start{ladder, csv}))
		require.Len(t, s.given, 2)
		g := s.given[0]
		assert.Equal(t, "relative.json", g.Origin)
		assert.Equal(t, s.target, g.Rung.Length)
		assert.InDelta(t, top, g.Rung.Over(&base).Factors[7], 1e-9,
			"what the model would be given is what the file says")
		assert.Equal(t, map[int]int{256: 4, 512: 0, 4096: 600}[s.target], g.Rung.StartWindow,
			"one that does not fit is none")
		assert.InDelta(t, 4, s.given[1].Rung.Over(&base).Factors[7], 1e-9)
	}

	for allowed, want := range map[int]int{0: 0, 4: 4, 16: 4} {
		s := goalsFor(m, []int{256})[0]
		require.NoError(t, s.startFrom(m.Rope(), []Start{ladder}))
		s.allow(slices.Compact([]int{0, min(allowed, 4), allowed}))
		assert.Equal(t, want, s.given[0].Rung.StartWindow)
	}

	wide := &convert.ModelInfo{OriginalContextLength: 128, RopeDimensionCount: 32, FreqBase: 10000}
	for _, start := range []Start{ladder, csv} {
		s := goalsFor(wide, []int{512})[0]
		assert.ErrorContains(t, s.startFrom(wide.Rope(), []Start{start}), start.Path)
	}
	short := goalsFor(m, []int{256})[0]
	short.target = 100
	assert.ErrorContains(t, short.startFrom(m.Rope(), []Start{ladder}),
		"it has no rung for 100 tokens")
}

func TestShares(t *testing.T) {
	assert.Equal(t, []int{100}, shares(100, []int{7}, []int{50}))
	assert.Equal(t, []int{20, 40, 80}, shares(140, []int{10, 20, 30}, []int{20, 40, 80}),
		"what is usual")
	assert.Equal(t, []int{15, 30, 56}, shares(101, []int{10, 20, 30}, []int{20, 40, 80}),
		"nothing is lost")
	assert.Equal(t, []int{256, 512, 1000}, Doublings(128, 1000))
	assert.Equal(t, []int{200}, Doublings(128, 200))
}

func TestLongestTrained(t *testing.T) {
	assert.Equal(t, 128, LongestTrained(tinyInfo(nil)))
	assert.Equal(t, 1024, LongestTrained(extended(nil)), "the last rung that it carries")
}
