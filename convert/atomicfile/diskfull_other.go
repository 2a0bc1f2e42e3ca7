//go:build !unix

package atomicfile

import (
	"errors"
	"runtime"
	"syscall"
)

// isDiskFull knows ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL.
func isDiskFull(err error) bool {
	return runtime.GOOS == "windows" && (errors.Is(err, syscall.Errno(39)) ||
		errors.Is(err, syscall.Errno(112)))
}
