package workers

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzMessages: whatever is in a message, nothing breaks, and what is taken in goes out again as it
// was.
func FuzzMessages(f *testing.F) {
	rung := testRope.Identity(1024)
	good := answer{
		job:     job{Spec: "spec", Trial: 1, Rung: rung, Passes: [][]int{{0}, {2}}},
		Losses:  []float64{1.5, math.Inf(1)},
		Tokens:  []int{100, 102},
		Worker:  "w",
		ID:      "id",
		Seconds: 0.1,
	}
	for _, v := range []any{
		good,
		beat{Protocol: 1, ID: "a", Name: "w", Spec: "spec", Job: good.key(), Ack: "$JS.ACK.x"},
		control{Cancel: "*"},
		Spec{Protocol: 1, Length: 9},
	} {
		b, err := json.Marshal(v)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		book := newBook()
		book.open("spec")
		book.begin([]Trial{{ID: 1, Rung: rung, Passes: [][]int{{0, 1}, {2}}}})
		var a answer
		if json.Unmarshal(b, &a) == nil && a.check() == nil {
			book.answer(a)
			book.done()
			out, err := json.Marshal(a)
			require.NoError(t, err)
			var again answer
			require.NoError(t, json.Unmarshal(out, &again))
			assert.Equal(t, a.key(), again.key())
			assert.Equal(t, a.Losses, again.Losses)
		}
		var w beat
		if json.Unmarshal(b, &w) == nil && w.ID != "" {
			w.clean()
			assert.NotContains(t, w.Name+w.Problem, "\x1b")
			book.beat(time.Unix(1, 0), w)
			book.silent(time.Unix(9, 0))
			book.slow(time.Unix(99, 0))
		}
		if s, err := decodeSpec(digest(b), b); err == nil {
			id, out, err := s.encode()
			require.NoError(t, err)
			_, err = decodeSpec(id, out)
			assert.NoError(t, err)
		}
	})
}

// TestBook walks through what happens to one job.
func TestBook(t *testing.T) {
	at := func(seconds float64) time.Time { return time.Unix(0, int64(seconds*1e9)) }
	b := newBook()
	b.open("spec")
	for _, id := range []string{"a", "b"} {
		what, _, err := b.beat(at(0), beat{ID: id, Name: id})
		require.NoError(t, err)
		assert.Equal(t, nothing, what, "it loads")
		what, _, _ = b.beat(at(0), beat{ID: id, Name: id, Spec: "spec"})
		assert.Equal(t, joined, what)
	}
	b.beat(at(0), beat{ID: "c", Name: "c", Spec: "another"})
	assert.Equal(t, 2, b.alive())

	// 16 passes, each of two readings, for two workers are eight jobs of two; for one trial of one
	// reading there is one.
	trial := Trial{ID: 5, Rung: testRope.Identity(1024)}
	for r := range 16 {
		trial.Passes = append(trial.Passes, []int{2 * r, 2*r + 1})
	}
	jobs := b.begin([]Trial{trial})
	require.Len(t, jobs, 8)
	assert.Equal(t, [][]int{{28, 29}, {30, 31}}, jobs[7].Passes)
	trial.Passes = [][]int{{3}}
	jobs = b.begin([]Trial{trial})
	require.Len(t, jobs, 1)
	key := jobs[0].key()
	assert.Equal(t, 0, b.idle(), "a job waits")

	// A job is known to be slow only once something was answered.
	b.rates = []float64{1, 1, 50}
	b.beat(at(1), beat{ID: "a", Name: "a", Spec: "spec", Job: key, Ack: "ack-a"})
	assert.Equal(t, 1, b.idle())
	assert.Empty(t, b.slow(at(3.4)))
	assert.Equal(t, []string{"ack-a"}, b.slow(at(3.6)))
	assert.Empty(t, b.slow(at(3.7)), "it was handed on just now")
	b.beat(at(4), beat{ID: "b", Name: "b", Spec: "spec", Job: key, Ack: "ack-b"})
	assert.Empty(t, b.slow(at(99)), "nobody is idle")

	// b falls silent, and comes back.
	b.beat(at(9), beat{ID: "a", Name: "a", Spec: "spec", Job: key, Ack: "ack-a2"})
	gone, acks := b.silent(at(5))
	require.Len(t, gone, 2)
	assert.Equal(t, []string{"ack-b"}, acks)
	assert.Equal(t, 1, b.alive())
	gone, _ = b.silent(at(5))
	assert.Empty(t, gone, "said once")
	what, _, _ := b.beat(at(10), beat{ID: "b", Name: "b", Spec: "spec", Job: key, Ack: "ack-b"})
	assert.Equal(t, returned, what)

	// The first answer counts; the other worker is called off.
	a := answer{job: jobs[0], Losses: []float64{2.5}, Tokens: []int{9}, Worker: "b", ID: "b"}
	conflicts, others := b.answer(a)
	assert.Empty(t, conflicts)
	assert.Equal(t, []string{"a"}, others)
	a.Worker, a.ID, a.Losses = "a", "a", []float64{2.5000001}
	conflicts, others = b.answer(a)
	assert.Len(t, conflicts, 1)
	assert.Empty(t, others)
	assert.Equal(t, []Result{{ID: 5, Losses: []float64{2.5}, Tokens: 9}}, b.done())
	assert.Empty(t, b.done())
	assert.Empty(t, b.begin([]Trial{trial}), "it is known")
	assert.Len(t, b.done(), 1)
	assert.Equal(t, 2, b.lost, "b's first evaluation and a's")
	assertFailure(t, b, trial, at)
}

// assertFailure holds that a job that ends with a problem is off the book and free, and that one
// that is begun too often ends the search.
func assertFailure(t *testing.T, b *book, trial Trial, at func(seconds float64) time.Time) {
	t.Helper()
	trial.Passes = [][]int{{4}}
	key := b.begin([]Trial{trial})[0].key()
	b.beat(at(11), beat{ID: "a", Name: "a", Spec: "spec", Job: key, Ack: "ack"})
	what, acks, _ := b.beat(at(12), beat{ID: "a", Name: "a", Problem: "out of memory"})
	assert.Equal(t, failed, what)
	assert.Equal(t, []string{"ack"}, acks)
	for range maxDeliveries {
		_, _, err := b.beat(at(13), beat{ID: "b", Name: "b", Spec: "spec", Job: key, Ack: "ack"})
		if b.jobs[key].deliveries <= maxDeliveries {
			require.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, "trial 5 was begun 9 times")
		}
		b.beat(at(13), beat{ID: "b", Name: "b", Spec: "spec"})
	}
	assert.Equal(t, maxDeliveries+1, b.jobs[key].deliveries)
}

// Two workers of one name are two: an answer of one does not stand for the other's.
func TestSameName(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBook()
	b.open("spec")
	trial := Trial{ID: 5, Rung: testRope.Identity(1024), Passes: [][]int{{0}}}
	for _, id := range []string{"1", "2"} {
		b.beat(now, beat{ID: id, Name: "same", Spec: "spec"})
	}
	j := b.begin([]Trial{trial})[0]
	for _, id := range []string{"1", "2"} {
		b.beat(now, beat{ID: id, Name: "same", Spec: "spec", Job: j.key(), Ack: "ack-" + id})
	}
	for _, id := range []string{"1", "2"} {
		a := answer{job: j, Losses: []float64{2.5}, Tokens: []int{9}, Worker: "same", ID: id}
		require.NoError(t, a.check())
		conflicts, others := b.answer(a)
		assert.Empty(t, conflicts)
		if id == "1" {
			assert.Equal(t, []string{"2"}, others, "the other one is called off, not the first")
		}
	}
	nobody := answer{job: j, Losses: []float64{2.5}, Tokens: []int{9}, Worker: "same"}
	assert.ErrorContains(t, nobody.check(), "which worker")

	assert.Equal(t, []Share{{"same", 1, 9}}, b.shares(), "the second evaluated nothing new")
	trial.Passes = [][]int{{1}}
	j = b.begin([]Trial{trial})[0]
	b.answer(answer{job: j, Losses: []float64{2}, Tokens: []int{20}, Worker: "same", ID: "2"})
	assert.Equal(t, []Share{{"same", 2, 29}}, b.shares())
	assert.Equal(t, "same (2 processes) evaluated 100 %", Status{Shares: b.shares()}.Summary())
}
