package gguf

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
	// StockLong: a short and a long set, in rope_factors_{short,long}.weight, with
	// rope.scaling.type=longrope and rope.scaling.attn_factor; long when the context allocated
	// exceeds rope.scaling.original_context_length.
	StockLong StockForm = "longrope"
	// StockNothing: no factors. The host rotates as the model was trained, whatever the length.
	StockNothing StockForm = ""
)

// stockForms are the architectures for which ollama v0.17.4, unpatched, takes factors. To be one,
// three places of its llama.cpp must agree: llm_get_tensor_names lists the tensor, load_tensors
// creates it, and the graph asks get_rope_factors for it. A tensor that is not created is a load
// error ("wrong number of tensors"). Many fail by one of the three: granite asks but does not list;
// starcoder2, nemotron, baichuan, stablelm, qwen, deepseek, bailingmoe, chatglm, glm4 and more list
// but do not create. mistral3 passes, but the host runs it on its Go engine, which ignores the
// tensor and needs the YaRN keys that would have to go.
var stockForms = map[string]StockForm{
	"llama": StockFreqs, "deci": StockFreqs, "arcee": StockFreqs, "exaone": StockFreqs,
	"exaone4": StockFreqs,
	"apertus": StockFreqs, "llama4": StockFreqs,
	"phi3": StockLong, "phimoe": StockLong, "minicpm": StockLong, "minicpm3": StockLong,
}

// StockFor says in which form an unpatched host takes factors for the architecture.
func StockFor(arch string) StockForm { return stockForms[arch] }

// ScalingKeys are the keys with which a file asks the host for scaling of its own. Where factors
// are given, which are absolute, they would scale twice.
func ScalingKeys(arch string) []string {
	var keys []string
	for _, name := range []string{
		"scaling.type", "scaling.factor", "scale_linear", "scaling.yarn_ext_factor",
		"scaling.yarn_attn_factor", "scaling.yarn_beta_fast", "scaling.yarn_beta_slow",
		"scaling.yarn_log_multiplier",
	} {
		keys = append(keys, arch+".rope."+name)
	}
	return keys
}

// PutStock writes rung g of the ladder in the form that an unpatched host takes.
func (e *Edit) PutStock(o *Own, g ropescale.Rung) {
	order := e.f.Order
	prefix := o.Arch + ".rope.scaling."
	switch stockForms[o.Arch] {
	case StockFreqs:
		// Without a type the host scales linearly by 1, that is, not at all; ext_factor then is 0,
		// and attn_factor is what cos and sin are multiplied by (llama-context.cpp).
		e.Remove(ScalingKeys(o.Arch)...)
		e.Set(prefix+"attn_factor", float32(g.AttentionFactor))
		e.setTensor(TensorRopeFreqs, FloatBytes(order, g.Factors))
	case StockLong:
		// The attention factor counts for the short set too: the host has one.
		e.Remove(ScalingKeys(o.Arch)[1:]...)
		e.Set(prefix+"type", "longrope")
		e.Set(prefix+"attn_factor", float32(g.AttentionFactor))
		e.removeTensor(TensorRopeFreqs)
		e.setTensor(TensorRopeLong, FloatBytes(order, g.Factors))
		e.setTensor(TensorRopeShort, FloatBytes(order, o.Base.Factors))
	}
}

// Stock is what an unpatched host makes of a file.
type Stock struct {
	Loads bool      `json:"loads"`
	Form  StockForm `json:"form"` // of the factors that it applies
	// row of the ladder that these are; 0: the model's own RoPE
	Rung          int      `json:"rung"`
	ContextLength int      `json:"context_length"` // to which it clamps num_ctx
	Notes         []string `json:"notes,omitempty"`
}

// StockView says what an unpatched host would make of f.
func StockView(f *File, o *Own, l *ropescale.Ladder) Stock {
	s := Stock{Loads: true, ContextLength: o.Context}
	note := func(format string, args ...any) {
		s.Notes = append(s.Notes, fmt.Sprintf(format,
			args...))
	}
	form := stockForms[o.Arch]
	has := func(name string) bool { _, ok := f.Tensor(name); return ok }
	kind, _, _ := f.String(o.Arch + ".rope.scaling.type")
	tensor := ""
	switch {
	case (has(TensorRopeLong) || has(TensorRopeShort)) &&
		(form != StockLong || o.Arch == "minicpm" && kind != "longrope"):
		s.Loads = false
		note("it refuses to load the file: wrong number of tensors (rope_factors of an " +
			"architecture or type without)")
	case has(TensorRopeFreqs) && form == StockNothing && l != nil:
		note("architecture %s does not read rope_freqs", o.Arch)
	case has(TensorRopeFreqs):
		s.Form, tensor = StockFreqs, TensorRopeFreqs
	case has(TensorRopeLong):
		s.Form, tensor = StockLong, TensorRopeLong
	}
	if l == nil && s.Loads && !RowsClose(o.Host, o.Base) {
		note("it cannot say the model's own scaling (%s) and runs another model than was trained: "+
			"use a patched one", o.Scaling)
	}
	if l == nil || !s.Loads {
		return s
	}
	if tensor == "" {
		note("it ignores the ladder and rotates as the model was trained; beyond %d tokens expect "+
			"noise", l.OriginalContextLength)
		return s
	}
	if xs, err := f.Factors(tensor, o.Rope.Pairs()); err == nil {
		for r := len(l.Rungs); r > 0; r-- {
			if slices.EqualFunc(xs, l.At(r).Factors,
				func(a float32, b float64) bool { return a == float32(b) }) {
				s.Rung = r
				break
			}
		}
	}
	if s.Rung > 0 {
		g := l.At(s.Rung)
		note("it applies rung %d (%d tokens) at every length, without a start window", s.Rung,
			g.Length)
		if g.Length < o.Context {
			note("its context length is that of the longest rung; set num_ctx to %d at most",
				g.Length)
		}
		if o.Arch == "llama4" && g.AttentionFactor != 1 {
			note("its engine for llama4 ignores the attention factor %.4g", g.AttentionFactor)
		}
	}
	return s
}

// PutYaRN writes the keys of YaRN that llama.cpp reads for every architecture.
func (e *Edit) PutYaRN(arch string, factor float64, original int, attention float64) {
	prefix := arch + ".rope.scaling."
	e.Set(prefix+"type", "yarn")
	e.Set(prefix+"factor", float32(factor))
	e.Set(prefix+"original_context_length", uint32(original))
	// The host multiplies by YaRN's own attention factor.
	if a := attention / ropescale.YaRNAttentionFactor(factor); float32(a) != 1 {
		e.Set(prefix+"attn_factor", float32(a))
	}
}
