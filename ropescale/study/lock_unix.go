//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package study

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps other processes from a journal until f is closed, or its process dies.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return errors.New("another search is writing it; wait for that one or choose another file")
	case errors.Is(err, errors.ErrUnsupported): // some network file systems
		return nil
	}
	return err
}
