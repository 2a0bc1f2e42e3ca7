package tasktest

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
)

// reserved are the keys of a comparison that no task may be called by.
var reserved = []string{
	"schema_version", "task", "task_version", "method", "ladder_digest",
	"engine", "seed", "args_given", "args", "evaluated_tokens", "started", "duration_s", "rows",
	"lengths", "all",
}

// Check holds a task to what is true of every task: it describes itself wholly, is prepared without
// a model call, gives the same bytes for the same seed, writes tables that can be read, and leaves
// no placeholder in a prompt.
func Check(t *testing.T, task evals.Task) {
	t.Run("description", func(t *testing.T) { description(t, task) })
	t.Run("flags", func(t *testing.T) { flags(t, task) })
	t.Run("preparation", func(t *testing.T) { preparation(t, task) })
	t.Run("results", func(t *testing.T) { results(t, task) })
	t.Run("prompts", func(t *testing.T) { prompts(t, task) })
}

func description(t *testing.T, task evals.Task) {
	assert.Regexp(t, `^[a-z][a-z0-9_]*$`, task.Name)
	assert.NotContains(t, reserved, task.Name)
	assert.Positive(t, task.Version, "a version is set")
	assert.Regexp(t, `^[^\n]{10,70}[^.\n]$`, task.Help, "a line of help")
	assert.Equal(t, task.Name, task.New().Task())
	assert.NotSame(t, task.New(), task.New(), "each job has settings of its own")
	found, err := evals.TaskByName(task.Name)
	require.NoError(t, err)
	assert.Equal(t, task.Help, found.Help)

	require.NotEmpty(t, task.Columns)
	require.NotEmpty(t, task.Table, "people see a figure")
	seen := map[string]bool{"method": true, "length": true}
	for _, other := range evals.Tasks() {
		for _, name := range other.Columns {
			if other.Name == task.Name || other.All > 0 && task.All > 0 {
				assert.False(t, seen[name] && other.Name == task.Name, "column %s stands twice",
					name)
			}
			if other.All > 0 && task.All > 0 || other.Name == task.Name {
				seen[name] = true
			}
		}
	}
	require.NotEmpty(t, task.Sheets)
	assert.Empty(t, task.Sheets[0].Name, "the first sheet has the task's rows")
	assert.True(t, slices.ContainsFunc(task.Sheets, func(s evals.Sheet) bool {
		return s.Name == "trials"
	}), "one sheet has the trials")
	for _, s := range task.Sheets {
		require.Equal(t, []string{"method", "length"}, s.Header[:2], "sheet %q", s.Name)
		assert.Len(t, slices.Compact(slices.Sorted(slices.Values(s.Header))), len(s.Header))
	}
}

// flagSet are the flags of a job of the task.
func flagSet(j evals.Job) *pflag.FlagSet {
	f := pflag.NewFlagSet(j.Task(), pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	j.Flags(f)
	return f
}

func flags(t *testing.T, task evals.Task) {
	f := flagSet(task.New())
	f.VisitAll(func(f *pflag.Flag) {
		assert.Regexp(t, `^[a-z]+(-[a-z]+)*$`, f.Name)
		assert.Regexp(t, "^[A-Z`].{3,}[^.]$", f.Usage, "--%s", f.Name)
	})
	for _, x := range task.Example {
		assert.NotNil(t, f.Lookup(x.Flag), "a flag for the example file")
	}
}

// Job is a job of the task with its example files, and flags in addition.
func Job(t *testing.T, task evals.Task, args ...string) evals.Job {
	t.Helper()
	j, err := TryJob(t, task, args...)
	require.NoError(t, err)
	return j
}

// TryJob is Job with the error of what the flags name.
func TryJob(t *testing.T, task evals.Task, args ...string) (evals.Job, error) {
	t.Helper()
	dir := t.TempDir()
	for _, x := range task.Example {
		path := filepath.Join(dir, x.Name)
		require.NoError(t, os.WriteFile(path, []byte(x.Text), 0o644))
		args = append(args, "--"+x.Flag, path)
	}
	j := task.New()
	require.NoError(t, flagSet(j).Parse(args))
	return j, j.Load()
}

// lengths are two that every task can run at on Engine.
func lengths(task evals.Task) []int {
	if task.Short {
		return []int{0, 128}
	}
	return []int{3000, 4000}
}

// Book is a text of n bytes: letters in their order, in sentences, for tasks that nobody gave one.
func Book(n int) evals.Text {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "Abcdefgh ijk lmno number %d pqr. ", i)
	}
	return evals.Text{Name: "book.txt", Body: b.String()}
}

func books(length int) ([]evals.Text, error) { return []evals.Text{Book(2 * length)}, nil }

func preparation(t *testing.T, task evals.Task) {
	e := New(Bytes{BOS: true})
	s := evals.Setup{Engine: e, Lengths: lengths(task), Books: books}
	p, err := Job(t, task).Prepare(s)
	require.NoError(t, err)
	assert.Empty(t, e.Calls, "before the first model call")
	assert.Positive(t, p.Calls)
	require.NotNil(t, p.Run)
	_, err = json.Marshal(p.Args)
	require.NoError(t, err)

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Run(ended, evals.Method{Name: "stock"}, nil)
	require.ErrorIs(t, err, context.Canceled)
	if !task.Short {
		e.Most = 3999
		_, err = Job(t, task).Prepare(s)
		require.ErrorContains(t, err, "4000", "a length that the engine was not opened for")
	}
}

// compare runs the task on a new engine.
func compare(t *testing.T, task evals.Task, e *Engine, args ...string) *evals.Comparison {
	t.Helper()
	last, all := 0, 0
	methods := []evals.Method{{Name: "stock"}, {Name: "long", Ladder: LadderTo(4000)}}
	c, err := evals.Compare(context.Background(), e, methods, evals.CompareOptions{
		Lengths: lengths(task), Jobs: []evals.Job{Job(t, task, args...)}, Books: books,
		Progress: func(done, total int, label string) {
			assert.GreaterOrEqual(t, done, last, "progress never goes back")
			assert.NotEmpty(t, label)
			last, all = done, total
		},
	})
	require.NoError(t, err)
	assert.Equal(t, all, last, "progress ends at its total")
	return c
}

// timeless is a comparison as JSON, without what differs from run to run.
func timeless(t *testing.T, c *evals.Comparison) string {
	t.Helper()
	strip := func(p *evals.Provenance) { p.Started, p.Duration = time.Time{}, 0 }
	strip(&c.Provenance)
	for _, r := range c.Tasks[0].Results {
		strip(r.About())
	}
	var b bytes.Buffer
	require.NoError(t, evals.WriteJSON(&b, c))
	return b.String()
}

func results(t *testing.T, task evals.Task) {
	c := compare(t, task, New(Bytes{BOS: true}))
	one := timeless(t, c)
	again := compare(t, task, New(Bytes{BOS: true}))
	assert.Equal(t, one, timeless(t, again), "same seed, same bytes")
	if c.Seed != 0 {
		other := compare(t, task, New(Bytes{BOS: true}), "--seed", "2")
		assert.NotEqual(t, one, timeless(t, other), "another seed")
	}
	back := new(evals.Comparison)
	require.NoError(t, json.Unmarshal([]byte(one), back))
	assert.JSONEq(t, one, timeless(t, back), "read and written again")

	require.GreaterOrEqual(t, len(c.Rows), 2)
	for _, r := range c.Tasks[0].Results {
		p := r.About()
		assert.Equal(t, task.Name, p.Task)
		assert.Equal(t, task.Version, p.TaskVersion)
		assert.Equal(t, "fake", p.Engine.Model)
		assert.Positive(t, p.EvaluatedTokens)
		assert.NotNil(t, p.Args)
		for _, f := range r.Figures(nil) {
			assert.Contains(t, lengths(task), f.Length)
			assert.Len(t, f.Values, len(task.Columns), "a value or nil for each column")
			assert.NotNil(t, f.Values[0])
		}
	}
	for _, row := range c.Rows {
		text := ""
		for _, cell := range task.Table {
			assert.NotEmpty(t, cell.Head)
			text += cell.Text(row)
		}
		assert.NotEmpty(t, text)
		for _, cell := range task.Table {
			assert.Empty(t, cell.Text(evals.Row{}), "nothing was measured, nothing is said")
		}
	}
	for _, s := range task.Sheets {
		var b bytes.Buffer
		require.NoError(t, c.Tasks[0].WriteCSV(&b, s))
		rows, err := csv.NewReader(&b).ReadAll()
		require.NoError(t, err, "every row has as many cells as the header")
		assert.Equal(t, s.Header, rows[0])
		assert.GreaterOrEqual(t, len(rows), 1+len(c.Tasks[0].Results))
		for _, row := range rows[1:] {
			assert.Contains(t, []string{"stock", "long"}, row[0])
		}
	}
}

// placeholder is what was to be replaced by something.
var placeholder = regexp.MustCompile(`\{[A-Za-z_]+\}|%!|%[sdvq]|<nil>`)

func prompts(t *testing.T, task evals.Task) {
	for _, args := range append([][]string{nil}, task.Variants...) {
		e := New(Bytes{BOS: true})
		e.Keep = true
		compare(t, task, e, args...)
		require.NotEmpty(t, e.Texts)
		for _, text := range e.Texts {
			require.Empty(t, placeholder.FindString(text), "%v: in %q", args, text)
		}
	}
}
