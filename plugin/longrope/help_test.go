package longrope

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHelp: the help of search fits a screen, and flags that few people need are at its end.
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
	assert.LessOrEqual(t, strings.Count(text, "\n"), 54)
	often, rare, ok := strings.Cut(text, "\nRare flags:\n")
	require.True(t, ok)
	assert.LessOrEqual(t, strings.Count(often, "\n"), 32, "the main part, without the rare flags")
	for _, flag := range []string{"--target", "--text", "--start", "--budget", "--output"} {
		assert.Contains(t, often, flag)
	}
	for _, flag := range append([]string{"study", "knots"}, serverFlags...) {
		assert.Contains(t, rare, "--"+flag+" ")
		assert.NotContains(t, often, "--"+flag+" ")
	}
	help("worker")
	_, rare, _ = strings.Cut(help("extend"), "\nRare flags:\n")
	assert.Contains(t, rare, "--processes")
}
