package patches

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// A Change is what a series makes of one file of the host.
type Change struct {
	Path    string // slash-separated, below the root of the host
	Data    []byte // content after the series
	Exec    bool   // the file is executable
	Deleted bool   // the series removes the file; Data is nil
}

// A Failure is one hunk, or one file, that does not apply.
type Failure struct {
	Patch     string // file name of the patch
	PatchLine int    // line of the hunk in the patch, from 1; 0 when the file as a whole fails
	File      string // path in the host
	Hunk      int    // from 1; 0 when the file as a whole fails
	Line      int    // line in the file as the earlier patches left it, from 1; 0 likewise
	Reason    string
}

func (f Failure) Error() string {
	if f.Hunk == 0 {
		return fmt.Sprintf("%s: %s: %s", f.Patch, f.File, f.Reason)
	}
	return fmt.Sprintf("%s:%d: %s: hunk %d, line %d: %s", f.Patch, f.PatchLine, f.File, f.Hunk,
		f.Line, f.Reason)
}

// An ApplyError lists every failure of a series.
type ApplyError struct{ Failures []Failure }

func (e *ApplyError) Error() string {
	var b strings.Builder
	for _, f := range e.Failures {
		b.WriteString("\n" + f.Error())
	}
	return fmt.Sprintf(
		"the series does not apply to the host, nothing was written; %d hunks or files fail:%s",
		len(e.Failures), b.String())
}

// state is the host as the patches so far have left it.
type state struct {
	src     fs.FS
	changes map[string]*Change
	broken  map[string]string // path → patch that failed on it
	failed  []Failure
}

// Apply applies the series to the files of src in memory and returns what it
// makes of them, sorted by path. Nothing is written anywhere. A change whose
// result equals the file in src is returned all the same.
//
// The hunks must match exactly where they say, context included. If any does
// not, Apply still tries the rest and returns an [*ApplyError] with all
// that fail; a file on which one patch failed is not tried with later ones.
func (s Series) Apply(src fs.FS) ([]Change, error) {
	st := &state{src: src, changes: make(map[string]*Change), broken: make(map[string]string)}
	for _, p := range s {
		for _, f := range p.Files {
			if err := st.apply(p, f); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", p.Name, target(f), err)
			}
		}
	}
	if len(st.failed) > 0 {
		return nil, &ApplyError{st.failed}
	}
	out := make([]Change, 0, len(st.changes))
	for _, c := range st.changes {
		out = append(out, *c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

// read returns a file as the earlier patches left it; ok is false when there
// is none.
func (st *state) read(name string) (data []byte, exec, ok bool, err error) {
	if c := st.changes[name]; c != nil {
		return c.Data, c.Exec, !c.Deleted, nil
	}
	data, err = fs.ReadFile(st.src, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, false, nil
	} else if err != nil {
		return nil, false, false, err
	}
	info, err := fs.Stat(st.src, name)
	if err != nil {
		return nil, false, false, err
	}
	return data, info.Mode()&0o111 != 0, true, nil
}

// apply makes one file's change. Its error is one of reading; what does not
// apply goes to st.failed.
func (st *state) apply(p *Patch, f *gitdiff.File) error {
	name := target(f)
	fail := func(reason string) error {
		st.failed = append(st.failed, Failure{Patch: p.Name, File: name, Reason: reason})
		st.broken[name] = p.Name
		return nil
	}
	for _, n := range []string{f.OldName, f.NewName} {
		if by := st.broken[n]; n != "" && by != "" {
			return fail("not tried, since " + by + " failed on it")
		}
	}

	var old []byte
	var exec bool
	if !f.IsNew {
		var ok bool
		var err error
		if old, exec, ok, err = st.read(f.OldName); err != nil {
			return err
		} else if !ok {
			return fail("no such file in the host")
		}
	}
	if f.IsNew || f.IsRename {
		if _, _, ok, err := st.read(f.NewName); err != nil {
			return err
		} else if ok {
			return fail("is there already, but the patch makes it new")
		}
	}

	if failures := tryHunks(p, f, old); len(failures) > 0 {
		st.failed = append(st.failed, failures...)
		st.broken[name] = p.Name
		return nil
	}
	var out bytes.Buffer
	if err := gitdiff.Apply(&out, bytes.NewReader(old), f); err != nil {
		// tryHunks left nothing but the order of hunks and leftovers of a deletion
		fl := Failure{Patch: p.Name, File: name, Reason: err.Error()}
		if ae := (*gitdiff.ApplyError)(nil); errors.As(err, &ae) && ae.Fragment > 0 &&
			ae.Fragment <= len(f.TextFragments) {
			fl.Hunk, fl.Line = ae.Fragment, int(ae.Line)
			fl.PatchLine = p.lines[f.TextFragments[ae.Fragment-1]]
		}
		st.failed = append(st.failed, fl)
		st.broken[name] = p.Name
		return nil
	}

	if f.IsDelete {
		if out.Len() > 0 {
			return fail("has other content than the patch deletes")
		}
		st.changes[f.OldName] = &Change{Path: f.OldName, Deleted: true}
		return nil
	}
	if f.IsRename {
		st.changes[f.OldName] = &Change{Path: f.OldName, Deleted: true}
	}
	// The old mode is not compared: module zips do not keep it.
	if f.NewMode != 0 {
		exec = f.NewMode&0o111 != 0
	}
	st.changes[f.NewName] = &Change{Path: f.NewName, Data: out.Bytes(), Exec: exec}
	return nil
}

// tryHunks holds every hunk of a change against the old file and returns the
// ones that do not match exactly. gitdiff would stop at the first.
func tryHunks(p *Patch, f *gitdiff.File, old []byte) []Failure {
	lines := splitLines(old)
	var failures []Failure
	for i, frag := range f.TextFragments {
		at := int(frag.OldPosition) // of the hunk's first old line, from 1
		if frag.OldLines == 0 && at > 0 {
			at++ // a hunk without old lines goes behind the line it names
		}
		fail := func(line int, format string, args ...any) {
			failures = append(
				failures,
				Failure{
					Patch: p.Name, PatchLine: p.lines[frag], File: target(f),
					Hunk: i + 1, Line: line, Reason: fmt.Sprintf(format, args...),
				},
			)
		}
		if err := frag.Validate(); err != nil {
			fail(at, "%v", err)
			continue
		}
		if frag.OldLines == 0 && len(lines) > 0 {
			fail(at, "no context, so its place cannot be checked: make the patch without -U0")
			continue
		}
		var want []string
		for _, l := range frag.Lines {
			if l.Old() {
				want = append(want, l.Line)
			}
		}
		if j := mismatch(lines, at, want); j >= 0 {
			line := at + j
			got := "the end of the file"
			if line >= 1 && line <= len(lines) {
				got = fmt.Sprintf("%q", clip(strings.TrimRight(lines[line-1], "\n")))
			}
			wanted := fmt.Sprintf("%q", clip(strings.TrimRight(want[j], "\n")))
			if got == wanted {
				wanted += " and another line ending"
			}
			fail(line, "want %s, found %s%s", wanted, got, elsewhere(lines, at, want))
			continue
		}
		// A hunk with no lines behind it in the patch was at the end of the file.
		if end := at - 1 + len(want); frag.TrailingContext == 0 && len(want) > 0 &&
			end < len(lines) {
			fail(end+1, "ends the file in the patch, but %d lines follow in the host",
				len(lines)-end)
		}
	}
	return failures
}

// mismatch returns the index in want of the first line that differs from
// lines at the position at, from 1, or -1.
func mismatch(lines []string, at int, want []string) int {
	for j, w := range want {
		if k := at - 1 + j; k < 0 || k >= len(lines) || lines[k] != w {
			return j
		}
	}
	return -1
}

// elsewhere finds where else a hunk would fit: never used to apply it, but the
// first thing to know for who brings a patch up to date.
func elsewhere(lines []string, at int, want []string) string {
	place, n := 0, 0
	for k := 1; k+len(want)-1 <= len(lines) && n < 2; k++ {
		if mismatch(lines, k, want) < 0 {
			place, n = k, n+1
		}
	}
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(" (its lines are at line %d now, moved by %+d)", place, place-at)
	default:
		return " (its lines are at more than one other place)"
	}
}

func splitLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	lines := strings.SplitAfter(string(b), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
