package evals

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/ropescale"
)

// Task is one kind of measurement as a value: everything that a command, a comparison, a table and
// a file need to know of it. A task is one file that calls Register, and its test. Package tasktest
// holds what is true of every task.
type Task struct {
	// Name is what a command calls the task. It is also the key of its results in JSON.
	Name string
	// Group names tasks that share their flags, in help; "": the task alone.
	Group string
	// Suite is a name that runs this task together with the others that have it, and that their
	// average goes by; "": none. The first three Columns of such a task are a score from 0 to 1 and
	// the ends of its 95 % interval.
	Suite string
	// Version goes up when figures are no longer comparable with those before.
	Version int
	// Help is a line about what is measured.
	Help string
	// All is the place of the task in "eval all", from 1; 0: it is not part of that.
	All int
	// Server says that the task needs text alone, which an Answerer gives.
	Server bool
	// Short tasks have prompts of their own length. Lengths then only choose the rung, and 0 is the
	// rung that a prompt's own length asks for.
	Short bool
	// New makes a job with default settings.
	New func() Job
	// Result makes an empty result, to be read from JSON.
	Result func() Result
	// Columns name the figures of a row, in the order of Result.Figures: in JSON and CSV.
	Columns []string
	// Table is how people see the row. Most is one figure with its error.
	Table []Cell
	// Sheets are CSV files. The first has no name and holds the task's rows; one is "trials".
	Sheets []Sheet
	// Variants are flags of settings whose prompts differ from the default ones, for tests.
	Variants [][]string
	// Example are the smallest files that the task runs on, for tests; nil where it needs none.
	Example []ExampleFile
}

// Job is a task with its settings, which are the fields of its type. Zero values are defaults.
type Job interface {
	// Task is the name of the task.
	Task() string
	// Flags declares the settings as flags of a command line, with the job's fields as their
	// values. Jobs that share a flag's name share its value.
	Flags(f *pflag.FlagSet)
	// Load checks the settings and reads the files that flags name. It needs no model.
	Load() error
	// Prepare does all that can fail before the first model call.
	Prepare(s Setup) (*Plan, error)
}

// Setup is what a job is prepared for.
type Setup struct {
	Engine  Engine
	Lengths []int // in tokens; see Task.Short
	// Carried is the ladder of the model file: what a method without a ladder runs with. nil: none.
	Carried *ropescale.Ladder
	// Books returns texts of at least so many tokens each, for jobs that nobody gave a text; nil:
	// there are none.
	Books func(length int) ([]Text, error)
	// Chat puts what a user says into the chat template of the model, up to where the answer
	// begins; nil: it has none.
	Chat func(user string) (string, error)
}

// Plan is a job that is ready to run.
type Plan struct {
	Args  any    // settings in effect
	Seed  uint64 // 0 for a task without chance
	Calls int    // units of Progress that Run reports for a method
	// Run measures a method, whose ladder the engine has already.
	Run func(ctx context.Context, m Method, p Progress) ([]Result, error)
	// Finish completes the results of all methods, in their order, for a task whose figures depend
	// on what the others measured; nil: they do not.
	Finish func(results []Result)
	// Samples gives each prompt, as a value to be written as JSON, to add, until that returns an
	// error; nil for a task that does not write them.
	Samples func(add func(record any) error) error
}

// Result is what a task measured of one method, at one length or several.
type Result interface {
	// About is the provenance that every result embeds.
	About() *Provenance
	// Figures are the row of each length. first is the result of the first method that was
	// compared, in the same place, nil for itself.
	Figures(first Result) []Figures
}

// Figures are the values of Task.Columns at a length; nil was not measured.
type Figures struct {
	Length int
	Values []*float64
}

// Cell is a column of a table for people. In Head, {first} stands for the first method.
type Cell struct {
	Head string
	Text func(Row) string // "" where there is nothing to say
}

// Sheet is a CSV file of a task.
type Sheet struct {
	Name   string // goes into the file's name
	Header []string
	Rows   func(Result) [][]any
}

// ExampleFile is a small file for a flag of a task.
type ExampleFile struct{ Flag, Name, Text string }

// SheetOf is a Sheet for results of one type.
func SheetOf[R Result](name string, header []string, rows func(R) [][]any) Sheet {
	return Sheet{name, header, func(r Result) [][]any { return rows(r.(R)) }}
}

var tasks []Task

// Register adds tasks to Tasks. A package of tasks calls it for a variable, so that who imports the
// package has its tasks.
func Register(t Task) Task {
	tasks = append(tasks, t)
	return t
}

// Tasks are all tasks: those of "eval all" in their order, then the others by name.
func Tasks() []Task {
	sorted := slices.Clone(tasks)
	slices.SortFunc(sorted, func(a, b Task) int {
		if (a.All > 0) != (b.All > 0) {
			return cmp.Compare(b.All, a.All)
		}
		return cmp.Or(cmp.Compare(a.All, b.All), strings.Compare(a.Name, b.Name))
	})
	return sorted
}

// TaskByName returns one of Tasks.
func TaskByName(name string) (Task, error) {
	var names []string
	for _, t := range Tasks() {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return Task{}, fmt.Errorf("no task %q: want one of %s", name, strings.Join(names, ", "))
}

// RunOne prepares a job and measures one method with it.
func RunOne[R Result](ctx context.Context, j Job, s Setup, m Method) ([]R, error) {
	p, err := j.Prepare(s)
	if err != nil {
		return nil, err
	}
	if err := s.Engine.SetLadder(m.Ladder); err != nil {
		return nil, fmt.Errorf("method %q: %w", m.Name, err)
	}
	results, err := p.Run(ctx, m, nil)
	if err != nil {
		return nil, err
	}
	if p.Finish != nil {
		p.Finish(results)
	}
	typed := make([]R, len(results))
	for i, r := range results {
		typed[i] = r.(R)
	}
	return typed, nil
}
