package convert

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// chunk is how much is copied between two looks at the context: large enough that the look costs nothing, small
// enough that Ctrl-C answers at once on a slow disk.
const chunk = 16 << 20

// write streams the plan to w. Between two files the kernel copies (copy_file_range, by way of os.File.ReadFrom);
// memory does not grow with the model either way.
func (p *plan) write(ctx context.Context, w io.Writer, progress func(done, total int64)) error {
	if progress == nil {
		progress = func(done, total int64) {}
	}
	var done int64
	var buf []byte
	progress(0, p.size)
	for _, s := range p.segments {
		for at := int64(0); at < s.size; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(s.size-at, chunk)
			var err error
			switch {
			case s.part >= 0:
				err = p.f.parts[s.part].copyTo(w, s.off+at, n, &buf)
			case s.data != nil:
				_, err = w.Write(s.data[at : at+n])
			default:
				_, err = io.CopyN(w, zeroReader{}, n)
			}
			if err != nil {
				return err
			}
			at += n
			done += n
			progress(done, p.size)
		}
	}
	return nil
}

// copyTo copies n bytes of the part.
func (q *part) copyTo(w io.Writer, off, n int64, buf *[]byte) error {
	var m int64
	var err error
	if dst, ok := w.(*os.File); ok && q.file != nil {
		if _, err = q.file.Seek(off, io.SeekStart); err == nil {
			m, err = dst.ReadFrom(&io.LimitedReader{R: q.file, N: n})
		}
	} else {
		if *buf == nil {
			*buf = make([]byte, 1<<20)
		}
		// The struct hides ReadFrom and WriteTo, which would each bring a buffer of their own.
		m, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{io.NewSectionReader(q.src, off, n)}, *buf)
	}
	if err == nil && m < n {
		err = fmt.Errorf("%s: the file became shorter while it was read", q.path)
	}
	return err
}

// writeAtomic makes the file path by way of a temporary file in the same folder, which takes its name only when all
// of it is on disk. Whatever goes wrong, no part of it remains, and an older file at path stays as it was. Of two
// writers to one path, the last to finish wins; neither sees the other's bytes. A link is followed.
func writeAtomic(path string, write func(*os.File) error) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return fmt.Errorf("%s: exists and is not a regular file", path)
	}
	tmp, err := createTemp(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if err := write(tmp); err != nil {
		return hint(err)
	}
	if err := tmp.Sync(); err != nil {
		return hint(err)
	}
	if err := tmp.Close(); err != nil {
		return hint(err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	syncDir(filepath.Dir(path))
	return nil
}

// createTemp is os.CreateTemp with the permissions that the umask gives, since the file is to stay.
func createTemp(dir string) (*os.File, error) {
	for range 100 {
		var b [8]byte
		rand.Read(b[:])
		f, err := os.OpenFile(filepath.Join(dir, ".longrope-"+hex.EncodeToString(b[:])+".tmp"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s: no name for a temporary file", dir)
}

// syncDir makes a rename survive a power cut where the system can; that it cannot is no reason to fail.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

// hint says what to do about a full disk.
func hint(err error) error {
	if isDiskFull(err) {
		return fmt.Errorf("%w: nothing was written; free some space or choose another folder for the output", err)
	}
	return err
}

// refuseOverlap is an error when out is one of the input's own files.
func (f *File) refuseOverlap(out string) error {
	fi, err := os.Stat(out)
	if err != nil {
		return nil
	}
	for _, p := range f.parts {
		if in, err := os.Stat(p.path); err == nil && os.SameFile(in, fi) {
			return fmt.Errorf("%s: the output is the input itself; give the output another name", out)
		}
	}
	return nil
}
