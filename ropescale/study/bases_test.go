package study

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// forkedReadings are those of windowsAndKeys for the fitness, and six windows of text with two keys
// each for generations: 300 tokens by cheap readings, 2300 in full.
func forkedReadings() []Reading {
	r := windowsAndKeys()
	for _, use := range []Use{ForGenerations, ForBases} {
		for range 6 {
			tokens := 300
			if use == ForBases {
				tokens += 2000
			}
			r = append(r, Reading{Kind: "text", Tokens: tokens, Weight: 1, Use: use},
				Reading{Kind: "key", Weight: 1, Use: use},
				Reading{Kind: "key", Weight: 1, Use: use})
		}
	}
	return r
}

// firstCheap and firstExact are the places of the readings for generations and for bases.
const firstCheap, firstExact = 12, 12 + 18

// tellForked gives a study noisy losses; cheap ones flatter a candidate that is far from the base.
func tellForked(t testing.TB, s *Study, flattery float64, limit int, shuffle *rand.Rand) {
	tell(t, s, limit, shuffle, func(trial Trial) (losses []float64, tokens int) {
		for _, i := range trial.Readings {
			reading := i
			if i >= firstExact {
				reading -= firstExact - firstCheap
			}
			loss := noisy(trial.Rung, reading)
			if s.Options().Readings[i].Use == ForGenerations {
				loss -= flattery * ropescale.Distance(trial.Rung, *trial.Base)
			}
			losses, tokens = append(losses, loss), tokens+s.Options().Readings[i].Tokens
		}
		return losses, tokens
	})
}

func forkedOptions(seed uint64) Options {
	return Options{Rope: tiny, Target: 2048, Readings: forkedReadings(), Seed: seed}
}

// TestGenerationsByCheapReadings: generations are scored behind a base, which is the mean and was
// evaluated in full on the same windows; of these one is replaced with each base.
func TestGenerationsByCheapReadings(t *testing.T) {
	for seed := range uint64(4) {
		s := newStudy(t, forkedOptions(seed))
		tellForked(t, s, 0, 0, rand.New(rand.NewPCG(seed, 1)))
		var base *ropescale.Rung // of the generation at hand
		var hand []int
		bases, generations, since := 0, 0, 0
		for _, trial := range s.History() {
			switch trial.Origin {
			case originBase:
				require.Nil(t, trial.Base)
				windows := append([]int(nil), trial.Readings...)
				for i := range windows {
					windows[i] -= firstExact - firstCheap
				}
				require.Len(t, windows, 6, "two windows of a text and two keys")
				if hand != nil && base.Key() != trial.Rung.Key() {
					same := 0
					for _, i := range windows {
						if slices.Contains(hand, i) {
							same++
						}
					}
					require.Equal(t, 3, same, "one of two windows stays")
					require.True(t, since > 0 || bases == 0, "trial %d", trial.ID)
				}
				base, hand = &trial.Rung, windows
				bases, since = bases+1, 0
			case originCompared:
				require.Equal(t, base.Key(), trial.Base.Key(), "by the base before")
				require.Len(t, trial.Readings, 3, "the window that stays")
			case originSample:
				require.Equal(t, base.Key(), trial.Base.Key())
				require.ElementsMatch(t, hand, trial.Readings)
				require.Equal(t, 600, trial.Tokens)
				since++
				require.LessOrEqual(t, since, 3*8)
				if since%8 == 0 {
					generations++
				}
			default:
				require.Nil(t, trial.Base)
				require.Len(t, trial.Readings, 12, trial.Origin)
			}
		}
		require.False(t, s.FellBack())
		renewals := s.Renewals()
		require.Len(t, renewals, bases-1, "each base but the first")
		require.GreaterOrEqual(t, bases, 4)
		require.GreaterOrEqual(t, generations, CMAGenerations)
		for _, n := range renewals {
			require.InDelta(t, n.Exact, n.Cheap, 1e-9)
			require.True(t, n.Agrees)
			require.Positive(t, n.Distance)
		}
		best, ok := s.Best()
		require.True(t, ok)
		require.Less(t, best.Fitness, s.Seeds()["yarn"].Fitness)
		require.Less(t, bowl(best.Rung)-1, 0.3*(bowl(s.Seeds()["yarn"].Rung)-1))
		require.LessOrEqual(t, s.spent, s.Options().Budget)
	}
}

// TestFlatteryFallsBack: where cheap losses promise what exact ones do not keep, generations are
// scored in full, by the same readings, and the search still finds something.
func TestFlatteryFallsBack(t *testing.T) {
	s := newStudy(t, forkedOptions(1))
	tellForked(t, s, 10, 0, nil)
	require.True(t, s.FellBack())
	renewals := s.Renewals()
	require.GreaterOrEqual(t, len(renewals), 2)
	last := renewals[len(renewals)-2:]
	for _, n := range last {
		require.False(t, n.Agrees)
		require.Less(t, n.Cheap, n.Exact)
	}
	require.Less(t, last[1].Distance, 3*ropescale.Near)
	after, found := 0, false
	for _, trial := range s.History() {
		found = found || trial.Candidate == last[1].Candidate
		if !found || trial.Origin != originSample {
			continue
		}
		after++
		require.Nil(t, trial.Base, "trial %d", trial.ID)
		for _, i := range trial.Readings {
			require.Equal(t, ForBases, s.Options().Readings[i].Use)
		}
	}
	require.Positive(t, after)
	best, _ := s.Best()
	require.Less(t, best.Fitness, s.Seeds()["yarn"].Fitness)
	require.LessOrEqual(t, s.spent, s.Options().Budget)
}

// TestAgreementOfABase: a base agrees that lacks no more than three quarters of its gain;
// one that does not halves the radius, the next that does doubles it again.
func TestAgreementOfABase(t *testing.T) {
	readings := forkedReadings()
	s := newSampledSearch(must(t, Options{Rope: tiny, Target: 2048, Readings: readings}))
	b := s.(*sampledSearch).bases
	rung := func(by float64) ropescale.Rung {
		g := tiny.Identity(2048)
		for i := range g.Factors {
			g.Factors[i] = math.Exp(by)
		}
		return g
	}
	renew := func(by, exact float64) {
		b.deal(rand.New(rand.NewPCG(1, 1)))
		r := result{Rung: rung(by), Losses: slices.Repeat(Losses{exact}, len(readings))}
		b.renew(r)
	}
	scale := 1 + 0.2 // of the estimate: text and keys
	renew(0, 2)
	require.Empty(t, b.renewals)
	for i, c := range []struct {
		cheap, exact, radius float64
		agrees               bool
	}{
		{-1, -0.25, ropescale.Near, true},
		{-1, -0.24 + 0.01/scale, ropescale.Near / 2, false},
		{-1, -0.5, ropescale.Near, true},
		{0.5, 0.1, ropescale.Near, true},
		{0.5, 0.8, ropescale.Near, true},
		{0, 0.9 * 0.01 / scale, ropescale.Near, true},
		{0, 1.1 * 0.01 / scale, ropescale.Near / 2, false},
	} {
		before := b.base.Losses[firstExact]
		b.keep()
		b.compared, b.cheap = true, scale*(before+c.cheap)
		renew(0.05*float64(i+1), before+c.exact)
		n := b.renewals[i]
		assert.Equal(t, c.agrees, n.Agrees, "%d: %+v", i, n)
		assert.InDelta(t, 0.05, n.Distance, 1e-9)
		assert.InDelta(t, scale*c.exact, n.Exact-n.Before, 1e-9)
		assert.InDelta(t, c.radius, b.radius, 1e-12, "%d", i)
		assert.False(t, b.fallback)
	}
	assert.True(t, b.due(rung(0.35+0.051)), "beyond half the radius")
	assert.False(t, b.due(rung(0.35+0.049)))
	b.since = 2
	assert.False(t, b.due(rung(0.35)))
	b.since = 3
	assert.True(t, b.due(rung(0.35)), "after three generations in any case")
	b.keep()
	b.cheap = 0
	renew(1, 5)
	assert.True(t, b.fallback, "the second in a row")

	s = newSampledSearch(must(t, Options{Rope: tiny, Target: 2048, Readings: readings}))
	b = s.(*sampledSearch).bases
	renew(0, math.Inf(1))
	assert.True(t, b.fallback, "a base that computes nothing finite")
}

func must(t *testing.T, o Options) *space {
	sp, _, err := newSpace(o)
	require.NoError(t, err)
	return sp
}

func TestReadingsForBases(t *testing.T) {
	readings := forkedReadings()
	for _, change := range []func(r []Reading) []Reading{
		func(r []Reading) []Reading { return r[:len(r)-1] },
		func(r []Reading) []Reading { r[firstExact].Kind = "key"; return r },
		func(r []Reading) []Reading { r[firstExact+1].Tokens = 5; return r },
	} {
		_, err := New(Options{
			Rope: tiny, Target: 2048, Readings: change(slices.Clone(readings)),
		})
		require.ErrorContains(t, err, `for "bases", want the same ones in one order`)
	}
}

// TestCheapStudiesResume: killed at any time, with losses in any order, it is the same study.
func TestCheapStudiesResume(t *testing.T) {
	for _, flattery := range []float64{0, 10} {
		o := forkedOptions(3)
		o.Budget = 330_000
		whole := newStudy(t, o)
		tellForked(t, whole, flattery, 0, nil)
		path := filepath.Join(t.TempDir(), "study")
		for n := 0; ; n += 13 {
			s, err := Open(path, o)
			require.NoError(t, err)
			_, diverged := s.Diverged()
			require.False(t, diverged)
			if s.Done() {
				require.Equal(t, digestOf(t, whole), digestOf(t, s))
				require.Equal(t, whole.Renewals(), s.Renewals())
				require.Equal(t, whole.FellBack(), s.FellBack())
				require.NoError(t, s.Close())
				break
			}
			tellForked(t, s, flattery, 13, rand.New(rand.NewPCG(uint64(n), 1)))
			require.NoError(t, s.Close())
		}
		again, err := Read(path)
		require.NoError(t, err)
		require.Equal(t, digestOf(t, whole), digestOf(t, again))
	}
}

// digestOf is of all trials: NaN is not equal to itself.
func digestOf(t *testing.T, s *Study) string {
	b, err := json.Marshal(s.History())
	require.NoError(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(b))
}
