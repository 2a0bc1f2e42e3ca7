// Package doctor is "ollama longrope doctor": whether this installation runs models with ladders as
// it should, and what on the machine gets in its way.
package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/patches"
)

// A Grade says how a finding is.
type Grade string

// The grades.
const (
	OK    Grade = "ok"
	Note  Grade = "note"  // works, with something to know
	Fault Grade = "fault" // wrong numbers, or does not work
)

// finding is one line of the report, and what there is to say of it.
type finding struct {
	Grade   Grade    `json:"grade"`
	Subject string   `json:"subject"`
	Text    string   `json:"text"`
	More    []string `json:"more,omitempty"`
}

// report is all that was found.
type report struct {
	Version string `json:"version"` // as Version
	Host    string `json:"host"`    // version of the ollama that this is made of
	Series  string `json:"series"`  // SHA-256 of the patches in it
	Program string `json:"program"`

	Findings []finding `json:"findings"`
}

func (r *report) add(grade Grade, subject, text string, more ...string) {
	r.Findings = append(r.Findings, finding{grade, subject, text, more})
}

// Faults counts the findings that are faults.
func (r *report) Faults() int {
	n := 0
	for _, f := range r.Findings {
		if f.Grade == Fault {
			n++
		}
	}
	return n
}

// Text is the report as a page.
func (r *report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", Versions(), r.Program)
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-5s  %-10s  %s\n", f.Grade, f.Subject, f.Text)
		for _, line := range f.More {
			fmt.Fprintf(&b, "%-5s  %-10s  %s\n", "", "", line)
		}
	}
	return b.String()
}

// Versions is the line of "ollama --version" that keeps this program apart from the ollama that it
// is made of.
func Versions() string {
	return fmt.Sprintf("longrope version is %s, of ollama %s with patches %.12s",
		strings.TrimPrefix(patches.Version(), "v"), strings.TrimPrefix(patches.HostVersion, "v"),
		series())
}

// series is the hash of the patches that are in this program.
func series() string {
	s, err := patches.Embedded()
	if err != nil {
		return "unknown"
	}
	return s.Hash()
}

// A machine is what the doctor looks at. Tests give others.
type machine struct {
	program string // of this process, with links resolved
	path    string // PATH
	host    string // URL of the server
	// backends are the folders of GPU backends, the CPU's first, and what a process of its own
	// found in each.
	backends func(ctx context.Context) []backend
	devices  func(ctx context.Context) []string
	store    func() (*convert.Store, error)
}

// examine makes the report.
func (m machine) examine(ctx context.Context) *report {
	r := &report{
		Version: patches.Version(), Host: patches.HostVersion, Series: series(),
		Program: m.program,
	}
	m.examinePath(ctx, r)
	for _, b := range m.backends(ctx) {
		b.describe(r)
	}
	if there := m.devices(ctx); len(there) > 0 {
		r.add(OK, "memory", there[0], there[1:]...)
	}
	patched := m.examineServer(ctx, r)
	m.examineStore(r, patched)
	return r
}
