package draw

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot/vg"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
)

// scale are the colours of 0, 25, 50, 75 and 100 %: vermilion over pale yellow to bluish green,
// apart for colour-blind readers in hue and, around the middle, in lightness.
var scale = [5]color.NRGBA{rgb(0xc8481a), rgb(0xee9a5c), rgb(0xf7e8b0), rgb(0x7fc6a4),
	rgb(0x00866b)}

func heat(rate float64) color.NRGBA {
	rate = math.Min(math.Max(rate, 0), 1) * 4
	i := min(int(rate), 3)
	t := rate - float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-t) + float64(b)*t)) }
	a, b := scale[i], scale[i+1]
	return color.NRGBA{R: mix(a.R, b.R), G: mix(a.G, b.G), B: mix(a.B, b.B), A: 255}
}

// grid is a passkey result by depth (down) and length (across).
type grid struct {
	lengths []int
	depths  []float64
	cells   map[int]map[float64]evals.PasskeyCell // by length, then depth; -1 for all depths
}

func gridOf(r *evals.PasskeyResult) grid {
	g := grid{cells: map[int]map[float64]evals.PasskeyCell{}}
	for _, c := range append(slices.Clone(r.Cells), r.Lengths...) {
		if g.cells[c.Length] == nil {
			g.cells[c.Length] = map[float64]evals.PasskeyCell{}
			g.lengths = append(g.lengths, c.Length)
		}
		if c.Depth >= 0 && !slices.Contains(g.depths, c.Depth) {
			g.depths = append(g.depths, c.Depth)
		}
		g.cells[c.Length][c.Depth] = c
	}
	slices.Sort(g.lengths)
	slices.Sort(g.depths)
	return g
}

// Passkey draws one panel per result in one picture: depth down, length across, the share of keys
// found as colour and number, and under each panel the share over all depths. See Perplexity for
// formats.
func Passkey(path string, results []*evals.PasskeyResult) error {
	if len(results) == 0 {
		return errors.New("nothing to plot: give at least one passkey result")
	}
	const (
		margin, gap     = 16.0, 22.0
		cellH           = 24.0
		narrowest       = 132.0      // panel, for its title
		above, below    = 34.0, 26.0 // of a panel: its title and lengths, nothing
		labelW, sumGap  = 40.0, 5.0
		headH, legendH  = 62.0, 30.0
		widest          = 900.0
		subtitle        = "share of keys found by depth of the key in the text and length in tokens"
		smallestPicture = 460.0
	)
	var panelH float64
	cellW, columns, trials := 42.0, 0, 0
	for _, r := range results {
		g := gridOf(r)
		if len(g.lengths) == 0 {
			return fmt.Errorf("passkey result of %q has no cells to plot", r.Method)
		}
		columns = max(columns, len(g.lengths))
		panelH = math.Max(panelH, above+cellH*float64(len(g.depths)+1)+sumGap+below)
		for _, c := range r.Cells {
			trials = max(trials, c.Trials)
		}
	}
	cellW = math.Max(cellW, narrowest/float64(columns))
	panelW := cellW * float64(columns)
	across := min(len(results), max(1, int((widest-2*margin-labelW+gap)/(panelW+gap))))
	rows := (len(results) + across - 1) / across
	across = (len(results) + rows - 1) / rows // rows of equal length
	width := math.Max(2*margin+labelW+float64(across)*(panelW+gap)-gap, smallestPicture)
	height := headH + float64(rows)*panelH + legendH

	return render(path, width, height, func(f *figure) {
		title := "Passkey retrieval"
		if m := results[0].Engine.Model; m != "" {
			title += " · " + filepath.Base(m)
		}
		each := "1 trial"
		if trials > 1 {
			each = fmt.Sprintf("%d trials", trials)
		}
		f.head(title, fmt.Sprintf("%s; %s a cell", subtitle, each))
		for i, r := range results {
			g := gridOf(r)
			x0 := f.Min.X + vg.Length(margin+labelW+float64(i%across)*(panelW+gap))
			y0 := f.Max.Y - vg.Length(headH+float64(i/across)*panelH)
			name := r.Method
			if name == "" {
				name = "model's own"
			}
			w := f.write(f.textStyle(11, ink, 0, -1, true), x0, y0, name)
			note, noted := fmt.Sprintf("%.0f %% (%.0f to %.0f)", 100*r.Rate, 100*r.Low,
				100*r.High), f.textStyle(8.5, quiet, 0, -1, false)
			if float64(w+6+noted.Width(note)) < panelW+gap-4 {
				f.write(noted, x0+w+6, y0-2, note)
			}
			small := f.textStyle(9, quiet, -0.5, 0, false)
			for c, length := range g.lengths {
				f.write(small, x0+vg.Length(cellW*(float64(c)+0.5)), y0-vg.Length(above)+4,
					label.Size(length))
			}
			depth := f.textStyle(9, quiet, -1, -0.5, false)
			for d := range len(g.depths) + 1 {
				top := y0 - vg.Length(above+cellH*float64(d))
				at, label := -1.0, "all"
				if d < len(g.depths) {
					at = g.depths[d]
					label = fmt.Sprintf("%.0f %%", 100*at)
				} else {
					top -= sumGap
				}
				if i%across == 0 {
					f.write(depth, x0-7, top-cellH/2, label)
				}
				for c, length := range g.lengths {
					cell, ok := g.cells[length][at]
					left := x0 + vg.Length(cellW*float64(c))
					if !ok {
						f.box(left+0.75, top-cellH+0.75, left+vg.Length(cellW)-0.75, top-0.75, hair)
						continue
					}
					f.box(left+0.75, top-cellH+0.75, left+vg.Length(cellW)-0.75, top-0.75,
						heat(cell.Rate))
					on := ink
					if cell.Rate < 0.2 || cell.Rate > 0.85 {
						on = rgb(0xffffff)
					}
					f.write(f.textStyle(9.5, on, -0.5, -0.5, d == len(g.depths)),
						left+vg.Length(cellW)/2, top-cellH/2, fmt.Sprintf("%.0f", 100*cell.Rate))
				}
			}
			if i%across == 0 {
				s := f.textStyle(9, quiet, -1, 0, false)
				f.write(s, x0-7, y0-vg.Length(above)+4, "depth")
			}
		}
		// The colour scale, with its ends named.
		x, y := f.Min.X+vg.Length(margin+labelW), f.Min.Y+14
		s := f.textStyle(9, quiet, 0, -0.5, false)
		const steps, stepW = 40, 3.0
		x += f.write(s, x, y+4, "0 %") + 6
		for k := range steps {
			left := x + vg.Length(stepW*float64(k))
			f.box(left, y, left+stepW+0.3, y+8, heat(float64(k)/(steps-1)))
		}
		f.write(s, x+steps*stepW+6, y+4, "100 % · in brackets: Wilson 95 % interval")
	})
}
