package study

import (
	"fmt"
	"math"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// Best returns the trial that completed the candidate with the lowest fitness, the earliest of
// equals; false while no candidate was told all its readings. Once there are finalists it is one of
// these, by what the fitness is made of and the readings for finalists together, where losses above
// the best start's count five times. One that is worse than the best start at what finalists are
// scored on (keys), by more than a standard error of the differences, is out.
func (s *Study) Best() (Trial, bool) {
	best, ok := Trial{}, false
	winner, decided := s.winner()
	for _, t := range s.History() {
		if decided && t.Candidate != winner {
			continue
		}
		if t.Fitness < best.Fitness || !ok && !math.IsNaN(t.Fitness) {
			best, ok = t, true
		}
	}
	return best, ok
}

// winner is the finalist that Best speaks of; false while there is none.
func (s *Study) winner() (id int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var finalists []result
	for _, id := range s.finalists {
		finalists = append(finalists, *s.candidates[id])
	}
	isStart := func(id int) bool { return s.trials[id].Generation == 0 }
	r, ok := winner(finalists, s.opts.Readings, isStart)
	return r.Candidate, ok
}

// winner is the finalist that Study.Best speaks of, the earliest of equals; false where there is
// none.
func winner(finalists []result, readings []Reading, start func(candidate int) bool) (best result,
	ok bool,
) {
	final := places(readings, ForFinalists)
	all := deciding(readings)
	compared := slices.DeleteFunc(slices.Clone(all), func(i int) bool {
		return !slices.ContainsFunc(final, func(k int) bool {
			return readings[k].Kind ==
				readings[i].Kind
		})
	})
	var starts []result
	var bar result
	lowest := math.Inf(1)
	for _, r := range finalists {
		if !start(r.Candidate) {
			continue
		}
		starts = append(starts, r)
		if v := estimate(r.Losses, readings, compared); v < lowest {
			bar, lowest = r, v
		}
	}
	bars := newBars(starts, readings, all)
	lowest = math.Inf(1)
	for _, r := range finalists {
		if bar.Losses != nil && r.Candidate != bar.Candidate &&
			worse(r.Losses, bar.Losses, compared) {
			continue
		}
		if v := bars.score(r.Losses, readings, all); !ok || v < lowest {
			best, lowest, ok = r, v, true
		}
	}
	return best, ok
}

// worse says whether losses are above others by more than the standard error of their differences.
func worse(losses, others Losses, places []int) bool {
	n := float64(len(places))
	var sum, squares float64
	for _, i := range places {
		d := losses[i] - others[i]
		sum, squares = sum+d, squares+d*d
	}
	variance := max(squares-sum*sum/n, 0) / max(n-1, 1)
	return !(sum/n <= math.Sqrt(variance/n)) // not finite is worse
}

// fitness is exp of the weighted sum: NaN where a loss is missing, +Inf where one failed.
func fitness(losses []float64, readings []Reading) float64 {
	var sum float64
	for _, i := range places(readings, "") {
		sum += readings[i].Weight * losses[i]
	}
	return math.Exp(sum)
}

// Seeds returns the told ones of the trials of SeedNames that the study started with, by the names
// of their methods, each as published, with n-hat 0 and the method's own attention factor.
func (s *Study) Seeds() map[string]Trial {
	seeds := map[string]Trial{}
	for _, t := range s.History() {
		if _, err := ropescale.MethodByName(t.Origin); err == nil && t.Generation == 0 {
			seeds[t.Origin] = t
		}
	}
	return seeds
}

// Point is one point of a study's progress.
type Point struct {
	Trial  int `json:"trial"`
	Tokens int `json:"tokens"` // evaluated up to and with this trial
	// lowest fitness so far of a candidate that was told all readings; +Inf before the first
	Best float64 `json:"best"`
}

// Curve returns the best fitness over the tokens evaluated, a point per told trial by id.
func (s *Study) Curve() []Point {
	var curve []Point
	tokens, best := 0, math.Inf(1)
	for _, t := range s.History() {
		tokens += t.Tokens
		if t.Fitness < best { // not NaN
			best = t.Fitness
		}
		curve = append(curve, Point{Trial: t.ID, Tokens: tokens, Best: best})
	}
	return curve
}

// Ladder returns the best trial as a ladder of one rung, with where it came from. It is an error
// while no candidate has a finite fitness.
func (s *Study) Ladder() (*ropescale.Ladder, error) {
	best, ok := s.Best()
	if !ok || math.IsInf(best.Fitness, 0) {
		return nil, fmt.Errorf("study: no candidate has a fitness yet")
	}
	l, err := ropescale.NewLadder(s.opts.Rope, s.opts.Base, best.Rung)
	if err != nil {
		return nil, err
	}
	curve := s.Curve()
	l.Source = &ropescale.Source{
		ModelDigest: s.opts.ModelDigest, Method: "longrope",
		Algorithm: s.opts.Algorithm, Seed: s.opts.Seed,
		Texts: s.opts.Texts, Measure: s.opts.Fitness, Fitness: best.Fitness, Trials: len(curve),
		Tokens: curve[len(curve)-1].Tokens,
	}
	return l, nil
}
