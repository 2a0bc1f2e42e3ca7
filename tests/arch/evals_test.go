package arch

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/longrope"
	"github.com/longrope/longrope/plugin/search"
)

// readable is the model as a file of the Go engine whose tokens are the letters of ASCII, trained
// for L tokens.
func (c *candidate) readable(m *Model, L uint32) string {
	out := &Model{KV: maps.Clone(m.KV), Tensors: m.Tensors}
	out.KV[c.arch+".context_length"] = L
	if _, scaled := out.KV[c.arch+".rope.scaling.original_context_length"]; scaled {
		out.KV[c.arch+".rope.scaling.original_context_length"] = L
	}
	c.words = make([]string, 128)
	for b := range c.words {
		r := rune(b)
		switch { // as the byte-level tokenizers write bytes
		case b <= ' ':
			r += 0x100
		case b == 0x7f:
			r = 0x121
		}
		c.words[b] = string(r)
	}
	return c.goFile(out, "gpt2")
}

// TestEvalsOnGo: models that the Go engine alone runs are measured and searched by the commands, as
// others are. Their weights are random, so their figures say that all tokens are worth the same.
func TestEvalsOnGo(t *testing.T) {
	const L = 512
	book := filepath.Join(t.TempDir(), "book.txt")
	text := strings.Repeat("The quick brown fox jumps over the lazy dog, 0123456789 times. ", 300)
	require.NoError(t, os.WriteFile(book, []byte(text), 0o600))
	for _, arch := range []string{"qwen35", "olmo3", "glm4moelite", "gptoss"} {
		t.Run(arch, func(t *testing.T) {
			c := &candidate{T: t, arch: arch, hint: Hints[arch], dir: t.TempDir()}
			file := c.readable(c.onGo(), L)
			run := func(out any, args ...string) string {
				var stdout, stderr bytes.Buffer
				cmd := longrope.NewCommand()
				cmd.SetOut(&stdout)
				cmd.SetErr(&stderr)
				cmd.SetArgs(append(args, "--threads", "1", "--json"))
				require.NoError(t, cmd.Execute(), "%v\n%s", args, stderr.String())
				require.NoError(t, json.Unmarshal(stdout.Bytes(), out))
				return stderr.String()
			}
			var c1, c2 evals.Comparison
			said := run(&c1, "eval", "perplexity", file, "--lengths", "1k", "--windows", "1",
				"--text", book)
			assert.Contains(t, said, "runs on the host's Go engine")
			assert.Equal(t, evals.GoEngine, c1.Engine.Engine)
			seen := map[float64]bool{}
			for _, row := range c1.Rows {
				ppl := *row.Figure("perplexity")
				assert.InDelta(t, math.Log(128), math.Log(ppl), math.Log(20), "of 128 tokens")
				assert.False(t, math.IsNaN(ppl) || seen[ppl], "%s is another method", row.Method)
				seen[ppl] = true
			}
			run(&c2, "eval", "passkey", file, "--lengths", "1k", "--trials", "1", "--depths",
				"0,0.5", "--engine", "go", "--methods", "stock,yarn", "--nll")
			require.Len(t, c2.Rows, 2)
			assert.NotEqual(t, c2.Rows[0], c2.Rows[1])

			var found search.Result
			run(&found, "search", file, "--target", "1k", "--windows", "1", "--budget", "30k",
				"--text", book, "--held-out", book, "-o", filepath.Join(c.dir, "f.json"))
			require.Len(t, found.Rungs, 1)
			assert.Greater(t, found.Trials, 3)
		})
	}
}

// onGo is the model of an architecture that the Go engine alone has; see checkGoOnly.
func (c *candidate) onGo() *Model {
	name := c.arch
	c.arch = c.hint.Like
	kv, tensors := c.hint.Start(c.arch)
	m, err := discover(kv, tensors, c.dir, c.tryOpen)
	require.NoError(c, err)
	c.arch = name
	return renamed(m, c.hint.Like, name)
}
