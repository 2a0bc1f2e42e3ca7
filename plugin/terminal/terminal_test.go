package terminal

import (
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"llama, 4k ▁▂▃ λ\tn̂\n": "llama, 4k ▁▂▃ λ\tn̂\n",
		"a\x1b]0;title\ab":      `a\x1b]0;title\ab`,
		"a\rb\bc\x7f":           `a\rb\bc\x7f`,
		"\u009b2J\x9b2J":        `\u009b2J` + "\ufffd2J",
		"\u202egnp.exe":         `\u202egnp.exe`,
		"":                      "",
	} {
		assert.Equal(t, want, Clean(in))
	}
	wrong := errors.New("\x1b[2J")
	assert.EqualError(t, Error(wrong), `\x1b[2J`)
	assert.ErrorIs(t, Error(wrong), wrong)
	assert.NoError(t, Error(nil))
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		c := Clean(s)
		assert.True(t, utf8.ValidString(c) || c == s)
		assert.Equal(t, c, Clean(c))
		for _, r := range c {
			assert.True(t, r == utf8.RuneError || !acts(r), "%q", r)
		}
	})
}
