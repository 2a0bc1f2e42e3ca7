package arch

import (
	"fmt"
	"strings"
)

// Row is an architecture in the matrix.
type Row struct {
	Name, Llama, Go, Notes string
}

// Markers between which the matrix stands.
const (
	tableBegin = "<!-- matrix: made by go test ./tests/arch -update -->"
	tableEnd   = "<!-- end of matrix -->"
)

// Table is the matrix in Markdown.
func Table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| architecture | llama.cpp engine | Go engine | notes |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Name, r.Llama, r.Go, r.Notes)
	}
	return b.String()
}

// withTable is a text with the table between the markers replaced.
func withTable(text, table string) (string, error) {
	begin, rest, ok := strings.Cut(text, tableBegin)
	_, end, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return "", fmt.Errorf("no %q … %q", tableBegin, tableEnd)
	}
	return begin + tableBegin + "\n" + table + tableEnd + end, nil
}
