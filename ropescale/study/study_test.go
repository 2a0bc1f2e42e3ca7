package study

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

var (
	tiny   = ropescale.Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 256}
	minute = ropescale.Rope{Dims: 4, FreqBase: 100, OriginalContextLength: 8}
	llama2 = ropescale.Rope{Dims: 128, FreqBase: 10000, OriginalContextLength: 4096}
)

// bowl is a smooth fitness with a known optimum: the best log lambda rises from 0 to ln s between
// pairs 3 and 20 along a smooth step, the best attention factor is 1.06 and the best start window
// 16. Its minimum is 1.
func bowl(g ropescale.Rung) float64 {
	f := 1.0
	for i, lambda := range g.Factors {
		x := min(max((float64(i)-3)/17, 0), 1)
		d := math.Log(lambda) - x*x*(3-2*x)*math.Log(8)
		f += d * d / float64(len(g.Factors))
	}
	a := math.Log(g.AttentionFactor / 1.06)
	w := math.Log2(float64(g.StartWindow+1) / 17)
	return f + 4*a*a + 1e-3*w*w
}

// run gives a study everything it asks for, a reading's loss being the logarithm of the fitness.
func run(
	t testing.TB, s *Study, fitness func(ropescale.Rung) float64, limit int, shuffle *rand.Rand,
) {
	tell(t, s, limit, shuffle, func(trial Trial) ([]float64, int) {
		return slices.Repeat([]float64{math.Log(fitness(trial.Rung))}, len(trial.Readings)),
			100 + trial.ID
	})
	if s.Done() {
		require.Empty(t, s.Ask())
	}
}

// tell evaluates what a study asks for, shuffling each batch, until it is done or limit trials are
// told (0: never).
func tell(t testing.TB, s *Study, limit int, shuffle *rand.Rand,
	evaluate func(Trial) (losses []float64, tokens int),
) {
	for told := 0; !s.Done(); {
		open := s.Ask()
		require.NotEmpty(t, open)
		if shuffle != nil {
			shuffle.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		}
		for _, trial := range open {
			losses, tokens := evaluate(trial)
			require.NoError(t, s.Tell(trial.ID, losses, tokens))
			if told++; told == limit {
				return
			}
		}
	}
}

func newStudy(t testing.TB, opts Options) *Study {
	s, err := New(opts)
	require.NoError(t, err)
	return s
}

func TestSearchApproachesKnownOptimum(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  Options
		limit float64
	}{
		// The distance left is the knots' (they are coarse between pairs 6 and 18), not the
		// search's.
		{"cma", Options{Algorithm: "cma"}, 1.03},
		{"cma, 300 trials", Options{Algorithm: "cma", Budget: 300}, 1.012},
		{"longrope, attention searched", Options{
			Algorithm: "longrope",
			Params:    Params{Attention: "search"},
		}, 1.02},
		{"longrope, attention right", Options{
			Algorithm: "longrope",
			settings:  settings{attentionFactor: 1.06},
		}, 1.02},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(3) {
				c.opts.Rope, c.opts.Target, c.opts.Seed = tiny, 2048, seed+1
				s := newStudy(t, c.opts)
				run(t, s, bowl, 0, nil)
				best, ok := s.Best()
				require.True(t, ok)
				seeds := s.Seeds()
				require.Len(t, seeds, len(ropescale.SeedNames(c.opts.Algorithm, tiny, 2048)))
				start := min(seeds["linear"].Fitness, seeds["ntk"].Fitness, seeds["yarn"].Fitness)
				t.Logf("seed %d: best seed %.4f, found %.4f in %d trials, window %d, "+
					"attention %.3f", seed+1, start,
					best.Fitness, len(s.History()), best.Rung.StartWindow,
					best.Rung.AttentionFactor)
				assert.Less(t, best.Fitness, c.limit)
				assert.Less(t, best.Fitness-1, (start-1)/3)
			}
		})
	}
}

// checkInvariants runs a study under random fitness, which drives the search into every corner, and
// checks every candidate: new, a valid rung, monotone, within the bounds and, for longrope, on the
// grid.
func checkInvariants(t testing.TB, c Options) {
	s := newStudy(t, c)
	sp, opts, err := newSpace(c)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(c.Seed, 9))
	run(t, s, func(ropescale.Rung) float64 {
		if rng.IntN(10) == 0 {
			return math.Inf(1)
		}
		return rng.Float64()
	}, 0, nil)
	history := s.History()
	require.LessOrEqual(t, len(history), opts.Budget)
	seen := map[string]bool{}
	top := max(1, sp.maxScale*c.Rope.Scale(c.Target))
	if opts.Algorithm == "cma" { // its starts are in its space, wherever they end
		top = max(top, c.Rope.Scale(c.Target)+1e-4)
	}
	if strings.HasPrefix(c.Algorithm, "dim-") {
		top = 1 + c.Rope.Scale(c.Target) + sp.step
	}
	for _, trial := range history {
		g := trial.Rung
		require.False(t, seen[g.Key()], "trial %d is a repetition", trial.ID)
		seen[g.Key()] = true
		_, err := ropescale.NewLadder(c.Rope, nil, g)
		require.NoError(t, err, "trial %d is a valid rung", trial.ID)
		require.True(t, slices.IsSorted(g.Factors), "trial %d: %v", trial.ID, g.Factors)
		if trial.ID < len(ropescale.SeedNames(c.Algorithm, c.Rope, c.Target)) {
			continue // a seed is as published
		}
		require.GreaterOrEqual(t, g.Factors[0], 1.0)
		// eight decimals on the grid
		require.LessOrEqual(t, g.Factors[len(g.Factors)-1], top*(1+1e-12)+1e-8)
		require.Contains(t, opts.Params.StartWindows, g.StartWindow)
		require.Less(t, g.StartWindow, c.Target)
		if opts.Params.Attention == "fixed" {
			require.Equal(t, sp.attentionFactor, g.AttentionFactor)
		}
		if opts.Algorithm == "longrope" {
			// factors are rounded to eight decimals, which is a part of a small step
			const rounding = 0.51e-8
			for _, f := range g.Factors {
				require.InDelta(t, math.Round((f-1)/sp.step), (f-1)/sp.step, 1e-3+rounding/sp.step,
					"trial %d is off the grid", trial.ID)
			}
		}
	}
}

func TestSearchInvariants(t *testing.T) {
	for _, c := range []Options{
		{Algorithm: "longrope", Rope: tiny, Target: 2048},
		{
			Algorithm: "longrope", Rope: tiny, Target: 2048, Params: Params{Attention: "search"},
			Budget: 200,
		},
		// a tiny space
		{
			Algorithm: "longrope", Rope: minute,
			Target: 9, Budget: 400,
		},
		{Algorithm: "longrope", Rope: llama2, Target: 1 << 21, Budget: 50},
		{Algorithm: "dim-mono", Rope: tiny, Target: 2048, Budget: 300},
		{
			Algorithm: "dim-mono", Rope: minute,
			Target: 9, Budget: 400,
		},
		{Algorithm: "dim-piece-mono", Rope: tiny, Target: 2048, Budget: 300},
		{
			Algorithm: "dim-piece-mono",
			Rope:      minute,
			Target:    9, Budget: 400,
		},
		{Algorithm: "dim-mono", Rope: llama2, Target: 1 << 21, Budget: 50},
		{Algorithm: "cma", Rope: tiny, Target: 300},
		{
			Algorithm: "cma", Rope: minute,
			Target: 100,
		},
		{
			Algorithm: "cma", Rope: llama2, Target: 1 << 21, Budget: 40,
			Params: Params{Attention: "fixed"},
		},
		{Algorithm: "cma", Rope: tiny, Target: 2048, Params: Params{
			Knots:        1,
			StartWindows: []int{32},
		}},
	} {
		for c.Seed = range 2 {
			checkInvariants(t, c)
		}
	}
}

func FuzzSearchInvariants(f *testing.F) {
	f.Add(uint64(1), uint16(60), uint16(32), uint16(256), uint16(2048), 1.25, 0.01, 0.3, true,
		false)
	f.Add(uint64(2), uint16(90), uint16(2), uint16(2), uint16(3), 0.5, 0.5, 1.0, false, true)
	// a step with more decimals than factors have
	f.Add(uint64(3), uint16(60), uint16(32), uint16(256), uint16(2048), 1.25, 1.0049e-6, 0.3,
		false, false)
	f.Fuzz(func(t *testing.T, seed uint64, budget, pairs, length, target uint16, maxScale, step,
		p float64, cma, attention bool,
	) {
		opts := Options{
			Rope: ropescale.Rope{
				Dims: 2 * int(pairs%128), FreqBase: 10000,
				OriginalContextLength: int(length),
			}, Target: int(target), Seed: seed,
			Budget: 3 + int(budget%150), Algorithm: "longrope",
			settings: settings{maxScale: maxScale, step: step, mutationProbability: p},
		}
		if cma {
			opts.Algorithm, opts.Params.Knots = "cma", int(pairs%11)
			opts.settings = settings{maxScale: maxScale, sigma: step}
		}
		if attention {
			opts.Params.Attention = "search"
		}
		if _, err := New(opts); err != nil {
			t.Skip(err)
		}
		checkInvariants(t, opts)
	})
}

func TestPaperBudget(t *testing.T) {
	s := newStudy(t, Options{Algorithm: "longrope", Rope: tiny, Target: 2048})
	p, _, err := newSpace(Options{Algorithm: "longrope", Rope: tiny, Target: 2048})
	require.NoError(t, err)
	assert.Equal(t, []int{64, 16, 16, 32, 40}, []int{
		p.Population, p.mutations, p.crossovers,
		p.parents, p.iterations,
	})
	assert.Equal(t, []float64{1.25, 0.01, 0.3}, []float64{
		p.maxScale, p.step,
		p.mutationProbability,
	})
	assert.Equal(t, ropescale.LongRoPEAttentionFactor(2048, 256), p.attentionFactor)
	assert.Equal(t, []int{0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256}, p.StartWindows)
	assert.Equal(t, paperTrials, s.Options().Budget)
	run(t, s, bowl, 0, nil)
	assert.Len(t, s.History(), paperTrials, "nothing was asked twice, so all of it was evaluated")
	windows := map[int]bool{}
	for _, trial := range s.History() {
		windows[trial.Rung.StartWindow] = true
	}
	assert.Greater(t, len(windows), 10, "n-hat is searched jointly")

	for _, budget := range []int{3, 4, 10, 65, 100, 500, 2000} {
		s := newStudy(t, Options{Algorithm: "longrope", Rope: tiny, Target: 2048, Budget: budget})
		run(t, s, bowl, 0, nil)
		assert.Len(t, s.History(), budget)
		s = newStudy(t, Options{Rope: tiny, Target: 2048, Budget: budget + 2})
		run(t, s, bowl, 0, nil)
		assert.InDelta(t, budget+2, len(s.History()), 10, "cma gives back less than a generation")
	}
}

// TestReleased holds the released algorithms to what sets them apart from the paper's.
func TestReleased(t *testing.T) {
	for name, piece := range map[string]bool{"dim-mono": false, "dim-piece-mono": true} {
		s := newStudy(t, Options{Algorithm: name, Rope: tiny, Target: 2048, Seed: 3})
		assert.Equal(t, 3+64+40*32, s.Options().Budget)
		run(t, s, bowl, 0, nil)
		history := s.History()
		yarn := history[2].Rung.Factors
		assert.Equal(t, yarn, history[3].Rung.Factors, "the first of the population")
		assert.Equal(t, ropescale.LongRoPEAttentionFactor(2048, 256),
			history[3].Rung.AttentionFactor)
		crossed, single, mutants, moved := 0, 0, 0, 0
		for _, trial := range history[4:] {
			require.Zero(t, trial.Rung.StartWindow)
			f := trial.Rung.Factors
			parent := yarn
			if len(trial.Parents) > 0 {
				parent = history[trial.Parents[0]].Rung.Factors
			}
			changed := 0
			for i := range f {
				if f[i] != parent[i] {
					changed++
				}
			}
			switch trial.Origin {
			case "crossover":
				crossed++
				if changed == 1 {
					single++
				}
			case "mutation", "mutation of yarn":
				mutants++
				moved += changed
				if piece {
					assert.Equal(t, yarn[len(yarn)-2:], f[len(f)-2:], "no range reaches them")
				}
			}
		}
		assert.Greater(t, crossed, 300, name)
		assert.Greater(t, float64(single)/float64(crossed), 0.5, name)
		t.Logf("%s: %d trials, %d crossovers, %.0f %% of one gene, %.1f genes moved a mutant", name,
			len(history), crossed,
			100*float64(single)/float64(crossed), float64(moved)/float64(mutants))
		_, err := New(Options{
			Algorithm: name, Rope: tiny, Target: 2048,
			Params: Params{Attention: "search"},
		})
		assert.ErrorContains(t, err, "cannot search one")
	}
}

func TestWindowsThatDoNotFit(t *testing.T) {
	s := newStudy(t, Options{
		Rope:   ropescale.Rope{Dims: 8, FreqBase: 100, OriginalContextLength: 12},
		Target: 24, Budget: 200,
	})
	assert.Equal(t, []int{0, 1, 2, 4, 8, 12, 16, 20}, s.Options().Params.StartWindows)
	run(t, s, bowl, 0, nil)
	best, _ := s.Best()
	assert.Contains(t, []int{12, 16, 20}, best.Rung.StartWindow, "the bowl's best is 16")
}

func TestOrderOfTellsDoesNotMatter(t *testing.T) {
	for _, algorithm := range []string{"cma", "longrope"} {
		opts := Options{Rope: tiny, Target: 2048, Algorithm: algorithm, Seed: 7, Budget: 150}
		a, b := newStudy(t, opts), newStudy(t, opts)
		run(t, a, bowl, 0, nil)
		run(t, b, bowl, 0, rand.New(rand.NewPCG(1, 1)))
		assert.Equal(t, a.History(), b.History())
		parts := Options{
			Rope: tiny, Target: 2048, Algorithm: algorithm, Seed: 7,
			Readings: windowsAndKeys(), Budget: 1 << 19,
		}
		want := newStudy(t, parts)
		tellNoisy(t, want, 0, nil)
		for order := range uint64(3) {
			got := newStudy(t, parts)
			tellNoisy(t, got, 0, rand.New(rand.NewPCG(order, 1)))
			// as text: NaN is not equal to NaN
			require.Equal(t, fmt.Sprint(want.History()), fmt.Sprint(got.History()))
		}
		opts.Seed = 8
		c := newStudy(t, opts)
		run(t, c, bowl, 0, nil)
		assert.NotEqual(t, a.History(), c.History(), "the seed matters")
	}
}

func TestTellErrors(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "s.jsonl"), Options{
		Algorithm: "longrope", Rope: tiny, Target: 2048,
	})
	require.NoError(t, err)
	_, ok := s.Best()
	assert.False(t, ok)
	_, err = s.Ladder()
	assert.ErrorContains(t, err, "no candidate has a fitness yet")
	one := []float64{1}
	assert.ErrorContains(t, s.Tell(3, one, 1), "there is no trial 3")
	assert.ErrorContains(t, s.Tell(-1, one, 1), "there is no trial -1")
	assert.ErrorContains(t, s.Tell(0, []float64{math.NaN()}, 1), "a loss of trial 0 is NaN")
	assert.ErrorContains(t, s.Tell(0, []float64{1, 1}, 1), "trial 0 has 1 readings, not 2")
	assert.ErrorContains(t, s.Tell(0, nil, 1), "trial 0 has 1 readings, not 0")
	assert.ErrorContains(t, s.Tell(0, one, -1), "tokens of trial 0 are -1")
	require.NoError(t, s.Tell(1, []float64{math.Inf(1)}, 5))
	assert.ErrorContains(t, s.Tell(1, one, 1), "told before")
	assert.Len(t, s.Ask(), 2)
	_, err = s.Ladder()
	assert.Error(t, err, "a failed evaluation is no result")
	require.NoError(t, s.Close())
	assert.Error(t, s.Tell(0, one, 1), "the journal is closed")
	assert.Len(t, s.Ask(), 2, "and so the trial is still open")
}

func TestOptionsErrors(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"target length is 256, want more than":    func(o *Options) { o.Target = 256 },
		"rope_dimension_count is 0":               func(o *Options) { o.Rope.Dims = 0 },
		"want at least 4":                         func(o *Options) { o.Rope.Dims = 2 },
		`unknown algorithm "pso"`:                 func(o *Options) { o.Algorithm = "pso" },
		"the budget is 2 tokens, want at least 5": func(o *Options) { o.Budget = 2 },
		"the budget is -1 tokens":                 func(o *Options) { o.Budget = -1 },
		"base: 1 factors": func(o *Options) {
			o.Base = &ropescale.Rung{AttentionFactor: 1, Factors: []float64{1}}
		},
		"population is -1": func(o *Options) { o.Params.Population = -1 },
		"a setting is NaN": func(o *Options) {
			o.settings.sigma = math.NaN()
		},
		"want a probability of at most 1": func(o *Options) {
			o.settings.mutationProbability = 2
		},
		"knots is -3": func(o *Options) {
			o.Params.Retries,
				o.Params.Knots = -1, -3
		},
		"start window -4 is negative": func(o *Options) {
			o.Params.StartWindows = []int{-4}
		},
		`attention is "yes"`: func(o *Options) { o.Params.Attention = "yes" },
		"9 parents exceed the population of 8": func(o *Options) {
			o.Algorithm = "longrope"
			o.settings.parents, o.Params.Population = 9, 8
		},
	} {
		opts := Options{Rope: tiny, Target: 2048}
		change(&opts)
		_, err := New(opts)
		assert.ErrorContains(t, err, want)
	}
}

func TestHistoryAndCurve(t *testing.T) {
	s := newStudy(t, Options{
		Rope: tiny, Target: 2048, Seed: 5, Budget: 60,
		ModelDigest: "sha256:cd", Fitness: "bowl",
	})
	run(t, s, bowl, 0, nil)
	history, curve := s.History(), s.Curve()
	require.Len(t, curve, len(history))
	tokens, best := 0, math.Inf(1)
	for i, trial := range history {
		tokens, best = tokens+trial.Tokens, min(best, trial.Fitness)
		require.InDelta(t, bowl(trial.Rung), trial.Fitness, 1e-12)
		require.Equal(t, Point{Trial: i, Tokens: tokens, Best: best}, curve[i])
		b, err := json.Marshal(trial)
		require.NoError(t, err)
		var again Trial
		require.NoError(t, json.Unmarshal(b, &again))
		again.Told, again.Fitness = true, trial.Fitness
		require.Equal(t, trial, again)
	}
	l, err := s.Ladder()
	require.NoError(t, err)
	assert.Equal(t, best, l.Source.Fitness)
	assert.Equal(t, tokens, l.Source.Tokens)
	assert.Equal(t, []string{"linear", "ntk", "yarn"}, []string{
		history[0].Origin,
		history[1].Origin, history[2].Origin,
	})
	assert.Equal(t, s.Seeds()["yarn"], history[2])
	var out bytes.Buffer
	require.NoError(t, l.WriteFactors(&out))
	again, err := ropescale.ReadFactors(&out)
	require.NoError(t, err)
	assert.Equal(t, l.Source, again.Source)
}

func ExampleStudy() {
	// loss would be the mean NLL of the model with this rung, on a text.
	loss := func(g ropescale.Rung) float64 { return math.Log(bowl(g)) }
	s, err := New(Options{
		Rope:   ropescale.Rope{Dims: 64, FreqBase: 10000, OriginalContextLength: 256},
		Target: 2048, Seed: 1,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for !s.Done() {
		for _, trial := range s.Ask() {
			if err := s.Tell(trial.ID, []float64{loss(trial.Rung)}, 6144); err != nil {
				fmt.Println(err)
				return
			}
		}
	}
	best, _ := s.Best()
	fmt.Println(len(s.History()), "trials, better than YaRN:",
		best.Fitness < s.Seeds()["yarn"].Fitness)
	// Output: 147 trials, better than YaRN: true
}

// A rung that is readjusted for a short text, up to L or above it, may have factors up to those of
// the rung that the model was fine-tuned with, and not above MaxScale times these. Up to L the own
// RoPE is what there is to beat.
func TestStretch(t *testing.T) {
	const stretch = 8
	short := func(g ropescale.Rung) float64 { // the best lambda rises to 3
		f := 1.0
		for i, lambda := range g.Factors {
			d := math.Log(lambda) - math.Log(3)*float64(i)/float64(len(g.Factors)-1)
			f += d * d / float64(len(g.Factors))
		}
		a := math.Log(g.AttentionFactor)
		return f + 4*a*a
	}
	trained, err := ropescale.NTK(tiny, 2048,
		ropescale.MethodOptions{StartWindow: 8, AttentionFactor: 1.1})
	require.NoError(t, err)
	for _, target := range []int{
		tiny.OriginalContextLength / 2, tiny.OriginalContextLength,
		2 * tiny.OriginalContextLength,
	} {
		for _, algorithm := range algorithmNames() {
			t.Run(fmt.Sprint(target, " ", algorithm), func(t *testing.T) {
				opts := Options{
					Rope: tiny, Target: target, Stretch: stretch, Algorithm: algorithm,
					Seed: 1, Budget: 120,
				}
				seeds := len(ropescale.SeedNames(algorithm, tiny, target))
				if !strings.HasPrefix(algorithm, "dim-") {
					opts.Starts = []Candidate{{Rung: trained, Origin: "2k"}}
				}
				s := newStudy(t, opts)
				run(t, s, short, 0, nil)
				require.Len(t, s.Seeds(), seeds)
				if seeds == 1 {
					assert.Equal(t, short(tiny.Identity(target)), s.Seeds()["own"].Fitness)
				}
				top := 0.0
				for _, trial := range s.History() {
					require.Equal(t, target, trial.Rung.Length)
					require.Less(t, trial.Rung.StartWindow, target)
					for _, f := range trial.Rung.Factors {
						require.False(t, math.IsNaN(f) || f < 1 || f > 1.25*stretch+0.01,
							"trial %d: %v", trial.ID, trial.Rung.Factors)
						top = max(top, f)
					}
				}
				assert.Greater(t, top, 1.25*2, "further than the target asks")
				best, ok := s.Best()
				require.True(t, ok)
				if algorithm == "cma" {
					assert.Less(t, best.Fitness-1, (s.Seeds()[ropescale.SeedNames(algorithm,
						tiny, target)[0]].Fitness-1)/5)
				}
				if len(opts.Starts) > 0 {
					assert.Equal(t, "2k", s.History()[seeds].Origin)
				}
			})
		}
	}
	_, err = New(Options{Rope: tiny, Target: tiny.OriginalContextLength})
	assert.ErrorContains(t, err, "want more than the original context length")
	for _, bad := range []float64{-1, 0.5, 1, math.Inf(1), math.NaN()} {
		_, err = New(Options{Rope: tiny, Target: 2048, Stretch: bad})
		assert.ErrorContains(t, err, "stretch is", bad)
	}
}
