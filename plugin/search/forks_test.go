package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/search/searchtest"
	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// long is a target for which cheap readings are worth it, with a token for each byte.
const long = 8 << 10

// forking is an engine that keeps prefixes, and the options of a search on it.
func forking(t *testing.T) (*searchtest.Forker, Options) {
	_, o := tinyOptions(t)
	fake, info := openTiny(t, long)
	o.Info, o.Targets, o.Windows, o.Tokens = info, []int{long}, 1, 0
	return &searchtest.Forker{Fake: fake, Bytes: 1000}, o
}

// TestCheapSearch: generations are scored behind kept prefixes, of which there are never more than
// the windows in hand and one; the result says how cheap readings agreed with exact ones.
func TestCheapSearch(t *testing.T) {
	e, o := forking(t)
	var all recorder
	r, err := Search(t.Context(), e, o, &all)
	require.NoError(t, err)
	assert.Zero(t, e.Open, "all prefixes are closed")
	assert.LessOrEqual(t, e.Most, keptPrefixes+1)
	said := strings.Join(all.said, "\n")
	assert.Contains(t, said, "generations are scored by cheap readings")
	assert.Contains(t, said, "prefixes take 24 MB of memory")
	assert.Regexp(t, `cheap readings agreed with exact ones at \d+ of \d+ renewals`, said)
	rung := r.Rungs[0]
	assert.NotEmpty(t, rung.Renewals)
	rows := rung.Rows
	best := rows[len(rows)-1]
	for _, row := range rows[:len(rows)-1] {
		assert.Less(t, *best.Fitness, *row.Fitness, row.Method)
	}
	cheap, exact := 0, 0
	for _, trial := range rung.Study.History() {
		if trial.Base != nil {
			cheap += trial.Tokens
		} else {
			exact += trial.Tokens
		}
	}
	assert.Less(t, cheap, exact)

	made := e.Made
	again, err := Search(t.Context(), e, o, &recorder{})
	require.NoError(t, err)
	assert.Equal(t, r.Ladder, again.Ladder)
	assert.Equal(t, made, e.Made, "nothing is evaluated twice")
}

// TestFlatteringSearch: cheap readings that promise too much are given up, and it is said.
func TestFlatteringSearch(t *testing.T) {
	e, o := forking(t)
	e.Flattery = 20
	var all recorder
	r, err := Search(t.Context(), e, o, &all)
	require.NoError(t, err)
	said := strings.Join(all.said, "\n")
	assert.Contains(t, said, "generations were scored in full from there on")
	rows := r.Rungs[0].Rows
	assert.LessOrEqual(t, *rows[len(rows)-1].Fitness, *rows[0].Fitness)
}

// TestExactWhereCheapReadingsCannotBe: the reason is said, but where it was asked for.
func TestExactWhereCheapReadingsCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(e *searchtest.Forker, o *Options)
		said   string
	}{
		"memory": {
			func(_ *searchtest.Forker, o *Options) { o.Memory = 20e6 },
			"2 prefixes of 8192 tokens take 24 MB of memory, there are 20",
		},
		"architecture": {func(e *searchtest.Forker, _ *Options) {
			e.Refuses = fmt.Errorf("%w: architecture qwen2vl", evals.ErrNoForks)
		}, "a prefix cannot be kept and forked: architecture qwen2vl"},
		"short": {
			func(_ *searchtest.Forker, o *Options) { o.Targets = []int{2048} },
			"cheap readings would take ",
		},
		"asked": {func(_ *searchtest.Forker, o *Options) { o.Exact = true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, o := forking(t)
			o.Tokens = 16 * long
			c.change(e, &o)
			var all recorder
			r, err := Search(t.Context(), e, o, &all)
			require.NoError(t, err)
			said := strings.Join(all.said, "\n")
			if c.said == "" {
				assert.NotContains(t, said, "generations are scored in full")
			} else {
				assert.Contains(t, said, "generations are scored in full: ")
				assert.Contains(t, said, c.said)
			}
			assert.NotContains(t, said, "cheap readings agreed")
			assert.Zero(t, e.Made)
			for _, trial := range r.Rungs[0].Study.History() {
				require.Nil(t, trial.Base)
			}
		})
	}
	failing, o := forking(t)
	failing.Refuses = errors.New("out of memory")
	var all recorder
	_, err := Search(t.Context(), failing, o, &all)
	require.NoError(t, err)
	said := strings.Join(all.said, "\n")
	assert.Contains(t, said, "generations are scored in full: out of memory")
}

// TestForkedReadings: of the readings of a judge, those of one use are evaluated as they say.
func TestForkedReadings(t *testing.T) {
	e, o := forking(t)
	require.NoError(t, o.Check())
	texts, err := TextsFor(e, nil, searchBooks, long, 1)
	require.NoError(t, err)
	for fitness, kinds := range map[string][]string{
		"": {"text", "key"}, "needle": {"key"}, "perplexity": {"text"},
	} {
		o.Fitness = fitness
		j, err := newJudge(e, texts, long, 1, &o)
		require.NoError(t, err)
		require.Empty(t, j.Exact)
		require.NoError(t, j.check(long, 256))
		weight := map[string]float64{}
		for _, pass := range study.Passes(j.Readings) {
			r := j.Readings[pass[0]]
			for _, k := range pass {
				require.Contains(t, kinds, j.Readings[k].Kind)
				use := j.Readings[k].Use
				if use != study.ForFinalists || r.Use != "" {
					require.Equal(t, r.Use, use)
				}
				if r.Use == "" {
					weight[string(use)+j.Readings[k].Kind] += j.Readings[k].Weight
				}
			}
			g := j.Rope.Identity(long)
			base := &g
			if r.Use != study.ForGenerations {
				base = nil
				require.Greater(t, r.Tokens, long/2)
			} else {
				require.Less(t, worthForks*r.Tokens, long)
			}
			var kept prefixes
			losses, tokens, err := j.evaluate(t.Context(), e, &kept, g, base, pass)
			require.NoError(t, err)
			require.Len(t, losses, len(pass))
			require.Equal(t, r.Tokens, tokens)
			kept.close()
			if r.Use == study.ForGenerations {
				_, _, err = j.evaluate(t.Context(), e, &kept, g, nil, pass)
				require.ErrorContains(t, err, "a cheap reading without a base")
				_, _, err = j.evaluate(t.Context(), e.Fake, &kept, g, base, pass)
				require.ErrorIs(t, err, evals.ErrNoForks)
			}
		}
		if fitness == "" {
			require.InDelta(t, 1, weight["text"], 1e-9)
			require.InDelta(t, needleWeight, weight["key"], 1e-9)
			require.InDelta(t, needleWeight, weight["finalistskey"], 1e-9)
		} else {
			require.InDelta(t, 1, weight[kinds[0]], 1e-9)
		}
		require.Zero(t, e.Open)
	}
}

// TestKeptPrefixes: those used last are kept.
func TestKeptPrefixes(t *testing.T) {
	e, o := forking(t)
	g := o.Info.Rope().Identity(long)
	other := o.Info.Rope().Identity(long)
	other.AttentionFactor = 1.1
	var kept prefixes
	of := func(window int, base ropescale.Rung) {
		_, err := kept.of(t.Context(), e, []int{1, 2, 3}, window, base)
		require.NoError(t, err)
	}
	for i, c := range []struct {
		window int
		base   ropescale.Rung
		made   int
	}{{0, g, 1}, {1, g, 2}, {0, g, 2}, {2, g, 3}, {0, g, 3}, {1, g, 4}, {1, other, 5}, {1, g, 5}} {
		of(c.window, c.base)
		require.Equal(t, c.made, e.Made, "%d", i)
		require.LessOrEqual(t, e.Open, keptPrefixes)
	}
	kept.close()
	require.Zero(t, e.Open)
}

// TestEvaluatorOfForkedReadings: a worker refuses what its engine cannot read, and closes what it
// kept.
func TestEvaluatorOfForkedReadings(t *testing.T) {
	e, o := forking(t)
	require.NoError(t, o.Check())
	texts, err := TextsFor(e, nil, searchBooks, long, 1)
	require.NoError(t, err)
	good, err := newJudge(e, texts, long, 1, &o)
	require.NoError(t, err)
	prepare := func(change func(j *judge)) (workers.Evaluator, error) {
		b, err := json.Marshal(good)
		require.NoError(t, err)
		var j judge
		require.NoError(t, json.Unmarshal(b, &j))
		change(&j)
		b, err = json.Marshal(j)
		require.NoError(t, err)
		return NewEvaluator(t.Context(), e, workers.Spec{
			ModelDigest: e.Info().Digest, Length: long, Readings: b,
		}, 1)
	}
	w, err := prepare(func(*judge) {})
	require.NoError(t, err)
	g := o.Info.Rope().Identity(long)
	for _, pass := range study.Passes(good.Readings) {
		if good.Readings[pass[0]].Use != study.ForGenerations {
			continue
		}
		losses, _, err := w.Evaluate(t.Context(), g, &g, pass)
		require.NoError(t, err)
		require.Len(t, losses, len(pass))
	}
	require.Positive(t, e.Open)
	w.Close()
	require.Zero(t, e.Open)
	for want, change := range map[string]func(*judge){
		"sequences, and": func(j *judge) { j.Forked = j.Forked[1:] },
		"forked window 0 of the search: token 256 is not in": func(j *judge) {
			j.Whole[0].Tokens[5] = 256
		},
		"forked window 1 of the search: token -1 is not in": func(j *judge) {
			j.Forked[0].Forks[0].Tokens[2] = -1
		},
		"tokens at a length of": func(j *judge) {
			j.Whole[0].Forks[0].Tokens = make([]int, long)
		},
		"scores for":         func(j *judge) { j.Forked[0].Scored = j.Forked[0].Scored[1:] },
		"leaves a prefix of": func(j *judge) { j.Forked[0].Forks[0].At = 2 * long },
	} {
		_, err := prepare(change)
		assert.ErrorContains(t, err, want)
	}
}
