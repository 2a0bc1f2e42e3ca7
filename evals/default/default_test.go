package defaultmodel

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextsAreApart(t *testing.T) {
	require.NotEmpty(t, SearchTexts())
	require.NotEmpty(t, TestTexts())
	seen := map[string]string{} // a line of some length -> the text it stands in
	names := map[string]bool{}
	for _, text := range append(append(SearchTexts(), TestTexts()...), LongSearchText(),
		LongTestText()) {
		assert.False(t, names[text.Name], "%s is listed twice", text.Name)
		names[text.Name] = true
		assert.Greater(t, len(text.Body), 100_000, text.Name)
		assert.True(t, utf8.ValidString(text.Body), text.Name)
		assert.NotContains(t, text.Body, "\r", text.Name)
		assert.NotContains(t, text.Body, "\n\n\n", text.Name)
		for line := range strings.Lines(text.Body) {
			if len(line) < 60 {
				continue
			}
			other, ok := seen[line]
			assert.False(t, ok && other != text.Name, "%s and %s share the line %q", text.Name,
				other, line)
			seen[line] = text.Name
		}
	}
}

// The model was trained on verses without their numbers; a text with them would be of another kind.
func TestBibleTextsHaveNoVerseNumbers(t *testing.T) {
	number := regexp.MustCompile(`[0-9]`)
	for _, text := range append(SearchTexts(), TestTexts()...) {
		if !strings.HasPrefix(text.Name, "opticks") {
			assert.Empty(t, number.FindString(text.Body), text.Name)
		}
	}
}

func TestNoticeNamesEveryText(t *testing.T) {
	assert.Contains(t, notice, "public domain")
	for _, text := range append(append(SearchTexts(), TestTexts()...), LongSearchText(),
		LongTestText()) {
		assert.Contains(t, notice, text.Name+".txt")
	}
}

func TestModelIsASmallGGUF(t *testing.T) {
	require.Greater(t, len(Model), 1_000_000)
	assert.Less(t, len(Model), 10_000_000)
	assert.Equal(t, "GGUF", string(Model[:4]))
}
