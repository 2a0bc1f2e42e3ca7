package patches

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

// clonedVendor is the folder that module zips leave out and a git clone has.
// It is copied from a clone, where it spares the system's header packages and
// brings audio input; it is no part of the module's sum.
const clonedVendor = "llama/llama.cpp/vendor"

// A hostFile is one file of an unpatched host.
type hostFile struct {
	path   string // slash-separated, below the root
	sum    [sha256.Size]byte
	exec   bool
	vendor bool // below clonedVendor
}

// mark is what a stamp holds of a file: its hash, and whether it is executable.
func mark(sum [sha256.Size]byte, exec bool) string {
	if exec {
		return hex.EncodeToString(sum[:]) + "+x"
	}
	return hex.EncodeToString(sum[:])
}

// verifySource reads the unpatched host in dir and holds it against sum, the
// "h1:" sum of its module that go.sum pins. dir is the module's folder in the
// module cache or a git clone of the tag: the sum is taken over the files that
// a module zip has, so both give the same.
func verifySource(dir, sum string) error {
	_, err := readSource(dir, sum)
	return err
}

func readSource(dir, sum string) ([]hostFile, error) {
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return nil, fmt.Errorf("%s is not a source tree of the host: %w", dir, err)
	}
	var files []hostFile
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		p := filepath.ToSlash(rel)
		if d.IsDir() {
			if p != "." && d.Name() == ".git" {
				return fs.SkipDir
			}
			// a folder with a go.mod of its own is another module
			if _, err := os.Lstat(filepath.Join(name, "go.mod")); p != "." && err == nil {
				return fs.SkipDir
			}
			return nil
		}
		vendor := strings.HasPrefix(p, clonedVendor+"/")
		if !d.Type().IsRegular() || !vendor && inVendor(p) {
			return nil // module zips have neither
		}
		f := hostFile{path: p, vendor: vendor}
		if f.sum, f.exec, err = hashFile(name); err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if got := h1(files); sum != "" && got != sum {
		return nil, fmt.Errorf("%s is not %s %s: its files have the sum %s, go.sum pins %s; "+
			"give a clean checkout of the tag, or repair the module cache (go clean -modcache)",
			dir, HostModule, HostVersion, got, sum)
	}
	return files, nil
}

// inVendor is the rule by which golang.org/x/mod/zip leaves files out.
func inVendor(p string) bool {
	return strings.Contains(p, "/vendor/") ||
		strings.HasPrefix(p, "vendor/") && strings.Contains(p[len("vendor/"):], "/")
}

// h1 is the module sum of go.sum (golang.org/x/mod/sumdb/dirhash.Hash1).
func h1(files []hostFile) string {
	prefix := HostModule + "@" + HostVersion + "/"
	names := make(map[string][sha256.Size]byte, len(files))
	var order []string
	for _, f := range files {
		if !f.vendor {
			names[prefix+f.path] = f.sum
			order = append(order, prefix+f.path)
		}
	}
	sort.Strings(order)
	h := sha256.New()
	for _, n := range order {
		fmt.Fprintf(h, "%x  %s\n", names[n], n)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// PinnedSum returns the sum that a go.sum pins for the host.
func PinnedSum(goSum []byte) (string, error) {
	for _, line := range strings.Split(string(goSum), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == HostModule && f[1] == HostVersion {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("go.sum has no line for %s %s: run go get %s@%s", HostModule, HostVersion,
		HostModule, HostVersion)
}

// scan hashes every file of a prepared tree. It leaves out what is no part of
// the source: hidden files (the stamp is one), which no build reads, except
// those that the host itself has, and the folders build and dist in the root,
// where the host's own cmake presets write.
func scan(dir string, known map[string]string) (map[string]string, error) {
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		p := filepath.ToSlash(rel)
		if d.IsDir() {
			if p == "build" || p == "dist" || d.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		if _, ok := known[p]; !ok && strings.HasPrefix(path.Base(p), ".") {
			return nil
		}
		if !d.Type().IsRegular() {
			files[p] = "not a plain file"
			return nil
		}
		sum, exec, err := hashFile(name)
		files[p] = mark(sum, exec)
		return err
	})
	return files, err
}

func hashFile(name string) (sum [sha256.Size]byte, exec bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sum, false, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, false, err
	}
	h.Sum(sum[:0])
	return sum, info.Mode()&0o111 != 0, nil
}

// writeFile puts a file in its place by rename, whole or not at all.
func writeFile(name string, data []byte, exec bool) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	mode := fs.FileMode(0o644)
	if exec {
		mode = 0o755
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

// removeFile removes a file and the folders that it leaves empty below root.
func removeFile(root, p string) error {
	name := filepath.Join(root, filepath.FromSlash(p))
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(name); dir != filepath.Clean(root); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // not empty
		}
	}
	return nil
}
