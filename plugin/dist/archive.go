package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// entry is a file of a tarball: one on the disk, which may be a link, or text.
type entry struct {
	name string // slash-separated
	path string // "" for text
	text []byte
	mode int64
}

// writeArchive writes a tarball, and returns the sums of its files, in hexadecimal, by name.
func writeArchive(w io.Writer, files []entry, at time.Time) (map[string]string, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	zip, err := gzip.NewWriterLevel(w, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(zip)
	sums, folders := map[string]string{}, map[string]bool{}
	for _, e := range files {
		for _, dir := range parents(e.name) {
			if folders[dir] {
				continue
			}
			folders[dir] = true
			if err := t.WriteHeader(&tar.Header{
				Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: at,
			}); err != nil {
				return nil, err
			}
		}
		sum, err := e.write(t, at)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		sums[e.name] = sum
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return sums, zip.Close()
}

// parents are the folders that a file is in, the outermost first.
func parents(name string) []string {
	var dirs []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

// write adds the entry; the sum of a link is where it leads to.
func (e entry) write(t *tar.Writer, at time.Time) (string, error) {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, ModTime: at}
	if e.path == "" {
		h.Size = int64(len(e.text))
		if err := t.WriteHeader(h); err != nil {
			return "", err
		}
		_, err := t.Write(e.text)
		return fmt.Sprintf("%x", sha256.Sum256(e.text)), err
	}
	fi, err := os.Lstat(e.path)
	if err != nil {
		return "", err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		to, err := os.Readlink(e.path)
		if err != nil {
			return "", err
		}
		if path.IsAbs(to) {
			return "", fmt.Errorf("%s is a link to %s, which another machine has not", e.path, to)
		}
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, to, 0o777
		return "-> " + to, t.WriteHeader(h)
	}
	f, err := os.Open(e.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h.Size = fi.Size()
	if err := t.WriteHeader(h); err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(t, sum), f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
