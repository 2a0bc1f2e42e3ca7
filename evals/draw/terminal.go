package draw

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
)

// heatMap writes a grid as a table in percent. With color, cells have the colours of heatMaps;
// without, a block before each number grows with it, so that the shape is seen in a log file too.
func heatMap(w io.Writer, g evals.Grid, color bool) error {
	var b strings.Builder
	of, wide := "", 5
	if g.Total.Trials > 0 {
		of = fmt.Sprintf(" of %d", g.Total.Trials)
	}
	for _, name := range g.Rows {
		wide = max(wide, len(strings.ReplaceAll(name, " ", "")))
	}
	total := fmt.Sprintf("%.0f %%%s (95 %%: %.0f to %.0f)", 100*g.Total.Rate, of, 100*g.Total.Low,
		100*g.Total.High)
	if g.Total == (evals.Proportion{}) {
		total = "not measured"
	}
	fmt.Fprintf(&b, "%s  %s\n  %*s", g.Method, total, wide, g.Down)
	for _, c := range g.Columns {
		fmt.Fprintf(&b, " %6s", c)
	}
	b.WriteString("\n")
	for r, name := range g.Rows {
		fmt.Fprintf(&b, "  %*s", wide, strings.ReplaceAll(name, " ", ""))
		for _, c := range g.Cells[r] {
			switch {
			case c == nil:
				fmt.Fprintf(&b, " %6s", "")
			case color:
				back, text := heat(c.Rate), "38;5;16"
				if c.Rate < 0.2 || c.Rate > 0.85 {
					text = "38;5;231"
				}
				fmt.Fprintf(&b, " \x1b[48;2;%d;%d;%d;%sm %4.0f \x1b[0m", back.R, back.G, back.B,
					text,
					100*c.Rate)
			default:
				shade := shades[int(math.Round(c.Rate*float64(len(shades)-1)))]
				fmt.Fprintf(&b, "  %c %3.0f", shade, 100*c.Rate)
			}
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var (
	shades = []rune("·░▒▓█")
	bars   = []rune("▁▂▃▄▅▆▇█")
)

// sparkline draws values as a line of blocks from low to high; pass the smallest and largest value
// of several lines to give them one scale. Values that are not finite are spaces.
func sparkline(values []float64, low, high float64) string {
	var b strings.Builder
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b.WriteByte(' ')
			continue
		}
		share := 0.0
		if high > low {
			share = math.Min(math.Max((v-low)/(high-low), 0), 1)
		}
		b.WriteRune(bars[int(math.Round(share*float64(len(bars)-1)))])
	}
	return b.String()
}

// curveLines writes the curves of several perplexity results as sparklines of NLL with one scale, a
// line each: method, curve, perplexity ± standard error. As in Perplexity, positions before a
// sixteenth of the original context length are left out.
func curveLines(w io.Writer, results []*evals.PerplexityResult) error {
	low, high, name := math.Inf(1), math.Inf(-1), 0
	lines := make([][]float64, len(results))
	for i, r := range results {
		name = max(name, len(r.Method))
		for _, b := range r.Curve {
			if b.To > r.Engine.OriginalContextLength/16 {
				lines[i] = append(lines[i], b.NLL)
				low, high = math.Min(low, b.NLL), math.Max(high, b.NLL)
			}
		}
	}
	for i, r := range results {
		if _, err := fmt.Fprintf(w, "%-*s  %6s  %s  %.2f ± %.2f\n", name, r.Method,
			label.Size(r.Length), sparkline(lines[i], low, high),
			r.Perplexity, r.PerplexityStderr); err != nil {
			return err
		}
	}
	return nil
}

// Table writes the comparison for people: a line per method and length, and the columns of its
// tasks, errors and intervals next to the figures. A column that would be empty is left out.
func Table(w io.Writer, c *evals.Comparison) error {
	if len(c.Suites()) > 0 {
		return suiteTable(w, c)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(c.Rows) == 0 {
		return nil
	}
	name, short := len("method"), true
	for _, r := range c.Rows {
		name = max(name, len(r.Method))
	}
	var cells []evals.Cell
	for _, task := range c.Tasks {
		short = short && task.Task.Short
		for _, cell := range task.Task.Table {
			some := func(r evals.Row) bool { return cell.Text(r) != "" }
			if slices.ContainsFunc(c.Rows, some) {
				cell.Head = strings.ReplaceAll(cell.Head, "{first}", c.Rows[0].Method)
				cells = append(cells, cell)
			}
		}
	}
	length := "length"
	if short {
		length = "factors for"
	}
	// Methods are padded here: names stand left, figures right.
	fmt.Fprintf(t, "%-*s\t%s", name, "method", length)
	for _, cell := range cells {
		fmt.Fprintf(t, "\t%s", cell.Head)
	}
	fmt.Fprint(t, "\t\n")
	for _, r := range c.Rows {
		fmt.Fprintf(t, "%-*s\t%s", name, r.Method, lengthOf(r, short))
		for _, cell := range cells {
			text := cell.Text(r)
			if text == "" {
				text = "-"
			}
			fmt.Fprintf(t, "\t%s", text)
		}
		fmt.Fprint(t, "\t\n")
	}
	return t.Flush()
}

// lengthOf is the length of a row; for short prompts the rung that they got.
func lengthOf(r evals.Row, short bool) string {
	switch {
	case !short:
		return fmt.Sprint(r.Length)
	case r.Length == 0:
		return "its own"
	}
	return label.Size(r.Length)
}
