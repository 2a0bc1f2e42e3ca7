package draw

import (
	"fmt"
	"math"
	"strings"

	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

const (
	barWidth  = 64 // columns at most
	barHeight = 8  // lines
)

// FactorBars draws lambda_i over i for a terminal, logarithmic from the smallest to the largest
// factor of all rungs drawn, so that plots of one ladder compare. Models of more than 128 rotary
// dimensions get the mean of neighbours.
func FactorBars(g ropescale.Rung, low, high float64) string {
	values := squeeze(g.Factors, barWidth)
	wider := max(1, barWidth/2/len(values)) // columns of a pair, for models with few
	span := math.Log(high / low)
	if span <= 1e-9 {
		return fmt.Sprintf("  all %s\n", label.Number(g.Factors[0]))
	}
	eighths := []rune(" ▁▂▃▄▅▆▇█")
	labels := map[int]string{0: label.Number(high), barHeight - 1: label.Number(low)}
	wide := max(len(labels[0]), len(labels[barHeight-1]))
	var b strings.Builder
	for line := range barHeight {
		fmt.Fprintf(&b, "  %*s ┤", wide, labels[line])
		for _, v := range values {
			// A column has at least one eighth: the pair is there.
			fill := max(1, int(math.Round(8*barHeight*math.Log(v/low)/span))) - 8*(barHeight-1-line)
			b.WriteString(strings.Repeat(string(eighths[min(max(fill, 0), 8)]), wider))
		}
		b.WriteString("\n")
	}
	axis := fmt.Sprintf("pair 0 … %d", len(g.Factors)-1)
	fmt.Fprintf(&b, "  %*s └%s\n  %*s  %s\n", wide, "", strings.Repeat("─", wider*len(values)),
		wide, "", axis)
	return b.String()
}

// squeeze takes the geometric mean of neighbours until at most n values are left.
func squeeze(xs []float64, n int) []float64 {
	per := (len(xs) + n - 1) / n
	var out []float64
	for i := 0; i < len(xs); i += per {
		sum := 0.0
		part := xs[i:min(i+per, len(xs))]
		for _, x := range part {
			sum += math.Log(x)
		}
		out = append(out, math.Exp(sum/float64(len(part))))
	}
	return out
}

// FactorRange are the smallest and the largest factor of the rungs.
func FactorRange(rungs []ropescale.Rung) (low, high float64) {
	low, high = math.Inf(1), 0
	for _, g := range rungs {
		for _, f := range g.Factors {
			low, high = min(low, f), max(high, f)
		}
	}
	return low, high
}
