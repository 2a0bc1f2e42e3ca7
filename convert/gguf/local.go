package gguf

import (
	"errors"
	"fmt"
)

// ErrLocalRoPE: the model has RoPE only in layers that attend to a window or a chunk. These never
// see further than they were trained to, the other layers tell no positions, so a ladder would
// change nothing.
var ErrLocalRoPE = errors.New("model has RoPE only in local (sliding-window or chunked) layers: " +
	"a ladder would have no effect beyond their window")

// CheckLocalRoPE is ErrLocalRoPE for a model whose layers, by what the host makes of the file, are
// of that kind: see load_hparams (llama-model.cpp of ollama v0.17.4), and the files that build the
// graphs of these architectures.
func CheckLocalRoPE(f *File, arch string) error {
	var local bool
	switch arch {
	case "cohere2":
		local = true
	// of 32 billion parameters, whose windows the host knows by the number of blocks
	case "exaone4":
		blocks, _, err := f.Int(arch + ".block_count")
		if err != nil {
			return err
		}
		local = blocks == 64
	case "llama4", "afmoe", "smallthinker":
		window, ok, err := f.Int(arch + ".attention.sliding_window")
		if err != nil {
			return err
		}
		local = window > 0 || arch == "llama4" && !ok
	}
	if local {
		return fmt.Errorf("%s: architecture %s: %w", f.Path, arch, ErrLocalRoPE)
	}
	return nil
}
