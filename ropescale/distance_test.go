package ropescale

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDistance(t *testing.T) {
	a := Rung{AttentionFactor: 1.1, Factors: []float64{1, 2, 4, 8}}
	require.Zero(t, Distance(a, a))
	b := Rung{AttentionFactor: 1.1 * math.Exp(0.3), Factors: nil, StartWindow: 9}
	for _, f := range a.Factors {
		b.Factors = append(b.Factors, f*math.Exp(-0.4))
	}
	require.InDelta(t, 0.5, Distance(a, b), 1e-12)
	require.InDelta(t, 0.5, Distance(b, a), 1e-12)
	b.AttentionFactor = a.AttentionFactor
	b.Factors = append([]float64{math.E}, a.Factors[1:]...)
	require.InDelta(t, 0.5, Distance(a, b), 1e-12, "one of four factors by 1")
}
