package draw

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// SearchPage is a report on a search for a rung or for a whole ladder: WritePage makes one HTML
// file of it.
type SearchPage struct {
	Title  string // of the page: what was extended
	Model  string
	Digest string // of the model, sha256:…
	// Command made it, Engine computed it and Next are the commands that come next; each may be
	// empty.
	Command, Engine string
	Next            []string
	Rope            ropescale.Rope
	// all rungs, those too that were there before; nil while there are none
	Ladder *ropescale.Ladder
	Rungs  []RungPage // what was searched, ascending
	// Texts and HeldOut are the texts' names and digests.
	Texts, HeldOut []string
	Note           string // e.g. that the search is not complete; "" for none
}

// RungPage is the search for one rung.
type RungPage struct {
	Target   int
	Relative string // what the candidates stretch, in words; "" is the model's own RoPE
	Measure  string // what fitness is
	Search   string // algorithm and seed
	// Candidates are all that were read to their end, in their order.
	Candidates []Candidate
	// Best are those of them that were better than all before.
	Best []BestPoint
	// Methods are those that need no search, and at last the searched factors.
	Methods []MethodPage
	// Rival is the held-out perplexity of the method with the best fitness, on the windows that
	// BestPoint.HeldOut was measured on; nil for none.
	Rival *float64
	// Trials read Tokens, HeldOutTokens were read in addition. A trial may read a part of a
	// candidate's readings only.
	Trials, Tokens, HeldOutTokens int
	// Renewals compare cheap readings with exact ones; none where there were no cheap ones.
	Renewals []Renewal
}

// Renewal is a change of the base of cheap readings. Promised is what a cheap reading of the new
// base said that it gains on the old one, in nats of log fitness, Gained what an exact one says;
// negative is better.
type Renewal struct {
	Distance, Promised, Gained float64
	Agrees                     bool
}

// Rivals are the methods that need no search.
func (r *RungPage) Rivals() []MethodPage {
	return slices.DeleteFunc(slices.Clone(r.Methods),
		func(m MethodPage) bool { return m.Method == "longrope" })
}

// Refused says that the returned factors are not those of the candidate with the lowest fitness.
func (r *RungPage) Refused() bool {
	if len(r.Best) == 0 || len(r.Methods) == 0 {
		return false
	}
	found := r.Methods[len(r.Methods)-1].Fitness
	return found != nil && *found > r.Best[len(r.Best)-1].Fitness
}

// Candidate is one evaluation.
type Candidate struct {
	Tokens  int // read so far, this one's included
	Fitness float64
	Note    string // how it was made
	Rung    ropescale.Rung
	// Returned is the one that the search returns. It need not have the lowest fitness.
	Returned bool
}

// BestPoint is a candidate that was better than all before it.
type BestPoint struct {
	Tokens  int
	Fitness float64
	// Text and HeldOut are perplexities of the search text and of held-out text; nil: not measured.
	Text, HeldOut *float64
}

// MethodPage is a row of a rung's table. Values that are nil failed, or were not measured.
type MethodPage struct {
	Method string
	// Fitness is made of Text, the perplexity of the search text, or of Keys, the NLL of hidden
	// keys in nats, or of both. Further is that of keys which only finalists look for, HeldOut the
	// perplexity of held-out text.
	Fitness, Text, Keys, Further, HeldOut *float64
	Rung                                  ropescale.Rung
}

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"size": label.Size, "figure": figureOf, "count": label.Count, "number": label.Column,
	"label": ropescale.MethodLabel, "styles": methodStyles, "class": pageClass,
	"span": factorSpan, "next": func(i int) int { return i + 1 },
}).Parse(pageSource))

// WritePage writes one HTML page that needs nothing else: no network, no script. Its pictures are
// inline SVG, which follows the reader's choice of light or dark, and it prints.
func WritePage(w io.Writer, p *SearchPage) error {
	type rungView struct {
		*RungPage
		Convergence, Carries, Factors, Attention, Windows template.HTML
		// whether the table has them: text next to keys
		Keys, Further, Text bool
	}
	type rowView struct {
		ropescale.Rung
		Class, Scale string
		Worth        *worth
	}
	view := struct {
		*SearchPage
		Rungs   []rungView
		Ladder  template.HTML
		Rows    []rowView
		Gain    string
		Factors string // factors.json
	}{SearchPage: p}
	critical := p.Rope.CriticalDimension() / 2
	for i := range p.Rungs {
		r := &p.Rungs[i]
		keys := slices.ContainsFunc(r.Methods, func(m MethodPage) bool { return m.Keys != nil })
		text := slices.ContainsFunc(r.Methods, func(m MethodPage) bool { return m.Text != nil })
		further := slices.ContainsFunc(r.Methods,
			func(m MethodPage) bool { return m.Further != nil })
		view.Rungs = append(view.Rungs, rungView{
			r, convergencePanel(r), carriesPanel(r),
			rungPanel(r, critical), attentionPanel(r), windowsPanel(r), keys, further,
			keys && text,
		})
	}
	if l := p.Ladder; l != nil {
		for i, g := range l.Rungs {
			row := rowView{g, pageClass("rung", i), label.Exact(p.Rope.Scale(g.Length)) + "x", nil}
			for k := range p.Rungs {
				if w := worthOf(&p.Rungs[k]); p.Rungs[k].Target == g.Length && w != nil &&
					w.HeldOut {
					row.Worth = w
				}
			}
			view.Rows = append(view.Rows, row)
		}
		var b strings.Builder
		if err := l.WriteFactors(&b); err != nil {
			return err
		}
		view.Factors = b.String()
		if len(l.Rungs) > 1 {
			view.Ladder = ladderPanel(l, critical)
		}
	}
	if n := len(p.Rungs); n > 0 {
		if w := worthOf(&p.Rungs[n-1]); w != nil {
			text := "the search text"
			if w.HeldOut {
				text = "held-out text"
			}
			view.Gain = fmt.Sprintf("At %s tokens: %s against %s on %s (%s, %s).%s",
				label.Size(p.Rungs[n-1].Target), w.Change, w.Method, text, label.Column(w.Found),
				label.Column(w.Rival), w.Keys)
		}
	}
	return pageTemplate.Execute(w, view)
}

// worth is what a rung's search is worth: its factors against the method with the best fitness,
// on held-out text where that was measured.
type worth struct {
	Method       string
	Rival, Found float64
	Change       string // of perplexity
	HeldOut      bool
	Keys         string // what hidden keys cost, in words; "" where there are none
}

// worthOf is nil where there is nothing to compare.
func worthOf(r *RungPage) *worth {
	w := &worth{HeldOut: true}
	last := len(r.Methods) - 1
	if last < 1 {
		return nil
	}
	found, rival := r.Methods[last], MethodPage{}
	for _, m := range r.Methods[:last] {
		if m.Fitness != nil && (rival.Fitness == nil || *m.Fitness < *rival.Fitness) {
			rival = m
		}
	}
	value := func(m MethodPage) *float64 { return m.HeldOut }
	if found.HeldOut == nil {
		w.HeldOut, value = false, func(m MethodPage) *float64 { return m.Text }
	}
	if value(found) == nil || value(rival) == nil {
		return nil
	}
	w.Method, w.Found, w.Rival = ropescale.MethodLabel(rival.Method), *value(found), *value(rival)
	// the search was not steered by these: they say more
	what, mine, theirs := "Further", found.Further, rival.Further
	if mine == nil || theirs == nil {
		what, mine, theirs = "Hidden", found.Keys, rival.Keys
	}
	if mine != nil && theirs != nil {
		w.Keys = fmt.Sprintf(" %s keys cost %s nats, with %s %s.", what, label.Column(*mine),
			w.Method, label.Column(*theirs))
	}
	w.Change = strings.Replace(fmt.Sprintf("%+.1f %%", 100*(w.Found/w.Rival-1)), "-", "−", 1)
	return w
}

// pageClass is the style sheet's class of a method, or of rung i.
func pageClass(method string, i int) string {
	switch at := methodIndex(method); {
	case at >= 0:
		return ropescale.Methods()[at].Name
	case method == "held":
		return method
	case method == "rung":
		return fmt.Sprintf("r%d", i%8)
	}
	return "own"
}

func figureOf(v *float64) string {
	if v == nil {
		return "–"
	}
	return label.Column(*v)
}

func factorSpan(g ropescale.Rung) string {
	return label.Column(slices.Min(g.Factors)) + " … " + label.Column(slices.Max(g.Factors))
}
