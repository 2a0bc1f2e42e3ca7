package longrope

import (
	"fmt"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

// writeSearch writes the pictures and the page of a search, and returns the names of all files.
func (a *app) writeSearch(
	r *search.Result, m *model, info evals.Info, f searchFlags,
) (map[string]string, error) {
	files := map[string]string{"factors": f.out, "study": f.options.Journal}
	if f.plot != "" {
		pictures, err := drawResult(f.plot, r)
		if err != nil {
			return nil, fmt.Errorf("the factors are found, the picture is not drawn: %w", err)
		}
		files["plots"] = strings.Join(pictures, ", ")
	}
	if f.page != "" {
		p := searchPage(r, m, info)
		p.Command, p.Next = a.command(), []string{next(r.Model, f)}
		if err := writePage(f.page, p); err != nil {
			return nil, fmt.Errorf("the factors are found, the page is not written: %w", err)
		}
		files["report"] = f.page
	}
	return files, nil
}

// reportSearch prints what a search found.
func (a *app) reportSearch(r *search.Result, files map[string]string, f searchFlags) error {
	if a.json {
		return a.printJSON(searchOutput{r, files})
	}
	if err := a.print(searchTable(r)); err != nil {
		return err
	}
	a.say("fitness is %s; %d trials, %s tokens, and %s of held-out text",
		r.Rungs[len(r.Rungs)-1].Measure, r.Trials, label.Count(r.Tokens),
		label.Count(r.HeldOutTokens))
	for _, rung := range r.Rungs {
		// Every algorithm's first batch is what it begins with.
		if best := rung.Rows[len(rung.Rows)-1].Trial; best.Generation == 0 {
			a.say("nothing better than %s was found for %s tokens: these are its factors",
				ropescale.MethodLabel(best.Origin), label.Size(rung.Target))
		}
	}
	if !r.Complete {
		a.say("the search is not complete; the same command resumes it")
	}
	if pictures := files["plots"]; pictures != "" {
		a.say("pictures: %s", pictures)
	}
	if f.page != "" {
		a.say("the search as a page, for a browser: %s", f.page)
	}
	a.say("wrote %s; next:\n  %s", f.out, next(r.Model, f))
	return nil
}

// searchTable has a row for each method of each rung.
func searchTable(r *search.Result) string {
	has := func(value func(search.Row) *float64) bool {
		return slices.ContainsFunc(r.Rungs, func(rung search.RungResult) bool {
			return slices.ContainsFunc(rung.Rows, func(row search.Row) bool {
				return value(row) != nil
			})
		})
	}
	// A fitness of keys is shown alongside its parts; one of text alone is the perplexity of that.
	keys := has(func(row search.Row) *float64 { return row.Keys })
	further := keys && has(func(row search.Row) *float64 { return row.Further })
	ladder := len(r.Rungs) > 1
	header := []string{
		"", "on search text", "on held-out text", "factors", "start window", "attention factor",
	}
	left := 1
	if keys {
		header = slices.Replace(header, 1, 2, "fitness", "keys, nats", "on search text")
	}
	if further {
		header = slices.Insert(header, 3, "further keys, nats")
	}
	if ladder {
		header, left = append([]string{"length"}, header...), 2
	}
	var rows [][]string
	for _, rung := range r.Rungs {
		length := label.Size(rung.Target)
		for _, row := range rung.Rows {
			cells := searchCells(row, keys, further)
			if ladder {
				cells, length = append([]string{length}, cells...), ""
			}
			rows = append(rows, cells)
		}
	}
	return table(header, rows, left)
}

func searchCells(row search.Row, keys, further bool) []string {
	cell := func(x *float64) string {
		if x == nil {
			return "-"
		}
		return fitness(*x)
	}
	g := row.Trial.Rung
	low, high := draw.FactorRange([]ropescale.Rung{g})
	cells := []string{ropescale.MethodLabel(row.Method), cell(row.Fitness)}
	if keys {
		cells = append(cells, cell(row.Keys), cell(row.Text))
	}
	if further {
		cells = slices.Insert(cells, 3, cell(row.Further))
	}
	return append(cells, cell(row.HeldOut), label.Number(low)+" … "+label.Number(high),
		fmt.Sprint(g.StartWindow), label.Number(g.AttentionFactor))
}

// next is the command that comes after a search.
func next(model string, f searchFlags) string {
	longest := slices.Max(f.options.Targets)
	return fmt.Sprintf("ollama longrope convert %s --factors %s --name %s",
		quote(model), quote(f.out), quote(nameFor(model, longest)))
}
