package draw

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/longrope/longrope/evals"
)

// suiteTable is Table for many tasks: a line per task and length and a column per method, with the
// first cell of the task's table, then its other cells, of the first method. The averages of suites
// come last.
func suiteTable(w io.Writer, c *evals.Comparison) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	var methods []string
	var lengths []int
	rows := map[string]evals.Row{}
	key := func(method string, length int) string { return fmt.Sprint(length, " ", method) }
	name := len("average of")
	for _, r := range c.Rows {
		rows[key(r.Method, r.Length)] = r
		if !slices.Contains(methods, r.Method) {
			methods = append(methods, r.Method)
		}
		if !slices.Contains(lengths, r.Length) {
			lengths = append(lengths, r.Length)
		}
	}
	for _, task := range c.Tasks {
		name = max(name, len(task.Task.Name))
	}
	fmt.Fprintf(t, "%-*s\tlength", name, "task")
	for _, m := range methods {
		fmt.Fprintf(t, "\t%s", m)
	}
	others := otherHeads(c, methods[0])
	for _, head := range others {
		fmt.Fprintf(t, "\t%s", head)
	}
	fmt.Fprint(t, "\t\n")
	line := func(of string, length int, cells ...string) {
		fmt.Fprintf(t, "%-*s\t%d", name, of, length)
		for _, cell := range cells {
			if cell == "" {
				cell = "-"
			}
			fmt.Fprintf(t, "\t%s", cell)
		}
		fmt.Fprint(t, "\t\n")
	}
	for _, task := range c.Tasks {
		for _, length := range lengths {
			var cells []string
			for _, m := range methods {
				cells = append(cells, task.Task.Table[0].Text(rows[key(m, length)]))
			}
			for _, head := range others {
				text := ""
				for _, cell := range task.Task.Table[1:] {
					if cell.Head == head {
						text = cell.Text(rows[key(methods[0], length)])
					}
				}
				cells = append(cells, text)
			}
			line(task.Task.Name, length, cells...)
		}
	}
	for _, suite := range c.Suites() {
		for _, length := range lengths {
			var cells []string
			for _, m := range methods {
				cells = append(cells, average(rows[key(m, length)], suite))
			}
			line("average of "+suite, length, append(cells, make([]string, len(others))...)...)
		}
	}
	return t.Flush()
}

// otherHeads are the heads of cells after the first of the tasks, those that a method has something
// for.
func otherHeads(c *evals.Comparison, method string) (heads []string) {
	for _, task := range c.Tasks {
		for _, cell := range task.Task.Table[1:] {
			if !slices.Contains(heads, cell.Head) && slices.ContainsFunc(c.Rows, func(
				r evals.Row,
			) bool {
				return r.Method == method && cell.Text(r) != ""
			}) {
				heads = append(heads, cell.Head)
			}
		}
	}
	return heads
}

// average is the mean of a suite with its interval, in percent.
func average(r evals.Row, suite string) string {
	mean, low, high := r.Figure(suite), r.Figure(suite+"_low"), r.Figure(suite+"_high")
	if mean == nil || low == nil || high == nil {
		return ""
	}
	return fmt.Sprintf("%.1f (%.0f … %.0f)", 100**mean, 100**low, 100**high)
}
