package draw

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot/vg"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
)

// FactorSeries is a curve of rescale factors, lambda_0 … lambda_{d/2-1}.
type FactorSeries struct {
	Name    string
	Factors []float64
}

// searchPoint is one evaluation of a search: tokens evaluated so far, this one included, and the
// fitness found.
type searchPoint struct {
	Tokens   int
	Fitness  float64
	Returned bool // by the search
}

// searchSeries is a search, in the order of its evaluations.
type searchSeries struct {
	Name   string
	Points []searchPoint
}

// baseline is a method that needs no search, and its fitness.
type baseline struct {
	Name    string
	Fitness float64
}

// perplexity draws the curves of several results in one figure: perplexity by position, both axes
// logarithmic. One result has a band of one standard error; several over the same windows share
// most of their error, and bands would only hide that they differ. Buckets with few tokens are
// joined. It begins at a sixteenth of the original context length, before which all methods agree
// and which would squeeze the rest. The format is the extension's, .png or .svg, here and in all
// Plot functions.
func perplexity(path string, results []*evals.PerplexityResult) error {
	if len(results) == 0 {
		return errors.New("nothing to plot: give at least one perplexity result")
	}
	most, windows, same := 0, 0, true
	for _, r := range results {
		if len(r.Curve) == 0 {
			return fmt.Errorf("perplexity result of %q has no curve to plot", r.Method)
		}
		most, windows = max(most, r.Length), max(windows, r.Windows)
		same = same && r.Length == results[0].Length
	}
	info := results[0].Engine
	first := 1.0
	if l := info.OriginalContextLength; l > 0 && l < most {
		first = math.Max(1, float64(l)/16)
	}
	c := chart{
		title: "Perplexity by position",
		subtitle: fmt.Sprintf("%s · %d windows of %s tokens", filepath.Base(info.Model), windows,
			label.Size(most)),
		xlabel: "tokens before the predicted one",
		ylabel: "perplexity",
		x:      axis{min: first, max: float64(most), log: true},
		y:      axis{min: math.Inf(1), max: math.Inf(-1), log: true},
	}
	var curves []curve
	for i, r := range results {
		k := curve{style: styleOf(r.Method, i)}
		if !same {
			k.name += ", " + label.Size(r.Length)
		}
		for _, b := range joined(r.Curve, first) {
			// The bucket's middle on a log axis.
			x := math.Sqrt(float64(b.From) * math.Max(float64(b.To-1), float64(b.From)))
			k.points = append(k.points, vg.Point{X: vg.Length(x), Y: vg.Length(math.Exp(b.NLL))})
			c.y.include(math.Exp(b.NLL))
			if len(results) == 1 {
				low, high := math.Exp(b.NLL-b.NLLStderr), math.Exp(b.NLL+b.NLLStderr)
				k.low, k.high = append(k.low, low), append(k.high, high)
				c.y.include(low, high)
			}
		}
		curves = append(curves, k)
	}
	// One curve that explodes must not flatten the others.
	c.y.max = math.Max(math.Min(c.y.max, c.y.min*60), c.y.min*1.05)
	c.y.pad(0.04)
	c.x.ticks, c.y.ticks = sizeTicks(c.x.min, c.x.max), logTicks(c.y.min, c.y.max)
	c.keys = keysOf(curves)
	if len(results) == 1 {
		c.subtitle += " · band: ± one standard error"
	}
	return render(path, 620, 380, func(f *figure) {
		a := f.chart(c)
		if l := float64(info.OriginalContextLength); l >= c.x.min && l <= c.x.max {
			a.vertical(l, fmt.Sprintf("trained up to %s", label.Size(int(l))))
		}
		a.curves(curves)
	})
}

// joined is the curve from a position on with neighbours joined until each has a fortieth of all
// tokens, though never more than 2000 and never fewer than 200 if there are as many.
func joined(curve []evals.Bucket, first float64) []evals.Bucket {
	var out []evals.Bucket
	total := 0
	for _, b := range curve {
		total += b.Tokens
	}
	enough := min(max(total/40, 200), 2000)
	add := func(to *evals.Bucket, b evals.Bucket) {
		n, m := float64(to.Tokens), float64(b.Tokens)
		to.NLL = (n*to.NLL + m*b.NLL) / (n + m)
		to.NLLStderr = math.Hypot(n*to.NLLStderr, m*b.NLLStderr) / (n + m)
		to.Tokens += b.Tokens
		to.To = b.To
	}
	for _, b := range curve {
		switch last := len(out) - 1; {
		case float64(b.From) < first:
		case last >= 0 && out[last].Tokens < enough:
			add(&out[last], b)
		default:
			out = append(out, b)
		}
	}
	if n := len(out); n > 1 && out[n-1].Tokens < enough {
		add(&out[n-2], out[n-1])
		out = out[:n-1]
	}
	return out
}

// Factors draws lambda_i by pair for several methods or rungs, the factors on a logarithmic axis.
func Factors(path string, series []FactorSeries) error {
	c, curves, err := factorChart(series)
	if err != nil {
		return err
	}
	return render(path, 620, 380, func(f *figure) { f.chart(c).curves(curves) })
}

func factorChart(series []FactorSeries) (c chart, curves []curve, err error) {
	if len(series) == 0 {
		return c, nil, errors.New("nothing to plot: give at least one set of factors")
	}
	c = chart{
		title:    "Rescale factors",
		subtitle: "what divides the angle of each RoPE pair, from the fastest to the slowest",
		xlabel:   "RoPE pair i",
		ylabel:   "rescale factor λᵢ",
		y:        axis{min: 1, max: 1, log: true},
	}
	for i, s := range series {
		if len(s.Factors) == 0 {
			return c, nil, fmt.Errorf("factors of %q are empty", s.Name)
		}
		k := curve{style: styleOf(s.Name, i), dots: len(s.Factors) <= 64}
		for j, f := range s.Factors {
			if !(f > 0) || math.IsInf(f, 0) {
				return c, nil, fmt.Errorf("factor %d of %q is %v: want a positive number", j,
					s.Name, f)
			}
			k.points = append(k.points, vg.Point{X: vg.Length(j), Y: vg.Length(f)})
			c.y.include(f)
		}
		c.x.max = math.Max(c.x.max, float64(len(s.Factors)-1))
		curves = append(curves, k)
	}
	c.y.max = math.Max(c.y.max, c.y.min*1.2)
	c.x.ticks, c.y.ticks = linearTicks(c.x.min, c.x.max), sizeTicks(c.y.min, c.y.max)
	if len(c.y.ticks) < 3 {
		c.y.ticks = logTicks(c.y.min, c.y.max)
	}
	if c.x.max == 0 {
		c.x.max = 1
	}
	c.x.pad(0.015)
	c.y.pad(0.04)
	c.keys = keysOf(curves)
	return c, curves, nil
}

// searchPlot draws the best fitness so far against evaluated tokens, every evaluation as a faint
// point, and the fitness of methods that need no search as horizontal lines.
func searchPlot(path string, series []searchSeries, baselines []baseline) error {
	if len(series) == 0 {
		return errors.New("nothing to plot: give at least one search")
	}
	c := chart{
		title: "Search",
		subtitle: "best fitness so far (lower is better); points are candidates that read all, " +
			"the large one is returned",
		xlabel: "evaluated tokens",
		ylabel: "fitness",
		y:      axis{min: math.Inf(1), max: math.Inf(-1)},
	}
	var curves []curve
	var dots, returned [][]vg.Point
	for i, s := range series {
		if len(s.Points) == 0 {
			return fmt.Errorf("search %q has no evaluations", s.Name)
		}
		k := curve{style: styleOf(s.Name, i), steps: true}
		var all, large []vg.Point
		best := math.Inf(1)
		for _, p := range s.Points {
			if math.IsNaN(p.Fitness) || math.IsInf(p.Fitness, 0) {
				continue // a candidate without worth
			}
			at := vg.Point{X: vg.Length(p.Tokens), Y: vg.Length(p.Fitness)}
			if all = append(all, at); p.Returned {
				large = append(large, at)
			}
			best = math.Min(best, p.Fitness)
			k.points = append(k.points, vg.Point{X: vg.Length(p.Tokens), Y: vg.Length(best)})
			c.x.max = math.Max(c.x.max, float64(p.Tokens))
		}
		if len(k.points) == 0 {
			return fmt.Errorf("search %q has no evaluation with a finite fitness", s.Name)
		}
		c.y.include(float64(k.points[0].Y), best)
		curves = append(curves, k)
		dots, returned = append(dots, all), append(returned, large)
	}
	// Baselines within reach set the scale; one far above would flatten the search.
	base := axis{min: c.y.min, max: c.y.max}
	reach := c.y.min + 4*math.Max(c.y.max-c.y.min, 0.05*c.y.min)
	var above []string
	for _, b := range baselines {
		if b.Fitness <= reach {
			base.include(b.Fitness)
		} else {
			above = append(above, fmt.Sprintf("%s %.2f", b.Name, b.Fitness))
		}
	}
	c.y.min, c.y.max = base.min, base.max
	if c.y.max <= c.y.min {
		c.y.max = c.y.min * 1.01
	}
	c.y.pad(0.08)
	if len(above) > 0 {
		c.subtitle += " · above the figure: " + strings.Join(above, ", ")
	}
	c.x.ticks, c.y.ticks = linearTicks(0, c.x.max), linearTicks(c.y.min, c.y.max)
	for i := range c.x.ticks {
		c.x.ticks[i].label = countLabel(c.x.ticks[i].at)
	}
	c.keys = keysOf(curves)
	return render(path, 620, 380, func(f *figure) {
		a := f.chart(c)
		a.horizontals(baselines)
		for i, points := range dots {
			a.dots(points, fade(curves[i].color, 90), 1.3)
		}
		a.curves(curves)
		for i, points := range returned {
			a.dots(points, curves[i].color, 3.5)
		}
	})
}

// Search draws how a rung was found, next to the methods that need no search.
func Search(path string, r RungPage) error {
	series := searchSeries{Name: "longrope"}
	var baselines []baseline
	for _, m := range r.Methods {
		if m.Fitness != nil && m.Method != "longrope" {
			baselines = append(baselines, baseline{Name: m.Method, Fitness: *m.Fitness})
		}
	}
	for i, c := range r.Candidates {
		// The methods are lines already; as points, PI's height would leave no room for the rest.
		if i >= len(baselines) || len(r.Candidates) == len(baselines) {
			series.Points = append(series.Points, searchPoint{c.Tokens, c.Fitness, c.Returned})
		}
	}
	return searchPlot(path, []searchSeries{series}, baselines)
}

func rgb(hex uint32) color.NRGBA {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

func fade(c color.NRGBA, alpha uint8) color.NRGBA {
	c.A = alpha
	return c
}

// countLabel writes counts with a decimal prefix: 500k, 1.5M.
func countLabel(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.size {
			return label.Exact(math.Round(v/u.size*1000)/1000) + u.name
		}
	}
	return label.Exact(v)
}

type tick struct {
	at    float64
	label string
}

// sizeTicks are powers of two, at most nine.
func sizeTicks(low, high float64) []tick {
	var ticks []tick
	for v := 1; float64(v) <= high; v *= 2 {
		if float64(v) >= low {
			ticks = append(ticks, tick{float64(v), label.Size(v)})
		}
	}
	for len(ticks) > 9 {
		// Keep the largest, which is usually the target.
		var half []tick
		for i := range ticks {
			if (len(ticks)-1-i)%2 == 0 {
				half = append(half, ticks[i])
			}
		}
		ticks = half
	}
	return ticks
}

// linearTicks are multiples of 1, 2 or 5 times a power of ten, four to eight of them.
func linearTicks(low, high float64) []tick {
	span := high - low
	if !(span > 0) {
		return []tick{{low, label.Exact(low)}}
	}
	unit := math.Pow(10, math.Floor(math.Log10(span)))
	for _, step := range []float64{unit / 10, unit / 5, unit / 2, unit, 2 * unit} {
		from, to := math.Ceil(low/step-1e-9), math.Floor(high/step+1e-9)
		if to-from+1 > 8 {
			continue
		}
		digits := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
		var ticks []tick
		for k := from + 0; k <= to; k++ { // + 0 makes zero of minus zero
			ticks = append(ticks, tick{k * step, fmt.Sprintf("%.*f", digits, k*step)})
		}
		return ticks
	}
	return nil
}

// logTicks are round numbers, as dense as gives four or more; where the range is too small for
// that, linear ones.
func logTicks(low, high float64) []tick {
	for _, mantissas := range [][]float64{{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 6, 8}} {
		var ticks []tick
		for e := math.Floor(math.Log10(low)); e <= math.Log10(high); e++ {
			for _, m := range mantissas {
				if v := m * math.Pow(10, e); v >= low*(1-1e-9) && v <= high*(1+1e-9) {
					ticks = append(ticks, tick{v, label.Exact(math.Round(v*1e6) / 1e6)})
				}
			}
		}
		if len(ticks) >= 4 {
			return ticks
		}
	}
	return linearTicks(low, high)
}

// keysOf lists the curves for the legend.
func keysOf(curves []curve) []style {
	var keys []style
	for _, k := range curves {
		keys = append(keys, k.style)
	}
	return keys
}

// Check is the error that drawing to path would end with. A program calls it before it computes for
// hours.
func Check(path string) error {
	if _, err := formatOf(path); err != nil {
		return err
	}
	return atomicfile.Check(path)
}

// formatOf is "png" or "svg".
func formatOf(path string) (string, error) {
	format := strings.ToLower(strings.TrimPrefix(filepath.Ext(path), "."))
	if !slices.Contains([]string{"png", "svg"}, format) {
		return "", fmt.Errorf("%s is no picture that can be drawn; name it .png or .svg", path)
	}
	return format, nil
}

// render makes a figure of a size in points and writes it in the format of the path's extension.
func render(path string, width, height float64, paint func(*figure)) error {
	format, err := formatOf(path)
	if err != nil {
		return err
	}
	f := newFigure(format, vg.Length(width), vg.Length(height))
	paint(f)
	return atomicfile.Write(path, func(w io.Writer) error {
		var b bytes.Buffer
		if _, err := f.out.WriteTo(&b); err != nil {
			return err
		}
		// The fonts' metrics are Arial's; where they are missing, Arial or its like does.
		_, err := w.Write(bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"),
			[]byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;")))
		return err
	})
}
