package convert

import (
	"fmt"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// StockForm is the form in which an unpatched host takes factors.
type StockForm string

const (
	// StockFreqs: one set at every length, in rope_freqs.weight, and rope.scaling.attn_factor.
	StockFreqs StockForm = "rope_freqs"
	// StockLong: a short and a long set, in rope_factors_{short,long}.weight, with rope.scaling.type=longrope and
	// rope.scaling.attn_factor; long when the context allocated exceeds rope.scaling.original_context_length.
	StockLong StockForm = "longrope"
	// StockNothing: no factors. The host rotates as the model was trained, whatever the length.
	StockNothing StockForm = ""
)

// stockForms are the architectures for which ollama v0.17.4, unpatched, takes factors. To be one, three places of its
// llama.cpp must agree: llm_get_tensor_names lists the tensor, load_tensors creates it, and the graph asks
// get_rope_factors for it. A tensor that is not created is a load error ("wrong number of tensors"). Many fail by one
// of the three: granite asks but does not list; starcoder2, nemotron, baichuan, stablelm, qwen, deepseek, bailingmoe,
// chatglm, glm4 and more list but do not create. mistral3 passes, but the host runs it on its Go engine, which ignores
// the tensor and needs the YaRN keys that would have to go.
var stockForms = map[string]StockForm{
	"llama": StockFreqs, "deci": StockFreqs, "arcee": StockFreqs, "exaone": StockFreqs, "exaone4": StockFreqs,
	"apertus": StockFreqs, "llama4": StockFreqs,
	"phi3": StockLong, "phimoe": StockLong, "minicpm": StockLong, "minicpm3": StockLong,
}

// StockFor says in which form an unpatched host takes factors for the architecture.
func StockFor(arch string) StockForm { return stockForms[arch] }

// scalingKeys are the keys with which a file asks the host for scaling of its own. Where factors are given, which are
// absolute, they would scale twice.
func scalingKeys(arch string) []string {
	var keys []string
	for _, name := range []string{
		"scaling.type", "scaling.factor", "scale_linear", "scaling.yarn_ext_factor",
		"scaling.yarn_attn_factor", "scaling.yarn_beta_fast", "scaling.yarn_beta_slow", "scaling.yarn_log_multiplier",
	} {
		keys = append(keys, arch+".rope."+name)
	}
	return keys
}

// putStock writes rung g of the ladder in the form that an unpatched host takes.
func (e *edit) putStock(o *own, g ropescale.Rung) {
	order := e.f.Order
	prefix := o.arch + ".rope.scaling."
	switch stockForms[o.arch] {
	case StockFreqs:
		// Without a type the host scales linearly by 1, that is, not at all; ext_factor then is 0, and attn_factor is
		// what cos and sin are multiplied by (llama-context.cpp).
		e.remove(scalingKeys(o.arch)...)
		e.set(prefix+"attn_factor", float32(g.AttentionFactor))
		e.setTensor(tensorRopeFreqs, floatBytes(order, g.Factors))
	case StockLong:
		// The attention factor counts for the short set too: the host has one.
		e.remove(scalingKeys(o.arch)[1:]...)
		e.set(prefix+"type", "longrope")
		e.set(prefix+"attn_factor", float32(g.AttentionFactor))
		e.removeTensor(tensorRopeFreqs)
		e.setTensor(tensorRopeLong, floatBytes(order, g.Factors))
		e.setTensor(tensorRopeShort, floatBytes(order, o.base.Factors))
	}
}

// Stock is what an unpatched host makes of a file.
type Stock struct {
	Loads         bool      `json:"loads"`
	Form          StockForm `json:"form"`           // of the factors that it applies
	Rung          int       `json:"rung"`           // row of the ladder that these are; 0: the model's own RoPE
	ContextLength int       `json:"context_length"` // to which it clamps num_ctx
	Notes         []string  `json:"notes,omitempty"`
}

// stockView says what an unpatched host would make of f.
func stockView(f *File, o *own, l *ropescale.Ladder) Stock {
	s := Stock{Loads: true, ContextLength: o.context}
	note := func(format string, args ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, args...)) }
	form := stockForms[o.arch]
	has := func(name string) bool { _, ok := f.Tensor(name); return ok }
	kind, _, _ := f.String(o.arch + ".rope.scaling.type")
	tensor := ""
	switch {
	case (has(tensorRopeLong) || has(tensorRopeShort)) && (form != StockLong || o.arch == "minicpm" && kind != "longrope"):
		s.Loads = false
		note("it refuses to load the file: wrong number of tensors (rope_factors of an architecture or type without)")
	case has(tensorRopeFreqs) && form == StockNothing && l != nil:
		note("architecture %s does not read rope_freqs", o.arch)
	case has(tensorRopeFreqs):
		s.Form, tensor = StockFreqs, tensorRopeFreqs
	case has(tensorRopeLong):
		s.Form, tensor = StockLong, tensorRopeLong
	}
	if l == nil && s.Loads && !rowsClose(o.host, o.base) {
		note("it cannot say the model's own scaling (%s) and runs another model than was trained: use a patched one", o.scaling)
	}
	if l == nil || !s.Loads {
		return s
	}
	if tensor == "" {
		note("it ignores the ladder and rotates as the model was trained; beyond %d tokens expect noise", l.OriginalContextLength)
		return s
	}
	if xs, err := f.factors(tensor, o.rope.Pairs()); err == nil {
		for r := len(l.Rungs); r > 0; r-- {
			if slices.EqualFunc(xs, l.At(r).Factors, func(a float32, b float64) bool { return a == float32(b) }) {
				s.Rung = r
				break
			}
		}
	}
	if s.Rung > 0 {
		g := l.At(s.Rung)
		note("it applies rung %d (%d tokens) at every length, without a start window", s.Rung, g.Length)
		if g.Length < o.context {
			note("its context length is that of the longest rung; set num_ctx to %d at most", g.Length)
		}
		if o.arch == "llama4" && g.AttentionFactor != 1 {
			note("its engine for llama4 ignores the attention factor %.4g", g.AttentionFactor)
		}
	}
	return s
}

// putYaRN writes the keys of YaRN that llama.cpp reads for every architecture.
func (e *edit) putYaRN(arch string, factor float64, original int, attention float64) {
	prefix := arch + ".rope.scaling."
	e.set(prefix+"type", "yarn")
	e.set(prefix+"factor", float32(factor))
	e.set(prefix+"original_context_length", uint32(original))
	// The host multiplies by YaRN's own attention factor.
	if a := attention / ropescale.YaRNAttentionFactor(factor); float32(a) != 1 {
		e.set(prefix+"attn_factor", float32(a))
	}
}
