package workers

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/ropescale"
)

// Answers are checked for what they can be, and a sample of them is computed again.
const (
	// maxKnown bounds the readings that are kept without having been asked for, maxWorkers the
	// workers on the book, and maxSeconds an answer's time.
	maxKnown, maxWorkers, maxSeconds = 1 << 18, 4096, 1e6
	// maxTokens bounds the tokens of a reading, so that sums of them stay numbers.
	maxTokens = 1 << 40
	// sampled is the share of a worker's answers that are computed again in the long run: of one
	// that has passed n checks it is 1/(1+n), and no less than this.
	sampled = 1. / 16
	// maxChecks is how many answers wait to be computed again, next to the workers' first ones.
	maxChecks = 4
	// maxBad is how many answers that are none a worker may give before it is put out.
	maxBad = 3
)

// check is a pass that a worker evaluated and that is computed again.
type check struct {
	worker, name string // the worker's id and name
	trial        int
	rung         ropescale.Rung
	base         *ropescale.Rung
	pass         []int
	losses       []float64
}

// doubts are who has to be checked, and who was found to give wrong losses.
type doubts struct {
	active bool            // there is something to check with
	passed map[string]int  // checks in which a worker's losses were right, by its id
	out    map[string]bool // workers that were put out
	bad    map[string]int  // answers that were none
	// search counts the calls of Search, and uses are, for each worker, the first trials of them
	// that its answers were told for.
	search  int
	uses    map[string][]Use
	waiting []check
	right   map[unit]bool // readings that were computed again, of workers in doubt
}

// Use is a trial that answers were told for: of which call of Search, counted from 0.
type Use struct{ Search, Trial int }

func newDoubts() doubts {
	return doubts{
		passed: map[string]int{}, out: map[string]bool{}, bad: map[string]int{},
		right: map[unit]bool{}, search: -1, uses: map[string][]Use{},
	}
}

// use notes whose answers were told for a trial.
func (d *doubts) use(ids map[string]bool, trial int) {
	for id := range ids {
		all := d.uses[id]
		if len(all) == 0 || all[len(all)-1].Search != d.search {
			d.uses[id] = append(all, Use{d.search, trial})
		}
	}
}

// answered puts an answer of a worker that has passed a check among those to check, if it is one of
// the sample. The worker cannot know which. passes are those that were asked for.
func (d *doubts) answered(a answer, passes []int) {
	n := d.passed[a.ID]
	if d.active && n > 0 && len(passes) > 0 && len(d.waiting) < maxChecks &&
		rand.Float64() < max(sampled, 1/float64(1+n)) {
		d.waiting = append(d.waiting, a.pass(passes[rand.IntN(len(passes))]))
	}
}

// next takes the check that is to be made now: one of a worker in doubt, whose answers wait for it,
// then those of the sample. It is false where there is none.
func (b *book) next() (check, bool) {
	d := &b.doubts
	if !d.active {
		return check{}, false
	}
	var held []check
	for _, t := range b.trials {
		rung := rungKey(t.Rung, t.Base)
		for _, pass := range t.Passes {
			c := check{trial: t.ID, rung: t.Rung, base: t.Base}
			for _, r := range pass {
				v, ok := b.known[unit{rung, r}]
				// Workers may have computed parts of a pass each, by another cut of it.
				if ok && b.held(unit{rung, r}, v) && (c.worker == "" || c.worker == v.worker) {
					c.worker, c.name = v.worker, b.names[v.worker]
					c.pass, c.losses = append(c.pass, r), append(c.losses, v.loss)
				}
			}
			if len(c.pass) > 0 {
				held = append(held, c)
			}
		}
	}
	if len(held) > 0 {
		return held[rand.IntN(len(held))], true
	}
	for len(d.waiting) > 0 {
		c := d.waiting[0]
		d.waiting = d.waiting[1:]
		if !d.out[c.worker] {
			return c, true
		}
	}
	return check{}, false
}

// held says whether a value has to wait for a check: no loss of its worker was found right, nor
// this one.
func (b *book) held(u unit, v value) bool {
	return b.doubts.active && b.doubts.passed[v.worker] == 0 && !b.doubts.right[u]
}

// right notes that a check found what a worker said. Where the model computes nothing finite,
// whoever says so of everything is right: that is no check passed.
func (b *book) right(c check) {
	for i, r := range c.pass {
		b.doubts.right[unit{rungKey(c.rung, c.base), r}] = true
		if !math.IsInf(c.losses[i], 1) {
			b.doubts.passed[c.worker]++
			return
		}
	}
}

// pass is pass i of an answer, to check.
func (a answer) pass(i int) check {
	at := 0
	for _, pass := range a.Passes[:i] {
		at += len(pass)
	}
	return check{
		worker: a.ID, name: a.Worker, trial: a.Trial, rung: a.Rung, base: a.Base,
		pass: a.Passes[i], losses: a.Losses[at : at+len(a.Passes[i])],
	}
}

// asked are the passes of an answer that were asked for.
func (b *book) asked(a answer) (passes []int) {
	rung := rungKey(a.Rung, a.Base)
	for i, pass := range a.Passes {
		if _, ok := b.tokensOf[unit{rung, pass[0]}]; ok {
			passes = append(passes, i)
		}
	}
	return passes
}

// expect notes the tokens that trials take, and forgets answers that came before and say otherwise.
func (b *book) expect(trials []Trial) {
	for _, t := range trials {
		rung := rungKey(t.Rung, t.Base)
		for i, pass := range t.Passes {
			for k, r := range pass {
				u, tokens := unit{rung, r}, -1 // not known
				if t.Tokens != nil {
					if tokens = 0; k == 0 {
						tokens = t.Tokens[i]
					}
				}
				b.tokensOf[u] = tokens
				if v, ok := b.known[u]; ok && tokens >= 0 && v.tokens != tokens {
					delete(b.known, u)
				}
			}
		}
	}
}

// impossible says what is wrong with an answer to what was asked; nil: it may be right.
func (b *book) impossible(a answer) error {
	if a.Spec != b.spec {
		return nil
	}
	rung := rungKey(a.Rung, a.Base)
	for i, r := range slices.Concat(a.Passes...) {
		if want, ok := b.tokensOf[unit{rung, r}]; ok && want >= 0 && a.Tokens[i] != want {
			return fmt.Errorf("reading %d takes %d tokens, not %d", r, want, a.Tokens[i])
		}
	}
	return nil
}

// dispute has both sides of a conflict computed again, the one that counts first.
func (b *book) dispute(a answer, conflicts []conflict) {
	if !b.doubts.active {
		return
	}
	var checks []check
	for i, pass := range a.Passes {
		for _, x := range conflicts {
			many := len(b.doubts.waiting)+len(checks) > 2*maxChecks
			if many || !slices.Contains(pass, x.reading) {
				continue
			}
			first := a.pass(i)
			first.worker, first.name = x.first.worker, b.names[x.first.worker]
			first.pass, first.losses = []int{x.reading}, []float64{x.first.loss}
			second := a.pass(i)
			second.pass, second.losses = []int{x.reading}, []float64{x.second.loss}
			checks = append(checks, first, second)
			break
		}
	}
	b.doubts.waiting = append(checks, b.doubts.waiting...)
}

// lose returns the jobs to publish again: those that are not in the queue at two looks in a row,
// though nobody answered, and, where some of the queue are stuck, those that no worker has. It also
// says in words who had them. The error is of a job that gets lost again and again.
func (b *book) lose(queued map[string]bool, stuck bool) (again []job, from string, err error) {
	var names []string
	for key, e := range b.jobs {
		if queued[key] && !(stuck && len(e.runners) == 0) {
			e.missing = 0
			continue
		}
		if e.missing++; e.missing < 2 {
			continue
		}
		e.missing = 0
		clear(e.runners)
		if e.last != "" && !slices.Contains(names, e.last) {
			names = append(names, e.last)
		}
		if e.returns++; e.returns > maxDeliveries && !stuck {
			who := "a worker that does not say its name"
			if e.last != "" {
				who = "the worker " + e.last
			}
			return nil, "", fmt.Errorf("a job of trial %d was handed out %d times and taken out "+
				"of the queue without an answer that can be used, last by %s; stop it, or start "+
				"the NATS server with another token", e.Trial, e.returns, who)
		}
		again = append(again, e.job)
	}
	if len(names) > 0 {
		slices.Sort(names)
		from = " (last in the hands of " + strings.Join(names[:min(len(names), 3)], ", ") + ")"
	}
	return again, from, nil
}

// waiting is what a round waits for, in words.
func (b *book) waiting() string {
	queued, held := 0, map[string]bool{}
	for _, e := range b.jobs {
		if len(e.runners) == 0 {
			queued++
		}
		for id := range e.runners {
			if m := b.workers[id]; m != nil {
				held[m.Name] = true
			}
		}
	}
	if len(b.jobs) == 0 {
		return "answers are being computed again"
	}
	if queued == len(b.jobs) {
		return fmt.Sprintf("%d jobs wait for a worker; %s", queued, Status{Workers: b.alive()})
	}
	names := slices.Sorted(maps.Keys(held))
	text := fmt.Sprintf("%d jobs are in the hands of %s", len(b.jobs)-queued,
		strings.Join(names[:min(len(names), 8)], ", "))
	if queued > 0 {
		text += fmt.Sprintf(", %d wait for a worker", queued)
	}
	return text
}

// putOut takes a worker and all of its answers off the book. It returns where to refuse its job,
// the jobs to publish, and how many readings are recomputed.
func (b *book) putOut(id string) (acks []string, again []job, readings int) {
	b.doubts.out[id] = true
	acks = b.leave(id)
	for u, v := range b.known {
		if v.worker == id {
			delete(b.known, u)
			delete(b.doubts.right, u) // whoever computes it now is another
			readings++
		}
	}
	return acks, b.missing(), readings
}

// difference says where losses differ by more than engines do; "" is nowhere. Same says that the
// engines say of themselves that they compute the same bits: then what is allowed is little.
func (c check) difference(own []float64, same bool) string {
	limit := 0.02
	if same {
		limit = 1e-3
	}
	for i, mine := range own {
		theirs := c.losses[i]
		if mine == theirs {
			continue
		}
		off := math.Abs(mine - theirs)
		if math.IsInf(mine, 0) || !(off <= limit*max(1, math.Abs(mine))) {
			return fmt.Sprintf("%v for reading %d of trial %d where this program computes %v",
				theirs, c.pass[i], c.trial, mine)
		}
	}
	return ""
}

// DisownedError says that a worker gave wrong losses, and that studies were told of some.
type DisownedError struct {
	Worker string // its name
	Why    string // in words: what it computed
	Uses   []Use  // the first trial of each study that its answers were told for
}

func (e *DisownedError) Error() string {
	return fmt.Sprintf("the worker %s computed %s, and its answers were used before that was found",
		e.Worker, e.Why)
}

// Evaluate computes readings of one sequence as a worker does: with the losses of Evaluator.
type Evaluate func(
	ctx context.Context, g ropescale.Rung, base *ropescale.Rung, readings []int,
) (losses []float64, tokens int, err error)

// checker computes checks, one at a time.
type checker struct {
	evaluate Evaluate // nil: there is nothing to check with
	made     chan made
	busy     bool
	cancel   func()
}

// made is a check with what this program computes.
type made struct {
	check
	own []float64
	err error
}

// check begins the next check, if none is being made.
func (c *Coordinator) check(ctx context.Context) {
	k := &c.checks
	if k.busy || k.evaluate == nil {
		return
	}
	c.mu.Lock()
	next, ok := c.book.next()
	c.mu.Unlock()
	if !ok {
		return
	}
	ctx, k.cancel = context.WithCancel(ctx)
	k.busy = true
	evaluate := k.evaluate
	go func() {
		own, _, err := evaluate(ctx, next.rung, next.base, next.pass)
		if err == nil && len(own) != len(next.pass) {
			err = fmt.Errorf("%d losses for %d readings", len(own), len(next.pass))
		}
		k.made <- made{next, own, err}
	}()
}

// finish waits for the check that is being made: the engine is free afterwards.
func (c *Coordinator) finish() error {
	if !c.checks.busy {
		return nil
	}
	return c.judge(<-c.checks.made)
}

// abandon is finish without the time that the check takes.
func (c *Coordinator) abandon() {
	if c.checks.busy {
		c.checks.cancel()
		<-c.checks.made
		c.checks.busy = false
	}
}

// judge acts on a check. A worker whose losses differ is put out.
func (c *Coordinator) judge(m made) error {
	c.checks.busy = false
	c.checks.cancel()
	if m.err != nil {
		return fmt.Errorf("cannot compute an answer of %s again: %w", m.name, m.err)
	}
	c.mu.Lock()
	engine := ""
	if member := c.book.workers[m.worker]; member != nil {
		engine = member.Engine.Fingerprint
	}
	c.mu.Unlock()
	why := m.difference(m.own, engine == c.opts.Engine.Fingerprint)
	if why != "" {
		return c.putOut(m.worker, m.name, "computed "+why)
	}
	c.mu.Lock()
	c.book.right(m.check)
	c.mu.Unlock()
	return nil
}

// putOut has no more to do with a worker, and has its answers recomputed.
func (c *Coordinator) putOut(id, name, why string) error {
	c.mu.Lock()
	acks, again, readings := c.book.putOut(id)
	uses := c.book.doubts.uses[id]
	c.mu.Unlock()
	c.refuse(acks)
	c.tell(control{Out: id, Why: why})
	c.opts.Say("the worker %s %s; it is put out, and its answers (%d readings) are recomputed; "+
		"stop it, or start the NATS server with another token", name, why, readings)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// The answers on the server are no better: a run that resumes would take them in.
	if stream, err := c.js.Stream(ctx, c.names.answers()); err == nil {
		stream.Purge(ctx)
	}
	if len(uses) > 0 {
		return &DisownedError{Worker: name, Why: strings.TrimPrefix(why, "computed "), Uses: uses}
	}
	return c.persist(ctx, func(ctx context.Context) error { return c.publish(ctx, again) })
}
