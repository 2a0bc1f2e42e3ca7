package convert

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/ropescale"
)

// openModel opens the model at path to be converted: a GGUF as it is, a checkpoint folder by way of a GGUF that the
// host's converter writes to a temporary file in tmpDir. close removes that.
func openModel(ctx context.Context, path, tmpDir string, opts *Options) (f *File, c *checkpoint, close func(), err error) {
	if !isCheckpoint(path) {
		f, err = Open(path)
		if err != nil {
			return nil, nil, nil, err
		}
		return f, nil, func() { f.Close() }, nil
	}
	if c, err = openCheckpoint(path); err != nil {
		return nil, nil, nil, err
	}
	if err := c.refuseUnknown(); err != nil {
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
		total := c.size()
		read = func(n int64) { progress(min(n, total), 2*total) }
		opts.Progress = func(done, size int64) {
			if size > 0 {
				progress(total+int64(float64(total)*float64(done)/float64(size)), 2*total)
			}
		}
	}
	if err := c.hostConvert(ctx, tmp, read); err != nil {
		remove()
		return nil, nil, nil, atomicfile.Hint(err)
	}
	if f, err = Open(tmp.Name()); err != nil {
		remove()
		return nil, nil, nil, fmt.Errorf("%s: what the host's converter made of it: %w", path, err)
	}
	f.Path = path
	return f, c, func() { f.Close(); remove() }, nil
}

// mend corrects what the host's converter gets wrong about RoPE. For llama and phi3 it computes the rotated dimensions from
// width and heads alone, so a model with wider heads, or Phi-4-mini, of whose heads three quarters rotate, would not load;
// of multimodal gemma3 it writes no base and a fixed context length.
func mend(c *checkpoint, e *edit, arch string) {
	differs := func(key string, want int) bool {
		n, ok, err := e.view().Int(key)
		return err == nil && ok && n != want
	}
	if key := arch + ".rope.dimension_count"; (arch == "llama" || arch == "phi3") && differs(key, c.rope.rope.Dims) {
		e.set(key, uint32(c.rope.rope.Dims))
	}
	key := arch + ".rope.freq_base"
	if _, ok := e.view().Lookup(key); !ok {
		e.set(key, float32(c.rope.rope.FreqBase))
	}
	if factor, ok, err := e.view().Float(arch + ".rope.scaling.factor"); arch == "deepseek2" && err == nil && ok && factor == 0 {
		// Written of a model without scaling too, of which the host then takes the logarithm.
		e.remove(scalingKeys(arch)...)
		e.remove(arch + ".rope.scaling.original_context_length")
		e.set(arch+".rope.scaling.factor", float32(1))
	}
	if arch == "llama" {
		swapExperts(e, c.rope.hidden)
	}
	if key := arch + ".context_length"; arch == "gemma3" && differs(key, c.rope.context) {
		e.set(key, uint32(c.rope.context))
	}
}

// swapExperts gives Mixtral's up and down matrices their names, which the host's converter swaps.
// A down matrix has hidden rows, so it is the shape that shows it.
func swapExperts(e *edit, hidden int) {
	const up, down = ".ffn_up_exps.weight", ".ffn_down_exps.weight"
	for i := range e.tensors {
		t := &e.tensors[i]
		if len(t.Dims) != 3 || t.Dims[0] == t.Dims[1] {
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

// sayOwn makes the file say the model's own RoPE, where the host's converter did not: as row 0, which
// a patched host applies at every length, and in the form that an unpatched host takes, if there is
// one. It returns the file's RoPE as it then is.
func sayOwn(c *checkpoint, e *edit) (*own, error) {
	o, err := readOwn(e.view())
	if err != nil {
		return nil, err
	}
	r := c.rope
	switch {
	case o.rope.Dims != r.rope.Dims && r.known:
		return nil, fmt.Errorf("%s: %d dimensions of a head rotate, in the file that the host's converter makes of it %d; name another output than a .gguf",
			c.configPath(), r.rope.Dims, o.rope.Dims)
	case o.rope.Dims != r.rope.Dims, rowsClose(o.host, r.base), r.long != nil && StockFor(o.arch) == StockLong:
		return o, nil
	}
	base := r.base
	if StockFor(o.arch) != StockNothing {
		e.putStock(&own{arch: o.arch, base: base}, base)
		if as, err := readOwn(e.view()); err == nil && r.kind == "llama3" && rowsClose(as.host, base) {
			return as, nil // the form that this model has in any GGUF
		}
	} else if r.kind == "yarn" {
		plain := e.clone()
		e.putYaRN(o.arch, r.factor, r.original, base.AttentionFactor)
		if as, err := readOwn(e.view()); err != nil || !rowsClose(as.host, base) {
			*e = *plain // it would be something else
		}
	}
	l := &ropescale.Ladder{
		OriginalContextLength: r.rope.OriginalContextLength, RopeDimensionCount: r.rope.Dims,
		Base: &base, Source: &ropescale.Source{Method: r.kind},
	}
	if err := e.putLadder(o.arch, l); err != nil {
		return nil, err
	}
	return readOwn(e.view())
}

// override puts what config.json says in place of what the host's converter made of it.
func override(c *checkpoint, o *own) {
	if !c.rope.known {
		return
	}
	o.base, o.long = c.rope.base, c.rope.long
	o.scaling = c.rope.scaling()
	o.context, o.rope.OriginalContextLength = c.rope.context, c.rope.rope.OriginalContextLength
}
