package draw

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
	"unicode/utf8"
)

// panel is a chart of a page: inline SVG whose colours are classes, so that a style sheet can have
// a light and a dark form of them. Sizes are units of the view box, about a pixel of a narrow
// phone.
type panel struct {
	xlabel, ylabel string
	x, y           axis
	left           float64 // room for the labels of y
	parts          strings.Builder
}

const (
	panelWidth, panelHeight = 420.0, 290.0
	panelRight              = panelWidth - 10
	panelTop, panelBottom   = 10.0, panelHeight - 40
)

// X and Y are where values are. The ticks of y must be there before.
func (p *panel) X(v float64) float64 {
	if p.left == 0 {
		for _, t := range p.y.ticks {
			p.left = max(p.left, 26+6*float64(utf8.RuneCountInString(t.label)))
		}
	}
	return p.left + float64(p.x.norm(v))*(panelRight-p.left)
}

func (p *panel) Y(v float64) float64 {
	return panelBottom - float64(p.y.norm(v))*(panelBottom-panelTop)
}

// inside says that a value is on the y axis.
func (p *panel) inside(y float64) bool { return y >= p.y.min && y <= p.y.max }

// line draws a curve of a class; steps hold a value until the next. Values beyond the axis run
// along its edge.
func (p *panel) line(class string, points [][2]float64, steps bool) {
	if len(points) == 0 {
		return
	}
	var b strings.Builder
	for i, q := range points {
		x, y := p.X(q[0]), p.Y(min(max(q[1], p.y.min), p.y.max))
		switch {
		case i == 0:
			fmt.Fprintf(&b, "M%.1f %.1f", x, y)
		case steps:
			fmt.Fprintf(&b, "H%.1fV%.1f", x, y)
		default:
			fmt.Fprintf(&b, "L%.1f %.1f", x, y)
		}
	}
	fmt.Fprintf(&p.parts, `<path class="line %s" d="%s"/>`, class, b.String())
}

// dot draws a point with a note that is seen when it is pointed at; it leaves out what is beyond
// the axis.
func (p *panel) dot(class string, x, y, radius float64, note string) {
	if !p.inside(y) {
		return
	}
	fmt.Fprintf(&p.parts,
		`<circle class="dot %s" cx="%.1f" cy="%.1f" r="%.1f"><title>%s</title></circle>`, class,
		p.X(x), p.Y(y), radius, html.EscapeString(note))
}

// level marks a value with a dashed line across; level and mark leave out what is beyond the axis.
func (p *panel) level(class string, y float64) {
	if p.inside(y) {
		fmt.Fprintf(&p.parts, `<path class="line level %s" d="M%.1f %.1fH%.1f"/>`, class,
			p.X(p.x.min), p.Y(y), panelRight)
	}
}

// mark marks a place on the x axis with a dashed line and a word.
func (p *panel) mark(x float64, word string) {
	if x < p.x.min || x > p.x.max {
		return
	}
	v, anchor, at := p.X(x), "end", -4.0
	if v < (p.left+panelRight)/2 {
		anchor, at = "start", 4
	}
	fmt.Fprintf(&p.parts,
		`<path class="line mark" d="M%.1f %.1fV%.1f"/>`+
			`<text class="word" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`,
		v, panelTop, panelBottom, v+at, panelBottom-18, anchor, html.EscapeString(word))
}

// svg is the whole chart; title says to a screen reader what it shows.
func (p *panel) svg(title string) template.HTML {
	left := p.X(p.x.min)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img"><title>%s</title>`, panelWidth,
		panelHeight, html.EscapeString(title))
	for _, t := range p.y.ticks {
		if !p.inside(t.at) {
			continue
		}
		y := p.Y(t.at)
		fmt.Fprintf(&b,
			`<path class="hair" d="M%.1f %.1fH%.1f"/>`+
				`<text class="tick" x="%.1f" y="%.1f" text-anchor="end">%s</text>`,
			left, y, panelRight, left-5, y+3.5, html.EscapeString(t.label))
	}
	fmt.Fprintf(&b, `<path class="floor" d="M%.1f %.1fH%.1f"/>`, left, panelBottom, panelRight)
	for i, t := range p.x.ticks {
		x, anchor := p.X(t.at), "middle"
		if i == len(p.x.ticks)-1 && x > panelRight-10 {
			x, anchor = panelWidth-1, "end"
		}
		fmt.Fprintf(&b,
			`<path class="floor" d="M%.1f %.1fv4"/>`+
				`<text class="tick" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`,
			p.X(t.at), panelBottom, x, panelBottom+15, anchor, html.EscapeString(t.label))
	}
	b.WriteString(p.parts.String())
	fmt.Fprintf(&b, `<text class="name" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`,
		(left+panelRight)/2, panelHeight-6, html.EscapeString(p.xlabel))
	fmt.Fprintf(&b,
		`<text class="name" transform="translate(10 %.1f) rotate(-90)" text-anchor="middle">`+
			`%s</text></svg>`, (panelTop+panelBottom)/2, html.EscapeString(p.ylabel))
	return template.HTML(b.String()) //nolint:gosec // every string above is escaped
}

// percentTicks are linear ticks of an axis in percent.
func percentTicks(low, high float64) []tick {
	ticks := linearTicks(low, high)
	for i := range ticks {
		label := ticks[i].label
		if ticks[i].at > 0 {
			label = "+" + label
		}
		ticks[i].label = strings.Replace(label, "-", "−", 1) + " %"
		if math.Abs(ticks[i].at) < 1e-12 {
			ticks[i].label = "0"
		}
	}
	return ticks
}
