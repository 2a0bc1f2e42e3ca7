package patches

import (
	"fmt"
	"strings"
)

// Markers in README.md between which the table of patches stands.
const (
	tableBegin = "<!-- table: made by go test ./patches -update -->"
	tableEnd   = "<!-- end of table -->"
)

// Table returns the series as a table in Markdown, made from the headers of
// the patches: number, area, what it does and why, how much it touches, and
// where it stands upstream.
func (s Series) Table() string {
	var b strings.Builder
	b.WriteString("| no. | area | what, and the symptom it removes | touches | upstream " +
		"|\n|---|---|---|---|---|\n")
	for _, p := range s {
		var added, deleted int64
		for _, f := range p.Files {
			for _, frag := range f.TextFragments {
				added += frag.LinesAdded
				deleted += frag.LinesDeleted
			}
		}
		files := fmt.Sprintf("%d files", len(p.Files))
		if len(p.Files) == 1 {
			files = "1 file"
		}
		fmt.Fprintf(&b, "| [%04d](%s) | %s | **%s.** %s | %s, +%d −%d | %s |\n", p.Number, p.Name,
			cell(p.Area), cell(upperFirst(p.Title)),
			cell(firstSentence(upperFirst(p.Section("Symptom")))), files, added, deleted,
			cell(p.Upstream))
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func upperFirst(s string) string {
	if s == "" || strings.ContainsAny(s[:strings.IndexAny(s+" ", " ")], "_.0123456789") {
		return s // a name of the code keeps its case
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i >= 0 {
		return s[:i+1]
	}
	return s
}

// withTable returns a README with the table between the markers replaced.
func withTable(readme, table string) (string, error) {
	begin, rest, ok := strings.Cut(readme, tableBegin)
	_, end, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return "", fmt.Errorf("README.md has no %q … %q", tableBegin, tableEnd)
	}
	return begin + tableBegin + "\n" + table + tableEnd + end, nil
}
