package tests

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/kernel"
)

// rowsParam is the index of the op parameter that says that a RoPE op has rows, as in ggml-impl.h.
const rowsParam = 15

// noTokens is a case without tokens, with a vector of factors, or a matrix.
func noTokens(mode kernel.Mode, rows bool) kernel.Case {
	c := kernel.Case{
		Mode: mode, Dims: 16, HeadDim: 16, Heads: 2, Batch: 1, FreqBase: 10000, FreqScale: 1,
		AttnFactor: 1, Original: 4096, Rows: rows, Factors: [][]float32{make([]float32, 8)},
	}
	if mode == kernel.Vision {
		c.Dims = 8
	}
	if mode.Multi() {
		c.Sections = [4]int{2, 3, 3, 0}
	}
	if rows {
		c.Factors = [][]float32{make([]float32, 9), make([]float32, 9)}
	}
	return c
}

var modes = []kernel.Mode{kernel.Normal, kernel.NeoX, kernel.MRope, kernel.Vision, kernel.IMRope}

// An op has rows if it was given them. No shape says so: without tokens a vector of factors and a
// matrix have positions of the same length.
func TestRowsAreAFlag(t *testing.T) {
	for _, mode := range modes {
		for _, rows := range []bool{false, true} {
			c := noTokens(mode, rows)
			b, err := kernel.BackwardOf(c)
			require.NoError(t, err)
			assert.Equal(t, rows, b.Params[rowsParam] != 0, "%v", c)

			c.Tokens, c.Positions = 3, make([]int32, 3)
			if mode.Multi() {
				c.Positions = make([]int32, 12)
			}
			if rows {
				c.Positions = append(c.Positions, 1, 0, 1)
			}
			b, err = kernel.BackwardOf(c)
			require.NoError(t, err)
			assert.Equal(t, rows, b.Params[rowsParam] != 0, "%v", c)
		}
	}
}

// The backward pass has the op of the forward one: mode and sections also without tokens, and rows.
func TestBackwardGraph(t *testing.T) {
	for _, mode := range modes {
		for _, rows := range []bool{false, true} {
			for _, tokens := range []int{0, 3} {
				c := noTokens(mode, rows)
				c.Tokens = tokens
				planes := 1
				if mode.Multi() {
					planes = 4
				}
				if rows {
					planes++
				}
				c.Positions = make([]int32, planes*tokens)
				b, err := kernel.BackwardOf(c)
				require.NoError(t, err)
				assert.Equal(t, b.Params, b.Back, "%v", c)
				assert.True(t, b.SamePositions && b.SameFactors, "%v", c)
				assert.Equal(t, []int32{0, int32(c.Dims), int32(mode)}, b.Back[:3])
				if mode.Multi() {
					assert.Equal(t, []int32{2, 3, 3, 0}, b.Back[11:15], "sections: %v", c)
				}
			}
		}
	}
}

// With partial rotary the CPU reads the factors of rotated pairs and no others: a fault ends the
// program if it reads beyond them.
func TestFactorsEndAtPage(t *testing.T) {
	n := 0
	for _, d := range kernel.Devices() {
		if !d.CPU() {
			continue
		}
		for _, c := range kernel.Cases() {
			if len(c.Factors) == 0 || 2*c.Pairs() == c.HeadDim || c.Cache {
				continue
			}
			x := c.Input()
			want, err := d.Run(c, x)
			require.NoError(t, err)
			c.Guard = true
			got, err := d.Run(c, x)
			require.NoError(t, err)
			require.True(t, slices.Equal(want, got), "%v", c)
			n++
		}
	}
	require.NotZero(t, n)
	t.Logf("%d cases", n)
}
