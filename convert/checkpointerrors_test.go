package convert

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/hf"
)

func TestCheckpointErrors(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct{ old, new, want string }{
		"architectures": {`"LlamaForCausalLM"`, ``, "no architectures"},
		"length": {
			`"max_position_embeddings": 128`, `"max_position_embeddings": 0`,
			"max_position_embeddings is missing",
		},
		"json": {`"hidden_size": 32,`, `"hidden_size": 32`, "config.json: line 6"},
		"twice": {
			`"hidden_size": 32,`, `"hidden_size": 32, "hidden_size": 33,`,
			`the key "hidden_size" occurs twice`,
		},
		"type": {`"hidden_size": 32`, `"hidden_size": "32"`, "hidden_size"},
		"bert": {`"model_type": "llama"`, `"model_type": "bert"`, "has no RoPE"},
		"factors": {
			`"rope_scaling": null`,
			`"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [2]}`,
			"1 numbers in short_factor",
		},
		"no factors": {
			`"rope_scaling": null`, `"rope_scaling": {"type": "longrope"}`,
			"0 numbers in short_factor",
		},
		"infinite": {
			`"rope_scaling": null`,
			`"rope_scaling": {"type": "linear", "factor": Infinity}`, "rope_scaling.factor: NaN or Infinity",
		},
		"longer L": {
			`"rope_scaling": null`,
			`"original_max_position_embeddings": 256, "rope_scaling": {"type": "longrope"}`,
			"max_position_embeddings 128",
		},
		"no heads": {`"num_attention_heads": 4`, `"num_attention_heads": 0`, "no head_dim"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Inspect(tinyCheckpoint(t, strings.Replace(configs["llama"], c.old, c.new, 1)))
			require.ErrorContains(t, err, c.want)
		})
	}

	in := tinyCheckpoint(t, strings.Replace(configs["llama"], `"model_type": "llama"`,
		`"model_type": "cohere2"`, 1))
	_, err := Convert(ctx, in, filepath.Join(t.TempDir(), "out"), ladder(), Options{})
	require.ErrorIs(t, err, gguf.ErrLocalRoPE)
	require.ErrorContains(t, err, "config.json")

	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"missing shard": {func(dir string) error {
			return os.Remove(filepath.Join(dir,
				"model-00002-of-00002.safetensors"))
		}, "was not downloaded completely"},
		"truncated shard": {func(dir string) error {
			return os.Truncate(filepath.Join(dir, "model-00002-of-00002.safetensors"), 600)
		}, "file is truncated"},
		"pointer": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "model-00002-of-00002.safetensors"),
				[]byte("version https://git-lfs"), 0o644)
		}, "not a safetensors file"},
		"index": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, hf.IndexFile),
				[]byte(`{"weight_map": {"model.norm.weight": "../../etc/passwd"}}`), 0o644)
		}, "is no name of a safetensors file in the folder"},
		"index of nothing": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, hf.IndexFile), []byte(`{"weight_map": {}}`),
				0o644)
		}, "missing or empty"},
		"index of another": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, hf.IndexFile),
				[]byte(`{"weight_map": {"x": "model-00001-of-00002.safetensors"}}`), 0o644)
		}, `tensor "x" is not in`},
		"same tensor twice": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "model-00002-of-00002.safetensors"),
				safetensors(tinyShapes(""), "model.norm.weight"), 0o644)
		}, "occurs twice"},
		"foreign ladder": {func(dir string) error {
			f, err := os.Create(filepath.Join(dir, hf.LadderFile))
			if err != nil {
				return err
			}
			defer f.Close()
			return ladder().WriteFactors(f)
		}, "does not belong to config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tinyCheckpoint(t, configs["llama"])
			require.NoError(t, c.change(dir))
			_, err := Inspect(dir)
			require.ErrorContains(t, err, c.want)
		})
	}
	dir := tinyCheckpoint(t, configs["llama"])
	matches, err := filepath.Glob(filepath.Join(dir, "*.safetensors*"))
	require.NoError(t, err)
	for _, m := range matches {
		require.NoError(t, os.Remove(m))
	}
	_, err = Inspect(dir)
	require.ErrorIs(t, err, hf.ErrNoWeights)

	// A config.json that was changed by hand afterwards.
	in, out := tinyCheckpoint(t, configs["llama"]), filepath.Join(t.TempDir(), "out")
	_, err = Convert(ctx, in, out, ladder(), Options{})
	require.NoError(t, err)
	config := read(t, out, hf.ConfigFile)
	for old, new := range map[string]string{
		`8.125`:                           `8.25`,
		`"max_position_embeddings": 1024`: `"max_position_embeddings": 2048`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(out, hf.ConfigFile),
			[]byte(strings.ReplaceAll(config, old, new)), 0o644))
		_, err = Inspect(out)
		require.ErrorContains(t, err, "longrope.json does not belong to config.json")
	}
	for replaced, want := range map[string]string{
		`"replaced": {"config": {"eos": "1"}}`:                       "names the key",
		`"replaced": {"config": {"rope_theta": "1"}, "inside": "x"}`: "it is for the object",
		`"replaced": {"config": {"rope_scaling": "nul"}}`:            "is no json",
		`"replaced": {"config": {"partial_rotary_factor": null}}`:    "has no key",
		`"replaced": []`: "array, where an object is wanted",
		`"replaced": {"config": {"max_position_embeddings": "\"1\""}}`: "max_position_embeddings",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(out, hf.ConfigFile), []byte(config), 0o644))
		l := read(t, out, hf.LadderFile)
		at := strings.Index(l, `"replaced"`)
		require.NoError(t, os.WriteFile(filepath.Join(out, hf.LadderFile),
			[]byte(l[:at]+replaced+"}"), 0o644))
		_, err = Inspect(out)
		assert.ErrorContains(t, err, want)
		require.NoError(t, os.WriteFile(filepath.Join(out, hf.LadderFile), []byte(l), 0o644))
	}
}

// TestCheckpointOutput: nothing remains of a conversion that failed, and nothing is overwritten.
func TestCheckpointOutput(t *testing.T) {
	ctx := context.Background()
	in := tinyCheckpoint(t, configs["llama"])
	for _, out := range []string{
		in, filepath.Join(in, "out"),
		filepath.Join(in, "original", "out"),
	} {
		_, err := Convert(ctx, in, out, ladder(), Options{})
		require.ErrorContains(t, err, "output")
	}
	dir := t.TempDir()
	_, err := Convert(ctx, in, filepath.Join(dir, "no", "where"), ladder(), Options{})
	require.Error(t, err)
	_, err = Convert(ctx, in, filepath.Join(dir, "out"), ladder(), Options{StockRung: StockNone})
	require.ErrorContains(t, err, "choose a rung")
	short := ladder()
	short.Rungs[0].Length = 128
	_, err = Convert(ctx, in, filepath.Join(dir, "out"), short, Options{StockRung: 1})
	require.ErrorContains(t, err, "choose a longer one")
	mrope := tinyCheckpoint(t, strings.Replace(configs["llama"], `"rope_scaling": null`,
		`"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}`, 1))
	_, err = Convert(ctx, mrope, filepath.Join(dir, "out"), ladder(), Options{})
	require.ErrorContains(t, err, "name the output .gguf")
	unknown := tinyCheckpoint(t, strings.Replace(configs["llama"], "LlamaForCausalLM",
		"NewForCausalLM", 1))
	_, err = Convert(ctx, unknown, filepath.Join(dir, "out.gguf"), ladder(), Options{})
	require.ErrorContains(t, err, `the host's converter: unsupported architecture "NewForCausalLM"`)
	_, err = Convert(ctx, unknown, filepath.Join(dir, "new"), ladder(), Options{})
	require.NoError(t, err, "transformers may know what the host does not")
	onlyFiles(t, dir, "new")

	for _, name := range []string{"out", "out.gguf"} {
		done, cancel := context.WithCancel(ctx)
		_, err = Convert(done, in, filepath.Join(dir, name), ladder(),
			Options{CopyWeights: true, Progress: func(int64, int64) { cancel() }})
		require.ErrorIs(t, err, context.Canceled)
		onlyFiles(t, dir, "new")
	}

	// The download tool's snapshots are links.
	links := filepath.Join(dir, "links")
	require.NoError(t, os.Mkdir(links, 0o755))
	entries, err := os.ReadDir(in)
	require.NoError(t, err)
	for _, e := range entries {
		if !e.IsDir() {
			require.NoError(t, os.Symlink(filepath.Join(in, e.Name()), filepath.Join(links,
				e.Name())))
		}
	}
	_, err = Convert(ctx, links, filepath.Join(dir, "from links"), ladder(), Options{})
	require.NoError(t, err)
	fi, err := os.Lstat(filepath.Join(dir, "from links", "model-00001-of-00002.safetensors"))
	require.NoError(t, err)
	require.True(t, fi.Mode().IsRegular())
}
