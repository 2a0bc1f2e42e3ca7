// Package terminal makes text safe to show: model files, servers and other machines name things as
// they like, and a terminal takes some of it as commands.
package terminal

import (
	"strconv"
	"strings"
	"unicode"
)

// Clean writes the characters that a terminal would act on, or that turn the direction of a text
// round, as Go escapes: \x1b, \u202e. Line feeds and tabs stay; bytes that are no UTF-8 become
// U+FFFD.
func Clean(s string) string {
	if !strings.ContainsFunc(s, acts) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r != unicode.ReplacementChar && acts(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func acts(r rune) bool {
	return r == unicode.ReplacementChar || r != '\n' && r != '\t' &&
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Error is an error with a clean text.
func Error(err error) error {
	if err == nil {
		return nil
	}
	return clean{err}
}

type clean struct{ error }

func (c clean) Error() string { return Clean(c.error.Error()) }
func (c clean) Unwrap() error { return c.error }
