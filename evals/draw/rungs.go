package draw

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// FactorLines draws lambda_i over i for several rows in one plot: a row is the sign at its place in
// the list. Where rows meet the last is seen.
func FactorLines(rows []ropescale.Rung, signs []rune, low, high float64) string {
	const height = 12
	span := math.Log(high / low)
	pairs := len(rows[0].Factors)
	width := len(squeeze(rows[0].Factors, barWidth))
	wider := max(1, barWidth/2/width)
	lines := make([][]rune, height)
	for i := range lines {
		lines[i] = []rune(strings.Repeat(" ", wider*width))
	}
	for r, g := range rows {
		for i, v := range squeeze(g.Factors, barWidth) {
			line := height - 1
			if span > 1e-9 {
				line -= int(math.Round((height - 1) * math.Log(v/low) / span))
			}
			lines[line][i*wider] = signs[r]
		}
	}
	labels := map[int]string{0: label.Number(high), height - 1: label.Number(low)}
	wide := max(len(labels[0]), len(labels[height-1]))
	var b strings.Builder
	for i, line := range lines {
		fmt.Fprintf(&b, "  %*s ┤%s\n", wide, labels[i], strings.TrimRight(string(line), " "))
	}
	fmt.Fprintf(&b, "  %*s └%s\n  %*s  pair 0 … %d\n", wide, "", strings.Repeat("─", wider*width),
		wide, "", pairs-1)
	return b.String()
}

// ServedBars draws, for each row, the tokens of a sequence that get its factors, on a logarithmic
// axis of positions, and names the sequences that are on it.
func ServedBars(l *ropescale.Ladder) string {
	const width = 40
	rows := len(l.Rungs) + 1
	first, last := firstPosition(l), float64(l.Rungs[rows-2].Length)
	column := func(position float64) int {
		c := width * math.Log(math.Max(position, first)/first) / math.Log(last/first)
		return min(int(math.Round(c)), width)
	}
	var b strings.Builder
	for r := range rows {
		name, length, window := "own RoPE", l.OriginalContextLength, 0
		if r > 0 {
			name, length, window = fmt.Sprintf("rung %d",
				r), l.Rungs[r-1].Length, l.Rungs[r-1].StartWindow
		}
		own := column(float64(window))
		bar := strings.Repeat("░", own) + strings.Repeat("█", column(float64(length))-own)
		serves := "no sequences: a shorter rung serves them"
		if from, to := l.Serves(r); from <= to {
			serves = fmt.Sprintf("sequences of %s – %s", label.Count(from), label.Count(to))
		}
		fmt.Fprintf(&b, "  %-8s %s%s  %s\n", name, bar,
			strings.Repeat(" ", width-column(float64(length))), serves)
	}
	// Labels from the largest power of two downwards, in steps of equal width.
	step := 2.0
	for width*math.Log(step)/math.Log(last/first) < 7 && step < last/first {
		step *= 2
	}
	axis := []rune(strings.Repeat(" ", width+8))
	for n := math.Exp2(math.Floor(math.Log2(last))); n >= first; n /= step {
		copy(axis[column(n):], []rune(label.Size(int(n))))
	}
	fmt.Fprintf(&b, "  %-8s %s\n", "position", strings.TrimRight(string(axis), " "))
	if slices.ContainsFunc(l.Rungs, func(g ropescale.Rung) bool { return g.StartWindow > 0 }) {
		b.WriteString("           ░ start window: the model's own RoPE\n")
	}
	return b.String()
}
