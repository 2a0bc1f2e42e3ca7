package study

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRewind: a journal that is taken back to before a trial is that of a study that was killed
// there, and ends as if nothing had happened.
func TestRewind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.study")
	opts := Options{Rope: tiny, Target: 2048, Seed: 3, Readings: andFurtherKeys()}
	read := func() string {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(b)
	}
	tellMore := func(trials int) string {
		s, err := Open(path, opts)
		require.NoError(t, err)
		tellNoisy(t, s, trials, nil)
		require.NoError(t, s.Close())
		return read()
	}
	short, long := tellMore(9), tellMore(11)
	require.NoError(t, Rewind(path, 9))
	assert.True(t, short == read(), "the journal of nine trials")
	assert.True(t, long == tellMore(11), "and that of twenty")

	assert.ErrorContains(t, Rewind(path, 900), "trial 900 is not in the journal")
	require.NoError(t, os.WriteFile(path, []byte(short+"{\"id\": null}\n{"), 0o644))
	assert.ErrorContains(t, Rewind(path, 900), "trial 900 is not in the journal")
	assert.ErrorContains(t, Rewind(filepath.Dir(path), 1), "not a regular file")
	assert.ErrorIs(t, Rewind(path+"x", 1), os.ErrNotExist)
}
