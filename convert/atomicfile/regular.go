package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrLFSPointer: the text that git checks out in place of a large file, without Git LFS.
var ErrLFSPointer = errors.New("a Git LFS pointer in place of the file; run git lfs pull in its " +
	"folder")

// Open opens a regular file for reading. Others are refused before they are opened: a pipe would
// wait for a writer, and a device has no end. A Git LFS pointer is ErrLFSPointer. Other errors are
// those of os.Open.
func Open(path string) (*os.File, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if isLFSPointer(f) {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrLFSPointer)
	}
	return f, nil
}

// Read is the content of a regular file.
func Read(path string) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// regular leaves to whoever opens path what is wrong with one that cannot be looked at.
func regular(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil || fi.Mode().IsRegular():
		return nil
	case fi.IsDir():
		return fmt.Errorf("%s: is a directory, not a regular file", path)
	}
	return fmt.Errorf("%s: not a regular file", path)
}

func isLFSPointer(f io.ReaderAt) bool {
	const prefix = "version https://git-lfs.github.com/"
	b := make([]byte, len(prefix))
	n, _ := f.ReadAt(b, 0)
	return string(b[:n]) == prefix
}
