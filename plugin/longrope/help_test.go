package longrope

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHelp: help fits the width of a screen, that of search its height; flags that few people need
// are at its end.
func TestHelp(t *testing.T) {
	help := func(command string) string {
		var out strings.Builder
		cmd := newCommand(openFake)
		cmd.SetOut(&out)
		cmd.SetArgs([]string{command, "--help"})
		require.NoError(t, cmd.Execute())
		for line := range strings.Lines(out.String()) {
			width := utf8.RuneCountInString(strings.TrimRight(line, "\n"))
			assert.LessOrEqual(t, width, helpWidth, "%s: %s", command, line)
		}
		return out.String()
	}
	text := help("search")
	assert.LessOrEqual(t, strings.Count(text, "\n"), 48)
	often, rare, ok := strings.Cut(text, "\nRare flags:\n")
	require.True(t, ok)
	assert.LessOrEqual(t, strings.Count(often, "\n"), 32, "the main part, without the rare flags")
	for _, flag := range []string{"--target", "--text", "--start", "--budget", "--output"} {
		assert.Contains(t, often, flag)
	}
	for _, flag := range append([]string{"study", "knots"}, serverFlags...) {
		assert.Regexp(t, "--"+flag+"[ ,]", rare)
		assert.NotContains(t, often, "--"+flag)
	}
	worker := help("worker")
	for _, flag := range serverFlags {
		assert.Contains(t, worker, "--"+flag+" ")
	}
	help("convert")
	help("eval")
	help("show")
	_, rare, _ = strings.Cut(help("extend"), "\nRare flags:\n")
	assert.Contains(t, rare, "--processes")
}
