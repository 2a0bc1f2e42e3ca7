package atomicfile

import (
	"fmt"
	"os"
)

// Open opens a regular file for reading. Others are refused before they are opened: a pipe would
// wait for a writer, and a device has no end. Other errors are those of os.Open.
func Open(path string) (*os.File, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Read is the content of a regular file.
func Read(path string) ([]byte, error) {
	if err := regular(path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
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
