package patches

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// The pinned host. To adopt another version see README.md; a test holds
// HostVersion to the version that go.mod requires.
const (
	HostModule  = "github.com/ollama/ollama"
	HostVersion = "v0.17.4"
)

// Release counts the releases for one version of the host. It begins again at 1 with the next.
const Release = 1

// Version is the version of this program, of which a tag has the name: that of the host, and the
// release for it, as in v0.17.4-longrope.1.
func Version() string { return fmt.Sprintf("%s-longrope.%d", HostVersion, Release) }

// BuildArea is the area of the patches that only make the pinned host build
// outside its own repository. They change nothing that runs, so the host with
// these alone is what tests call the unpatched host.
const BuildArea = "build"

//go:embed *.patch
var embedded embed.FS

// A Patch is one file of the series, in the form that
// git format-patch --zero-commit --no-signature --no-numbered writes.
type Patch struct {
	Name     string          // file name, NNNN-area-what.patch
	Number   int             // NNNN
	Area     string          // what the subject says before its first colon
	Title    string          // the rest of the subject
	Body     string          // the message without its trailers
	Upstream string          // value of the Upstream: trailer, a URL or "N/A why"
	Files    []*gitdiff.File // changes, in the order of the file

	header *gitdiff.PatchHeader
	raw    []byte
	lines  map[*gitdiff.TextFragment]int // line of each hunk in the patch file
}

// A Series is a list of patches in the order in which they apply.
type Series []*Patch

// Embedded returns the series that was compiled in.
func Embedded() (Series, error) { return loadSeries(embedded) }

// loadSeries reads every *.patch in the root of fsys, in the order of their names.
// It returns an error that names the file and line where one does not parse,
// and refuses two patches of one number. It does not judge the patches
// otherwise; [Series.Lint] does.
func loadSeries(fsys fs.FS) (Series, error) {
	names, err := fs.Glob(fsys, "*.patch")
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var s Series
	for _, name := range names {
		raw, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		p, err := parse(name, raw)
		if err != nil {
			return nil, err
		}
		if n := len(s); n > 0 && s[n-1].Number == p.Number {
			return nil, fmt.Errorf("%s: has the number of %s: renumber one of them", name,
				s[n-1].Name)
		}
		s = append(s, p)
	}
	return s, nil
}

// Hash returns the SHA-256, in hexadecimal, over the names and bytes of all
// patches in their order. Lengths are hashed along, so that no two different
// series give the same input.
func (s Series) Hash() string {
	h := sha256.New()
	for _, p := range s {
		for _, b := range [][]byte{[]byte(p.Name), p.raw} {
			binary.Write(h, binary.LittleEndian, uint64(len(b)))
			h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Area returns the patches of one area, in order.
func (s Series) Area(area string) Series {
	var out Series
	for _, p := range s {
		if p.Area == area {
			out = append(out, p)
		}
	}
	return out
}

// Names returns the file names of the patches, in order.
func (s Series) Names() []string {
	names := make([]string, len(s))
	for i, p := range s {
		names[i] = p.Name
	}
	return names
}

var patchName = regexp.MustCompile(`^([0-9]{4})-[a-z0-9][A-Za-z0-9._-]*\.patch$`)

// trailer matches one line of the last paragraph, such as "Upstream: N/A …".
var trailer = regexp.MustCompile(`^([A-Z][A-Za-z-]*): (.+)$`)

func parse(name string, raw []byte) (*Patch, error) {
	m := patchName.FindStringSubmatch(name)
	if m == nil {
		return nil, fmt.Errorf("%s: name is not NNNN-area-what.patch", name)
	}
	p := &Patch{Name: name, raw: raw}
	p.Number, _ = strconv.Atoi(m[1]) // four digits

	files, preamble, err := gitdiff.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: changes no file", name)
	}
	p.Files = files
	if err := p.account(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, f := range files {
		if err := checkFile(f); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, target(f), err)
		}
	}

	// Only [PATCH] is taken off the subject: "[PATCH 1/3]" must stay for Lint.
	p.header, err = gitdiff.ParsePatchHeader(preamble,
		gitdiff.WithSubjectCleanMode(gitdiff.SubjectCleanPatchOnly))
	if err != nil {
		return nil, fmt.Errorf("%s: header: %w", name, err)
	}
	if area, title, ok := strings.Cut(p.header.Title, ": "); ok {
		p.Area, p.Title = area, title
	}
	body, trailers := splitTrailers(p.header.Body)
	p.Body = body
	p.Upstream = trailers["Upstream"]
	return p, nil
}

// splitTrailers takes the last paragraph off a message when it consists of
// "Key: value" lines (indented lines continue a value).
func splitTrailers(body string) (string, map[string]string) {
	body = strings.TrimSpace(strings.ReplaceAll(body, "\r\n", "\n"))
	rest, last := "", body
	if i := strings.LastIndex(body, "\n\n"); i >= 0 {
		rest, last = body[:i], body[i+2:]
	}
	trailers := make(map[string]string)
	key := ""
	for _, line := range strings.Split(last, "\n") {
		if m := trailer.FindStringSubmatch(line); m != nil {
			key = m[1]
			trailers[key] = strings.TrimSpace(m[2])
		} else if key != "" && strings.HasPrefix(line, " ") {
			trailers[key] += " " + strings.TrimSpace(line)
		} else {
			return body, nil
		}
	}
	return strings.TrimSpace(rest), trailers
}

// checkFile refuses the changes that this series has no use for, so that the
// code that applies them need not guess.
func checkFile(f *gitdiff.File) error {
	for _, n := range []string{f.OldName, f.NewName} {
		if n == "" { // the old name of a new file, the new name of a deleted one
			continue
		}
		if !fs.ValidPath(n) || n == "." || strings.ContainsAny(n, "\\:") ||
			path.Base(n) == stampName {
			return fmt.Errorf("bad path %q", n)
		}
	}
	if f.OldName == "" && f.NewName == "" {
		return errors.New("no file name")
	}
	if f.IsBinary {
		return errors.New("binary change: the series is text only")
	}
	if f.IsCopy {
		return errors.New("copy: make the patch with git format-patch, which writes a new file")
	}
	for _, mode := range []fs.FileMode{f.OldMode, f.NewMode} {
		// git's modes: 100644, 100755; 120000 is a link, 160000 a submodule
		if mode != 0 && mode != 0o100644 && mode != 0o100755 {
			return fmt.Errorf("mode %o: only plain files can be patched", uint32(mode))
		}
	}
	return nil
}

// headerLine matches what stands between the hunks of a git diff.
var headerLine = regexp.MustCompile(
	`^(diff --git |index |--- |\+\+\+ |old mode |new mode |new file mode |deleted file mode |` +
		`similarity index |dissimilarity index |rename from |rename to |copy from |copy to |GIT ` +
		`binary patch|@@ -|\\ )`)

// account finds where in the file each hunk starts and refuses lines after
// the first diff that belong to none: gitdiff skips what it does not know
// there, so that a hunk whose header counts too few lines would apply in part.
func (p *Patch) account() error {
	var hunks []*gitdiff.TextFragment
	for _, f := range p.Files {
		if f.BinaryFragment != nil {
			return nil // refused by checkFile
		}
		hunks = append(hunks, f.TextFragments...)
	}
	p.lines = make(map[*gitdiff.TextFragment]int, len(hunks))
	lines := strings.Split(strings.TrimSuffix(string(p.raw), "\n"), "\n")
	diff := false
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if !diff {
			diff = strings.HasPrefix(line, "diff --git ")
			continue
		}
		if !headerLine.MatchString(line) {
			return fmt.Errorf("line %d is no part of a hunk or header: %q", i+1, clip(line))
		}
		if strings.HasPrefix(line, "@@ -") {
			if len(hunks) == 0 {
				return fmt.Errorf("line %d: hunk belongs to no file", i+1)
			}
			p.lines[hunks[0]] = i + 1
			// skip its lines; "\ No newline" inside is not one of them
			for n := len(hunks[0].Lines); n > 0 && i+1 < len(lines); {
				i++
				if !strings.HasPrefix(lines[i], `\ `) {
					n--
				}
			}
			hunks = hunks[1:]
		}
	}
	if !diff {
		return errors.New("no line begins with diff --git: make the patch with git format-patch")
	}
	if len(hunks) > 0 {
		return errors.New("hunks and lines do not agree")
	}
	return nil
}

// target returns the name that a file has after the change, or had before it
// was deleted.
func target(f *gitdiff.File) string {
	if f.NewName != "" {
		return f.NewName
	}
	return f.OldName
}

func clip(s string) string {
	if r := []rune(s); len(r) > 100 {
		return string(r[:100]) + "…"
	}
	return s
}
