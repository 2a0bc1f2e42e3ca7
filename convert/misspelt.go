package convert

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// Misspelt are warnings of keys in the rungs of a factors.json that no version of this program
// wrote, with the key that may be meant. Such keys are kept, and have no effect.
func Misspelt(l *ropescale.Ladder) []string {
	if l == nil {
		return nil
	}
	var warnings []string
	for _, g := range l.Rungs {
		for _, key := range slices.Sorted(maps.Keys(g.Extra)) {
			text := fmt.Sprintf("the rung for %d tokens has the key %q, which is not known and "+
				"has no effect", g.Length, key)
			if near := nearest(key, ropescale.RungKeys()); len(near) > 0 {
				text += "; did you mean " + strings.Join(near, ", ") + "?"
			}
			warnings = append(warnings, text)
		}
	}
	return warnings
}
