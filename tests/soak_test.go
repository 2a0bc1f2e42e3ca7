package tests

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/api"

	"github.com/longrope/longrope/plugin/server"
)

// soakRequest is one request, and what became of it.
type soakRequest struct {
	prompt  string
	predict int
	policy  string // of crossings
	pieces  int    // after which its client goes away; 0: never
	slow    time.Duration
	text    string
	err     error
}

func (r *soakRequest) send(ctx context.Context, s *server.Server) {
	var b strings.Builder
	pieces := 0
	r.err = s.Client().Generate(ctx, &api.GenerateRequest{
		Model: "default-2k", Prompt: r.prompt, Options: map[string]any{
			"num_predict": r.predict, "longrope_crossing": r.policy, "num_ctx": serverTarget,
		},
	}, func(g api.GenerateResponse) error {
		b.WriteString(g.Response)
		time.Sleep(r.slow)
		if pieces++; pieces == r.pieces {
			return errEnough
		}
		return nil
	})
	r.text = b.String()
	if r.pieces > 0 {
		r.err = nil // it went away
	}
}

// TestSoak: clients that are slow, that go away and that do not, on every rung, with both policies,
// on parallel slots and each type of cached keys, have the answers of a server that has nothing
// else to do. No runner stays, and memory does not grow. LONGROPE_SOAK is for how long (1h), the
// default one round for each engine; LONGROPE_KILL_SEED draws the same again.
func TestSoak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("processes are looked at in /proc")
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LONGROPE_KILL_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	var end time.Time
	if s := os.Getenv("LONGROPE_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		require.NoError(t, err)
		end = time.Now().Add(d)
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	t.Logf("for the same again: LONGROPE_KILL_SEED=%d", seed)
	hosts := []*host{newHost(t), newHost(t, newEngine)}
	requests, ties := 0, 0
	for round := 0; round < len(hosts) || time.Now().Before(end); round++ {
		h := hosts[round%len(hosts)]
		kv := []string{"f16", "q8_0", "q4_0"}[rng.IntN(3)]
		slots := 1 + rng.IntN(4)
		n, differ := h.soak(t, rng, kv, slots)
		requests, ties = requests+n, ties+differ
		t.Logf("round %d, Go engine %v, %s keys, %d slots: %d requests, %d answers not the same",
			round+1, h.goEngine(), kv, slots, n, differ)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d requests, %d of them ties of two tokens", requests, ties)
}

// soak is a round: how many requests had answers, and how many of them another than alone.
func (h *host) soak(t *testing.T, rng *rand.Rand, kv string, slots int) (answers, differ int) {
	env := []string{"OLLAMA_KV_CACHE_TYPE=" + kv, "OLLAMA_FLASH_ATTENTION=1"}
	h.forget(t, "default-2k")
	var all []*soakRequest
	for range 40 {
		r := &soakRequest{
			prompt:  h.prompt(t, rng.IntN(12000), 10+rng.IntN(2*serverL)),
			predict: 1 + rng.IntN(12), policy: "recompute",
		}
		switch rng.IntN(8) {
		case 0:
			r.policy = "rerotate"
		case 1:
			r.pieces = 1 + rng.IntN(8)
			r.predict = -1
		case 2:
			r.slow = 100 * time.Millisecond
		case 3: // a prompt that many have
			r.prompt = h.prompt(t, 500, serverL+20)
		}
		all = append(all, r)
	}
	busy := h.start(t, append(env, fmt.Sprint("OLLAMA_NUM_PARALLEL=", slots))...)
	queue := make(chan *soakRequest)
	var clients sync.WaitGroup
	for range slots + 1 {
		clients.Add(1)
		go func() {
			defer clients.Done()
			for r := range queue {
				r.send(t.Context(), busy)
			}
		}()
	}
	early := 0
	for i, r := range all {
		if i == len(all)/2 {
			early = memoryOf(t, h.store)
		}
		queue <- r
	}
	close(queue)
	clients.Wait()
	late := memoryOf(t, h.store)
	assert.Less(t, late, early+early/4+64<<20, "bytes of memory after twice the requests")
	busy.Stop()
	assert.Eventually(t, func() bool { return len(runners(t, h.store)) == 0 }, 20*time.Second,
		50*time.Millisecond, "a runner outlives its server")

	alone := h.start(t, append(env, "OLLAMA_NUM_PARALLEL=1")...)
	defer alone.Stop()
	for _, r := range all {
		if !assert.NoError(t, r.err) || r.pieces > 0 || r.policy != "recompute" {
			continue
		}
		again := *r
		again.slow = 0
		again.send(t.Context(), alone)
		require.NoError(t, again.err)
		answers++
		if again.text == r.text {
			continue
		}
		differ++
		if kv == "f16" { // the engine decides whether two tokens were a tie
			prompt := h.tokens(t, r.prompt)
			l := h.ladder
			if len(prompt)+r.predict <= serverL {
				l = nil
			}
			h.sameAnswer(t, l, prompt, r.text, r.predict)
		}
	}
	assert.LessOrEqual(t, differ, max(1, answers/20), "answers that are not the same")
	return answers, differ
}

var residentSize = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// memoryOf is what the runners of a store take, in bytes.
func memoryOf(t *testing.T, store string) (bytes int) {
	t.Helper()
	for _, pid := range runners(t, store) {
		b, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if m := residentSize.FindSubmatch(b); err == nil && m != nil {
			kB, err := strconv.Atoi(string(m[1]))
			require.NoError(t, err)
			bytes += kB << 10
		}
	}
	return bytes
}
