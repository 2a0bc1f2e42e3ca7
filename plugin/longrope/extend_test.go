package longrope

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzDocuments: whatever a .jsonl file holds, tokenizing it ends with an error that names the file, or with one JSON object
// with tokens for each document.
func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{
		`{"text": "hello"}`, "{\"tokens\": [1, 2], \"weights\": [1, 7]}\n{\"text\": \"\"}\n", "null", `{"text": null}`, `{"text": 3}`, `[1]`, "{", "",
		`{"tokens": null}`, `{"text": "\ud800"}`, `{"text": "a"}{"text": "b"}`,
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	require.NoError(f, os.WriteFile(model, tinyGGUF("llama"), 0o644))
	m, err := find(model)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body string) {
		text, out := filepath.Join(dir, "text.jsonl"), filepath.Join(dir, "out.jsonl")
		require.NoError(t, os.WriteFile(text, []byte(body), 0o644))
		s := &schedule{m: m, app: &app{ui: newUI(os.Stdout, os.Stderr), open: openFake}}
		s.f.texts = []string{text}
		os.Remove(out)
		if _, err := s.tokenize(context.Background(), out); err != nil {
			assert.Contains(t, err.Error(), "text.jsonl")
			assert.NoFileExists(t, out)
			return
		}
		b, err := os.ReadFile(out)
		require.NoError(t, err)
		for line := range strings.Lines(string(b)) {
			var d map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(line), &d))
			assert.Contains(t, d, "tokens")
			assert.NotContains(t, d, "text")
		}
	})
}
