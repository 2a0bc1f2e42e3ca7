package workers

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// torn is a network between clients and a server that cuts connections, delays what goes over them,
// repeats it, and closes them for one direction.
type torn struct {
	server string
	calm   atomic.Bool // nothing is torn any more

	mu  sync.Mutex
	rng *rand.Rand

	cuts, delays, repeats, halves atomic.Int64
}

// tear opens the network in front of a server and returns that as its clients see it.
func tear(t *testing.T, s Server, seed uint64) (*torn, Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &torn{
		server: strings.TrimPrefix(s.URL, "nats://"), rng: rand.New(rand.NewPCG(seed, 1)),
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", n.server)
			if err != nil {
				client.Close()
				continue
			}
			go n.carry(client, server)
			go n.carry(server, client)
		}
	}()
	s.URL = "nats://" + l.Addr().String()
	return n, s
}

// carry hands on what one side sends, in chunks, each of which may have bad luck.
func (n *torn) carry(from, to net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 4096)
	for {
		k, err := from.Read(b)
		if err != nil {
			return
		}
		n.mu.Lock()
		luck, wait := n.rng.IntN(150), time.Duration(n.rng.IntN(300))*time.Millisecond
		n.mu.Unlock()
		if n.calm.Load() {
			luck = 149
		}
		switch {
		case luck == 0:
			n.cuts.Add(1)
			_, _ = to.Write(b[:k/2]) // in the middle of a message
			return
		case luck == 1:
			n.repeats.Add(1)
			if _, err := to.Write(b[:k]); err != nil {
				return
			}
		case luck == 2:
			n.halves.Add(1)
			if c, ok := to.(*net.TCPConn); ok {
				c.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, from)
			return
		case luck < 12:
			n.delays.Add(1)
			time.Sleep(wait)
		}
		if _, err := to.Write(b[:k]); err != nil {
			return
		}
	}
}

// seedOf is LONGROPE_KILL_SEED, or a new one, which is said.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LONGROPE_KILL_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("for the same again: LONGROPE_KILL_SEED=%d", seed)
	return seed
}

// patience is how long a search may wait for a connection that is dead in one direction.
const patience = 10 * time.Second

// TestTornNetwork: whatever becomes of what is sent, a search that reaches its end has the factors
// of one without workers. One that loses its server says so, and resumes when it is started again.
func TestTornNetwork(t *testing.T) {
	seed := seedOf(t)
	want := alone(t, newStudy(t, "", 6000))
	there := cluster(t)
	there.patience = 20 * time.Second
	network, seen := tear(t, there, seed)
	path := t.TempDir() + "/torn.study"
	for i := range 3 {
		end := make(chan struct{})
		defer close(end)
		go func() { // a worker that loses its server is started again by somebody
			for {
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = Worker{
						Server: seen, Search: "test", Name: strconv.Itoa(i), times: fast,
						Open: func(context.Context, Spec) (Evaluator, error) {
							return &synthetic{delay: 3 * time.Millisecond}, nil
						},
					}.Run(ctx)
				}()
				select {
				case <-end:
					cancel()
					<-done
					return
				case <-done:
					cancel()
					time.Sleep(20 * time.Millisecond)
				}
			}
		}()
	}
	starts, said := 0, &words{}
	for {
		starts++
		network.calm.Store(starts > 30) // it has an end
		s := newStudy(t, path, 6000)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		c, err := New(ctx, Options{
			Server: &seen, Name: "test", Say: said.say, times: fast,
			Engine: new(synthetic).Engine(),
		})
		if err == nil {
			if err = c.Search(ctx, testSpec, new(synthetic).Evaluate); err == nil {
				err = together(ctx, s, c)
			}
			c.Close(false)
		}
		cancel()
		if err == nil {
			assert.Equal(t, want, found(t, s))
			break
		}
		require.NoError(t, s.Close())
		require.Less(t, starts, 40, "%v\n%s", err, said)
		assert.NotContains(t, err.Error(), "lies", "honest workers are put out")
	}
	t.Logf("%d cuts, %d half-closed, %d repeats, %d delays, %d starts", network.cuts.Load(),
		network.halves.Load(), network.repeats.Load(), network.delays.Load(), starts)
	assert.NotContains(t, said.String(), "put out")
}
