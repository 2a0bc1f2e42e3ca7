package study

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// Tests of the numbers that evals/RESULTS.md found to matter, each by what it does.

// A finalist is worse when its losses are above the start's by more than one standard error of the
// mean of their differences: sqrt(sum (d - mean)^2 / (n - 1) / n).
func TestWorseByOneStandardError(t *testing.T) {
	spread := []float64{-3, -1, 0, 1, 3} // deviation sqrt(20/4), standard error 1
	others, all := Losses{5, 6, 7, 8, 9}, []int{0, 1, 2, 3, 4}
	for mean, want := range map[float64]bool{
		1.001: true, 0.999: false, 0: false, -1.001: false,
		-5: false,
	} {
		var losses Losses
		for i, d := range spread {
			losses = append(losses, others[i]+d+mean)
		}
		assert.Equal(t, want, worse(losses, others, all), "mean difference %g", mean)
	}
	assert.True(t, worse(Losses{2}, Losses{1}, []int{0}), "a single difference has no error")
	assert.False(t, worse(Losses{1}, Losses{1}, []int{0}))
}

// From the second generation on, each candidate is the best of four draws by the model.
func TestFourDraws(t *testing.T) {
	sp, _, err := newSpace(Options{Rope: tiny, Target: 2048, Seed: 9})
	require.NoError(t, err)
	s := newSampledSearch(sp).(*sampledSearch)
	start, err := ropescale.YaRN(tiny, 2048, ropescale.MethodOptions{})
	require.NoError(t, err)
	s.begin(result{Rung: start})
	rng := rand.New(rand.NewPCG(4, 4))
	s.cma.RNG = rng
	first := s.propose()
	require.Len(t, first, 8)
	value := make([]float64, 8)
	for i := range value {
		value[i] = bowl(s.decode(first[i]))
	}
	s.model.Add(first, value)

	state, err := rand.NewPCG(7, 7).MarshalBinary()
	require.NoError(t, err)
	source := new(rand.PCG)
	require.NoError(t, source.UnmarshalBinary(state))
	s.cma.RNG = rand.New(source)
	got := s.propose()
	after := s.cma.RNG.Uint64()

	require.NoError(t, source.UnmarshalBinary(state))
	want := s.cma.Ask()
	for range 3 {
		for i, x := range s.cma.Ask() {
			if s.model.At(x) < s.model.At(want[i]) {
				want[i] = x
			}
		}
	}
	assert.Equal(t, want, got)
	assert.Equal(t, s.cma.RNG.Uint64(), after, "and no more were drawn")
}

// A child has n-hat and a searched attention factor of either parent, each as likely.
func TestCrossoverOfStartWindowAndAttention(t *testing.T) {
	sp, _, err := newSpace(Options{
		Algorithm: "longrope", Rope: tiny, Target: 2048,
		Params: Params{Attention: "search"},
	})
	require.NoError(t, err)
	e := newEvolution(sp).(*evolution)
	for k := range 2 {
		x := individual{window: 3 + 4*k, attention: 1050 + 50*k, id: k, fitness: float64(k)}
		for i := range tiny.Pairs() {
			x.lambda = append(x.lambda, 3*i+k)
		}
		e.population = append(e.population, x)
	}
	windows, attentions, changed, children := map[int]int{}, map[int]int{}, 0, 0
	for range 2000 {
		x := e.child()
		if x.origin != "crossover" {
			continue
		}
		children++
		windows[x.window]++
		attentions[x.attention]++
		for i := range x.lambda {
			changed += x.lambda[i] - e.population[0].lambda[i]
		}
	}
	require.Greater(t, children, 1900)
	require.Len(t, windows, 2)
	require.Len(t, attentions, 2)
	n := float64(children)
	assert.InDelta(t, 0.5, float64(windows[7])/n, 0.05)
	assert.InDelta(t, 0.5, float64(attentions[1100])/n, 0.05)
	assert.InDelta(t, 0.3, float64(changed)/n/32, 0.01, "of the genes, as likely as a mutation")
}

// By cheap readings a search of the default budget has as many generations, each scored on two
// windows behind their prefixes, and eight renewals of the base, each in full.
func TestSizesOfTheDefaultCheapSearch(t *testing.T) {
	s := newStudy(t, Options{Rope: tiny, Target: 2048, Seed: 3, Readings: forkedReadings()})
	const full, generation, renewal = 8*2048 + 4*2000, 8 * 2 * 300, 2 * 2300
	assert.Equal(t, (5+4)*full+18*generation+8*renewal, s.Options().Budget)
}

// A search of the default budget has 18 generations of 8, scores 5 seeds and 4 means in full, and
// compares the best 2 of each; it begins a second try where it may. Factors end at 1.25 s.
func TestSizesOfTheDefaultSearch(t *testing.T) {
	opts := Options{
		Rope: tiny, Target: 2048, Seed: 3, Readings: andFurtherKeys(),
		Params: Params{Retries: 1},
	}
	s := newStudy(t, opts)
	const full, generation, finals = 8*2048 + 4*2000, 8 * (2048 + 2000), 3 * 2000
	once := 4*full + 18*generation
	assert.Equal(t, 5*full+once+4*finals+once+2*finals, s.Options().Budget)
	assert.Equal(t, 5*full+once+4*finals, s.Foreseen())
	tellNoisy(t, s, 0, nil)
	count := map[string]int{}
	var spent, means []int
	for _, trial := range s.History() {
		count[trial.Origin]++
		spent = append(spent, trial.Tokens)
		if trial.Origin == originMean {
			means = append(means, trial.ID)
		}
	}
	assert.Equal(t, map[string]int{
		"linear": 1, "ntk": 1, "yarn": 1, "mrrope-pro": 1, "tailspline": 1, "cma": 18 * 8,
		"cma mean": 4,
		"final":    4,
	}, count)
	// A mean is scored when the tokens spent have grown by half since the last one.
	tokens := 5 * full
	check := tokens * 3 / 2
	for id, n := range spent {
		if id < 5 {
			continue
		}
		if slices.Contains(means[:len(means)-1], id) {
			assert.GreaterOrEqual(t, tokens, check)
			assert.Less(t, tokens-generation, check)
			check = (tokens + n) * 3 / 2
		}
		tokens += n
	}
	sp, _, err := newSpace(opts)
	require.NoError(t, err)
	assert.Equal(t, 1.25*8, sp.maxFactor)
	assert.Equal(t, 8, sp.Knots)
	assert.Equal(t, 0.2, sp.sigma)

	// The distribution has become a point.
	c := newSampledSearch(sp).(*sampledSearch)
	c.starts = []result{{Rung: tiny.Identity(2048)}}
	for _, spread := range []float64{0.9e-4, 1.1e-4} {
		c.begin(c.starts[0])
		c.cma.Sigma, c.check, c.reason = spread, 1<<30, ""
		c.Ask()
		assert.Equal(t, spread < 1e-4, c.reason == exhausted, "spread %g", spread)
	}
}

// A second try is scored on the way as the first: its tokens count from its start, as if it had
// seeds of its own.
func TestMeansOfASecondTry(t *testing.T) {
	s := newStudy(t, Options{
		Rope: tiny, Target: 2048, Seed: 3, Readings: andFurtherKeys(), Params: Params{Retries: 1},
	})
	tell(t, s, 0, nil, func(trial Trial) (losses []float64, tokens int) {
		for _, i := range trial.Readings {
			losses = append(losses, noisy(trial.Rung, i))
			if trial.Origin == originFinal && trial.Candidate > 4 {
				losses[len(losses)-1] += 10 // a start wins
			}
			tokens += s.Options().Readings[i].Tokens
		}
		return losses, tokens
	})
	tries, samples := [][]int{nil}, 0 // samples before each mean
	for _, trial := range s.History() {
		last := len(tries) - 1
		switch trial.Origin {
		case originSample:
			samples++
		case originMean:
			tries[last] = append(tries[last], samples)
		case originFinal:
			if tries[last] != nil {
				tries, samples = append(tries, nil), 0
			}
		}
	}
	require.Len(t, tries, 3)
	assert.Len(t, tries[0], 4)
	assert.Equal(t, tries[0], tries[1])
}

// repeating proposes a candidate that was told so often, and then another one.
type repeating struct {
	times int
	again Candidate
	asked int
}

func (r *repeating) Ask() []Candidate {
	if r.asked++; r.asked > r.times {
		g := r.again
		g.Rung.StartWindow++
		return []Candidate{g}
	}
	return []Candidate{r.again}
}
func (r *repeating) Adopt([]Candidate) {}
func (r *repeating) Tell([]result)     {}

// A hundred batches in a row that were all told before end a study.
func TestRepetitionsEndAStudy(t *testing.T) {
	for times, done := range map[int]bool{0: false, 99: false, 100: true} {
		s := newStudy(t, Options{Rope: tiny, Target: 2048})
		linear := s.Ask()[0]
		s.algorithm = &repeating{times: times, again: Candidate{Rung: linear.Rung}}
		run(t, s, bowl, 5, nil)
		assert.Equal(t, done, s.Done(), "%d times", times)
	}
}

// The studies in testdata propose what this version does, to the last bit. Who changes an
// algorithm on purpose writes them again: STUDY=write go test ./ropescale/study -run
// TestStudiesAreAsStored (Bit-equality is promised on one platform: Go may fuse multiply and add on
// others.)
func TestStudiesAreAsStored(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the stored studies are of amd64")
	}
	r := ropescale.Rope{Dims: 24, FreqBase: 10000, OriginalContextLength: 256}
	for _, algorithm := range algorithmNames() {
		t.Run(algorithm, func(t *testing.T) {
			opts := Options{
				Rope: r, Target: 2048, Algorithm: algorithm, Seed: 11, Budget: 1 << 22,
				Readings: andFurtherKeys(), Params: Params{Retries: 1},
			}
			if algorithm == "cma" {
				opts.Budget = 0
			}
			if algorithm == "longrope" {
				opts.Params.Attention = "search"
			}
			write := func(path string, limit int) {
				s, err := Open(path, opts)
				require.NoError(t, err)
				tellNoisy(t, s, limit, nil)
				require.NoError(t, s.Close())
			}
			stored := fmt.Sprintf("testdata/v%d-%s.study", journalVersion, algorithm)
			if os.Getenv("STUDY") == "write" {
				if err := os.Remove(stored); !os.IsNotExist(err) {
					require.NoError(t, err)
				}
				write(stored, 130)
			}
			want, err := os.ReadFile(stored)
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "s.study")
			write(path, 130)
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			for i, l := range bytes.SplitAfter(want, []byte("\n")) {
				require.Equal(t, string(l), string(bytes.SplitAfter(got, []byte("\n"))[i]),
					"line %d of %s", i+1, stored)
			}
		})
	}
}

// The bounds of the curve: |ln a| up to 0.5, eight windows for a variable of 1.
func TestCurveBounds(t *testing.T) {
	sp, _, err := newSpace(Options{Rope: tiny, Target: 2048})
	require.NoError(t, err)
	c := newCurve(sp)
	x := c.encode(tiny.Identity(2048))
	require.Len(t, x, 8+2)
	for _, v := range []float64{-1e6, 1e6} {
		x[8], x[9] = v, 1
		g := c.decode(x)
		assert.InDelta(t, math.Exp(math.Copysign(0.5, v)), g.AttentionFactor, 1e-4)
		assert.Equal(t, sp.StartWindows[8], g.StartWindow)
	}
	x[8], x[9] = 1, 0
	fixed := ropescale.LongRoPEAttentionFactor(2048, 256)
	assert.InDelta(t, fixed, c.decode(x).AttentionFactor, 1e-4)
}

// JSON of a told trial has its loss, whatever it is.
func TestLossesOfJournal(t *testing.T) {
	id := 3
	b, err := json.Marshal(line{toldLine: &toldLine{
		ID: &id, Losses: Losses{1.5, math.Inf(1)},
		Tokens: 7,
	}})
	require.NoError(t, err)
	assert.JSONEq(t, `{"id": 3, "losses": [1.5, "inf"], "tokens": 7}`, string(b))
}
