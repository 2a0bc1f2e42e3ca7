package journal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	_ "github.com/longrope/longrope/evals/choice"
	_ "github.com/longrope/longrope/evals/longppl"
	_ "github.com/longrope/longrope/evals/ruler"
	"github.com/longrope/longrope/evals/tasktest"
)

// interrupted ends after some calls.
type interrupted struct {
	*tasktest.Engine
	left int
}

var errInterrupted = errors.New("interrupted")

func (e *interrupted) spend() error {
	if e.left--; e.left < 0 {
		return errInterrupted
	}
	return nil
}

func (e *interrupted) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	if err := e.spend(); err != nil {
		return nil, err
	}
	return e.Engine.NLL(ctx, tokens, from)
}

func (e *interrupted) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	if err := e.spend(); err != nil {
		return nil, err
	}
	return e.Engine.Generate(ctx, tokens, n)
}

// run measures a task on e.
func run(t *testing.T, task evals.Task, e evals.Engine) (*evals.Comparison, error) {
	lengths := []int{3000, 4000}
	if task.Short {
		lengths = []int{0, 128}
	}
	var args []string
	if task.Group == "ruler" || task.Group == "keyvalue" {
		args = []string{"--limit", "3"}
	}
	c, err := evals.Compare(context.Background(), e, []evals.Method{
		{Name: "stock"}, {Name: "long", Ladder: tasktest.LadderTo(4000)},
	}, evals.CompareOptions{
		Jobs: []evals.Job{tasktest.Job(t, task, args...)}, Lengths: lengths,
		Books: func(n int) ([]evals.Text, error) {
			return []evals.Text{tasktest.Book(2 * n)}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	c.Started, c.Duration = time.Time{}, 0
	for _, r := range c.Tasks[0].Results {
		r.About().Started, r.About().Duration = time.Time{}, 0
	}
	return c, nil
}

// text is a comparison as JSON.
func text(t *testing.T, c *evals.Comparison) string {
	var b bytes.Buffer
	require.NoError(t, evals.WriteJSON(&b, c))
	return b.String()
}

// A run that was interrupted, again and again, ends with the result of one that was not, and no
// call is computed twice.
func TestResumes(t *testing.T) {
	for _, task := range evals.Tasks() {
		whole := tasktest.New(tasktest.Bytes{BOS: true})
		want, err := run(t, task, whole)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "x.journal")
		computed, taken := 0, 0
		for attempt := 0; ; attempt++ {
			e := &interrupted{tasktest.New(tasktest.Bytes{BOS: true}), 1 + attempt*5}
			j, err := Open(path, e)
			require.NoError(t, err)
			got, err := run(t, task, j)
			computed += len(e.Calls)
			taken = j.Taken
			require.NoError(t, j.Close())
			if err == nil {
				require.Equal(t, text(t, want), text(t, got), task.Name)
				break
			}
			require.ErrorIs(t, err, errInterrupted)
			// killed while it wrote
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteString(`{"key":"ab`)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		assert.LessOrEqual(t, computed, len(whole.Calls), task.Name)
		assert.Positive(t, taken, task.Name)
	}
}

// Another model, host, ladder or number has no answer in the journal.
func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.journal")
	e := tasktest.New(tasktest.Bytes{})
	ctx := context.Background()
	ask := func(e evals.Engine, n int, ladder int, tokens ...int) int {
		j, err := Open(path, e)
		require.NoError(t, err)
		defer j.Close()
		if ladder > 0 {
			require.NoError(t, j.SetLadder(tasktest.LadderTo(ladder)))
		}
		_, err = j.Generate(ctx, tokens, n)
		require.NoError(t, err)
		return j.Computed
	}
	assert.Equal(t, 1, ask(e, 5, 0, 1, 2, 3))
	assert.Equal(t, 0, ask(e, 5, 0, 1, 2, 3))
	assert.Equal(t, 1, ask(e, 6, 0, 1, 2, 3))
	assert.Equal(t, 1, ask(e, 5, 0, 1, 23))
	assert.Equal(t, 1, ask(e, 5, 900, 1, 2, 3))
	assert.Equal(t, 1, ask(other{e}, 5, 0, 1, 2, 3))
	assert.Equal(t, 0, ask(other{e}, 5, 0, 1, 2, 3))
}

type other struct{ *tasktest.Engine }

func (o other) Info() evals.Info {
	i := o.Engine.Info()
	i.Digest = "sha256:1"
	return i
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	e := tasktest.New(tasktest.Bytes{})
	for text, want := range map[string]string{
		"a text that is somebody's\n":       "no journal of an evaluation",
		"somebody's, without an end at all": "no journal of an evaluation",
		header + "\n{\n" + header + "\n":    "line 2 is damaged",
		header + "\n{}\n":                   "line 2 is damaged",
	} {
		path := filepath.Join(dir, "x")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		_, err := Open(path, e)
		require.ErrorContains(t, err, want)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, text, string(left), "it is left alone")
	}
	_, err := Open(dir, e)
	require.ErrorContains(t, err, "no regular file")
	_, err = Open(filepath.Join(dir, "none", "x"), e)
	require.Error(t, err)
}

// TestNothing: a journal without a call leaves no file behind.
func TestNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.journal")
	j, err := Open(path, tasktest.New(tasktest.Bytes{BOS: true}))
	require.NoError(t, err)
	require.FileExists(t, path)
	require.NoError(t, j.Close())
	require.NoFileExists(t, path)
}
