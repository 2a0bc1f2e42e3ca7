// Package reference is a llama forward pass in float64, written for reading: what the engine is
// measured against where no other implementation has a start window.
//
//	x = embedding of the token
//	for each block:
//	    h = rmsnorm(x);  q, k, v = Wq h, Wk h, Wv h;  q, k = rope(q, p), rope(k, p)
//	    x += Wo softmax(q·k / sqrt(head)) v          (heads of q share the heads of k and v)
//	    h = rmsnorm(x);  x += Wdown (silu(Wgate h) * Wup h)
//	logits = Wout rmsnorm(x)           (Wout is the embedding's matrix when the file has none)
//
// Weights are those of a GGUF; rope is the ladder's. It is O(n^2) in tokens and for models of a few
// million parameters.
package reference

import (
	"fmt"
	"math"
	"sync"

	"github.com/longrope/longrope/ropescale"
)

// Llama is a model of the llama architecture.
type Llama struct {
	Rope ropescale.Rope

	width, heads, kvHeads, headDim int
	eps                            float64
	embedding, norm, output        []float64
	blocks                         []block
}

type block struct {
	attnNorm, q, k, v, o, ffnNorm, gate, up, down []float64
}

// NewLlama takes the weights of a file. The error names what the file lacks.
func NewLlama(f *File) (*Llama, error) {
	if arch := f.String("general.architecture"); arch != "llama" {
		return nil, fmt.Errorf("reference: general.architecture is %q, want llama", arch)
	}
	m := &Llama{
		width: int(f.Uint("llama.embedding_length", 0)),
		heads: int(f.Uint("llama.attention.head_count", 0)),
		kvHeads: int(
			f.Uint("llama.attention.head_count_kv", f.Uint("llama.attention.head_count", 0))),
		eps: float64(f.Float("llama.attention.layer_norm_rms_epsilon", 0)),
	}
	if m.width == 0 || m.heads == 0 || m.eps == 0 {
		return nil, fmt.Errorf("reference: llama.embedding_length, attention.head_count or " +
			"attention.layer_norm_rms_epsilon is missing")
	}
	m.headDim = int(f.Uint("llama.attention.key_length", uint32(m.width/m.heads)))
	m.Rope = ropescale.Rope{
		Dims:     int(f.Uint("llama.rope.dimension_count", uint32(m.headDim))),
		FreqBase: float64(f.Float("llama.rope.freq_base", 10000)),
		OriginalContextLength: int(
			f.Uint("llama.rope.scaling.original_context_length", f.Uint("llama.context_length", 0)),
		),
	}

	tensors := map[string][]float64{}
	for _, t := range f.Tensors {
		w := make([]float64, len(t.Data))
		for i, v := range t.Data {
			w[i] = float64(v)
		}
		tensors[t.Name] = w
	}
	var missing string
	take := func(name string) []float64 {
		if tensors[name] == nil {
			missing = name
		}
		return tensors[name]
	}
	m.embedding, m.norm, m.output = take("token_embd.weight"), take(
		"output_norm.weight"), tensors["output.weight"]
	if m.output == nil {
		m.output = m.embedding
	}
	for i := range int(f.Uint("llama.block_count", 0)) {
		p := fmt.Sprintf("blk.%d.", i)
		m.blocks = append(m.blocks, block{
			take(p + "attn_norm.weight"), take(p + "attn_q.weight"), take(p + "attn_k.weight"),
			take(p + "attn_v.weight"),
			take(p + "attn_output.weight"), take(p + "ffn_norm.weight"),
			take(p + "ffn_gate.weight"), take(p + "ffn_up.weight"), take(p + "ffn_down.weight"),
		})
	}
	if missing != "" {
		return nil, fmt.Errorf("reference: tensor %s is missing", missing)
	}
	return m, nil
}

// Logits of every token of a sequence that starts at position 0, on a rung of the ladder (0 is the
// model's own RoPE).
func (m *Llama) Logits(tokens []int, l *ropescale.Ladder, rung int) [][]float64 {
	n := len(tokens)
	x := make([][]float64, n)
	for t, id := range tokens {
		x[t] = append([]float64(nil), m.embedding[id*m.width:][:m.width]...)
	}
	k, v, y := make([][]float64, n), make([][]float64, n), make([][]float64, n)
	for _, b := range m.blocks {
		q := make([][]float64, n)
		each(n, func(t int) {
			h := rmsNorm(x[t], b.attnNorm, m.eps)
			q[t], k[t], v[t] = mul(b.q, h), mul(b.k, h), mul(b.v, h)
			for i := 0; i < len(q[t]); i += m.headDim {
				l.Rotate(m.Rope, q[t][i:i+m.headDim], rung, t, ropescale.Normal)
			}
			for i := 0; i < len(k[t]); i += m.headDim {
				l.Rotate(m.Rope, k[t][i:i+m.headDim], rung, t, ropescale.Normal)
			}
		})
		each(n, func(t int) {
			add(x[t], mul(b.o, m.attend(q[t], k[:t+1], v[:t+1])))
			h := rmsNorm(x[t], b.ffnNorm, m.eps)
			gate, up := mul(b.gate, h), mul(b.up, h)
			for i, g := range gate {
				up[i] *= g / (1 + math.Exp(-g))
			}
			add(x[t], mul(b.down, up))
		})
	}
	each(n, func(t int) { y[t] = mul(m.output, rmsNorm(x[t], m.norm, m.eps)) })
	return y
}

// Keys are a token's keys in block 0, all heads, before rotation: they depend on the token alone.
func (m *Llama) Keys(token int) []float64 {
	b := m.blocks[0]
	return mul(b.k, rmsNorm(m.embedding[token*m.width:][:m.width], b.attnNorm, m.eps))
}

// HeadDim is the number of elements of a head.
func (m *Llama) HeadDim() int { return m.headDim }

func (m *Llama) attend(q []float64, k, v [][]float64) []float64 {
	d := m.headDim
	out := make([]float64, len(q))
	score := make([]float64, len(k))
	for h := range m.heads {
		kv := h / (m.heads / m.kvHeads) * d
		most := math.Inf(-1)
		for s := range k {
			score[s] = dot(q[h*d:(h+1)*d], k[s][kv:kv+d]) / math.Sqrt(float64(d))
			most = math.Max(most, score[s])
		}
		sum := 0.0
		for s := range score {
			score[s] = math.Exp(score[s] - most)
			sum += score[s]
		}
		for s, w := range score {
			for i := range d {
				out[h*d+i] += w / sum * v[s][kv+i]
			}
		}
	}
	return out
}

func rmsNorm(x, weight []float64, eps float64) []float64 {
	scale := 1 / math.Sqrt(dot(x, x)/float64(len(x))+eps)
	out := make([]float64, len(x))
	for i := range x {
		out[i] = x[i] * scale * weight[i]
	}
	return out
}

// mul is W x; W is stored row by row.
func mul(w, x []float64) []float64 {
	out := make([]float64, len(w)/len(x))
	for i := range out {
		out[i] = dot(w[i*len(x):][:len(x)], x)
	}
	return out
}

func dot(a, b []float64) float64 {
	var s [4]float64 // sums apart keep the processor busy
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s[0] += a[i] * b[i]
		s[1] += a[i+1] * b[i+1]
		s[2] += a[i+2] * b[i+2]
		s[3] += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s[0] += a[i] * b[i]
	}
	return s[0] + s[1] + s[2] + s[3]
}

func add(x, y []float64) {
	for i := range x {
		x[i] += y[i]
	}
}

// each calls f for 0 to n-1, on two goroutines.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := g; i < n; i += 2 {
				f(i)
			}
		}()
	}
	wg.Wait()
}
