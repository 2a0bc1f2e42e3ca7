package atomicfile

import (
	"fmt"
	"os"
)

// Open opens a regular file for reading. Others are refused before they are opened: a pipe would
// wait for a writer, and a device has no end.
func Open(path string) (*os.File, error) {
	fi, err := os.Stat(path)
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Read is the content of a regular file.
func Read(path string) ([]byte, error) {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	return os.ReadFile(path)
}
