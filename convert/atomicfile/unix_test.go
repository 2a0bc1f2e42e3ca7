//go:build unix

package atomicfile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	fi, err := os.Lstat(path)
	require.NoError(t, err)
	return fi.Mode()
}

// TestModes: a new file has what the umask leaves, an older one keeps its own.
func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	for umask, want := range map[int]fs.FileMode{
		0o022: 0o644, 0o077: 0o600, 0o002: 0o664,
		0: 0o666,
	} {
		t.Run(fmt.Sprintf("%03o", umask), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			syscall.Umask(umask)
			require.NoError(t, WriteBytes(path, nil))
			assert.Equal(t, want, mode(t, path))
			f, err := Temp(dir)
			require.NoError(t, err)
			f.Close()
			assert.Equal(t, want, mode(t, f.Name()))
			d, err := CreateDir(filepath.Join(dir, "folder"))
			require.NoError(t, err)
			require.NoError(t, WriteIn(filepath.Join(d.Temp, "in"),
				func(io.Writer) error { return nil }))
			require.NoError(t, d.Commit())
			assert.Equal(t, fs.ModeDir|fs.FileMode(0o777&^umask),
				mode(t, filepath.Join(dir, "folder")))
			assert.Equal(t, want, mode(t, filepath.Join(dir, "folder", "in")))
			for _, keep := range []fs.FileMode{0o600, 0o666, 0o640, 0o755, 0o400, 0} {
				require.NoError(t, os.Chmod(path, keep))
				require.NoError(t, Write(path, func(w io.Writer) error {
					fi, err := w.(*os.File).Stat()
					assert.Equal(t, keep, fi.Mode(),
						"nobody else sees the content before it has its name")
					return err
				}))
				assert.Equal(t, keep, mode(t, path))
			}
		})
	}
}

// TestLinks: a link stays a link; what it points to is written, or made.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "far", "sub")
	require.NoError(t, os.MkdirAll(sub, 0o755))
	link := func(target, name string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.Symlink(target, name))
		return name
	}
	file := filepath.Join(sub, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	link("far/sub", "folder")
	for name, c := range map[string]struct{ target, file string }{
		"absolute":             {file, file},
		"relative":             {"far/sub/file", file},
		"twice":                {"relative2", file},
		"dangling":             {"far/new1", filepath.Join(dir, "far", "new1")},
		"dangling absolute":    {filepath.Join(dir, "new2"), filepath.Join(dir, "new2")},
		"dangling twice":       {"dangling2", filepath.Join(dir, "far", "new4")},
		"back out of a folder": {"folder/../new3", filepath.Join(dir, "far", "new3")},
	} {
		t.Run(name, func(t *testing.T) {
			switch c.target {
			case "relative2":
				link("far/sub/file", "relative2")
			case "dangling2":
				link("far/new4", "dangling2")
			}
			path := link(c.target, name)
			require.NoError(t, Check(path))
			require.NoError(t, WriteBytes(path, []byte(name)))
			assert.Equal(t, fs.ModeSymlink, mode(t, path).Type())
			assert.Zero(t, mode(t, c.file).Type())
			assert.Equal(t, name, content(t, c.file))
		})
	}
	assert.Equal(t, fs.FileMode(0o600), mode(t, file), "through a link too")
	onlyFiles(t, sub, "file")
	onlyFiles(t, filepath.Join(dir, "far"), "sub", "new1", "new3", "new4")

	path := link("no/where", "into no folder")
	require.ErrorContains(t, WriteBytes(path, nil), "cannot write to the folder of "+path)
	// By way of a folder that is a link, in a relative path.
	t.Chdir(dir)
	require.NoError(t, WriteBytes("folder/other", nil))
	onlyFiles(t, sub, "file", "other")
}

// TestNoRegularFile: whatever else has a name stays what it is, and nothing blocks.
func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // a socket's name is short
	require.NoError(t, syscall.Mkfifo("fifo", 0o666))
	l, err := net.Listen("unix", "socket")
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, os.Symlink("fifo", "link"))
	paths := []string{"fifo", "socket", "link"}
	// A null device of one's own: were /dev/null renamed over, the machine would suffer.
	if syscall.Mknod("null", syscall.S_IFCHR|0o666, 1<<8|3) == nil {
		paths = append(paths, "null")
	}
	for _, path := range paths {
		before := mode(t, path)
		for _, err := range []error{Check(path), WriteBytes(path, []byte("b"))} {
			require.ErrorContains(t, err, path+": exists and is not a regular file")
		}
		assert.Equal(t, before, mode(t, path))
	}
	onlyFiles(t, dir, paths...)
	require.ErrorContains(t, Check(os.DevNull), "not a regular file")
}

// TestNameless: a file that has lost its name is no place for an output.
func TestNameless(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "gone"))
	require.NoError(t, err)
	defer f.Close()
	link := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	if _, err := os.Stat(link); err != nil {
		t.Skip("no /proc")
	}
	require.NoError(t, WriteBytes(link, []byte("by number")))
	assert.Equal(t, "by number", content(t, filepath.Join(dir, "gone")))
	require.ErrorContains(t, WriteBytes(link, nil), "a file without a name")
	onlyFiles(t, dir, "gone")
}

// TestDiskFull fills a real file system, where the test may mount one.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if b, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs",
		dir).CombinedOutput(); err != nil {
		t.Skipf("no small file system to fill: mount: %v: %s", err, b)
	}
	defer exec.Command("umount", dir).Run()
	path := filepath.Join(dir, "out")
	require.NoError(t, WriteBytes(path, []byte("before")))
	err := WriteBytes(path, make([]byte, 8<<20))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "cannot write "+path)
	require.ErrorContains(t, err, "free some space")
	assert.Equal(t, "before", content(t, path))
	onlyFiles(t, dir, "out")
}

// TestKill kills a process that writes without pause, while it writes one of its blocks; the file
// is whole each time.
func TestKill(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_TEST_KILL"); path != "" {
		for i := 0; ; i++ {
			b := bytes.Repeat([]byte{byte('a' + i%26)}, 1<<20)
			require.NoError(t, Write(path, func(w io.Writer) error {
				for len(b) > 0 {
					if _, err := w.Write(b[:1<<16]); err != nil {
						return err
					}
					b = b[1<<16:]
					fmt.Println("block")
				}
				return nil
			}))
		}
	}
	path := filepath.Join(t.TempDir(), "out")
	require.NoError(t, WriteBytes(path, bytes.Repeat([]byte{'-'}, 1<<20)))
	seen := map[byte]bool{}
	for i := range 20 {
		written := 0 // blocks, of which a file has 16
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_KILL="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		for blocks := bufio.NewScanner(out); blocks.Scan(); {
			if written++; written == 3+5*i {
				break
			}
		}
		require.NoError(t, cmd.Process.Kill())
		require.ErrorContains(t, cmd.Wait(), "killed")
		b := content(t, path)
		require.Len(t, b, 1<<20)
		require.Equal(t, 1<<20, bytes.Count([]byte(b), []byte(b[:1])))
		seen[b[0]] = true
	}
	t.Logf("%d kills", 20)
	assert.Greater(t, len(seen), 1, "nothing was written between the kills")
}
