package evals

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// compareVersion is the version of Compare's rows.
const compareVersion = 2

// CompareOptions are the arguments of Compare; zero values are the defaults named.
type CompareOptions struct {
	// Lengths in tokens, for all jobs; nil is the engine's MaxLength alone.
	Lengths []int
	// Jobs are measured one after the other for each method.
	Jobs []Job
	// Carried and those below are handed to the jobs: see Setup.
	Carried *ropescale.Ladder
	Books   func(length int) ([]Text, error)
	Chat    func(user string) (string, error)

	Progress Progress
}

// Row is a line of a comparison: a method at a length, and the figures of all tasks that measured
// there.
type Row struct {
	Method  string
	Length  int
	figures []figure
}

type figure struct {
	name  string
	value *float64
}

// Figure is a figure by its name, one of the Columns of the tasks; nil was not measured.
func (r Row) Figure(name string) *float64 {
	for _, f := range r.figures {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// MarshalJSON writes one flat object. Figures that were not measured are left out.
func (r Row) MarshalJSON() ([]byte, error) {
	o := object{{"method", r.Method}, {"length", r.Length}}
	for _, f := range r.figures {
		if f.value != nil {
			o = append(o, member{f.name, *f.value})
		}
	}
	return o.MarshalJSON()
}

// UnmarshalJSON reads what MarshalJSON writes. The order of figures is that of Tasks.
func (r *Row) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	if err := errors.Join(json.Unmarshal(all["method"], &r.Method),
		json.Unmarshal(all["length"], &r.Length)); err != nil {
		return err
	}
	r.figures = nil
	var suites []Task
	for _, t := range Tasks() {
		if t.Suite != "" {
			suites = append(suites, Task{Columns: averages(t.Suite)})
		}
	}
	for _, t := range append(Tasks(), suites...) {
		for _, name := range t.Columns {
			var value *float64
			if raw, ok := all[name]; ok && r.Figure(name) == nil {
				if err := json.Unmarshal(raw, &value); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				r.figures = append(r.figures, figure{name, value})
			}
		}
	}
	return nil
}

// Comparison is what Compare measured: rows by method, then length, and the results they come from.
type Comparison struct {
	Provenance
	Rows  []Row
	Tasks []TaskResults // in the order of the jobs
}

// TaskResults are the results of one task, by method, then length.
type TaskResults struct {
	Task    Task
	Results []Result
}

// ResultsOf are the results of a type: ResultsOf[*PasskeyResult](c).
func ResultsOf[R Result](c *Comparison) (found []R) {
	for _, t := range c.Tasks {
		for _, r := range t.Results {
			if r, ok := r.(R); ok {
				found = append(found, r)
			}
		}
	}
	return found
}

// MarshalJSON writes the fields of Provenance, the rows, and each task's results under its name.
func (c *Comparison) MarshalJSON() ([]byte, error) {
	o := object{{"", c.Provenance}, {"rows", c.Rows}}
	for _, t := range c.Tasks {
		o = append(o, member{t.Task.Name, t.Results})
	}
	return o.MarshalJSON()
}

// UnmarshalJSON reads what MarshalJSON writes, and what version 1 of the schema wrote.
func (c *Comparison) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &c.Provenance); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	if err := json.Unmarshal(all["rows"], &c.Rows); err != nil {
		return fmt.Errorf("rows: %w", err)
	}
	c.Tasks = nil
	for _, t := range Tasks() {
		var raw []json.RawMessage
		if all[t.Name] == nil {
			continue
		}
		if err := json.Unmarshal(all[t.Name], &raw); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		found := TaskResults{Task: t}
		for _, b := range raw {
			r := t.Result()
			if err := json.Unmarshal(b, r); err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
			found.Results = append(found.Results, r)
		}
		if len(found.Results) > 0 {
			c.Tasks = append(c.Tasks, found)
		}
	}
	return nil
}

// setup is what jobs are prepared for.
func (o CompareOptions) setup(e Engine) Setup {
	return Setup{
		Engine: e, Lengths: o.Lengths, Carried: o.Carried, Books: o.Books, Chat: o.Chat,
	}
}

// WriteSamples writes the prompts of all jobs as lines of JSON, and returns how many there are.
func WriteSamples(w io.Writer, e Engine, o CompareOptions) (n int, err error) {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	for _, j := range o.Jobs {
		p, err := j.Prepare(o.setup(e))
		if err != nil {
			return n, err
		}
		if p.Samples == nil {
			return n, fmt.Errorf("%s writes no samples", j.Task())
		}
		if err := p.Samples(func(record any) error {
			n++
			return enc.Encode(record)
		}); err != nil {
			return n, fmt.Errorf("%s: %w", j.Task(), err)
		}
	}
	return n, b.Flush()
}

// Compare measures every method at every length on one loaded model with the same jobs: the same
// windows, keys and questions. Afterwards the engine has the model file's own factors again.
func Compare(ctx context.Context, e Engine, methods []Method, o CompareOptions) (c *Comparison,
	err error,
) {
	if err := checkMethods(methods); err != nil {
		return nil, err
	}
	if len(o.Jobs) == 0 {
		return nil, errors.New("nothing to measure: give at least one job")
	}
	if len(o.Lengths) == 0 {
		o.Lengths = []int{e.Info().MaxLength}
	}
	c = &Comparison{}
	given := object{{"lengths", o.Lengths}}
	effective := slices.Clone(given)
	plans := make([]*Plan, len(o.Jobs))
	total, seed := 0, uint64(0)
	for i, j := range o.Jobs {
		t, err := TaskByName(j.Task())
		if err != nil {
			return nil, err
		}
		if plans[i], err = j.Prepare(o.setup(e)); err != nil {
			return nil, err
		}
		c.Tasks = append(c.Tasks, TaskResults{Task: t})
		given = append(given, member{t.Name, j})
		effective = append(effective, member{t.Name, plans[i].Args})
		total += len(methods) * plans[i].Calls
		seed = max(seed, plans[i].Seed)
	}

	c.Provenance = NewProvenance("compare", compareVersion, e, Method{}, seed, given, effective)
	done := 0
	defer func() { err = errors.Join(err, e.SetLadder(nil)) }()
	all := make([][][]Result, len(plans)) // by job, then method
	for _, m := range methods {
		for i, p := range plans {
			if err := e.SetLadder(m.Ladder); err != nil {
				return nil, fmt.Errorf("method %q: %w", m.Name, err)
			}
			results, err := p.Run(ctx, m, o.Progress.From(done, total))
			if err != nil {
				return nil, fmt.Errorf("method %q: %w", m.Name, err)
			}
			done += p.Calls
			all[i] = append(all[i], results)
		}
	}
	for i, p := range plans {
		if p.Finish != nil {
			p.Finish(slices.Concat(all[i]...))
		}
	}
	for k, m := range methods {
		rows := newRows(m, o.Lengths)
		for i := range plans {
			c.add(rows, i, all[i][k])
		}
		rows = measured(rows)
		for i := range rows {
			rows[i].average(c.Tasks)
		}
		c.Rows = append(c.Rows, rows...)
	}
	c.Finish()
	return c, nil
}

func checkMethods(methods []Method) error {
	if len(methods) == 0 {
		return errors.New("no method to compare: give at least one")
	}
	for i, m := range methods {
		same := func(n Method) bool { return n.Name == m.Name }
		if m.Name == "" || slices.ContainsFunc(methods[:i], same) {
			return fmt.Errorf("method %d has no name or the name %q of an earlier one", i, m.Name)
		}
	}
	return nil
}

func newRows(m Method, lengths []int) []Row {
	rows := make([]Row, len(lengths))
	for i, length := range lengths {
		rows[i] = Row{Method: m.Name, Length: length}
	}
	return rows
}

// measured leaves out the rows that no task has a figure for.
func measured(rows []Row) []Row {
	return slices.DeleteFunc(rows, func(r Row) bool { return len(r.figures) == 0 })
}

// averages are the names of a suite's figures.
func averages(suite string) []string { return []string{suite, suite + "_low", suite + "_high"} }

// Suites are the suites that several of the tasks are of.
func (c *Comparison) Suites() (suites []string) {
	seen := map[string]int{}
	for _, t := range c.Tasks {
		if seen[t.Task.Suite]++; seen[t.Task.Suite] == 2 && t.Task.Suite != "" {
			suites = append(suites, t.Task.Suite)
		}
	}
	return suites
}

// average adds the mean over the tasks of each suite, which count alike, and its interval, with
// those of the tasks as independent and normal. Where a task has no score there is no mean.
func (r *Row) average(tasks []TaskResults) {
	c := Comparison{Tasks: tasks}
	for _, suite := range c.Suites() {
		sum, squares, n := 0.0, 0.0, 0.0
		missing := false
		for _, t := range tasks {
			if t.Task.Suite != suite {
				continue
			}
			score, low, high := r.Figure(t.Task.Columns[0]), r.Figure(t.Task.Columns[1]),
				r.Figure(t.Task.Columns[2])
			if score == nil || low == nil || high == nil {
				missing = true
				continue
			}
			half := (*high - *low) / 2
			sum, squares, n = sum+*score, squares+half*half, n+1
		}
		names := averages(suite)
		if missing || n == 0 {
			for _, name := range names {
				r.figures = append(r.figures, figure{name, nil})
			}
			continue
		}
		mean, half := sum/n, math.Sqrt(squares)/n
		low, high := max(mean-half, 0), min(mean+half, 1)
		r.figures = append(r.figures, figure{names[0], &mean}, figure{names[1], &low},
			figure{names[2], &high})
	}
}

// add takes a method's results of job i, and puts their figures into rows.
func (c *Comparison) add(rows []Row, i int, results []Result) {
	t := &c.Tasks[i]
	of := func(r Result) string { return r.About().Method }
	for k, r := range results {
		var first Result
		if k < len(t.Results) && of(t.Results[0]) == of(t.Results[k]) {
			first = t.Results[k]
		}
		c.EvaluatedTokens += r.About().EvaluatedTokens
		for _, f := range r.Figures(first) {
			at := slices.IndexFunc(rows, func(row Row) bool { return row.Length == f.Length })
			for n, name := range t.Task.Columns {
				rows[at].figures = append(rows[at].figures, figure{name, f.Values[n]})
			}
		}
	}
	t.Results = append(t.Results, results...)
}

// WriteCSV writes a row per method and length.
func (c *Comparison) WriteCSV(w io.Writer) error {
	header := []string{"method", "length"}
	for _, t := range c.Tasks {
		header = append(header, t.Task.Columns...)
	}
	for _, suite := range c.Suites() {
		header = append(header, averages(suite)...)
	}
	var rows [][]any
	for _, r := range c.Rows {
		row := []any{r.Method, r.Length}
		for _, name := range header[2:] {
			row = append(row, r.Figure(name))
		}
		rows = append(rows, row)
	}
	return writeCSV(w, header, rows)
}

// WriteCSV writes one of the task's sheets.
func (t TaskResults) WriteCSV(w io.Writer, s Sheet) error {
	var rows [][]any
	for _, r := range t.Results {
		rows = append(rows, s.Rows(r)...)
	}
	return writeCSV(w, s.Header, rows)
}
