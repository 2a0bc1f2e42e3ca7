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
)

// Options of a Coordinator.
type Options struct {
	// Server to use; nil starts one in this process, for the Local workers alone.
	Server *Server
	// Name of the search on the server.
	Name string
	// Local describes worker processes on this machine; nil starts none.
	Local *Local
	// Engine is the coordinator's own: workers that compute other bits are pointed out.
	Engine Engine
	// Fresh discards what an earlier search of the name left on the server.
	Fresh bool
	// Say shows the user a message. It may be called concurrently.
	Say func(format string, args ...any)

	times times // zero: defaultTimes
}

// Coordinator hands out trials to workers and collects what they computed. It is used by one
// goroutine; Status may be called by any. Close it.
type Coordinator struct {
	opts   Options
	times  times
	server Server
	names  names
	nc     *nats.Conn
	js     jetstream.JetStream
	queue  jetstream.Stream
	local  *locals
	stop   []func()

	answers chan jetstream.Msg
	events  chan event
	closed  chan struct{} // the connection is lost for good
	encoded []byte        // specification that is out
	reading jetstream.ConsumeContext

	mu     sync.Mutex // of what follows
	book   *book
	spec   string
	odd    map[string]bool // workers whose bits were found to differ, by id
	ending bool            // the workers were told to leave

	checks checker
	pace   pace
}

// event is what Evaluate has to act on, in addition to answers.
type event struct {
	reconnect bool
	exit      *exit // of a local worker
	err       error // ends the work
}

// pace is how a round gets on.
type pace struct {
	began, answered, looked time.Time // looked: at the queue
	said                    time.Duration
}

// heard notes an answer.
func (p *pace) heard() { p.answered, p.said = time.Now(), 0 }

// long says whether there was no answer for so long, or for twice as long as when it said so last.
func (p *pace) long(now time.Time, wait time.Duration) bool {
	silent := now.Sub(p.answered)
	if silent < max(wait, 2*p.said) {
		return false
	}
	p.said = silent
	return true
}

// New connects (or starts a server), makes sure that no other search has the name, and starts the
// local workers, which wait for Search.
func New(ctx context.Context, o Options) (*Coordinator, error) {
	if o.times == (times{}) {
		o.times = defaultTimes
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Name == "" {
		o.Name = "search"
	}
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	c := &Coordinator{
		opts: o, times: o.times, names: names(o.Name), book: newBook(), odd: map[string]bool{},
		answers: make(
			chan jetstream.Msg,
			1024,
		), events: make(chan event, 1024), closed: make(chan struct{}),
		checks: checker{made: make(chan made, 1)},
	}
	if err := c.start(ctx); err != nil {
		c.Close(false)
		return nil, err
	}
	return c, nil
}

func (c *Coordinator) start(ctx context.Context) error {
	if c.opts.Server != nil {
		c.server = *c.opts.Server
	} else {
		s, stop, err := embedded()
		if err != nil {
			return err
		}
		c.server = s
		c.stop = append(c.stop, stop)
	}
	nc, err := c.server.connect("longrope search " + c.opts.Name)
	if err != nil {
		return err
	}
	c.nc = nc
	c.stop = append(c.stop, nc.Close)
	var once sync.Once
	nc.SetClosedHandler(func(*nats.Conn) { once.Do(func() { close(c.closed) }) })
	nc.SetReconnectHandler(func(*nats.Conn) { c.events <- event{reconnect: true} })
	if c.js, err = jetstream.New(nc); err != nil {
		return err
	}
	if err := c.server.check(nc); err != nil {
		return err
	}
	if err := c.alone(); err != nil {
		return err
	}
	if c.opts.Fresh {
		c.forget(ctx)
	}
	if err := c.streams(ctx); err != nil {
		return err
	}
	if c.opts.Local != nil {
		c.local = newLocals(*c.opts.Local, c.server, c.opts.Name, c.events)
	}
	if _, err := nc.Subscribe(c.names.beat(), func(m *nats.Msg) { c.hear(m) }); err != nil {
		return err
	}
	if _, err := nc.Subscribe(c.names.hello(), c.welcome); err != nil {
		return err
	}
	if c.local != nil {
		return c.local.startAll()
	}
	return nil
}

// alone makes sure that no other coordinator answers to the name.
func (c *Coordinator) alone() error {
	b, _ := json.Marshal(beat{Protocol: protocol})
	m, err := c.nc.Request(c.names.hello(), b, 2*time.Second)
	switch {
	case err == nil:
		return fmt.Errorf(
			"a search with the name %s runs at %s already (%s); stop it, or give this one "+
				"another --study",
			c.names,
			c.server.name(),
			printable(m.Header.Get("From")),
		)
	case errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrTimeout): // a timeout: one that was just killed
		return nil
	}
	return c.server.explain(err)
}

// hear takes in a beat. It runs in the connection's goroutine, also while nothing is evaluated.
func (c *Coordinator) hear(m *nats.Msg) {
	var t beat
	if err := json.Unmarshal(m.Data, &t); err != nil || t.ID == "" {
		return
	}
	t.clean()
	c.mu.Lock()
	what, acks, err := c.book.beat(time.Now(), t)
	ending := c.ending
	c.mu.Unlock()
	c.refuse(acks)
	if !ending {
		c.note(what, t)
	}
	if err != nil {
		select {
		case c.events <- event{err: err}:
		default: // one like it waits
		}
	}
}

// welcome answers a worker that asks what there is to do. It runs in the connection's goroutine.
func (c *Coordinator) welcome(m *nats.Msg) {
	var b beat
	var w welcome
	c.mu.Lock()
	w.Spec = c.spec
	c.mu.Unlock()
	if err := json.Unmarshal(m.Data, &b); err != nil || b.Protocol != protocol {
		w = welcome{
			Refused: fmt.Sprintf(
				"the search speaks version %d of the workers' protocol, the worker %d; use the "+
					"same program on both sides",
				protocol,
				b.Protocol,
			),
		}
	}
	reply := nats.NewMsg(m.Reply)
	host, _ := os.Hostname()
	reply.Header.Set("From", fmt.Sprintf("process %d on %s", os.Getpid(), host))
	reply.Data, _ = json.Marshal(w)
	m.RespondMsg(reply)
	if b.ID != "" {
		c.hear(m)
	}
}

// Search makes s what the workers work at, from the next Evaluate on. With own, which is called
// during Evaluate alone, a sample of what the workers answer is computed again: the first answer of
// each, before any of its losses is told, and some of the others. A worker whose losses differ is
// put out. Where some of its losses were told, Evaluate ends with a DisownedError.
func (c *Coordinator) Search(ctx context.Context, s Spec, own Evaluate) error {
	id, b, err := s.encode()
	if err != nil {
		return err
	}
	c.encoded = b
	if err := c.store(ctx, id); err != nil {
		return err
	}
	c.mu.Lock()
	c.spec = id
	c.book.open(id)
	c.checks.evaluate = own
	c.book.doubts.active = own != nil
	c.mu.Unlock()
	if c.reading == nil {
		return c.read(ctx)
	}
	return nil
}

// store puts the specification where workers fetch it.
func (c *Coordinator) store(ctx context.Context, id string) error {
	store, err := c.js.ObjectStore(ctx, c.names.specs())
	if err == nil {
		_, err = store.PutBytes(ctx, id, c.encoded)
	}
	if err != nil {
		return c.failed("cannot store what the workers read", err)
	}
	return nil
}

// read takes in answers from now on: those of an earlier run that was killed come first.
func (c *Coordinator) read(ctx context.Context) error {
	if c.reading != nil {
		c.reading.Stop()
	}
	ordered, err := c.js.OrderedConsumer(ctx, c.names.answers(),
		jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err == nil {
		c.reading, err = ordered.Consume(func(m jetstream.Msg) {
			select {
			case c.answers <- m:
			case <-c.closed:
			}
		})
	}
	if err != nil {
		return c.failed("cannot read answers", err)
	}
	return nil
}

// failed distinguishes a lost server from other errors.
func (c *Coordinator) failed(what string, err error) error {
	select {
	case <-c.closed:
		return c.gone()
	default:
	}
	return fmt.Errorf("%s: %w", what, c.server.explain(err))
}

func (c *Coordinator) gone() error {
	err := c.nc.LastError()
	if err == nil {
		err = nats.ErrConnectionClosed
	}
	return fmt.Errorf(
		"lost the NATS server %s: %w; the evaluations are kept, and the same command resumes when "+
			"the server is back",
		c.server.name(),
		err,
	)
}

// Evaluate has the trials evaluated by whoever is there, and calls tell for each, in whatever order
// they are done. It returns when all were told, at the first error of tell, when the server or all
// that could work is lost, and when ctx ends: jobs that are still open are taken back then.
func (c *Coordinator) Evaluate(
	ctx context.Context,
	trials []Trial,
	tell func(Result) error,
) (err error) {
	c.mu.Lock()
	jobs := c.book.begin(trials)
	c.mu.Unlock()
	defer func() {
		if err != nil {
			c.takeBack()
		}
	}()
	publish := func(ctx context.Context) error { return c.publish(ctx, jobs) }
	if err := c.persist(ctx, publish); err != nil {
		return err
	}
	defer c.abandon()
	ticker := time.NewTicker(c.times.tick)
	defer ticker.Stop()
	c.pace = pace{began: time.Now(), answered: time.Now(), looked: time.Now()}
	for {
		c.mu.Lock()
		results := c.book.done()
		left := len(c.book.trials)
		c.mu.Unlock()
		if len(results) > 0 || left == 0 { // tell may use the engine
			if err := c.finish(); err != nil {
				return err
			}
		}
		for _, r := range results {
			if err := tell(r); err != nil {
				return err
			}
		}
		c.check(ctx)
		if left == 0 && !c.checks.busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.closed:
			return c.gone()
		case m := <-c.answers:
			err = c.answer(m)
		case m := <-c.checks.made:
			err = c.judge(m)
		case e := <-c.events:
			err = c.happened(ctx, e)
		case <-ticker.C:
			err = c.look(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (c *Coordinator) answer(m jetstream.Msg) error {
	var a answer
	err := json.Unmarshal(m.Data(), &a)
	a.Worker, a.ID = printable(a.Worker), printable(a.ID)
	if err == nil {
		err = a.check()
	}
	if err == nil {
		c.mu.Lock()
		err = c.book.impossible(a)
		c.mu.Unlock()
	}
	if err != nil {
		return c.bad(m, a, err)
	}
	c.pace.heard()
	c.mu.Lock()
	conflicts, others := c.book.answer(a)
	said := c.odd[a.ID]
	c.odd[a.ID] = said || len(conflicts) > 0
	first := ""
	if len(conflicts) > 0 {
		first = c.book.names[conflicts[0].first.worker]
	}
	c.mu.Unlock()
	if len(others) > 0 {
		c.tell(control{Cancel: a.key()})
	}
	if len(conflicts) > 0 {
		c.mu.Lock()
		c.book.dispute(a, conflicts)
		c.mu.Unlock()
	}
	if len(conflicts) > 0 && !said {
		x := conflicts[0]
		c.opts.Say("%s computed %v for reading %d of trial %d where %s computed %v: their engines "+
			"differ, so the factors may depend on who evaluates what; the first answer counts",
			a.Worker, x.second.loss, x.reading, a.Trial, first, x.first.loss)
	}
	if c.local != nil {
		c.local.answered(a.ID)
	}
	return nil
}

// bad leaves an answer aside that is none. A worker that gives more of them is put out.
func (c *Coordinator) bad(m jetstream.Msg, a answer, why error) error {
	c.mu.Lock()
	d := &c.book.doubts
	out := d.out[a.ID]
	d.bad[a.ID]++
	n := d.bad[a.ID]
	c.mu.Unlock()
	who := a.Worker
	if who == "" {
		who = "a worker that does not say its name"
	}
	if !out && n <= maxBad {
		c.opts.Say("an answer of %s on %s was no answer and is left aside: %s", who,
			printable(m.Subject()), printable(why.Error()))
	}
	if !out && n == maxBad && a.ID != "" {
		return c.putOut(a.ID, who, fmt.Sprintf("gave %d answers that are none", n))
	}
	return nil
}

func (c *Coordinator) happened(ctx context.Context, e event) error {
	switch {
	case e.reconnect:
		c.opts.Say("the NATS server %s is back", c.server.name())
		return c.persist(ctx, c.again)
	case e.err != nil:
		return e.err
	case e.exit != nil:
		c.mu.Lock()
		acks := c.book.leave(e.exit.id)
		c.mu.Unlock()
		c.refuse(acks)
		return c.local.restart(*e.exit, c.opts.Say)
	}
	return nil
}

// look hands on what was given to workers that are lost or slow, queues again what is neither
// queued nor in a worker's hands, and says what is waited for when that takes long.
func (c *Coordinator) look(ctx context.Context) error {
	now := time.Now()
	c.mu.Lock()
	gone, acks := c.book.silent(now.Add(-c.times.silence))
	acks = append(acks, c.book.slow(now)...)
	c.mu.Unlock()
	for _, name := range gone {
		c.opts.Say("%s is not heard of any more; others take its work", name)
	}
	c.refuse(acks)
	if c.pace.long(now, c.times.wait) {
		c.mu.Lock()
		text := c.book.waiting()
		c.mu.Unlock()
		c.opts.Say("no answer for %s: %s", now.Sub(c.pace.answered).Round(time.Second), text)
	}
	if now.Sub(c.pace.looked) < c.times.silence || !c.nc.IsConnected() {
		return nil
	}
	c.pace.looked = now
	return c.reconcile(ctx)
}

// Close ends the local workers and takes from the server what is there of the search. With
// complete, workers elsewhere end too; without, they wait for the search to resume.
func (c *Coordinator) Close(complete bool) {
	if c.nc != nil && c.nc.IsConnected() && c.opts.Server != nil && c.queue != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if complete {
			c.mu.Lock()
			c.ending = true
			c.mu.Unlock()
			c.tell(control{End: true})
			c.forget(ctx)
		} else {
			c.queue.Purge(ctx)
			c.tell(control{Cancel: "*"})
		}
	}
	if c.local != nil {
		c.local.close()
	}
	if c.reading != nil {
		c.reading.Stop()
	}
	for i := len(c.stop) - 1; i >= 0; i-- {
		c.stop[i]()
	}
}
