package extend

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/search"
)

// TestPositions: what the recipe is told; nothing for its own default, so that an extension that
// was begun before there were positions resumes.
func TestPositions(t *testing.T) {
	for positions, want := range map[string][]string{
		"": nil, "auto": nil, "full": {"--positions", "full"}, "end": {"--positions", "end"},
		"skip": {"--positions", "skip"},
	} {
		training := Training{Rows: 2, Rate: 0.5, Positions: positions, Mixed: true}
		require.NoError(t, training.check(1, search.Names{}))
		assert.Equal(t, append([]string{"--batch", "2", "--lr", "0.5", "--mixed"}, want...),
			training.arguments())
	}
	training := Training{Rows: 2, Rate: 0.5, Positions: "all"}
	require.ErrorContains(t, training.check(1, search.Names{"Positions": "--positions"}),
		`--positions is "all"; give auto, full, skip or end`)
}
