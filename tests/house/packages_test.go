package house

import (
	"fmt"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A package has at most so many lines and files, tests not counted.
const (
	maxPackageLines = 4000
	maxPackageFiles = 25
)

const module = "github.com/longrope/longrope/"

// layers are the top folders with the packages of this module that each may import, its own aside.
// Imports run one way: the maths know no files, files and measurements no engine, and nothing but
// the program and tests across packages knows the program.
var layers = map[string][]string{
	"ropescale": {},
	"convert":   {"ropescale"},
	"evals":     {"ropescale", "convert/atomicfile"},
	"patches":   {},
	"plugin":    {"ropescale", "convert", "evals", "patches"},
}

// TestPackages holds the direction of imports and the size of packages.
func TestPackages(t *testing.T) {
	lines, files := map[string]int{}, map[string]int{}
	for _, name := range sources(t) {
		if language(name) != "go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text := read(t, name)
		dir := path.Dir(name)
		lines[dir] += strings.Count(text, "\n")
		files[dir]++
		top, _, _ := strings.Cut(name, "/")
		allowed, ok := layers[top]
		if !ok {
			continue // tests may import all
		}
		for _, imported := range ours(t, name, text) {
			allowedHere := imported == top || strings.HasPrefix(imported, top+"/") ||
				slices.ContainsFunc(allowed, func(prefix string) bool {
					return imported == prefix || strings.HasPrefix(imported, prefix+"/")
				})
			assert.True(t, allowedHere, "%s imports %s: %s may import %v", name, imported, top,
				allowed)
		}
	}
	broken := map[string][]string{}
	for dir, n := range lines {
		if n > maxPackageLines {
			broken[dir] = append(broken[dir],
				fmt.Sprintf("%d lines, more than %d", n, maxPackageLines))
		}
		if files[dir] > maxPackageFiles {
			broken[dir] = append(broken[dir],
				fmt.Sprintf("%d files, more than %d", files[dir], maxPackageFiles))
		}
	}
	require.NotEmpty(t, lines)
	holds(t, "packages.txt", broken)
}

// ours are the packages of this module that a Go file imports.
func ours(t *testing.T, name, text string) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
	require.NoError(t, err)
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		if rest, ok := strings.CutPrefix(imported, module); ok {
			all = append(all, rest)
		}
	}
	return all
}
