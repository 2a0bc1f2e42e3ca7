package search

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale/study"
)

// rungSearch is the search for one rung: a study, and how its trials are evaluated.
type rungSearch struct {
	ladder   *ladderSearch
	goal     goal
	journal  string // its file
	judge    *judge
	texts    []evals.Text
	windows  int      // of a candidate
	held     *heldOut // nil: there is no text that is long enough
	budget   int      // tokens at most
	foreseen int      // tokens if the search need not restart
	deadline time.Time
	study    *study.Study
	earlier  earlier
	best     int  // the best candidate that was looked at, -1: none
	complete bool // the study is done
	compared bool // the methods to beat were reported
}

// earlier is the work of earlier runs.
type earlier struct {
	trials  int
	tokens  int
	heldOut int // tokens
}

// evaluator scores the trials of a batch, and gives the losses of each to tell when it has them, in
// any order. An error of tell ends it. Close it.
type evaluator interface {
	evaluate(ctx context.Context, trials []study.Trial, tell tellFunc) error
	close()
}

type tellFunc = func(t study.Trial, losses []float64, tokens int) error

// here evaluates on an engine of this process, one trial after the other.
type here struct {
	judge  *judge
	engine evals.Engine
	kept   prefixes
}

func (h *here) close() { h.kept.close() }

func (h *here) evaluate(ctx context.Context, trials []study.Trial, tell tellFunc) error {
	for _, t := range trials {
		losses, tokens, err := h.judge.evaluate(ctx, h.engine, &h.kept, t.Rung, t.Base, t.Readings)
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
func (r *rungSearch) options() study.Options {
	o := r.ladder.o
	opts := study.Options{
		Rope:        r.goal.rope,
		Target:      r.goal.target,
		Base:        r.goal.base,
		Stretch:     r.goal.reach,
		Readings:    r.judge.Readings,
		Algorithm:   o.Algorithm,
		Seed:        o.Seed,
		Budget:      r.budget,
		ModelDigest: r.ladder.engine.Info().Digest,
		Fitness:     r.judge.Name,
		Params: study.Params{
			Attention: o.Attention, StartWindows: o.StartWindows, Knots: o.Knots,
		},
	}
	if o.Tokens == 0 {
		opts.Params.Retries = 1
	}
	for _, t := range r.texts {
		opts.Texts = append(opts.Texts, textID(t))
	}
	if !o.released() {
		opts.Starts = slices.Concat(r.goal.starts, r.goal.given)
	}
	return opts
}

// least is the budget that is enough for the candidates that the study begins with, and one more.
// below says whether the rung below adds starts.
func (r *rungSearch) least(below bool) int {
	n := len(r.goal.methods(r.ladder.o.Algorithm)) + len(r.options().Starts) + 1
	if below {
		n += len(r.goal.standIns())
	}
	return n * r.judge.tokens()
}

// errFailed is the error of a search in which no candidate has a finite fitness.
func (r *rungSearch) errFailed() error {
	return fmt.Errorf("every candidate for %s tokens failed, so the model computes no finite "+
		"perplexity on these texts", label.Size(r.goal.target))
}

// open starts or resumes the study, with starts from the rung below (nil: none), and takes in the
// losses on held-out text.
func (r *rungSearch) open(below *rungSearch) error {
	opts := r.options()
	if below != nil {
		best, ok := below.result()
		if !ok {
			return below.errFailed()
		}
		opts.Starts = slices.Concat(opts.Starts, r.goal.above(best.Rung))
	}
	journal, err := isJournal(r.journal)
	if err != nil {
		return r.ladder.o.Called.Wrong("Journal", ": %w", err)
	}
	if r.study, err = study.Open(r.journal, opts); err != nil {
		if journal && strings.HasPrefix(err.Error(), "study "+r.journal) {
			err = fmt.Errorf("%w; %s discards it", err, r.ladder.o.Called.Of("Fresh"))
		}
		return err
	}
	r.best, r.earlier = -1, earlier{trials: len(r.study.History()), tokens: r.spent()}
	if best, ok := r.study.Best(); ok {
		r.best = best.Candidate
	}
	if r.held == nil {
		return nil
	}
	known := map[int]bool{}
	for _, t := range r.study.History() {
		known[t.Candidate] = true
	}
	err = r.held.open(r.journal, known, r.foreseen)
	r.earlier.heldOut = r.held.spent
	return err
}

func (r *rungSearch) close() {
	if r.study != nil {
		r.study.Close()
	}
	r.held.close()
}

// result is the best candidate, if any has a finite fitness.
func (r *rungSearch) result() (study.Trial, bool) {
	best, ok := r.study.Best()
	return best, ok && !math.IsInf(best.Fitness, 0)
}

// evaluate evaluates trials until the study is done, time is up or the context ends.
func (r *rungSearch) evaluate(ctx context.Context) error {
	began := r.ladder.o.Now()
	if err := r.study.SetEnding(false); err != nil {
		return err
	}
	r.announce()
	scorer := r.ladder.pool.evaluator(r.judge, r.ladder.engine)
	defer scorer.close()
	for !r.study.Done() {
		if r.late() {
			return errTime
		}
		if r.closing(began) {
			if err := r.study.SetEnding(true); err != nil {
				return err
			}
		}
		tell := func(t study.Trial, losses []float64, tokens int) error {
			return r.tell(ctx, t, losses, tokens)
		}
		err := scorer.evaluate(ctx, r.study.Ask(), tell)
		if err != nil && ctx.Err() != nil {
			return &Interrupted{len(r.study.History()), r.journal, ctx.Err()}
		}
		if err != nil {
			return err
		}
	}
	r.reportRenewals()
	if r.study.Ending() {
		return errTime
	}
	return nil
}

// reportRenewals says how far cheap readings could be trusted.
func (r *rungSearch) reportRenewals() {
	renewals := r.study.Renewals()
	agree, off := 0, 0.0
	for _, n := range renewals {
		if n.Agrees {
			agree++
		}
		off += math.Abs(n.Exact-n.Cheap) / float64(len(renewals))
	}
	switch {
	case len(renewals) == 0:
	case r.study.FellBack():
		r.ladder.events.Say("cheap readings did not agree with exact ones at the last of %d "+
			"renewals of their base: generations were scored in full from there on", len(renewals))
	default:
		r.ladder.events.Say("cheap readings agreed with exact ones at %d of %d renewals of their "+
			"base, and were off by %s nats in the mean", agree, len(renewals), label.Number(off))
	}
}

// announce says where the search for the rung stands.
func (r *rungSearch) announce() {
	say := r.ladder.events.Say
	switch {
	case r.study.Done():
		say("the search in %s is complete, with %d trials", r.journal, r.earlier.trials)
	case r.earlier.trials > 0:
		say("resuming %s after %d trials, %s of %s tokens", r.journal, r.earlier.trials,
			label.Count(r.earlier.tokens), label.Count(r.study.Foreseen()))
	case len(r.ladder.rungs) > 1:
		say("%s tokens", label.Size(r.goal.target))
	}
	if trial, ok := r.study.Diverged(); ok {
		say(
			"note: an earlier version of this program started %s; from trial %d on this one would "+
				"have proposed other candidates, and it resumes from those that are stored",
			r.journal,
			trial,
		)
	}
}

// tell gives the losses of a trial to the study, and reports.
func (r *rungSearch) tell(
	ctx context.Context, t study.Trial, losses []float64, tokens int,
) error {
	if err := r.study.Tell(t.ID, losses, tokens); err != nil {
		return err
	}
	if err := r.measureHeldOut(ctx, t); err != nil {
		return err
	}
	r.ladder.progress(r)
	seeds := r.study.Seeds()
	if !r.compared && len(seeds) == len(r.goal.methods(r.ladder.o.Algorithm)) {
		r.compared = true
		if r.earlier.trials < len(seeds) {
			var methods []Score
			for _, name := range r.goal.methods(r.ladder.o.Algorithm) {
				methods = append(methods, r.score(seeds[name]))
			}
			r.ladder.events.ToBeat(methods)
		}
	}
	if r.late() {
		return errTime
	}
	return nil
}

// closing reports whether the time left is needed to score the finalists: one batch more would be
// too much, at the speed since began.
func (r *rungSearch) closing(began time.Time) bool {
	tokens := r.spent() - r.earlier.tokens
	if r.deadline.IsZero() || tokens == 0 {
		return false
	}
	now := r.ladder.o.Now()
	need := time.Duration(float64(now.Sub(began)) * float64(r.study.Closing()) / float64(tokens))
	return now.Add(need).After(r.deadline)
}

// late reports whether the time is up. The candidates that a study begins with are scored all the
// same: without PI, NTK, YaRN and the rung below, the best is only the first.
func (r *rungSearch) late() bool {
	return !r.deadline.IsZero() && r.ladder.o.Now().After(r.deadline) &&
		len(r.study.History()) >= r.starts()
}

// starts is how many candidates the study begins with.
func (r *rungSearch) starts() int {
	return len(r.goal.methods(r.ladder.o.Algorithm)) + len(r.study.Options().Starts)
}

// measureHeldOut measures the candidate of a trial on held-out text, if it is one of the methods or
// the best there is, and if the share of tokens for that allows it.
func (r *rungSearch) measureHeldOut(ctx context.Context, t study.Trial) error {
	best, ok := r.study.Best()
	wanted := ok && best.Candidate != r.best && best.Candidate == t.Candidate
	if ok {
		r.best = best.Candidate
	}
	for _, seed := range r.study.Seeds() {
		wanted = wanted || seed.ID == t.ID
	}
	switch {
	case r.held == nil:
		return nil
	case ok && len(r.study.History()) >= r.starts() && r.held.must(best.Candidate, r.starts()):
		t = best
	case !wanted || !r.held.may(false):
		return nil
	}
	if err := r.judge.set(r.ladder.engine, t.Rung); err != nil {
		return err
	}
	return r.held.measure(ctx, r.ladder.engine, t.Candidate, false)
}

// score is a candidate's fitness, and the perplexities of the search text, where that is another
// number, and of held-out text.
func (r *rungSearch) score(t study.Trial) Score {
	s := Score{Candidate: t.Candidate, Origin: t.Origin, Fitness: t.Fitness}
	if parts := ScoresOf(r.study)[t.Candidate]; parts.Keys != nil && parts.Text != nil {
		s.Text = parts.Text
	}
	s.HeldOut = r.held.perplexity(t.Candidate, false)
	return s
}

// standing is how the best stands against the methods; nil before there is any.
func (r *rungSearch) standing() *Standing {
	best, ok := r.result()
	if !ok {
		return nil
	}
	s := &Standing{Best: r.score(best)}
	seeds := r.study.Seeds()
	fitness := math.Inf(1)
	for _, name := range r.goal.methods(r.ladder.o.Algorithm) {
		if t, told := seeds[name]; told && t.Fitness < fitness {
			rival := r.score(t)
			fitness, s.Rival = t.Fitness, &rival
		}
	}
	return s
}

// spent is how many tokens were evaluated for the study.
func (r *rungSearch) spent() int {
	curve := r.study.Curve()
	if len(curve) == 0 {
		return 0
	}
	return curve[len(curve)-1].Tokens
}
