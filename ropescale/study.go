package ropescale

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
)

// Options say what a study searches for. All but MaxTrials, Params and the provenance are needed.
type Options struct {
	// Rope is the model's RoPE; Target the length in tokens to find factors for, above Rope.OriginalContextLength.
	Rope   Rope
	Target int
	// Base is the model's own scaling, row 0; nil for plain RoPE. Candidates are composed with it (Rung.Over).
	Base *Rung
	// Algorithm is "cma" (also when empty), "longrope" (the paper's), "dim-mono" or "dim-piece-mono" (the authors' released ones).
	Algorithm string
	// Seed determines every candidate, together with the fitness told.
	Seed uint64
	// MaxTrials is the budget: how many candidates are evaluated at most. 0 means the algorithm's own (120 for cma, the
	// paper's 3+64+40*32 for longrope).
	MaxTrials int
	Params    Params
	// ModelDigest, Fitness (what it is, e.g. "perplexity of 3 windows") and Texts go into the record, and a study is
	// not resumed when they differ.
	ModelDigest string
	Fitness     string
	Texts       []string
}

// Candidate is what an Algorithm proposes.
type Candidate struct {
	Rung    Rung   // relative to the model's own RoPE
	Origin  string // how it was made: a method's name, "mutation", "crossover", "cma", "start window", …
	Parents []int  // ids of the trials it was made from
}

// An Algorithm proposes candidates a generation at a time. It must depend on nothing but its space and the fitness
// told, so that a replay proposes the same again.
type Algorithm interface {
	// Ask returns the next generation; none when the search is over.
	Ask() []Candidate
	// Tell gives the algorithm the trials of the generation last asked for, candidate by candidate in the same order. A
	// candidate that was evaluated before comes with that earlier trial. Lower fitness is better.
	Tell(generation []Trial)
}

var algorithms = map[string]func(*space) Algorithm{
	"cma":            newKnotSearch,
	"longrope":       newEvolution,
	"dim-mono":       newDimMono,
	"dim-piece-mono": newDimPieceMono,
}

// Algorithms are the names that Options.Algorithm takes.
func Algorithms() []string { return slices.Sorted(maps.Keys(algorithms)) }

// Trial is one evaluation of one candidate.
type Trial struct {
	ID         int    `json:"id"` // from 0, in the order of asking
	Generation int    `json:"generation"`
	Origin     string `json:"origin"`
	Parents    []int  `json:"parents,omitempty"`
	// Rung is the candidate, absolute: what the engine is given.
	Rung Rung `json:"rung"`
	// Fitness is what was told, lower is better; +Inf for an evaluation that failed (in JSON: "inf").
	Fitness float64 `json:"fitness"`
	// Tokens is how many tokens the evaluation took.
	Tokens int  `json:"tokens"`
	Told   bool `json:"-"`

	relative Rung // as the algorithm proposed it
}

// Study is one search. Ask for trials, evaluate them in any order and on as many engines as there are, and tell their
// fitness; the order of the tells within a generation changes nothing. Its methods may be called concurrently.
type Study struct {
	mu         sync.Mutex
	opts       Options
	algorithm  Algorithm
	trials     []Trial
	byKey      map[string]int
	generation []int // the trial of each candidate of the current generation
	number     int   // of generations asked
	pending    int
	truncated  bool // the budget cut the current generation
	done       bool
	journal    *os.File // nil in memory
}

// NewStudy starts a study in memory. The error names the option that does not fit.
func NewStudy(opts Options) (*Study, error) {
	sp, opts, err := newSpace(opts)
	if err != nil {
		return nil, err
	}
	s := &Study{opts: opts, algorithm: algorithms[opts.Algorithm](sp), byKey: map[string]int{}}
	s.advance()
	return s, nil
}

// Options returns the study's options with every default filled in.
func (s *Study) Options() Options { return s.opts }

// advance asks for generations until one has something to evaluate. A generation of repetitions only is told at once;
// a hundred of those in a row mean that the space is exhausted.
func (s *Study) advance() {
	for range 100 {
		candidates := s.algorithm.Ask()
		if len(candidates) == 0 {
			break
		}
		s.generation = s.generation[:0]
		for _, c := range candidates {
			key := c.Rung.key()
			id, known := s.byKey[key]
			if !known {
				if len(s.trials) >= s.opts.MaxTrials {
					s.truncated = true
					break
				}
				id = len(s.trials)
				s.byKey[key] = id
				s.trials = append(s.trials, Trial{ID: id, Generation: s.number, Origin: c.Origin, Parents: c.Parents,
					Rung: c.Rung.Over(s.opts.Base), relative: c.Rung})
				s.pending++
			}
			s.generation = append(s.generation, id)
		}
		s.number++
		switch {
		case s.pending > 0:
			return
		case s.truncated:
			s.done = true
			return
		}
		s.tellAlgorithm()
	}
	s.done = true
}

func (s *Study) tellAlgorithm() {
	told := make([]Trial, len(s.generation))
	for i, id := range s.generation {
		told[i] = s.trials[id]
		told[i].Rung = s.trials[id].relative
	}
	s.algorithm.Tell(told)
}

// Ask returns the trials that wait for their fitness: what is left of the current generation. It is empty when the
// study is done. Asking twice returns the same trials.
func (s *Study) Ask() []Trial {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []Trial
	if s.pending > 0 {
		for _, t := range s.trials[s.open():] {
			if !t.Told {
				open = append(open, t)
			}
		}
	}
	return open
}

// open is the id from which trials of the current generation are.
func (s *Study) open() int {
	i := len(s.trials)
	for i > 0 && s.trials[i-1].Generation == s.number-1 {
		i--
	}
	return i
}

// Tell records the fitness of a trial, lower is better, and how many tokens it took. A failed evaluation is +Inf. With
// a journal it returns after the line is on disk; when that fails, the trial stays open and may be told again.
func (s *Study) Tell(id int, fitness float64, tokens int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case id < 0 || id >= len(s.trials):
		return fmt.Errorf("study: there is no trial %d", id)
	case s.trials[id].Told:
		return fmt.Errorf("study: trial %d was told before", id)
	case math.IsNaN(fitness) || math.IsInf(fitness, -1):
		return fmt.Errorf("study: fitness of trial %d is %g; tell +Inf for an evaluation that failed", id, fitness)
	case tokens < 0:
		return fmt.Errorf("study: tokens of trial %d are %d", id, tokens)
	}
	t := s.trials[id]
	t.Fitness, t.Tokens, t.Told = fitness, tokens, true
	if err := s.append(t); err != nil {
		return err
	}
	s.settle(t)
	return nil
}

// settle takes in a told trial, and goes on to the next generation when it was the last of this one.
func (s *Study) settle(t Trial) {
	s.trials[t.ID] = t
	if s.pending--; s.pending > 0 {
		return
	}
	if s.truncated {
		s.done = true
		return
	}
	s.tellAlgorithm()
	s.advance()
}

// Done reports whether nothing is left to evaluate.
func (s *Study) Done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// Best returns the told trial with the lowest fitness, the earliest of equals; false while none was told.
func (s *Study) Best() (Trial, bool) {
	best, ok := Trial{}, false
	for _, t := range s.History() {
		if !ok || t.Fitness < best.Fitness {
			best, ok = t, true
		}
	}
	return best, ok
}

// History returns the told trials by id.
func (s *Study) History() []Trial {
	s.mu.Lock()
	defer s.mu.Unlock()
	var told []Trial
	for _, t := range s.trials {
		if t.Told {
			told = append(told, t)
		}
	}
	return told
}

// Seeds returns the told ones of the three trials that every study starts with, by the names of their methods: linear
// (PI), ntk and yarn, each as published, with n-hat 0 and the method's own attention factor.
func (s *Study) Seeds() map[string]Trial {
	seeds := map[string]Trial{}
	for _, t := range s.History() {
		if t.ID < len(seedMethods) {
			seeds[seedMethods[t.ID]] = t
		}
	}
	return seeds
}

// Point is one point of a study's progress.
type Point struct {
	Trial  int     `json:"trial"`
	Tokens int     `json:"tokens"` // evaluated up to and with this trial
	Best   float64 `json:"best"`   // lowest fitness so far
}

// Curve returns the best fitness over the tokens evaluated, a point per told trial by id.
func (s *Study) Curve() []Point {
	var curve []Point
	tokens, best := 0, math.Inf(1)
	for _, t := range s.History() {
		tokens, best = tokens+t.Tokens, min(best, t.Fitness)
		curve = append(curve, Point{Trial: t.ID, Tokens: tokens, Best: best})
	}
	return curve
}

// Ladder returns the best trial as a ladder of one rung, with where it came from. It is an error while no trial has a
// finite fitness.
func (s *Study) Ladder() (*Ladder, error) {
	best, ok := s.Best()
	if !ok || math.IsInf(best.Fitness, 0) {
		return nil, fmt.Errorf("study: no trial has a fitness yet")
	}
	l, err := NewLadder(s.opts.Rope, s.opts.Base, best.Rung)
	if err != nil {
		return nil, err
	}
	curve := s.Curve()
	l.Source = &Source{ModelDigest: s.opts.ModelDigest, Method: "longrope", Algorithm: s.opts.Algorithm, Seed: s.opts.Seed,
		Texts: s.opts.Texts, Measure: s.opts.Fitness, Fitness: best.Fitness, Trials: len(curve), Tokens: curve[len(curve)-1].Tokens}
	return l, nil
}

// key identifies what a rung does.
func (g Rung) key() string {
	b := binary.LittleEndian.AppendUint64(nil, uint64(g.Length))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.StartWindow))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(g.AttentionFactor))
	for _, f := range g.Factors {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
	}
	return string(b)
}

// plainTrial has Trial's fields without its methods; Fitness is shadowed, since JSON has no infinity.
type plainTrial Trial

// MarshalJSON writes an infinite fitness as "inf".
func (t Trial) MarshalJSON() ([]byte, error) {
	var fitness any = t.Fitness
	if math.IsInf(t.Fitness, 1) {
		fitness = "inf"
	}
	return json.Marshal(struct {
		plainTrial
		Fitness any `json:"fitness"`
	}{plainTrial(t), fitness})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Trial) UnmarshalJSON(b []byte) error {
	v := struct {
		plainTrial
		Fitness any `json:"fitness"`
	}{}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*t = Trial(v.plainTrial)
	switch f := v.Fitness.(type) {
	case float64:
		t.Fitness = f
	case string:
		if f != "inf" {
			return fmt.Errorf("fitness is %q", f)
		}
		t.Fitness = math.Inf(1)
	default:
		return fmt.Errorf("fitness is missing")
	}
	return nil
}
