// Package units writes times and lists of sizes as the commands do; package evals/label has the
// numbers.
package units

import (
	"fmt"
	"strings"
	"time"

	"github.com/longrope/longrope/evals/label"
)

// Sizes writes several sizes, with commas.
func Sizes(sizes []int) string {
	words := make([]string, len(sizes))
	for i, n := range sizes {
		words[i] = label.Size(n)
	}
	return strings.Join(words, ",")
}

// Duration writes d as a person says it: two units at most.
func Duration(d time.Duration) string {
	switch s := int(d.Round(time.Second) / time.Second); {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", s/60, s%60)
	default:
		return fmt.Sprintf("%d h %02d min", s/3600, s/60%60)
	}
}

// Remaining extrapolates from the time spent on a share of the work. It is false at the beginning,
// which says too little, and at the end.
func Remaining(spent time.Duration, share float64) (time.Duration, bool) {
	if share <= 0.005 || share >= 1 || spent < time.Second {
		return 0, false
	}
	return time.Duration(float64(spent) * (1 - share) / share), true
}
