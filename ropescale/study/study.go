package study

import (
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/longrope/longrope/ropescale"
)

// result is what is known of a candidate. Lower is better.
type result struct {
	Candidate int            // its id: that of its first trial
	Rung      ropescale.Rung // relative to the model's own RoPE
	// Losses are the mean NLL, in nats, of every reading: NaN where it was not evaluated, +Inf
	// where the evaluation failed.
	Losses Losses
	// Fitness is exp of the weighted sum of the losses that it is made of; NaN while any is
	// missing.
	Fitness float64
}

// An algorithm proposes candidates a batch at a time. It must depend on nothing but its space and
// the losses told, so that a replay proposes the same again.
type algorithm interface {
	// Ask returns the next batch, in which no candidate is twice with different readings; none when
	// the search is over. To ask when it is over changes nothing.
	Ask() []Candidate
	// Adopt puts another batch in the place of the one that was last asked for, or of none: what
	// another version of the algorithm proposed there. Its candidates are valid rungs, but need not
	// lie in the algorithm's space.
	Adopt(batch []Candidate)
	// Tell gives the algorithm what is known of the candidates of the batch at hand, in the same
	// order. A candidate that was evaluated before comes with its earlier losses too.
	Tell(batch []result)
}

var algorithms = map[string]func(*space) algorithm{
	"cma":            newSampledSearch,
	"longrope":       newEvolution,
	"dim-mono":       newDimMono,
	"dim-piece-mono": newDimPieceMono,
}

// algorithmNames are the names that Options.Algorithm takes.
func algorithmNames() []string { return slices.Sorted(maps.Keys(algorithms)) }

// Trial is one evaluation: of one candidate, on some readings. A candidate may have several, never
// on the same reading.
type Trial struct {
	ID         int    `json:"id"`         // from 0, in the order of asking
	Candidate  int    `json:"candidate"`  // the ID of the candidate's first trial
	Generation int    `json:"generation"` // number of the batch
	Origin     string `json:"origin"`
	Parents    []int  `json:"parents,omitempty"` // candidates
	// Rung is the candidate, absolute: what the engine is given.
	Rung ropescale.Rung `json:"rung"`
	// Base is Candidate.Base, absolute.
	Base *ropescale.Rung `json:"base,omitempty"`
	// Readings are the places in Options.Readings of what is to be scored, ascending.
	Readings []int `json:"readings"`
	// Losses are those that Tell was given: the mean NLL of each of Readings, in nats; +Inf for
	// an evaluation that failed (in JSON: "inf").
	Losses Losses `json:"losses"`
	// Tokens is how many tokens the evaluation took.
	Tokens int  `json:"tokens"`
	Told   bool `json:"-"`
	// Fitness is the candidate's, once this trial or one before it told the last of all readings;
	// NaN until then.
	Fitness float64 `json:"-"`
}

// Study is one search. Ask for trials, evaluate them in any order and on as many engines as there
// are, and tell their losses; their order within a batch changes nothing. Its methods
// may be called concurrently.
type Study struct {
	mu         sync.Mutex
	opts       Options
	algorithm  algorithm
	trials     []Trial
	candidates map[int]*result
	byKey      map[string]int // candidates
	spent      int            // tokens of the readings asked for
	finalists  []int
	done       bool
	number     int // of batches asked

	// The current batch.
	proposed  []Candidate
	batch     []int // its candidates, as far as the budget allows
	opened    int   // trials before it
	before    int   // tokens asked for before it
	pending   int
	truncated bool // the budget cut it

	asGiven Options  // before defaults were filled in
	journal *os.File // nil in memory
	stored  bool     // the journal has the current batch
	// the first trial that this version would have proposed differently; -1 if none
	diverged int
}

// NewStudy starts a study in memory. The error names the option that does not fit.
func New(opts Options) (*Study, error) {
	given := opts
	sp, opts, err := newSpace(opts)
	if err != nil {
		return nil, err
	}
	s := &Study{
		opts: opts, asGiven: given, algorithm: algorithms[opts.Algorithm](sp),
		candidates: map[int]*result{}, byKey: map[string]int{}, diverged: -1,
	}
	s.advance()
	return s, nil
}

// Options returns the study's options with every default filled in.
func (s *Study) Options() Options { return s.opts }

// Diverged is the first trial that this version of the program would have proposed differently than
// the journal says that an earlier one did; false where there is none. The study resumes from what
// was proposed and told.
func (s *Study) Diverged() (trial int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.diverged, s.diverged >= 0
}

// maxRepetitions in a row of batches that were all told before mean that the space is exhausted.
const maxRepetitions = 100

// advance asks for batches until one has something to evaluate. A batch of repetitions only is told
// at once.
func (s *Study) advance() {
	for range maxRepetitions {
		batch := s.algorithm.Ask()
		if len(batch) == 0 {
			break
		}
		if s.open(batch) {
			return
		}
		s.tellAlgorithm()
	}
	s.done = true
}

// open makes a batch the current one, with a trial for each candidate that is to be evaluated. It
// is false where none is, because all was told before.
func (s *Study) open(batch []Candidate) bool {
	s.proposed, s.stored = batch, false
	s.batch, s.opened, s.before = s.batch[:0], len(s.trials), s.spent
	for _, c := range batch {
		if !s.ask(c) {
			s.truncated = true
			break
		}
	}
	s.number++
	s.done = s.truncated && s.pending == 0
	return s.truncated || s.pending > 0
}

// replace puts a batch that another version of the program proposed in the place of the current
// one, of which nothing was told.
func (s *Study) replace(batch []Candidate) {
	if s.diverged < 0 {
		s.diverged = len(s.trials)
	}
	if s.pending > 0 {
		maps.DeleteFunc(s.byKey, func(_ string, id int) bool { return id >= s.opened })
		maps.DeleteFunc(s.candidates, func(id int, _ *result) bool { return id >= s.opened })
		s.diverged = min(s.diverged, s.opened)
		s.trials, s.spent, s.number = s.trials[:s.opened], s.before, s.number-1
	}
	s.pending, s.truncated, s.done = 0, false, false
	s.algorithm.Adopt(batch)
	if !s.open(batch) {
		s.tellAlgorithm()
		s.advance()
	}
}

// ask opens a trial for the readings that c asks for and lacks, if there are any. It is false
// when the budget does not allow it.
func (s *Study) ask(c Candidate) bool {
	key := c.Rung.Key()
	id, known := s.byKey[key]
	t := Trial{
		ID: len(s.trials), Candidate: len(s.trials), Generation: s.number, Origin: c.Origin,
		Parents: c.Parents, Rung: c.Rung.Over(s.opts.Base), Fitness: math.NaN(),
	}
	if c.Base != nil {
		base := c.Base.Over(s.opts.Base)
		t.Base = &base
	}
	if known {
		t.Candidate = id
	}
	cost := 0
	for i, r := range s.opts.Readings {
		wanted := r.Use == ""
		if c.Readings != nil {
			wanted = slices.Contains(c.Readings, i)
		}
		if wanted && !(known && s.asked(id, i)) {
			t.Readings = append(t.Readings, i)
			cost += r.Tokens
		}
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
		s.candidates[id] = &result{
			Candidate: id, Rung: c.Rung, Fitness: math.NaN(),
			Losses: slices.Repeat(Losses{math.NaN()}, len(s.opts.Readings)),
		}
	}
	s.batch = append(s.batch, id)
	return true
}

// asked says whether a candidate was told a reading, or has it in a trial of this batch.
func (s *Study) asked(id, reading int) bool {
	if !math.IsNaN(s.candidates[id].Losses[reading]) {
		return true
	}
	return slices.ContainsFunc(s.trials[s.opened:], func(t Trial) bool {
		return t.Candidate == id && slices.Contains(t.Readings, reading)
	})
}

func (s *Study) tellAlgorithm() {
	told := make([]result, len(s.batch))
	for i, id := range s.batch {
		told[i] = *s.candidates[id]
		told[i].Losses = slices.Clone(told[i].Losses)
	}
	s.algorithm.Tell(told)
}

// Ask returns the trials that wait for their losses: what is left of the current batch. It is empty
// when the study is done. Asking twice returns the same trials.
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

// Tell records the loss of each reading of a trial, lower is better, and how many tokens they took.
// A failed evaluation is +Inf. With a journal it returns after the line is on disk; when that
// fails, the trial stays open and may be told again.
func (s *Study) Tell(id int, losses []float64, tokens int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.told(id, losses, tokens)
	if err != nil {
		return fmt.Errorf("study: %w", err)
	}
	if err := s.record(t); err != nil {
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
			return t, fmt.Errorf("a loss of trial %d is %g; "+
				"tell +Inf for an evaluation that failed", id, x)
		}
	}
	t.Losses, t.Tokens, t.Told = slices.Clone(losses), tokens, true
	return t, nil
}

// settle takes in a told trial, and advances to the next batch when it was the last of this one.
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
			missing := func(i int) bool { return math.IsNaN(s.candidates[id].Losses[i]) }
			if !slices.ContainsFunc(final, missing) {
				s.finalists = append(s.finalists, id)
			}
		}
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
