package gguf

import (
	"io"
	"os"
	"syscall"
)

// startWriteback asks the kernel to begin writing a range to disk, without waiting, each time it
// crosses a chunk. The fsync at the end then finds little left to do.
func startWriteback(w io.Writer, off, n int64) {
	f, ok := w.(*os.File)
	if !ok || off/chunk == (off+n)/chunk {
		return
	}
	const start = 2 // SYNC_FILE_RANGE_WRITE
	from := off / chunk * chunk
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	// It is a hint: that a file system does not take it changes nothing but speed.
	conn.Control(func(fd uintptr) {
		syscall.SyncFileRange(int(fd), from, (off+n)/chunk*chunk-from,
			start)
	})
}
