package longrope

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/search/searchtest"
)

// TestEscapes: whatever names a model file has, a terminal gets none of its escapes.
func TestEscapes(t *testing.T) {
	now := time.Unix(0, 0)
	var out, err bytes.Buffer
	u := newUI(&out, &err, func() time.Time { return now })
	u.say("architecture %s", "x\x1b]0;gotcha\a")
	require.NoError(t, u.print("name\x1b[2J\r\n"))
	cell := "\x1b[48;2;1;2;3;38;5;16m  50 \x1b[0m"
	require.NoError(t, u.draw("na\x1b[8mme"+cell+"\x1b[1m\n"))
	now = now.Add(time.Hour)
	u.progress(now, "search\x1b[A", 1, 2, "\x1b[B")
	assert.Equal(t, "name\\x1b[2J\\r\nna\\x1b[8mme"+cell+"\\x1b[1m\n", out.String())
	assert.NotContains(t, err.String(), "\x1b")
	assert.Contains(t, err.String(), `architecture x\x1b]0;gotcha\a`)

	evil := bytes.ReplaceAll(searchtest.TinyGGUF("llama"), []byte("llama"), []byte("l\x1b[2J"))
	path := filepath.Join(t.TempDir(), "evil.gguf")
	require.NoError(t, os.WriteFile(path, evil, 0o644))
	for _, args := range [][]string{
		{"show", path},
		{"convert", path, "--factors", path, "-o", path + ".gguf"},
		{"eval", "perplexity", path},
	} {
		out.Reset()
		cmd := NewCommand()
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		_ = cmd.Execute()
		assert.NotContains(t, out.String(), "\x1b", args)
	}
}
