package longrope

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// searching is the search for one rung.
type searching struct {
	*search
	step     step
	journal  string // its file
	judge    *judge
	texts    []evals.Text
	windows  int      // that a candidate reads
	held     *heldOut // nil: there is no text that is long enough
	budget   int      // tokens at most
	foreseen int      // tokens if the search need not begin anew
	deadline time.Time
	study    *ropescale.Study
	resumed  int // trials that the journal had
	read     int // tokens of these
	heldRead int // tokens of held-out text that earlier runs read
	best     int // the best candidate that was looked at, -1: none
	complete bool
}

// errTime ends the search for a rung whose time is up.
var errTime = errors.New("the time is up")

// evaluator scores the trials of a batch, and tells the losses of each when it has them, in any order. An error of tell ends it.
type evaluator interface {
	evaluate(ctx context.Context, trials []ropescale.Trial, tell func(t ropescale.Trial, losses []float64, tokens int) error) error
}

// here evaluates on an engine of this process, one trial after the other.
type here struct {
	judge *judge
	e     evals.Engine
}

func (h here) evaluate(ctx context.Context, trials []ropescale.Trial, tell func(ropescale.Trial, []float64, int) error) error {
	for _, t := range trials {
		losses, tokens, err := h.judge.evaluate(ctx, h.e, t.Rung, t.Readings)
		if err == nil {
			err = tell(t, losses, tokens)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// options are the study's. Its starts, which the rung below adds to, come later.
func (r *searching) options() ropescale.Options {
	opts := ropescale.Options{
		Rope: r.step.rope, Target: r.step.target, Base: r.step.base, Stretch: r.step.stretch, Readings: r.judge.Readings,
		Algorithm: r.f.algorithm, Seed: r.f.seed, Budget: r.budget, ModelDigest: r.e.Info().Digest, Fitness: r.judge.Name,
		Params: ropescale.Params{Attention: r.f.attention, StartWindows: r.f.startWindows, Knots: r.f.knots},
	}
	if r.f.budget.tokens == 0 {
		opts.Params.Retries = 1
	}
	for _, t := range r.texts {
		opts.Texts = append(opts.Texts, textID(t))
	}
	if r.starting() {
		opts.Starts = slices.Concat(r.step.starts, r.step.given)
	}
	return opts
}

// starting says whether the algorithm takes further candidates to start from; the released ones do not.
func (r *searching) starting() bool { return !strings.HasPrefix(r.f.algorithm, "dim-") }

// below is the rung below rung i that is stretched from the same, nil if there is none.
func (s *search) below(i int) *searching {
	if i == 0 || s.rungs[i-1].step.relative != s.rungs[i].step.relative || !s.rungs[i].starting() {
		return nil
	}
	return s.rungs[i-1]
}

// least is the budget of rung i that is enough for what its study begins with, and a candidate more.
func (s *search) least(i int) int {
	r := s.rungs[i]
	n := len(r.seedNames()) + len(r.options().Starts) + 1
	if s.below(i) != nil {
		n += len(r.standIns())
	}
	return n * r.judge.tokens()
}

// standIns are as many starts as the rung below will give, before it has been found.
func (r *searching) standIns() []ropescale.Candidate {
	return r.step.above(r.step.rope.Identity(r.step.target - 1).Over(r.step.base))
}

// open starts or resumes the study of rung i, and reads what was read of held-out text.
func (r *searching) open(i int) error {
	opts := r.options()
	if below := r.below(i); below != nil {
		best, ok := below.found()
		if !ok {
			return fmt.Errorf("every candidate for %s tokens failed, so the model computes no finite perplexity on these texts", size(below.step.target))
		}
		opts.Starts = append(opts.Starts[:len(opts.Starts):len(opts.Starts)], r.step.above(best.Rung)...)
	}
	journal, err := isJournal(r.journal)
	if err != nil {
		return err
	}
	if r.study, err = ropescale.OpenStudy(r.journal, opts); err != nil {
		if journal && strings.HasPrefix(err.Error(), "study "+r.journal) {
			err = fmt.Errorf("%w; --fresh discards it", err)
		}
		return err
	}
	r.best, r.resumed, r.read = -1, len(r.study.History()), r.spent()
	if best, ok := r.study.Best(); ok {
		r.best = best.Candidate
	}
	if r.held == nil {
		return nil
	}
	err = r.held.open(r.journal, r.foreseen)
	r.heldRead = r.held.spent
	return err
}

func (r *searching) close() {
	if r.study != nil {
		r.study.Close()
	}
	r.held.close()
}

// found is the best candidate, if any has a finite fitness.
func (r *searching) found() (ropescale.Trial, bool) {
	best, ok := r.study.Best()
	return best, ok && !math.IsInf(best.Fitness, 0)
}

// run evaluates trials until the study is done, time is up or the user interrupts.
func (r *searching) run(ctx context.Context) error {
	began := time.Now()
	if err := r.study.SetEnding(false); err != nil {
		return err
	}
	switch {
	case r.study.Done():
		r.say("the search in %s is complete, with %d trials", r.journal, r.resumed)
	case r.resumed > 0:
		r.say("going on with %s after %d trials, %s of %s tokens", r.journal, r.resumed, count(r.read), count(r.study.Foreseen()))
	case len(r.rungs) > 1:
		r.say("%s tokens", size(r.step.target))
	}
	if trial, ok := r.study.Diverged(); ok {
		r.say("note: an earlier version of this program started %s; from trial %d on this one would have "+
			"proposed other candidates, and it resumes from those that are stored", r.journal, trial)
	}
	scores := r.pool.evaluator(r.judge, r.e)
	said := false
	for !r.study.Done() {
		if r.late() {
			return errTime
		}
		if r.closing(began) {
			if err := r.study.SetEnding(true); err != nil {
				return err
			}
		}
		err := scores.evaluate(ctx, r.study.Ask(), func(t ropescale.Trial, losses []float64, tokens int) error {
			if err := r.study.Tell(t.ID, losses, tokens); err != nil {
				return err
			}
			if err := r.readHeldOut(ctx, t); err != nil {
				return err
			}
			r.show()
			if seeds := r.study.Seeds(); !said && len(seeds) == len(r.seedNames()) {
				said = true
				if r.resumed < len(seeds) {
					r.done()
					r.say("to beat: %s", r.seedLine())
				}
			}
			if r.late() {
				return errTime
			}
			return nil
		})
		if err != nil {
			return r.stopped(ctx, err)
		}
	}
	if r.study.Ending() {
		return errTime
	}
	return nil
}

// closing says whether the time left is needed to score what was found: one batch more would be too much, at the speed since began.
func (r *searching) closing(began time.Time) bool {
	read := r.spent() - r.read
	if r.deadline.IsZero() || read == 0 {
		return false
	}
	need := time.Duration(float64(time.Since(began)) * float64(r.study.Closing()) / float64(read))
	return time.Now().Add(need).After(r.deadline)
}

// late says whether the time is up. What a study begins with is scored all the same: without PI, NTK, YaRN and the rung below, the
// best is only the first.
func (r *searching) late() bool {
	begins := len(r.seedNames()) + len(r.study.Options().Starts)
	return !r.deadline.IsZero() && time.Now().After(r.deadline) && len(r.study.History()) >= begins
}

// stopped says how a search that the user interrupted goes on.
func (r *searching) stopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	r.done()
	r.say("%d trials are kept in %s; to go on:\n  %s", len(r.study.History()), r.journal, r.command())
	return errInterrupted
}

// readHeldOut lets the candidate of a trial read held-out text, if it is one of the methods or the best there is, and if the
// share of tokens for that allows it.
func (r *searching) readHeldOut(ctx context.Context, t ropescale.Trial) error {
	best, ok := r.study.Best()
	first := false
	for _, seed := range r.study.Seeds() {
		first = first || seed.ID == t.ID
	}
	if ok && best.Candidate != r.best {
		r.best = best.Candidate
		if best.Candidate == t.Candidate {
			first = true
		}
	}
	if !first || !r.held.may() {
		return nil
	}
	if err := r.judge.set(r.e, t.Rung); err != nil {
		return err
	}
	return r.held.read(ctx, r.e, t.Candidate, false)
}

// seedNames are the methods that the study evaluates first: up to the original context length all are the own RoPE.
func (r *searching) seedNames() []string {
	return ropescale.SeedNames(r.step.rope, r.step.target)
}

func (r *searching) seedLine() string {
	var parts []string
	for _, name := range r.seedNames() {
		parts = append(parts, ropescale.MethodLabel(name)+" "+r.told(r.study.Seeds()[name]))
	}
	return strings.Join(parts, ", ")
}

// told is a candidate's fitness, and the perplexities of the search text, where that is another number, and of held-out text.
func (r *searching) told(t ropescale.Trial) string {
	var more []string
	if s := scoresOf(r.study)[t.Candidate]; s.keys != nil && s.text != nil {
		more = append(more, "text "+fitness(*s.text))
	}
	if p, ok := r.held.perplexity(t.Candidate, false); ok {
		more = append(more, "held-out "+fitness(p))
	}
	if more == nil {
		return fitness(t.Fitness)
	}
	return fmt.Sprintf("%s (%s)", fitness(t.Fitness), strings.Join(more, ", "))
}

// rival is the best of the methods that need no search.
func (r *searching) rival() (ropescale.Trial, bool) {
	best, ok := ropescale.Trial{Fitness: math.Inf(1)}, false
	seeds := r.study.Seeds()
	for _, name := range r.seedNames() {
		if t, told := seeds[name]; told && t.Fitness < best.Fitness {
			best, ok = t, true
		}
	}
	return best, ok
}

// spent is how many tokens were read for the study.
func (r *searching) spent() int {
	curve := r.study.Curve()
	if len(curve) == 0 {
		return 0
	}
	return curve[len(curve)-1].Tokens
}

// show draws the progress of the whole search.
func (r *searching) show() {
	// What this run has read, and what it is to read: rungs below are done with, those above are not begun.
	now, all, heldOut := 0, 0, 0
	for _, other := range r.rungs {
		if other.study == nil {
			all += other.foreseen
			continue
		}
		read := other.spent() - other.read
		now += read
		if other == r {
			read = other.study.Foreseen() - other.read
		}
		all += read
		if other.held != nil {
			heldOut += other.held.spent - other.heldRead
		}
	}
	since := time.Since(r.started)
	done, total := float64(now), float64(all)
	if t := r.f.budget.time; t > 0 {
		done, total = max(done/total, since.Seconds()/t.Seconds()), 1
	}
	rate := float64(now+heldOut) / since.Seconds()
	if left, ok := remaining(since, done/total); ok && !r.said && since > 2*time.Second {
		r.said = true
		if left > 30*time.Second {
			r.done()
			r.say("about %s at %s tokens/s", duration(left), count(int(rate)))
		}
	}
	what := "search"
	if len(r.rungs) > 1 {
		what += " " + size(r.step.target)
	}
	r.progress(r.started, what, done, total, fmt.Sprintf("%s tokens, %s/s%s", count(now), count(int(rate)), r.pool.crew()), r.standing())
}

// standing is how the best stands against the methods, on held-out text too where that was read.
func (r *searching) standing() string {
	best, ok := r.found()
	if !ok {
		return ""
	}
	s := "best " + r.told(best)
	if rival, ok := r.rival(); ok && rival.Candidate != best.Candidate {
		s += fmt.Sprintf(" against %s %s", ropescale.MethodLabel(rival.Origin), r.told(rival))
	} else if ok {
		s += ", " + ropescale.MethodLabel(rival.Origin)
	}
	return s
}
