//go:build linux

package study

import (
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDiskFull fills the file system of a journal, where the test may mount one, again and again:
// the search ends with an error that names the journal, and resumes once there is space. Its
// factors are those of a search that always had some.
func TestDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.Mkdir(dir, 0o755))
	if b, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs",
		dir).CombinedOutput(); err != nil {
		t.Skipf("no small file system to fill: mount: %v: %s", err, b)
	}
	defer exec.Command("umount", dir).Run()
	opts := Options{Rope: tiny, Target: 2048, Seed: 1, Budget: 60}
	whole := newStudy(t, opts)
	run(t, whole, bowl, 0, nil)
	want, err := whole.Ladder()
	require.NoError(t, err)

	path, filler := filepath.Join(dir, "s.jsonl"), filepath.Join(dir, "filler")
	rng := rand.New(rand.NewPCG(1, 2))
	full := 0
	for {
		_ = os.Remove(filler)
		s, err := Open(path, opts)
		require.NoError(t, err)
		stop := rng.IntN(6)
		for err == nil && !s.Done() {
			for _, trial := range s.Ask() {
				if stop--; stop == 0 {
					fill(t, filler)
				}
				losses := slices.Repeat([]float64{math.Log(bowl(trial.Rung))}, len(trial.Readings))
				if err = s.Tell(trial.ID, losses, 100+trial.ID); err != nil {
					break
				}
			}
		}
		if err == nil {
			require.True(t, s.Done())
			got, err := s.Ladder()
			require.NoError(t, err)
			assert.Equal(t, want, got)
			require.NoError(t, s.Close())
			break
		}
		full++
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, path)
		s.Close()
	}
	t.Logf("the disk was full %d times", full)
	assert.Positive(t, full)
}

// fill leaves no byte free on the file system of path.
func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
}
