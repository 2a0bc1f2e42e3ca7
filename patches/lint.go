package patches

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var (
	zeroCommit = regexp.MustCompile(`^From 0{40} `)
	subject    = regexp.MustCompile(`(?m)^Subject: (.*)$`)
	numbered   = regexp.MustCompile(`\[[^\]]*[0-9]+/[0-9]+\]`)
	areaForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9._/-]*$`)
	upstream   = regexp.MustCompile(`^(https?://\S+|N/A\W.*\S+\s+\S+)`)
	signedOff  = regexp.MustCompile(`(?m)^Signed-off-by: [^<>]+ <[^<>@\s]+@[^<>\s]+>$`)
	slugged    = regexp.MustCompile(`[^A-Za-z0-9._]+`)
)

// sections are what the body of a message must have, each in a paragraph that
// begins with its name, or on a line of its own in the last ones.
var sections = []string{"Symptom", "Cause", "Remedy", "Why not outside the host", "Tests"}

// Lint says everything that the series lacks, one error a line, nil when it
// lacks nothing. It holds each patch to what a person needs who meets it years
// later or sends it upstream:
//
//   - numbers from 0001 without a gap, the area in the name, and all zeros for
//     the commit, so that a patch written again has the same bytes;
//   - "Subject: [PATCH] area: what", without [n/m], which would change with the
//     length of the series;
//   - a body with the symptom, its cause, the remedy, why it cannot be done
//     outside the host, and the tests that cover it, each under its name;
//   - "Upstream:", the URL of an issue or pull request, or "N/A" and why;
//   - "Signed-off-by:".
func (s Series) Lint() error {
	var errs []error
	for i, p := range s {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s: %s", p.Name, fmt.Sprintf(format, args...)))
		}
		if p.Number != i+1 {
			bad("is number %d in the series: numbers go up from 0001 without a gap", i+1)
		}
		head := string(p.raw)
		if j := strings.Index(head, "\ndiff --git "); j >= 0 {
			head = head[:j]
		}
		if !zeroCommit.MatchString(head) {
			bad("first line is not From and 40 zeros: use git format-patch --zero-commit")
		}
		if p.header.Author == nil || p.header.Author.Email == "" {
			bad("no From: header with a name and address")
		}
		m := subject.FindStringSubmatch(head)
		switch {
		case m == nil:
			bad("no Subject: header")
		case numbered.MatchString(m[1]):
			bad("subject is numbered (%s): use git format-patch --no-numbered",
				numbered.FindString(m[1]))
		case !strings.HasPrefix(m[1], "[PATCH] "):
			bad("subject does not begin with [PATCH]")
		case !areaForm.MatchString(p.Area) || p.Title == "":
			bad("subject is not \"area: what\" with a lower-case area")
		default:
			if area := slugged.ReplaceAllString(p.Area, "-"); !strings.HasPrefix(p.Name[5:],
				area+"-") {
				bad("subject has the area %q, the name another", p.Area)
			}
		}
		for _, name := range sections {
			if p.Section(name) == "" {
				bad("message has no \"%s: …\"", name)
			}
		}
		switch {
		case p.Upstream == "":
			bad("no Upstream: trailer: give the URL, or N/A and why")
		case !upstream.MatchString(p.Upstream):
			bad("Upstream: %q is neither a URL nor N/A with a reason", clip(p.Upstream))
		}
		if !signedOff.MatchString(p.header.Body) {
			bad("no Signed-off-by: trailer with a name and address")
		}
	}
	return errors.Join(errs...)
}

// Section returns what the message says under "name: …", up to the next empty
// line or the next section, on one line; "" when there is no such section.
func (p *Patch) Section(name string) string {
	var out []string
	in := false
	for _, line := range strings.Split(p.Body, "\n") {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			in, line = true, rest
		} else if strings.TrimSpace(line) == "" || isSection(line) {
			in = false
		}
		if in {
			out = append(out, strings.Fields(line)...)
		}
	}
	return strings.Join(out, " ")
}

func isSection(line string) bool {
	for _, name := range sections {
		if strings.HasPrefix(line, name+":") {
			return true
		}
	}
	return false
}
