package longrope

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/choice"
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
				args = append(args, "--lengths", "512")
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
	f := newTaskFlags(fl)
	require.NoError(t, fl.Parse([]string{"--limit", "7", "--trials", "3"}))
	for _, name := range choice.BenchmarkNames() {
		assert.Equal(t, 7, f.jobs[name].(*choice.Options).Limit)
	}
	assert.Equal(t, 3, f.jobs["passkey"].(*evals.PasskeyOptions).Trials)
	assert.Regexp(t, "^Benchmarks: questions", fl.Lookup("limit").Usage)
	assert.Regexp(t, "^Passkey: trials", fl.Lookup("trials").Usage)
	assert.NotContains(t, fl.FlagUsages(), "default []")

	tasks, err := tasksNamed("perplexity")
	require.NoError(t, err)
	_, err = f.of(tasks, fl)
	require.EqualError(t, err,
		"--limit is for benchmarks; perplexity has --documents, --stride, --text, --windows")
	tasks, err = tasksNamed(allTasks)
	require.NoError(t, err)
	require.Len(t, tasks, 2)
	fl = pflag.NewFlagSet("", pflag.ContinueOnError)
	f = newTaskFlags(fl)
	require.NoError(t, fl.Parse([]string{"--windows", "1", "--trials", "3"}))
	jobs, err := f.of(tasks, fl)
	require.NoError(t, err)
	assert.Equal(t, 1, jobs[0].(*evals.PerplexityOptions).MaxWindows)
}
