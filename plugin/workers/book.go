package workers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/ropescale"
)

// Trial is what is to be evaluated: readings of one candidate, those together that are made of one
// sequence.
type Trial struct {
	ID     int
	Rung   ropescale.Rung
	Base   *ropescale.Rung // of cheap readings; nil: none
	Passes [][]int
	Tokens []int // that each pass takes; nil: not known
}

// Result is a trial that was evaluated: a loss in nats for each of its readings, in the order of
// its passes (+Inf where the model computes nothing finite), and the tokens that they took
// together.
type Result struct {
	ID     int
	Losses []float64
	Tokens int
}

// maxDeliveries is how often one job is handed out before it counts as one that no worker survives.
const maxDeliveries = 8

// A job is slow, and goes to a second worker if one is idle, after slowTimes the median time of
// what it reads and a moment more. It does not go to more than maxRunners.
const (
	slowTimes  = 2
	slowMoment = 500 * time.Millisecond
	maxRunners = 3
)

// chunksPerWorker is into how many jobs a round is cut for each worker, so that all end at about
// the same time.
const chunksPerWorker = 4

// book keeps account of one round of trials and of who works. It knows no network and no clock, so
// that the simulation of a hundred workers runs the same code.
type book struct {
	spec     string
	known    map[unit]value
	tokensOf map[unit]int      // that a reading takes, as far as it was asked for
	jobs     map[string]*entry // open ones, by key
	trials   []Trial           // open ones
	workers  map[string]*member
	rates    []float64         // seconds a pass of the latest answers
	lost     int               // evaluations that were begun and came to nothing
	tokens   map[string]int    // evaluated, by the worker's id
	names    map[string]string // of all workers that answered, by id

	doubts doubts
}

// unit is one reading of one candidate, and value what came of it.
type unit struct {
	rung    string
	reading int
}

type value struct {
	loss   float64
	tokens int
	worker string // its id
}

type entry struct {
	job
	deliveries int
	runners    map[string]runner // by the worker's id
	handedOn   time.Time         // since it was slow
	last       string            // the name of the worker that had it last
	missing    int               // looks in a row at which it was neither queued nor answered
	returns    int               // how often it had to be queued again
}

type runner struct {
	since time.Time
	ack   string
}

type member struct {
	beat
	seen   time.Time
	silent bool
}

func newBook() *book {
	return &book{
		known: map[unit]value{}, jobs: map[string]*entry{}, workers: map[string]*member{},
		tokens: map[string]int{}, names: map[string]string{}, tokensOf: map[unit]int{},
		doubts: newDoubts(),
	}
}

// open turns to another specification, under which nothing is known yet.
func (b *book) open(spec string) {
	b.spec, b.known, b.jobs = spec, map[unit]value{}, map[string]*entry{}
	b.trials, b.rates, b.tokensOf = nil, nil, map[unit]int{}
	b.doubts.waiting, b.doubts.right = nil, map[unit]bool{}
	b.doubts.search++
}

// begin opens a round and returns its jobs: what of the trials is not known yet.
func (b *book) begin(trials []Trial) []job {
	b.jobs, b.trials = map[string]*entry{}, slices.Clone(trials)
	b.expect(trials)
	return b.missing()
}

// missing opens jobs for what of the trials is neither known nor in an open job.
func (b *book) missing() []job {
	open, trials := map[unit]bool{}, b.trials
	for _, e := range b.jobs {
		for _, r := range slices.Concat(e.Passes...) {
			open[unit{rungKey(e.Rung, e.Base), r}] = true
		}
	}
	missing := make([][][]int, len(trials))
	total := 0
	for i, t := range trials {
		for _, pass := range t.Passes {
			rung := rungKey(t.Rung, t.Base)
			wanted := func(r int) bool {
				_, ok := b.known[unit{rung, r}]
				return !ok && !open[unit{rung, r}]
			}
			if slices.ContainsFunc(pass, wanted) {
				missing[i] = append(missing[i], pass)
			}
		}
		total += len(missing[i])
	}
	size := max(1, total/(chunksPerWorker*max(1, b.alive())))
	var jobs []job
	for i, t := range trials {
		for part := range slices.Chunk(missing[i], size) {
			j := job{Spec: b.spec, Trial: t.ID, Rung: t.Rung, Base: t.Base, Passes: part}
			b.jobs[j.key()] = &entry{job: j, runners: map[string]runner{}}
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// done takes the trials out of which all readings are known, by workers that are not in doubt.
func (b *book) done() []Result {
	var results []Result
	b.trials = slices.DeleteFunc(b.trials, func(t Trial) bool {
		r, by := Result{ID: t.ID}, map[string]bool{}
		for _, reading := range slices.Concat(t.Passes...) {
			v, ok := b.known[unit{rungKey(t.Rung, t.Base), reading}]
			if !ok || b.held(unit{rungKey(t.Rung, t.Base), reading}, v) {
				return false
			}
			if !b.doubts.right[unit{rungKey(t.Rung, t.Base), reading}] {
				by[v.worker] = true
			}
			r.Losses = append(r.Losses, v.loss)
			r.Tokens += v.tokens
		}
		results = append(results, r)
		b.doubts.use(by, t.ID)
		return true
	})
	return results
}

// conflict is a reading for which two workers gave different bits.
type conflict struct {
	reading       int
	first, second value
}

// answer takes in what a worker computed. Of two answers the first one counts. It returns the
// readings for which this one has other bits, and the other workers that are still at the same job.
func (b *book) answer(a answer) (conflicts []conflict, others []string) {
	if a.Spec != b.spec || b.doubts.out[a.ID] {
		return nil, nil
	}
	rung := rungKey(a.Rung, a.Base)
	b.names[a.ID] = a.Worker
	b.doubts.answered(a, b.asked(a))
	for i, r := range slices.Concat(a.Passes...) {
		u, v := unit{rung, r}, value{a.Losses[i], a.Tokens[i], a.ID}
		if first, ok := b.known[u]; !ok {
			if _, asked := b.tokensOf[u]; !asked && len(b.known) >= maxKnown {
				continue
			}
			b.known[u] = v
			b.tokens[a.ID] += v.tokens
		} else if first.loss != v.loss {
			conflicts = append(conflicts, conflict{r, first, v})
		}
	}
	if a.Seconds > 0 {
		b.rates = append(b.rates, min(a.Seconds, maxSeconds)/float64(len(a.Passes)))
		if len(b.rates) > 64 {
			b.rates = b.rates[1:]
		}
	}
	if e, ok := b.jobs[a.key()]; ok {
		delete(b.jobs, a.key())
		for other := range e.runners {
			if other != a.ID {
				others = append(others, other)
				b.lost++
			}
		}
	}
	return conflicts, others
}

// news is what a beat changed.
type news int

const (
	nothing news = iota
	joined
	returned
	left   // as it was told to
	failed // with a Problem
)

// beat takes in what a worker says of itself. It returns where to refuse the jobs of one that ends,
// and an error for a job that no worker survives.
func (b *book) beat(now time.Time, t beat) (news, []string, error) {
	if b.doubts.out[t.ID] || b.workers[t.ID] == nil && len(b.workers) >= maxWorkers {
		return nothing, nil, nil
	}
	if t.Problem != "" {
		return failed, b.leave(t.ID), nil
	}
	if t.Left {
		return left, b.leave(t.ID), nil
	}
	m := b.workers[t.ID]
	if m == nil {
		m = &member{}
		b.workers[t.ID] = m
	}
	what := nothing
	switch {
	case m.silent:
		what = returned
	case m.Spec == "" && t.Spec != "": // before, it loaded its model
		what = joined
	}
	m.beat, m.seen, m.silent = t, now, false
	var err error
	for key, e := range b.jobs {
		_, running := e.runners[t.ID]
		switch {
		case key != t.Job && running:
			delete(e.runners,
				t.ID) // it gave up, or a beat is older than the answer that is under way
		case key == t.Job && !running:
			e.runners[t.ID] = runner{now, t.Ack}
			e.deliveries++
			e.last = t.Name
			if n := max(e.deliveries, t.Delivery); n > maxDeliveries {
				err = fmt.Errorf("trial %d was begun %d times and no worker finished it, %s the "+
					"last; see the workers' messages", e.Trial, n, t.Name)
			}
		case key == t.Job:
			e.runners[t.ID] = runner{e.runners[t.ID].since, t.Ack}
		}
	}
	return what, nil, err
}

// leave takes a worker off the book and returns where to refuse the jobs that it had.
func (b *book) leave(id string) (acks []string) {
	delete(b.workers, id)
	return b.release(id)
}

// release takes a worker's jobs from it.
func (b *book) release(id string) (acks []string) {
	for _, e := range b.jobs {
		if r, ok := e.runners[id]; ok {
			delete(e.runners, id)
			acks = append(acks, r.ack)
			b.lost++
		}
	}
	return acks
}

// silent returns the names of workers that have not been heard of since the time, each once, and
// where to refuse what they were at.
func (b *book) silent(since time.Time) (gone, acks []string) {
	for id, m := range b.workers {
		if !m.silent && m.seen.Before(since) {
			m.silent = true
			gone = append(gone, m.Name)
			acks = append(acks, b.release(id)...)
		}
	}
	return gone, acks
}

// slow returns where to refuse jobs that take too long, no more than there are workers with nothing
// to do: the server hands them out again, while the first worker may still come to its end.
func (b *book) slow(now time.Time) (acks []string) {
	idle := b.idle()
	if idle == 0 || len(b.rates) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(b.rates))
	median := time.Duration(sorted[len(sorted)/2] * float64(time.Second))
	type slow struct {
		*entry
		latest runner
	}
	var found []slow
	for _, e := range b.jobs {
		if len(e.runners) >= maxRunners {
			continue
		}
		latest := runner{since: e.handedOn}
		for _, r := range e.runners {
			if latest.since.Before(r.since) {
				latest = r
			}
		}
		if latest.ack != "" &&
			now.Sub(latest.since) > slowTimes*median*time.Duration(len(e.Passes))+slowMoment {
			found = append(found, slow{e, latest})
		}
	}
	slices.SortFunc(found, func(a, b slow) int { return a.latest.since.Compare(b.latest.since) })
	for _, s := range found[:min(idle, len(found))] {
		s.handedOn = now
		acks = append(acks, s.latest.ack)
	}
	return acks
}

// shares are the parts of the workers by name, the largest first.
func (b *book) shares() []Share {
	byName := map[string]*Share{}
	for id, tokens := range b.tokens {
		name := b.names[id]
		if byName[name] == nil {
			byName[name] = &Share{Name: name}
		}
		byName[name].Processes++
		byName[name].Tokens += tokens
	}
	var shares []Share
	for _, share := range byName {
		shares = append(shares, *share)
	}
	slices.SortFunc(shares, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Tokens, a.Tokens), strings.Compare(a.Name, b.Name))
	})
	return shares
}

// alive counts the workers that are ready and heard of.
func (b *book) alive() int {
	n := 0
	for _, m := range b.workers {
		if !m.silent && m.Spec == b.spec {
			n++
		}
	}
	return n
}

// idle counts the workers that have nothing to do; 0 while jobs wait for one.
func (b *book) idle() int {
	busy := map[string]bool{}
	for _, e := range b.jobs {
		if len(e.runners) == 0 {
			return 0
		}
		for id := range e.runners {
			busy[id] = true
		}
	}
	n := 0
	for id, m := range b.workers {
		if !m.silent && m.Spec == b.spec && !busy[id] {
			n++
		}
	}
	return n
}
