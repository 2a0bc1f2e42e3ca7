package draw

import (
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// The pictures of a page about a search. Each is "" where there is nothing to show.

// convergencePanel is the best fitness over the tokens read, all candidates as points, the methods
// as lines.
func convergencePanel(r *RungPage) template.HTML {
	p := &panel{xlabel: "tokens read by candidates", ylabel: "fitness", y: r.fitnessAxis()}
	if len(r.Best) == 0 || r.Tokens == 0 {
		return ""
	}
	p.x = r.tokenAxis()
	var best [][2]float64
	for i, b := range r.Best {
		if p.inside(b.Fitness) || i == len(r.Best)-1 {
			best = append(best, [2]float64{float64(b.Tokens), b.Fitness})
		}
	}
	best = append(best, [2]float64{p.x.max, best[len(best)-1][1]})
	for _, m := range r.Methods {
		if m.Fitness != nil && m.Method != "longrope" {
			p.level(pageClass(m.Method, 0), *m.Fitness)
		}
	}
	for _, c := range r.Candidates {
		p.dot("faint", float64(c.Tokens), c.Fitness, 2,
			fmt.Sprintf("%s: %s", c.Note, label.Column(c.Fitness)))
	}
	p.line("longrope", best, true)
	for _, c := range r.Candidates {
		if c.Returned {
			p.dot("longrope ring", float64(c.Tokens), c.Fitness, 4,
				fmt.Sprintf("returned: %s", label.Column(c.Fitness)))
		}
	}
	return p.svg("Best fitness by tokens read")
}

func (r *RungPage) tokenAxis() axis {
	a := axis{max: float64(r.Tokens)}
	a.ticks = linearTicks(0, a.max)
	for i := range a.ticks {
		a.ticks[i].label = countLabel(a.ticks[i].at)
	}
	return a
}

// fitnessAxis holds the best, and the methods and the better half of the candidates as long as they
// do not flatten it.
func (r *RungPage) fitnessAxis() axis {
	low := math.Inf(1)
	for _, b := range r.Best {
		low = math.Min(low, b.Fitness)
	}
	a := axis{min: low, max: low * 1.005}
	for _, m := range r.Methods {
		if m.Fitness != nil && *m.Fitness <= 1.5*low {
			a.include(*m.Fitness)
		}
	}
	if m := medianFitness(r.Candidates); m <= 1.5*low {
		a.include(m)
	}
	a.pad(0.06)
	a.ticks = linearTicks(a.min, a.max)
	return a
}

func medianFitness(cs []Candidate) float64 {
	var fs []float64
	for _, c := range cs {
		if !math.IsInf(c.Fitness, 0) && !math.IsNaN(c.Fitness) {
			fs = append(fs, c.Fitness)
		}
	}
	if len(fs) == 0 {
		return math.Inf(1)
	}
	slices.Sort(fs)
	return fs[len(fs)/2]
}

// carriesPanel is what became of the perplexity of the search text, and of held-out text, both
// against the method with the best fitness: lines that part are overfitting. It is empty where
// held-out text was not read.
func carriesPanel(r *RungPage) template.HTML {
	fitness, rival := math.Inf(1), (*float64)(nil)
	for _, m := range r.Methods {
		if m.Method != "longrope" && m.Fitness != nil && *m.Fitness < fitness {
			fitness, rival = *m.Fitness, m.Text
		}
	}
	if r.Rival == nil || rival == nil {
		return ""
	}
	p := &panel{xlabel: "tokens read by candidates", ylabel: "perplexity against the best method"}
	var text, held [][2]float64
	for _, b := range r.Best {
		if b.Fitness > fitness || b.Text == nil {
			continue
		}
		x := float64(b.Tokens)
		text = append(text, [2]float64{x, 100 * (*b.Text / *rival - 1)})
		if b.HeldOut != nil {
			held = append(held, [2]float64{x, 100 * (*b.HeldOut / *r.Rival - 1)})
		}
	}
	if len(held) == 0 {
		return ""
	}
	for _, q := range append(slices.Clone(text), held...) {
		p.y.include(q[1])
	}
	p.y.min, p.y.max = math.Min(p.y.min, -0.5), math.Max(p.y.max, 0.5)
	p.y.pad(0.08)
	p.x, p.y.ticks = r.tokenAxis(), percentTicks(p.y.min, p.y.max)
	p.level("own", 0)
	end := func(points [][2]float64) [][2]float64 {
		return append(slices.Clone(points), [2]float64{p.x.max, points[len(points)-1][1]})
	}
	p.line("longrope", end(text), true)
	p.line("held", end(held), true)
	for _, q := range held {
		p.dot("held", q[0], q[1], 3, fmt.Sprintf("held-out text: %+.2f %%", q[1]))
	}
	return p.svg("What the search gained, on its text and on held-out text")
}

// attentionPanel is the fitness of all candidates over their attention factors; empty where the
// search had but one.
func attentionPanel(r *RungPage) template.HTML {
	p := &panel{
		xlabel: "attention factor", ylabel: "fitness",
		x: axis{min: math.Inf(1), max: math.Inf(-1)}, y: r.fitnessAxis(),
	}
	values := map[float64]bool{}
	for _, c := range r.Candidates {
		values[c.Rung.AttentionFactor] = true
		if p.inside(c.Fitness) {
			p.x.include(c.Rung.AttentionFactor)
		}
	}
	for _, m := range r.Methods {
		if m.Fitness != nil && p.inside(*m.Fitness) {
			p.x.include(m.Rung.AttentionFactor)
		}
	}
	if len(values) < 6 || p.x.max <= p.x.min {
		return ""
	}
	p.x.pad(0.03)
	p.x.ticks = linearTicks(p.x.min, p.x.max)
	for _, c := range r.Candidates {
		p.dot("faint", c.Rung.AttentionFactor, c.Fitness, 2,
			fmt.Sprintf("%s, %s: %s", c.Note, label.Column(c.Rung.AttentionFactor),
				label.Column(c.Fitness)))
	}
	p.methods(r, func(g ropescale.Rung) float64 { return g.AttentionFactor })
	return p.svg("Fitness by attention factor")
}

// windowsPanel is the best fitness of each start window, on a logarithmic axis on which none is at
// half a token; empty where the search had but one.
func windowsPanel(r *RungPage) template.HTML {
	best := map[int]float64{}
	for _, c := range r.Candidates {
		if f, ok := best[c.Rung.StartWindow]; (!ok || c.Fitness < f) && !math.IsNaN(c.Fitness) {
			best[c.Rung.StartWindow] = c.Fitness
		}
	}
	if len(best) < 3 {
		return ""
	}
	at := func(window int) float64 { return math.Max(float64(window), 0.5) }
	p := &panel{
		xlabel: "start window, tokens", ylabel: "best fitness",
		x: axis{min: 0.5, log: true}, y: axis{min: math.Inf(1), max: math.Inf(-1)},
	}
	windows := slices.Sorted(maps.Keys(best))
	var points [][2]float64
	low := slices.Min(slices.Collect(maps.Values(best)))
	for _, w := range windows {
		p.x.max = at(w)
		if best[w] < 1.5*low { // too large a window is ruinous, and would flatten the rest
			p.y.include(best[w])
			points = append(points, [2]float64{at(w), best[w]})
		}
	}
	if p.y.max <= p.y.min {
		p.y.max = p.y.min * 1.001
	}
	p.y.pad(0.08)
	p.y.ticks = linearTicks(p.y.min, p.y.max)
	p.x.ticks = sizeTicks(1, p.x.max)
	if windows[0] == 0 {
		p.x.ticks = append([]tick{{0.5, "0"}}, p.x.ticks...)
	}
	p.line("own thin", points, false)
	for _, q := range points {
		p.dot("own", q[0], q[1], 2.5, fmt.Sprintf("start window %g: %s", math.Floor(q[0]),
			label.Column(q[1])))
	}
	p.methods(r, func(g ropescale.Rung) float64 { return at(g.StartWindow) })
	return p.svg("Best fitness by start window")
}

// methods marks where the methods and the searched factors are.
func (p *panel) methods(r *RungPage, x func(ropescale.Rung) float64) {
	for _, m := range r.Methods {
		if m.Fitness != nil {
			p.dot(pageClass(m.Method, 0), x(m.Rung), *m.Fitness, 4,
				fmt.Sprintf("%s: %s", ropescale.MethodLabel(m.Method), label.Column(*m.Fitness)))
		}
	}
}

// rungPanel is the factors of a rung and of the methods.
func rungPanel(r *RungPage, critical int) template.HTML {
	var series []factorLine
	for _, m := range r.Methods {
		class := pageClass(m.Method, 0)
		if m.Method != "longrope" {
			class += " thin"
		}
		series = append(series, factorLine{class, m.Method, m.Rung.Factors})
	}
	return factorsPanel(series, critical)
}

// ladderPanel is the factors of all rungs.
func ladderPanel(l *ropescale.Ladder, critical int) template.HTML {
	series := []factorLine{{"own thin", "own RoPE", l.At(0).Factors}}
	for i, g := range l.Rungs {
		series = append(series, factorLine{pageClass("rung", i), label.Size(g.Length), g.Factors})
	}
	return factorsPanel(series, critical)
}

type factorLine struct {
	class, name string
	factors     []float64
}

func factorsPanel(series []factorLine, critical int) template.HTML {
	p := &panel{
		xlabel: "RoPE pair i, from the fastest to the slowest", ylabel: "factor λᵢ",
		y: axis{min: 1, max: 1, log: true},
	}
	for _, s := range series {
		p.x.max = math.Max(p.x.max, float64(len(s.factors)-1))
		p.y.include(s.factors...)
	}
	if p.x.max < 1 {
		return ""
	}
	p.y.max = math.Max(p.y.max, p.y.min*1.2)
	p.x.ticks, p.y.ticks = linearTicks(0, p.x.max), sizeTicks(p.y.min, p.y.max)
	if len(p.y.ticks) < 3 {
		p.y.ticks = logTicks(p.y.min, p.y.max)
	}
	p.x.pad(0.015)
	p.y.pad(0.04)
	if float64(critical) <= p.x.max {
		p.mark(float64(critical), "critical dimension")
	}
	for _, s := range series {
		var points [][2]float64
		for i, f := range s.factors {
			points = append(points, [2]float64{float64(i), f})
		}
		p.line(s.class, points, false)
		if !strings.Contains(s.class, "thin") {
			for i, f := range s.factors {
				p.dot(s.class, float64(i), f, 1.8,
					fmt.Sprintf("%s, pair %d: %s", ropescale.MethodLabel(s.name), i,
						label.Column(f)))
			}
		}
	}
	return p.svg("Rescale factors by pair")
}
