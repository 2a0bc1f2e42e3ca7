package searchtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// TinyGGUF is a model file of a few kilobytes: d = 16, L = 128.
func TinyGGUF(arch string) []byte {
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	str := func(s string) { le(uint64(len(s))); b.WriteString(s) }
	u32 := map[string]uint32{
		"context_length": 128, "embedding_length": 64, "block_count": 1, "attention.head_count": 4,
		"attention.head_count_kv": 2, "rope.dimension_count": 16, "feed_forward_length": 64,
	}
	if arch == "bert" {
		delete(u32, "rope.dimension_count")
	}
	keys := []string{
		"context_length", "embedding_length", "block_count", "attention.head_count",
		"attention.head_count_kv", "rope.dimension_count", "feed_forward_length",
	}
	b.WriteString("GGUF")
	le(uint32(3))
	le(uint64(1))
	le(uint64(2 + len(u32)))
	str("general.architecture")
	le(uint32(8))
	str(arch)
	str("general.name")
	le(uint32(8))
	str("tiny")
	for _, k := range keys {
		if v, ok := u32[k]; ok {
			str(arch + "." + k)
			le(uint32(4))
			le(v)
		}
	}
	str("token_embd.weight")
	le(uint32(2))
	le(uint64(64))
	le(uint64(8))
	le(uint32(0))
	le(uint64(0))
	for b.Len()%32 != 0 {
		b.WriteByte(0)
	}
	for i := range 64 * 8 {
		le(float32(i))
	}
	return b.Bytes()
}

// PutInStore makes a store at dir with one model, as the host lays it out.
func PutInStore(dir, name string, gguf []byte) error {
	blob := func(b []byte) (string, error) {
		sum := sha256.Sum256(b)
		digest := hex.EncodeToString(sum[:])
		return "sha256:" + digest, os.WriteFile(
			filepath.Join(dir, "blobs", "sha256-"+digest),
			b,
			0o644,
		)
	}
	model, tag, _ := strings.Cut(name, ":")
	manifests := filepath.Join(dir, "manifests", "registry.ollama.ai", "library", model)
	err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "blobs"), 0o755),
		os.MkdirAll(manifests, 0o755),
	)
	if err != nil {
		return err
	}
	config := []byte(`{"model_format":"gguf","model_family":"llama","rootfs":{"type":"layers"}}`)
	g, err := blob(gguf)
	if err != nil {
		return err
	}
	c, err := blob(config)
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",`+
			`"config":{"mediaType":"application/vnd.docker.container.image.v1+json",`+
			`"digest":%q,"size":%d},`+
			`"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":%q,"size":%d}]}`,
		c,
		len(config),
		g,
		len(gguf),
	)
	return os.WriteFile(filepath.Join(manifests, tag), []byte(manifest), 0o644)
}

// TinyCheckpoint writes a checkpoint folder of the model of TinyGGUF, as transformers 5 does.
func TinyCheckpoint(dir string) error {
	const layer = "model.layers.0."
	tensors, at := make(map[string]any), 0
	for _, t := range []struct {
		name  string
		shape []int
	}{
		{"model.embed_tokens", []int{4, 64}},
		{"model.norm", []int{64}},
		{layer + "input_layernorm", []int{64}},
		{layer + "post_attention_layernorm", []int{64}},
		{layer + "self_attn.q_proj", []int{64, 64}},
		{layer + "self_attn.k_proj", []int{64, 64}},
		{layer + "self_attn.v_proj", []int{64, 64}},
		{layer + "self_attn.o_proj", []int{64, 64}},
		{layer + "mlp.gate_proj", []int{16, 64}},
		{layer + "mlp.up_proj", []int{16, 64}},
		{layer + "mlp.down_proj", []int{64, 16}},
	} {
		size := 2
		for _, n := range t.shape {
			size *= n
		}
		tensors[t.name+".weight"] = map[string]any{
			"dtype": "F16", "shape": t.shape, "data_offsets": []int{at, at + size},
		}
		at += size
	}
	header, err := json.Marshal(tensors)
	if err != nil {
		return err
	}
	weights := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"config.json": `{
  "architectures": ["LlamaForCausalLM"],
  "hidden_size": 64,
  "intermediate_size": 16,
  "max_position_embeddings": 128,
  "num_attention_heads": 4,
  "num_hidden_layers": 1,
  "rms_norm_eps": 1e-05,
  "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
  "vocab_size": 4
}
`,
		"tokenizer.json": `{"added_tokens": [{"id": 0, "content": "<s>", "special": true}], ` +
			`"model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, ` +
			`"merges": ["a b"]}}`,
		"model.safetensors": string(weights) + strings.Repeat("\x00", at),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
