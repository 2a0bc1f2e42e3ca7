package convert

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
)

// configs are the top of a config.json in the ways in which it is found: d = 8, L = 128 in each.
var configs = map[string]string{
	"llama": `{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "hidden_size": 32,
  "intermediate_size": 16,
  "max_position_embeddings": 128,
  "model_type": "llama",
  "num_attention_heads": 4,
  "num_hidden_layers": 1,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-05,
  "rope_scaling": null,
  "rope_theta": 500000.0,
  "vocab_size": 8
}
`,
	"transformers 5": `{
  "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 4,
  "max_position_embeddings": 128,
  "model_type": "llama",
  "num_hidden_layers": 1,
  "num_key_value_heads": 2,
  "rms_norm_eps": 1e-05,
  "rope_parameters": {
    "rope_theta": 500000.0,
    "rope_type": "default"
  },
  "vocab_size": 8
}`,
	"one line": `{"max_position_embeddings":128,"architectures":["LlamaForCausalLM"],"hidden_size":32,"intermediate_size":16,"num_attention_heads":4,"num_hidden_layers":1,"num_key_value_heads":2,"rms_norm_eps":1e-05,"rope_theta":500000.0,"vocab_size":8}`,
	"tabs, no number": "{\n\t\"architectures\" : [\"LlamaForCausalLM\"],\n\t\"note\": [NaN, " +
		"\"Infinity \\\" NaN\", -Infinity],\n\t\"max_position_embeddings\" : " +
		"128,\n\t\"hidden_size\": 32, \"intermediate_size\": 16, \"num_attention_heads\": 4, " +
		"\"num_hidden_layers\": 1,\n\t\"num_key_value_heads\": 2, \"rms_norm_eps\": " +
		"1e-05,\n\t\"rope_theta\": 500000\n}\n",
	"llama 3": `{
  "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 4,
  "max_position_embeddings": 128,
  "num_hidden_layers": 1, "num_key_value_heads": 2, "rms_norm_eps": 1e-05,
  "rope_scaling": {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64, "rope_type": "llama3"
  },
  "rope_theta": 500000.0,
  "vocab_size": 8
}`,
	"linear": `{
  "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 4,
  "max_position_embeddings": 128,
  "num_hidden_layers": 1, "num_key_value_heads": 2, "rms_norm_eps": 1e-05,
  "rope_parameters": {"factor": 2.0, "rope_type": "linear", "rope_theta": 500000.0},
  "vocab_size": 8
}`,
	"phi3": `{
  "architectures": ["Phi3ForCausalLM"],
  "hidden_size": 32,
  "intermediate_size": 16,
  "max_position_embeddings": 128,
  "model_type": "phi3",
  "num_attention_heads": 4,
  "num_hidden_layers": 1,
  "num_key_value_heads": 2,
  "original_max_position_embeddings": 128,
  "rms_norm_eps": 1e-05,
  "rope_scaling": null,
  "rope_theta": 500000.0,
  "sliding_window": null,
  "vocab_size": 8
}
`,
	"part of a head": `{
  "architectures": ["Phi3ForCausalLM"],
  "hidden_size": 64,
  "intermediate_size": 16,
  "max_position_embeddings": 128,
  "num_attention_heads": 4, "num_hidden_layers": 1, "num_key_value_heads": 2,
  "rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 500000.0, "rope_type": "default"},
  "rms_norm_eps": 1e-05,
  "vocab_size": 8
}
`,
	"inside": `{
  "architectures": ["Gemma3ForConditionalGeneration"],
  "text_config": {
    "head_dim": 8, "hidden_size": 32, "intermediate_size": 16,
    "max_position_embeddings": 128,
    "num_attention_heads": 4, "num_hidden_layers": 1, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_parameters": {
      "full_attention": {"rope_theta": 500000.0, "rope_type": "default"},
      "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}
    },
    "sliding_window": 16,
    "vocab_size": 8
  }
}
`,
}

// safetensors writes a file of tensors in F16, all with the same numbers.
func safetensors(shapes map[string][]int, order ...string) []byte {
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	at := 0
	var data []byte
	for _, name := range order {
		n := 1
		for _, d := range shapes[name] {
			n *= d
		}
		header[name] = map[string]any{
			"dtype": "F16", "shape": shapes[name],
			"data_offsets": []int{at, at + 2*n},
		}
		at += 2 * n
		for i := range n {
			data = binary.LittleEndian.AppendUint16(data, uint16(0x3000+i%512))
		}
	}
	b, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...), data...)
}

// tinyShapes are the tensors of a model with one layer, of the width and the architecture that a
// config.json says; the vocabulary has 8 tokens, keys and values have the width 16.
func tinyShapes(config string) map[string][]int {
	c := struct {
		Archs  []string `json:"architectures"`
		Hidden int      `json:"hidden_size"`
	}{[]string{"LlamaForCausalLM"}, 32}
	_ = json.Unmarshal([]byte(config), &c) // without its numbers that are none
	h, kv, f := c.Hidden, c.Hidden/2, 16
	shapes := map[string][]int{
		"model.embed_tokens.weight": {8, h}, "model.norm.weight": {h},
		"model.layers.0.input_layernorm.weight":          {h},
		"model.layers.0.post_attention_layernorm.weight": {h},
		"model.layers.0.self_attn.o_proj.weight":         {h, h},
		"model.layers.0.mlp.down_proj.weight":            {h, f},
	}
	if slices.Contains(c.Archs, "Phi3ForCausalLM") {
		shapes["model.layers.0.self_attn.qkv_proj.weight"] = []int{h + 2*kv, h}
		shapes["model.layers.0.mlp.gate_up_proj.weight"] = []int{2 * f, h}
		return shapes
	}
	maps.Copy(shapes, map[string][]int{
		"model.layers.0.self_attn.q_proj.weight": {h, h},
		"model.layers.0.self_attn.k_proj.weight": {kv, h},
		"model.layers.0.self_attn.v_proj.weight": {kv, h},
		"model.layers.0.mlp.gate_proj.weight":    {f, h},
		"model.layers.0.mlp.up_proj.weight":      {f, h},
	})
	if slices.Contains(c.Archs, "Gemma3ForConditionalGeneration") {
		for name, n := range map[string]int{
			"self_attn.q_norm": h / 4, "self_attn.k_norm": h / 4,
			"pre_feedforward_layernorm": h, "post_feedforward_layernorm": h,
		} {
			shapes["model.layers.0."+name+".weight"] = []int{n}
		}
	}
	return shapes
}

const tinyTokenizer = `{"added_tokens": [{"id": 0, "content": "<s>", "special": true}],
 "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "c": 4, "d": 5, "e": 6, "f": 7}, "merges": ["a b"]}}`

// tinyCheckpoint makes a folder of two shards, with files of other kinds around them.
func tinyCheckpoint(t testing.TB, config string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny")
	put := func(name string, content []byte) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o644))
	}
	put("config.json", []byte(config))
	put("tokenizer.json", []byte(tinyTokenizer))
	put("generation_config.json", []byte(`{"eos_token_id": 0}`))
	put("original/params.json", []byte(`{}`))
	put(".git/config", []byte("x"))
	put("consolidated.safetensors", []byte("not the model's, and not even one"))
	shapes := tinyShapes(config)
	var layer []string
	files := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		files[name] = "model-00001-of-00002.safetensors"
		if strings.Contains(name, ".layers.") {
			files[name], layer = "model-00002-of-00002.safetensors", append(layer, name)
		}
	}
	put("model-00001-of-00002.safetensors", safetensors(shapes, "model.embed_tokens.weight",
		"model.norm.weight"))
	put("model-00002-of-00002.safetensors", safetensors(shapes, layer...))
	index, err := json.Marshal(map[string]any{
		"metadata": map[string]int{"total_size": 1}, "weight_map": files,
	})
	require.NoError(t, err)
	put("model.safetensors.index.json", index)
	return dir
}

func read(t testing.TB, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	require.NoError(t, err)
	return string(b)
}

// ladderOver is ladder with factors over the model's own.
func ladderOver(base *ropescale.Rung) *ropescale.Ladder {
	l := ladder()
	for i := range l.Rungs {
		l.Rungs[i] = l.Rungs[i].Over(base)
	}
	return l
}

// TestCheckpoint: a ladder goes into a folder and comes out of it again, and nothing else changes.
func TestCheckpoint(t *testing.T) {
	ctx := context.Background()
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			in := tinyCheckpoint(t, config)
			info, err := Inspect(in)
			require.NoError(t, err)
			require.Equal(t, 128, info.OriginalContextLength)
			require.Equal(t, 8, info.RopeDimensionCount)
			require.Equal(t, 500000.0, info.FreqBase)
			parameters := 0
			for _, shape := range tinyShapes(config) {
				n := 1
				for _, d := range shape {
					n *= d
				}
				parameters += n
			}
			require.EqualValues(t, parameters, info.ParameterCount)

			out := filepath.Join(t.TempDir(), "out")
			l := ladderOver(info.Base)
			r, err := Convert(ctx, in, out, l, Options{})
			require.NoError(t, err)
			onlyFiles(t, filepath.Dir(out), "out")
			notes := strings.Join(r.Notes, "\n")
			assert.Contains(t, notes, "no start window: the first 16 tokens")
			assert.Contains(t, notes, "the rungs for 512 tokens are in longrope.json alone")
			assert.Contains(t, notes, "texts of up to 128 tokens get 1.1 too")

			got, err := Inspect(out)
			require.NoError(t, err)
			require.Equal(t, 1024, got.ContextLength)
			require.Equal(t, 128, got.OriginalContextLength)
			require.Equal(t, r.Ladder.Digest(), got.Ladder.Digest())
			require.Equal(t, l.Rungs, got.Ladder.Rungs)
			require.Equal(t, l.Source, got.Ladder.Source)
			require.Equal(t, info.Base, got.Base)
			require.Equal(t, info.Scaling, got.Scaling)
			// As transformers runs it.
			require.Equal(t, []int{128, 1024},
				[]int{got.Transformers.Rungs[0].Length, got.Transformers.Rungs[1].Length})
			require.Equal(t, l.Rungs[1].Factors, got.Transformers.Rungs[1].Factors)
			require.Equal(t, 0, got.Transformers.Rungs[1].StartWindow)
			require.Equal(t, 1.1, got.Transformers.Rungs[0].AttentionFactor)

			// The weights are the same files, all others are copies.
			for _, file := range []string{
				"model-00001-of-00002.safetensors",
				"model-00002-of-00002.safetensors", "consolidated.safetensors", "tokenizer.json",
				"original/params.json", "model.safetensors.index.json",
			} {
				a, err := os.Stat(filepath.Join(in, file))
				require.NoError(t, err)
				b, err := os.Stat(filepath.Join(out, file))
				require.NoError(t, err)
				assert.Equal(t, strings.HasSuffix(file, ".safetensors"), os.SameFile(a, b), file)
				assert.Equal(t, read(t, in, file), read(t, out, file))
			}
			assert.NoFileExists(t, filepath.Join(out, ".git/config"))

			// Another ladder replaces the first, and both leave without a trace.
			again := filepath.Join(t.TempDir(), "again")
			_, err = Convert(ctx, out, again, l, Options{StockRung: 1, CopyWeights: true})
			require.NoError(t, err)
			shorter, err := Inspect(again)
			require.NoError(t, err)
			require.Equal(t, 512, shorter.ContextLength)
			require.Equal(t, l.Rungs, shorter.Ladder.Rungs)
			for i, dir := range []string{out, again} {
				back := filepath.Join(t.TempDir(), "back")
				_, err = Strip(ctx, dir, back, Options{})
				require.NoError(t, err)
				require.Equal(t, config, read(t, back, "config.json"), i)
				require.NoFileExists(t, filepath.Join(back, "longrope.json"))
			}
			_, err = Strip(ctx, in, filepath.Join(t.TempDir(), "x"), Options{})
			require.ErrorIs(t, err, gguf.ErrNoLadder)
		})
	}
}

// TestCheckpointToGGUF: the host's converter and this package agree about the model, and the ladder
// arrives, whether it is given or carried.
func TestCheckpointToGGUF(t *testing.T) {
	ctx := context.Background()
	for name, config := range configs {
		t.Run(name, func(t *testing.T) {
			in := tinyCheckpoint(t, config)
			info, err := Inspect(in)
			require.NoError(t, err)
			plain := filepath.Join(t.TempDir(), "plain.gguf")
			_, err = Convert(ctx, in, plain, nil, Options{})
			require.NoError(t, err)
			onlyFiles(t, filepath.Dir(plain), "plain.gguf")
			p, err := Inspect(plain)
			require.NoError(t, err)
			assert.Equal(t, info.OriginalContextLength, p.OriginalContextLength)
			assert.Equal(t, info.ContextLength, p.ContextLength)
			assert.Equal(t, info.RopeDimensionCount, p.RopeDimensionCount)
			assert.Equal(t, info.FreqBase, p.FreqBase)
			// the host's converter always writes factors for it
			if name != "phi3" && name != "part of a head" {
				assert.Equal(t, info.Scaling, p.Scaling)
			}
			if info.Base == nil {
				assert.Nil(t, p.Base)
			} else {
				assert.InDeltaSlice(t, info.Base.Factors, p.Base.Factors, 1e-5)
			}

			l := ladderOver(info.Base)
			var last []int64
			opts := Options{Progress: func(done, total int64) { last = []int64{done, total} }}
			given := filepath.Join(t.TempDir(), "given.gguf")
			_, err = Convert(ctx, in, given, l, opts)
			require.NoError(t, err)
			require.Equal(t, last[1], last[0])
			folder := filepath.Join(t.TempDir(), "folder")
			_, err = Convert(ctx, in, folder, l, Options{})
			require.NoError(t, err)
			kept := filepath.Join(t.TempDir(), "kept.gguf")
			_, err = Convert(ctx, folder, kept, nil, Options{})
			require.NoError(t, err)
			require.Equal(t, read(t, given), read(t, kept), "by way of a folder")
			g, err := Inspect(kept)
			require.NoError(t, err)
			require.Len(t, g.Ladder.Rungs, 2)
			assert.Equal(t, 1024, g.ContextLength)
			assert.InDeltaSlice(t, l.Rungs[1].Factors, g.Ladder.Rungs[1].Factors, 1e-5)

			back := filepath.Join(t.TempDir(), "back.gguf")
			_, err = Strip(ctx, given, back, Options{})
			require.NoError(t, err)
			require.Equal(t, read(t, plain), read(t, back))
		})
	}
}

// TestPublished: checkpoints as their authors trained them, in the spellings that there are.
func TestPublished(t *testing.T) {
	const head = `{"architectures": [%q], "hidden_size": 32, "intermediate_size": 16, "max_position_embeddings": 4096, "num_attention_heads": 4,
 "num_hidden_layers": 1, "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "vocab_size": 8, %s}`
	const factors = `"short_factor": [1, 1.05, 1.1, 1.3], "long_factor": [1.5, 2.25, 2, 31.5]`
	formula := math.Sqrt(1 + math.Log(32)/math.Log(128))
	for name, c := range map[string]struct {
		arch, rest  string
		short, long float64
	}{
		"phi-3": {
			"Phi3ForCausalLM",
			`"original_max_position_embeddings": 128, "rope_theta": 10000.0, "rope_scaling": {"type": "su", ` + factors + `}`, formula, formula,
		},
		"phi-4": {
			"Phi3ForCausalLM",
			`"original_max_position_embeddings": 128, "rope_theta": 10000.0, "rope_scaling": {"type": "longrope", ` + factors + `}`, formula, formula,
		},
		"transformers 5": {
			"Phi3ForCausalLM",
			`"original_max_position_embeddings": 128, "rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 128, "attention_factor": 1.25, "rope_theta": 10000.0, ` + factors + `}`, 1.25, 1.25,
		},
		"llama": {
			"LlamaForCausalLM",
			`"rope_parameters": {"rope_type": "longrope", "factor": 32.0, "original_max_position_embeddings": 128, "rope_theta": 10000.0, ` + factors + `}`, formula, formula,
		},
		"both spellings": {
			"LlamaForCausalLM",
			`"original_max_position_embeddings": 128, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "longrope", "short_mscale": 1.0, "long_mscale": 1.25, ` + factors + `}, "rope_parameters": {"rope_type": "default"}`, 1, 1.25,
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := tinyCheckpoint(t, fmt.Sprintf(head, c.arch, c.rest))
			info, err := Inspect(in)
			require.NoError(t, err)
			assert.Equal(t, 128, info.OriginalContextLength)
			assert.Equal(t, 4096, info.ContextLength)
			assert.Equal(t, "longrope", info.Scaling)
			assert.Equal(t, []float64{1, 1.05, 1.1, 1.3}, info.Base.Factors)
			assert.Equal(t, 128, info.Base.Length)
			assert.InDelta(t, c.short, info.Base.AttentionFactor, 1e-12)
			assert.Equal(t, 4096, info.Own.Length)
			assert.Equal(t, []float64{1.5, 2.25, 2, 31.5}, info.Own.Factors)
			assert.InDelta(t, c.long, info.Own.AttentionFactor, 1e-12)

			out := filepath.Join(t.TempDir(), "out.gguf")
			_, err = Convert(context.Background(), in, out, nil, Options{})
			require.NoError(t, err)
			g, err := Inspect(out)
			require.NoError(t, err)
			require.Len(t, g.Ladder.Rungs, 1)
			assert.Equal(t, 4096, g.ContextLength)
			assert.Equal(t, 128, g.Ladder.OriginalContextLength)
			assert.InDeltaSlice(t, info.Base.Factors, g.Ladder.Base.Factors, 1e-6)
			assert.InDelta(t, c.short, g.Ladder.Base.AttentionFactor, 1e-6)
			assert.InDeltaSlice(t, info.Own.Factors, g.Ladder.Rungs[0].Factors, 1e-6)
			assert.InDelta(t, c.long, g.Ladder.Rungs[0].AttentionFactor, 1e-6)

			// A longer rung goes behind the model's own.
			rung := ropescale.Rung{
				Length: 8192, AttentionFactor: 1.3,
				Factors: []float64{2, 3, 4, 64},
			}
			l := &ropescale.Ladder{
				Version: 1, OriginalContextLength: 128, RopeDimensionCount: 8,
				Rungs: []ropescale.Rung{rung},
			}
			folder := filepath.Join(t.TempDir(), "longer")
			r, err := Convert(context.Background(), in, folder, l, Options{})
			require.NoError(t, err)
			require.Len(t, r.Ladder.Rungs, 2)
			longer, err := Inspect(folder)
			require.NoError(t, err)
			assert.Equal(t, 8192, longer.ContextLength)
			assert.Equal(t, rung.Factors, longer.Transformers.Rungs[1].Factors)
			assert.Equal(t, info.Base.Factors, longer.Transformers.Rungs[0].Factors)
		})
	}
}
