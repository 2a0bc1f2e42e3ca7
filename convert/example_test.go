package convert_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// A ladder made by a formula goes into a model, and out again.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	in, out := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "model-1k.gguf")
	if err := os.WriteFile(in, metadataOnly(), 0o644); err != nil {
		panic(err)
	}

	info, err := convert.Inspect(in)
	if err != nil {
		panic(err)
	}
	fmt.Println(info.Architecture, info.ContextLength, "tokens,", info.RopeDimensionCount,
		"rotary dimensions")
	rung, err := ropescale.YaRN(info.Rope(), 1024, ropescale.MethodOptions{})
	if err != nil {
		panic(err)
	}
	ladder, err := ropescale.NewLadder(info.Rope(), info.Base, rung)
	if err != nil {
		panic(err)
	}
	report, err := convert.Convert(context.Background(), in, out, ladder, convert.Options{})
	if err != nil {
		panic(err)
	}
	for _, c := range report.Changes[:2] {
		fmt.Printf("%s: %s -> %s\n", c.Key, c.Old, c.New)
	}
	fmt.Println("unpatched host:", report.Stock.Notes[0])

	if _, err := convert.Strip(context.Background(), out, filepath.Join(dir, "back.gguf"),
		convert.Options{}); err != nil {
		panic(err)
	}
	back, err := os.ReadFile(filepath.Join(dir, "back.gguf"))
	if err != nil {
		panic(err)
	}
	fmt.Println("the same again:", string(back) == string(metadataOnly()))
	// Output:
	// llama 128 tokens, 8 rotary dimensions
	// llama.context_length: 128 -> 1024
	// llama.rope.scaling.attn_factor:  -> 1.20794
	// unpatched host: it applies rung 1 (1024 tokens) at every length, without a start window
	// the same again: true
}

// metadataOnly is the smallest model file that says something about RoPE.
func metadataOnly() []byte {
	le := binary.LittleEndian
	str := func(b []byte, s string) []byte {
		return append(le.AppendUint64(b, uint64(len(s))),
			s...)
	}
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, 3)
	b = str(le.AppendUint32(str(b, "general.architecture"), 8), "llama")
	b = le.AppendUint32(le.AppendUint32(str(b, "llama.context_length"), 4), 128)
	b = le.AppendUint32(le.AppendUint32(str(b, "llama.rope.dimension_count"), 4), 8)
	return append(b, make([]byte, 32-len(b)%32)...)
}
