package draw

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
)

// HeatMap writes a passkey result as a table, depth down and length across, in percent. With color,
// cells have Passkey's colours; without, a block before each number grows with it, so that the
// shape is seen in a log file too.
func HeatMap(w io.Writer, r *evals.PasskeyResult, color bool) error {
	g := gridOf(r)
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %.0f %% of %d (95 %%: %.0f to %.0f)\n  depth", r.Method, 100*r.Rate,
		r.Trials, 100*r.Low, 100*r.High)
	for _, l := range g.lengths {
		fmt.Fprintf(&b, " %6s", label.Size(l))
	}
	b.WriteString("\n")
	row := func(label string, depth float64) {
		fmt.Fprintf(&b, "  %5s", label)
		for _, l := range g.lengths {
			c, ok := g.cells[l][depth]
			switch {
			case !ok:
				fmt.Fprintf(&b, " %6s", "")
			case color:
				back, text := heat(c.Rate), "38;5;16"
				if c.Rate < 0.2 || c.Rate > 0.85 {
					text = "38;5;231"
				}
				fmt.Fprintf(&b, " \x1b[48;2;%d;%d;%d;%sm %4.0f \x1b[0m", back.R, back.G, back.B,
					text, 100*c.Rate)
			default:
				fmt.Fprintf(&b, "  %s %3.0f",
					string(shades[int(math.Round(c.Rate*float64(len(shades)-1)))]), 100*c.Rate)
			}
		}
		b.WriteString("\n")
	}
	for _, d := range g.depths {
		row(fmt.Sprintf("%.0f%%", 100*d), d)
	}
	row("all", -1)
	_, err := io.WriteString(w, b.String())
	return err
}

var (
	shades = []rune("·░▒▓█")
	bars   = []rune("▁▂▃▄▅▆▇█")
)

// Sparkline draws values as a line of blocks from low to high; pass the smallest and largest value
// of several lines to give them one scale. Values that are not finite are spaces.
func Sparkline(values []float64, low, high float64) string {
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

// CurveLines writes the curves of several perplexity results as sparklines of NLL with one scale, a
// line each: method, curve, perplexity ± standard error. As in Perplexity, positions before a
// sixteenth of the original context length are left out.
func CurveLines(w io.Writer, results []*evals.PerplexityResult) error {
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
			label.Size(r.Length), Sparkline(lines[i], low, high),
			r.Perplexity, r.PerplexityStderr); err != nil {
			return err
		}
	}
	return nil
}

// Table writes the comparison for people: a line per method and length, errors and intervals beside
// the figures, and the change in perplexity against the first method, which is known better than
// either perplexity.
func Table(w io.Writer, c *evals.Comparison) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(c.Rows) == 0 {
		return nil
	}
	name := len("method")
	for _, r := range c.Rows {
		name = max(name, len(r.Method))
	}
	fmt.Fprintf(t, "%-*s", name, "method") // padded here: names stand left, figures right
	fmt.Fprintln(t,
		"\tlength\tperplexity\t± se\tvs "+c.Rows[0].Method+"\tbits/byte\tpasskey\t95 %\t")
	for _, r := range c.Rows {
		ppl, se, change, bits, key, interval := "-", "-", "-", "-", "-", "-"
		if r.Perplexity != nil {
			ppl, se, bits = fmt.Sprintf("%.2f", *r.Perplexity), fmt.Sprintf("%.2f",
				*r.PerplexityStderr), fmt.Sprintf("%.3f", *r.BitsPerByte)
		}
		if r.NLLChange != nil {
			ratio := math.Exp(*r.NLLChange)
			change = fmt.Sprintf("%+.1f ± %.1f %%", 100*(ratio-1), 100*ratio**r.NLLChangeStderr)
		}
		if r.Passkey != nil {
			key, interval = fmt.Sprintf("%.0f %%", 100**r.Passkey), fmt.Sprintf("%.0f–%.0f",
				100**r.PasskeyLow, 100**r.PasskeyHigh)
		}
		fmt.Fprintf(t, "%-*s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, r.Method, r.Length, ppl, se,
			change, bits, key, interval)
	}
	return t.Flush()
}
