//go:build cgo

package engine

import (
	"cmp"
	"os"

	"github.com/ollama/ollama/discover"
	"github.com/ollama/ollama/envconfig"
	"github.com/ollama/ollama/fs/ggml"
	"github.com/ollama/ollama/ml"

	"github.com/longrope/longrope/plugin/memory"
)

// Machine is the memory of the machine and of GPUs, for the GGUF at path.
func Machine(path string, gpus []ml.DeviceInfo) memory.Machine {
	s := discover.GetSystemInfo()
	m := memory.Machine{
		Devices: []memory.Device{{Name: "this machine", Free: s.FreeMemory, Total: s.TotalMemory}},
		Longest: func(lengths []int, kind string) int {
			return longestThatFits(path, lengths, kind, gpus)
		},
	}
	for _, d := range gpus {
		m.Devices = append(m.Devices, memory.Device{
			Name: d.Library + " " + cmp.Or(d.Description, d.Name), Free: d.FreeMemory,
			Total: d.TotalMemory,
		})
	}
	return m
}

// longestThatFits is the longest of the lengths, in tokens, that the host's server would choose for
// the GGUF at path with caches of a kind: all of it on the GPUs, or if there are none in the memory
// of the machine. 0 if none fits, and if the file does not say enough.
func longestThatFits(path string, lengths []int, kind string, gpus []ml.DeviceInfo) int {
	r, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer r.Close()
	f, err := ggml.Decode(r, 1024)
	if err != nil || f.KV().Value("tokenizer.ggml.tokens") == nil || f.KV().BlockCount() == 0 {
		return 0
	}
	use := ggml.Use{
		Batch: 512, Parallel: max(int(envconfig.NumParallel()), 1), KVCacheType: kind,
		FlashAttention: ml.FlashAttentionAuto, Overhead: envconfig.GpuOverhead(),
	}
	if kind != "f16" { // which takes it
		use.FlashAttention = ml.FlashAttentionEnabled
	}
	return f.LongestThatFits(lengths, 0, use, gpus, discover.GetSystemInfo())
}
