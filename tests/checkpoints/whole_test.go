package checkpoints

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
)

// converts are the errors of converting a family with other tensors to a folder and to a GGUF.
func converts(t *testing.T, f *Family, change func([]shape) []shape) (folder, file error) {
	t.Helper()
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	require.NoError(t, f.write(in, change))
	out := filepath.Join(dir, "out.gguf")
	_, file = convert.Convert(t.Context(), in, out, nil, convert.Options{})
	if file != nil {
		require.NoFileExists(t, out)
	}
	_, folder = convert.Convert(t.Context(), in, filepath.Join(dir, "folder"), f.Ladder(),
		convert.Options{})
	if folder != nil {
		require.NoDirExists(t, filepath.Join(dir, "folder"))
	}
	return folder, file
}

// one is a family of each layout that becomes a GGUF.
func one() (fs []Family) {
	seen := make(map[string]bool)
	for _, f := range Families {
		if f.Refused == "" && f.GGUF == "" && !seen[f.Layout+f.Class] {
			seen[f.Layout+f.Class] = true
			fs = append(fs, f)
		}
	}
	return fs
}

// layer is a tensor's name from its number of the layer on, "" outside of layers.
func layer(name string, i string) string {
	_, rest, ok := strings.Cut(name, ".layers."+i+".")
	if !ok {
		return ""
	}
	return rest
}

// TestMissing: a checkpoint without one of its tensors is refused, by the name of that tensor where
// other layers have it; so is one whose last layer is missing, or that has nothing.
func TestMissing(t *testing.T) {
	for _, f := range one() {
		t.Run(f.ID(), func(t *testing.T) {
			var all []shape
			_, err := converts(t, &f, func(s []shape) []shape { all = s; return s })
			require.NoError(t, err)
			for _, gone := range all {
				kind := layer(gone.name, "1")
				if kind == "" && strings.Contains(gone.name, ".layers.") {
					continue
				}
				without := func(s []shape) []shape {
					return slices.DeleteFunc(slices.Clone(s), func(s shape) bool {
						return s.name == gone.name
					})
				}
				folder, file := converts(t, &f, without)
				require.Error(t, file, gone.name)
				if kind == "" {
					if !strings.HasSuffix(gone.name, ".bias") {
						require.ErrorContains(t, folder, "no tensor is the ", gone.name)
					}
					continue
				}
				require.ErrorContains(t, file, gone.name+" is missing")
				require.ErrorContains(t, folder, gone.name+" is missing")
				everywhere := func(s []shape) []shape {
					return slices.DeleteFunc(slices.Clone(s), func(s shape) bool {
						_, rest, _ := strings.Cut(s.name, ".layers.")
						_, rest, _ = strings.Cut(rest, ".")
						return rest == kind
					})
				}
				_, file = converts(t, &f, everywhere)
				require.Error(t, file, "%s of every layer", kind)
			}
			folder, file := converts(t, &f, func(s []shape) []shape {
				return slices.DeleteFunc(slices.Clone(s), func(s shape) bool {
					return layer(s.name, "1") != ""
				})
			})
			require.ErrorContains(t, file, "layers.1.")
			require.ErrorContains(t, folder, "layers.1.")
			folder, file = converts(t, &f, func([]shape) []shape { return nil })
			require.ErrorContains(t, file, "no tensors")
			require.ErrorContains(t, folder, "no tensors")
		})
	}
}

// TestExtra: tensors that the loader would refuse are an error, and a layer that
// config.json does not count; buffers of old versions of transformers are left out.
func TestExtra(t *testing.T) {
	for _, f := range one() {
		plus := func(more ...shape) func([]shape) []shape {
			return func(s []shape) []shape { return append(slices.Clone(s), more...) }
		}
		_, file := converts(t, &f, plus(shape{
			"model.layers.0.self_attn.rotary_emb.inv_freq",
			[]int{f.Dims / 2},
		}))
		assert.NoError(t, file, f.ID())
		_, file = converts(t, &f, plus(shape{
			"model.layers.6.input_layernorm.weight",
			[]int{64},
		}))
		if f.Layout != "deepseek" { // of which the host's converter leaves them out: they predict
			assert.ErrorContains(t, file, "6", f.ID())
		}
	}
	f := Families[0]
	_, file := converts(t, &f, func(s []shape) []shape {
		return append(slices.Clone(s), shape{"model.layers.0.extra.weight", []int{64}},
			shape{"model.layers.1.extra.weight", []int{64}})
	})
	assert.ErrorContains(t, file, `refuses files with the tensor "blk.0.extra.weight"`)
	_, file = converts(t, &f, func(s []shape) []shape {
		s = slices.Clone(s)
		for i := range s {
			if layer(s[i].name, "1") == "mlp.up_proj.weight" {
				s[i].dims = []int{60, 256}
			}
		}
		return s
	})
	assert.ErrorContains(t, file, `"blk.1.ffn_up.weight" has the shape [256 60]`)
}
