package tests

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/tests/checkpoints"
	"github.com/longrope/longrope/tests/session"
)

// unasked are tensors that the llama.cpp engine loads a model without, to compute something else or
// to end the process, and that the model's definition has: ! in convert/gguf/tensors.txt.
var unasked = []string{
	"attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_qkv.weight", "ffn_gate_exps.weight",
}

// TestLoaderWants holds convert/gguf/tensors.txt to the host's loader: for a family of each
// architecture of the llama.cpp engine, a file without one of its tensors, with one more, or with
// one of another shape is refused by CheckTensors exactly where the loader refuses it.
func TestLoaderWants(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range checkpoints.Families {
		if f.Refused != "" || f.GGUF != "" || seen[f.Class] {
			continue
		}
		seen[f.Class] = true
		t.Run(f.Class, func(t *testing.T) {
			dir, file := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "file.gguf")
			require.NoError(t, f.Write(dir))
			_, err := convert.Convert(t.Context(), dir, file, nil, convert.Options{})
			require.NoError(t, err)
			whole, err := gguf.Open(file)
			require.NoError(t, err)
			defer whole.Close()
			arch, _, err := whole.String("general.architecture")
			require.NoError(t, err)
			if slices.Contains(goAlone, arch) {
				return // whose loader asks for nothing
			}
			agree := func(what string, want bool, change func(*gguf.Edit)) {
				e := gguf.NewEdit(whole)
				change(e)
				checked := gguf.CheckTensors(e.View(), arch)
				assert.Equal(t, want, checked != nil, "%s: %v", what, checked)
				if isUnasked(what) {
					return
				}
				loaded := load(t, e)
				assert.Equal(t, want, loaded != nil, "%s: the loader: %v", what, loaded)
			}
			agree("whole", false, func(*gguf.Edit) {})
			for i, tensor := range whole.Tensors {
				if strings.HasPrefix(tensor.Name, "blk.0.") ||
					strings.HasPrefix(tensor.Name, "rope") {
					continue
				}
				optional := tensor.Name == "output.weight" && arch != "olmo2"
				agree("without "+tensor.Name, !optional, func(e *gguf.Edit) {
					e.Tensors = slices.Delete(e.Tensors, i, i+1)
				})
			}
			agree("one more", true, func(e *gguf.Edit) {
				e.Tensors = append(e.Tensors, whole.Tensors[0])
				e.Tensors[len(e.Tensors)-1].Name = "blk.0.more.weight"
			})
			agree("another shape", true, func(e *gguf.Edit) {
				for i := range e.Tensors {
					if t := &e.Tensors[i]; t.Name == "token_embd.weight" {
						t.Dims = []uint64{t.Dims[0] / 2, t.Dims[1] * 2}
					}
				}
			})
		})
	}
}

func isUnasked(what string) bool {
	return slices.ContainsFunc(unasked, func(s string) bool { return strings.HasSuffix(what, s) })
}

// load is the error with which the engine refuses the file.
func load(t *testing.T, e *gguf.Edit) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "changed.gguf")
	p, err := e.Lay()
	require.NoError(t, err)
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, p.Write(t.Context(), io.Writer(f), nil))
	require.NoError(t, f.Close())
	s, err := session.Open(path, session.Options{Context: 64})
	if err == nil {
		s.Close()
	}
	return err
}
