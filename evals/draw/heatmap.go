package draw

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"path/filepath"

	"gonum.org/v1/plot/vg"

	"github.com/longrope/longrope/evals"
)

// scale are the colours of 0, 25, 50, 75 and 100 %: vermilion over pale yellow to bluish green,
// apart for colour-blind readers in hue and, around the middle, in lightness.
var scale = [5]color.NRGBA{
	rgb(0xc8481a), rgb(0xee9a5c), rgb(0xf7e8b0), rgb(0x7fc6a4),
	rgb(0x00866b),
}

func heat(rate float64) color.NRGBA {
	rate = math.Min(math.Max(rate, 0), 1) * 4
	i := min(int(rate), 3)
	t := rate - float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-t) + float64(b)*t)) }
	a, b := scale[i], scale[i+1]
	return color.NRGBA{R: mix(a.R, b.R), G: mix(a.G, b.G), B: mix(a.B, b.B), A: 255}
}

// Sizes of a picture of heat maps, in points.
const (
	heatMargin, heatGap = 16.0, 22.0
	cellHeight          = 24.0
	cellWidth           = 42.0
	panelNarrowest      = 132.0 // for its title
	panelAbove          = 34.0  // its title and columns
	panelBelow          = 26.0
	labelNarrowest      = 40.0
	sumGap              = 5.0
	heatHead, heatFoot  = 62.0, 30.0
	heatWidest          = 900.0
	heatNarrowest       = 460.0
)

// heatLayout is where the panels of a picture stand.
type heatLayout struct {
	across, rows                                int // panels
	label, cell, panel, height, width, allTotal float64
}

func layout(grids []evals.Grid) heatLayout {
	l := heatLayout{cell: cellWidth, label: labelNarrowest}
	columns := 0
	for _, g := range grids {
		for _, row := range g.Rows {
			l.label = math.Max(l.label, 12+4.8*float64(len(row))) // letters at 9 points
		}
		columns = max(columns, len(g.Columns))
		l.height = math.Max(l.height, panelAbove+cellHeight*float64(len(g.Rows))+sumGap+panelBelow)
	}
	l.cell = math.Max(l.cell, panelNarrowest/float64(columns))
	l.panel = l.cell * float64(columns)
	room := heatWidest - 2*heatMargin - l.label + heatGap
	l.across = min(len(grids), max(1, int(room/(l.panel+heatGap))))
	l.rows = (len(grids) + l.across - 1) / l.across
	l.across = (len(grids) + l.rows - 1) / l.rows // rows of equal length
	l.width = math.Max(heatNarrowest,
		2*heatMargin+l.label+float64(l.across)*(l.panel+heatGap)-heatGap)
	l.allTotal = heatHead + float64(l.rows)*l.height + heatFoot
	return l
}

// heatMaps draws one panel per grid in one picture: the share of each cell as colour and number,
// and under each panel the share over all rows. model is named in the title. See Perplexity for
// formats.
func heatMaps(path, model string, grids []evals.Grid) error {
	if len(grids) == 0 {
		return errors.New("nothing to plot: give at least one result")
	}
	trials := 0
	for _, g := range grids {
		if len(g.Columns) == 0 || len(g.Rows) < 2 {
			return fmt.Errorf("result of %q has no cells to plot", g.Method)
		}
		for _, row := range g.Cells[:len(g.Rows)-1] {
			for _, c := range row {
				if c != nil {
					trials = max(trials, c.Trials)
				}
			}
		}
	}
	each := ""
	switch {
	case trials == 1:
		each = "; 1 trial a cell"
	case trials > 1:
		each = fmt.Sprintf("; %d trials a cell", trials)
	}
	title := grids[0].Title
	if model != "" {
		title += " · " + filepath.Base(model)
	}
	l := layout(grids)
	return render(path, l.width, l.allTotal, func(f *figure) {
		f.head(title, grids[0].Subtitle+each)
		for i, g := range grids {
			x := f.Min.X + vg.Length(heatMargin+l.label+float64(i%l.across)*(l.panel+heatGap))
			y := f.Max.Y - vg.Length(heatHead+float64(i/l.across)*l.height)
			f.panel(g, l, x, y, i%l.across == 0)
		}
		f.heatScale(l)
	})
}

// panel draws one grid with its upper left corner at x, y. The first of a row has labels.
func (f *figure) panel(g evals.Grid, l heatLayout, x, y vg.Length, first bool) {
	name := g.Method
	if name == "" {
		name = "model's own"
	}
	w := f.write(f.textStyle(11, ink, 0, -1, true), x, y, name)
	note := fmt.Sprintf("%.0f %% (%.0f to %.0f)", 100*g.Total.Rate, 100*g.Total.Low,
		100*g.Total.High)
	noted := f.textStyle(8.5, quiet, 0, -1, false)
	if float64(w+6+noted.Width(note)) < l.panel+heatGap-4 {
		f.write(noted, x+w+6, y-2, note)
	}
	small := f.textStyle(9, quiet, -0.5, 0, false)
	for c, column := range g.Columns {
		f.write(small, x+vg.Length(l.cell*(float64(c)+0.5)), y-panelAbove+4, column)
	}
	labels := f.textStyle(9, quiet, -1, -0.5, false)
	for r, row := range g.Rows {
		last := r == len(g.Rows)-1
		top := y - vg.Length(panelAbove+cellHeight*float64(r))
		if last {
			top -= sumGap
		}
		if first {
			f.write(labels, x-7, top-cellHeight/2, row)
		}
		for c, cell := range g.Cells[r] {
			f.cell(cell, x+vg.Length(l.cell*float64(c)), top, vg.Length(l.cell), last)
		}
	}
	if first {
		f.write(f.textStyle(9, quiet, -1, 0, false), x-7, y-panelAbove+4, g.Down)
	}
}

// cell draws a share, or that there is none.
func (f *figure) cell(p *evals.Proportion, left, top, width vg.Length, bold bool) {
	fill := hair
	if p != nil {
		fill = heat(p.Rate)
	}
	f.box(left+0.75, top-cellHeight+0.75, left+width-0.75, top-0.75, fill)
	if p == nil {
		return
	}
	on := ink
	if p.Rate < 0.2 || p.Rate > 0.85 {
		on = rgb(0xffffff)
	}
	f.write(f.textStyle(9.5, on, -0.5, -0.5, bold), left+width/2, top-cellHeight/2,
		fmt.Sprintf("%.0f", 100*p.Rate))
}

// heatScale draws the colours with their ends named.
func (f *figure) heatScale(l heatLayout) {
	x, y := f.Min.X+heatMargin+vg.Length(l.label), f.Min.Y+14
	s := f.textStyle(9, quiet, 0, -0.5, false)
	const steps, step = 40, 3.0
	x += f.write(s, x, y+4, "0 %") + 6
	for k := range steps {
		left := x + vg.Length(step*float64(k))
		f.box(left, y, left+step+0.3, y+8, heat(float64(k)/(steps-1)))
	}
	f.write(s, x+steps*step+6, y+4, "100 % · in brackets: Wilson 95 % interval")
}
