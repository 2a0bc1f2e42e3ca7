package longrope

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// fake is a model whose best factors are known: at twice L or more they rise as a square root from 1 to s, with attention
// factor 1.05. A token is a byte. Environment variables, which a script sets, make it slow, deaf or broken.
type fake struct {
	info   evals.Info
	base   *ropescale.Rung
	file   *ropescale.Ladder // what the model carries
	ladder *ropescale.Ladder
}

// openFake reads what the model file says, as the engine does.
func openFake(path string, o openOptions) (runner, error) {
	if o.Length > 1<<17 || os.Getenv("FAKE_BROKEN_WORKER") != "" && slices.Contains(os.Args, "worker") {
		return nil, fmt.Errorf("%s at %d tokens: out of memory", path, o.Length)
	}
	mi, err := convert.Inspect(path)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		o.Progress(1)
	}
	return &fake{base: mi.Base, file: mi.Ladder, ladder: mi.Ladder, info: evals.Info{
		Model: o.Name, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(b)), Architecture: mi.Architecture, Engine: "fake", Host: "fake host", Backend: "CPU",
		OriginalContextLength: mi.OriginalContextLength, RopeDimensionCount: mi.RopeDimensionCount, FreqBase: mi.FreqBase, VocabSize: 256, MaxLength: o.Length,
	}}, nil
}

func (f *fake) Close()           {}
func (f *fake) Info() evals.Info { return f.info }

func (f *fake) Tokenize(text string, _ bool) ([]int, error) {
	ids := make([]int, len(text))
	for i := range ids {
		ids[i] = int(text[i])
	}
	return ids, nil
}

func (f *fake) Detokenize(tokens []int) (string, error) {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = byte(t)
	}
	return string(b), nil
}

func (f *fake) SetLadder(l *ropescale.Ladder) error {
	if l == nil {
		l = f.file
	}
	if l != nil {
		if err := l.Validate(); err != nil {
			return err
		}
		if l.RopeDimensionCount != f.info.RopeDimensionCount {
			return errors.New("factors do not fit the model")
		}
	}
	f.ladder = l
	return nil
}

// error is how far the factors for n tokens are from the best ones: 0 up to L.
func (f *fake) error(n int) float64 {
	if n <= f.info.OriginalContextLength {
		return 0
	}
	g := ropescale.Rope{Dims: f.info.RopeDimensionCount}.Identity(n)
	if f.ladder != nil {
		g = f.ladder.At(f.ladder.RungFor(n))
	}
	s, sum := float64(n)/float64(f.info.OriginalContextLength), 0.0
	last := float64(max(len(g.Factors)-1, 1))
	for i, x := range g.Factors {
		if f.base != nil {
			x /= f.base.Factors[i]
		}
		d := math.Log(x) - math.Sqrt(float64(i)/last)*math.Log(s)
		sum += d * d
	}
	return sum/float64(len(g.Factors)) + math.Abs(g.AttentionFactor-1.05) + 0.001*math.Abs(float64(g.StartWindow)-16)/16
}

func (f *fake) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	if err := f.wait(ctx); err != nil {
		return nil, err
	}
	out := make([]float64, len(tokens)-from)
	for i := range out {
		out[i] = 2 + float64(tokens[from+i]%7)/100 + f.error(len(tokens))
		if os.Getenv("FAKE_NAN") != "" {
			out[i] = math.NaN()
		}
	}
	return out, nil
}

func (f *fake) wait(ctx context.Context) error {
	delay, _ := time.ParseDuration(os.Getenv("FAKE_DELAY"))
	if os.Getenv("FAKE_DEAF") != "" {
		time.Sleep(delay)
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(delay):
		return ctx.Err()
	}
}

var hidden = regexp.MustCompile(`pass key is ([0-9]+)\.`)

// Generate finds the key while the factors are good enough.
func (f *fake) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	if err := f.wait(ctx); err != nil {
		return nil, err
	}
	text, _ := f.Detokenize(tokens)
	answer := " 0."
	if m := hidden.FindStringSubmatch(text); m != nil && f.error(len(tokens)+n) < 0.5 {
		answer = " " + m[1] + "."
	}
	ids, _ := f.Tokenize(answer, false)
	return ids[:min(n, len(ids))], nil
}

// tinyGGUF is a model file of a few kilobytes: d = 16, L = 128.
func tinyGGUF(arch string) []byte {
	var b bytes.Buffer
	le := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	str := func(s string) { le(uint64(len(s))); b.WriteString(s) }
	u32 := map[string]uint32{"context_length": 128, "embedding_length": 64, "block_count": 1, "attention.head_count": 4,
		"attention.head_count_kv": 2, "rope.dimension_count": 16, "feed_forward_length": 64}
	if arch == "bert" {
		delete(u32, "rope.dimension_count")
	}
	keys := []string{"context_length", "embedding_length", "block_count", "attention.head_count", "attention.head_count_kv", "rope.dimension_count", "feed_forward_length"}
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

// putInStore makes a store at dir with one model, as the host lays it out.
func putInStore(dir, name string, gguf []byte) error {
	blob := func(b []byte) (string, error) {
		sum := sha256.Sum256(b)
		digest := hex.EncodeToString(sum[:])
		return "sha256:" + digest, os.WriteFile(filepath.Join(dir, "blobs", "sha256-"+digest), b, 0o644)
	}
	model, tag, _ := strings.Cut(name, ":")
	manifests := filepath.Join(dir, "manifests", "registry.ollama.ai", "library", model)
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "blobs"), 0o755), os.MkdirAll(manifests, 0o755)); err != nil {
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
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",`+
		`"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":%q,"size":%d}]}`, c, len(config), g, len(gguf))
	return os.WriteFile(filepath.Join(manifests, tag), []byte(manifest), 0o644)
}

// tinyCheckpoint writes a checkpoint folder of the model of tinyGGUF, as transformers 5 does.
func tinyCheckpoint(dir string) error {
	header := `{"model.embed_tokens.weight":{"dtype":"F16","shape":[4,64],"data_offsets":[0,512]}}`
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
		"tokenizer.json":    `{"added_tokens": [{"id": 0, "content": "<s>", "special": true}], "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]}}`,
		"model.safetensors": string(weights) + strings.Repeat("\x00", 512),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
