package study

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// windowsAndKeys are eight windows of text and four keys.
func windowsAndKeys() []Reading {
	var r []Reading
	for i := range 8 {
		r = append(r, Reading{
			Name: fmt.Sprintf("window %d", i+1), Kind: "text", Tokens: 2048,
			Weight: 1. / 8,
		})
	}
	for i := range 4 {
		r = append(r, Reading{
			Name: fmt.Sprintf("key %d", i+1), Kind: "key", Tokens: 2000,
			Weight: 0.2 / 4,
		})
	}
	return r
}

// andFurtherKeys are these, and three keys for finalists.
func andFurtherKeys() []Reading {
	r := windowsAndKeys()
	for range 3 {
		r = append(r, Reading{Kind: "key", Tokens: 2000, Weight: 0.2 / 4, Use: ForFinalists})
	}
	return r
}

// noisy is the loss of a reading: that of the bowl, and a deviation of this reading's own that
// changes with the factors, as windows of text differ in what suits them. The keys want a higher
// attention factor than the text.
func noisy(g ropescale.Rung, reading int) float64 {
	rng := rand.New(rand.NewPCG(uint64(reading), 77))
	loss := math.Log(bowl(g))
	for i := range g.Factors {
		loss += 0.01 * rng.NormFloat64() * math.Log(g.Factors[i])
	}
	if reading >= 8 {
		loss += math.Abs(math.Log(g.AttentionFactor / 1.1))
	}
	return 2.5 + rng.Float64() + loss
}

// tellNoisy gives a study the noisy losses of its readings.
func tellNoisy(t testing.TB, s *Study, limit int, shuffle *rand.Rand) {
	tell(t, s, limit, shuffle, func(trial Trial) (losses []float64, tokens int) {
		for _, i := range trial.Readings {
			losses = append(losses, noisy(trial.Rung, i))
			tokens += s.Options().Readings[i].Tokens
		}
		return losses, tokens
	})
}

func TestPartialTrials(t *testing.T) {
	for seed := range uint64(4) {
		s := newStudy(t, Options{Rope: tiny, Target: 2048, Readings: windowsAndKeys(), Seed: seed})
		tellNoisy(t, s, 0, rand.New(rand.NewPCG(seed, 1)))
		read, tokens := map[int]map[int]bool{}, 0
		partial, complete := 0, 0
		for _, trial := range s.History() {
			require.True(t, slices.IsSorted(trial.Readings))
			if read[trial.Candidate] == nil {
				require.Equal(t, trial.ID, trial.Candidate,
					"a candidate has the id of its first trial")
				read[trial.Candidate] = map[int]bool{}
			}
			for _, i := range trial.Readings {
				require.False(t, read[trial.Candidate][i], "candidate %d has read %d before",
					trial.Candidate, i)
				read[trial.Candidate][i] = true
			}
			tokens += trial.Tokens
			if len(read[trial.Candidate]) < 12 {
				partial++
				require.True(t, math.IsNaN(trial.Fitness), "no fitness before all was read")
				require.Len(t, trial.Readings, 2, "one of each kind")
				continue
			}
			complete++
			var sum float64
			for i, r := range s.Options().Readings {
				sum += r.Weight * noisy(trial.Rung, i)
			}
			require.InEpsilon(t, math.Exp(sum), trial.Fitness, 1e-12)
		}
		require.LessOrEqual(t, tokens, s.Options().Budget)
		require.Greater(t, float64(tokens), 0.9*float64(s.Options().Budget),
			"and the budget is used")
		require.Equal(t, 5+4, complete, "the starts, and the mean four times")
		require.Equal(t, CMAGenerations*8, partial)
		best, ok := s.Best()
		require.True(t, ok)
		require.Contains(t, []string{"cma mean", "ntk", "yarn"}, best.Origin,
			"what looked good on one reading cannot be the best")
	}
}

// TestSamplesReachTheOptimumWithFewerTokens compares, at equal tokens, generations that read one
// window with generations that read all eight, which is what happens when each is of a kind of its
// own.
func TestSamplesReachTheOptimumWithFewerTokens(t *testing.T) {
	search := func(kind func(i int) string, budget int, seed uint64) float64 {
		var readings []Reading
		for i := range 8 {
			readings = append(readings, Reading{Kind: kind(i), Tokens: 1, Weight: 1. / 8})
		}
		s := newStudy(t, Options{
			Rope: tiny, Target: 2048, Readings: readings, Budget: budget,
			Seed: seed,
		})
		tellNoisy(t, s, 0, nil)
		best, _ := s.Best()
		return bowl(best.Rung) - 1 // what the fitness would be on an endless text
	}
	var sampled, full, later float64
	for seed := range uint64(60) {
		sampled += search(func(int) string { return "text" }, 250, seed) / 60
		full += search(func(i int) string { return fmt.Sprint(i) }, 250, seed) / 60
		later += search(func(i int) string { return fmt.Sprint(i) }, 750, seed) / 60
	}
	t.Logf("excess over the optimum: %.4f sampled, %.4f with all readings, %.4f with all and "+
		"three times the tokens", sampled, full, later)
	assert.Less(t, sampled, 0.6*full)
	assert.Less(t, sampled, 1.2*later)
}

func TestDeckDealsAllBeforeOneComesAgain(t *testing.T) {
	// Four windows with a key in each, and two without.
	var readings []Reading
	for range 4 {
		readings = append(readings, Reading{Kind: "text", Tokens: 9, Weight: 1},
			Reading{Kind: "key", Weight: 1})
	}
	readings = append(readings, Reading{Kind: "text", Tokens: 9, Weight: 1},
		Reading{Kind: "text", Tokens: 9, Weight: 1})
	decks := newDecks(readings)
	require.Len(t, decks, 2)
	assert.Equal(t, [][]int{{8}, {9}}, decks[1].passes)
	rng := rand.New(rand.NewPCG(1, 1))
	orders := map[string]bool{}
	for range 20 {
		var hand []int
		for range 4 {
			pass := decks[0].deal(rng)
			require.Equal(t, pass[0]+1, pass[1], "text and key of one window")
			hand = append(hand, pass...)
		}
		orders[fmt.Sprint(hand)] = true
		slices.Sort(hand)
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, hand)
	}
	assert.Greater(t, len(orders), 8)
}

// TestGenerationsReadTheirOwn: where there are readings for generations, these are what generations
// are scored on, and no generation is scored on the readings that decide.
func TestGenerationsReadTheirOwn(t *testing.T) {
	var readings []Reading
	for _, use := range []Use{"", ForGenerations, ForGenerations, ForFinalists} {
		for range 4 {
			readings = append(readings, Reading{
				Kind: "text", Tokens: 1000, Weight: 1. / 4,
				Use: use,
			})
		}
	}
	s := newStudy(t, Options{Rope: tiny, Target: 2048, Readings: readings, Seed: 1})
	require.Equal(t, (5+4)*4000+CMAGenerations*8*1000+(finalStarts+finalMeans)*4000,
		s.Options().Budget)
	use := map[string]Use{"cma": ForGenerations, "final": ForFinalists}
	read := map[int]int{}
	tell(t, s, 0, rand.New(rand.NewPCG(1, 1)), func(trial Trial) (losses []float64, tokens int) {
		for _, i := range trial.Readings {
			require.Equal(t, use[trial.Origin], readings[i].Use, trial.Origin)
			read[i]++
			losses = append(losses, math.Log(bowl(trial.Rung)))
			tokens += readings[i].Tokens
		}
		require.Equal(t, use[trial.Origin] == ForGenerations, len(losses) == 1)
		return losses, tokens
	})
	require.Len(t, read, len(readings), "all is read")
	best, ok := s.Best()
	require.True(t, ok)
	require.Less(t, best.Fitness, s.Seeds()["yarn"].Fitness)

	readings[3].Use = "training"
	_, err := New(Options{Rope: tiny, Target: 2048, Readings: readings})
	require.ErrorContains(t, err, `is for "training", want nothing, "generations"`)
}

// keysAndFurtherKeys are four windows with a key in each, and eight further keys for finalists.
func keysAndFurtherKeys() (readings []Reading) {
	for range 4 {
		readings = append(readings, Reading{Kind: "text", Tokens: 1000, Weight: 1. / 4},
			Reading{Kind: "key", Weight: 1. / 4})
	}
	for range 8 {
		readings = append(readings,
			Reading{Kind: "key", Tokens: 900, Weight: 1. / 4, Use: ForFinalists})
	}
	return readings
}

// searchWithFinals runs a study on these. The first keys are found with any factors, so that the
// text alone is searched on; the further ones cost what further says of a trial and its candidate's
// origin. It returns the best, the best before the finals were told, and the finals.
func searchWithFinals(t *testing.T, budget, retries int,
	further func(trial Trial, origin string) float64,
) (best, before Trial, finals []Trial) {
	origins, readings := map[int]string{}, keysAndFurtherKeys()
	s := newStudy(t, Options{
		Rope: tiny, Target: 2048, Readings: readings, Seed: 1, Budget: budget,
		Params: Params{Retries: retries},
	})
	tell(t, s, 0, rand.New(rand.NewPCG(1, 1)), func(trial Trial) (losses []float64, tokens int) {
		if trial.Origin == "final" {
			finals = append(finals, trial)
			before, _ = s.Best() // the others are not told before all are
		}
		if trial.ID == trial.Candidate {
			origins[trial.ID] = trial.Origin
		}
		for _, i := range trial.Readings {
			require.Equal(t, trial.Origin == "final", readings[i].Use == ForFinalists)
			switch {
			case readings[i].Use == ForFinalists:
				losses = append(losses, further(trial, origins[trial.Candidate]))
			case readings[i].Kind == "key":
				losses = append(losses, 0)
			default:
				losses = append(losses, math.Log(bowl(trial.Rung)))
			}
			tokens += readings[i].Tokens
		}
		return losses, tokens
	})
	if budget == 0 && retries == 0 {
		want := (5+4)*4000 + CMAGenerations*8*1000 + (finalStarts+finalMeans)*8*900
		require.Equal(t, want, s.Options().Budget)
	}
	require.LessOrEqual(t, s.Curve()[len(s.Curve())-1].Tokens, s.Options().Budget)
	best, _ = s.Best()
	return best, before, finals
}

// TestFinalists: keys that a fitness does not count are for the best starts and the best means, and
// decide between these.
func TestFinalists(t *testing.T) {
	// All find them: the finals change nothing.
	best, before, finals := searchWithFinals(t, 0, 1, func(Trial, string) float64 { return 0.1 })
	require.Len(t, finals, finalStarts+finalMeans)
	require.Equal(t, "cma mean", best.Origin)
	require.Equal(t, before.Candidate, best.Candidate)
	fitness := best.Fitness

	// The means are a little worse at them than a start: a start it is, however much better the
	// text.
	best, _, _ = searchWithFinals(t, 0, 0, func(_ Trial, origin string) float64 {
		if origin == "cma mean" {
			return 0.11
		}
		return 0.1
	})
	require.Contains(t, []string{"yarn", "ntk"}, best.Origin)
	require.Greater(t, best.Fitness, fitness)

	// The first try finds nothing, the second does.
	best, _, finals = searchWithFinals(t, 0, 1, func(trial Trial, origin string) float64 {
		if origin == "cma mean" && trial.ID < 200 {
			return 0.11
		}
		return 0.1
	})
	require.Len(t, finals, finalStarts+2*finalMeans)
	require.Less(t, finals[finalStarts+finalMeans-1].ID, 200)
	require.Greater(t, best.ID, 200)
	require.Equal(t, "cma mean", best.Origin)

	// No room for finals in the budget: it is spent without.
	best, _, finals = searchWithFinals(t, 30000, 1, func(Trial, string) float64 { return 1 })
	require.Empty(t, finals)
	require.False(t, math.IsNaN(best.Fitness))
}

// TestWinner: a finalist is out if it is worse than the best start at keys by more than their
// noise; of the others, all that was read decides.
func TestWinner(t *testing.T) {
	readings := []Reading{
		{Kind: "text", Weight: 1},
		{Kind: "key", Weight: 0.25},
		{Kind: "key", Weight: 0.25},
		{Kind: "text", Weight: 1, Use: ForGenerations},
	}
	for range 4 {
		readings = append(readings, Reading{Kind: "key", Weight: 0.1, Use: ForFinalists})
	}
	told := func(id int, text float64, keys ...float64) result {
		return result{Candidate: id, Losses: append(append(Losses{text}, keys[:2]...),
			append([]float64{math.NaN()}, keys[2:]...)...)}
	}
	inf := math.Inf(1)
	yarn, ntk := told(0, 3, .5, .5, .5, .5, .5, .5), told(1, 3, 2, 2, 2, 2, 2, 2)
	for name, c := range map[string]struct {
		found []result
		want  int
	}{
		"nothing found":              {nil, 0},
		"better at both":             {[]result{told(2, 2.9, .4, .4, .4, .4, .4, .4)}, 2},
		"as good a key but for luck": {[]result{told(2, 2.9, .9, .2, .9, .2, .9, .1)}, 2},
		"worse at every key":         {[]result{told(2, 2, .51, .51, .51, .51, .51, .51)}, 0},
		"worse at most":              {[]result{told(2, 2, .5, 1, .5, 1, 1, 1)}, 0},
		"worse at the first ones":    {[]result{told(2, 2.9, .9, .9, .3, .3, .3, .3)}, 2},
		"not finite":                 {[]result{told(2, 2, inf, .1, .1, .1, .1, .1)}, 0},
		"the better text wins": {[]result{
			told(2, 2.9, .5, .5, .5, .5, .5, .5),
			told(3, 2.8, .5, .5, .5, .5, .5, .5),
		}, 3},
		"or the better keys": {[]result{
			told(2, 2.9, .1, .1, .1, .1, .1, .1),
			told(3, 2.8, .5, .5, .5, .5, .5, .5),
		}, 2},
	} {
		got, ok := winner(append([]result{yarn, ntk}, c.found...), readings,
			func(id int) bool { return id < 2 })
		assert.True(t, ok, name)
		assert.Equal(t, c.want, got.Candidate, name)
	}
	_, ok := winner(nil, readings, func(int) bool { return false })
	assert.False(t, ok)
}

// Further starts take part from the beginning.
func TestStarts(t *testing.T) {
	good := tiny.Identity(2048)
	for i := range good.Factors {
		x := min(max((float64(i)-3)/17, 0), 1)
		good.Factors[i] = math.Exp(x * x * (3 - 2*x) * math.Log(8))
	}
	s := newStudy(t, Options{Rope: tiny, Target: 2048, Starts: []Candidate{{
		Rung:   good,
		Origin: "a relative",
	}}})
	run(t, s, bowl, 6, nil)
	best, _ := s.Best()
	assert.Equal(t, "a relative", best.Origin)
	run(t, s, bowl, 0, nil)
	after, _ := s.Best()
	assert.LessOrEqual(t, after.Fitness, best.Fitness)
	_, err := New(Options{
		Rope: tiny, Target: 2048, Algorithm: "dim-mono",
		Starts: []Candidate{{Rung: good}},
	})
	assert.ErrorContains(t, err, "takes no other start")
}
