// Package atomicfile makes files and folders that appear whole or not at all. Every output of this
// project goes through it: models, factors, tables, pictures, reports.
//
// A file is written under a temporary name in the folder of its destination, synced, renamed, and
// the folder is synced. Until the rename an older file stays as it was; on any error the temporary
// file is removed. Of two writers to one path the last to finish wins, and neither sees the other's
// bytes.
//
// A new file has the mode 0666 less the umask; a file that replaces another keeps the mode of the
// older one. A symbolic link is followed, also one that points to a file that does not exist yet. A
// folder, a device, a pipe or a socket is refused: a rename would destroy it.
//
// Why not a module: github.com/google/renameio v2.0.2 neither syncs the folder, nor follows links,
// nor refuses devices, and has no Windows; github.com/natefinch/atomic v1.0.1 makes new files
// private and does not sync the folder either. Both replace a link by a file.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Write makes the file path with what write gives to w, which is an *os.File. Errors of the file
// name path. Errors of write's own come back as they are.
func Write(path string, write func(w io.Writer) error) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	defer f.discard()
	if err := write(f.File); err != nil {
		return f.explain(err)
	}
	return f.commit()
}

// WriteBytes makes the file path with the content b.
func WriteBytes(path string, b []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// WriteNamed is Write for a file in dir whose name depends on its content: write returns the name
// once it has written everything, or "" where the file is not wanted after all. A file or link of
// that name is replaced.
func WriteNamed(dir string, write func(w io.Writer) (name string, err error)) error {
	f, err := create(filepath.Join(dir, "new file"))
	if err != nil {
		return err
	}
	defer f.discard()
	name, err := write(f.File)
	if err != nil {
		return f.explain(err)
	}
	if name == "" {
		return nil
	}
	f.path = filepath.Join(dir, name)
	f.to = filepath.Join(filepath.Dir(f.to), name)
	return f.commit()
}

// Check is the error that Write would give for path before it asks for any content. A program calls
// it before it computes for hours.
func Check(path string) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	return f.discard()
}

// file is a temporary file that becomes another.
type file struct {
	*os.File
	path string // what the user calls it
	to   string // path with links followed
	done bool   // renamed or removed
}

func create(path string) (*file, error) {
	to, old, err := resolve(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, to: to}
	perm := fs.FileMode(0o666)
	if old != nil {
		perm = old.Mode().Perm()
	}
	err = withName(filepath.Dir(to), func(name string) (err error) {
		f.File, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot write to the folder of %s: %w", path, cause(err))
	}
	_ = lock(f.File) // for Sweep; without locks that removes nothing
	// The umask may have taken bits from the older file's mode.
	if old != nil {
		if err := f.Chmod(perm); err != nil {
			return nil, errors.Join(f.explain(err), f.discard())
		}
	}
	return f, nil
}

// commit has the file on disk under its name. After an error nothing of it remains.
func (f *file) commit() error {
	err := f.Sync()
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(f.Name(), f.to)
	}
	if err != nil {
		return errors.Join(f.explain(err), f.discard())
	}
	f.done = true
	syncDir(filepath.Dir(f.to))
	return nil
}

// discard removes the file unless it was committed.
func (f *file) discard() error {
	if f.done {
		return nil
	}
	f.done = true
	f.Close() // commit may have closed it
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// explain names the file that the user asked for in place of the temporary one.
func (f *file) explain(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	if errors.As(err, &pe) && pe.Path == f.Name() || errors.As(err, &le) && le.Old == f.Name() {
		err = fmt.Errorf("cannot write %s: %w", f.path, cause(err))
	}
	return Hint(err)
}

// cause is the error of the system inside an error of package os.
func cause(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}

// Unnamed is an error without the name of a temporary file, which a user does not know.
func Unnamed(err error, temp string) error {
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Path == temp {
		return fmt.Errorf("cannot %s a temporary file in %s: %w", pe.Op, filepath.Dir(temp), pe.Err)
	}
	if err == nil || !strings.Contains(err.Error(), temp) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), temp, "a temporary file"))
}

// Hint adds to the error of a full disk how to mend it.
func Hint(err error) error {
	if isDiskFull(err) {
		return fmt.Errorf("%w: nothing was written; free some space or choose another folder for "+
			"the output", err)
	}
	return err
}

// resolve follows links from path to the file that is meant. old describes it, nil where there is
// none yet.
func resolve(path string) (to string, old fs.FileInfo, err error) {
	if path == "" || os.IsPathSeparator(path[len(path)-1]) {
		return "", nil, fmt.Errorf("%q is no name of a file", path)
	}
	// Another writer may replace the file between two looks at it.
	for range 10 {
		old, err = os.Stat(path)
		switch {
		case err != nil: // follow says what is wrong
		case old.IsDir():
			return "", nil, fmt.Errorf("%s is a folder, not a regular file; give a file's name",
				path)
		case !old.Mode().IsRegular():
			return "", nil, fmt.Errorf("%s: exists and is not a regular file", path)
		}
		to, end, err := follow(path)
		if err != nil {
			return "", nil, err
		}
		if old == nil && end == nil || old != nil && end != nil && os.SameFile(old, end) {
			return to, old, nil
		}
	}
	return "", nil, fmt.Errorf("cannot write %s: it links to a file without a name, or changes "+
		"all the time", path)
}

// maxLinks is how many links are followed, as Linux does.
const maxLinks = 40

// follow returns where a chain of links ends, which need not exist: then end is nil.
func follow(path string) (to string, end fs.FileInfo, err error) {
	to = path
	for range maxLinks {
		dir, base := filepath.Split(to) // filepath.Dir would take "link/../x" for "x"
		if dir == "" {
			dir = "."
		}
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return "", nil, fmt.Errorf("cannot write to the folder of %s: %w", path, cause(err))
		}
		to = filepath.Join(real, base)
		end, err := os.Lstat(to)
		if errors.Is(err, fs.ErrNotExist) {
			return to, nil, nil
		}
		if err != nil {
			return "", nil, fmt.Errorf("cannot write %s: %w", path, cause(err))
		}
		if end.Mode()&fs.ModeSymlink == 0 {
			return to, end, nil
		}
		target, err := os.Readlink(to)
		if err != nil {
			return "", nil, fmt.Errorf("cannot write %s: %w", path, cause(err))
		}
		if !filepath.IsAbs(target) {
			target = real + string(filepath.Separator) + target
		}
		to = target
	}
	return "", nil, fmt.Errorf("cannot write %s: too many links", path)
}

// Temp makes a file in dir for the caller's own use, with a name as Write's temporary files have.
// The caller removes it.
func Temp(dir string) (f *os.File, err error) {
	err = withName(dir, func(name string) (err error) {
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	})
	if err == nil {
		_ = lock(f)
	}
	return f, err
}

// withName calls create with names of temporary files in dir until one is free.
func withName(dir string, create func(name string) error) error {
	for range 100 {
		var b [8]byte
		rand.Read(b[:])
		name := filepath.Join(dir, ".longrope-"+hex.EncodeToString(b[:])+".tmp")
		if err := create(name); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("%s: no name for a temporary file", dir)
}

// syncDir makes a rename survive a power cut where the system can; that it cannot is no reason to
// fail.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}
