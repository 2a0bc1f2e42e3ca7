package extend

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/plugin/search/searchtest"
)

// silent shows nobody anything.
type silent struct{}

func (silent) Say(string, ...any)       {}
func (silent) Progress(search.Progress) {}
func (silent) ToBeat([]search.Score)    {}

// FuzzDocuments: whatever a .jsonl file holds, tokenizing it ends with an error that names the
// file, or with one JSON object with tokens for each document.
func FuzzDocuments(f *testing.F) {
	for _, seed := range []string{
		`{"text": "hello"}`, "{\"tokens\": [1, 2], \"weights\": [1, 7]}\n{\"text\": \"\"}\n",
		"null", `{"text": null}`, `{"text": 3}`, `[1]`, "{", "",
		`{"tokens": null}`, `{"text": "\ud800"}`, `{"text": "a"}{"text": "b"}`,
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	model := filepath.Join(dir, "tiny.gguf")
	require.NoError(f, os.WriteFile(model, searchtest.TinyGGUF("llama"), 0o644))
	e, err := searchtest.Open(model, "tiny", 128)
	require.NoError(f, err)
	load := func(context.Context, string, int) (*Loaded, error) {
		return &Loaded{Engine: e, Close: func() {}}, nil
	}
	f.Fuzz(func(t *testing.T, body string) {
		text, out := filepath.Join(dir, "text.jsonl"), filepath.Join(dir, "out.jsonl")
		require.NoError(t, os.WriteFile(text, []byte(body), 0o644))
		s := &extension{report: silent{}, o: Options{
			Texts: []string{text}, Load: load, Now: time.Now,
			Model: Model{Info: &convert.ModelInfo{OriginalContextLength: 128}},
		}}
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
