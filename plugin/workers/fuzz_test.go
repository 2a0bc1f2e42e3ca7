package workers

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzControl: no message to all workers breaks one, none but its job's key, "*" or its end stops
// its evaluation, and what it says then has no control characters.
func FuzzControl(f *testing.F) {
	for _, c := range []control{
		{Cancel: "*"}, {Cancel: "key"}, {End: true}, {Out: "id", Why: "lies\x1b[2J"}, {Out: "another"},
	} {
		b, err := json.Marshal(c)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var why error
		cancelled := false
		s := &working{stop: func(err error) { why = err }, cancel: func() { cancelled = true }}
		s.state.ID, s.state.Job = "id", "key"
		s.control(&nats.Msg{Data: b})
		var c control
		if json.Unmarshal(b, &c) != nil {
			c = control{}
		}
		assert.Equal(t, c.Cancel == "*" || c.Cancel == "key", cancelled)
		assert.Equal(t, c.End || c.Out == "id", why != nil)
		if why != nil {
			assert.False(t, strings.ContainsFunc(why.Error(), func(r rune) bool { return r < ' ' }))
		}
	})
}

// FuzzWelcome: whatever answers a worker's first beat, it gets a printable specification or a
// printable refusal, or asks again.
func FuzzWelcome(f *testing.F) {
	for _, w := range []welcome{{Spec: "spec"}, {Refused: "another version\x1b[31m"}, {}} {
		b, err := json.Marshal(w)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		spec, again, err := decodeWelcome(b)
		switch {
		case err != nil:
			assert.Equal(t, printable(err.Error()), err.Error())
			assert.Empty(t, spec)
		case !again:
			assert.NotEmpty(t, spec)
			assert.Equal(t, printable(spec), spec)
		}
	})
}

// FuzzJob: a job that a worker takes has a name that does not depend on how it was written.
func FuzzJob(f *testing.F) {
	b, err := json.Marshal(job{
		Spec: "spec", Trial: 1, Rung: testRope.Identity(1024), Passes: [][]int{{0}, {2, 1}},
	})
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var j, again job
		if json.Unmarshal(b, &j) != nil {
			return
		}
		out, err := json.Marshal(j)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(out, &again))
		assert.Equal(t, j.key(), again.key())
	})
}
