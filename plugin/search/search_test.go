package search

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// recorder is Events that keeps what it is shown. It stops the search where a test wants.
type recorder struct {
	said      []string
	order     []string // of the events, each kind once in a row
	standings []Standing
	beat      []Score
	found     *ropescale.Ladder
	stop      func(event string)
	full      error // of Found
}

func (r *recorder) note(event string) {
	if len(r.order) == 0 || r.order[len(r.order)-1] != event {
		r.order = append(r.order, event)
	}
	if r.stop != nil {
		r.stop(event)
	}
}

func (r *recorder) Say(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Progress(p Progress) {
	r.note(p.Label)
	if p.Standing != nil {
		r.standings = append(r.standings, *p.Standing)
	}
}

func (r *recorder) ToBeat(methods []Score) {
	r.note("to beat")
	r.beat = methods
}

func (r *recorder) Found(l *ropescale.Ladder) error {
	r.note("found")
	r.found = l
	return r.full
}

// tinyOptions are those of a short search on the model of searchtest.
func tinyOptions(t *testing.T) (Engine, Options) {
	e, info := openTiny(t, 512)
	return e, Options{
		Model: "tiny", Info: info, Targets: []int{512}, Windows: 2, Seed: 1, Tokens: 40 << 10,
		Journal: filepath.Join(t.TempDir(), "x.study"),
	}
}

// TestSearch: a search needs no command. It shows the methods, then its progress, hands over the
// ladder before the held-out text is evaluated in full, and is resumed by the same options.
func TestSearch(t *testing.T) {
	e, o := tinyOptions(t)
	var all recorder
	r, err := Search(t.Context(), e, o, &all)
	require.NoError(t, err)
	assert.Equal(t, []string{"search", "to beat", "search", "found", "held-out text"}, all.order)
	assert.Same(t, r.Ladder, all.found)
	assert.True(t, r.Complete)
	rows := r.Rungs[0].Rows
	rival := r.Rungs[0].byInterest()[1]
	for i, m := range all.beat {
		assert.Equal(t, rows[i].Method, m.Origin)
		assert.Equal(t, *rows[i].Fitness, m.Fitness)
		assert.GreaterOrEqual(t, m.Fitness, all.beat[rival].Fitness)
	}
	last := all.standings[len(all.standings)-1]
	assert.Less(t, last.Best.Fitness, last.Rival.Fitness)
	for _, k := range []int{rival, len(rows) - 1} {
		assert.NotNil(t, rows[k].HeldOut, "%s is measured, whatever the share", rows[k].Method)
	}
	measured := 0
	for _, row := range rows {
		if row.HeldOut != nil {
			measured++
		}
	}
	assert.Less(t, measured, len(rows), "the share is too small for all")

	again, err := Search(t.Context(), e, o, &recorder{})
	require.NoError(t, err)
	assert.Equal(t, r.Ladder, again.Ladder)
	assert.Equal(t, r.HeldOutTokens, again.HeldOutTokens, "nothing is evaluated twice")
	assert.Equal(t, rows, again.Rungs[0].Rows)

	full := errors.New("the disk is full")
	_, err = Search(t.Context(), e, o, &recorder{full: full})
	assert.ErrorIs(t, err, full)
}

// TestInterrupted: a context that ends leaves the trials in the journal, or near the end the result
// without the held-out text.
func TestInterrupted(t *testing.T) {
	e, o := tinyOptions(t)
	stopAt := func(event string) (*Result, *recorder, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := &recorder{stop: func(at string) {
			if at == event {
				cancel()
			}
		}}
		result, err := Search(ctx, e, o, r)
		return result, r, err
	}
	result, _, err := stopAt("to beat")
	var cut *Interrupted
	require.ErrorAs(t, err, &cut)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Nil(t, result)
	assert.Equal(t, o.Journal, cut.Journal)
	assert.Equal(t, len(ropescale.SeedNames("cma", o.Info.Rope(), 512)), cut.Trials)

	result, r, err := stopAt("found")
	assert.ErrorIs(t, err, context.Canceled)
	require.NotNil(t, result)
	assert.NotNil(t, r.found)
	rows := result.Rungs[0].Rows
	assert.Nil(t, rows[len(rows)-1].HeldOut)
	assert.Contains(t, strings.Join(r.said, "\n"), "interrupted before the held-out text")

	result, _, err = stopAt("")
	require.NoError(t, err)
	rows = result.Rungs[0].Rows
	assert.NotNil(t, rows[len(rows)-1].HeldOut)
}

// TestNames: an error names an option as the user calls it, or else by its field, and every name in
// the code is a field.
func TestNames(t *testing.T) {
	e, o := tinyOptions(t)
	o.Keys = 10
	_, err := Search(t.Context(), e, o, &recorder{})
	assert.EqualError(t, err, "Keys is 10; give 1 to 9")
	o.Called = Names{"Keys": "--keys"}
	_, err = Search(t.Context(), e, o, &recorder{})
	assert.EqualError(t, err, "--keys is 10; give 1 to 9")

	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	named := regexp.MustCompile(`Called\.(?:Of|Wrong)\(\s*"(\w+)"`)
	count := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range named.FindAllSubmatch(b, -1) {
			_, ok := reflect.TypeFor[Options]().FieldByName(string(m[1]))
			assert.True(t, ok, "%s: %s is no option", file, m[1])
			count++
		}
	}
	assert.Greater(t, count, 10)
}
