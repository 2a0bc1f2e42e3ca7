package hf

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const fuzzedConfig = `{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
"max_position_embeddings": 512, "hidden_size": 16, "num_attention_heads": 2,
"num_hidden_layers": 1%s}`

// FuzzIndex: no model.safetensors.index.json makes Open panic or read a file outside of the folder,
// and the checkpoint that it gives has the tensors that the index names.
func FuzzIndex(f *testing.F) {
	for _, s := range []string{
		`{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}`,
		`{"weight_map": {"a": "../x.safetensors"}}`, `{"weight_map": {"a": "model-2.safetensors"}}`,
		`{"metadata": {"total_size": 24}, "weight_map": {}}`, `{"weight_map": [1e999]}`,
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	write := func(name string, b []byte) {
		require.NoError(f, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	write(ConfigFile, fmt.Appendf(nil, fuzzedConfig, ""))
	for i, name := range []string{"a", "b"} {
		write(fmt.Sprintf("model-%d.safetensors", i+1), rawShard(
			fmt.Sprintf(`{%q: {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}`, name),
			12))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, IndexFile), b, 0o600))
		c, err := Open(dir)
		if err != nil {
			return
		}
		require.NotEmpty(t, c.Shards)
		for _, s := range c.Shards {
			require.Equal(t, dir, filepath.Dir(s.Path))
		}
	})
}

// FuzzLadderFile: no longrope.json makes Open panic, and one that is taken in belongs to the
// configuration next to it: the folder can be written with it and without it.
func FuzzLadderFile(f *testing.F) {
	const scaled = `, "rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1, 1, 1],
"long_factor": [1, 2, 3, 4], "original_max_position_embeddings": 128, "factor": 4},
"original_max_position_embeddings": 128`
	const whole = `{"version": 1, "original_context_length": 128, "rope_dimension_count": 8,
"rungs": [{"length": 512, "factors": [1, 2, 3, 4], "attention_factor": 1}], "replaced": %s}`
	for _, s := range []string{
		`{"config": {"rope_scaling": null}}`,
		`{"config": {"rope_scaling": "{", "max_position_embeddings": "128"}}`,
		`{"config": {"rope_scaling": "{\"type\": \"linear\", \"factor\": 2}"}, "inside": ""}`,
		`{"config": {"architectures": "[]"}}`, `{"inside": "text_config"}`, `7`,
	} {
		f.Add(fmt.Appendf(nil, whole, s))
	}
	dir := f.TempDir()
	write := func(name string, b []byte) {
		require.NoError(f, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	write(ConfigFile, fmt.Appendf(nil, fuzzedConfig, scaled))
	write(fileSingle,
		rawShard(`{"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}`, 12))
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, LadderFile), b, 0o600))
		c, err := Open(dir)
		if err != nil {
			return
		}
		c.Original()
		c.AsRun()
		require.NotNil(t, c.Ladder)
		require.NoError(t, c.Ladder.Validate())
	})
}
