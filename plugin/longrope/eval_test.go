package longrope

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/choice"
	"github.com/longrope/longrope/evals/recall"
	"github.com/longrope/longrope/evals/taskflag"
)

// evalOutput runs eval on the fake engine.
func evalOutput(t *testing.T, args ...string) (out, said string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := newCommand(openFake)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(append([]string{"eval"}, args...))
	err = cmd.Execute()
	return stdout.String(), stderr.String(), err
}

// Every task is in help with its line and its flags, is known by its name, runs, and writes all of
// its sheets and its JSON.
func TestEveryTaskIsACommand(t *testing.T) {
	help, _, err := evalOutput(t, "--help")
	require.NoError(t, err)
	m := tinyModel(t)
	for _, task := range evals.Tasks() {
		t.Run(task.Name, func(t *testing.T) {
			assert.Regexp(t, `(?m)^  `+task.Name+` +`+task.Help+`$`, help)
			own := pflag.NewFlagSet("", pflag.ContinueOnError)
			task.New().Flags(own)
			own.VisitAll(func(f *pflag.Flag) { assert.Contains(t, help, "--"+f.Name+" ") })
			_, _, err := evalOutput(t, "pasky", m.path)
			require.ErrorContains(t, err, task.Name)

			dir := t.TempDir()
			args := []string{
				task.Name, m.path, "--methods", "stock,yarn", "--json",
				"--csv", filepath.Join(dir, "x.csv"),
			}
			if !task.Short {
				args = append(args, "--lengths", "8k")
			}
			for _, x := range task.Example {
				path := filepath.Join(dir, x.Name)
				require.NoError(t, os.WriteFile(path, []byte(x.Text), 0o644))
				args = append(args, "--"+x.Flag, path)
			}
			out, said, err := evalOutput(t, args...)
			require.NoError(t, err)
			c := new(evals.Comparison)
			require.NoError(t, json.Unmarshal([]byte(out), c))
			require.Len(t, c.Tasks, 1)
			assert.Equal(t, task.Name, c.Tasks[0].Task.Name)
			assert.Len(t, c.Rows, 2)
			for _, s := range task.Sheets {
				name := "x.csv"
				if s.Name != "" {
					name = "x-" + s.Name + ".csv"
				}
				assert.Contains(t, said, name)
				b, err := os.ReadFile(filepath.Join(dir, name))
				require.NoError(t, err)
				head, rows, _ := strings.Cut(string(b), "\n")
				assert.Equal(t, strings.Join(s.Header, ","), head)
				assert.Contains(t, rows, "yarn,")
			}
			compared, err := os.ReadFile(filepath.Join(dir, "x-compared.csv"))
			require.NoError(t, err)
			assert.Contains(t, string(compared), "method,length,"+strings.Join(task.Columns, ","))

			table, _, err := evalOutput(t, append(args[:4:4], args[7:]...)...)
			require.NoError(t, err)
			assert.Contains(t, table, task.Table[0].Head)
		})
	}
}

// A flag of two tasks sets both; one of another task is an error that says what this one has.
func TestTaskFlags(t *testing.T) {
	fl := pflag.NewFlagSet("", pflag.ContinueOnError)
	f := taskflag.New(fl)
	require.NoError(t, fl.Parse([]string{"--limit", "7", "--trials", "3"}))
	for _, name := range choice.BenchmarkNames() {
		assert.Equal(t, 7, f.Job(name).(*choice.Options).Limit)
	}
	assert.Equal(t, 3, f.Job("passkey").(*evals.PasskeyOptions).Trials)
	assert.Equal(t, 7, f.Job("vt").(*recall.Options).Limit)
	assert.Regexp(t, "^Benchmarks, ruler, .*: questions", fl.Lookup("limit").Usage)
	assert.Regexp(t, "^Passkey: trials", fl.Lookup("trials").Usage)
	assert.NotContains(t, fl.FlagUsages(), "default []")

	tasks, err := tasksNamed("perplexity", fl)
	require.NoError(t, err)
	_, err = f.Jobs(tasks, fl)
	require.Error(t, err)
	assert.Regexp(t, "^--limit is for benchmarks, ruler, .*; perplexity has --documents, "+
		"--stride, --text, --windows$", err)
	tasks, err = tasksNamed(allTasks, fl)
	require.NoError(t, err)
	require.Greater(t, len(tasks), 1)
	fl = pflag.NewFlagSet("", pflag.ContinueOnError)
	f = taskflag.New(fl)
	require.NoError(t, fl.Parse([]string{"--windows", "1", "--trials", "3"}))
	jobs, err := f.Jobs(tasks, fl)
	require.NoError(t, err)
	assert.Equal(t, 1, jobs[0].(*evals.PerplexityOptions).MaxWindows)
}

// A suite runs its tasks with their average, and its samples can be written and asked again.
func TestSuite(t *testing.T) {
	m := tinyModel(t)
	dir := t.TempDir()
	samples := filepath.Join(dir, "samples.jsonl")
	_, said, err := evalOutput(t, "ruler", m.path, "--lengths", "8k,16k", "--limit", "2",
		"--write-samples", samples)
	require.NoError(t, err)
	assert.Contains(t, said, "wrote 44 samples to "+samples)

	run := func(args ...string) string {
		out, _, err := evalOutput(t, append([]string{
			"ruler", m.path, "--lengths", "8k,16k", "--methods", "stock,yarn",
		}, args...)...)
		require.NoError(t, err)
		return out
	}
	csv, plot := filepath.Join(dir, "x.csv"), filepath.Join(dir, "x.svg")
	table := run("--limit", "2", "--csv", csv, "--plot", plot)
	assert.Regexp(t, `(?m)^ *task +length +stock +yarn +floor *$`, table)
	none := `0\.0 \(0 … 66\) +`
	assert.Regexp(t, `(?m)^ *niah_multikey_3 +16384 +`+none+none+`0 % *$`, table)
	assert.Regexp(t, `(?m)^ *average of ruler +8192 +0\.0 \(0 … [0-9]+\) `, table)
	assert.Regexp(t, `(?m)^ +average +· +0 +· +0$`, table)
	assert.NotContains(t, table, "qa_1", "it needs a file")
	assert.FileExists(t, plot)
	rows, err := os.ReadFile(csv)
	require.NoError(t, err)
	assert.Contains(t, string(rows), "vt_unscored,vt_nll,vt_nll_stderr,ruler,ruler_low,"+
		"ruler_high\n")

	one := new(evals.Comparison)
	require.NoError(t, json.Unmarshal([]byte(run("--limit", "2", "--json")), one))
	again := new(evals.Comparison)
	require.NoError(t, json.Unmarshal([]byte(run("--samples", samples, "--json")), again))
	require.Len(t, again.Tasks, 11)
	for i, task := range one.Tasks {
		for k, r := range task.Results {
			assert.Equal(t, r.(*recall.Result).Details,
				again.Tasks[i].Results[k].(*recall.Result).Details, task.Task.Name)
		}
	}
	require.NotNil(t, one.Rows[0].Figure("ruler"))

	_, _, err = evalOutput(t, "vt", m.path, "--lengths", "4k", "--chat")
	assert.ErrorContains(t, err, "no chat template")
	_, _, err = evalOutput(t, "perplexity", m.path, "--write-samples", samples)
	assert.ErrorContains(t, err, "perplexity writes no samples")
}

// Settings that cannot be are refused in words, before anything is computed.
func TestEvalBadInput(t *testing.T) {
	m := tinyModel(t)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	arc := `{"id": "1", "question": "Wet?", "choices": {"text": ["water", "sand"], ` +
		`"label": ["A", "B"]}, "answerKey": "A"}`
	good := file("arc.jsonl", "\ufeff"+arc)
	out, _, err := evalOutput(t, "arc_easy", m.path, "--questions", good, "--target", "2k",
		"--methods", "stock,dynamic")
	require.NoError(t, err, "a target without lengths")
	assert.Contains(t, out, "dynamic")
	_, _, err = evalOutput(t, "mmlu", m.path, "--methods", "stock", "--questions",
		file("x_test.csv", "\ufeff\"Red, is?\",Mars,Venus,Io,Sun,A\n"))
	require.NoError(t, err, "a byte order mark")
	for _, tt := range []struct {
		want string
		args []string
	}{
		{"want 0 or more", []string{"passkey", m.path, "--batch", "-1"}},
		{"want 0 or more", []string{"passkey", m.path, "--threads", "-3"}},
		{`item 1: "question" is a number; want a text`, []string{
			"mmlu", m.path, "--questions", file("a.jsonl", `{"question": 7}`),
		}},
		{`this looks like a file of arc_challenge, arc_easy`, []string{
			"hellaswag", m.path, "--questions", good,
		}},
		{`item 1: "answerKey" is a number; want a text`, []string{
			"arc_easy", m.path, "--questions",
			file("b.jsonl", strings.Replace(arc, `"A"}`, `1}`, 1)),
		}},
	} {
		_, _, err := evalOutput(t, tt.args...)
		assert.ErrorContains(t, err, tt.want)
		if err != nil {
			assert.NotRegexp(t, `Go |json\.|\bint\b|struct`, err.Error())
		}
	}
}

// A question of more than 4,096 tokens is asked; one beyond the target is left out.
func TestLongQuestions(t *testing.T) {
	m := tinyModel(t)
	item := func(n int) string {
		return `{"_id": "x", "context": "` + strings.Repeat("Mars is red. ", n/13) +
			`", "question": "q", "choices": ["Io", "Mars", "Sun", "Moon"], "answer": 1}` + "\n"
	}
	path := filepath.Join(t.TempDir(), "data.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(item(100)+item(10_000)+item(20_000)), 0o644))
	args := []string{"longbench2", m.path, "--questions", path, "--methods", "stock", "--json"}
	run := func(args ...string) (*choice.Result, string) {
		out, said, err := evalOutput(t, args...)
		require.NoError(t, err)
		c := new(evals.Comparison)
		require.NoError(t, json.Unmarshal([]byte(out), c))
		return c.Tasks[0].Results[0].(*choice.Result), said
	}
	r, said := run(append(args, "--target", "16k")...)
	assert.Equal(t, 2, r.Accuracy.Trials)
	assert.Contains(t, said, "questions of more than 16k tokens are left out; --target 20")
	r, said = run(append(args, "--target", "32k")...)
	assert.Equal(t, 3, r.Accuracy.Trials)
	assert.NotContains(t, said, "left out")
}

// A run that is interrupted is taken up by the same command, and its journal goes when it is done.
func TestEvalResumes(t *testing.T) {
	m := tinyModel(t)
	dir := t.TempDir()
	csv := filepath.Join(dir, "x.csv")
	args := []string{
		"keyvalue_digits", m.path, "--lengths", "2k", "--methods", "stock,yarn", "--csv", csv,
	}
	whole, _, err := evalOutput(t, args[:len(args)-2]...)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	var stderr bytes.Buffer
	cmd := newCommand(opener{load: func(path string, o openOptions) (runner, error) {
		r, err := loadFake(path, o)
		return &stopping{r, 25, cancel}, err
	}})
	cmd.SetOut(&bytes.Buffer{})
	cmd.SetErr(&stderr)
	cmd.SetArgs(append([]string{"eval"}, args...))
	require.ErrorIs(t, cmd.ExecuteContext(ctx), errInterrupted)
	require.Contains(t, stderr.String(), "x.journal has the answers so far; the same command")

	out, said, err := evalOutput(t, args...)
	require.NoError(t, err)
	require.Equal(t, whole, out)
	require.Contains(t, said, "x.journal has 25 answers, which are not computed again")
	require.NoFileExists(t, filepath.Join(dir, "x.journal"))

	kept := filepath.Join(dir, "kept")
	_, _, err = evalOutput(t, append(args, "--journal", kept)...)
	require.NoError(t, err)
	require.FileExists(t, kept)
	_, _, err = evalOutput(t, append(args, "--journal", csv)...)
	require.ErrorContains(t, err, "no journal of an evaluation")
}

// stopping ends the run after some answers.
type stopping struct {
	runner
	left   int
	cancel func()
}

func (s *stopping) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	answer, err := s.runner.Generate(ctx, tokens, n)
	if s.left--; s.left == 0 {
		s.cancel()
	}
	return answer, err
}

// A server is asked the samples of the model here, or those of a file; a prompt that it cut is
// truncated.
func TestEvalServer(t *testing.T) {
	m := tinyModel(t)
	var asked []string
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Prompt string }
		if r.URL.Path == "/api/version" {
			fmt.Fprint(w, `{"version": "0.17.4"}`)
			return
		}
		json.NewDecoder(r.Body).Decode(&body)
		asked = append(asked, body.Prompt)
		n := len(body.Prompt)
		if n > 3000 {
			n = 1500
		}
		fmt.Fprintf(w, `{"response": "0", "prompt_eval_count": %d}`, n)
	}))
	defer h.Close()
	samples := filepath.Join(t.TempDir(), "s.jsonl")
	_, _, err := evalOutput(t, "keyvalue", m.path, "--lengths", "2k,4k", "--limit", "2",
		"--write-samples", samples)
	require.NoError(t, err)
	args := []string{"--server", h.URL, "--lengths", "2k,4k", "--server-model", "tiny"}
	for _, of := range [][]string{
		{"keyvalue", m.path, "--limit", "2"}, {"keyvalue", "not-here", "--samples", samples},
	} {
		asked = nil
		out, said, err := evalOutput(t, append(of, args...)...)
		require.NoError(t, err)
		assert.Regexp(t, `server +2048 +0\.0 \(0 … 66\)`, out)
		assert.Regexp(t, `server +4096 +2 unscored`, out)
		assert.Regexp(t, `2 of 2 samples not scored: not answered: truncated: the server read 1500 `+
			`of \d{4} tokens`, said)
		assert.Len(t, asked, 5)
		assert.Contains(t, asked[1], "Extract the value corresponding")
	}
	csv := filepath.Join(t.TempDir(), "x.csv")
	out, said, err := evalOutput(t, append([]string{
		"passkey", m.path, "--trials", "1", "--depths", "0,1", "--csv", csv,
	}, args...)...)
	require.NoError(t, err)
	assert.Regexp(t, `server +2048 +0 % +0–66\n +server +4096 +- +-\n`, out)
	assert.Contains(t, out, "0 % of 2 (95 %: 0 to 66)")
	assert.Contains(t, said, "passkey at 4096 tokens: 2 of 2 trials not scored: not answered: "+
		"truncated: the server read 1500 of ")
	trials, err := os.ReadFile(strings.TrimSuffix(csv, ".csv") + "-trials.csv")
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^server,2048,0,0,.*,0,false,$`, string(trials))
	assert.Regexp(t, `(?m)^server,4096,0,0,.*,,,$`, string(trials))
	for want, of := range map[string][]string{
		"perplexity needs likelihoods or factors": {"perplexity", m.path},
		"name a model here, or ask --samples":     {"keyvalue", "not-here"},
		"are not for --server":                    {"keyvalue", m.path, "--methods", "yarn"},
		"--nll: a server gives text":              {"keyvalue", m.path, "--nll"},
	} {
		_, _, err := evalOutput(t, append(of, args...)...)
		assert.ErrorContains(t, err, want)
	}
	_, _, err = evalOutput(t, "keyvalue", m.path, "--num-ctx", "4k")
	assert.ErrorContains(t, err, "are for --server")
}
