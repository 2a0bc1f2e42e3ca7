package longrope

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

// pictureName refuses what cannot be drawn to before hours are spent on what is to be drawn. "" is
// no picture.
func pictureName(path string) error {
	if path == "" {
		return nil
	}
	if err := draw.Check(path); err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return nil
}

// named is path with a word before its extension.
func named(path, word string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + word + ext
}

// drawLadder draws the factors of a ladder's rows and what they serve; of what has no lengths, or
// no rungs, the factors alone. path "" is none.
func drawLadder(path string, l *ropescale.Ladder) error {
	switch {
	case path == "":
		return nil
	case len(l.Rungs) == 0:
		return draw.Factors(path, []draw.FactorSeries{{Name: "own RoPE", Factors: l.At(0).Factors}})
	case l.OriginalContextLength == 0: // csv
		return draw.Factors(path,
			[]draw.FactorSeries{{Name: "factors", Factors: l.Rungs[0].Factors}})
	}
	return draw.Ladder(path, l)
}

// drawResult draws the ladder, and how each rung was found. It returns the files.
func drawResult(path string, r *search.Result) ([]string, error) {
	files := []string{path}
	if err := drawLadder(path, r.Ladder); err != nil {
		return nil, err
	}
	for _, rung := range r.Rungs {
		word := "search"
		if len(r.Rungs) > 1 {
			word += "-" + label.Size(rung.Target)
		}
		picture := named(path, word)
		if err := draw.Search(picture, rungPage(rung.Study, search.HeldOut{})); err != nil {
			return nil, err
		}
		files = append(files, picture)
	}
	return files, nil
}
