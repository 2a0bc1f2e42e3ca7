package checkpoints

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
)

// toGGUF is the error of a conversion of a folder.
func toGGUF(t *testing.T, dir string) error {
	t.Helper()
	out := filepath.Join(t.TempDir(), "x.gguf")
	_, err := convert.Convert(t.Context(), dir, out, nil, convert.Options{})
	if err != nil {
		require.NoFileExists(t, out)
		assert.NotContains(t, err.Error(), ".longrope-", "a temporary file")
	}
	return err
}

// readable are the files of a folder that a conversion reads.
var readable = []string{"model.safetensors", "config.json", "tokenizer.json"}

// TestPointer: what git checks out in place of a large file is called that.
func TestPointer(t *testing.T) {
	const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
	for _, name := range readable {
		in := write(t, Find("Llama-2-7B"))
		require.NoError(t, os.WriteFile(filepath.Join(in, name), []byte(pointer), 0o644))
		err := toGGUF(t, in)
		require.ErrorContains(t, err, name+": a Git LFS pointer")
		require.ErrorContains(t, err, "git lfs pull")
	}
	path := filepath.Join(t.TempDir(), "x.gguf")
	require.NoError(t, os.WriteFile(path, []byte(pointer), 0o644))
	_, err := convert.Inspect(path)
	require.ErrorContains(t, err, "git lfs pull")
}

// TestPipe: a pipe in place of a file is an error, and not waited for.
func TestPipe(t *testing.T) {
	for _, name := range readable {
		in := write(t, Find("Llama-2-7B"))
		path := filepath.Join(in, name)
		require.NoError(t, os.Remove(path))
		if err := syscall.Mkfifo(path, 0o644); err != nil {
			t.Skip("SKIPPED: no pipes here: ", err)
		}
		require.ErrorContains(t, toGGUF(t, in), name+": not a regular file")
	}
}

// TestConsolidated: a second copy of the weights is not counted.
func TestConsolidated(t *testing.T) {
	in := write(t, Find("Llama-2-7B"))
	before, err := convert.Inspect(in)
	require.NoError(t, err)
	weights := filepath.Join(in, "model.safetensors")
	require.NoError(t, os.Rename(weights, filepath.Join(in, "other.safetensors")))
	require.NoError(t, os.Link(filepath.Join(in, "other.safetensors"),
		filepath.Join(in, "consolidated.safetensors")))
	after, err := convert.Inspect(in)
	require.NoError(t, err)
	assert.Equal(t, before.ParameterCount, after.ParameterCount)
}

// TestTokenizer: the file with the fault is named, and a vocabulary that the host's converter would
// number in another way is refused.
func TestTokenizer(t *testing.T) {
	tokens := func(change func(vocab map[string]any)) string {
		var file map[string]any
		require.NoError(t, json.Unmarshal(tokenizer(), &file))
		change(file["model"].(map[string]any)["vocab"].(map[string]any))
		b, err := json.Marshal(file)
		require.NoError(t, err)
		return string(b)
	}
	for name, c := range map[string]struct{ text, want string }{
		"whole":        {tokens(func(map[string]any) {}), ""},
		"fewer tokens": {tokens(func(v map[string]any) { delete(v, "!!") }), ""},
		"a gap": {
			tokens(func(v map[string]any) { delete(v, "$") }),
			"tokenizer.json: no token has the number 6, and",
		},
		"empty": {"{}", "tokenizer.json: the vocabulary has no tokens"},
		"cut":   {string(tokenizer()[:500]), "tokenizer.json: the host's converter: unexpected EOF"},
		"another type": {
			tokens(func(v map[string]any) { v["$"] = "six" }),
			"tokenizer.json: the host's converter: model.vocab: string, where a whole number",
		},
	} {
		in := write(t, Find("Llama-2-7B"))
		require.NoError(t, os.WriteFile(filepath.Join(in, "tokenizer.json"), []byte(c.text), 0o644))
		err := toGGUF(t, in)
		if c.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, c.want, name)
		assert.False(t, strings.Contains(err.Error(), "map["), "a name of Go: %v", err)
	}
}
