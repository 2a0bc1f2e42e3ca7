package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// onlyFiles asserts what a folder holds.
func onlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	got := []string{}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	assert.ElementsMatch(t, want, got)
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

// TestFailureLeavesNothing: an error at any time leaves the folder as it was, and names the file
// that the user knows.
func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.json")
	require.NoError(t, os.WriteFile(path, []byte("before"), 0o644))
	mine := errors.New("the cable came out")
	for name, c := range map[string]struct {
		fail func(f *os.File) error
		want string // in the error
		is   error
	}{
		"of the caller": {func(f *os.File) error { return mine }, "the cable came out", mine},
		"in write": {func(f *os.File) error {
			f.Close()
			_, err := f.WriteString("more")
			return fmt.Errorf("row 7: %w", err)
		}, "cannot write " + path, os.ErrClosed},
		"in sync": {
			func(f *os.File) error { return f.Close() }, "cannot write " + path,
			os.ErrClosed,
		},
		"in rename": {
			func(f *os.File) error { return os.Remove(f.Name()) }, "cannot write " + path,
			os.ErrNotExist,
		},
		"a full disk": {func(f *os.File) error {
			return &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}, "free some space", syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			err := Write(path, func(w io.Writer) error {
				_, err := w.Write([]byte("half"))
				require.NoError(t, err)
				return c.fail(w.(*os.File))
			})
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), ".tmp", "a name that the user never saw")
			require.Equal(t, "before", content(t, path))
			onlyFiles(t, dir, "out.json")
		})
	}
	func() {
		defer func() { assert.Equal(t, "oh", recover()) }()
		Write(path, func(io.Writer) error { panic("oh") })
	}()
	onlyFiles(t, dir, "out.json")
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink("loop", loop))
	for path, want := range map[string]string{
		"":         "no name of a file",
		dir:        dir + " is a folder",
		dir + "/":  "no name of a file",
		file + "/": "no name of a file",
		filepath.Join(dir, "no", "x"): "cannot write to the folder of " +
			filepath.Join(dir, "no", "x"),
		filepath.Join(file, "x"):        "x: not a directory",
		loop:                            loop,
		filepath.Join(dir, "no/../x"):   "", // the same as x
		dir + "/no/../x":                "cannot write to the folder of",
		filepath.Join(dir, "a\x00byte"): "invalid argument",
	} {
		for _, err := range []error{Check(path), WriteBytes(path, []byte("b"))} {
			if want == "" {
				assert.NoError(t, err, path)
			} else {
				assert.ErrorContains(t, err, want, path)
			}
		}
		os.Remove(filepath.Join(dir, "x"))
		onlyFiles(t, dir, "file", "loop")
	}
}

// TestCheckLeavesNothing: it neither makes the file nor touches an older one.
func TestCheckLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	require.NoError(t, Check(path))
	onlyFiles(t, dir)
	require.NoError(t, os.WriteFile(path, []byte("before"), 0o600))
	require.NoError(t, Check(path))
	assert.Equal(t, "before", content(t, path))
	onlyFiles(t, dir, "out")
}

func TestNamed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Symlink("elsewhere/gone", filepath.Join(dir, "b")))
	for _, name := range []string{"a", "b", ""} {
		require.NoError(t, WriteNamed(dir, func(w io.Writer) (string, error) {
			_, err := w.Write([]byte("content of " + name))
			return name, err
		}))
	}
	onlyFiles(t, dir, "a", "b")
	assert.Equal(t, "content of a", content(t, filepath.Join(dir, "a")))
	assert.Equal(t, "content of b", content(t, filepath.Join(dir, "b")))
	mine := errors.New("mine")
	require.ErrorIs(t, WriteNamed(dir, func(io.Writer) (string, error) { return "c", mine }), mine)
	require.ErrorIs(t, WriteNamed(filepath.Join(dir, "no"), nil), os.ErrNotExist)
	onlyFiles(t, dir, "a", "b")
}

// TestWritersToOnePath: the file is always whole, and no writer is refused.
func TestWritersToOnePath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("out", path))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				assert.NoError(t, WriteBytes(path, bytes.Repeat([]byte{byte('a' + i)}, 4096)))
				b, err := os.ReadFile(path)
				assert.NoError(t, err)
				assert.Len(t, b, 4096)
				assert.Equal(t, 4096, bytes.Count(b, b[:1]))
			}
		}()
	}
	wg.Wait()
	onlyFiles(t, dir, "link", "out")
}

func TestDir(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "out")
	d, err := CreateDir(path)
	require.NoError(t, err)
	require.NoError(t, WriteIn(filepath.Join(d.Temp, "a"), func(w io.Writer) error {
		_, err := io.WriteString(w, "one")
		return err
	}))
	require.ErrorIs(t, WriteIn(filepath.Join(d.Temp, "a"), nil), os.ErrExist)
	mine := errors.New("mine")
	require.ErrorIs(t, WriteIn(filepath.Join(d.Temp, "b"), func(io.Writer) error { return mine }),
		mine)
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, d.Commit())
	require.NoError(t, d.Discard())
	onlyFiles(t, parent, "out")
	assert.Equal(t, "one", content(t, filepath.Join(path, "a")))

	d, err = CreateDir(path)
	require.NoError(t, err)
	err = d.Commit()
	require.ErrorContains(t, err, "cannot write "+path)
	require.False(t, strings.Contains(err.Error(), ".tmp"))
	require.NoError(t, d.Discard())
	onlyFiles(t, parent, "out")
	_, err = CreateDir(filepath.Join(parent, "no", "out"))
	require.ErrorContains(t, err, "cannot write to the folder of")
}
