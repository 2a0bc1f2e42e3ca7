package draw

import (
	"image/color"
	"math"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/longrope/longrope/evals/label"
)

// The figures are drawn on gonum/plot's canvas directly: title at the left, legend in a row below
// it, thin grey axes. Lengths are points; y grows upwards.

var (
	ink   = rgb(0x222222)
	quiet = rgb(0x666666)
	hair  = rgb(0xe4e4e4)
)

// figure is a white canvas with what is needed to write on it.
type figure struct {
	draw.Canvas
	out   vg.CanvasWriterTo
	fonts *font.Cache
}

func newFigure(format string, width, height vg.Length) *figure {
	f := &figure{fonts: font.NewCache(liberation.Collection())}
	if format == "svg" {
		f.out = vgsvg.New(width, height)
	} else {
		f.out = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height),
			vgimg.UseDPI(192))}
	}
	f.Canvas = draw.NewCanvas(f.out, width, height)
	f.box(f.Min.X, f.Min.Y, f.Max.X, f.Max.Y, color.White)
	return f
}

// textStyle: x and y are the alignments, 0 for left or bottom to -1 for right or top.
func (f *figure) textStyle(size float64, c color.Color, x text.XAlignment, y text.YAlignment,
	bold bool,
) text.Style {
	fnt := font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Length(size)}
	if bold {
		fnt.Weight = stdfont.WeightBold
	}
	return text.Style{
		Color: c, Font: fnt, XAlign: x, YAlign: y,
		Handler: text.Plain{Fonts: f.fonts},
	}
}

// write puts a line of text and returns its width.
func (f *figure) write(s text.Style, x, y vg.Length, line string) vg.Length {
	f.FillText(s, vg.Point{X: x, Y: y}, line)
	return s.Width(line)
}

func (f *figure) box(x0, y0, x1, y1 vg.Length, c color.Color) {
	f.FillPolygon(c, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}

func (f *figure) line(c color.Color, width float64, dashes []vg.Length, points ...vg.Point) {
	f.StrokeLines(draw.LineStyle{Color: c, Width: vg.Length(width), Dashes: dashes}, points)
}

// head writes title and subtitle and returns the y below them.
func (f *figure) head(title, subtitle string) vg.Length {
	const margin = 16
	y := f.Max.Y - margin
	f.write(f.textStyle(14, ink, 0, -1, true), f.Min.X+margin, y, title)
	y -= 20
	s := f.textStyle(9.5, quiet, 0, -1, false)
	for s.Font.Size > 6 && s.Width(subtitle) > f.Max.X-f.Min.X-2*margin {
		s.Font.Size -= 0.25
	}
	f.write(s, f.Min.X+margin, y, subtitle)
	return y - 18
}

type style struct {
	name  string
	color color.NRGBA
	width float64
}

// curve is a line with an optional band, in data units.
type curve struct {
	style
	points    []vg.Point
	low, high []float64
	dots      bool
	steps     bool // a value holds until the next
}

type axis struct {
	min, max float64
	log      bool
	ticks    []tick
}

func (a *axis) include(values ...float64) {
	for _, v := range values {
		a.min, a.max = math.Min(a.min, v), math.Max(a.max, v)
	}
}

// pad adds a share of the range at both ends.
func (a *axis) pad(share float64) {
	if a.log {
		r := math.Pow(a.max/a.min, share)
		a.min, a.max = a.min/r, a.max*r
		return
	}
	d := (a.max - a.min) * share
	a.min, a.max = a.min-d, a.max+d
}

func (a axis) norm(v float64) vg.Length {
	if a.log {
		return vg.Length(math.Log(v/a.min) / math.Log(a.max/a.min))
	}
	return vg.Length((v - a.min) / (a.max - a.min))
}

// chart is what stands around the curves.
type chart struct {
	title, subtitle, xlabel, ylabel string
	x, y                            axis
	keys                            []style
}

// area is the inside of a chart.
type area struct {
	*figure
	inside draw.Canvas
	x, y   axis
}

// chart draws everything but the data.
func (f *figure) chart(c chart) area {
	y := f.head(c.title, c.subtitle)
	y = f.legend(c.keys, y)

	labels := f.textStyle(9.5, quiet, -1, -0.5, false)
	var widest vg.Length
	for _, t := range c.y.ticks {
		widest = max(widest, labels.Width(t.label))
	}
	in := draw.Canvas{Canvas: f.Canvas.Canvas, Rectangle: vg.Rectangle{
		Min: vg.Point{X: f.Min.X + 40 + widest, Y: f.Min.Y + 46},
		Max: vg.Point{X: f.Max.X - 20, Y: y - 6},
	}}
	a := area{f, in, c.x, c.y}
	for _, t := range c.y.ticks {
		if v := a.Y(t.at); v >= in.Min.Y-0.5 && v <= in.Max.Y+0.5 {
			f.line(hair, 0.75, nil, vg.Point{X: in.Min.X, Y: v}, vg.Point{X: in.Max.X, Y: v})
			f.write(labels, in.Min.X-6, v+1, t.label) // digits have no descenders to centre
		}
	}
	labels.XAlign, labels.YAlign = -0.5, -1
	f.line(rgb(0x999999), 0.75, nil, in.Min, vg.Point{X: in.Max.X, Y: in.Min.Y})
	for _, t := range c.x.ticks {
		v := a.X(t.at)
		f.line(rgb(0x999999), 0.75, nil, vg.Point{X: v, Y: in.Min.Y},
			vg.Point{X: v, Y: in.Min.Y - 4})
		f.write(labels, v, in.Min.Y-7, t.label)
	}
	names := f.textStyle(10, ink, -0.5, 0, false)
	f.write(names, (in.Min.X+in.Max.X)/2, f.Min.Y+12, c.xlabel)
	names.Rotation, names.YAlign = math.Pi/2, -1
	f.write(names, f.Min.X+14, (in.Min.Y+in.Max.Y)/2, c.ylabel)
	return a
}

// legend writes the names in rows and returns the y below them.
func (f *figure) legend(keys []style, y vg.Length) vg.Length {
	s := f.textStyle(10, ink, 0, -0.5, false)
	x := f.Min.X + 16
	for i, k := range keys {
		width := 18 + 6 + s.Width(k.name)
		if i > 0 && x+width > f.Max.X-16 {
			x, y = f.Min.X+16, y-15
		}
		f.line(k.color, k.width+0.6, nil, vg.Point{X: x, Y: y - 5}, vg.Point{X: x + 18, Y: y - 5})
		f.write(s, x+24, y-5, k.name)
		x += width + 18
	}
	return y - 14
}

func (a area) X(v float64) vg.Length {
	return a.inside.Min.X + a.x.norm(v)*(a.inside.Max.X-a.inside.Min.X)
}

func (a area) Y(v float64) vg.Length {
	return a.inside.Min.Y + a.y.norm(v)*(a.inside.Max.Y-a.inside.Min.Y)
}

func (a area) at(p vg.Point) vg.Point {
	return vg.Point{
		X: a.X(float64(p.X)),
		Y: a.Y(float64(p.Y)),
	}
}

// curves draws bands first, then lines, the last on top.
func (a area) curves(curves []curve) {
	for _, k := range curves {
		var band []vg.Point
		for i := range k.high {
			band = append(band, a.at(vg.Point{X: k.points[i].X, Y: vg.Length(k.high[i])}))
		}
		for i := len(k.low) - 1; i >= 0; i-- {
			band = append(band, a.at(vg.Point{X: k.points[i].X, Y: vg.Length(k.low[i])}))
		}
		if band = a.inside.ClipPolygonXY(band); len(band) > 2 {
			a.FillPolygon(fade(k.color, 38), band)
		}
	}
	for _, k := range curves {
		var line []vg.Point
		for i, p := range k.points {
			q := a.at(p)
			if k.steps && i > 0 {
				line = append(line, vg.Point{X: q.X, Y: line[len(line)-1].Y})
			}
			line = append(line, q)
		}
		s := draw.LineStyle{Color: k.color, Width: vg.Length(k.width)}
		a.StrokeLines(s, a.inside.ClipLinesXY(line)...)
		if k.dots || len(k.points) == 1 {
			a.dots(k.points, k.color, k.width*0.95)
		}
	}
}

// dots draws discs of a radius where they are inside.
func (a area) dots(points []vg.Point, c color.Color, radius float64) {
	a.SetColor(c)
	for _, p := range points {
		q := a.at(p)
		if !a.inside.Contains(q) {
			continue
		}
		var disc vg.Path
		disc.Move(vg.Point{X: q.X + vg.Length(radius), Y: q.Y})
		disc.Arc(q, vg.Length(radius), 0, 2*math.Pi)
		disc.Close()
		a.Fill(disc)
	}
}

// vertical marks an x with a dashed line and a word.
func (a area) vertical(x float64, word string) {
	v := a.X(x)
	a.line(quiet, 0.9, []vg.Length{4, 3}, vg.Point{X: v, Y: a.inside.Min.Y},
		vg.Point{X: v, Y: a.inside.Max.Y})
	s := a.textStyle(9, quiet, -1, -1, false)
	v -= 5
	if v-s.Width(word) < a.inside.Min.X {
		s.XAlign, v = 0, v+10
	}
	a.write(s, v, a.inside.Max.Y, word)
}

// horizontals marks baselines with dashed lines, their names at the right above the line, shifted
// left where two would cover each other.
func (a area) horizontals(baselines []baseline) {
	s := a.textStyle(9, ink, -1, 0, false)
	type spot struct{ x, y vg.Length }
	var taken []spot
	for i, b := range baselines {
		y := a.Y(b.Fitness)
		if y < a.inside.Min.Y || y > a.inside.Max.Y {
			continue
		}
		k := styleOf(b.Name, i)
		a.line(k.color, 1.1, []vg.Length{5, 3}, vg.Point{X: a.inside.Min.X, Y: y},
			vg.Point{X: a.inside.Max.X, Y: y})
		word := b.Name + " " + label.Number(b.Fitness)
		x := a.inside.Max.X - 2
		for _, t := range taken {
			if math.Abs(float64(t.y-y)) < 11 {
				x = min(x, t.x-12)
			}
		}
		a.write(s, x, y+2.5, word)
		taken = append(taken, spot{x - s.Width(word), y})
	}
}
