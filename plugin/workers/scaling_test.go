package workers

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale/study"
)

// A simulation of many workers, with the book that the coordinator keeps, a real study, and times
// that were recorded (testdata/seconds.txt). Only the clock, the network and the workers are made
// up.

// crowd says who works.
type crowd struct {
	workers int
	// between is the mean time between two deaths of one worker, 0 for ever; it comes back after
	// restart.
	between, restart time.Duration
	slow             float64 // the share of workers that take three times as long
	whole            bool    // a trial is one job: what splitting is worth
}

// outcome of a simulated search.
type outcome struct {
	makespan time.Duration
	capacity float64 // of all workers, in ordinary ones that live for ever
	deaths   int
	lost     int // evaluations that came to nothing
	batches  int
	readings int
	found    string
}

type simulated struct {
	crowd
	now     time.Time
	rng     *rand.Rand
	seconds []float64
	book    *book
	queue   []string
	events  events
	members []*simMember
	outcome outcome
}

type simMember struct {
	id    string
	slow  float64
	alive bool
	epoch int    // rises when what it does comes to nothing
	job   string // at hand
	since time.Time
}

type simEvent struct {
	at     time.Time
	member int // -1: a tick
	epoch  int
	kind   string
}

type events []simEvent

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(simEvent)) }
func (e *events) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

func (s *simulated) after(d time.Duration, member, epoch int, kind string) {
	heap.Push(&s.events, simEvent{s.now.Add(d), member, epoch, kind})
}

// took draws how long a reading takes: one of the recorded times, so their tail is in it.
func (s *simulated) took(m *simMember, readings int) time.Duration {
	sum := 0.0
	for range readings {
		sum += s.seconds[s.rng.IntN(len(s.seconds))]
	}
	return time.Duration(sum * m.slow * float64(time.Second))
}

func (s *simulated) beat(m *simMember) {
	_, _, err := s.book.beat(s.now,
		beat{ID: m.id, Name: m.id, Spec: s.book.spec, Job: m.job, Ack: m.job})
	if err != nil {
		panic(err)
	}
}

// simulate runs a study and returns what came of it.
func simulate(
	t *testing.T,
	study *study.Study,
	c crowd,
	seconds []float64,
	seed uint64,
) outcome {
	s := &simulated{
		crowd:   c,
		now:     time.Unix(0, 0),
		rng:     rand.New(rand.NewPCG(seed, uint64(c.workers))),
		seconds: seconds,
		book:    newBook(),
	}
	s.book.open("spec")
	for i := range c.workers {
		m := &simMember{id: strconv.Itoa(i), slow: 1, alive: true}
		if s.rng.Float64() < c.slow {
			m.slow = 3
		}
		s.members = append(s.members, m)
		s.beat(m)
		s.mortal(i)
	}
	s.after(0, -1, 0, "tick")
	for _, m := range s.members {
		s.outcome.capacity += 1 / m.slow
	}
	for !study.Done() {
		trials := trialsOf(study)
		for _, trial := range trials {
			s.outcome.readings += len(trial.Passes)
		}
		if c.whole {
			// As if all readings of a trial were one: they are handed out together.
			s.book.begin(trials)
			clear(s.book.jobs)
			s.queue = nil
			for _, trial := range trials {
				j := job{Spec: "spec", Trial: trial.ID, Rung: trial.Rung, Passes: trial.Passes}
				s.book.jobs[j.key()] = &entry{job: j, runners: map[string]runner{}}
				s.queue = append(s.queue, j.key())
			}
		} else {
			s.queue = nil
			for _, j := range s.book.begin(trials) {
				s.queue = append(s.queue, j.key())
			}
		}
		s.outcome.batches++
		s.now = s.now.Add(5 * time.Millisecond) // to publish a batch
		for len(s.book.trials) > 0 {
			s.assign()
			s.step()
			for _, r := range s.book.done() {
				require.NoError(t, study.Tell(r.ID, r.Losses, r.Tokens))
			}
		}
	}
	s.outcome.makespan, s.outcome.lost, s.outcome.found = s.now.Sub(
		time.Unix(0, 0)), s.book.lost, found(t, study)
	return s.outcome
}

func (s *simulated) mortal(i int) {
	if s.between > 0 {
		s.after(time.Duration(s.rng.ExpFloat64()*float64(s.between)), i, s.members[i].epoch, "die")
	}
}

// assign gives jobs to who has nothing to do.
func (s *simulated) assign() {
	for i, m := range s.members {
		for m.alive && m.job == "" && len(s.queue) > 0 {
			key := s.queue[0]
			s.queue = s.queue[1:]
			e, open := s.book.jobs[key]
			if !open {
				continue
			}
			m.job, m.since = key, s.now
			s.beat(m)
			s.after(2*time.Millisecond+s.took(m, len(e.Passes)), i, m.epoch, "finish")
		}
	}
}

func (s *simulated) step() {
	e := heap.Pop(&s.events).(simEvent)
	s.now = e.at
	if e.kind == "tick" {
		for _, m := range s.members {
			if m.alive {
				s.beat(m)
			}
		}
		_, acks := s.book.silent(s.now.Add(-defaultTimes.silence))
		s.queue = append(append(acks, s.book.slow(s.now)...), s.queue...)
		s.after(defaultTimes.tick, -1, 0, "tick")
		return
	}
	m := s.members[e.member]
	switch e.kind {
	case "finish":
		if e.epoch != m.epoch {
			return
		}
		done, open := s.book.jobs[m.job]
		if !open { // somebody else was faster, in this very moment
			m.job = ""
			return
		}
		a := answer{job: done.job, Worker: m.id, ID: m.id, Seconds: s.now.Sub(m.since).Seconds()}
		for _, r := range slices.Concat(done.Passes...) {
			a.Losses, a.Tokens = append(a.Losses, syntheticLoss(done.Rung, r)), append(a.Tokens,
				syntheticTokens(r))
		}
		m.job = ""
		_, others := s.book.answer(a)
		for _, id := range others {
			i, _ := strconv.Atoi(id)
			if s.members[i].alive { // called off
				s.members[i].job = ""
				s.members[i].epoch++
			}
		}
		s.beat(m)
	case "die":
		if !m.alive {
			return
		}
		m.alive, m.job = false, ""
		m.epoch++
		s.outcome.deaths++
		s.after(s.restart, e.member, m.epoch, "return")
	case "return":
		m.alive = true
		s.beat(m)
		s.mortal(e.member)
	}
}

// recorded reads testdata/seconds.txt: how long one reading took, a line each.
func recorded(t *testing.T) (seconds []float64) {
	b, err := os.ReadFile("testdata/seconds.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		require.NoError(t, err)
		seconds = append(seconds, v)
	}
	return seconds
}

// simStudy is a study of an algorithm with 8 windows; population 0 is its own.
func simStudy(t *testing.T, algorithm string, population int) *study.Study {
	opts := study.Options{
		Rope:      testRope,
		Target:    1024,
		Seed:      3,
		Algorithm: algorithm,
		Budget:    100 * 1000,
	}
	opts.Params.Population = population
	for r := range 8 {
		opts.Readings = append(opts.Readings,
			study.Reading{Name: fmt.Sprint(r), Tokens: syntheticTokens(r), Weight: 1.0 / 8})
	}
	s, err := study.New(opts)
	require.NoError(t, err)
	return s
}

// TestScaling simulates 1 to 256 workers: such that live for ever, and such that die every five
// minutes on average while a tenth of them takes three times as long; -v shows the whole table.
// Efficiency is what one worker needs, over the time of all, a slow one counting a third. The
// number of readings in a batch bounds it.
func TestScaling(t *testing.T) {
	seconds := recorded(t)
	crowds := []int{1, 2, 8, 32}
	if testing.Verbose() {
		crowds = []int{1, 2, 4, 8, 16, 32, 64, 128, 256}
	}
	for _, c := range []struct {
		algorithm  string
		population int
		two, eight float64 // least efficiencies
	}{
		{"cma", 0, 0.9, 0.5}, {"cma", 64, 0.9, 0.75}, {"dim-mono", 0, 0.9, 0.75},
	} {
		run := func(who crowd, seed uint64) outcome {
			return simulate(t, simStudy(t, c.algorithm, c.population), who, seconds, seed)
		}
		var reference string
		var alone time.Duration
		var table strings.Builder
		for _, n := range crowds {
			steady := run(crowd{workers: n}, 1)
			dying := run(
				crowd{workers: n, between: 5 * time.Minute, restart: 30 * time.Second, slow: 0.1},
				2)
			whole := run(crowd{workers: n, whole: true}, 1)
			if n == 1 {
				reference, alone = steady.found, steady.makespan
				fmt.Fprintf(&table, "%s, population %d (0: its own), %.0f readings a batch\n",
					c.algorithm, c.population, float64(steady.readings)/float64(steady.batches))
				table.WriteString(
					"workers  makespan  efficiency  whole trials: efficiency  " +
						"dying: makespan  efficiency  deaths  lost\n",
				)
			}
			share := func(o outcome) float64 {
				return alone.Seconds() / o.capacity / o.makespan.Seconds()
			}
			fmt.Fprintf(&table, "%7d  %6.0f s  %10.2f  %24.2f  %13.0f s  %10.2f  %6d  %4d\n", n,
				steady.makespan.Seconds(), share(steady), share(whole), dying.makespan.Seconds(),
				share(dying), dying.deaths, dying.lost)
			for _, o := range []outcome{steady, dying, whole} {
				assert.Equal(t, reference, o.found, "%s, %d workers: other factors", c.algorithm, n)
			}
			assert.GreaterOrEqual(t, share(steady), share(whole)-0.05,
				"splitting trials does not cost")
			switch n {
			case 2:
				assert.Greater(t, share(steady), c.two)
				assert.Greater(t, share(dying), c.two-0.3)
			case 8:
				assert.Greater(t, share(steady), c.eight)
				assert.Greater(t, share(dying), c.eight-0.3)
			}
		}
		t.Logf("%s", &table)
	}
}
