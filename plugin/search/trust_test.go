package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// TestDisown: where a worker gave losses that were told and that are wrong, the journal is taken
// back to before them, and the search resumes to the same factors.
func TestDisown(t *testing.T) {
	e, o := tinyOptions(t)
	var all recorder
	want, err := Search(t.Context(), e, o, &all)
	require.NoError(t, err)
	whole, err := os.ReadFile(o.Journal)
	require.NoError(t, err)

	// As if trial 9 and all that came after it had come from a liar.
	lines := strings.SplitAfter(string(whole), "\n")
	at := 0
	for i, l := range lines {
		if strings.HasPrefix(l, `{"id":9,`) {
			at = i
		}
	}
	require.NotZero(t, at)
	var told map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[at]), &told))
	told["losses"] = []float64{0.001, 0.001, 0.001, 0.001}[:len(told["losses"].([]any))]
	b, err := json.Marshal(told)
	require.NoError(t, err)
	lied := strings.Join(lines[:at], "") + string(b) + "\n"
	require.NoError(t, os.WriteFile(o.Journal, []byte(lied), 0o644))
	require.NoError(t, os.Remove(heldOutFile(o.Journal)))

	j := &judge{}
	s := ladderSearch{
		o: &o, rungs: []*rungSearch{{journal: o.Journal, judge: j}}, pool: &pool{sent: []*judge{j}},
	}
	err = s.disown(&workers.DisownedError{
		Worker: "liar", Why: "2 for reading 1 of trial 9 where this program computes 3",
		Uses: []workers.Use{{Search: 0, Trial: 9}},
	})
	assert.ErrorContains(t, err, "the worker liar computed 2 for reading 1 of trial 9")
	assert.ErrorContains(t, err, "is taken back to before trial 9; stop that worker, and the same")
	assert.ErrorContains(t, s.disown(&workers.DisownedError{
		Uses: []workers.Use{{Search: 0, Trial: 999}},
	}), "trial 999 is not in the journal")
	assert.NoError(t, s.disown(nil))
	other := errors.New("other")
	assert.Equal(t, other, s.disown(other))

	again, err := Search(t.Context(), e, o, &all)
	require.NoError(t, err)
	assert.Equal(t, want.Ladder, again.Ladder)
}

// TestGuests: what a worker from elsewhere computes is computed again in a search, and one that
// lies changes no factors.
func TestGuests(t *testing.T) {
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(),
		NoLog: true, NoSigs: true,
	})
	require.NoError(t, err)
	go ns.Start()
	t.Cleanup(ns.Shutdown)
	require.True(t, ns.ReadyForConnections(10*time.Second))
	there := workers.Server{URL: ns.ClientURL()}

	e, o := tinyOptions(t)
	var alone, together recorder
	want, err := Search(t.Context(), e, o, &alone)
	require.NoError(t, err)
	for _, name := range []string{"good", "liar"} {
		go workers.Worker{Server: there, Search: "y", Name: name, Open: func(
			ctx context.Context, s workers.Spec,
		) (workers.Evaluator, error) {
			if err := CheckSpec(s); err != nil {
				return nil, err
			}
			engine, _ := openTiny(t, 512)
			w, err := NewEvaluator(ctx, engine, s, 1)
			if name == "liar" {
				return liar{w}, err
			}
			return w, err
		}}.Run(t.Context())
	}
	o.Journal = filepath.Join(t.TempDir(), "y.study")
	o.Workers = &Workers{Server: &there}
	got, err := Search(t.Context(), e, o, &together)
	require.NoError(t, err)
	assert.Equal(t, want.Ladder.Rungs, got.Ladder.Rungs)
	assert.Contains(t, fmt.Sprint(together.said), "the worker liar computed")
}

// liar gives the losses of another evaluator, made better.
type liar struct{ workers.Evaluator }

func (l liar) Evaluate(
	ctx context.Context, g ropescale.Rung, base *ropescale.Rung, readings []int,
) ([]float64, int, error) {
	losses, tokens, err := l.Evaluator.Evaluate(ctx, g, base, readings)
	for i := range losses {
		losses[i] /= 2
	}
	return losses, tokens, err
}

// TestCheckSpec: no engine is opened for more tokens than the readings have.
func TestCheckSpec(t *testing.T) {
	j := judge{
		Samples:  []evals.Sample{{Tokens: []int{1, 2, 3}}},
		Readings: []study.Reading{{Name: "x", Tokens: 3, Weight: 1}},
	}
	b, err := json.Marshal(j)
	require.NoError(t, err)
	assert.NoError(t, CheckSpec(workers.Spec{Length: 3, Readings: b}))
	assert.ErrorContains(t, CheckSpec(workers.Spec{Length: 1 << 20, Readings: b}),
		"asks for 1048576 tokens, and its readings have 3")
	assert.Error(t, CheckSpec(workers.Spec{Length: 3, Readings: []byte(`{"samples":7}`)}))
}
