//go:build cgo

package engine

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
)

// agreement is how far cheap readings of some candidates agree with exact ones.
type agreement struct {
	Candidates int
	// Spearman is the rank correlation, 1 where both put the candidates in the same order; ties
	// share their ranks. It is 0 where there is no order to compare.
	Spearman float64
	// Bias is the mean of cheap less exact, Spread the standard deviation, in nats. Candidates for
	// which one of the two is not finite do not count.
	Bias   float64
	Spread float64
}

// agreementOf compares the losses of candidates, in nats, one of each kind for each. It panics
// where there are not as many of both.
func agreementOf(cheap, exact []float64) agreement {
	a := agreement{Candidates: len(exact), Spearman: correlation(ranks(cheap), ranks(exact))}
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

func TestAgree(t *testing.T) {
	exact := []float64{3, 1, 2, 5, 4}
	for _, c := range []struct {
		cheap                  []float64
		spearman, bias, spread float64
	}{
		{[]float64{2, 0, 1, 4, 3}, 1, -1, 0},
		{[]float64{30, 10, 20, 50, 40}, 1, 27, math.Sqrt(10 * 81 / 4.)},
		{[]float64{3, 5, 4, 1, 2}, -1, 0, math.Sqrt(40 / 4.)},
		{[]float64{2, 2, 2, 2, 2}, 0, -1, math.Sqrt(10 / 4.)},
		// ranks 2, 0, 1, 3.5, 3.5 against 2, 0, 1, 4, 3
		{[]float64{3, 1, 2, 6, 6}, 9.5 / math.Sqrt(10*9.5), 0.6, math.Sqrt((1 + 4 - 5*.36) / 4)},
		{[]float64{3, 1, 2, math.Inf(1), 4}, 1, 0, 0},
	} {
		a := agreementOf(c.cheap, exact)
		require.Equal(t, 5, a.Candidates)
		require.InDelta(t, c.spearman, a.Spearman, 1e-12, "%v", c.cheap)
		require.InDelta(t, c.bias, a.Bias, 1e-12)
		require.InDelta(t, c.spread, a.Spread, 1e-12)
	}
	require.Zero(t, agreementOf(nil, nil))
	require.Zero(t, agreementOf([]float64{math.NaN()}, []float64{1}).Spearman)
}
