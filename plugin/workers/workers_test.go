package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

var fast = times{
	beat:    50 * time.Millisecond,
	silence: 400 * time.Millisecond,
	ackWait: 600 * time.Millisecond,
	tick:    20 * time.Millisecond,
	wait:    time.Second,
}

var testRope = ropescale.Rope{Dims: 16, FreqBase: 10000, OriginalContextLength: 128}

// synthetic is an evaluator whose loss is known: far from the square root's curve is bad, and each
// reading sees it with a noise of its own, which only depends on the candidate.
type synthetic struct {
	bits   float64       // added to every loss: an engine that computes otherwise
	delay  time.Duration // an evaluation takes
	calls  *atomic.Int64 // made
	before func(ctx context.Context, g ropescale.Rung, reading int) error
}

func (s *synthetic) Engine() Engine {
	return Engine{Host: "synthetic", Backend: "CPU", Threads: 1, Fingerprint: fmt.Sprint(s.bits)}
}
func (s *synthetic) Close() {}

func (s *synthetic) Evaluate(
	ctx context.Context,
	g ropescale.Rung,
	_ *ropescale.Rung,
	readings []int,
) (losses []float64, tokens int, err error) {
	for _, r := range readings {
		if s.calls != nil {
			s.calls.Add(1)
		}
		if s.before != nil {
			if err := s.before(ctx, g, r); err != nil {
				return nil, 0, err
			}
		}
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
		losses = append(losses, syntheticLoss(g, r)+s.bits)
		tokens += syntheticTokens(r)
	}
	return losses, tokens, nil
}

func syntheticTokens(reading int) int { return 100 + reading }

func syntheticLoss(g ropescale.Rung, reading int) float64 {
	sum := 0.0
	for i, f := range g.Factors {
		want := math.Sqrt(float64(i)/float64(len(g.Factors)-1)) * math.Log(8)
		sum += math.Pow(math.Log(f)-want, 2) * (1 + 0.1*math.Sin(float64(reading*7+i)))
	}
	if g.Factors[1] > 7 {
		return math.Inf(1) // the linear method "overflows"
	}
	return 2 + sum/float64(len(g.Factors)) + 0.01*math.Cos(float64(reading)+1000*sum)
}

// newStudy is a study whose trials the synthetic evaluator scores.
func newStudy(t *testing.T, path string, budget int) *study.Study {
	t.Helper()
	opts := study.Options{Rope: testRope, Target: 1024, Seed: 7, Budget: budget}
	for r := range 4 {
		opts.Readings = append(opts.Readings,
			study.Reading{Name: fmt.Sprint(r), Tokens: syntheticTokens(r), Weight: 0.25})
	}
	var s *study.Study
	var err error
	if path == "" {
		s, err = study.New(opts)
	} else {
		s, err = study.Open(path, opts)
	}
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// found is the result of a study to compare: its ladder, to the last bit.
func found(t *testing.T, s *study.Study) string {
	t.Helper()
	require.True(t, s.Done())
	l, err := s.Ladder()
	require.NoError(t, err)
	b, err := json.Marshal(l)
	require.NoError(t, err)
	return string(b)
}

// alone runs a study without workers.
func alone(t *testing.T, s *study.Study) string {
	for !s.Done() {
		for _, trial := range s.Ask() {
			losses, tokens, err := new(
				synthetic).Evaluate(context.Background(), trial.Rung, trial.Base, trial.Readings)
			require.NoError(t, err)
			require.NoError(t, s.Tell(trial.ID, losses, tokens))
		}
	}
	return found(t, s)
}

// trialsOf is what a study asks, for Evaluate.
func trialsOf(s *study.Study) []Trial {
	var trials []Trial
	for _, t := range s.Ask() {
		trial := Trial{ID: t.ID, Rung: t.Rung}
		for r := range slices.Chunk(t.Readings, 1) {
			trial.Passes = append(trial.Passes, r)
			trial.Tokens = append(trial.Tokens, syntheticTokens(r[0]))
		}
		trials = append(trials, trial)
	}
	return trials
}

// together runs a study on a coordinator.
func together(ctx context.Context, s *study.Study, c *Coordinator) error {
	for !s.Done() {
		tell := func(r Result) error { return s.Tell(r.ID, r.Losses, r.Tokens) }
		if err := c.Evaluate(ctx, trialsOf(s), tell); err != nil {
			return err
		}
	}
	return nil
}

// words is a place for what is said.
type words struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *words) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(&w.b, format+"\n", args...)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

var testSpec = Spec{
	ModelDigest: "sha256:1",
	ModelName:   "tiny",
	Length:      1024,
	Readings:    json.RawMessage(`[]`),
}

// cluster is a server, as on another machine, that wants a token.
func cluster(t *testing.T) Server {
	t.Helper()
	s := startServer(t, &server.Options{JetStream: true, Authorization: "secret"})
	s.Token = "secret"
	return s
}

// coordinate opens a coordinator on the server, with the test's specification out.
func coordinate(t *testing.T, s Server, said *words) *Coordinator {
	t.Helper()
	return coordinateAt(t, s, said, fast)
}

func coordinateAt(t *testing.T, s Server, said *words, at times) *Coordinator {
	t.Helper()
	c, err := New(
		context.Background(),
		Options{
			Server: &s,
			Name:   "test",
			Say:    said.say,
			times:  at,
			Engine: new(synthetic).Engine(),
		},
	)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(false) })
	require.NoError(t, c.Search(context.Background(), testSpec, new(synthetic).Evaluate))
	return c
}

// work starts a worker; end ends it and returns its error.
func work(t *testing.T, s Server, name string, e *synthetic) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Worker{Server: s, Search: "test", Name: name, times: fast, Open: func(
			_ context.Context, spec Spec,
		) (Evaluator, error) {
			if spec.ModelDigest != testSpec.ModelDigest {
				return nil, errors.New("not this model")
			}
			return e, nil
		}}.Run(ctx)
	}()
	var once sync.Once
	var err error
	end = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	t.Cleanup(func() { end() })
	return end
}

// TestWorkersChangeNothing: the factors are those of a search without workers, for any number of
// them, and for workers that take their time at random.
func TestWorkersChangeNothing(t *testing.T) {
	want := alone(t, newStudy(t, "", 20000))
	for _, n := range []int{1, 2, 5} {
		server := cluster(t)
		said := &words{}
		c := coordinate(t, server, said)
		var calls atomic.Int64
		for i := range n {
			work(t, server, fmt.Sprint("worker ", i),
				&synthetic{calls: &calls, delay: time.Duration(i) * time.Millisecond})
		}
		s := newStudy(t, "", 20000)
		require.NoError(t, together(context.Background(), s, c))
		assert.Equal(t, want, found(t, s), "%d workers", n)
		assert.Contains(t, said.String(), "worker 0 joined (CPU, 1 thread)")
		assert.NotContains(t, said.String(), "bits")
		readings := 0
		for _, trial := range s.History() {
			readings += len(trial.Readings)
		}
		assert.EqualValues(t, readings, calls.Load(), "nothing is evaluated twice without need")
	}
}

// TestLostWorkers: workers that die, hang, or are slow cost their evaluation and no more.
func TestLostWorkers(t *testing.T) {
	want := alone(t, newStudy(t, "", 6000))
	server := cluster(t)
	said := &words{}
	c := coordinate(t, server, said)
	var hangs atomic.Int64
	hang := make(chan struct{})
	defer close(hang)
	// An engine that does not come back, while the process says that it lives.
	work(
		t,
		server,
		"hanging",
		&synthetic{before: func(ctx context.Context, _ ropescale.Rung, _ int) error {
			if hangs.Add(1) == 3 {
				<-hang
			}
			return nil
		}},
	)
	// One that leaves in the midst of its third evaluation, and one that answers when it has
	// been given up. The steady one waits until they are at it.
	third, left := make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	leaving := work(t, server, "leaving", &synthetic{
		before: func(ctx context.Context, _ ropescale.Rung, _ int) error {
			if calls.Add(1) != 3 {
				return nil
			}
			close(third)
			<-ctx.Done()
			return ctx.Err()
		},
	})
	go func() {
		<-third
		leaving()
		close(left)
	}()
	work(t, server, "slow", &synthetic{
		before: func(ctx context.Context, _ ropescale.Rung, _ int) error {
			for c.Status().Lost == 0 {
				if !sleep(ctx, time.Millisecond) {
					return ctx.Err()
				}
			}
			return nil
		},
	})
	work(t, server, "steady", &synthetic{
		before: func(ctx context.Context, _ ropescale.Rung, _ int) error {
			select {
			case <-left:
			case <-ctx.Done():
			}
			return ctx.Err()
		},
	})
	s := newStudy(t, "", 6000)
	require.NoError(t, together(context.Background(), s, c))
	assert.Equal(t, want, found(t, s))
	assert.Contains(t, said.String(), "leaving left")
	assert.Positive(t, c.Status().Lost)
}

// TestDuplicates: answers that come again, in another order, from an earlier run, of other
// searches, or are none, change nothing; one with other bits is pointed out.
func TestDuplicates(t *testing.T) {
	want := alone(t, newStudy(t, "", 6000))
	server := cluster(t)
	said := &words{}
	c := coordinate(t, server, said)
	nc, err := server.connect("test")
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)

	// An earlier coordinator had asked for this, and nobody waits for it any more.
	id, _, err := testSpec.encode()
	require.NoError(t, err)
	stale := job{Spec: id, Trial: 99, Rung: testRope.Identity(1024), Passes: [][]int{{0}, {1}}}
	b, err := json.Marshal(stale)
	require.NoError(t, err)
	_, err = js.Publish(context.Background(), names("test").job(stale.key()), b)
	require.NoError(t, err)

	publish := func(v any) {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		_, err = js.Publish(context.Background(), names("test").answer("x"), b)
		require.NoError(t, err)
	}
	s := newStudy(t, "", 6000)
	first := s.Ask()[1]
	right := answer{
		job: job{
			Spec:   id,
			Trial:  first.ID,
			Rung:   first.Rung,
			Passes: [][]int{{2}, {0}},
		}, Worker: "early", ID: "early-1",
		Losses: []float64{
			syntheticLoss(first.Rung, 2),
			syntheticLoss(first.Rung, 0),
		}, Tokens: []int{102, 100},
	}
	other := right
	other.Spec, other.Losses = "another", []float64{1, 1}
	publish(other)
	publish(right)
	publish(right)
	publish("nonsense")
	publish(answer{job: right.job, Losses: []float64{1}, Tokens: []int{1}})
	wrong := right
	wrong.Worker, wrong.ID, wrong.Losses = "odd", "odd-1", []float64{
		right.Losses[0],
		math.Nextafter(right.Losses[1], 9),
	}
	publish(wrong)

	ended := make(chan error, 1)
	go func() { ended <- together(context.Background(), s, c) }()
	require.Eventually(t, func() bool {
		info, err := c.queue.Info(context.Background(),
			jetstream.WithSubjectFilter(names("test").job(stale.key())))
		return err == nil && len(info.State.Subjects) == 0
	}, 10*time.Second, 10*time.Millisecond, "stale jobs are dropped")
	var seen sync.Map
	work(
		t,
		server,
		"steady",
		&synthetic{before: func(_ context.Context, g ropescale.Rung, r int) error {
			seen.Store(unit{rungKey(g, nil), r}, true)
			return nil
		}},
	)
	require.NoError(t, <-ended)
	assert.Equal(t, want, found(t, s))
	assert.Contains(t, said.String(), "odd computed")
	assert.Contains(t, said.String(),
		fmt.Sprintf("for reading 0 of trial %d where early computed", first.ID))
	assert.Equal(t, 2, strings.Count(said.String(), "was no answer"), said.String())
	_, again := seen.Load(unit{rungKey(stale.Rung, nil), 0})
	assert.False(t, again, "stale jobs are not computed")
}

// TestRefusals: both sides show why a worker is refused.
func TestRefusals(t *testing.T) {
	server := cluster(t)
	said := &words{}
	c := coordinate(t, server, said)
	_, err := New(context.Background(), Options{Server: &server, Name: "test", times: fast})
	assert.ErrorContains(t, err, "a search with the name test runs at 127.0.0.1")
	assert.ErrorContains(t, err, fmt.Sprint("process ", os.Getpid()))
	_, err = New(context.Background(), Options{Server: &server, Name: "a.b", times: fast})
	assert.ErrorContains(t, err, "cannot name a search")

	outside := server
	outside.Token = "guessed"
	err = Worker{Server: outside, Search: "test"}.Run(context.Background())
	assert.ErrorContains(t, err, "refused the credentials")
	assert.NotContains(t, err.Error(), "guessed")
	_, err = New(context.Background(), Options{Server: &outside, Name: "test"})
	assert.ErrorContains(t, err, "refused the credentials")
	outside.URL = "nats://127.0.0.1:1"
	err = Worker{Server: outside, Search: "test"}.Run(context.Background())
	assert.ErrorContains(t, err, "no NATS server at 127.0.0.1:1")

	// Another file than the search's: the worker says so and ends.
	err = Worker{
		Server: server,
		Search: "test",
		Name:   "other",
		times:  fast,
		Open: func(context.Context, Spec) (Evaluator, error) {
			return nil, errors.New("x.gguf is another file than tiny")
		},
	}.Run(context.Background())
	assert.ErrorContains(t, err, "x.gguf is another file than tiny")
	assert.Eventually(
		t,
		func() bool {
			return strings.Contains(said.String(), "other left: x.gguf is another file than tiny")
		},
		time.Second,
		time.Millisecond,
	)

	// Another computer than this one.
	work(t, server, "odd", &synthetic{bits: 1e-9})
	assert.Eventually(t, func() bool {
		return strings.Contains(said.String(), "odd computes other bits (synthetic, CPU, 1 thread)")
	}, time.Second, time.Millisecond)
	assert.Equal(t, "1 worker", c.Status().String())

	// Another version of the protocol.
	m, err := c.nc.Request(names("test").hello(), []byte(`{"protocol":99}`), time.Second)
	require.NoError(t, err)
	assert.Contains(t, string(m.Data), "speaks version 5 of the workers' protocol, the worker 99")
	id, b, err := testSpec.encode()
	require.NoError(t, err)
	_, err = decodeSpec(id, append(b, ' '))
	assert.ErrorContains(t, err, "damaged")
}

// TestPoison: a job that ends whoever takes it does not go round for ever.
func TestPoison(t *testing.T) {
	server := cluster(t)
	said := &words{}
	c := coordinate(t, server, said)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			Worker{
				Server: server,
				Search: "test",
				Name:   fmt.Sprint("victim ", i),
				times:  fast,
				Open: func(context.Context, Spec) (Evaluator, error) {
					return &synthetic{
						before: func(context.Context, ropescale.Rung, int) error {
							return errors.New("out of memory")
						},
					}, nil
				},
			}.Run(ctx)
			cancel()
		}
	}()
	s := newStudy(t, "", 6000)
	trials := trialsOf(s)[:1]
	trials[0].Passes = trials[0].Passes[:1]
	err := c.Evaluate(context.Background(), trials, func(Result) error { return nil })
	assert.ErrorContains(t, err, "trial 0 was begun 9 times and no worker finished it")
	assert.Contains(t, said.String(), "victim 0 left: trial 0, readings [0]: out of memory")
}

// TestErrors: what ends a round leaves nothing in the queue, and the next run resumes.
func TestErrors(t *testing.T) {
	want := alone(t, newStudy(t, "", 6000))
	server := cluster(t)
	c := coordinate(t, server, &words{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var calls, last atomic.Int64
	work(t, server, "steady", &synthetic{
		before: func(context.Context, ropescale.Rung, int) error {
			if calls.Add(1) == last.Load() {
				cancel()
			}
			return nil
		},
	})
	path := t.TempDir() + "/study"
	s := newStudy(t, path, 6000)

	// A journal that cannot be written.
	told := 0
	full := errors.New("no space left on device")
	err := c.Evaluate(context.Background(), trialsOf(s), func(r Result) error {
		if told++; told == 2 {
			return full
		}
		return s.Tell(r.ID, r.Losses, r.Tokens)
	})
	require.ErrorIs(t, err, full)
	info, err := c.queue.Info(context.Background())
	require.NoError(t, err)
	assert.LessOrEqual(t, info.State.Msgs, uint64(1), "jobs wait, but for the one at hand")

	// An end from outside, and a second run.
	last.Store(calls.Load() + 10)
	require.ErrorIs(t, together(ctx, s, c), context.Canceled)
	require.NoError(t, s.Close())
	c.Close(false)
	said := &words{}
	c = coordinate(t, server, said)
	s = newStudy(t, path, 6000)
	assert.NotEmpty(t, s.History())
	require.NoError(t, together(context.Background(), s, c))
	assert.Equal(t, want, found(t, s))

	// Complete: nothing stays on the server, and the workers end.
	ended := make(chan error, 1)
	go func() {
		ended <- Worker{Server: server, Search: "test", Name: "last", times: fast, Open: func(
			context.Context, Spec,
		) (Evaluator, error) {
			return &synthetic{}, nil
		}}.Run(context.Background())
	}()
	require.Eventually(t, func() bool { return strings.Contains(said.String(), "last joined") },
		10*time.Second, time.Millisecond)
	nc, err := server.connect("test")
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	c.Close(true)
	for name := range js.StreamNames(context.Background()).Name() {
		t.Errorf("%s stays on the server", name)
	}
	select {
	case err := <-ended:
		assert.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Error("the worker does not end with its search")
	}
}

// TestLostServer: the error says what is lost and that the rest is kept.
func TestLostServer(t *testing.T) {
	ns, err := server.NewServer(
		&server.Options{
			Host:      "127.0.0.1",
			Port:      server.RANDOM_PORT,
			JetStream: true,
			StoreDir:  t.TempDir(),
			NoLog:     true,
			NoSigs:    true,
		},
	)
	require.NoError(t, err)
	go ns.Start()
	require.True(t, ns.ReadyForConnections(10*time.Second))
	there := Server{URL: ns.ClientURL(), patience: 500 * time.Millisecond}
	said := &words{}
	c := coordinate(t, there, said)
	worker := make(chan error, 1)
	go func() {
		worker <- Worker{Server: there, Search: "test", times: fast, Open: func(
			context.Context, Spec,
		) (Evaluator, error) {
			return &synthetic{delay: 20 * time.Millisecond}, nil
		}}.Run(context.Background())
	}()
	s := newStudy(t, "", 6000)
	told := 0
	err = nil
	for err == nil && !s.Done() {
		err = c.Evaluate(context.Background(), trialsOf(s), func(r Result) error {
			if told++; told == 3 {
				ns.Shutdown()
			}
			return s.Tell(r.ID, r.Losses, r.Tokens)
		})
	}
	assert.ErrorContains(t, err, "lost the NATS server 127.0.0.1:")
	assert.ErrorContains(t, err, "the evaluations are kept")
	select {
	case err := <-worker:
		assert.ErrorContains(t, err, "lost the NATS server 127.0.0.1:")
	case <-time.After(10 * time.Second):
		t.Error("the worker runs without a server")
	}
}

// TestServerForgets: a server that comes back without anything that it had gets all of it again.
func TestServerForgets(t *testing.T) {
	want := alone(t, newStudy(t, "", 6000))
	start := func(port int) *server.Server {
		ns, err := server.NewServer(
			&server.Options{
				Host:      "127.0.0.1",
				Port:      port,
				JetStream: true,
				StoreDir:  t.TempDir(),
				NoLog:     true,
				NoSigs:    true,
			},
		)
		require.NoError(t, err)
		go ns.Start()
		require.True(t, ns.ReadyForConnections(10*time.Second))
		t.Cleanup(ns.Shutdown)
		return ns
	}
	ns := start(server.RANDOM_PORT)
	there := Server{URL: ns.ClientURL(), patience: 20 * time.Second}
	port := ns.Addr().(*net.TCPAddr).Port
	said := &words{}
	c := coordinate(t, there, said)
	work(t, there, "one", &synthetic{delay: 5 * time.Millisecond})
	work(t, there, "two", &synthetic{delay: 5 * time.Millisecond})
	s := newStudy(t, "", 6000)
	told := 0
	for !s.Done() {
		require.NoError(t, c.Evaluate(context.Background(), trialsOf(s), func(r Result) error {
			if told++; told == 3 {
				ns.Shutdown()
				ns.WaitForShutdown()
				start(port)
			}
			return s.Tell(r.ID, r.Losses, r.Tokens)
		}))
	}
	assert.Equal(t, want, found(t, s))
	assert.Contains(t, said.String(), "is back")
}
