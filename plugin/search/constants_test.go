package search

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/search/searchtest"
	"github.com/longrope/longrope/ropescale/study"
)

// The results in evals/RESULTS.md depend on the constants of this package: each is written here
// once more, by its effect on the readings of a judge.

// aJudge prepares one window of target tokens, on an engine that keeps prefixes.
func aJudge(t *testing.T, target int, fitness string) *judge {
	t.Helper()
	fake, info := openTiny(t, target)
	e := &searchtest.Forker{Fake: fake, Bytes: 1000}
	texts, err := TextsFor(e, nil, searchBooks, target, 1)
	require.NoError(t, err)
	o := Options{Info: info, Algorithm: "cma", Fitness: fitness, Seed: 1}
	j, err := newJudge(e, texts, target, 1, &o)
	require.NoError(t, err)
	return j
}

// TestReadingsOfAWindow: a window in full has its text with a weight of 1 and 16 keys with one of
// 0.1 in all, and 16 further keys for finalists; a cheap one 4 stretches of text, of 1/128 of the
// window each, and 8 keys.
func TestReadingsOfAWindow(t *testing.T) {
	j := aJudge(t, 16<<10, "")
	require.Empty(t, j.Exact)
	count, weight := map[string]int{}, map[string]float64{}
	for _, r := range j.Readings {
		if r.Use == "" || r.Use == study.ForFinalists {
			count[string(r.Use)+r.Kind]++
			weight[string(r.Use)+r.Kind] += r.Weight
		}
	}
	assert.Equal(t, map[string]int{"text": 1, "key": 16, "finalistskey": 16}, count)
	assert.InDelta(t, 1, weight["text"], 1e-9)
	assert.InDelta(t, 0.1, weight["key"], 1e-9)

	cheap := j.Forked[0]
	assert.Equal(t, 1+8, cheap.Scores(), "the text, and keys")
	assert.Equal(t, []int{128, 128, 128, 128}, stretches(cheap))
	assert.Equal(t, []int{64, 64, 64, 64}, stretches(aJudge(t, 4<<10, "perplexity").Forked[0]),
		"no stretch is shorter")
}

// stretches are the lengths of the text that a cheap window scores.
func stretches(f evals.Forked) (all []int) {
	for _, span := range f.Scored[0] {
		all = append(all, span.To-span.From)
	}
	return all
}

// TestKeysOfAWindow: 512 tokens for each key, 4 where no prefix is kept.
func TestKeysOfAWindow(t *testing.T) {
	for target, want := range map[int]int{1535: 2, 1536: 3, 2048: 4, 2560: 4} {
		n := 0
		for _, r := range aJudge(t, target, "").Readings {
			if r.Use == "" && r.Kind == "key" {
				n++
			}
		}
		assert.Equal(t, want, n, "%d tokens", target)
	}
}

// TestWorthForks: a window is evaluated cheaply from 8 times the tokens of its forks on.
func TestWorthForks(t *testing.T) {
	exact := map[bool]int{} // the longest target that is exact, the shortest that is not
	for target := 1536; target <= 2560; target += 16 {
		j := aJudge(t, target, "perplexity")
		if j.Exact != "" {
			exact[true] = target
			var forks, prefix int
			_, err := fmt.Sscanf(j.Exact, "cheap readings would take %d tokens of %d", &forks,
				&prefix)
			require.NoError(t, err)
			assert.Less(t, prefix, 8*forks)
			continue
		}
		if exact[false] == 0 {
			exact[false] = target
		}
		prefix, forks := j.Forked[0].Computed()
		assert.GreaterOrEqual(t, prefix, 8*forks)
	}
	assert.Positive(t, exact[true])
	assert.Equal(t, exact[true]+16, exact[false])
}

// TestHeldOutWindows: while a search runs, ten candidates may take a 20th of its tokens; at its
// end there are three windows at least, where a candidate is scored on as many.
func TestHeldOutWindows(t *testing.T) {
	for budget, want := range map[int]int{58_000: 2, 60_000: 3} {
		h := &heldOut{ids: []string{"a"}, length: 100, windows: make([][]int, 8), losses: Losses{}}
		require.NoError(t, h.open(filepath.Join(t.TempDir(), "x.study"), nil, budget))
		h.close()
		assert.Len(t, h.live, want, "%d tokens", budget)
	}
	e, info := openTiny(t, 512)
	g := &goal{target: 512, rope: info.Rope()}
	for windows, want := range map[int]int{2: 2, 3: 3, 8: 3} {
		h, err := newHeldOut(e, &Options{Info: info, Algorithm: "cma"}, &recorder{}, g, windows, 1)
		require.NoError(t, err)
		assert.Len(t, h.windows, want)
	}
}
