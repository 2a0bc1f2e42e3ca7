package longrope

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// pictureName refuses what cannot be drawn to before hours are spent on what is to be drawn. "" is no picture.
func pictureName(path string) error {
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case path == "":
		return nil
	case ext != ".png" && ext != ".svg":
		return fmt.Errorf("--plot: %s is no picture that can be drawn; name it .png or .svg", path)
	}
	if err := atomicfile.Check(path); err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return nil
}

// beside is path with a word before its extension.
func beside(path, word string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + word + ext
}

// drawLadder draws the factors of a ladder's rows and what they serve; of what has no lengths, or no rungs, the factors alone.
// path "" is none.
func drawLadder(path string, l *ropescale.Ladder) error {
	switch {
	case path == "":
		return nil
	case len(l.Rungs) == 0:
		return evals.PlotFactors(path, []evals.FactorSeries{{Name: "own RoPE", Factors: l.At(0).Factors}})
	case l.OriginalContextLength == 0: // csv
		return evals.PlotFactors(path, []evals.FactorSeries{{Name: "factors", Factors: l.Rungs[0].Factors}})
	}
	return evals.PlotLadder(path, l)
}

// draw draws the ladder, and how each rung was found. It returns the files.
func (s *search) draw(l *ropescale.Ladder) ([]string, error) {
	files := []string{s.f.plot}
	if err := drawLadder(s.f.plot, l); err != nil {
		return nil, err
	}
	for _, r := range s.rungs {
		word := "search"
		if len(s.rungs) > 1 {
			word += "-" + size(r.step.target)
		}
		path := beside(s.f.plot, word)
		if err := drawSearch(path, rungPage(r.study, nil, nil)); err != nil {
			return nil, err
		}
		files = append(files, path)
	}
	return files, nil
}

// drawSearch draws how a rung was found, beside the methods that need no search.
func drawSearch(path string, r evals.RungPage) error {
	series := evals.SearchSeries{Name: "longrope"}
	var baselines []evals.Baseline
	for _, m := range r.Methods {
		if m.Fitness != nil && m.Method != "longrope" {
			baselines = append(baselines, evals.Baseline{Name: m.Method, Fitness: *m.Fitness})
		}
	}
	for i, c := range r.Candidates {
		// The methods are lines already; as points, PI's height would leave no room for the rest.
		if i >= len(baselines) || len(r.Candidates) == len(baselines) {
			series.Points = append(series.Points, evals.SearchPoint{Tokens: c.Tokens, Fitness: c.Fitness})
		}
	}
	return evals.PlotSearch(path, []evals.SearchSeries{series}, baselines)
}

// seedOrder are the methods that every study evaluates first.
var seedOrder = ropescale.MethodNames(ropescale.Seed)
