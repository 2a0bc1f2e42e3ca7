package house

import (
	"go/ast"
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

// elsewhere are exports that something else than Go reads.
var elsewhere = map[string]string{"Release": "Makefile"}

// exports are what packages export and mention, by the packages' folders.
type exports struct {
	names map[string]string          // of each folder: its package's name
	at    map[[2]string]string       // folder, name: where it stands
	group map[[2]string][]string     // folder, constant: its group's names
	said  map[string]map[string]bool // of each folder: names in exported declarations
	used  map[[2]string]bool         // folder, name: mentioned in another package
}

// add takes in a file of the package in dir.
func (x *exports) add(name string, f *ast.File) {
	dir := path.Dir(name)
	if x.said[dir] == nil {
		x.said[dir] = map[string]bool{}
	}
	x.names[dir] = f.Name.Name
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() {
				x.mention(dir, d.Type)
				if d.Recv == nil {
					x.at[[2]string{dir, d.Name.Name}] = name
				}
			}
		case *ast.GenDecl:
			x.general(dir, name, d)
		}
	}
}

func (x *exports) general(dir, name string, d *ast.GenDecl) {
	var group []string
	enumeration := false // constants of an exported type
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				x.at[[2]string{dir, s.Name.Name}] = name
				x.mention(dir, s.Type)
			}
		case *ast.ValueSpec:
			if s.Type != nil {
				x.mention(dir, s.Type)
				of, ok := s.Type.(*ast.Ident)
				enumeration = enumeration || ok && of.IsExported() && d.Tok == token.CONST
			}
			for _, n := range s.Names {
				if n.IsExported() && !enumeration {
					x.at[[2]string{dir, n.Name}] = name
					group = append(group, n.Name)
				}
			}
		}
	}
	for _, n := range group {
		x.group[[2]string{dir, n}] = group
	}
}

// mention notes the exported names that an exported declaration shows: no unexported fields.
func (x *exports) mention(dir string, n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			for _, f := range n.Fields.List {
				if len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
					x.mention(dir, f.Type)
				}
			}
			return false
		case *ast.Ident:
			x.said[dir][n.Name] = true
		}
		return true
	})
}

// uses notes what a file mentions of other packages: their own external tests count as theirs.
func (x *exports) uses(name string, f *ast.File) {
	from := map[string]string{} // name in the file: folder
	for _, spec := range f.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		dir, own := strings.CutPrefix(imported, module)
		if !own || dir == path.Dir(name) {
			continue
		}
		as := x.names[dir]
		if spec.Name != nil {
			as = spec.Name.Name
		}
		from[as] = dir
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if p, ok := s.X.(*ast.Ident); ok && from[p.Name] != "" {
				x.used[[2]string{from[p.Name], s.Sel.Name}] = true
			}
		}
		return true
	})
}

// inside are the exports that no other package mentions and that no exported declaration shows.
// Errors are for errors.Is and errors.As; of a group of constants one use is enough, and none of
// those of an exported type. Packages of tests are for the tests next to them.
func (x *exports) inside() map[string][]string {
	all := map[string][]string{}
	for at, file := range x.at {
		dir, name := at[0], at[1]
		mentioned := func(n string) bool { return x.used[[2]string{dir, n}] }
		if x.names[dir] == "main" || strings.HasPrefix(dir, "tests/") || mentioned(name) ||
			x.said[dir][name] || strings.HasPrefix(name, "Err") ||
			strings.HasSuffix(name, "Error") ||
			slices.ContainsFunc(x.group[at], mentioned) {
			continue
		}
		all[file] = append(all[file], name)
	}
	return all
}

func newExports(t *testing.T, files map[string]string) *exports {
	x := &exports{
		names: map[string]string{}, at: map[[2]string]string{}, group: map[[2]string][]string{},
		said: map[string]map[string]bool{}, used: map[[2]string]bool{},
	}
	parsed := map[string]*ast.File{}
	for name, text := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		require.NoError(t, err)
		parsed[name] = f
		if !strings.HasSuffix(name, "_test.go") {
			x.add(name, f)
		}
	}
	for name, f := range parsed {
		x.uses(name, f)
	}
	return x
}

// TestExports: what a package exports, another one uses.
func TestExports(t *testing.T) {
	files := map[string]string{}
	for _, name := range sources(t) {
		if language(name) == "go" {
			files[name] = read(t, name)
		}
	}
	for name, names := range newExports(t, files).inside() {
		for _, export := range names {
			if by := elsewhere[export]; by == "" || !strings.Contains(read(t, by), export) {
				assert.Fail(t, "used only inside its package", "%s: %s", name, export)
			}
		}
	}
}

func TestExportsRules(t *testing.T) {
	x := newExports(t, map[string]string{
		"a/a.go": `package first
type (
	Used struct { Shown Field; hidden Hidden }
	Field int
	Hidden int
)
var ErrBad error
const ( One = iota; Two )
const Alone = 1
const ( Kind1 Kind = iota; Kind2 )
type Kind int
func Called(Taken) Given { return 0 }
type ( Taken int; Given int )
func Inside() {}
func (Used) Method(Argument) {}
type Argument int`,
		"a/a_test.go": `package first_test
import "github.com/longrope/longrope/a"
var _ = first.Inside`,
		"b/b.go": `package b
import other "github.com/longrope/longrope/a"
var _ = []any{other.Used{}, other.Two, other.Called}`,
	})
	got := x.inside()["a/a.go"]
	slices.Sort(got)
	assert.Equal(t, []string{"Alone", "Hidden", "Inside"}, got)
}
