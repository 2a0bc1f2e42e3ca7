package ruler

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/recall"
	"github.com/longrope/longrope/evals/tasktest"
)

var update = flag.Bool("update", false, "write the golden samples")

// names are the tasks of this package.
func names() (all []string) {
	for _, t := range evals.Tasks() {
		if t.Group == "ruler" || t.Group == "keyvalue" {
			all = append(all, t.Name)
		}
	}
	return all
}

func TestEveryTask(t *testing.T) {
	require.Len(t, names(), 15)
	for _, name := range names() {
		task, err := evals.TaskByName(name)
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) { tasktest.Check(t, task) })
	}
}

// samplesOf are a task's samples, as they would be written.
func samplesOf(t *testing.T, e evals.Engine, name string, lengths []int, flags ...string) (
	all []recall.Record,
) {
	t.Helper()
	task, err := evals.TaskByName(name)
	require.NoError(t, err)
	p, err := tasktest.Job(t, task, flags...).Prepare(evals.Setup{
		Engine: e, Lengths: lengths, Books: books,
	})
	require.NoError(t, err)
	require.NoError(t, p.Samples(func(record any) error {
		all = append(all, record.(recall.Record))
		return nil
	}))
	return all
}

// books are the text that original.py hides things in.
func books(int) ([]evals.Text, error) {
	t, err := evals.ReadText("../default/texts/isaiah.txt")
	return []evals.Text{t}, err
}

// original is what RULER's own code made: see testdata/original.py.
type original struct {
	Scores []struct {
		Answer     string
		References []string
		All, Part  float64
		LMEvalAll  float64 `json:"lm_eval_all"`
		LMEvalPart float64 `json:"lm_eval_part"`
	}
	AnswerTokens map[string]int `json:"answer_tokens"`
	Samples      map[string][]struct {
		Input        string
		AnswerPrefix string `json:"answer_prefix"`
		Outputs      []string
	}
}

func readOriginal(t *testing.T) (o original) {
	b, err := os.ReadFile("testdata/original.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &o))
	return o
}

func TestScoresOfTheOriginal(t *testing.T) {
	for _, s := range readOriginal(t).Scores {
		assert.Equal(t, s.All, recall.All(s.Answer, s.References), "%+v", s)
		assert.Equal(t, s.LMEvalAll, recall.All(s.Answer, s.References), "%+v", s)
		assert.Equal(t, s.Part, recall.Any(s.Answer, s.References), "%+v", s)
		// what is named as different: the port's share of references
		assert.Equal(t, s.LMEvalPart, recall.All(s.Answer, s.References), "%+v", s)
	}
	assert.Equal(t, 1.0, recall.Word(` "12345"}`, []string{"12345"}))
	assert.Zero(t, recall.Word(` "123456"}`, []string{"12345"}))
}

// Patterns of whole prompts, which the original's samples and ours both match.
func patterns() map[string]string {
	q := regexp.QuoteMeta
	noise := `(` + q(grass) + `\n)*`
	const number, word, uuid = `[1-9][0-9]{6}`, `[^,:]+?-[^,:]+?`,
		`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
	line := func(kind, key, value string) string {
		return `One of the special magic ` + kind + `s for ` + key + ` is: ` + value + `\.`
	}
	one := func(kind, key, context string) string {
		return `A special magic ` + kind + ` is hidden within the following text\. Make sure to ` +
			`memorize it\. I will quiz you about the ` + kind + ` afterwards\.\n` + context +
			`\nWhat is the special magic ` + kind + ` for ` + key + ` mentioned in the provided ` +
			`text\?\| The special magic ` + kind + ` for ` + key + ` mentioned in the provided ` +
			`text is`
	}
	some := func(keys, context string) string {
		return `Some special magic numbers are hidden within the following text\. Make sure to ` +
			`memorize it\. I will quiz you about the numbers afterwards\.\n` + context +
			`\nWhat are all the special magic numbers for ` + keys + ` mentioned in the provided ` +
			`text\?\| The special magic numbers for ` + keys + ` mentioned in the provided text are`
	}
	text := func(n int, needle string) string {
		return `(The vision of Isaiah .*| )` + strings.Repeat(needle+`.*`, n)
	}
	four := word + `, ` + word + `, ` + word + `, and ` + word
	chain := func(letters int) string {
		v := fmt.Sprintf(`[A-Z]{%d}`, letters)
		return `VAR ` + v + ` = [1-9][0-9]{4}\n` +
			strings.Repeat(noise+`VAR `+v+` = VAR `+v+` \n`, 4)
	}
	track := func(letters int) string {
		return q(vtText) + noise + chain(letters) + noise + `Question: Find all variables that ` +
			`are assigned the value [1-9][0-9]{4} in the text above\.`
	}
	const tracked = ` Answer: According to the chain\(s\) of variable assignment in the text ` +
		`above, 5 variables are assigned the value [1-9][0-9]{4}, they are: `
	list := func(n int) string {
		return q(cweText) + fmt.Sprintf(`1\. [^0-9]+ 2\. .* %d\. [^0-9]+`, n) + q(cweQuestion)
	}
	docs := q(qaText) + `Document 1:\n(?s:.*)\n\nDocument 2:\n(?s:.*)` + q(qaQuestion)
	return map[string]string{
		"niah_single_1": one("number", word,
			noise+line("number", word, number)+`\n`+noise+q(grass)),
		"niah_single_2":   one("number", word, text(1, line("number", word, number))),
		"niah_single_3":   one("uuid", word, text(1, line("uuid", word, uuid))),
		"niah_multikey_1": one("number", word, text(4, line("number", word, number))),
		"niah_multikey_2": one("number", word, `(`+line("number", word, number)+`\n?)*`),
		"niah_multikey_3": one("uuid", uuid, `(`+line("uuid", uuid, uuid)+`\n?)*`),
		"niah_multivalue": some(word, text(4, line("number", word, number))),
		"niah_multiquery": some(four, text(4, line("number", word, number))),
		"vt": track(3) + tracked + ` [A-Z]{3} [A-Z]{3} [A-Z]{3} [A-Z]{3} [A-Z]{3}\n\n` + track(5) +
			`\|` + tracked,
		"cwe":  list(40) + q(cwePrefix) + ` 1\. .* 10\. [^0-9]+\n` + list(0) + `\|` + q(cwePrefix),
		"fwe":  q(fweText) + `((\.\.\.|[a-z]{6}) ?)+` + q(fweQuestion) + `\|` + q(fwePrefix),
		"qa_1": docs + `.+\?\|` + q(qaPrefix), "qa_2": docs + `.+\?\|` + q(qaPrefix),
	}
}

// Prompts are those of the original.
func TestPromptsOfTheOriginal(t *testing.T) {
	o := readOriginal(t)
	for name, pattern := range patterns() {
		if name == "cwe" { // the list is as long as it is
			pattern = strings.Replace(pattern, ` 0\. `, ` [0-9]+\. `, 1)
		}
		whole := regexp.MustCompile(`^` + pattern + `$`)
		task, err := evals.TaskByName(name)
		require.NoError(t, err)
		require.NotEmpty(t, o.Samples[name])
		for _, s := range o.Samples[name] {
			require.Regexp(t, whole, s.Input+"|"+s.AnswerPrefix, "the original's %s", name)
		}
		for _, s := range samplesOf(t, tasktest.New(tasktest.Bytes{}), name, []int{3500}) {
			require.Regexp(t, whole, s.Input+"|"+s.AnswerPrefix, "our %s", name)
			require.Equal(t, o.AnswerTokens[name], s.MaxNewTokens, name)
			if name != "qa_1" { // whose questions have some answers or others
				require.Len(t, s.Outputs, len(o.Samples[name][0].Outputs), name)
			}
		}
		require.Equal(t, "ruler", task.Suite)
	}
	require.Len(t, o.Samples, len(patterns()))
}

// Samples stay what they are for a seed. go test ./evals/ruler -update writes them after a change
// of a task, whose version then goes up.
func TestGolden(t *testing.T) {
	for _, name := range names() {
		var b bytes.Buffer
		for _, s := range samplesOf(t, tasktest.New(tasktest.NewMerges()), name, []int{2600},
			"--limit", "2") {
			line, err := json.Marshal(s)
			require.NoError(t, err)
			b.Write(append(line, '\n'))
		}
		path := filepath.Join("testdata", name+".jsonl")
		if *update {
			require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), b.String(), name)
	}
}

// Prompt and answer take at most the length, and nearly all of it, in any tokenizer.
func TestLengths(t *testing.T) {
	unit := map[string]int{"qa_1": 4000, "qa_2": 4000, "cwe": 500, "fwe": 300} // bytes at most
	for _, name := range names() {
		for _, tok := range []tasktest.Tokenizer{tasktest.Bytes{BOS: true}, tasktest.NewMerges()} {
			e := tasktest.New(tok)
			for _, flags := range [][]string{nil, {"--per-context", "4"}} {
				if flags != nil && !strings.Contains(name, "key") {
					continue
				}
				lengths := []int{3000, 6000}
				all := samplesOf(t, e, name, lengths, append(flags, "--limit", "8")...)
				for i, s := range all {
					tokens, err := e.Tokenize(s.Input+s.AnswerPrefix, true)
					require.NoError(t, err)
					require.Equal(t, len(tokens)+s.MaxNewTokens, s.Length)
					require.LessOrEqual(t, s.Length, s.MaxLength)
					less := max(unit[name], 260)
					require.Greater(t, s.Length, s.MaxLength-less, "%s %v %d", name, flags, i)
				}
			}
		}
	}
}

// needleLine finds needles: kind, key, value.
var needleLine = regexp.MustCompile(`One of the special magic (?:numbers|uuids) for ([^:]+) is: ([^ ]+)\.`)

// solve answers the questions by looking.
func solve(name string, s recall.Record) string {
	words := func(re, in string) (all []string) {
		for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(in, -1) {
			all = append(all, m[1])
		}
		return all
	}
	switch {
	case strings.HasPrefix(name, "niah"):
		var values []string
		for _, m := range needleLine.FindAllStringSubmatch(s.Input, -1) {
			if regexp.MustCompile(`(for |, |and )` + regexp.QuoteMeta(m[1]) + `( mentioned|,)`).
				MatchString(s.AnswerPrefix) {
				values = append(values, m[2])
			}
		}
		return strings.ToUpper(strings.Join(values, ", "))
	case name == "vt":
		return strings.Join(words(`VAR ([A-Z]{5}) =`, s.Input), " ")
	case name == "cwe" || name == "fwe":
		count := map[string]int{}
		text := s.Input[strings.LastIndex(s.Input, "Memorize the ones")+1:]
		most := 10
		if name == "fwe" {
			most, text = 3, s.Input
		}
		for _, w := range words(`(?:^| )([a-z][^ .?]+)`, strings.ReplaceAll(text, " ", "  ")) {
			count[w]++
		}
		var all []string
		for w := range count {
			all = append(all, w)
		}
		slices.SortFunc(all, func(a, b string) int { return count[b] - count[a] })
		return strings.Join(all[:min(most+25, len(all))], " ")
	case strings.HasPrefix(name, "keyvalue"):
		key := words(`Key: "([^"]+)"`, s.Input)[0]
		return ` "` + words(`"`+key+`": "([^"]+)"`, s.Input)[0] + `"`
	}
	return s.Input
}

// Whoever reads the prompt finds what is asked for, also where a context has several questions.
func TestSolvable(t *testing.T) {
	for _, name := range names() {
		task, err := evals.TaskByName(name)
		require.NoError(t, err)
		score := recall.All
		switch {
		case strings.HasPrefix(name, "qa"):
			score = recall.Any
		case strings.HasPrefix(name, "keyvalue"):
			score = recall.Word
		}
		for _, flags := range [][]string{nil, {"--per-context", "4"}} {
			if flags != nil && !strings.Contains(name, "key") {
				continue
			}
			contexts := map[int]int{}
			answers := map[string]bool{}
			all := samplesOf(t, tasktest.New(tasktest.Bytes{}), name, []int{4500}, flags...)
			for _, s := range all {
				contexts[s.Context]++
				answers[strings.Join(s.Outputs, " ")] = true
				require.Equal(t, 1.0, score(solve(name, s), s.Outputs), "%s: %v", name, s.Outputs)
			}
			if flags != nil {
				require.Len(t, all, 20)
				require.Len(t, contexts, 5, "%s: four questions each", name)
				require.Len(t, answers, 20, "%s: each another", name)
			}
		}
		require.NotZero(t, task.Version)
	}
}

// Things are hidden all over the text.
func TestDepths(t *testing.T) {
	for _, name := range []string{"niah_single_1", "niah_single_2", "niah_multivalue", "keyvalue"} {
		var quarters [4]int
		all := samplesOf(t, tasktest.New(tasktest.Bytes{}), name, []int{6000}, "--limit", "100")
		for _, s := range all {
			at := strings.Index(s.Input, s.Outputs[0])
			quarters[min(4*at/len(s.Input), 3)]++
		}
		for q, n := range quarters {
			require.Greater(t, 10*n, len(all), "%s: quarter %d, %v", name, q, quarters)
		}
	}
}

// A length that holds no prompt says so, and costs the others nothing.
func TestUnfit(t *testing.T) {
	task, err := evals.TaskByName("niah_single_2")
	require.NoError(t, err)
	e := tasktest.New(tasktest.Bytes{})
	c, err := evals.Compare(context.Background(), e, []evals.Method{{Name: "stock"}},
		evals.CompareOptions{
			Jobs: []evals.Job{tasktest.Job(t, task)}, Lengths: []int{300, 3000}, Books: books,
		})
	require.NoError(t, err)
	r := c.Tasks[0].Results[0].(*recall.Result)
	require.Regexp(t, `^niah_single_2 at 300 tokens: does not fit: niah_single_2 takes at least `+
		`\d{3} tokens in this model, 128 of them for the answer, and the length is 300$`, r.Note())
	require.Nil(t, r.Lengths[0].Score)
	require.NotNil(t, r.Lengths[1].Score)
	require.Len(t, e.Calls, 20)
}

func TestBadFiles(t *testing.T) {
	for _, tt := range []struct{ task, flag, text, want string }{
		{"qa_1", "squad", `{"data": 3}`, `"data" is a number; want a list`},
		{"qa_1", "squad", `[{"question": "q", "answer": "a", "context": []}]`, "it is a list; want"},
		{"qa_1", "squad", `{"data": []}`, "no questions with answers: want SQuAD 2.0"},
		{"qa_2", "hotpotqa", `[{"question": "q", "answer": 7}]`, `"answer" is a number; want a text`},
		{"qa_2", "hotpotqa", `[{"question": "q", "answer": "a"}]`, "question 1 has no text, no"},
		{"qa_2", "hotpotqa", `{`, "not JSON"},
		{"vt", "samples", "\ufeff" + `{"task": "cwe", "input": "x"}`, "no samples of vt: it has those of [cwe]"},
		{"vt", "samples", `{"input": "x", "outputs": "y"}`, `line 1: "outputs" is a text; want a list`},
		{"vt", "samples", `{"input": "x", "outputs": ["y"]}`, `neither "length" nor "max_length"`},
		{"vt", "samples", "", "it has none"},
	} {
		task, err := evals.TaskByName(tt.task)
		require.NoError(t, err)
		task.Example = []evals.ExampleFile{{Flag: tt.flag, Name: "x.json", Text: tt.text}}
		_, err = tasktest.TryJob(t, task)
		require.ErrorContains(t, err, tt.want)
		require.NotContains(t, err.Error(), "Go ")
	}
}

// Samples that are written are read back, and asked as they were.
func TestSamplesAreReadBack(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{BOS: true})
	e.Keep = true
	var b bytes.Buffer
	b.WriteString("\ufeff")
	for _, name := range []string{"vt", "keyvalue"} {
		for _, s := range samplesOf(t, e, name, []int{3000, 4000}, "--limit", "3") {
			line, err := json.Marshal(s)
			require.NoError(t, err)
			b.Write(append(line, '\n'))
		}
	}
	path := filepath.Join(t.TempDir(), "samples.jsonl")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	task, err := evals.TaskByName("keyvalue")
	require.NoError(t, err)
	run := func(flags ...string) []string {
		e.Texts = nil
		_, err := evals.Compare(context.Background(), e, []evals.Method{{Name: "stock"}},
			evals.CompareOptions{
				Jobs: []evals.Job{tasktest.Job(t, task, flags...)}, Lengths: []int{3000, 4000},
			})
		require.NoError(t, err)
		return e.Texts
	}
	want := run("--limit", "3")
	require.Len(t, want, 6)
	require.Equal(t, want, run("--samples", path))
}

// The samples of a benchmark are made in seconds.
func TestFast(t *testing.T) {
	for _, name := range []string{"niah_single_2", "niah_multikey_3"} {
		started := time.Now()
		samplesOf(t, tasktest.New(tasktest.Bytes{}), name, []int{16384}, "--limit", "500")
		require.Less(t, time.Since(started), 10*time.Second, name)
	}
}
