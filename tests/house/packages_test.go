package house

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
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

// program are the packages of plugin, from the bottom to the top: each may import those before it
// in this list, and no other one of plugin.
var program = []string{
	"plugin/tail", "plugin/terminal", "plugin/units", "plugin/server", "plugin/kernel",
	"plugin/memory", "plugin/engine", "plugin/workers", "plugin/search",
	"plugin/search/searchtest", "plugin/extend", "plugin/extend/extendtest", "plugin/longrope",
	"plugin/doctor", "plugin/demo", "plugin/ollama", "plugin/dist",
}

// silent are packages that show nothing: neither flags nor a terminal belong in them.
var silent = []string{"plugin/search", "plugin/extend", "plugin/workers"}

// terminals are modules that silent packages do not import.
var terminals = []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"}

// TestProgram holds the order of plugin's packages.
func TestProgram(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range sources(t) {
		dir := path.Dir(name)
		if language(name) != "go" || !strings.HasPrefix(name, "plugin/") {
			continue
		}
		place := slices.Index(program, dir)
		require.GreaterOrEqual(t, place, 0, "%s: its package is not in the list program", name)
		seen[dir] = true
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, imported := range imports(t, name, read(t, name)) {
			if slices.Contains(silent, dir) {
				assert.NotContains(t, terminals, imported, "%s imports %s", name, imported)
			}
			rest, own := strings.CutPrefix(imported, module)
			if !own || !strings.HasPrefix(rest, "plugin/") {
				continue
			}
			at := slices.Index(program, rest)
			assert.True(t, at >= 0 && at < place, "%s imports %s, which is not below it", name,
				rest)
		}
	}
	assert.Len(t, seen, len(program), "a package in the list program is no more")
}

// TestWithoutCgo: the packages that README says need no compiled host, and their tests, compile
// without cgo, and import no package that needs it.
func TestWithoutCgo(t *testing.T) {
	const excluded = "{{with .Error}}{{.}}{{end}}" +
		"{{if not (or .Standard .GoFiles)}}" +
		"{{.ImportPath}} has no Go file without cgo{{end}}"
	packages := []string{
		"./ropescale/...", "./convert/...", "./evals/...", "./patches/...", "./plugin/...",
	}
	for _, args := range [][]string{{"list", "-e", "-deps", "-test", "-f", excluded}, {"vet"}} {
		cmd := exec.Command("go", append(args, packages...)...)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %s: %s", args[0], said)
		assert.Empty(t, strings.TrimSpace(string(said)), "go %s", args[0])
	}
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

// imports are the packages that a Go file imports.
func imports(t *testing.T, name, text string) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
	require.NoError(t, err)
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		all = append(all, imported)
	}
	return all
}

// ours are those of this module, without its path.
func ours(t *testing.T, name, text string) (all []string) {
	t.Helper()
	for _, imported := range imports(t, name, text) {
		if rest, ok := strings.CutPrefix(imported, module); ok {
			all = append(all, rest)
		}
	}
	return all
}
