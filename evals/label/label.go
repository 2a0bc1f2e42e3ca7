// Package label writes numbers for people, one way each, in tables, pictures and messages.
package label

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size writes a number of tokens as the flags of the program take it: 256, 2k, 1m, where k is 1024.
func Size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dm", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dk", n>>10)
	}
	return strconv.Itoa(n)
}

// ParseSize reads a number of tokens: 131072, 128k or 1m.
func ParseSize(s string) (int, error) {
	t, unit := strings.ToLower(strings.TrimSpace(s)), 1
	switch {
	case strings.HasSuffix(t, "k"):
		t, unit = t[:len(t)-1], 1<<10
	case strings.HasSuffix(t, "m"):
		t, unit = t[:len(t)-1], 1<<20
	}
	n, err := strconv.Atoi(t)
	if err != nil || n < 1 || n > math.MaxInt32/unit {
		return 0, fmt.Errorf("%q is not a number of tokens; write it like 131072, 128k or 1m", s)
	}
	return n * unit, nil
}

// Count writes a whole number with thousands apart: 14,000.
func Count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Number writes a figure with four significant digits at most: 16.2.
func Number(x float64) string {
	switch a := math.Abs(x); {
	case x != 0 && a < 1e-3 || a >= 99999.5:
		return fmt.Sprintf("%.3g", x)
	case a >= 9999.5:
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.4g", x)
}

// Column writes a figure for a column of a table, where equal sizes have equal digits: four or five
// significant ones, zeros included. A value that is not finite is a dash.
func Column(x float64) string {
	switch a := math.Abs(x); {
	case math.IsInf(x, 0) || math.IsNaN(x):
		return "–"
	case a >= 1000:
		return Count(int(math.Round(x)))
	case a >= 100:
		return fmt.Sprintf("%.1f", x)
	case a >= 10:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

// Exact is the shortest decimal that reads back as x.
func Exact(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
