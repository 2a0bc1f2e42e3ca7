package longrope

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/ropescale"
)

func writePage(path string, p *draw.SearchPage) error {
	return atomicfile.Write(path, func(w io.Writer) error { return draw.WritePage(w, p) })
}

// page is the page about a search that has ended.
func (s *search) page(r *searchResult) *draw.SearchPage {
	info := s.e.Info()
	p := &draw.SearchPage{Title: pageTitle(s.m.name, s.m.info.OriginalContextLength, r.Ladder),
		Model: s.m.name, Digest: info.Digest, Command: s.command(),
		Engine: fmt.Sprintf("%s of %s, %s", info.Engine, info.Host, info.Backend),
		Next:   []string{next(s.m.name, s.f)},
		Rope:   s.m.info.Rope(), Ladder: r.Ladder, Texts: r.Ladder.Source.Texts}
	if !r.Complete {
		p.Note = "The search is not complete: the same command goes on."
	}
	for i, rung := range s.rungs {
		var losses map[int]map[int]float64
		var live []int
		if rung.held != nil {
			losses, live, p.HeldOut = rung.held.losses, rung.held.live, union(p.HeldOut,
				rung.held.ids)
		}
		page := rungPage(rung.study, losses, live)
		page.Relative, page.HeldOutTokens, page.Methods = rung.step.relative, r.Rungs[i].HeldOutTokens, nil
		for _, row := range r.Rungs[i].Rows {
			page.Methods = append(page.Methods,
				draw.MethodPage{Method: row.Method, Fitness: row.Fitness, Text: row.Text,
					Keys: row.Keys, Further: row.Further, HeldOut: row.HeldOut, Rung: row.trial.Rung})
		}
		p.Rungs = append(p.Rungs, page)
	}
	return p
}

func pageTitle(model string, from int, l *ropescale.Ladder) string {
	return fmt.Sprintf("%s, from %s to %s tokens", filepath.Base(model), size(from),
		size(l.Rungs[len(l.Rungs)-1].Length))
}

// rungPage is what a study, and what was read of held-out text beside it, tell of a rung.
func rungPage(s *ropescale.Study, losses map[int]map[int]float64, live []int) draw.RungPage {
	opts := s.Options()
	r := draw.RungPage{Target: opts.Target, Measure: opts.Fitness,
		Search: fmt.Sprintf("Searched by %s, seed %d", opts.Algorithm, opts.Seed)}
	heldOut := func(candidate int) *float64 {
		if p, ok := meanPerplexity(losses[candidate], live); ok {
			return &p
		}
		return nil
	}
	scores := scoresOf(s)
	method := func(name string, t ropescale.Trial) draw.MethodPage {
		s := scores[t.Candidate]
		return draw.MethodPage{Method: name, Fitness: finite(t.Fitness), Text: s.text, Keys: s.keys,
			Further: s.further, HeldOut: heldOut(t.Candidate), Rung: t.Rung}
	}
	best := math.Inf(1)
	for _, t := range s.History() {
		r.Trials++
		r.Tokens += t.Tokens
		if math.IsNaN(t.Fitness) || t.Origin == "final" { // not read to the end, or before
			continue
		}
		r.Candidates = append(r.Candidates, draw.Candidate{Tokens: r.Tokens, Fitness: t.Fitness,
			Note: t.Origin, Rung: t.Rung})
		if t.Fitness < best {
			best = t.Fitness
			r.Best = append(r.Best, draw.BestPoint{Tokens: r.Tokens, Fitness: t.Fitness,
				Text: scores[t.Candidate].text, HeldOut: heldOut(t.Candidate)})
		}
	}
	rival := math.Inf(1)
	for _, name := range ropescale.SeedNames(opts.Rope, opts.Target) {
		t, ok := s.Seeds()[name]
		if !ok {
			continue
		}
		r.Methods = append(r.Methods, method(name, t))
		if t.Fitness < rival {
			rival, r.Rival = t.Fitness, heldOut(t.Candidate)
		}
	}
	if t, ok := s.Best(); ok {
		r.Methods = append(r.Methods, method("longrope", t))
	}
	for _, windows := range losses {
		r.HeldOutTokens += len(windows) * opts.Target
	}
	return r
}

// journalPage is the page of a search of which there are the files alone: a killed one, or one of
// long ago. The ladder is what the factors file holds, or the best of each journal so far.
func journalPage(path string, l *ropescale.Ladder) (*draw.SearchPage, error) {
	paths, err := journalsOf(path)
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("--report: there is no journal %s.study; it tells how the factors were found", path)
	}
	p := &draw.SearchPage{Model: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
		Ladder: l}
	var rungs []ropescale.Rung
	for _, path := range paths {
		s, err := ropescale.ReadStudy(path)
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(heldOutFile(path))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		header, losses, _ := parseHeldOut(b)
		var live []int
		if header != nil {
			live, p.HeldOut = header.Live, union(p.HeldOut, header.Texts)
		}
		opts := s.Options()
		p.Rungs = append(p.Rungs, rungPage(s, losses, live))
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
