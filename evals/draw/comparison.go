package draw

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
)

// Report writes a comparison for people: its table, heat maps and curves.
func Report(w io.Writer, c *evals.Comparison, color bool) error {
	for _, t := range c.Tasks {
		if r, ok := t.Results[0].(interface{ Title() string }); ok {
			fmt.Fprintf(w, "%s\n\n", r.Title())
		}
	}
	if err := Table(w, c); err != nil {
		return err
	}
	for _, grids := range allGrids(c) {
		for i, g := range grids {
			if i == 0 {
				fmt.Fprintf(w, "\n%s, in percent\n", g.Subtitle)
			}
			fmt.Fprintln(w)
			if err := heatMap(w, g, color); err != nil {
				return err
			}
		}
	}
	if curves := longest(c); len(curves) > 0 {
		fmt.Fprint(w, "\nNLL by position\n\n")
		if err := curveLines(w, curves); err != nil {
			return err
		}
	}
	return nil
}

// named is path with a word before its extension.
func named(path, word string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + word + ext
}

// Tables writes the CSV files of a comparison and returns their names; path "" is none. path
// gets the rows of the one task, or the comparison of several.
func Tables(path string, c *evals.Comparison) (files []string, err error) {
	if path == "" {
		return nil, nil
	}
	write := func(path string, content func(io.Writer) error) {
		if err == nil {
			err = atomicfile.Write(path, content)
			files = append(files, path)
		}
	}
	for _, t := range c.Tasks {
		for _, s := range t.Task.Sheets {
			words := s.Name
			if len(c.Tasks) > 1 {
				words = strings.TrimSuffix(t.Task.Name+"-"+s.Name, "-")
			}
			name := path
			if words != "" {
				name = named(path, words)
			}
			write(name, func(w io.Writer) error { return t.WriteCSV(w, s) })
		}
	}
	if len(c.Tasks) == 1 {
		write(named(path, "compared"), c.WriteCSV)
	} else {
		write(path, c.WriteCSV)
	}
	return files, err
}

// longest are the perplexities of the largest length: one curve for each method.
func longest(c *evals.Comparison) []*evals.PerplexityResult {
	all, most := evals.ResultsOf[*evals.PerplexityResult](c), 0
	for _, r := range all {
		most = max(most, r.Length)
	}
	return slices.DeleteFunc(all, func(r *evals.PerplexityResult) bool { return r.Length != most })
}

// gridsOf are the heat maps of a task's results, if it has any.
func gridsOf(t evals.TaskResults) (grids []evals.Grid) {
	for _, r := range t.Results {
		if r, ok := r.(evals.Gridder); ok {
			grids = append(grids, r.Grid())
		}
	}
	return grids
}

// allGrids are the heat maps of each task; tasks of a suite have theirs together.
func allGrids(c *evals.Comparison) (all [][]evals.Grid) {
	suites := c.Suites()
	for _, suite := range suites {
		all = append(all, c.SuiteGrids(suite))
	}
	for _, t := range c.Tasks {
		if grids := gridsOf(t); len(grids) > 0 && !slices.Contains(suites, t.Task.Suite) {
			all = append(all, grids)
		}
	}
	return all
}

// HasPicture reports whether results of a task can be drawn.
func HasPicture(t evals.Task) bool {
	switch t.Result().(type) {
	case evals.Gridder, *evals.PerplexityResult:
		return true
	}
	return false
}

// Comparison draws the heat maps of each task and perplexity curves; where there are several
// pictures, each gets a file of its own. path "" is none.
func Comparison(path string, c *evals.Comparison) (files []string, err error) {
	if path == "" {
		return nil, nil
	}
	suites := c.Suites()
	to := func(words string, draw func(path string) error) error {
		name := path
		if len(c.Tasks) > 1 && words != "" {
			name = named(path, words)
		}
		files = append(files, name)
		return draw(name)
	}
	for i, suite := range suites {
		words := suite
		if i == 0 && !slices.ContainsFunc(c.Tasks, func(t evals.TaskResults) bool {
			return t.Task.Suite != suite
		}) {
			words = "" // all of them in one picture
		}
		if err := to(words, func(path string) error {
			return heatMaps(path, c.Engine.Model, c.SuiteGrids(suite))
		}); err != nil {
			return nil, err
		}
	}
	for _, t := range c.Tasks {
		if slices.Contains(suites, t.Task.Suite) || !HasPicture(t.Task) {
			continue
		}
		if err := to(t.Task.Name, func(path string) error {
			if grids := gridsOf(t); len(grids) > 0 {
				return heatMaps(path, c.Engine.Model, grids)
			}
			return perplexity(path, longest(c))
		}); err != nil {
			return nil, err
		}
	}
	return files, nil
}
