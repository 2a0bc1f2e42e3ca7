package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/longrope/longrope/ropescale"
)

// Evaluator computes readings on one loaded model. It is used by one goroutine.
type Evaluator interface {
	Engine() Engine
	// Evaluate returns the loss of each reading in nats, +Inf where the model computes nothing
	// finite, and the tokens that they took together. An error is one of the engine, not of the
	// rung.
	// Cheap readings have a base.
	Evaluate(ctx context.Context, g ropescale.Rung, base *ropescale.Rung,
		readings []int) (losses []float64, tokens int, err error)
	Close()
}

// Worker is a process that evaluates.
type Worker struct {
	Server Server
	Search string // its name
	Name   string // for people; default: host and process
	ID     string // of the process; default: one that no other has
	// Open loads the model of the specification. An error ends the worker: it cannot be of use to
	// this search.
	Open func(ctx context.Context, s Spec) (Evaluator, error)
	Say  func(format string, args ...any)

	times times
}

// errEnded: the coordinator said that the search is complete.
var errEnded = errors.New("the search is complete")

// hung is how long an evaluation may run after it was called off. An engine that takes longer
// will not come back: only the end of the process frees it.
const hung = time.Minute

// Run works until the search is complete (nil), ctx ends, the server is lost, or the worker finds
// that it is of no use.
func (w Worker) Run(ctx context.Context) error {
	if err := checkName(w.Search); err != nil {
		return err
	}
	if w.times == (times{}) {
		w.times = defaultTimes
	}
	if w.Say == nil {
		w.Say = func(string, ...any) {}
	}
	host, _ := os.Hostname()
	if w.Name == "" {
		w.Name = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	if w.ID == "" {
		w.ID = fmt.Sprintf("%s-%d-%d", host, os.Getpid(), time.Now().UnixNano())
	}
	nc, err := w.Server.connect("longrope worker " + w.Name)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	nc.SetClosedHandler(func(nc *nats.Conn) {
		stop(
			fmt.Errorf("lost the NATS server %s: %w", w.Server.name(),
				errors.Join(nc.LastError(), nats.ErrConnectionClosed)),
		)
	})
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s := &working{
		Worker: w, names: names(w.Search), nc: nc, js: js, stop: stop,
		state: beat{
			Protocol: protocol,
			ID:       w.ID,
			Name:     w.Name,
		},
	}
	err = s.run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	s.close(ctx, err)
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}

// working is a worker that runs.
type working struct {
	Worker
	names names
	nc    *nats.Conn
	js    jetstream.JetStream
	stop  context.CancelCauseFunc
	model Evaluator

	mu     sync.Mutex // of what follows
	state  beat
	msg    jetstream.Msg // the job at hand
	cancel func()        // calls it off
}

func (s *working) run(ctx context.Context) error {
	if _, err := s.nc.Subscribe(s.names.control(), s.control); err != nil {
		return err
	}
	spec, err := s.hello(ctx)
	if err != nil {
		return err
	}
	go s.beats(ctx)
	if err := s.load(ctx, spec); err != nil {
		return err
	}
	for ctx.Err() == nil {
		queue, err := s.js.Consumer(ctx, s.names.jobs(), consumer)
		if err != nil { // the server is away, or does not have the queue yet
			if !sleep(ctx, time.Second) {
				break
			}
			continue
		}
		for ctx.Err() == nil {
			m, err := next(ctx, queue)
			if err != nil {
				sleep(ctx, 200*time.Millisecond)
				break
			}
			if m == nil {
				continue
			}
			if err := s.work(ctx, m); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// next waits some seconds for a job; nil when there was none.
func next(ctx context.Context, queue jetstream.Consumer) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	batch, err := queue.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, err
	}
	for m := range batch.Messages() {
		return m, nil
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, nats.ErrTimeout) {
		return nil, err
	}
	return nil, nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// hello asks the coordinator what there is to do, and waits for one that is not there yet.
func (s *working) hello(ctx context.Context) (spec string, err error) {
	b, err := json.Marshal(s.state)
	if err != nil {
		return "", err
	}
	for said := false; ; {
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		m, err := s.nc.RequestWithContext(ask, s.names.hello(), b)
		cancel()
		again := true
		if err == nil {
			if spec, again, err = decodeWelcome(m.Data); err != nil {
				return "", err
			}
		}
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case !again:
			return spec, nil
		case err != nil && !said:
			said = true
			s.Say("waiting for the search %s at %s", s.Search, s.Server.name())
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

// load fetches a specification and has its model opened.
func (s *working) load(ctx context.Context, id string) error {
	store, err := s.js.ObjectStore(ctx, s.names.specs())
	var b []byte
	if err == nil {
		var info *jetstream.ObjectInfo
		if info, err = store.GetInfo(ctx, id); err == nil && info.Size > maxSpec {
			return fmt.Errorf("the specification %s of the search has %d bytes; up to %d are "+
				"possible", id, info.Size, maxSpec)
		}
		if err == nil {
			b, err = store.GetBytes(ctx, id)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot fetch what the search reads: %w", s.Server.explain(err))
	}
	spec, err := decodeSpec(id, b)
	if err != nil {
		return err
	}
	if s.model != nil {
		s.model.Close()
		s.model = nil
	}
	if s.model, err = s.Open(ctx, spec); err != nil {
		return err
	}
	s.mu.Lock()
	s.state.Spec, s.state.Engine = id, s.model.Engine()
	s.mu.Unlock()
	s.tell()
	return nil
}

// tell sends the state.
func (s *working) tell() {
	s.mu.Lock()
	b, _ := json.Marshal(s.state)
	s.mu.Unlock()
	s.nc.Publish(s.names.beat(), b)
}

// beats says that the worker lives, and keeps its job from being handed out again.
func (s *working) beats(ctx context.Context) {
	for sleep(ctx, s.times.beat) {
		s.mu.Lock()
		if s.msg != nil {
			s.msg.InProgress()
		}
		s.mu.Unlock()
		s.tell()
	}
}

// hold makes m the job at hand; nil is none.
func (s *working) hold(m jetstream.Msg, key string, cancel func()) {
	s.mu.Lock()
	s.msg, s.cancel = m, cancel
	s.state.Job, s.state.Ack, s.state.Delivery = "", "", 0
	if m != nil {
		s.state.Job, s.state.Ack, s.state.Delivery = key, m.Reply(), 1
		if meta, err := m.Metadata(); err == nil {
			s.state.Delivery = int(meta.NumDelivered)
		}
	}
	s.mu.Unlock()
}

// work does one job. The error ends the worker.
func (s *working) work(ctx context.Context, m jetstream.Msg) error {
	var j job
	if err := json.Unmarshal(m.Data(), &j); err != nil {
		s.Say("a job that is none is thrown away: %s", printable(err.Error()))
		return m.Term()
	}
	key := j.key()
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	s.hold(m, key, cancel)
	s.tell()
	defer s.hold(nil, "", nil)
	if j.Spec != s.state.Spec {
		if err := s.load(ctx, j.Spec); err != nil {
			m.Nak()
			return err
		}
	}
	dog := context.AfterFunc(work, func() {
		time.AfterFunc(hung, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.msg == m {
				s.stop(
					fmt.Errorf(
						"an evaluation did not end a minute after it was called off; " +
							"the engine hangs",
					),
				)
			}
		})
	})
	a := answer{job: j, Worker: s.Name, ID: s.state.ID}
	started := time.Now()
	for _, pass := range j.Passes {
		// One at a time: then it is known what each took, whatever else is in the job.
		losses, tokens, err := s.model.Evaluate(work, j.Rung, j.Base, pass)
		if err != nil && work.Err() != nil {
			if ctx.Err() != nil {
				m.Nak() // for somebody else, at once
			}
			return ctx.Err() // called off, or the worker ends
		}
		if err == nil && (len(losses) != len(pass) || len(pass) == 0) {
			err = fmt.Errorf("%d losses for %d readings", len(losses), len(pass))
		}
		if err != nil {
			m.Nak()
			return fmt.Errorf("trial %d, readings %v: %w", j.Trial, pass, err)
		}
		a.Losses = append(a.Losses, losses...)
		a.Tokens = append(append(a.Tokens, tokens), make([]int, len(pass)-1)...)
	}
	dog()
	a.Seconds = time.Since(started).Seconds()
	return s.answer(ctx, key, a, m)
}

// answer publishes an answer and takes its job out of the queue, in this order: what is lost
// between the two is computed again, and the same. The message is named by its contents: the server
// drops repetitions, and lets through what differs.
func (s *working) answer(ctx context.Context, key string, a answer, m jetstream.Msg) error {
	if err := a.check(); err != nil {
		m.Nak()
		return fmt.Errorf("trial %d: %w", a.Trial, err)
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	for {
		publish, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err = s.js.Publish(publish, s.names.answer(key), b, jetstream.WithMsgID(digest(b)))
		cancel()
		if err == nil {
			return m.Ack()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
			return nil // the search was taken off the server
		}
		sleep(ctx,
			time.Second) // the server is away; the connection ends when it does not come back
	}
}

// control receives the messages of the coordinator to all workers.
func (s *working) control(m *nats.Msg) {
	var t control
	if err := json.Unmarshal(m.Data, &t); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil && (t.Cancel == "*" || t.Cancel == s.state.Job) {
		s.cancel()
	}
	if t.End {
		s.stop(errEnded)
	}
	if t.Out != "" && t.Out == s.state.ID {
		s.stop(fmt.Errorf("the search has put this worker out: it %s", printable(t.Why)))
	}
}

// close says good-bye, with the problem if there is one.
func (s *working) close(ctx context.Context, err error) {
	if s.model != nil {
		s.model.Close()
	}
	s.mu.Lock()
	s.state.Job, s.state.Ack = "", ""
	s.state.Left = true
	if err != nil && !errors.Is(err, errEnded) && !errors.Is(err, context.Canceled) {
		s.state.Problem = err.Error()
	}
	s.mu.Unlock()
	if s.nc.IsConnected() {
		s.tell()
		s.nc.FlushTimeout(time.Second)
	}
}
