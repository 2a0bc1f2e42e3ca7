package house

import (
	"encoding/json"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const results = root + "/evals/results"

// entries are the files of evals/results, but for the page that says how to add one.
func entries(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(results + "/2*.md")
	require.NoError(t, err)
	require.NotEmpty(t, all)
	return all
}

// result is an entry of evals/results as data: what its Markdown says, for programs.
type result struct {
	Version  int               `json:"version"`
	Entry    string            `json:"entry"`
	Title    string            `json:"title"`
	Date     string            `json:"date"`
	Facts    map[string]string `json:"facts"`
	Commits  []string          `json:"commits"`
	Commands []string          `json:"commands"`
	// Source is where the numbers are from, Raw the files of raw output next to the entry.
	Source string   `json:"source"`
	Raw    []string `json:"raw"`
	Tables []table  `json:"tables"`
}

type table struct {
	Caption string   `json:"caption,omitempty"`
	Columns []column `json:"columns"`
	Rows    [][]cell `json:"rows"`
}

// column is a column's title, and the unit of its values where the title or the caption names one.
type column struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"`
}

// cell is the text of a table's cell, and its values if it is a figure: one for each seed where
// there are several, or both ends of an interval. A cell of words has none, whatever numbers are in
// them.
type cell struct {
	Text   string  `json:"text"`
	Values []value `json:"values,omitempty"`
}

// value is a number with its spread: what stands behind ±, the trials that it is a count of, an
// interval. Unit overrides the column's.
type value struct {
	Value     float64  `json:"value"`
	PlusMinus *float64 `json:"plus_minus,omitempty"`
	Of        *float64 `json:"of,omitempty"`
	Low       *float64 `json:"low,omitempty"`
	High      *float64 `json:"high,omitempty"`
	Unit      string   `json:"unit,omitempty"`
}

const notKept = "tables of the entry; raw output was not kept"

// required are the facts that an entry begins with.
var required = []string{"date", "recorded", "machine", "backend", "host", "model", "spread"}

// units are what a column's values are in, by words of its title.
var units = []struct{ word, unit string }{
	{"nats", "nats"},
	{"NLL", "nats"},
	{"bits/byte", "bits/byte"},
	{"against NTK", "nats"},
	{"ppl", "perplexity"},
	{"perplexity", "perplexity"},
	{"ms:", "ms"},
	{"key", "keys found"},
	{"in all", "keys found"},
	{"tokens", "tokens"},
}

// titleOfNumber is the title of a column that the table's caption says the unit of: a length, a
// text.
var titleOfNumber = regexp.MustCompile(`^[\d,./]+( [kM])?$|^all$|Ezekiel|Isaiah|Acts`)

// titled are the columns of a table, the first of which names its rows.
func titled(titles []string, caption string) (all []column) {
	find := func(text string) string {
		for _, u := range units {
			if strings.Contains(text, u.word) {
				return u.unit
			}
		}
		return ""
	}
	for i, title := range titles {
		c := column{Name: plain(title)}
		switch {
		case i == 0:
		case strings.HasPrefix(title, "mean ± sd"):
			c.Unit = all[i-1].Unit
		case titleOfNumber.MatchString(title):
			c.Unit = find(caption)
		case strings.HasPrefix(title, "of "):
			c.Unit = "keys found"
		default:
			c.Unit = find(title)
		}
		all = append(all, c)
	}
	return all
}

const digits = `([+-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?)`

var (
	anyNumber = regexp.MustCompile(digits)
	// one is a number with its spread, such as "21.4 ± 0.6", "0.49 M", "162 of 180, 90 % (85–94)".
	one = regexp.MustCompile(`^` + digits + `( [kM])?(?: each)?(?: ± ` + digits + `)?( %| MB)?` +
		`(?: of ` + digits + `)?(?:,? \d+ %)?(?: \((?:\d+ %, )?` + digits + `–` + digits + `\))?$`)
	// figures are separated by a comma, a slash between theirs and ours, a dash between the ends
	// of an interval, a colon in front of a sum; single ones stand in brackets behind their mean.
	separator = regexp.MustCompile(`, | / |: |–| \(`)
	// note is what explains a figure in brackets behind it.
	note = regexp.MustCompile(` \([^()\d]*\)`)
	// figure is a text of numbers and signs, without words.
	figure = regexp.MustCompile(`^[^A-Za-z]*[0-9][^A-Za-z]*$`)
	// linkTarget is a link or an image, with the text that is shown.
	linkTarget = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	commit     = regexp.MustCompile(`\b[0-9a-f]{7}\b`)
	tokens     = map[string]float64{" k": 1e3, " M": 1e6}
)

// plain is a cell or a paragraph without marks, its signs as programs write them.
func plain(text string) string {
	text = linkTarget.ReplaceAllString(text, "$1")
	return strings.TrimSpace(
		strings.NewReplacer("**", "", "`", "", "−", "-", `\|`, "|").Replace(text),
	)
}

func number(text string) float64 {
	v, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		panic(err) // digits matched it
	}
	return v
}

func optional(text string) *float64 {
	if text == "" {
		return nil
	}
	v := number(text)
	return &v
}

// values are the values that a cell's text consists of, nil if it has other words.
func values(text string) []value {
	text = note.ReplaceAllString(strings.Trim(text, "[]"), "")
	var all []value
	for text != "" {
		// The longest figure comes first: a comma in brackets, or in front of a share of what was
		// counted, separates no values.
		ends := separator.FindAllStringIndex(text, -1)
		ends = append(ends, []int{len(text), len(text)})
		i := len(ends) - 1
		var m []string
		for ; i >= 0 && m == nil; i-- {
			m = one.FindStringSubmatch(strings.TrimSuffix(text[:ends[i][0]], ")"))
			if m == nil {
				m = one.FindStringSubmatch(text[:ends[i][0]])
			}
		}
		if m == nil {
			return nil
		}
		all, text = append(all, parsed(m)), text[ends[i+1][1]:]
	}
	return all
}

func parsed(m []string) value {
	v := value{
		Value: number(m[1]), PlusMinus: optional(m[3]), Of: optional(m[5]),
		Low: optional(m[6]), High: optional(m[7]),
	}
	v.Unit = strings.TrimSpace(m[4])
	if factor, ok := tokens[m[2]]; ok {
		v.Value = math.Round(v.Value * factor)
		v.Unit = "tokens"
	}
	return v
}

func newCell(text string) cell {
	text = plain(text)
	return cell{Text: text, Values: values(text)}
}

// tables are those of a Markdown text, with the paragraph before each as its caption.
func tables(t *testing.T, text string) []table {
	t.Helper()
	all := []table{}
	var caption string
	for _, paragraph := range strings.Split(text, "\n\n") {
		lines := strings.Split(strings.TrimSpace(paragraph), "\n")
		if !strings.HasPrefix(lines[0], "|") {
			caption = plain(strings.Join(lines, " "))
			continue
		}
		tab := table{Caption: caption, Columns: titled(rowCells(lines[0]), caption)}
		for _, line := range lines[2:] {
			var row []cell
			for _, text := range rowCells(line) {
				row = append(row, newCell(text))
			}
			require.Len(
				t,
				row,
				len(tab.Columns),
				"a row that has not its table's columns: %s",
				line,
			)
			tab.Rows = append(tab.Rows, row)
		}
		all = append(all, tab)
	}
	return all
}

// rowCells are the cells between the outer bars, empty ones at the ends included.
func rowCells(line string) []string {
	line = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "|"), "|")
	parts := strings.Split(strings.ReplaceAll(line, `\|`, "\x00"), "|")
	for i := range parts {
		parts[i] = strings.ReplaceAll(strings.TrimSpace(parts[i]), "\x00", `\|`)
	}
	return parts
}

// newResult is what an entry's Markdown says: a title, a table of facts, a block of commands, text.
func newResult(t *testing.T, name, text string) result {
	t.Helper()
	r := result{
		Version: 2,
		Entry:   name,
		Facts:   map[string]string{},
		Source:  notKept,
		Raw:     []string{},
	}
	head, rest, ok := strings.Cut(text, "\n\n")
	require.True(t, ok && strings.HasPrefix(head, "# "), "does not begin with a title")
	r.Title = head[2:]
	facts, rest, ok := strings.Cut(rest, "\n\n")
	require.True(
		t,
		ok && strings.HasPrefix(facts, "| | |\n|---|---|\n"),
		"no table of facts below the title",
	)
	for _, line := range strings.Split(facts, "\n")[2:] {
		parts := rowCells(line)
		require.Len(t, parts, 2, line)
		r.Facts[parts[0]] = plain(parts[1])
	}
	for _, name := range required {
		require.NotEmpty(t, r.Facts[name], "the table of facts has no %q", name)
	}
	r.Date = r.Facts["date"]
	delete(r.Facts, "date")
	r.Commits = commit.FindAllString(r.Facts["recorded"], -1)
	commands, rest, ok := strings.Cut(strings.TrimPrefix(rest, "```\n"), "\n```\n")
	require.True(t, ok, "no block of commands below the facts")
	r.Commands = strings.Split(commands, "\n")
	r.Tables = tables(t, rest)
	return r
}

// marshal is the JSON of an entry, a row of a table in a line, as people read it in a difference.
func (r result) marshal() []byte {
	all := r.Tables
	r.Tables = nil
	data := string(must(json.MarshalIndent(r, "", " ")))
	var b strings.Builder
	for i, tab := range all {
		b.WriteString(strings.Repeat(",", min(i, 1)) + "\n  {")
		if tab.Caption != "" {
			b.WriteString(`"caption": ` + string(must(json.Marshal(tab.Caption))) + ",\n   ")
		}
		b.WriteString(`"columns": ` + string(must(json.Marshal(tab.Columns))) + ",\n   \"rows\": [")
		for i, row := range tab.Rows {
			b.WriteString(
				strings.Repeat(",", min(i, 1)) + "\n    " + string(must(json.Marshal(row))),
			)
		}
		b.WriteString("]}")
	}
	return []byte(strings.Replace(data, `"tables": null`, `"tables": [`+b.String()+"]", 1) + "\n")
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err) // values of these types can be marshalled
	}
	return data
}

// Every entry has its JSON, with the same facts, commands and numbers.
func TestResults(t *testing.T) {
	for _, file := range entries(t) {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			want := newResult(t, name, string(text))
			assert.True(t, strings.HasPrefix(name, want.Date+"-"), "does not begin with its date")

			twin := strings.TrimSuffix(file, ".md") + ".json"
			data, err := os.ReadFile(twin)
			if *update {
				var old result
				if err == nil && json.Unmarshal(data, &old) == nil && len(old.Raw) > 0 {
					want.Source, want.Raw = old.Source, old.Raw
				}
				data, err = want.marshal(), nil
				require.NoError(t, os.WriteFile(twin, data, 0o644))
			}
			require.NoError(t, err, "write it: go test ./tests/house -run TestResults -update")
			var got result
			require.NoError(t, json.Unmarshal(data, &got))
			if len(got.Raw) > 0 {
				require.NotEqual(t, notKept, got.Source)
				want.Source, want.Raw = got.Source, got.Raw
			}
			for _, raw := range got.Raw {
				assert.FileExists(t, filepath.Join(results, raw))
			}
			for _, tab := range got.Tables {
				for _, c := range slices.Concat(tab.Rows...) {
					if figure.MatchString(c.Text) {
						assert.NotEmpty(t, c.Values, "%q is a figure without its values", c.Text)
					}
				}
			}
			assert.Equal(
				t,
				want,
				got,
				"the entry and its JSON differ: correct one of them, or run "+
					"`go test ./tests/house -run TestResults -update`",
			)
		})
	}
	data, err := filepath.Glob(results + "/*.json")
	require.NoError(t, err)
	for _, file := range data {
		assert.FileExists(t, strings.TrimSuffix(file, ".json")+".md", "%s has no entry", file)
	}
}

// The page of claims links every entry. Each claim has a command, a table and an entry, and the
// numbers of each cell of its table are together in a row or paragraph of an entry that it links.
func TestClaims(t *testing.T) {
	page := read(t, "evals/RESULTS.md")
	claims := strings.Split(page, "\n## ")[1:]
	require.Greater(t, len(claims), 5)
	linked := map[string]bool{}
	entryLink := regexp.MustCompile(`\]\((results/[^)#]+\.md)\)`)
	for _, claim := range claims {
		title, text, _ := strings.Cut(claim, "\n")
		var sources string
		for _, m := range entryLink.FindAllStringSubmatch(text, -1) {
			linked[m[1]] = true
			sources += plain(read(t, path.Join("evals", m[1]))) + "\n\n"
		}
		assert.NotEmpty(t, sources, "%q links no entry", title)
		assert.Regexp(
			t,
			"`[^`]*(make|go test|ollama longrope) [^`]+`",
			text,
			"%q has no command",
			title,
		)
		all := tables(t, text)
		assert.NotEmpty(t, all, "%q has no table", title)
		var have [][]string // the numbers of each row of a table and of each other paragraph
		for _, paragraph := range strings.Split(sources, "\n\n") {
			lines := []string{paragraph}
			if strings.HasPrefix(paragraph, "|") {
				lines = strings.Split(paragraph, "\n")
			}
			for _, line := range lines {
				have = append(have, anyNumber.FindAllString(line, -1))
			}
		}
		for _, tab := range all {
			for _, row := range tab.Rows {
				for _, c := range row[1:] {
					want := anyNumber.FindAllString(c.Text, -1)
					found := slices.ContainsFunc(have, func(line []string) bool {
						return !slices.ContainsFunc(want, func(n string) bool {
							return !slices.Contains(line, n)
						})
					})
					assert.True(t, found, "%q: %q is in no row or paragraph of its entries",
						title, c.Text)
				}
			}
		}
	}
	for _, file := range entries(t) {
		name := "results/" + filepath.Base(file)
		assert.True(t, linked[name], "evals/RESULTS.md does not link %s", name)
	}
}

// The README is half as long as it was, the page of claims is two pages.
func TestLengths(t *testing.T) {
	assert.LessOrEqual(t, len(strings.Fields(read(t, "README.md"))), 1128, "words of README.md")
	claims := read(t, "evals/RESULTS.md")
	assert.LessOrEqual(t, len(strings.Fields(claims)), 1000, "words of evals/RESULTS.md")
	assert.LessOrEqual(t, strings.Count(claims, "\n"), 130, "lines of evals/RESULTS.md")
}

func TestResultsRules(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	for text, want := range map[string][]value{
		"20.31":                          {{Value: 20.31}},
		"−0.0031 ± 0.0027":               {{Value: -0.0031, PlusMinus: f(0.0027)}},
		"**20.26 ± 0.47**":               {{Value: 20.26, PlusMinus: f(0.47)}},
		"0.49 M":                         {{Value: 490000, Unit: "tokens"}},
		"410 k each":                     {{Value: 410000, Unit: "tokens"}},
		"1,310,720":                      {{Value: 1310720}},
		"55, 51, 56":                     {{Value: 55}, {Value: 51}, {Value: 56}},
		"162 of 180 (85–94)":             {{Value: 162, Of: f(180), Low: f(85), High: f(94)}},
		"165 of 180, 92 % (87–95)":       {{Value: 165, Of: f(180), Low: f(87), High: f(95)}},
		"33 % (20–43)":                   {{Value: 33, Unit: "%", Low: f(20), High: f(43)}},
		"150 (83 %, 77–88)":              {{Value: 150, Low: f(77), High: f(88)}},
		"1.003 (0.970–1.039)":            {{Value: 1.003, Low: f(0.970), High: f(1.039)}},
		"885 k, 492 k":                   {{Value: 885000, Unit: "tokens"}, {Value: 492000, Unit: "tokens"}},
		"0.996–1.002":                    {{Value: 0.996}, {Value: 1.002}},
		"0.200 / 0.201":                  {{Value: 0.2}, {Value: 0.201}},
		"0.94 (0.82)":                    {{Value: 0.94}, {Value: 0.82}},
		"+0.9 ± 0.1 (+0.8, −1.0)":        {{Value: 0.9, PlusMinus: f(0.1)}, {Value: 0.8}, {Value: -1}},
		"49, 44: 93 of 120":              {{Value: 49}, {Value: 44}, {Value: 93, Of: f(120)}},
		"5.3 MB":                         {{Value: 5.3, Unit: "MB"}},
		"20.55, 21.37 (YaRN itself)":     {{Value: 20.55}, {Value: 21.37}},
		"48 % (some change alpha alone)": {{Value: 48, Unit: "%"}},
		"8x, seed 1":                     nil,
		"linear-1":                       nil,
		"SmolLM2-135M":                   nil,
		"bit-identical":                  nil,
		"every element inside its bound": nil,
	} {
		assert.Equal(t, want, newCell(text).Values, text)
	}
	assert.Equal(
		t,
		[]string{"", "a", "b|c", ""},
		strings.Split(plain(strings.Join(rowCells(`| | a | b\|c | |`), ";")), ";"),
	)
	assert.Equal(t, []column{
		{"", ""},
		{"perplexity", "perplexity"},
		{"mean ± sd", "perplexity"},
		{
			"2,048",
			"nats",
		},
	}, titled([]string{"", "perplexity", "mean ± sd", "2,048"}, "change of NLL"))
}
