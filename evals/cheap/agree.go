package cheap

import (
	"math"
	"slices"

	"github.com/longrope/longrope/evals"
)

// Agreement is how far cheap readings of some candidates agree with exact ones.
type Agreement struct {
	Candidates int `json:"candidates"`
	// Spearman is the rank correlation, 1 where both put the candidates in the same order; ties
	// share their ranks. It is 0 where there is no order to compare.
	Spearman float64 `json:"spearman"`
	// Bias is the mean of cheap less exact, Spread the standard deviation, in nats. Candidates for
	// which one of the two is not finite do not count.
	Bias   float64 `json:"bias"`
	Spread float64 `json:"spread"`
}

// Agree compares the losses of candidates, in nats, one of each kind for each. It panics where
// there are not as many of both.
func Agree(cheap, exact []float64) Agreement {
	a := Agreement{Candidates: len(exact), Spearman: correlation(ranks(cheap), ranks(exact))}
	var off []float64
	for i := range exact {
		if d := cheap[i] - exact[i]; !math.IsNaN(d) && !math.IsInf(d, 0) {
			off = append(off, d)
		}
	}
	var stderr float64
	a.Bias, stderr = evals.MeanStderr(off)
	a.Spread = stderr * math.Sqrt(float64(len(off)))
	return a
}

// ranks are the places of values in ascending order, from 0; equal ones share the mean of theirs.
func ranks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case values[a] < values[b]:
			return -1
		case values[a] > values[b]:
			return 1
		}
		return 0
	})
	ranks := make([]float64, len(values))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && values[order[j]] == values[order[i]] {
			j++
		}
		for k := i; k < j; k++ {
			ranks[order[k]] = float64(i+j-1) / 2
		}
		i = max(j, i+1)
	}
	return ranks
}

// correlation is Pearson's; 0 if one of the two does not vary.
func correlation(x, y []float64) float64 {
	mx, _ := evals.MeanStderr(x)
	my, _ := evals.MeanStderr(y)
	var xx, yy, xy float64
	for i := range x {
		xx += (x[i] - mx) * (x[i] - mx)
		yy += (y[i] - my) * (y[i] - my)
		xy += (x[i] - mx) * (y[i] - my)
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}
