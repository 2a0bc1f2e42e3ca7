package hiddenkeys

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/tasktest"
)

func TestTask(t *testing.T) {
	task, err := evals.TaskByName(name)
	require.NoError(t, err)
	tasktest.Check(t, task)
}

// TestLosses: text and keys are what the engine says of them, the keys' sentences are no text, and
// the change is that on the same windows.
func TestLosses(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{BOS: true})
	text := evals.Text{Name: "sea", Body: strings.Repeat("Abcdefgh ijklm, nopq. ", 600)}
	o := &options{Texts: []evals.Text{text}, MaxWindows: 2, Keys: 3, Seed: 5}
	c, err := evals.Compare(context.Background(), e, []evals.Method{
		{Name: "short", Ladder: tasktest.LadderTo(2000)},
		{Name: "long", Ladder: tasktest.LadderTo(4000)},
	}, evals.CompareOptions{Lengths: []int{4000}, Jobs: []evals.Job{o}})
	require.NoError(t, err)
	results := evals.ResultsOf[*Result](c)
	require.Len(t, results, 2)
	short, long := results[0], results[1]
	require.Len(t, long.Details, 2)
	all, err := o.windows(e, 4000)
	require.NoError(t, err)
	for i, w := range all {
		sum, n, beyond := 0.0, 0, 0
		for _, s := range w.Forked.Text {
			for at := s.From; at < s.To; at++ {
				sum += tasktest.Bigram(w.Tokens[at-1], w.Tokens[at])
				if at >= 2000 {
					beyond++
				}
				n++
			}
		}
		assert.InDelta(t, sum/float64(n), long.Details[i].TextNLL, 1e-9)
		penalty := tasktest.Penalty * float64(beyond) / float64(n)
		assert.InDelta(t, long.Details[i].TextNLL+penalty, short.Details[i].TextNLL, 1e-9)
		require.Len(t, long.Details[i].KeyNLL, 3)
		for k := range 3 {
			assert.InDelta(t, long.Details[i].KeyNLL[k]+tasktest.Penalty,
				short.Details[i].KeyNLL[k], 1e-9, "the answer is beyond the reach")
		}
	}
	row := c.Rows[1]
	assert.InDelta(t, -tasktest.Penalty, *row.Figure("keys_change"), 1e-9)
	assert.InDelta(t, 0, *row.Figure("keys_change_stderr"), 1e-9)
	assert.Negative(t, *row.Figure("text_change"))
	assert.Equal(t, 6, long.Lengths[0].Keys)
	assert.Equal(t, 2, long.Lengths[0].Windows)
	assert.Nil(t, c.Rows[0].Figure("keys_change"), "the first is what others are compared with")
}

func TestBadSettings(t *testing.T) {
	template := evals.Templates()[0].Name
	for want, o := range map[string]options{
		"--windows is -1": {MaxWindows: -1, Keys: 1, template: template},
		"--keys is 0":     {template: template},
		"--keys is 91":    {Keys: 91, template: template},
		"--template":      {Keys: 1, template: "riddle"},
		"--text":          {Keys: 1, template: template, files: []string{"none.txt"}},
	} {
		require.ErrorContains(t, o.Load(), want)
	}
	e := tasktest.New(tasktest.Bytes{BOS: true})
	_, err := (&options{}).Prepare(evals.Setup{Engine: e, Lengths: []int{4000}})
	require.ErrorContains(t, err, "no text to hide keys in")
}
