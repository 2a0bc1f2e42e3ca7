package convert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/hf"
	"github.com/longrope/longrope/ropescale"
)

// openModel opens the model at path to be converted: a GGUF as it is, a checkpoint folder by way of
// a GGUF that the host's converter writes to a temporary file in tmpDir. close removes that.
func openModel(ctx context.Context, path, tmpDir string, opts *Options) (f *gguf.File,
	c *hf.Checkpoint, close func(), err error,
) {
	if !hf.IsCheckpoint(path) {
		f, err = gguf.Open(path)
		if err != nil {
			return nil, nil, nil, err
		}
		return f, nil, func() { f.Close() }, nil
	}
	if c, err = hf.Open(path); err != nil {
		return nil, nil, nil, err
	}
	if err := errors.Join(c.RefuseUnknown(), c.CheckWhole(), c.CheckVocabulary()); err != nil {
		return nil, nil, nil, err
	}
	tmp, err := atomicfile.Temp(tmpDir)
	if err != nil {
		return nil, nil, nil, err
	}
	remove := func() {
		tmp.Close()
		os.Remove(tmp.Name())
	}
	var read func(int64)
	if progress := opts.Progress; progress != nil {
		// Two times the weights: read by the host's converter, then copied behind the ladder.
		total := c.Size()
		read = func(n int64) { progress(min(n, total), 2*total) }
		opts.Progress = func(done, size int64) {
			if size > 0 {
				progress(total+int64(float64(total)*float64(done)/float64(size)), 2*total)
			}
		}
	}
	if err := c.HostConvert(ctx, tmp, read); err != nil {
		remove()
		return nil, nil, nil, atomicfile.Hint(atomicfile.Unnamed(err, tmp.Name()))
	}
	if f, err = gguf.Open(tmp.Name()); err != nil {
		remove()
		return nil, nil, nil, fmt.Errorf("%s: what the host's converter made of it: %w", path,
			atomicfile.Unnamed(err, tmp.Name()))
	}
	f.Path = path
	return f, c, func() { f.Close(); remove() }, nil
}

// mend corrects what the host's converter gets wrong about RoPE. For llama and phi3 it computes the
// rotated dimensions from width and heads alone, so a model with wider heads, or Phi-4-mini, of
// whose heads three quarters rotate, would not load; of multimodal gemma3 it writes no base and a
// fixed context length.
func mend(c *hf.Checkpoint, e *gguf.Edit, arch string) {
	differs := func(key string, want int) bool {
		n, ok, err := e.View().Int(key)
		return err == nil && ok && n != want
	}
	if key := arch + ".rope.dimension_count"; (arch == "llama" || arch == "phi3") &&
		differs(key, c.Rope.Rope.Dims) {
		e.Set(key, uint32(c.Rope.Rope.Dims))
	}
	key := arch + ".rope.freq_base"
	if _, ok := e.View().Lookup(key); !ok {
		e.Set(key, float32(c.Rope.Rope.FreqBase))
	}
	if factor, ok, err := e.View().Float(arch + ".rope.scaling.factor"); arch == "deepseek2" &&
		err == nil && ok && factor == 0 {
		// Written of a model without scaling too, of which the host then takes the logarithm.
		e.Remove(gguf.ScalingKeys(arch)...)
		e.Remove(arch + ".rope.scaling.original_context_length")
		e.Set(arch+".rope.scaling.factor", float32(1))
	}
	if arch == "llama" && c.Arch == "MixtralForCausalLM" {
		swapExperts(e, c.Rope.Hidden)
	}
	// Buffers of old versions of transformers, which no loader takes
	e.Tensors = slices.DeleteFunc(e.Tensors, func(t gguf.Tensor) bool {
		return strings.HasSuffix(t.Name, ".rotary_emb.inv_freq") ||
			strings.HasSuffix(t.Name, ".attention.masked_bias")
	})
	if key := arch + ".context_length"; arch == "gemma3" && differs(key, c.Rope.Context) {
		e.Set(key, uint32(c.Rope.Context))
	}
}

// swapExperts gives Mixtral's up and down matrices their names, which the host's converter swaps.
// A down matrix has hidden rows, so it is the shape that shows it; where both are square, it is the
// converter of the host's pinned version.
func swapExperts(e *gguf.Edit, hidden int) {
	const up, down = ".ffn_up_exps.weight", ".ffn_down_exps.weight"
	for i := range e.Tensors {
		t := &e.Tensors[i]
		if len(t.Dims) != 3 {
			continue
		}
		switch name, isDown := strings.CutSuffix(t.Name, down); {
		case isDown && t.Dims[0] == uint64(hidden):
			t.Name = name + up
		case strings.HasSuffix(t.Name, up) && t.Dims[1] == uint64(hidden):
			t.Name = strings.TrimSuffix(t.Name, up) + down
		}
	}
}

// checkTensors holds what the host's converter wrote to what the host's loader wants.
func checkTensors(c *hf.Checkpoint, e *gguf.Edit, arch string) error {
	if err := gguf.CheckTensors(e.View(), arch); err != nil {
		if arch == "gptoss" && c.Has("model.layers.0.mlp.experts.gate_up_proj") {
			return fmt.Errorf("%w; the host's converter takes the experts of gpt-oss in MXFP4, as "+
				"they are published, and these are not", err)
		}
		return err
	}
	for _, name := range []string{"layer_norm_rms_epsilon", "layer_norm_epsilon"} {
		key := arch + ".attention." + name
		if x, ok, err := e.View().Float(key); err == nil && ok && x == 0 {
			return fmt.Errorf("%s: rms_norm_eps (or layer_norm_eps) is missing, which the host's "+
				"converter takes for 0; set it to the value that the model was trained with",
				c.ConfigPath())
		}
	}
	if _, ok := e.View().Tensor("output.weight"); !ok && c.Untied() {
		return fmt.Errorf("%s: tie_word_embeddings is false, and the tensor lm_head.weight is "+
			"missing; the host's loader would take the embeddings for it", c.ConfigPath())
	}
	return nil
}

// hostNotes say what the host's converter leaves out of a model.
func hostNotes(c *hf.Checkpoint, f *gguf.File) (notes []string) {
	window := c.IntOf("sliding_window")
	if (c.Arch == "MistralForCausalLM" || c.Arch == "MixtralForCausalLM") && window > 0 &&
		window < c.Rope.Context {
		notes = append(notes, fmt.Sprintf("the model was trained with a window of %d tokens in "+
			"every layer, which GGUF files of this architecture do not have: tokens attend to all "+
			"before them", window))
	}
	pre, _, _ := f.String("tokenizer.ggml.pre")
	if model, _, _ := f.String("tokenizer.ggml.model"); model == "gpt2" && pre == "default" &&
		c.SplitsText() {
		notes = append(notes, "the host's converter does not know the pre_tokenizer of "+
			"tokenizer.json and writes \"default\": some text becomes other tokens than in "+
			"transformers; llama.cpp's convert_hf_to_gguf.py knows more of them")
	}
	return notes
}

// sayOwn makes the file say the model's own RoPE, where the host's converter did not: as row 0,
// which a patched host applies at every length, and in the form that an unpatched host takes, if
// there is one. It returns the file's RoPE as it then is.
func sayOwn(c *hf.Checkpoint, e *gguf.Edit) (*gguf.Own, error) {
	o, err := gguf.ReadOwn(e.View())
	if err != nil {
		return nil, err
	}
	r := c.Rope
	switch {
	case o.Rope.Dims != r.Rope.Dims && r.Known:
		return nil, fmt.Errorf("%s: %d dimensions of a head rotate, in the file that the host's "+
			"converter makes of it %d; name another output than a .gguf",
			c.ConfigPath(), r.Rope.Dims, o.Rope.Dims)
	case o.Rope.Dims != r.Rope.Dims, gguf.RowsClose(o.Host, r.Base), r.Long != nil &&
		gguf.StockFor(o.Arch) == gguf.StockLong:
		return o, nil
	}
	base := r.Base
	if gguf.StockFor(o.Arch) != gguf.StockNothing {
		e.PutStock(&gguf.Own{Arch: o.Arch, Base: base}, base)
		if as, err := gguf.ReadOwn(e.View()); err == nil && r.Kind == "llama3" &&
			gguf.RowsClose(as.Host, base) {
			return as, nil // the form that this model has in any GGUF
		}
	} else if r.Kind == "yarn" {
		plain := e.Clone()
		e.PutYaRN(o.Arch, r.Factor, r.Original, base.AttentionFactor)
		if as, err := gguf.ReadOwn(e.View()); err != nil || !gguf.RowsClose(as.Host, base) {
			*e = *plain // it would be something else
		}
	}
	l := &ropescale.Ladder{
		OriginalContextLength: r.Rope.OriginalContextLength, RopeDimensionCount: r.Rope.Dims,
		Base: &base, Source: &ropescale.Source{Method: r.Kind},
	}
	if err := e.PutLadder(o.Arch, l); err != nil {
		return nil, err
	}
	return gguf.ReadOwn(e.View())
}

// override puts what config.json says in place of what the host's converter made of it.
func override(c *hf.Checkpoint, o *gguf.Own) {
	if !c.Rope.Known {
		return
	}
	o.Base, o.Long = c.Rope.Base, c.Rope.Long
	o.Scaling = c.Rope.Scaling()
	o.Context, o.Rope.OriginalContextLength = c.Rope.Context, c.Rope.Rope.OriginalContextLength
}
