package search

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/units"
	"github.com/longrope/longrope/ropescale/study"
)

// Engine is a loaded model: the same that evals measures.
type Engine = evals.Engine

// Search searches factors for each target on a model that the engine has loaded, for sequences of
// the longest target, and returns the ladder with what is known of each rung. A context that ends
// while trials are evaluated gives *Interrupted; one that ends later, while the held-out text is
// evaluated in full, gives the result without that and the context's error.
//
// Trials are evaluated one after the other on the engine, or with Options.Workers by processes that
// have the model's file.
func Search(ctx context.Context, e Engine, o Options, ev Events) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	s := &ladderSearch{o: &o, engine: e, events: ev}
	defer s.close()
	if err := s.prepare(); err != nil {
		return nil, err
	}
	var err error
	if s.pool, err = startPool(ctx, e, &o, s.rungs[0].judge, ev.Say); err != nil {
		return nil, err
	}
	err = s.disown(s.climb(ctx))
	s.pool.close(ev.Say, err == nil && s.rungs[len(s.rungs)-1].complete)
	if err != nil {
		return nil, err
	}
	return s.finish(ctx)
}

// ladderSearch is a search for all targets.
type ladderSearch struct {
	o        *Options
	engine   Engine
	events   Events
	rungs    []*rungSearch // in the order of their targets
	pool     *pool         // nil: this process evaluates
	started  time.Time
	foretold bool // the duration was said
}

func (s *ladderSearch) close() {
	for _, r := range s.rungs {
		r.close()
	}
}

// prepare decides on what each rung's candidates are scored, and finds errors in it before the
// first hour is spent.
func (s *ladderSearch) prepare() error {
	goals, err := s.o.goals()
	if err != nil {
		return err
	}
	for _, g := range goals {
		r := &rungSearch{ladder: s, goal: g, journal: s.o.journal(g.target)}
		if r.texts, r.windows, err = s.o.chooseWindows(s.engine, g.target); err != nil {
			return err
		}
		if r.judge, err = newJudge(s.engine, r.texts, g.target, r.windows, s.o); err != nil {
			return err
		}
		s.rungs = append(s.rungs, r)
	}
	if err := s.shareBudget(); err != nil {
		return err
	}
	for _, r := range s.rungs {
		r.held, err = newHeldOut(s.engine, s.o, s.events, &r.goal, r.windows, r.foreseen)
		if err != nil {
			return err
		}
		if _, err := isJournal(r.journal); err != nil {
			return s.o.Called.Wrong("Journal", ": %w", err)
		}
		if s.o.Fresh {
			if err := discard(r.journal); err != nil {
				return s.o.Called.Wrong("Fresh", ": %w", err)
			}
		}
	}
	return nil
}

// shareBudget gives each rung its tokens.
func (s *ladderSearch) shareBudget() error {
	var least, usual []int
	for i, r := range s.rungs {
		opts := r.options()
		below := s.below(i) != nil
		if below {
			opts.Starts = append(opts.Starts, r.goal.standIns()...)
		}
		study, err := study.New(opts)
		if err != nil {
			return err
		}
		r.budget, r.foreseen = study.Options().Budget, study.Foreseen()
		least, usual = append(least, r.least(below)), append(usual, r.budget)
	}
	if s.o.Tokens == 0 {
		return nil
	}
	if need := sum(least); s.o.Tokens < need {
		return s.o.Called.Wrong(
			"Tokens",
			": PI, NTK, YaRN, other starts and one candidate more take %s "+
				"tokens; give at least that, or ask for fewer %s",
			label.Count(need),
			s.o.Called.Of("Windows"),
		)
	}
	for i, n := range shares(s.o.Tokens, least, usual) {
		s.rungs[i].budget, s.rungs[i].foreseen = n, n
	}
	return nil
}

// below is the rung below rung i that stretches the same, nil if there is none.
func (s *ladderSearch) below(i int) *rungSearch {
	if i == 0 || s.o.released() || s.rungs[i-1].goal.relative != s.rungs[i].goal.relative {
		return nil
	}
	return s.rungs[i-1]
}

// climb searches rung by rung, each with the factors that were found for the one below. A rung is
// closed once the next one has begun, so that a search that is resumed finds the next one's starts
// as they were.
func (s *ladderSearch) climb(ctx context.Context) error {
	s.started = s.o.Now()
	begun := 0 // rungs
	for i, r := range s.rungs {
		ok, err := isJournal(r.journal)
		if err != nil {
			return s.o.Called.Wrong("Journal", ": %w", err)
		}
		if ok {
			begun = i + 1
		}
	}
	if begun == 0 {
		if err := s.announce(ctx); err != nil {
			return err
		}
	}
	for i, r := range s.rungs {
		if err := r.open(s.below(i)); err != nil {
			return err
		}
		r.deadline = s.deadline(i)
		if i+1 < begun {
			continue
		}
		err := r.evaluate(ctx)
		if err != nil && !errors.Is(err, errTime) {
			return err
		}
		if err == nil {
			r.complete = true
			continue
		}
		s.events.Say("the time is up for %s tokens after %d trials, %s of %s tokens",
			label.Size(r.goal.target), len(r.study.History()),
			label.Count(r.spent()), label.Count(r.study.Foreseen()))
		if _, ok := r.result(); ok {
			continue
		}
		if i == 0 {
			return fmt.Errorf("no candidate is evaluated in full yet; the same command resumes, "+
				"or give a larger %s", s.o.Called.Of("Time"))
		}
		r.close()
		s.rungs = s.rungs[:i]
		break
	}
	return nil
}

// announce says what a new search will do and how long it may take.
func (s *ladderSearch) announce(ctx context.Context) error {
	foreseen, most := 0, 0
	lengths := make([]string, len(s.rungs))
	for i, r := range s.rungs {
		foreseen += r.foreseen
		most += r.budget
		lengths[i] = label.Size(r.goal.target)
	}
	within := ""
	if s.o.Time > 0 {
		within = " in " + units.Duration(s.o.Time)
	}
	amount := "at most " + label.Count(most) + " tokens"
	if foreseen < most {
		amount = fmt.Sprintf("%s tokens, or %s if it has to restart",
			label.Count(foreseen), label.Count(most))
	}
	s.events.Say("searching factors for %s tokens; evaluates %s%s, %s a candidate",
		strings.Join(lengths, ", "), amount, within, s.cost())
	s.rungs[len(s.rungs)-1].judge.announce(s.events.Say)
	return s.foresee(ctx, foreseen)
}

// foresee says how long so many tokens take at least, from the speed of a short text: the first
// candidate may take an hour, and nothing is known until then.
func (s *ladderSearch) foresee(ctx context.Context, tokens int) error {
	const short, long = 32, 256
	sample := s.rungs[len(s.rungs)-1].judge.first()
	if len(sample) < 16*long || s.o.Time > 0 {
		return nil
	}
	if _, err := s.engine.NLL(ctx, sample[:short], 1); err != nil { // the first call is slower
		return err
	}
	started := s.o.Now()
	if _, err := s.engine.NLL(ctx, sample[:long], 1); err != nil {
		return err
	}
	took := s.o.Now().Sub(started)
	if d := time.Duration(float64(took) * float64(tokens) / long); d > time.Minute {
		s.events.Say("that is %s at the speed of a short text, and long texts are slower; "+
			"%s shortens it, Ctrl-C keeps the results so far",
			units.Duration(d), s.o.Called.Of("Time"))
	}
	return nil
}

// cost is the tokens of a candidate, in words.
func (s *ladderSearch) cost() string {
	low, high := s.rungs[0].judge.tokens(), 0
	for _, r := range s.rungs {
		low, high = min(low, r.judge.tokens()), max(high, r.judge.tokens())
	}
	if low == high {
		return "up to " + label.Count(high)
	}
	return fmt.Sprintf("up to %s to %s", label.Count(low), label.Count(high))
}

// deadline is when rung i has had its share of a budget in time: the remaining time is divided over
// it and those above it by the tokens of each. Some is left for the held-out text at the end. It is
// zero without a budget.
func (s *ladderSearch) deadline(i int) time.Time {
	if s.o.Time == 0 {
		return time.Time{}
	}
	rest := 0
	for _, r := range s.rungs[i:] {
		rest += r.foreseen
	}
	now := s.o.Now()
	left := time.Duration((1-heldOutShare)*float64(s.o.Time)) - now.Sub(s.started)
	share := float64(s.rungs[i].foreseen) / float64(rest)
	return now.Add(time.Duration(float64(left) * share))
}

// progress reports how far the whole search is, while r is searched.
func (s *ladderSearch) progress(r *rungSearch) {
	// The tokens of this run: rungs below are done, those above are not begun.
	spent, all, heldOut := 0, 0, 0
	for _, other := range s.rungs {
		if other.study == nil {
			all += other.foreseen
			continue
		}
		tokens := other.spent() - other.earlier.tokens
		spent += tokens
		if other == r {
			tokens = other.study.Foreseen() - other.earlier.tokens
		}
		all += tokens
		if other.held != nil {
			heldOut += other.held.spent - other.earlier.heldOut
		}
	}
	since := s.o.Now().Sub(s.started)
	done, total := float64(spent), float64(all)
	if t := s.o.Time; t > 0 {
		done, total = max(done/total, since.Seconds()/t.Seconds()), 1
	}
	rate := "0"
	if since > 0 {
		rate = label.Count(int(float64(spent+heldOut) / since.Seconds()))
	}
	left, ok := units.Remaining(since, done/total)
	if ok && !s.foretold && since > 2*time.Second {
		s.foretold = true
		if left > 30*time.Second {
			s.events.Say("about %s at %s tokens/s", units.Duration(left), rate)
		}
	}
	what := "search"
	if len(s.rungs) > 1 {
		what += " " + label.Size(r.goal.target)
	}
	s.events.Progress(Progress{
		Started: s.started, Label: what, Done: done, Total: total, Standing: r.standing(),
		Note: fmt.Sprintf("%s tokens, %s/s%s", label.Count(spent), rate, s.pool.crew()),
	})
}

// shares divide a budget of tokens over rungs: each has its least, and the rest goes by what their
// algorithm would spend beyond that.
func shares(budget int, least, usual []int) []int {
	out := slices.Clone(least)
	rest, beyond := budget-sum(least), max(1, sum(usual)-sum(least))
	for i := range out {
		out[i] += int(float64(rest) * float64(usual[i]-least[i]) / float64(beyond))
	}
	out[len(out)-1] += budget - sum(out) // the rounding
	return out
}

func sum(numbers []int) int {
	all := 0
	for _, n := range numbers {
		all += n
	}
	return all
}
