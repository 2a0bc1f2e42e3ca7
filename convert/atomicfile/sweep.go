package atomicfile

import (
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// minAge is how old a temporary file is before it can count as left behind: its writer may not have
// locked it yet. Tests lower it.
var minAge = time.Minute

var tempName = regexp.MustCompile(`^\.longrope-[0-9a-f]{16}\.tmp$`)

// Sweep removes what programs that were killed have left in dir, temporary files and folders of
// this package that no process holds any more, and returns their paths. It looks no deeper. On
// systems without flock it removes nothing.
func Sweep(dir string) (removed []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // whoever writes there says what is wrong
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || !tempName.MatchString(e.Name()) || time.Since(fi.ModTime()) < minAge ||
			!fi.Mode().IsRegular() && !fi.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if lock(f) == nil && os.RemoveAll(path) == nil {
			removed = append(removed, path)
		}
		f.Close()
	}
	return removed
}
