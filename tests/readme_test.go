package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
)

// example is a command of the README and what it is said to print.
type example struct {
	line    int
	command string
	output  []string
}

// regions are the examples of a Markdown text to be run, by region. A region lies between the comments test:begin and
// test:end. In it, blocks marked console are run; of these, a line after "$ " is a command, which lines after "> "
// continue, and the other lines are its output.
func regions(markdown string) ([][]example, error) {
	var all [][]example
	var inside, console, block bool
	for i, line := range strings.Split(markdown, "\n") {
		fence := strings.HasPrefix(line, "```")
		switch {
		case strings.TrimSpace(line) == "<!-- test:begin -->":
			if inside {
				return nil, fmt.Errorf("line %d: test:begin within a region", i+1)
			}
			inside, all = true, append(all, nil)
		case strings.TrimSpace(line) == "<!-- test:end -->":
			if !inside || block {
				return nil, fmt.Errorf("line %d: test:end without test:begin, or within a block", i+1)
			}
			inside = false
		case fence && !block:
			block, console = true, inside && strings.TrimSpace(line) == "```console"
		case fence:
			block, console = false, false
		case console:
			region := &all[len(all)-1]
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				*region = append(*region, example{line: i + 1, command: command})
				continue
			}
			if len(*region) == 0 {
				return nil, fmt.Errorf("line %d: output before the first command", i+1)
			}
			last := &(*region)[len(*region)-1]
			if more, ok := strings.CutPrefix(line, "> "); ok && len(last.output) == 0 {
				last.command += "\n" + more
				continue
			}
			last.output = append(last.output, line)
		}
	}
	if inside || block {
		return nil, fmt.Errorf("a region or a block has no end")
	}
	return all, nil
}

var (
	number = regexp.MustCompile(`[0-9][0-9,]*(\.[0-9]+)?(e[+-]?[0-9]+)?`)
	blanks = regexp.MustCompile(`[ \t]+`)
)

// normal is a line without what may differ from run to run: the values of numbers, and the blanks that line up columns.
func normal(line string) string {
	return blanks.ReplaceAllString(number.ReplaceAllString(strings.TrimSpace(line), "#"), " ")
}

// matches tells whether lines are the expected ones, of which "..." stands for any number of lines.
func matches(expected, lines []string) bool {
	if len(expected) == 0 {
		return len(lines) == 0
	}
	if strings.TrimSpace(expected[0]) == "..." {
		for i := range len(lines) + 1 {
			if matches(expected[1:], lines[i:]) {
				return true
			}
		}
		return false
	}
	return len(lines) > 0 && normal(expected[0]) == normal(lines[0]) && matches(expected[1:], lines[1:])
}

// outputLines are those of a text without blank lines at its end.
func outputLines(s string) []string {
	s = strings.TrimRight(s, " \n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// What the README says that commands print, they print.
func TestReadme(t *testing.T) {
	bin := filepath.Dir(program(t))
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	all, err := regions(string(readme))
	require.NoError(t, err)
	require.NotEmpty(t, all, "no region between <!-- test:begin --> and <!-- test:end -->")
	for _, region := range all {
		require.NotEmpty(t, region, "a region has no command")
		t.Run(fmt.Sprintf("line %d", region[0].line), func(t *testing.T) {
			dir, store := t.TempDir(), t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "default.gguf"), defaultmodel.Model, 0o644))
			for _, x := range region {
				cmd := exec.CommandContext(t.Context(), "sh", "-c", x.command)
				cmd.Dir = dir
				// No example may reach a server or a store of the user's.
				cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
					"OLLAMA_MODELS="+store, "OLLAMA_HOST=127.0.0.1:1", "LC_ALL=C")
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "README.md:%d: %s\n%s", x.line, x.command, out)
				assert.True(t, matches(outputLines(strings.Join(x.output, "\n")), outputLines(string(out))),
					"README.md:%d: %s prints other lines than the README says (numbers may differ). It says:\n%s\n\nIt prints:\n%s",
					x.line, x.command, strings.Join(x.output, "\n"), out)
			}
		})
	}
}

func TestReadmeRules(t *testing.T) {
	const text = "```console\n$ false\n```\n<!-- test:begin -->\n```console\n$ a \\\n> b\nx 1,024   y\n...\nz\n\n$ c\n```\n```\n$ d\n```\n<!-- test:end -->\n"
	all, err := regions(text)
	require.NoError(t, err)
	require.Equal(t, [][]example{{{6, "a \\\nb", []string{"x 1,024   y", "...", "z", ""}}, {12, "c", nil}}}, all)

	want := outputLines(strings.Join(all[0][0].output, "\n"))
	for output, ok := range map[string]bool{
		"x 7 y\nz\n": true, "x 1.5e-3 y\nmore\nand more\nz": true,
		"x 7 y\nz\nmore": false, "x y\nz": false, "x 7 w\nz": false, "x 7 y": false, "": false,
	} {
		assert.Equal(t, ok, matches(want, outputLines(output)), output)
	}
	for _, bad := range []string{"<!-- test:begin -->", "<!-- test:end -->", "<!-- test:begin -->\n```console\nx\n```\n<!-- test:end -->",
		"<!-- test:begin -->\n<!-- test:begin -->", "<!-- test:begin -->\n```console\n<!-- test:end -->"} {
		_, err := regions(bad)
		assert.Error(t, err, bad)
	}
}
