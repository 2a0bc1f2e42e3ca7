package draw

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

func TestFactorBars(t *testing.T) {
	g := ropescale.Rung{Factors: []float64{1, 2, 4, 8}}
	lines := strings.Split(strings.TrimRight(FactorBars(g, 1, 8), "\n"), "\n")
	require.Len(t, lines, barHeight+2)
	assert.Contains(t, lines[0], "8 ┤                        ████████",
		"only the largest reaches the top")
	assert.Contains(t, lines[barHeight-1], "1 ┤▁▁▁▁▁▁▁▁████████████████████████",
		"the smallest is still seen")
	assert.Contains(t, lines[barHeight+1], "pair 0 … 3")

	many := ropescale.Rung{Factors: make([]float64, 200)}
	for i := range many.Factors {
		many.Factors[i] = float64(i + 1)
	}
	for _, line := range strings.Split(FactorBars(many, 1, 200), "\n") {
		assert.LessOrEqual(t, len([]rune(line)), barWidth+8, "it fits a terminal of 80")
	}
	assert.Equal(t, "  all 2\n", FactorBars(ropescale.Rung{Factors: []float64{2, 2}}, 2, 2))
}

func TestFactorLines(t *testing.T) {
	rows := []ropescale.Rung{
		{Factors: []float64{1, 1, 1, 1}},
		{Factors: []float64{1, 2, 2, 2}},
		{Factors: []float64{1, 4, 8, 8}},
	}
	lines := strings.Split(FactorLines(rows, []rune("·12"), 1, 8), "\n")
	assert.Equal(t, "  8 ┤                2       2", lines[0])
	assert.Equal(t, "    ┤        2", lines[4])
	assert.Equal(t, "    ┤        1       1       1", lines[7])
	assert.Equal(t, "  1 ┤2       ·       ·       ·", lines[11], "where rows meet the last is seen")
	assert.Contains(t, lines[13], "pair 0 … 3")
	assert.NotContains(t, FactorLines(rows[:1], []rune("·"), 1, 1), "NaN")
}

// Every length is served by the row that RungFor names, and the bars tell the same.
func TestServedBars(t *testing.T) {
	rung := func(length, window int) ropescale.Rung {
		return ropescale.Rung{
			Length: length, StartWindow: window, AttentionFactor: 1,
			Factors: []float64{1, 2},
		}
	}
	for name, tt := range map[string]struct {
		rungs []ropescale.Rung
		want  []string
	}{
		"one": {[]ropescale.Rung{rung(2048, 16)}, []string{
			"  own RoPE ███████████████████████████               sequences of 1 – 256",
			"  rung 1   ░░░░░░░░░███████████████████████████████  sequences of 257 – 2,048",
		}},
		"short factors": {
			[]ropescale.Rung{rung(128, 0), rung(2048, 0)},
			[]string{"sequences of 129 – 256", "sequences of 1 – 128", "sequences of 257 – 2,048"},
		},
		"at L": {
			[]ropescale.Rung{rung(256, 0), rung(2048, 0)},
			[]string{"no sequences", "sequences of 1 – 256", "sequences of 257 – 2,048"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := &ropescale.Ladder{
				Version: ropescale.LadderVersion, OriginalContextLength: 256,
				RopeDimensionCount: 4, Rungs: tt.rungs,
			}
			require.NoError(t, l.Validate())
			plot := ServedBars(l)
			for i, line := range strings.Split(plot, "\n")[:len(tt.want)] {
				assert.Contains(t, line, tt.want[i])
			}
			for row := range len(l.Rungs) + 1 {
				from, to := l.Serves(row)
				for n := 1; n <= 2048; n++ {
					assert.Equal(t, l.RungFor(n) == row, from <= n && n <= to, "row %d, %d tokens",
						row, n)
				}
			}
		})
	}
}
