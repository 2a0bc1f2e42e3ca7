package draw

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// Ladder draws a ladder: above, the factors of its rows by pair; below, a bar a row with the tokens
// of a sequence that get them, on a logarithmic axis of positions, and the lengths of the sequences
// that the rung serves.
func Ladder(path string, l *ropescale.Ladder) error {
	if len(l.Rungs) == 0 || l.OriginalContextLength < 1 {
		return errors.New("nothing to plot: the ladder has no rungs, or no original context length")
	}
	rows := len(l.Rungs) + 1
	longest := l.Rungs[rows-2].Length
	var series []FactorSeries
	for r := rows - 1; r >= 0; r-- { // the longest first: it is the one that is drawn most
		name := rowName(r)
		if r > 0 {
			name += ", " + label.Size(l.Rungs[r-1].Length)
		}
		series = append(series, FactorSeries{Name: name, Factors: l.At(r).Factors})
	}
	factors, curves, err := factorChart(series)
	if err != nil {
		return err
	}
	colors := make([]style, rows)
	for i, k := range curves {
		colors[rows-1-i] = k.style
	}

	bars := chart{
		title: "Which factors a token gets",
		subtitle: "a sequence is on the rung that serves its length; " +
			"its first tokens, in the start window, keep the model's own RoPE",
		xlabel: "position in the sequence",
		x:      axis{min: firstPosition(l), max: float64(longest), log: true},
		y:      axis{min: 0, max: float64(rows)},
	}
	for r := range rows {
		bars.y.ticks = append(bars.y.ticks, tick{float64(r) + 0.5, rowName(r)})
	}
	bars.x.ticks = sizeTicks(bars.x.min, bars.x.max)

	const above = 380
	below := 110 + 22*float64(rows)
	return render(path, 620, above+below, func(f *figure) {
		part := func(bottom, top vg.Length) *figure {
			p := *f
			p.Canvas = draw.Crop(f.Canvas, 0, 0, bottom, -top)
			return &p
		}
		part(vg.Length(below), 0).chart(factors).curves(curves)

		a := part(0, above).chart(bars)
		for r := range rows {
			g := l.At(r)
			length := g.Length
			if r == 0 {
				length = l.OriginalContextLength
			}
			a.bar(r, bars.x.min, float64(length), colors[r], serves(l, r))
			if g.StartWindow > 0 {
				a.bar(r, bars.x.min, float64(g.StartWindow), colors[0],
					fmt.Sprintf("start window %d", g.StartWindow))
			}
		}
	})
}

func rowName(r int) string {
	if r == 0 {
		return "own RoPE"
	}
	return fmt.Sprintf("rung %d", r)
}

// firstPosition is where a logarithmic axis of positions begins: a quarter of the smallest start
// window, so that it is seen.
func firstPosition(l *ropescale.Ladder) float64 {
	first := float64(l.OriginalContextLength) / 64
	for _, g := range l.Rungs {
		if g.StartWindow > 0 {
			first = math.Min(first, float64(g.StartWindow)/4)
		}
	}
	return math.Max(1, first)
}

// serves says for which sequences a row is.
func serves(l *ropescale.Ladder, row int) string {
	first, last := l.Serves(row)
	if first > last {
		return "serves no length"
	}
	return fmt.Sprintf("sequences of %d – %d tokens", first, last)
}

// bar covers positions from x0 to x1 in the band of a row, and has a label inside its right end if
// there is room.
func (a area) bar(row int, x0, x1 float64, s style, label string) {
	y := func(v float64) vg.Length { return a.Y(float64(row) + v) }
	a.box(a.X(x0), y(0.14), a.X(x1), y(0.86), s.color)

	text := rgb(0xffffff)
	if c := s.color; 3*int(c.R)+6*int(c.G)+int(c.B) > 1500 {
		text = ink
	}
	word := a.textStyle(8.5, text, -1, -0.5, false)
	if word.Width(label) < a.X(x1)-a.X(x0)-10 {
		a.write(word, a.X(x1)-5, y(0.5)+1, label)
	}
}
