package checkpoints

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Vocab is the size of every family's vocabulary.
const Vocab = 96

// config are the sizes that the layouts depend on.
type config struct {
	Hidden      int     `json:"hidden_size"`
	Heads       int     `json:"num_attention_heads"`
	KV          int     `json:"num_key_value_heads"`
	Head        int     `json:"head_dim"`
	FFN         int     `json:"intermediate_size"`
	Layers      int     `json:"num_hidden_layers"`
	Experts     int     `json:"num_local_experts"`
	QRank       int     `json:"q_lora_rank"`
	KVRank      int     `json:"kv_lora_rank"`
	Nope        int     `json:"qk_nope_head_dim"`
	RopeDim     int     `json:"qk_rope_head_dim"`
	Value       int     `json:"v_head_dim"`
	TextModel   *config `json:"text_config"`
	DefaultHead int     `json:"-"`
}

func (c *config) sizes() map[string]int {
	heads, kv := c.Heads, cmp.Or(c.KV, c.Heads)
	head := cmp.Or(c.Head, c.DefaultHead)
	if head == 0 && heads > 0 {
		head = c.Hidden / heads
	}
	return map[string]int{
		"V": Vocab, "H": c.Hidden, "3H": 3 * c.Hidden, "D": head, "Q": heads * head, "K": kv * head,
		"QKV": (heads + 2*kv) * head, "F": c.FFN, "2F": 2 * c.FFN, "E": c.Experts, "A": heads,
		"R": c.QRank, "C": c.KVRank, "CP": c.KVRank + c.RopeDim, "QB": heads * (c.Nope + c.RopeDim),
		"KVB": heads * (c.Nope + c.Value), "AW": heads * c.Value,
		"H/32": c.Hidden / 32, "F/32": c.FFN / 32, "16": 16,
	}
}

// Write makes the folder dir: config.json, random weights, a tokenizer.
func (f *Family) Write(dir string) error {
	return f.write(dir, func(s []shape) []shape { return s })
}

// write is Write with other tensors than the layout's.
func (f *Family) write(dir string, change func([]shape) []shape) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	text := []byte(f.JSON())
	c := &config{DefaultHead: f.Head}
	if err := json.Unmarshal(text, c); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if c.TextModel != nil {
		c.TextModel.DefaultHead = f.Head
		c = c.TextModel
	}
	return errorsOf(
		os.WriteFile(filepath.Join(dir, "config.json"), text, 0o666),
		os.WriteFile(filepath.Join(dir, "tokenizer.json"), tokenizer(), 0o666),
		os.WriteFile(filepath.Join(dir, "model.safetensors"),
			weights(change(tensors(f.Layout, c)), 20240221), 0o666),
	)
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tokenizer is one token for each character, as far as the host's converter looks.
func tokenizer() []byte {
	vocab := map[string]int{"<pad>": 0, "<s>": 1, "</s>": 2, "!!": Vocab - 1}
	for i := 3; i < Vocab-1; i++ {
		vocab[string(rune('!'+i-3))] = i
	}
	var added []map[string]any
	for i, s := range []string{"<pad>", "<s>", "</s>"} {
		added = append(added, map[string]any{"id": i, "content": s, "special": true})
	}
	b, err := json.Marshal(map[string]any{
		"added_tokens": added,
		"model":        map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{"! !"}},
	})
	if err != nil {
		panic(err) // maps and strings
	}
	return b
}

type shape struct {
	name string
	dims []int
}

// tensors lists the tensors of a layout.
func tensors(layout string, c *config) []shape {
	var out []shape
	sizes := c.sizes()
	for line := range strings.SplitSeq(strings.TrimSpace(layouts[layout]), "\n") {
		fields := strings.Fields(line)
		switch name := fields[0]; name {
		case "=":
			out = tensors(fields[1], c)
			continue
		case "-":
			pattern := strings.Split(fields[1], "%d")
			out = slices.DeleteFunc(out, func(s shape) bool {
				return strings.HasPrefix(s.name, pattern[0]) &&
					strings.HasSuffix(s.name, pattern[len(pattern)-1])
			})
			continue
		default:
			var dims []int
			for _, f := range fields[1:] {
				dims = append(dims, sizes[f])
			}
			for _, name := range each(name, "%d", c.Layers) {
				for _, name := range each(name, "%e", c.Experts) {
					out = append(out, shape{name, dims})
				}
			}
		}
	}
	return out
}

func each(name, what string, n int) []string {
	if !strings.Contains(name, what) {
		return []string{name}
	}
	var out []string
	for i := range n {
		out = append(out, strings.Replace(name, what, strconv.Itoa(i), 1))
	}
	return out
}

// weights is a safetensors file of random numbers that float16 can hold.
func weights(ts []shape, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	for _, t := range ts {
		n, begin := 1, len(data)
		for _, d := range t.dims {
			n *= d
		}
		if kind := t.bytes(r, n); kind != nil {
			data = append(data, kind...)
			header[t.name] = map[string]any{
				"dtype": "U8", "shape": t.dims, "data_offsets": []int{begin, len(data)},
			}
			continue
		}
		scale := 1.7 / math.Sqrt(float64(t.dims[len(t.dims)-1]))
		for range n {
			x := r.NormFloat64()
			switch {
			case strings.Contains(t.name, "norm") && strings.HasSuffix(t.name, "weight"):
				x = 1 + 0.1*x
			case len(t.dims) == 1:
				x *= 0.1
			default:
				x *= scale
			}
			x = math.Round(x*1024) / 1024 // below 2: exact in float16
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(x)))
		}
		header[t.name] = map[string]any{
			"dtype": "F32", "shape": t.dims,
			"data_offsets": []int{begin, len(data)},
		}
	}
	h, err := json.Marshal(header)
	if err != nil {
		panic(err) // maps, strings and numbers
	}
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)
}

// bytes are those of a tensor in MXFP4: blocks of 32 numbers of four bits, and their exponents of
// two, here around 2^-6; nil for others.
func (t shape) bytes(r *rand.Rand, n int) []byte {
	blocks := strings.HasSuffix(t.name, "_blocks")
	if !blocks && !strings.HasSuffix(t.name, "_scales") {
		return nil
	}
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte(120 + r.IntN(3)); blocks {
			b[i] = byte(r.IntN(256))
		}
	}
	return b
}

// Tokens are n tokens, the same at every call.
func Tokens(n int) []int {
	r := rand.New(rand.NewPCG(7, uint64(n)))
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = 3 + r.IntN(Vocab-3)
	}
	return tokens
}
