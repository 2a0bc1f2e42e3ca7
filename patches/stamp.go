package patches

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
)

const stampName = ".longrope-stamp"

// A Stamp is what a prepared tree says of itself, in the file
// .longrope-stamp in its root.
type Stamp struct {
	Host    string   `json:"host"`    // module@version
	Series  string   `json:"series"`  // Series.Hash of what was applied
	Patches []string `json:"patches"` // names of the patches, in order
	Touched []string `json:"touched"` // files that the patches changed or made
	// path → SHA-256 of every file, "+x" behind it when executable
	Files map[string]string `json:"files"`
	// while files are being rewritten: what they become, "" for removed
	Pending map[string]string `json:"pending,omitempty"`
}

// ReadStamp returns the stamp of a prepared tree. The error is
// [fs.ErrNotExist] when dir was not prepared.
func ReadStamp(dir string) (*Stamp, error) {
	name := filepath.Join(dir, stampName)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var s Stamp
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%s: %w: remove %s and prepare it again", name, err, dir)
	}
	return &s, nil
}

func (s *Stamp) write(dir string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, stampName), append(data, '\n'), false)
}

// An EditedError lists files of a prepared tree that are not what the tool
// wrote.
type EditedError struct {
	Dir   string
	Files []string // path and what happened to it
}

func (e *EditedError) Error() string {
	list, more := e.Files, ""
	if len(list) > 10 {
		list, more = list[:10], fmt.Sprintf("\n  and %d more", len(e.Files)-10)
	}
	return fmt.Sprintf(
		"%s was edited by hand:\n  %s%s\nmake a patch of the edits (README.md in patches/ "+
			"says how), or throw them away with -force", e.Dir, strings.Join(list, "\n  "), more)
}

// edits compares a scanned tree with its stamp.
func (s *Stamp) edits(have map[string]string) []string {
	var out []string
	for p, sum := range s.Files {
		next, pending := s.Pending[p]
		switch got, ok := have[p]; {
		case !ok && !(pending && next == ""):
			out = append(out, p+" (removed)")
		case ok && got != sum && !(pending && got == next):
			out = append(out, p+" (changed)")
		}
	}
	for p, got := range have {
		if _, ok := s.Files[p]; ok {
			continue
		}
		if next, pending := s.Pending[p]; !pending || got != next {
			out = append(out, p+" (added)")
		}
	}
	sort.Strings(out)
	return out
}

// Options says what [Prepare] makes.
type Options struct {
	// Source returns the folder of the unpatched host. It is called only when
	// the tree has to change.
	Source func() (string, error)
	Sum    string // "h1:" sum that the source must have, see PinnedSum; "" takes any source
	Dst    string // the tree to make
	Series Series
	Force  bool // throw hand edits away
}

// A Report is what [Prepare] did.
type Report struct {
	Created   bool     // the tree is new
	Written   []string // files written in a tree that was there
	Removed   []string // files removed from it
	Files     int      // files of the tree
	Discarded []string // hand edits that Force threw away
}

// UpToDate reports whether there was nothing to do.
func (r Report) UpToDate() bool { return !r.Created && len(r.Written)+len(r.Removed) == 0 }

// Prepare makes the tree o.Dst from the host and the series, or brings it up
// to date: only files whose content differs are written. When a patch fails
// (an [*ApplyError]), or the tree was edited by hand (an [*EditedError]),
// nothing is written. A run that is killed leaves either no tree, or one that
// the next run completes.
func Prepare(o Options) (Report, error) {
	stamp, err := ReadStamp(o.Dst)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(o.Dst)
		if err == nil && len(entries) > 0 && !o.Force {
			return Report{}, fmt.Errorf(
				"%s is there, but was not made by this tool: remove it, or use -force", o.Dst)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Report{}, err
		}
		return create(o)
	} else if err != nil {
		if !o.Force {
			return Report{}, err
		}
		return create(o)
	}
	return refresh(o, stamp)
}

// plan is the tree as it should be.
type plan struct {
	source  string
	changes map[string]Change
	stamp   *Stamp
}

func makePlan(o Options) (*plan, error) {
	source, err := o.Source()
	if err != nil {
		return nil, err
	}
	files, err := readSource(source, o.Sum)
	if err != nil {
		return nil, err
	}
	changes, err := o.Series.Apply(os.DirFS(source))
	if err != nil {
		return nil, err
	}
	pl := &plan{source: source, changes: make(map[string]Change), stamp: &Stamp{
		Host: HostModule + "@" + HostVersion, Series: o.Series.Hash(), Patches: o.Series.Names(),
		Touched: []string{}, Files: make(map[string]string, len(files)),
	}}
	for _, f := range files {
		pl.stamp.Files[f.path] = mark(f.sum, f.exec)
	}
	for _, c := range changes {
		pl.changes[c.Path] = c
		if c.Deleted {
			delete(pl.stamp.Files, c.Path)
			continue
		}
		pl.stamp.Files[c.Path] = mark(sha256.Sum256(c.Data), c.Exec)
		pl.stamp.Touched = append(pl.stamp.Touched, c.Path)
	}
	return pl, pl.markHeaders(files)
}

// headerMark is a header of the tree that nobody includes. Go's build cache knows the headers of a
// package's own folder, not those of other folders, so a patch of ggml.h would leave old objects in
// use. The mark is in every folder that uses cgo and changes when a header of the series does.
const headerMark = "longrope_headers.h"

func (pl *plan) markHeaders(files []hostFile) error {
	h := sha256.New()
	for _, p := range sortedKeys(pl.changes) {
		if ext := path.Ext(p); ext == ".h" || ext == ".hpp" || ext == ".cuh" {
			fmt.Fprintf(h, "%s %x\n", p, sha256.Sum256(pl.changes[p].Data))
		}
	}
	data := fmt.Appendf(nil, "// What the headers of all folders are, for Go's build cache: %x\n",
		h.Sum(nil))
	for _, f := range files {
		if path.Ext(f.path) != ".go" {
			continue
		}
		source, err := os.ReadFile(filepath.Join(pl.source, filepath.FromSlash(f.path)))
		if err != nil {
			return err
		}
		if bytes.Contains(source, []byte("\nimport \"C\"\n")) {
			p := path.Join(path.Dir(f.path), headerMark)
			pl.changes[p] = Change{Path: p, Data: data}
			pl.stamp.Files[p] = mark(sha256.Sum256(data), false)
		}
	}
	return nil
}

// put writes one file of the plan into a tree.
func (pl *plan) put(root, p string) error {
	name := filepath.Join(root, filepath.FromSlash(p))
	if c, ok := pl.changes[p]; ok {
		return writeFile(name, c.Data, c.Exec)
	}
	src := filepath.Join(pl.source, filepath.FromSlash(p))
	data, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	exec := info.Mode()&0o111 != 0
	// checked again, for the source was hashed some time ago
	if mark(sha256.Sum256(data), exec) != pl.stamp.Files[p] {
		return fmt.Errorf("%s changed while it was copied", src)
	}
	return writeFile(name, data, exec)
}

// create makes a tree next to its place and renames it.
func create(o Options) (Report, error) {
	pl, err := makePlan(o)
	if err != nil {
		return Report{}, err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(o.Dst)), 0o755); err != nil {
		return Report{}, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(o.Dst)), "."+filepath.Base(o.Dst)+"-*")
	if err != nil {
		return Report{}, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Report{}, err
	}
	for _, p := range sortedKeys(pl.stamp.Files) {
		if err := pl.put(tmp, p); err != nil {
			return Report{}, err
		}
	}
	if err := pl.stamp.write(tmp); err != nil {
		return Report{}, err
	}
	if err := os.RemoveAll(o.Dst); err != nil { // empty, or Force
		return Report{}, err
	}
	if err := os.Rename(tmp, o.Dst); err != nil {
		return Report{}, err
	}
	return Report{Created: true, Files: len(pl.stamp.Files)}, nil
}

// testHookWritten lets a test stop refresh between two files.
var testHookWritten func(path string) error

// refresh rewrites what differs. The stamp names it first, so that a tree left
// in the middle is told from one edited by hand.
func refresh(o Options, old *Stamp) (Report, error) {
	have, err := scan(o.Dst, old.Files)
	if err != nil {
		return Report{}, err
	}
	edited := old.edits(have)
	if len(edited) > 0 && !o.Force {
		return Report{}, &EditedError{o.Dst, edited}
	}
	current := old.Host == HostModule+"@"+HostVersion && old.Series == o.Series.Hash()
	if current && len(edited) == 0 && old.Pending == nil {
		return Report{Files: len(have)}, nil
	}

	pl, err := makePlan(o)
	if err != nil {
		return Report{}, err
	}
	r := Report{Files: len(pl.stamp.Files), Discarded: edited}
	pending := make(map[string]string)
	for p, want := range pl.stamp.Files {
		if have[p] != want {
			pending[p] = want
			r.Written = append(r.Written, p)
		}
	}
	for p := range have {
		if _, ok := pl.stamp.Files[p]; !ok {
			pending[p] = ""
			r.Removed = append(r.Removed, p)
		}
	}
	sort.Strings(r.Written)
	sort.Strings(r.Removed)

	old.Files, old.Pending = have, pending
	if err := old.write(o.Dst); err != nil {
		return Report{}, err
	}
	for _, p := range r.Removed {
		if err := removeFile(o.Dst, p); err != nil {
			return Report{}, err
		}
	}
	for _, p := range r.Written {
		if err := pl.put(o.Dst, p); err != nil {
			return Report{}, err
		}
		if testHookWritten != nil {
			if err := testHookWritten(p); err != nil {
				return Report{}, err
			}
		}
	}
	return r, pl.stamp.write(o.Dst)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
