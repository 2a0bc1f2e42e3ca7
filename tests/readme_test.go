package tests

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
)

// example is a command of the README and what it is said to print.
type example struct {
	line    int
	command string
	output  []string
}

// regions are the examples of a Markdown text to be run, by region. A region lies between the
// comments test:begin and test:end. In it, blocks marked console are run; of these, a line after "$
// " is a command, which lines after "> " continue, and the other lines are its output.
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
				return nil, fmt.Errorf(
					"line %d: test:end without test:begin, or within a block",
					i+1,
				)
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

var blanks = regexp.MustCompile(`[ \t]+`)

// normal is a line without what says nothing: the blanks that line up columns. Its numbers are
// held: what the examples print is computed in float64, and the same on every machine.
func normal(line string) string {
	return blanks.ReplaceAllString(strings.TrimSpace(line), " ")
}

// matches reports whether lines are the expected ones, of which "..." stands for any number of
// lines.
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
	return len(lines) > 0 && normal(expected[0]) == normal(lines[0]) &&
		matches(expected[1:], lines[1:])
}

// outputLines are those of a text without blank lines at its end.
func outputLines(s string) []string {
	s = strings.TrimRight(s, " \n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// The README's examples print the lines that it has, numbers included.
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
			require.NoError(
				t,
				os.WriteFile(filepath.Join(dir, "default.gguf"), defaultmodel.Model, 0o644),
			)
			for _, x := range region {
				cmd := exec.CommandContext(t.Context(), "sh", "-c", x.command)
				cmd.Dir = dir
				// No example may reach a server or a store of the user's.
				cmd.Env = append(
					os.Environ(),
					"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
					"OLLAMA_MODELS="+store,
					"OLLAMA_HOST=127.0.0.1:1",
					"LC_ALL=C",
				)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "README.md:%d: %s\n%s", x.line, x.command, out)
				assert.True(
					t,
					matches(outputLines(strings.Join(x.output, "\n")), outputLines(string(out))),
					"README.md:%d: %s does not print the README's lines:\n%s\n\nIt prints:\n%s",
					x.line,
					x.command,
					strings.Join(x.output, "\n"),
					out,
				)
			}
		})
	}
}

// reported is a table of the README that a JSON report of a command backs, under a comment such as
//
//	<!-- report: build/run/report.json cpu=icelake -->
type reported struct {
	path, cpu string
	rows      [][]string
}

var reportComment = regexp.MustCompile(`(?m)^<!-- report: (\S+) cpu=(\w+) -->\n((?:\|.*\n)+)`)

func reports(markdown string) (all []reported) {
	for _, m := range reportComment.FindAllStringSubmatch(markdown, -1) {
		r := reported{path: m[1], cpu: m[2]}
		for _, line := range strings.Split(strings.TrimSpace(m[3]), "\n")[2:] {
			var row []string
			for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
				row = append(row, strings.TrimSpace(cell))
			}
			r.rows = append(r.rows, row)
		}
		all = append(all, r)
	}
	return all
}

// The README's table of what to expect is that of the last `make run`. Perplexities of methods that
// need no search differ between kinds of processors by rounding: by no more than 0.1 % here, and by
// one key of twenty. A search takes another course after the first such difference, so the figures
// of searched factors are held where the backend is the one that the README's run had.
func TestReadmeReport(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	all := reports(string(readme))
	require.NotEmpty(t, all, "no table under <!-- report: PATH cpu=KIND -->")
	for _, table := range all {
		data, err := os.ReadFile(filepath.Join("..", table.path))
		if err != nil {
			t.Skipf("nothing to compare the README's table with (%v): make run", err)
		}
		var report struct {
			Rows    []evals.Row
			Details struct{ Engine evals.Info }
		}
		require.NoError(t, json.Unmarshal(data, &report), table.path)
		same := strings.Contains(report.Details.Engine.Backend, table.cpu)
		for _, fault := range table.differs(report.Rows, same) {
			t.Error(fault)
		}
	}
}

// differs are the differences between a README's table, of the longest length, and measured rows.
func (r reported) differs(measured []evals.Row, same bool) (faults []string) {
	length := 0
	for _, row := range measured {
		length = max(length, row.Length)
	}
	for _, row := range r.rows {
		i := slices.IndexFunc(measured, func(m evals.Row) bool {
			return m.Method == row[0] && m.Length == length
		})
		if i < 0 || measured[i].Figure("perplexity") == nil ||
			measured[i].Figure("passkey") == nil {
			faults = append(
				faults,
				fmt.Sprintf("%s has no %s at %d tokens", r.path, row[0], length),
			)
			continue
		}
		m := measured[i]
		if row[0] == "longrope" && !same {
			continue
		}
		ppl := fmt.Sprintf("%.2f ± %.2f", *m.Figure("perplexity"), *m.Figure("perplexity_stderr"))
		keys := fmt.Sprintf(
			"%.0f %% (%.0f–%.0f)",
			100**m.Figure("passkey"),
			100**m.Figure("passkey_low"),
			100**m.Figure("passkey_high"),
		)
		var p, se, k float64
		_, err := fmt.Sscanf(row[1]+" "+row[2], "%f ± %f %f", &p, &se, &k)
		switch {
		case err != nil:
			faults = append(faults, fmt.Sprintf("%s: %v in %q", row[0], err, row[1:]))
		case same && (row[1] != ppl || row[2] != keys),
			math.Abs(p / *m.Figure("perplexity") - 1) > 1e-3,
			math.Abs(se / *m.Figure("perplexity_stderr") - 1) > 1e-2,
			math.Abs(k-100**m.Figure("passkey")) > 5.5:
			faults = append(faults, fmt.Sprintf("the README has %s: %s, %s; %s has %s, %s",
				row[0], row[1], row[2], r.path, ppl, keys))
		}
	}
	return faults
}

var (
	commandUse = regexp.MustCompile(`ollama longrope ([a-z]+)([^\n\x60|]*)`)
	flagUse    = regexp.MustCompile(`(?:^| )(--?[a-z][a-z-]*)`)
)

// Every command and flag that the README names is there.
func TestReadmeFlags(t *testing.T) {
	bin := program(t)
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	help := map[string]string{}
	found := commandUse.FindAllStringSubmatch(string(readme), -1)
	require.Greater(t, len(found), 10)
	for _, m := range found {
		if help[m[1]] == "" {
			out, err := exec.CommandContext(t.Context(), bin, "longrope", m[1], "--help").
				CombinedOutput()
			require.NoError(t, err, "ollama longrope %s --help: %s", m[1], out)
			help[m[1]] = string(out)
		}
		arguments, _, _ := strings.Cut(m[2], " #")
		for _, flag := range flagUse.FindAllStringSubmatch(arguments, -1) {
			assert.Regexp(
				t,
				`(?m)^ +(-\w, )?.*`+flag[1]+`\b`,
				help[m[1]],
				"longrope %s has no %s",
				m[1],
				flag[1],
			)
		}
	}
}

func TestReadmeRules(t *testing.T) {
	const text = "```console\n$ false\n```\n<!-- test:begin -->\n```console\n$ a \\\n> b\n" +
		"x 1,024   y\n...\nz\n\n$ c\n```\n```\n$ d\n```\n<!-- test:end -->\n"
	all, err := regions(text)
	require.NoError(t, err)
	require.Equal(
		t,
		[][]example{{{6, "a \\\nb", []string{"x 1,024   y", "...", "z", ""}}, {12, "c", nil}}},
		all,
	)

	want := outputLines(strings.Join(all[0][0].output, "\n"))
	for output, ok := range map[string]bool{
		"x 1,024 y\nz\n": true, "x 1,024  y\nmore\nand more\nz": true, "x 1,025 y\nz": false,
		"x 1,024 y\nz\nmore": false, "x y\nz": false,
		"x 1,024 w\nz": false, "x 1,024 y": false, "": false,
	} {
		assert.Equal(t, ok, matches(want, outputLines(output)), output)
	}
	for _, bad := range []string{
		"<!-- test:begin -->", "<!-- test:end -->", "<!-- test:begin -->\n<!-- test:begin -->",
		"<!-- test:begin -->\n```console\nx\n```\n<!-- test:end -->",
		"<!-- test:begin -->\n```console\n<!-- test:end -->",
	} {
		_, err := regions(bad)
		assert.Error(t, err, bad)
	}
}

func TestReadmeReportRules(t *testing.T) {
	row := func(method string, perplexity, share float64) (r evals.Row) {
		text := fmt.Sprintf(`{"method": %q, "length": 8, "perplexity": %v, "perplexity_stderr": 1,
			"passkey": %v, "passkey_low": 0.1, "passkey_high": 0.9}`, method, perplexity, share)
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		return r
	}
	all := reports("x\n<!-- report: a.json cpu=icelake -->\n| t | p | k |\n|---|---|---|\n" +
		"| ntk | 20.00 ± 1.00 | 50 % (10–90) |\n| longrope | 19.00 ± 1.00 | 55 % (10–90) |\n\ny\n")
	require.Len(t, all, 1)
	require.Equal(t, "icelake", all[0].cpu)
	for _, c := range []struct {
		ntk, longrope evals.Row
		same          bool
		faults        int
	}{
		{row("ntk", 20, 0.5), row("longrope", 19, 0.55), true, 0},
		{row("ntk", 20.01, 0.5), row("longrope", 19, 0.55), true, 1},
		{row("ntk", 20.01, 0.55), row("longrope", 21, 0.9), false, 0},
		{row("ntk", 20.05, 0.5), row("longrope", 19, 0.55), false, 1},
		{row("ntk", 20, 0.6), row("longrope", 19, 0.55), false, 1},
		{row("ntk", 20, 0.5), row("longrope", 19.5, 0.55), true, 1},
		{row("yarn", 20, 0.5), row("longrope", 19, 0.55), true, 1},
	} {
		assert.Len(t, all[0].differs([]evals.Row{c.ntk, c.longrope}, c.same), c.faults, "%+v", c)
	}
}
