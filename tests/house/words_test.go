package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// phrases are words that a reader from outside stumbles over, with plain ones for them.
var phrases = []struct {
	bad *regexp.Regexp
	use string
}{
	// Old or literary for what has an everyday word.
	{regexp.MustCompile(`(?i)\banew\b`), "again; a program restarts"},
	{regexp.MustCompile(`(?i)\bbeside\b`), "next to, alongside, in addition to"},
	{regexp.MustCompile(`(?i)\botherwise than\b`), "differently from"},
	{regexp.MustCompile(`(?i)\bwhen all is over\b`), "at the end"},
	{regexp.MustCompile(`(?i)\bhas not got\b|\bthere is none of\b`), "is missing, lacks"},
	{regexp.MustCompile(`(?i)\b(is|are|was|were) at hand\b`), "was available"},
	// Files and commands do not speak or believe.
	{regexp.MustCompile(`(?i)\btells\b`), "reports, shows, says which"},
	{regexp.MustCompile(`(?i)\b(tell|tells|told) apart\b`), "distinguish"},
	{regexp.MustCompile(`(?i)\b(is|are) believed\b`), "is trusted"},
	// A search resumes; candidates are evaluated or scored.
	{regexp.MustCompile(`(?i)\b(go|goes|went|going|gone) on\b`), "resume, continue"},
	{regexp.MustCompile(`(?i)\b(take|takes|taken|took) on again\b`), "resume"},
	{regexp.MustCompile(`(?i)\bwhat was found\b`), "the factors that the search found"},
	// A clause with "what" as the subject hides its noun. Questions and titles may begin so.
	{
		regexp.MustCompile(`(?:^|[.:;] )What [^.?!]*[.](?: |$)`),
		"a noun as the subject, in place of What",
	},
}

// scripts are the comment lines and the prose of Python, C, shell scripts and Makefiles.
var scripts = regexp.MustCompile(`(?m)^[ \t@]*(?://|#+!?|\*)(.*)$|"""(?s:(.*?))"""`)

// prose is the text in a file that is written for people, in pieces with the number of their first
// line: comments, strings of programs, paragraphs of Markdown.
func prose(t *testing.T, name, text string) map[int]string {
	t.Helper()
	switch language(name) {
	case "go":
		return goProse(t, name, text)
	case "md":
		return markdownProse(text)
	}
	pieces := map[int]string{}
	for _, m := range scripts.FindAllStringSubmatchIndex(text, -1) {
		from, to := m[2], m[3]
		if from < 0 {
			from, to = m[4], m[5]
		}
		pieces[1+strings.Count(text[:m[0]], "\n")] = text[from:to]
	}
	return pieces
}

func goProse(t *testing.T, name, text string) map[int]string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(
		fset,
		name,
		text,
		parser.ParseComments|parser.SkipObjectResolution,
	)
	require.NoError(t, err)
	pieces := map[int]string{}
	for _, group := range file.Comments {
		// Paragraphs apart, so that a title is not the begin of the sentence below it.
		at := fset.Position(group.Pos()).Line
		for i, paragraph := range strings.Split(group.Text(), "\n\n") {
			if strings.HasPrefix(paragraph, "#") {
				continue
			}
			pieces[at] += strings.Repeat("\n\n", min(i, 1)) + paragraph
		}
	}
	if strings.HasSuffix(name, "_test.go") {
		return pieces // its strings are data, or quote what programs print
	}
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		if s, err := strconv.Unquote(lit.Value); err == nil && strings.Contains(s, " ") {
			pieces[fset.Position(lit.Pos()).Line] += "\n\n" + s
		}
		return true
	})
	return pieces
}

func markdownProse(text string) map[int]string {
	pieces := map[int]string{}
	block, at := false, 0
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "```") {
			block = !block
			at = 0
			continue
		}
		if block || strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			at = 0
			continue
		}
		if at == 0 || strings.HasPrefix(strings.TrimSpace(line), "|") {
			at = i + 1
		}
		pieces[at] += line + "\n"
	}
	return pieces
}

var code = regexp.MustCompile("`[^`]*`")

// stumbles are the phrases in a file that have plain words for them.
func stumbles(t *testing.T, name, text string) (faults []string) {
	t.Helper()
	pieces := prose(t, name, text)
	var at []int
	for line := range pieces {
		at = append(at, line)
	}
	slices.Sort(at)
	for _, line := range at {
		for _, paragraph := range strings.Split(pieces[line], "\n\n") {
			words := strings.Join(strings.Fields(code.ReplaceAllString(paragraph, "``")), " ")
			for _, phrase := range phrases {
				for _, bad := range phrase.bad.FindAllString(words, -1) {
					faults = append(
						faults,
						fmt.Sprintf("line %d: %q: use %s", line, bad, phrase.use),
					)
				}
			}
		}
	}
	return faults
}

// Comments, help texts, errors and documents are in plain technical English.
func TestWords(t *testing.T) {
	broken := map[string][]string{}
	for _, name := range sources(t) {
		if strings.HasPrefix(name, "tests/house/words") {
			continue // it has to name them
		}
		if faults := stumbles(t, name, read(t, name)); faults != nil {
			broken[name] = faults
		}
	}
	holds(t, "words.txt", broken)
}

func TestWordsRules(t *testing.T) {
	for name, text := range map[string]string{
		"a.go": "package p\n\n// It begins\n// anew.\n",
		"b.go": "package p\n\nvar s = \"a search goes\\non\"\n",
		"c.go": "package p\n\n// What is\n// read is lost.\n",
		"a.md": "A file that lies\nbeside it.\n",
		"b.md": "| a | beside |\n", "a.py": "# it tells\n",
		"b.py": "def f():\n    \"\"\"It tells\n    all.\"\"\"\n",
		"a.sh": "# they are told apart\n", "a.c": "// it goes on\n",
	} {
		assert.NotEmpty(t, stumbles(t, name, text), name)
	}
	for name, text := range map[string]string{
		"a.go":      "package p\n\n// # What a ladder is\n//\n// It is one.\n",
		"b_test.go": "package p\n\nvar s = \"beside it\"\n",
		"a.md":      "```\nbeside\n```\n# What is it\n`anew`. What now?\n", "a.py": "beside = 1\n",
	} {
		assert.Empty(t, stumbles(t, name, text), name)
	}
}
