package longrope

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

func writePage(path string, p *draw.SearchPage) error {
	return atomicfile.Write(path, func(w io.Writer) error { return draw.WritePage(w, p) })
}

// searchPage is the page about a search that has ended.
func searchPage(r *search.Result, m *model, engine evals.Info) *draw.SearchPage {
	p := &draw.SearchPage{
		Title: pageTitle(m.name, m.info.OriginalContextLength, r.Ladder),
		Model: m.name, Digest: r.Digest,
		Engine: fmt.Sprintf("%s of %s, %s", engine.Engine, engine.Host, engine.Backend),
		Rope:   m.info.Rope(), Ladder: r.Ladder, Texts: r.Ladder.Source.Texts,
	}
	if !r.Complete {
		p.Note = "The search is not complete: the same command resumes it."
	}
	for _, rung := range r.Rungs {
		p.HeldOut = union(p.HeldOut, rung.HeldOut.Texts)
		page := rungPage(rung.Study, rung.HeldOut)
		page.Relative, page.HeldOutTokens, page.Methods = rung.Relative, rung.HeldOutTokens, nil
		for _, row := range rung.Rows {
			page.Methods = append(page.Methods, draw.MethodPage{
				Method: row.Method, Fitness: row.Fitness, Text: row.Text, Keys: row.Keys,
				Further: row.Further, HeldOut: row.HeldOut, Rung: row.Trial.Rung,
			})
		}
		p.Rungs = append(p.Rungs, page)
	}
	return p
}

// union adds to all what it lacks.
func union(all, more []string) []string {
	for _, x := range more {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}

func pageTitle(model string, from int, l *ropescale.Ladder) string {
	return fmt.Sprintf("%s, from %s to %s tokens", filepath.Base(model), label.Size(from),
		label.Size(l.Rungs[len(l.Rungs)-1].Length))
}

// rungPage is what a study, and its losses on held-out text, show of a rung.
func rungPage(s *study.Study, held search.HeldOut) draw.RungPage {
	opts := s.Options()
	r := draw.RungPage{
		Target: opts.Target, Measure: opts.Fitness,
		Search: fmt.Sprintf("Searched by %s, seed %d", opts.Algorithm, opts.Seed),
	}
	for _, n := range s.Renewals() {
		r.Renewals = append(r.Renewals, draw.Renewal{
			Distance: n.Distance, Promised: n.Cheap - n.Before, Gained: n.Exact - n.Before,
			Agrees: n.Agrees,
		})
	}
	scores := search.ScoresOf(s)
	method := func(name string, t study.Trial) draw.MethodPage {
		s := scores[t.Candidate]
		return draw.MethodPage{
			Method: name, Fitness: search.Finite(t.Fitness), Text: s.Text,
			Keys: s.Keys, Further: s.Further, HeldOut: held.Perplexity(t.Candidate), Rung: t.Rung,
		}
	}
	returned, found := s.Best()
	best := math.Inf(1)
	for _, t := range s.History() {
		r.Trials++
		r.Tokens += t.Tokens
		if math.IsNaN(t.Fitness) || t.Origin == "final" { // not read to the end, or before
			continue
		}
		r.Candidates = append(r.Candidates, draw.Candidate{
			Tokens: r.Tokens, Fitness: t.Fitness,
			Note: t.Origin, Rung: t.Rung, Returned: found && t.ID == returned.ID,
		})
		if t.Fitness < best {
			best = t.Fitness
			r.Best = append(r.Best, draw.BestPoint{
				Tokens: r.Tokens, Fitness: t.Fitness,
				Text: scores[t.Candidate].Text, HeldOut: held.Perplexity(t.Candidate),
			})
		}
	}
	rival := math.Inf(1)
	for _, name := range ropescale.SeedNames(opts.Algorithm, opts.Rope, opts.Target) {
		t, ok := s.Seeds()[name]
		if !ok {
			continue
		}
		r.Methods = append(r.Methods, method(name, t))
		if t.Fitness < rival {
			rival, r.Rival = t.Fitness, held.Perplexity(t.Candidate)
		}
	}
	if found {
		r.Methods = append(r.Methods, method("longrope", returned))
	}
	for _, windows := range held.Losses {
		r.HeldOutTokens += len(windows) * opts.Target
	}
	return r
}

// journalPage is the page of a search of which there are the files alone: a killed one, or one of
// long ago. The ladder is what the factors file holds, or the best of each journal so far.
func journalPage(path string, l *ropescale.Ladder) (*draw.SearchPage, error) {
	paths, err := search.Journals(path)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("--report: there is no journal %s.study; it has how the factors "+
			"were found", path)
	}
	p := &draw.SearchPage{
		Model:  strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
		Ladder: l,
	}
	var rungs []ropescale.Rung
	for _, path := range paths {
		s, err := study.Read(path)
		if err != nil {
			return nil, err
		}
		held, err := search.ReadHeldOut(path)
		if err != nil {
			return nil, err
		}
		p.HeldOut = union(p.HeldOut, held.Texts)
		opts := s.Options()
		p.Rungs = append(p.Rungs, rungPage(s, held))
		p.Rope, p.Digest, p.Texts = opts.Rope, opts.ModelDigest, union(p.Texts, opts.Texts)
		if !s.Done() || s.Ending() {
			p.Note = "The search is not complete."
		}
		if best, ok := s.Best(); ok {
			rungs = append(rungs, best.Rung)
		}
	}
	slices.SortFunc(p.Rungs, func(a, b draw.RungPage) int { return a.Target - b.Target })
	slices.SortFunc(rungs, func(a, b ropescale.Rung) int { return a.Length - b.Length })
	switch {
	case l != nil:
		// a study's may be that of the rung that it stretched
		p.Rope.OriginalContextLength = l.OriginalContextLength
	case len(rungs) > 0:
		if p.Ladder, err = ropescale.NewLadder(p.Rope, nil, rungs...); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if p.Ladder != nil {
		p.Title = pageTitle(p.Model, p.Rope.OriginalContextLength, p.Ladder)
	} else {
		p.Title = p.Model
	}
	return p, nil
}
