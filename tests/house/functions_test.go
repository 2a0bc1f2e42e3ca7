package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// maxFunction is how many lines a function may have, its tables not counted.
const maxFunction = 80

// long are the functions of a Go file that are too long, by "file:Type.Name".
func long(t *testing.T, name, text string) map[string][]string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	require.NoError(t, err)
	span := func(n ast.Node) int {
		return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line
	}
	broken := map[string][]string{}
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		lines := span(fn) + 1
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			switch lit.Type.(type) {
			case *ast.ArrayType, *ast.MapType: // a table: its rows are data
				lines -= span(lit)
				return false
			}
			return true
		})
		if lines > maxFunction {
			key := name + ":" + function(fn)
			broken[key] = []string{
				fmt.Sprintf("has %d lines without its tables, more than %d", lines, maxFunction),
			}
		}
	}
	return broken
}

// function is a function's name, behind the type that it is a method of.
func function(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	return fmt.Sprint(typ) + "." + fn.Name.Name
}

// Functions are at most 80 lines long, tables aside.
func TestFunctions(t *testing.T) {
	broken := map[string][]string{}
	for _, name := range sources(t) {
		if language(name) != "go" {
			continue
		}
		text := read(t, name)
		if generated(text) {
			continue
		}
		for key, faults := range long(t, name, text) {
			broken[key] = faults
		}
	}
	holds(t, "functions.txt", broken)
}

func TestFunctionsRules(t *testing.T) {
	body := strings.Repeat("\tx++\n", 79)
	text := "package p\nfunc (t *T[K]) F() {\n" + body + "}\n"
	assert.Contains(t, long(t, "a.go", text), "a.go:T.F")
	text = "package p\nfunc f() {\n" + body[5:] + "}\n"
	assert.Empty(t, long(t, "a.go", text))
	text = "package p\nfunc f() {\n\tx := []int{\n" + strings.Repeat("\t1,\n", 90) + "\t}\n}\n"
	assert.Empty(t, long(t, "a.go", text))
}
