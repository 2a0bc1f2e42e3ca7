//go:build linux

package atomicfile

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSweep: what a killed process left is removed, and nothing that is in use or somebody else's.
func TestSweep(t *testing.T) {
	if dir := os.Getenv("ATOMICFILE_TEST_SWEEP"); dir != "" {
		d, err := CreateDir(filepath.Join(dir, "folder"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(d.Temp, "x"), nil, 0o644))
		require.NoError(t, Write(filepath.Join(dir, "out"), func(io.Writer) error {
			os.Stdout.WriteString("writing\n")
			time.Sleep(time.Hour) // select {} would be a deadlock, which ends the process
			return nil
		}))
		runtime.KeepAlive(d) // its lock
	}
	defer func(d time.Duration) { minAge = d }(minAge)
	minAge = 0
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSweep$")
	cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_SWEEP="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 8))
	require.NoError(t, err)
	assert.Empty(t, Sweep(dir), "both are in use")
	require.NoError(t, cmd.Process.Kill())
	cmd.Wait()
	mine := filepath.Join(dir, ".longrope-mine.tmp")
	require.NoError(t, os.WriteFile(mine, nil, 0o644))
	minAge = time.Hour
	assert.Empty(t, Sweep(dir), "too young")
	minAge = 0
	require.NoError(t, Write(filepath.Join(dir, "other"), func(io.Writer) error {
		assert.Len(t, Sweep(dir), 2, "a file and a folder, not the one at hand")
		return nil
	}))
	onlyFiles(t, dir, ".longrope-mine.tmp", "other")
}

// TestPipes: a pipe in the place of a file is refused before it is opened.
func TestPipes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o644))
	_, err := Open(path)
	assert.ErrorContains(t, err, "pipe: not a regular file")
	_, err = Read(path)
	assert.ErrorContains(t, err, "pipe: not a regular file")
	_, err = Open(path + "x")
	assert.ErrorIs(t, err, os.ErrNotExist)
}
