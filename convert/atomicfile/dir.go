package atomicfile

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Dir is a temporary folder that becomes the folder path.
type Dir struct {
	Temp string // fill this one
	path string
	held *os.File // locked, for Sweep; nil where a folder cannot be
}

// CreateDir begins the folder path, which must not exist; its parent must.
func CreateDir(path string) (*Dir, error) {
	d := &Dir{path: filepath.Clean(path)}
	err := withName(filepath.Dir(d.path), func(name string) error {
		d.Temp = name
		return os.Mkdir(name, 0o777)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot write to the folder of %s: %w", path, cause(err))
	}
	if d.held, err = os.Open(d.Temp); err == nil {
		_ = lock(d.held)
	}
	return d, nil
}

// Commit gives the folder its name. Its files should be on disk: see WriteIn.
func (d *Dir) Commit() error {
	syncDir(d.Temp)
	d.held.Close()
	if err := os.Rename(d.Temp, d.path); err != nil {
		return fmt.Errorf("cannot write %s: %w", d.path, cause(err))
	}
	syncDir(filepath.Dir(d.path))
	return nil
}

// Discard removes the folder with its content unless it was committed.
func (d *Dir) Discard() error {
	d.held.Close()
	return os.RemoveAll(d.Temp)
}

// WriteIn makes a new file inside of a temporary folder and has it on disk. It needs no name of its
// own there: the folder appears whole.
func WriteIn(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
