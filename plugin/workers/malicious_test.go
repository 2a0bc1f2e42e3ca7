package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// swift are times for tests that wait for what was lost.
var swift = times{
	beat:    50 * time.Millisecond,
	silence: 250 * time.Millisecond,
	ackWait: 500 * time.Millisecond,
	tick:    20 * time.Millisecond,
	wait:    time.Second,
}

// rogue is a client with the token that takes jobs and does as it likes with them.
type rogue struct {
	t    *testing.T
	nc   *nats.Conn
	js   jetstream.JetStream
	id   string
	jobs atomic.Int64 // that it took
}

// do is called with each job that the rogue takes.
func (r *rogue) start(s Server, do func(r *rogue, j job, m jetstream.Msg)) {
	var err error
	r.nc, err = s.connect("rogue")
	require.NoError(r.t, err)
	r.js, err = jetstream.New(r.nc)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.t.Cleanup(func() { cancel(); <-ended; r.nc.Close() })
	id, _, err := testSpec.encode()
	require.NoError(r.t, err)
	r.say(beat{Protocol: protocol, ID: r.id, Name: r.id, Spec: id})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			queue, err := r.js.Consumer(ctx, names("test").jobs(), consumer)
			if err != nil {
				continue
			}
			batch, err := queue.Fetch(1, jetstream.FetchMaxWait(100*time.Millisecond))
			if err != nil {
				continue
			}
			for m := range batch.Messages() {
				var j job
				if json.Unmarshal(m.Data(), &j) == nil {
					r.jobs.Add(1)
					r.say(beat{
						Protocol: protocol, ID: r.id, Name: r.id, Spec: id, Job: j.key(),
						Ack: m.Reply(), Engine: new(synthetic).Engine(),
					})
					do(r, j, m)
					r.say(beat{Protocol: protocol, ID: r.id, Name: r.id, Spec: id})
				}
			}
		}
	}()
}

func (r *rogue) say(b beat) { r.send(names("test").beat(), b) }

func (r *rogue) send(subject string, v any) {
	b, ok := v.([]byte)
	if !ok {
		b, _ = json.Marshal(v)
	}
	if strings.Contains(subject, ".answer.") {
		r.js.Publish(context.Background(), subject, b)
		return
	}
	r.nc.Publish(subject, b)
	r.nc.Flush()
}

// answers gives an answer that change has been at, and acknowledges the job.
func answers(change func(*answer)) func(*rogue, job, jetstream.Msg) {
	return func(r *rogue, j job, m jetstream.Msg) {
		a := answer{job: j, Worker: r.id, ID: r.id, Seconds: 0.001}
		for _, reading := range slices.Concat(j.Passes...) {
			a.Losses = append(a.Losses, syntheticLoss(j.Rung, reading))
			a.Tokens = append(a.Tokens, syntheticTokens(reading))
		}
		change(&a)
		r.send(names("test").answer(j.key()), a)
		m.Ack()
	}
}

// raw gives what is no answer.
func raw(text string) func(*rogue, job, jetstream.Msg) {
	return func(r *rogue, j job, m jetstream.Msg) {
		r.send(names("test").answer(j.key()), []byte(text))
		m.Ack()
	}
}

// rogues are all kinds of bad workers.
var rogues = map[string]func(*rogue, job, jetstream.Msg){
	"acks without an answer": func(_ *rogue, _ job, m jetstream.Msg) { m.Ack() },
	"acks twice": func(r *rogue, _ job, m jetstream.Msg) {
		r.nc.Publish(m.Reply(), []byte("+ACK"))
		r.nc.Publish(m.Reply(), []byte("+ACK"))
	},
	"terminates":       func(_ *rogue, _ job, m jetstream.Msg) { m.Term() },
	"keeps":            func(*rogue, job, jetstream.Msg) {},
	"answers nonsense": raw("\x1b]0;gotcha\a{"),
	"answers nothing":  raw(`{}`),
	"negative losses": answers(func(a *answer) {
		for i := range a.Losses {
			a.Losses[i] = -1e9
		}
	}),
	"zero losses": answers(func(a *answer) { clear(a.Losses) }),
	"huge tokens": answers(func(a *answer) { a.Tokens[0] = math.MaxInt64 }),
	"more tokens": answers(func(a *answer) { a.Tokens[0]++ }),
	"no tokens":   answers(func(a *answer) { clear(a.Tokens) }),
	"too few":     answers(func(a *answer) { a.Losses = a.Losses[1:] }),
	"no readings": answers(func(a *answer) { a.Passes = [][]int{{}} }),
	"a little off": answers(func(a *answer) {
		for i := range a.Losses {
			a.Losses[i] += 0.05
		}
	}),
	"all infinite": answers(func(a *answer) {
		for i := range a.Losses {
			a.Losses[i] = math.Inf(1)
		}
	}),
	"another's rung": answers(func(a *answer) {
		a.Rung = testRope.Identity(1024)
		a.Rung.Factors = slices.Repeat([]float64{1e300}, len(a.Rung.Factors))
	}),
	"time without end":       answers(func(a *answer) { a.Seconds = 1e300 }),
	"claims many deliveries": claims,
	"many names": func(r *rogue, _ job, m jetstream.Msg) {
		for i := range 2 * maxWorkers {
			r.say(beat{Protocol: protocol, ID: fmt.Sprint("crowd", i), Spec: "x"})
		}
		m.Nak()
	},
}

// claims says that a job was handed out more often than any worker survives.
func claims(r *rogue, j job, m jetstream.Msg) {
	r.say(beat{
		Protocol: protocol, ID: r.id, Name: r.id, Spec: j.Spec, Job: j.key(), Delivery: 1 << 40,
	})
	m.Nak()
	time.Sleep(50 * time.Millisecond)
}

// TestRogues: with a worker of each bad kind and a good one, the losses are those of the good one
// alone, or the error names the bad one.
func TestRogues(t *testing.T) {
	for name, do := range rogues {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := cluster(t)
			said := &words{}
			c := coordinateAt(t, server, said, swift)
			r := &rogue{t: t, id: "rogue"}
			r.start(server, do)
			took := func(ctx context.Context, _ ropescale.Rung, _ int) error {
				for r.jobs.Load() == 0 && sleep(ctx, time.Millisecond) {
				}
				return ctx.Err()
			}
			work(t, server, "good", &synthetic{before: took})
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			got := map[int]Result{}
			trials := trialsOf(newStudy(t, "", 6000))[:3]
			var err error
			for round := 0; round < 2 && err == nil; round++ {
				for i := range trials { // another candidate each time
					trials[i].ID += round * len(trials)
					trials[i].Rung.AttentionFactor += float64(round)
				}
				err = c.Evaluate(ctx, trials, func(r Result) error {
					got[r.ID] = r
					return nil
				})
				for _, trial := range trials {
					if result, told := got[trial.ID]; told {
						checkResult(t, trial, result)
					}
				}
			}
			require.Positive(t, r.jobs.Load(), "it took part")
			assert.NotContains(t, said.String(), "\x1b")
			if err != nil {
				assert.ErrorContains(t, err, "rogue")
			}
		})
	}
}

// checkResult holds a result to what the synthetic evaluator computes.
func checkResult(t *testing.T, trial Trial, r Result) {
	t.Helper()
	var losses []float64
	tokens := 0
	for _, reading := range slices.Concat(trial.Passes...) {
		losses = append(losses, syntheticLoss(trial.Rung, reading))
		tokens += syntheticTokens(reading)
	}
	assert.Equal(t, losses, r.Losses)
	assert.Equal(t, tokens, r.Tokens)
}

// TestPutOut: a worker whose losses are wrong is put out before any of them is told, all of its
// answers are recomputed, and it is told why.
func TestPutOut(t *testing.T) {
	want := alone(t, newStudy(t, "", 6000))
	server := cluster(t)
	said := &words{}
	c := coordinate(t, server, said)
	liar := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		first := true
		liar <- Worker{Server: server, Search: "test", Name: "liar", times: fast, Open: func(
			context.Context, Spec,
		) (Evaluator, error) {
			return &synthetic{bits: 0.3, before: func(
				context.Context, ropescale.Rung, int,
			) error {
				if first {
					close(begun)
					first = false
				}
				return nil
			}}, nil
		}}.Run(context.Background())
	}()
	work(t, server, "good", &synthetic{before: func(
		ctx context.Context, _ ropescale.Rung, _ int,
	) error {
		select {
		case <-begun:
		case <-ctx.Done():
		}
		return ctx.Err()
	}})
	s := newStudy(t, "", 6000)
	require.NoError(t, together(context.Background(), s, c))
	assert.Equal(t, want, found(t, s))
	assert.Contains(t, said.String(), "the worker liar computed ")
	assert.Contains(t, said.String(), "it is put out, and its answers (")
	select {
	case err := <-liar:
		assert.ErrorContains(t, err, "the search has put this worker out: it computed ")
	case <-time.After(10 * time.Second):
		t.Error("the liar does not know that it is put out")
	}
}

// TestDisowned: a worker that begins to give wrong losses later is found by the sample, and the
// error says since which trial its answers were used.
func TestDisowned(t *testing.T) {
	server := cluster(t)
	c := coordinate(t, server, &words{})
	var calls atomic.Int64
	turncoat := &synthetic{}
	turncoat.before = func(context.Context, ropescale.Rung, int) error {
		if calls.Add(1) > 60 { // not all of them were computed again
			turncoat.bits = 1
		}
		return nil
	}
	work(t, server, "turncoat", turncoat)
	s := newStudy(t, "", 100000)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var err error
	for err == nil && !s.Done() {
		err = together(ctx, s, c)
	}
	var disowned *DisownedError
	require.ErrorAs(t, err, &disowned)
	assert.Equal(t, "turncoat", disowned.Worker)
	require.Len(t, disowned.Uses, 1)
	assert.Zero(t, disowned.Uses[0].Search)
}

// TestWaiting: a search that gets no answers says what it waits for.
func TestWaiting(t *testing.T) {
	server := cluster(t)
	said := &words{}
	c := coordinate(t, server, said)
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	err := together(ctx, newStudy(t, "", 6000), c)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Contains(t, said.String(), "no answer for 1s: ")
	assert.Contains(t, said.String(), "jobs wait for a worker; 0 workers")

	said = &words{}
	c.opts.Say = said.say
	work(t, server, "slow", &synthetic{delay: time.Hour})
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err = together(ctx, newStudy(t, "", 6000), c)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Contains(t, said.String(), "1 jobs are in the hands of slow")
}

// TestQueueLost: a queue that somebody takes off the server, or whose consumer has lost its place,
// is made again.
func TestQueueLost(t *testing.T) {
	want := alone(t, newStudy(t, "", 4000))
	for name, harm := range map[string]func(*Coordinator, context.Context) error{
		"jobs": func(c *Coordinator, ctx context.Context) error {
			return c.js.DeleteStream(ctx, c.names.jobs())
		},
		"consumer": func(c *Coordinator, ctx context.Context) error {
			return c.queue.DeleteConsumer(ctx, consumer)
		},
		"answers": func(c *Coordinator, ctx context.Context) error {
			return c.js.DeleteStream(ctx, c.names.answers())
		},
		"messages": func(c *Coordinator, ctx context.Context) error { return c.queue.Purge(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := cluster(t)
			c := coordinateAt(t, server, &words{}, swift)
			work(t, server, "good", &synthetic{delay: 10 * time.Millisecond})
			s := newStudy(t, "", 4000)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			told := 0
			for !s.Done() {
				require.NoError(t, c.Evaluate(ctx, trialsOf(s), func(r Result) error {
					if told++; told == 2 {
						if err := harm(c, ctx); err != nil {
							return err
						}
					}
					return s.Tell(r.ID, r.Losses, r.Tokens)
				}))
			}
			assert.Equal(t, want, found(t, s))
		})
	}
}

// TestFresh: a search that restarts takes in nothing of an earlier one.
func TestFresh(t *testing.T) {
	server := cluster(t)
	c := coordinate(t, server, &words{})
	_, err := c.js.Publish(context.Background(), c.names.answer("x"), []byte(`{"id":"old"}`))
	require.NoError(t, err)
	c.Close(false)
	for _, fresh := range []bool{false, true} {
		c, err := New(context.Background(), Options{
			Server: &server, Name: "test", times: fast, Fresh: fresh,
		})
		require.NoError(t, err)
		stream, err := c.js.Stream(context.Background(), c.names.answers())
		require.NoError(t, err)
		assert.Equal(t, fresh, stream.CachedInfo().State.Msgs == 0)
		c.Close(false)
	}
}

// TestSpecBounds: what a worker would allocate for a search is bounded.
func TestSpecBounds(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		"asks for -1 tokens":             func(s *Spec) { s.Length = -1 },
		"asks for 0 tokens":              func(s *Spec) { s.Length = 0 },
		"asks for 4611686018427387904 t": func(s *Spec) { s.Length = 1 << 62 },
		"batches of -7 tokens":           func(s *Spec) { s.Batch = -7 },
		"batches of 1000000 tokens":      func(s *Spec) { s.Batch = 1000000 },
	} {
		s := testSpec
		change(&s)
		id, b, err := s.encode()
		require.NoError(t, err)
		_, err = decodeSpec(id, b)
		assert.ErrorContains(t, err, want)
	}
	s := testSpec
	s.ModelName = "a\x1b[2Jb"
	id, b, err := s.encode()
	require.NoError(t, err)
	s, err = decodeSpec(id, b)
	require.NoError(t, err)
	assert.Equal(t, "a[2Jb", s.ModelName)
}

// TestOldServer: a server that is too old is named.
func TestOldServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				fmt.Fprintf(conn, "INFO {\"version\":\"2.8.4\",\"headers\":true,"+
					"\"max_payload\":1048576}\r\n")
				b := make([]byte, 1024)
				for {
					n, err := conn.Read(b)
					if err != nil {
						return
					}
					if strings.Contains(string(b[:n]), "PING") {
						fmt.Fprint(conn, "PONG\r\n")
					}
				}
			}()
		}
	}()
	there := Server{URL: "nats://" + l.Addr().String()}
	_, err = New(context.Background(), Options{Server: &there, Name: "test", times: fast})
	assert.ErrorContains(t, err, `is of version "2.8.4"; 2.9.0 or later is needed`)
	assert.False(t, errors.Is(err, nats.ErrTimeout))
}
