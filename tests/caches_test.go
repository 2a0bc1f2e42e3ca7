package tests

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

// slidingModel is an olmo2 with the default model's first four layers: 0 to 2 have a sliding window
// and a cache of their own, and the last, 3, alone takes rows.
func slidingModel(t *testing.T) string {
	f, err := reference.Read(defaultmodel.Model)
	require.NoError(t, err)
	f.SetArchitecture("olmo2")
	f.Set("olmo2.attention.sliding_window", uint32(16))
	f.Set("olmo2.block_count", uint32(4))
	f.Tensors = slices.DeleteFunc(f.Tensors,
		func(tensor reference.Tensor) bool { return strings.HasPrefix(tensor.Name, "blk.4.") })
	var more []reference.Tensor
	ones := func(name string, n uint64) {
		data := make([]float32, n)
		for i := range data {
			data[i] = 1
		}
		more = append(more, reference.Tensor{Name: name, Dims: []uint64{n}, Data: data})
	}
	for i, tensor := range f.Tensors {
		layer, norm, _ := strings.Cut(tensor.Name, "attn_norm")
		switch {
		case norm != "":
			f.Tensors[i].Name = layer + "post_attention_norm.weight"
			ones(layer+"attn_q_norm.weight", 256)
			ones(layer+"attn_k_norm.weight", 128)
		case strings.HasSuffix(tensor.Name, "ffn_norm.weight"):
			f.Tensors[i].Name = strings.Replace(tensor.Name, "ffn_norm", "post_ffw_norm", 1)
		case tensor.Name == "token_embd.weight":
			more = append(more,
				reference.Tensor{Name: "output.weight", Dims: tensor.Dims, Data: tensor.Data})
		}
	}
	f.Tensors = append(f.Tensors, more...)
	path := filepath.Join(t.TempDir(), "sliding.gguf")
	require.NoError(t, f.WriteFile(path))
	return path
}

// hybridModel is a granitehybrid with the default model's layers 0 to 3 and a Mamba layer of noise
// for the last.
func hybridModel(t *testing.T) string {
	f, err := reference.Read(defaultmodel.Model)
	require.NoError(t, err)
	f.SetArchitecture("granitehybrid")
	const inner, state, heads, groups, conv = 512, 16, 8, 1, 4
	for key, value := range map[string]any{
		"ssm.conv_kernel": uint32(conv), "ssm.inner_size": uint32(inner),
		"ssm.state_size": uint32(state), "ssm.time_step_rank": uint32(heads),
		"ssm.group_count": uint32(groups), "attention.head_count_kv": []uint32{2, 2, 2, 2, 0},
	} {
		f.Set("granitehybrid."+key, value)
	}
	kept := f.Tensors[:0:0]
	for _, tensor := range f.Tensors {
		if !strings.HasPrefix(tensor.Name, "blk.4.attn_") ||
			tensor.Name == "blk.4.attn_norm.weight" {
			kept = append(kept, tensor)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for name, dims := range map[string][]uint64{
		"ssm_in.weight":     {256, 2*inner + 2*groups*state + heads},
		"ssm_conv1d.weight": {conv, inner + 2*groups*state},
		"ssm_conv1d.bias":   {inner + 2*groups*state},
		"ssm_dt.bias":       {heads}, "ssm_a": {1, heads}, "ssm_d": {1, heads},
		"ssm_norm.weight": {inner / groups, groups}, "ssm_out.weight": {inner, 256},
	} {
		tensor := reference.Tensor{Name: "blk.4." + name, Dims: dims}
		tensor.Data = make([]float32, tensor.Len())
		for i := range tensor.Data {
			tensor.Data[i] = float32(rng.NormFloat64()) / 16
		}
		if name == "ssm_a" {
			for i := range tensor.Data {
				tensor.Data[i] = -1
			}
		}
		kept = append(kept, tensor)
	}
	f.Tensors = kept
	path := filepath.Join(t.TempDir(), "hybrid.gguf")
	require.NoError(t, f.WriteFile(path))
	return path
}

// In a model with sliding windows, and in a hybrid with recurrent layers, keys of the first layer
// that takes rows are after a crossing, a copy, and a save what a fresh run on the new rung has. Of
// the sliding model they are all that depends on the rung, so its logits are those of a fresh run
// too.
func TestRerotateCaches(t *testing.T) {
	l := rungLadder(t, defaultLlama(t).Rope)
	for _, c := range []struct {
		name, path string
		exact      bool
	}{
		{"sliding window", slidingModel(t), true},
		{"hybrid", hybridModel(t), false},
	} {
		for _, unified := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/unified=%v", c.name, unified), func(t *testing.T) {
				s := open(t, c.path, session.Options{Context: 128, Sequences: 3, Unified: unified})
				require.NoError(t, s.SetLadder(l))
				const n, more = 70, 10
				tokens := someTokens(n+more, s.Vocab(), 1)
				near := func(want, got map[int][]float32) (far float64) {
					require.Len(t, got, len(want))
					for p := range want {
						for i := 0; i < len(want[p]); i += 64 {
							// a head: two rotations in float32, as in keyDeviation
							var d, size []float64
							for j := i; j < i+64; j++ {
								d, size = append(d, float64(want[p][j]-got[p][j])), append(size,
									float64(want[p][j]))
							}
							far = max(far, norm(d...)/norm(size...))
						}
					}
					return far
				}
				const bound = 4.0 / (1 << 17)
				keys := func(seq int) map[int][]float32 {
					k, err := s.Keys(seq)
					require.NoError(t, err)
					return k
				}

				fresh := prefill(t, s, 0, 2, tokens, 512)
				require.NoError(t, s.Remove(0, 0, -1))
				prefill(t, s, 0, 2, tokens[:n], 512)
				want := keys(0)
				prefill(t, s, 1, 1, tokens[:n], 512)
				old := keys(1)
				assert.Greater(t, near(want, old), 100*bound, "the rungs give the same")
				prefill(t, s, 2, 0, tokens[:n/2], 512) // stays as it is
				others := keys(2)

				require.NoError(t, s.SetRung(1, 2))
				t.Logf("keys are off by %.2g, bound %.2g", near(want, keys(1)), bound)
				assert.LessOrEqual(t, near(want, keys(1)), bound)
				assert.Equal(t, others, keys(2))

				state, err := s.State(1)
				require.NoError(t, err)
				require.NoError(t, s.Remove(2, -1, -1))
				require.NoError(t, s.SetState(2, state))
				require.Equal(t, 2, s.Rung(2))
				assert.Equal(t, keys(1), keys(2))
				got, err := s.Prefill(tokens[n:], 2, n, 512)
				require.NoError(t, err)
				if c.exact {
					d := compare(t, fresh[n:], got)
					t.Log(d)
					assert.LessOrEqual(t, d.worst, sameSums*d.largest)
				}
			})
		}
	}
}
