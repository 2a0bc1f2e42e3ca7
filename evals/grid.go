package evals

import (
	"math"

	"github.com/longrope/longrope/evals/label"
)

// Grid is a result by two things, for a heat map: shares by row and column.
type Grid struct {
	Title    string // of a picture: what was measured
	Subtitle string // what a share is of, and what goes down and across
	Method   string
	Down     string   // what goes down
	Rows     []string // from top to bottom; the last is over all others
	Columns  []string
	Cells    [][]*Proportion // by row, then column; nil was not measured
	Total    Proportion
}

// Gridder is a result that has a heat map.
type Gridder interface{ Grid() Grid }

// SuiteGrids are tasks (down) by length (across), a grid for each method, with the average below.
func (c *Comparison) SuiteGrids(suite string) (grids []Grid) {
	var names []string
	var lengths []int
	for _, t := range c.Tasks {
		if t.Task.Suite == suite {
			names = append(names, t.Task.Columns[0])
		}
	}
	names = append(names, suite)
	at, columns := map[string]int{}, map[int]int{}
	for _, r := range c.Rows {
		if _, ok := columns[r.Length]; !ok {
			columns[r.Length] = len(lengths)
			lengths = append(lengths, r.Length)
		}
	}
	for _, r := range c.Rows {
		i, ok := at[r.Method]
		if !ok {
			i = len(grids)
			at[r.Method] = i
			grids = append(grids, newSuiteGrid(suite, r.Method, names, lengths))
		}
		for row, name := range names {
			rate, low, high := r.Figure(name), r.Figure(name+"_low"), r.Figure(name+"_high")
			if rate != nil && low != nil && high != nil {
				grids[i].Cells[row][columns[r.Length]] = &Proportion{
					Rate: *rate, Low: *low, High: *high,
				}
			}
		}
	}
	for i := range grids {
		grids[i].total()
	}
	return grids
}

func newSuiteGrid(suite, method string, names []string, lengths []int) Grid {
	g := Grid{
		Title:    suite,
		Subtitle: "share of what was asked for, by task and length in tokens",
		Method:   method, Down: "task", Rows: append(names[:len(names)-1:len(names)-1], "average"),
		Cells: make([][]*Proportion, len(names)),
	}
	for i := range g.Cells {
		g.Cells[i] = make([]*Proportion, len(lengths))
	}
	for _, l := range lengths {
		g.Columns = append(g.Columns, label.Size(l))
	}
	return g
}

// total is the mean of the last row, whose cells count alike and are taken as independent.
func (g *Grid) total() {
	n, sum, squares := 0.0, 0.0, 0.0
	for _, p := range g.Cells[len(g.Cells)-1] {
		if p != nil {
			half := (p.High - p.Low) / 2
			n, sum, squares = n+1, sum+p.Rate, squares+half*half
		}
	}
	if n > 0 {
		half := math.Sqrt(squares) / n
		g.Total = Proportion{
			Rate: sum / n, Low: max(0, sum/n-half), High: min(1, sum/n+half),
		}
	}
}
