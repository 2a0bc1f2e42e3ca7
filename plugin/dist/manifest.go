package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/longrope/longrope/patches"
)

// manifest says what a release is, and what of it was checked.
type manifest struct {
	Version string `json:"version"` // the tag
	Host    string `json:"host"`    // version of ollama
	Series  string `json:"series"`  // SHA-256 of the patches
	Patches int    `json:"patches"`
	Commit  string `json:"commit,omitempty"`
	Date    string `json:"date"`
	Arch    string `json:"arch"`
	Go      string `json:"go"` // version of the compiler

	// Backends says of each, also those that are not in the release, how it was checked: the table
	// of patches/README.md.
	Backends []checked `json:"backends"`
	// NotChecked is what a user should know before a release is relied on.
	NotChecked []string `json:"not_checked"`
	// NotMade are tarballs that a release could have, and why it has them not.
	NotMade []string `json:"not_made,omitempty"`
	// Made are the compilers of the tarballs that are compiled apart, and what they are for.
	Made []string `json:"made,omitempty"`
	// LicencesMissing are parts whose licence was not where it is looked for.
	LicencesMissing []string `json:"licences_missing,omitempty"`

	Archives []archive `json:"archives"`
}

type checked struct {
	Backend string `json:"backend"`
	Rows    string `json:"rows"`
	By      string `json:"checked_by"`
}

type archive struct {
	Name  string            `json:"name"`
	Files map[string]string `json:"files"` // SHA-256 by name
}

func (r *release) manifest(missing []string) (*manifest, error) {
	series, err := patches.Embedded()
	if err != nil {
		return nil, err
	}
	stamp, err := patches.ReadStamp(filepath.Join(r.build, "host"))
	if err != nil {
		return nil, fmt.Errorf("the host that the program was built from: %w: run make build", err)
	}
	if stamp.Series != series.Hash() {
		return nil, fmt.Errorf("%s/host has the patches %.12s, the tree has %.12s: run make build",
			r.build, stamp.Series, series.Hash())
	}
	info, err := buildinfo.ReadFile(r.binary)
	if err != nil {
		return nil, err
	}
	readme, err := os.ReadFile("patches/README.md")
	if err != nil {
		return nil, fmt.Errorf("%w: run from the top of the source", err)
	}
	table, err := backendTable(string(readme))
	if err != nil {
		return nil, err
	}
	m := &manifest{
		Version: patches.Version(), Host: patches.HostVersion, Series: series.Hash(),
		Patches: len(series), Commit: r.commit, Date: r.time.Format("2006-01-02"), Arch: r.arch,
		Go: info.GoVersion, Backends: table, LicencesMissing: missing,
		NotChecked: []string{"no backend of a GPU has run on a GPU"},
	}
	for _, part := range parts {
		text, made := r.made(part)
		if made {
			m.Made = append(m.Made, part+": "+text)
		} else {
			m.NotMade = append(m.NotMade, part+": "+text)
		}
	}
	if r.arch != runtime.GOARCH {
		m.NotChecked = append(m.NotChecked,
			"compiled by a cross compiler: not run on such a machine", "no Vulkan backend")
		m.Made, m.NotMade = nil, nil // which are of the other tarballs
	}
	return m, nil
}

// parts are the tarballs that scripts of their own compile: cuda.sh and arm64.sh of
// patches/scripts.
var parts = []string{"cuda", "arm64"}

// made is the line that such a script has left: "made", or "left out", and more. Without one the
// part is left out.
func (r *release) made(part string) (text string, made bool) {
	b, err := os.ReadFile(filepath.Join(r.build, part+".txt"))
	if err != nil {
		return "left out: make dist has not come to it", false
	}
	text = strings.TrimSpace(string(b))
	return text, strings.HasPrefix(text, "made")
}

// backendTable reads the table of how each backend was checked.
func backendTable(readme string) ([]checked, error) {
	_, section, ok := strings.Cut(readme, "\n## Backends, and how each was checked\n")
	var rows []checked
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "#") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || !strings.HasPrefix(line, "| ") {
			continue
		}
		c := checked{
			strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]),
		}
		if c.Backend != "backend" {
			rows = append(rows, c)
		}
	}
	if !ok || len(rows) < 3 {
		return nil, fmt.Errorf("patches/README.md has no table of how backends were checked")
	}
	return rows, nil
}
