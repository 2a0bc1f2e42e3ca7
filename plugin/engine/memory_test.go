//go:build cgo

package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/format"
	"github.com/ollama/ollama/fs/ggml"
	"github.com/ollama/ollama/ml"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/plugin/memory"
	"github.com/longrope/longrope/ropescale"
)

// hole stands for the content of tensors that nobody reads.
type hole struct{}

func (hole) WriteTo(io.Writer) (int64, error) { return 0, nil }

// geometry is a model without its weights, which would be Q4_0.
type geometry struct{ layers, embedding, heads, headsKV, ffn, vocab int }

// write makes the file, of which all but the header is a hole.
func (g geometry) write(t *testing.T) string {
	t.Helper()
	kv := ggml.KV{
		"general.architecture": "llama", "llama.block_count": uint32(g.layers),
		"llama.embedding_length":        uint32(g.embedding),
		"llama.attention.head_count":    uint32(g.heads),
		"llama.attention.head_count_kv": uint32(g.headsKV),
		"llama.feed_forward_length":     uint32(g.ffn), "llama.context_length": uint32(8192),
		"llama.rope.dimension_count": uint32(g.embedding / g.heads),
		"tokenizer.ggml.tokens":      make([]string, g.vocab),
	}
	var ts []*ggml.Tensor
	add := func(name string, shape ...uint64) {
		ts = append(ts, &ggml.Tensor{Name: name, Kind: 2, Shape: shape, WriterTo: hole{}})
	}
	e, k := uint64(g.embedding), uint64(g.embedding/g.heads*g.headsKV)
	ffn, vocab := uint64(g.ffn), uint64(g.vocab)
	add("token_embd.weight", e, vocab)
	add("output.weight", e, vocab)
	add("output_norm.weight", e)
	for i := range g.layers {
		blk := fmt.Sprintf("blk.%d.", i)
		add(blk+"attn_q.weight", e, e)
		add(blk+"attn_k.weight", e, k)
		add(blk+"attn_v.weight", e, k)
		add(blk+"attn_output.weight", e, e)
		add(blk+"ffn_gate.weight", e, ffn)
		add(blk+"ffn_up.weight", e, ffn)
		add(blk+"ffn_down.weight", ffn, e)
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	w, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, errors.Join(ggml.WriteGGUF(w, kv, ts), w.Truncate(64<<30), w.Close()))
	return path
}

// TestMachine: the table of what rungs need, on simulated GPUs. Its caches are those of the host's
// own estimate, and the rung that it names is the one that TestFitContext, of the patched host's
// package llm, has loaded whole by the host's layout.
func TestMachine(t *testing.T) {
	lengths := []int{16384, 32768, 65536, 131072, 262144, 524288, 1048576}
	for name, c := range map[string]struct {
		geometry
		fits map[uint64]int // by GiB of the GPU, f16
	}{
		"Llama-3-8B": {
			geometry{32, 4096, 32, 8, 14336, 128256},
			map[uint64]int{8: 16384, 12: 32768, 24: 65536, 80: 262144},
		},
		"SmolLM2-135M": {
			geometry{30, 576, 9, 3, 1536, 49152},
			map[uint64]int{8: 131072, 12: 262144, 24: 524288, 80: 1048576},
		},
	} {
		path := c.write(t)
		info, err := convert.Inspect(path)
		require.NoError(t, err)
		r, err := os.Open(path)
		require.NoError(t, err)
		host, err := ggml.Decode(r, 1024)
		require.NoError(t, err)
		r.Close()
		pairs := c.embedding / c.heads / 2
		ladder := &ropescale.Ladder{OriginalContextLength: 8192, RopeDimensionCount: 2 * pairs}
		for _, n := range lengths {
			for _, kind := range convert.CacheKinds {
				want := float64(host.MemoryFor(n, ggml.Use{
					Batch: 512, Parallel: 1,
					KVCacheType: kind,
				}).Cache)
				got := float64(info.CacheBytes(n, kind))
				if kind == "f16" {
					assert.Equal(t, want, got, "%s, %d tokens", name, n)
				}
				// the host leaves the scales of quantized blocks out of account
				assert.LessOrEqual(t, want, got, "%s, %d tokens, %s", name, n, kind)
				assert.LessOrEqual(t, got, want*18/16, "%s, %d tokens, %s", name, n, kind)
			}
			ladder.Rungs = append(ladder.Rungs, ropescale.Rung{
				Length: n, AttentionFactor: 1, Factors: make([]float64, pairs),
			})
		}
		for size, longest := range c.fits {
			gpu := ml.DeviceInfo{
				DeviceID: ml.DeviceID{Library: "CUDA", ID: "0"}, Description: "a GPU",
				TotalMemory: size * format.GibiByte, FreeMemory: size * format.GibiByte,
			}
			u := memory.Of(info, ladder, Machine(path, []ml.DeviceInfo{gpu}))
			require.NotNil(t, u)
			assert.Equal(t, longest, u.Fits["f16"], "%s, %d GiB", name, size)
			assert.GreaterOrEqual(t, u.Fits["q8_0"], longest)
			assert.GreaterOrEqual(t, u.Fits["q4_0"], u.Fits["q8_0"])
			text := u.Text(func([]string, [][]string, int) string { return "" })
			assert.Contains(t, text, fmt.Sprintf("CUDA a GPU %d.0 GiB free of %[1]d.0 GiB", size))
			assert.Regexp(t, "the longest rung that fits on the GPU: f16 [0-9,]+, q8_0 ", text)
		}
	}
}
