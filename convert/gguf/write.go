package gguf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// chunk is how much the kernel copies between two looks at the context: large enough that the
	// look costs nothing, small enough that Ctrl-C answers at once on a slow disk.
	chunk = 16 << 20
	// block is the buffer of the other way of copying. It should stay in a core's cache between
	// being read and being written: 4 MiB is five times slower.
	block = 512 << 10
	page  = 4096
)

// Write streams the plan to w, which gets the first byte of the output first. Memory does not grow
// with the model.
func (p *Plan) Write(ctx context.Context, w io.Writer, progress func(done, total int64)) error {
	if progress == nil {
		progress = func(done, total int64) {}
	}
	progress(0, p.Size)
	var done int64
	moved := func(n int64) error {
		startWriteback(w, done, n)
		done += n
		progress(done, p.Size)
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var b buffers
	for _, s := range p.segments {
		var err error
		switch {
		case s.part >= 0:
			err = p.f.parts[s.part].copyTo(w, s.off, s.size, done, &b, moved)
		case s.data != nil:
			if _, err = w.Write(s.data); err == nil {
				err = moved(s.size)
			}
		default:
			if _, err = io.CopyN(w, zeroReader{}, s.size); err == nil {
				err = moved(s.size)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyTo copies n bytes from off of the part to w, where they will stand at byte at, and calls
// moved after each run.
//
// The kernel copies between two files by itself (copy_file_range), and on some file systems only
// notes that the blocks are shared. But a header that grew shifts the data by what is seldom a
// multiple of the page size, and then that is slower than two copies through a buffer whose writes
// are whole pages; one goroutine reads ahead meanwhile.
func (q *part) copyTo(w io.Writer, off, n, at int64, b *buffers, moved func(int64) error) error {
	dst, ok := w.(*os.File)
	if !ok || q.file == nil || (off-at)%page != 0 || n < block {
		return q.copyBlocks(w, off, n, at, b, moved)
	}
	if _, err := q.file.Seek(off, io.SeekStart); err != nil {
		return err
	}
	for n > 0 {
		want := min(n, chunk)
		m, err := dst.ReadFrom(&io.LimitedReader{R: q.file, N: want})
		if err == nil && m < want {
			err = q.shorter()
		}
		if err != nil {
			return err
		}
		if err := moved(m); err != nil {
			return err
		}
		n -= m
	}
	return nil
}

func (q *part) shorter() error {
	return fmt.Errorf("%s: the file became shorter while it was read", q.path)
}

// buffers are the blocks of one write, made when they are needed.
type buffers struct{ free chan []byte }

func (q *part) copyBlocks(w io.Writer, off, n, at int64, b *buffers,
	moved func(int64) error,
) error {
	if b.free == nil {
		b.free = make(chan []byte, 3)
		for range cap(b.free) {
			b.free <- make([]byte, block)
		}
	}
	type read struct {
		b   []byte // all of the buffer
		n   int    // of it that was read
		err error
	}
	full := make(chan read, cap(b.free))
	quit := make(chan struct{})
	go func() {
		defer close(full)
		for n > 0 {
			var buf []byte
			select {
			case buf = <-b.free:
			case <-quit:
				return
			}
			// The first block ends where a page of the output does.
			m := min(n, block-at%page)
			k, err := q.src.ReadAt(buf[:m], off)
			if int64(k) == m {
				err = nil
			} else if err == nil || errors.Is(err, io.EOF) {
				err = q.shorter()
			}
			full <- read{buf, k, err}
			if err != nil {
				return
			}
			off, at, n = off+m, at+m, n-m
		}
	}()
	// On an error the reader stops first, since its file may be closed next; what it had read goes
	// back unused.
	defer func() {
		close(quit)
		for r := range full {
			b.free <- r.b
		}
	}()
	for r := range full {
		err := r.err
		if err == nil {
			_, err = w.Write(r.b[:r.n])
		}
		b.free <- r.b
		if err != nil {
			return err
		}
		if err := moved(int64(r.n)); err != nil {
			return err
		}
	}
	return nil
}

// RefuseOverlap is an error when out is one of the input's own files.
func (f *File) RefuseOverlap(out string) error {
	fi, err := os.Stat(out)
	if err != nil {
		return nil
	}
	for _, p := range f.parts {
		if in, err := os.Stat(p.path); err == nil && os.SameFile(in, fi) {
			return fmt.Errorf("%s: the output is the input itself; give the output another name",
				out)
		}
	}
	return nil
}
