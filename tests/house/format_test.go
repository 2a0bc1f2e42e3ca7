package house

import (
	"testing"

	"github.com/stretchr/testify/require"
	"mvdan.cc/gofumpt/format"
)

// Go files are formatted by gofumpt, as the host's are.
func TestFormat(t *testing.T) {
	broken := map[string][]string{}
	for _, name := range sources(t) {
		if language(name) != "go" {
			continue
		}
		text := read(t, name)
		formatted, err := format.Source([]byte(text), format.Options{LangVersion: "go1.24"})
		require.NoError(t, err, name)
		if !generated(text) && string(formatted) != text {
			broken[name] = []string{"run `go run mvdan.cc/gofumpt -w " + name + "`"}
		}
	}
	holds(t, "format.txt", broken)
}
