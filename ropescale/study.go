package ropescale

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
)

// Reading is one thing that candidates are scored on: a sequence of tokens of which some count, such as a window of text or a
// prompt with a hidden key. What it says is not the study's business.
type Reading struct {
	Name string `json:"name"` // for the record
	// Kind of reading, such as "text" or "key": cma scores a generation on one of each.
	Kind string `json:"kind,omitempty"`
	// Tokens is how many the model reads for it; 0 for a reading that is made of the sequence of the one before it, such as
	// the key that is hidden in a window of text. The two are always asked for together.
	Tokens int `json:"tokens"`
	// Weight of its loss in the fitness, above 0.
	Weight float64 `json:"weight"`
	// Use is "" for what the fitness is made of. The others are for cma alone.
	Use Use `json:"use,omitempty"`
}

// Use of a reading that is not part of the fitness.
type Use string

const (
	// ForGenerations is what the candidates of a generation read, and nobody else: what decides was not searched with. Where
	// there is none, they read what the fitness is made of.
	ForGenerations Use = "generations"
	// ForFinalists is what finalists read at the end (Study.Best).
	ForFinalists Use = "finalists"
)

// Passes groups the places of readings by the sequence that they are made of.
func Passes(readings []Reading) [][]int {
	var passes [][]int
	for i, r := range readings {
		if r.Tokens > 0 {
			passes = append(passes, nil)
		}
		passes[len(passes)-1] = append(passes[len(passes)-1], i)
	}
	return passes
}

// Options say what a study searches for. All but Readings, Budget, Starts, Params and the provenance are needed.
type Options struct {
	// Rope is the model's RoPE; Target the length in tokens to find factors for, above Rope.OriginalContextLength.
	Rope   Rope
	Target int
	// Base is the model's own scaling, row 0; nil for plain RoPE. Candidates are composed with it (Rung.Over). A model that was
	// fine-tuned with a rung is stretched further from that: then Base is the rung, and its length is what Rope says the model
	// was trained for.
	Base *Rung
	// Stretch is how far factors reach, in place of Target/L, above 1; 0 is Target/L. A rung that is readjusted for shorter texts
	// after the model was fine-tuned for longer ones may have factors up to the longer rung's. Only then Target may be up to
	// L, and the only seed is the own RoPE.
	Stretch float64
	// Readings are what a candidate's fitness is made of; nil is a single one, of one token and weight 1.
	Readings []Reading
	// Algorithm is "cma" (also when empty), "longrope" (the paper's), "dim-mono" or "dim-piece-mono" (the authors' released ones).
	Algorithm string
	// Seed determines every candidate, together with the losses told.
	Seed uint64
	// Budget is how many tokens are read at most. 0 means the algorithm's own: enough for eighteen generations of cma, its
	// finals and Params.Retries, the paper's 3+64+40*32 times all readings for the others.
	Budget int
	// Starts are further candidates to start from, relative to the model's own RoPE, beside PI, NTK and YaRN: the factors of a
	// shorter rung, or those published for a relative. The released algorithms take none.
	Starts []Candidate
	Params Params
	// ModelDigest, Fitness (what it is, e.g. "perplexity of 3 windows") and Texts go into the record, and a study is
	// not resumed when they differ.
	ModelDigest string
	Fitness     string
	Texts       []string
}

// Candidate is what an Algorithm proposes.
type Candidate struct {
	Rung    Rung   `json:"rung"`              // relative to the model's own RoPE
	Origin  string `json:"origin"`            // how it was made: a method's name, "mutation", "crossover", "cma", "start window", …
	Parents []int  `json:"parents,omitempty"` // the candidates that it was made from
	// Readings are the places in Options.Readings that it is to be scored on; nil is all that the fitness is made of. Those that it was
	// scored on before are left out of the trial.
	Readings []int `json:"-"`
}

// Result is what is known of a candidate. Lower is better.
type Result struct {
	Candidate int  // its id: that of its first trial
	Rung      Rung // relative to the model's own RoPE
	// Losses are the mean NLL, in nats, of every reading: NaN where it was not read, +Inf where the evaluation failed.
	Losses Losses
	// Fitness is exp of the weighted sum of the losses that it is made of; NaN while any is missing.
	Fitness float64
}

// An Algorithm proposes candidates a batch at a time. It must depend on nothing but its space and the losses told, so that a
// replay proposes the same again.
type Algorithm interface {
	// Ask returns the next batch, in which no candidate is twice with different readings; none when the search is over.
	Ask() []Candidate
	// Tell gives the algorithm what is known of the candidates of the batch last asked for, in the same order. A candidate that
	// was evaluated before comes with its earlier losses too.
	Tell(batch []Result)
}

var algorithms = map[string]func(*space) Algorithm{
	"cma":            newSampledSearch,
	"longrope":       newEvolution,
	"dim-mono":       newDimMono,
	"dim-piece-mono": newDimPieceMono,
}

// Algorithms are the names that Options.Algorithm takes.
func Algorithms() []string { return slices.Sorted(maps.Keys(algorithms)) }

// Trial is one evaluation: of one candidate, on some readings. A candidate may have several, never on the same reading.
type Trial struct {
	ID         int    `json:"id"`         // from 0, in the order of asking
	Candidate  int    `json:"candidate"`  // the ID of the candidate's first trial
	Generation int    `json:"generation"` // number of the batch
	Origin     string `json:"origin"`
	Parents    []int  `json:"parents,omitempty"` // candidates
	// Rung is the candidate, absolute: what the engine is given.
	Rung Rung `json:"rung"`
	// Readings are the places in Options.Readings of what is to be scored, ascending.
	Readings []int `json:"readings"`
	// Losses are what was told: the mean NLL of each of Readings, in nats; +Inf for an evaluation that failed (in JSON: "inf").
	Losses Losses `json:"losses"`
	// Tokens is how many tokens the evaluation took.
	Tokens int  `json:"tokens"`
	Told   bool `json:"-"`
	// Fitness is the candidate's, once this trial or one before it told the last of all readings; NaN until then.
	Fitness float64 `json:"-"`
}

// Study is one search. Ask for trials, evaluate them in any order and on as many engines as there are, and tell their
// losses; the order of the tells within a batch changes nothing. Its methods may be called concurrently.
type Study struct {
	mu         sync.Mutex
	opts       Options
	algorithm  Algorithm
	trials     []Trial
	candidates map[int]*Result
	byKey      map[string]int // candidates
	batch      []int          // the candidates of the current batch
	opened     int            // trials before the current batch
	number     int            // of batches asked
	pending    int
	spent      int  // tokens of the readings asked for
	truncated  bool // the budget cut the current batch
	finalists  []int
	done       bool
	journal    *os.File // nil in memory
}

// NewStudy starts a study in memory. The error names the option that does not fit.
func NewStudy(opts Options) (*Study, error) {
	sp, opts, err := newSpace(opts)
	if err != nil {
		return nil, err
	}
	s := &Study{opts: opts, algorithm: algorithms[opts.Algorithm](sp), candidates: map[int]*Result{}, byKey: map[string]int{}}
	s.advance()
	return s, nil
}

// Options returns the study's options with every default filled in.
func (s *Study) Options() Options { return s.opts }

// Foreseen is how many tokens are read if there is no retry (Params.Retries) but those that were begun; Options().Budget is the most.
func (s *Study) Foreseen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.sampled(); a != nil {
		return a.limit
	}
	return s.opts.Budget
}

// sampled is the study's algorithm if it is cma's, the only one that can end early; nil if not.
func (s *Study) sampled() *sampledSearch {
	a, _ := s.algorithm.(*sampledSearch)
	return a
}

// advance asks for batches until one has something to evaluate. A batch of repetitions only is told at once; a hundred of
// those in a row mean that the space is exhausted.
func (s *Study) advance() {
	for range 100 {
		candidates := s.algorithm.Ask()
		if len(candidates) == 0 {
			break
		}
		s.batch, s.opened = s.batch[:0], len(s.trials)
		for _, c := range candidates {
			if !s.ask(c) {
				s.truncated = true
				break
			}
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

// ask opens a trial for what c is to read and has not read, if there is any. It is false when the budget does not allow it.
func (s *Study) ask(c Candidate) bool {
	key := c.Rung.Key()
	id, known := s.byKey[key]
	t := Trial{ID: len(s.trials), Candidate: len(s.trials), Generation: s.number, Origin: c.Origin, Parents: c.Parents,
		Rung: c.Rung.Over(s.opts.Base), Fitness: math.NaN()}
	if known {
		t.Candidate = id
	}
	cost := 0
	for i, r := range s.opts.Readings {
		if c.Readings == nil && r.Use != "" || c.Readings != nil && !slices.Contains(c.Readings, i) || known && s.asked(id, i) {
			continue
		}
		t.Readings = append(t.Readings, i)
		cost += r.Tokens
	}
	if len(t.Readings) > 0 {
		if s.spent+cost > s.opts.Budget {
			return false
		}
		s.spent += cost
		s.pending++
		s.trials = append(s.trials, t)
	}
	if !known {
		id = t.ID
		s.byKey[key] = id
		s.candidates[id] = &Result{Candidate: id, Rung: c.Rung, Losses: slices.Repeat(Losses{math.NaN()}, len(s.opts.Readings)), Fitness: math.NaN()}
	}
	s.batch = append(s.batch, id)
	return true
}

// asked says whether a candidate was told a reading, or has it in a trial of this batch.
func (s *Study) asked(id, reading int) bool {
	return !math.IsNaN(s.candidates[id].Losses[reading]) || slices.ContainsFunc(s.trials[s.opened:], func(t Trial) bool {
		return t.Candidate == id && slices.Contains(t.Readings, reading)
	})
}

func (s *Study) tellAlgorithm() {
	told := make([]Result, len(s.batch))
	for i, id := range s.batch {
		told[i] = *s.candidates[id]
		told[i].Losses = slices.Clone(told[i].Losses)
	}
	s.algorithm.Tell(told)
}

// Ask returns the trials that wait for their losses: what is left of the current batch. It is empty when the study is done.
// Asking twice returns the same trials.
func (s *Study) Ask() []Trial {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []Trial
	for _, t := range s.trials[s.opened:] {
		if !t.Told {
			open = append(open, t)
		}
	}
	return open
}

// Tell records the loss of each reading of a trial, lower is better, and how many tokens they took. A failed evaluation is
// +Inf. With a journal it returns after the line is on disk; when that fails, the trial stays open and may be told again.
func (s *Study) Tell(id int, losses []float64, tokens int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.told(id, losses, tokens)
	if err != nil {
		return fmt.Errorf("study: %w", err)
	}
	if err := s.append(t); err != nil {
		return err
	}
	s.settle(t)
	return nil
}

// told returns the trial with what was told of it, if that can be.
func (s *Study) told(id int, losses []float64, tokens int) (Trial, error) {
	if id < 0 || id >= len(s.trials) {
		return Trial{}, fmt.Errorf("there is no trial %d", id)
	}
	t := s.trials[id]
	switch {
	case t.Told:
		return t, fmt.Errorf("trial %d was told before", id)
	case len(losses) != len(t.Readings):
		return t, fmt.Errorf("trial %d has %d readings, not %d", id, len(t.Readings), len(losses))
	case tokens < 0:
		return t, fmt.Errorf("tokens of trial %d are %d", id, tokens)
	}
	for _, x := range losses {
		if math.IsNaN(x) || math.IsInf(x, -1) {
			return t, fmt.Errorf("a loss of trial %d is %g; tell +Inf for an evaluation that failed", id, x)
		}
	}
	t.Losses, t.Tokens, t.Told = slices.Clone(losses), tokens, true
	return t, nil
}

// settle takes in a told trial, and goes on to the next batch when it was the last of this one.
func (s *Study) settle(t Trial) {
	r := s.candidates[t.Candidate]
	for k, i := range t.Readings {
		r.Losses[i] = t.Losses[k]
	}
	r.Fitness = fitness(r.Losses, s.opts.Readings)
	t.Fitness = r.Fitness
	s.trials[t.ID] = t
	if s.pending--; s.pending > 0 {
		return
	}
	if s.truncated {
		s.done = true
		return
	}
	if final := places(s.opts.Readings, ForFinalists); final != nil {
		for _, id := range s.batch {
			if !slices.ContainsFunc(final, func(i int) bool { return math.IsNaN(s.candidates[id].Losses[i]) }) {
				s.finalists = append(s.finalists, id)
			}
		}
	}
	s.tellAlgorithm()
	s.advance()
}

// places are those of the readings for a use.
func places(readings []Reading, use Use) (places []int) {
	for i, r := range readings {
		if r.Use == use {
			places = append(places, i)
		}
	}
	return places
}

// Done reports whether nothing is left to evaluate.
func (s *Study) Done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
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
