package house

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "remove exemptions that are not needed any more, "+
	"and write the JSON files of evals/results")

// root is the repository's top folder, as seen from this package.
const root = "../.."

// sources are the text files of the repository that people write, by slash-separated path from the
// top: all but build outputs, hidden folders and the host's lines in patches.
func sources(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			if name == "build" || d.Name() == "__pycache__" || name != "." && d.Name()[0] == '.' {
				return filepath.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && language(name) != "" {
			all = append(all, name)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(all), 100, "the repository's files are not where this test looks")
	return all
}

// language is the kind of text that a file holds, "" for a file that no rule is about.
func language(name string) string {
	if filepath.Base(name) == "Makefile" {
		return "sh"
	}
	switch filepath.Ext(name) {
	case ".go":
		return "go"
	case ".md":
		return "md"
	case ".py":
		return "py"
	case ".sh":
		return "sh"
	case ".c", ".cpp", ".h":
		return "c"
	}
	return ""
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(data)
}

// generated reports whether a Go file says that a program wrote it.
func generated(text string) bool {
	return strings.HasPrefix(text, "// Code generated ")
}

// holds compares what breaks a rule with the rule's exemptions. broken has what is to be said of
// each file or function that breaks it.
func holds(t *testing.T, list string, broken map[string][]string) {
	t.Helper()
	path := filepath.Join("testdata", list)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	exempt := strings.Fields(string(data))
	require.True(t, slices.IsSorted(exempt), "%s is not sorted", path)

	var needed []string
	for _, name := range exempt {
		if broken[name] != nil {
			needed = append(needed, name)
		} else if !*update {
			t.Errorf("%s keeps the rule, or is no more: remove it from tests/house/%s, "+
				"or run `go test ./tests/house -update`", name, path)
		}
	}
	if *update {
		text := strings.Join(needed, "\n")
		if text != "" {
			text += "\n"
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	for name, faults := range broken {
		if !slices.Contains(exempt, name) {
			t.Errorf("%s:\n  %s", name, strings.Join(faults, "\n  "))
		}
	}
}
