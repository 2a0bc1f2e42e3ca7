package draw

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
)

// comparison is what the tests of package evals compare.
func comparison(t testing.TB) *evals.Comparison {
	b, err := os.ReadFile("../testdata/compare.json")
	require.NoError(t, err)
	c := new(evals.Comparison)
	require.NoError(t, json.Unmarshal(b, c))
	return c
}

// grids are the heat maps of a comparison.
func grids(c *evals.Comparison) (all []evals.Grid) {
	for _, r := range evals.ResultsOf[*evals.PasskeyResult](c) {
		all = append(all, r.Grid())
	}
	return all
}
