package workers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streams makes what the search needs on the server. The queue holds one message a job, and no
// second one of its name; on a server of our own all is in memory.
func (c *Coordinator) streams(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	storage := jetstream.FileStorage
	if c.opts.Server == nil {
		storage = jetstream.MemoryStorage
	}
	queue, err := c.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: c.names.jobs(), Subjects: []string{c.names.job("*")},
		Retention: jetstream.WorkQueuePolicy, Storage: storage,
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
		Description: "longrope: readings to evaluate",
	})
	if err == nil { // else what is there stays: the connection may be back soon
		c.queue = queue
		_, err = c.queue.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: consumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.times.ackWait,
			MaxDeliver: -1, MaxAckPending: -1,
		})
	}
	if err == nil {
		_, err = c.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: c.names.answers(), Subjects: []string{c.names.answer("*")}, Storage: storage,
			MaxAge:      7 * 24 * time.Hour,
			Description: "longrope: what workers computed",
		})
	}
	if err == nil {
		_, err = c.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: c.names.specs(), Storage: storage,
			Description: "longrope: what workers read",
		})
	}
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrJetStreamNotEnabled) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return fmt.Errorf(
			"the NATS server %s has no JetStream (for this account): %w; start it with -js",
			c.server.name(), err)
	}
	if err != nil {
		return fmt.Errorf("the NATS server %s: cannot set up the queue: %w", c.server.name(), err)
	}
	return nil
}

// publish puts jobs into the queue, and takes out what nobody waits for: jobs of an earlier run or
// round.
func (c *Coordinator) publish(ctx context.Context, jobs []job) error {
	if err := c.drop(ctx); err != nil {
		return err
	}
	for _, j := range jobs {
		b, err := json.Marshal(j)
		if err != nil {
			return err
		}
		_, err = c.js.Publish(ctx, c.names.job(j.key()), b)
		var refused *jetstream.APIError
		if errors.As(err, &refused) && strings.Contains(refused.Description, "per subject") {
			continue // it waits already
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return c.failed("cannot hand out trials", err)
		}
	}
	return nil
}

// reconcile compares the open jobs with those on the server, and puts back what is missing: a job
// is acknowledged without an answer by a worker that does not do what it should, and a server may
// lose what it had when it is killed.
func (c *Coordinator) reconcile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := c.queue.Info(ctx, jetstream.WithSubjectFilter(c.names.job("*")))
	var shared jetstream.Consumer
	if err == nil {
		shared, err = c.queue.Consumer(ctx, consumer)
	}
	if err == nil {
		_, err = c.js.Stream(ctx, c.names.answers())
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound):
		c.opts.Say("the NATS server %s has lost the queue of the search; it is made again",
			c.server.name())
		return c.persist(ctx, c.again)
	case err != nil:
		return nil // the server is away: the next look finds out more
	}
	queued := map[string]bool{}
	for subject := range info.State.Subjects {
		queued[subject[strings.LastIndexByte(subject, '.')+1:]] = true
	}
	// No worker ever gets jobs that the consumer neither has to hand out nor has handed out.
	state := shared.CachedInfo()
	stuck := state.NumPending+uint64(state.NumAckPending) < info.State.Msgs
	c.mu.Lock()
	missing, from, err := c.book.lose(queued, stuck)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := c.drop(ctx); err != nil { // what somebody else has put in
		return nil
	}
	for _, j := range missing {
		if err := c.queue.Purge(ctx, jetstream.WithPurgeSubject(c.names.job(j.key()))); err != nil {
			return nil
		}
	}
	if len(missing) == 0 {
		return nil
	}
	c.opts.Say("%d jobs were lost without an answer%s; they are handed out again", len(missing),
		from)
	return c.persist(ctx, func(ctx context.Context) error { return c.publish(ctx, missing) })
}

// forget takes from the server what an earlier search left there.
func (c *Coordinator) forget(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c.js.DeleteStream(ctx, c.names.jobs())
	c.js.DeleteStream(ctx, c.names.answers())
	c.js.DeleteObjectStore(ctx, c.names.specs())
}

// drop takes jobs that are not open out of the queue.
func (c *Coordinator) drop(ctx context.Context) error {
	info, err := c.queue.Info(ctx, jetstream.WithSubjectFilter(c.names.job("*")))
	if err != nil {
		return c.failed("cannot see the queue", err)
	}
	for subject := range info.State.Subjects {
		key := subject[strings.LastIndexByte(subject, '.')+1:]
		c.mu.Lock()
		_, open := c.book.jobs[key]
		c.mu.Unlock()
		if open {
			continue
		}
		if err := c.queue.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return c.failed("cannot clear the queue", err)
		}
	}
	return nil
}

// persist repeats f while the server is away, and for some seconds after: a server that came back
// may need them, or has to be told all again. It ends when the connection does.
func (c *Coordinator) persist(ctx context.Context, f func(context.Context) error) error {
	for tries := 0; ; {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if c.nc.IsConnected() {
			if tries++; tries > 20 {
				return err
			}
			if errors.Is(err, jetstream.ErrStreamNotFound) ||
				errors.Is(err, jetstream.ErrNoStreamResponse) {
				f = c.again
			}
		}
		select {
		case <-c.closed:
			return c.gone()
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// again puts back what a server that was away may have lost, all of it in the worst case.
func (c *Coordinator) again(ctx context.Context) error {
	if err := c.streams(ctx); err != nil {
		return err
	}
	if err := c.store(ctx, c.spec); err != nil {
		return err
	}
	if err := c.read(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	var jobs []job
	for _, e := range c.book.jobs {
		jobs = append(jobs, e.job)
	}
	c.mu.Unlock()
	return c.publish(ctx, jobs)
}

// takeBack empties the queue and has the workers stop, as well as that can be done now.
func (c *Coordinator) takeBack() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if c.nc.IsConnected() {
		c.queue.Purge(ctx)
		c.tell(control{Cancel: "*"})
	}
}

func (c *Coordinator) tell(t control) {
	b, _ := json.Marshal(t)
	c.nc.Publish(c.names.control(), b)
	c.nc.FlushTimeout(time.Second)
}

// refuse has the server hand a job out again.
func (c *Coordinator) refuse(acks []string) {
	for _, ack := range acks {
		if strings.HasPrefix(ack, "$JS.ACK.") && strings.Contains(ack, "."+c.names.jobs()+".") {
			c.nc.Publish(ack, []byte("-NAK"))
		}
	}
}
