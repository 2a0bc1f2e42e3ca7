package longrope

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

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
	if err := writable(path); err != nil {
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

// drawSearch draws what a search found, beside the methods that need none, and how it got there. It returns the files.
func drawSearch(path string, s *ropescale.Study) ([]string, error) {
	best, _ := s.Best()
	factors := []evals.FactorSeries{{Name: "longrope", Factors: best.Rung.Factors}}
	var baselines []evals.Baseline
	for _, name := range seedOrder {
		t, ok := s.Seeds()[name]
		if !ok {
			continue
		}
		factors = append(factors, evals.FactorSeries{Name: name, Factors: t.Rung.Factors})
		if finite(t.Fitness) != nil {
			baselines = append(baselines, evals.Baseline{Name: name, Fitness: t.Fitness})
		}
	}
	if err := evals.PlotFactors(path, factors); err != nil {
		return nil, err
	}
	series := evals.SearchSeries{Name: "longrope"}
	history := s.History()
	tokens, found := 0, slices.ContainsFunc(history, func(t ropescale.Trial) bool { return t.ID >= len(seedOrder) && finite(t.Fitness) != nil })
	for _, t := range history {
		tokens += t.Tokens
		// The methods are lines already; as points, PI's height would leave no room for the rest.
		if t.ID >= len(seedOrder) || !found {
			series.Points = append(series.Points, evals.SearchPoint{Tokens: tokens, Fitness: t.Fitness})
		}
	}
	convergence := beside(path, "search")
	return []string{path, convergence}, evals.PlotSearch(convergence, []evals.SearchSeries{series}, baselines)
}

// seedOrder are the methods that every study evaluates first.
var seedOrder = []string{"linear", "ntk", "yarn"}

// label is a method's name for people.
func label(method string) string {
	switch method {
	case "linear":
		return "PI"
	case "ntk":
		return "NTK"
	case "dynamic":
		return "dynamic NTK"
	case "yarn":
		return "YaRN"
	case "longrope":
		return "searched"
	}
	return method
}
