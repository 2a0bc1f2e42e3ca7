package longrope

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

// factorsFile is what a factors file says: a ladder, or from csv one rung's factors.
type factorsFile struct {
	ladder  *ropescale.Ladder
	factors []float64
}

// isFactors reports whether a name is that of a factors file, not a model.
func isFactors(arg string) bool {
	ext := strings.ToLower(filepath.Ext(arg))
	return ext == ".json" || ext == ".csv"
}

// readFactors reads a factors file or, under another name, takes the factors that a model carries.
func readFactors(path string) (*factorsFile, error) {
	if !isFactors(path) {
		m, err := find(path)
		if err != nil {
			return nil, err
		}
		l := search.Carried(m.info)
		if l == nil {
			return nil, fmt.Errorf("%s carries no factors; name a factors file (.json, .csv) or a "+
				"model that does", m.name)
		}
		return &factorsFile{ladder: l}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out factorsFile
	if strings.EqualFold(filepath.Ext(path), ".csv") {
		out.factors, err = ropescale.ReadFactorsCSV(f)
	} else {
		out.ladder, err = ropescale.ReadFactors(f)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &out, nil
}
