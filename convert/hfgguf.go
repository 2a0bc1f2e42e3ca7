package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	hostconvert "github.com/ollama/ollama/convert"

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
	if progress := opts.Progress; progress != nil {
		// Two times the weights: read by the host's converter, then copied behind the ladder.
		var total int64
		for _, s := range c.shards {
			total += s.size
		}
		c.read = func(n int64) { progress(min(n, total), 2*total) }
		opts.Progress = func(done, size int64) {
			if size > 0 {
				progress(total+int64(float64(total)*float64(done)/float64(size)), 2*total)
			}
		}
	}
	if err := c.hostConvert(ctx, tmp); err != nil {
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

// hostConvert writes the checkpoint as a GGUF with the converter of the host. It takes its files on trust, so it sees
// only those that were checked; it panics at what it does not know.
func (c *checkpoint) hostConvert(ctx context.Context, w *os.File) (err error) {
	config, err := c.forHost()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the host's converter gave up: %v", c.dir, p)
		}
	}()
	fsys := &hostFS{FS: os.DirFS(c.dir), ctx: ctx, config: config, read: c.read}
	for _, s := range c.shards {
		fsys.weights = append(fsys.weights, filepath.Base(s.path))
	}
	if err := hostconvert.ConvertModel(fsys, w); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if strings.Contains(err.Error(), "unsupported architecture") {
			return fmt.Errorf("%s: the host's converter: %w; make a GGUF with llama.cpp's "+
				"convert_hf_to_gguf.py and name that, or name an output folder", c.dir, err)
		}
		return fmt.Errorf("%s: the host's converter: %w", c.dir, err)
	}
	return nil
}

// forHost is config.json as the host's converter understands it: without a conversion of ours, in the spelling of
// transformers 4, and without scaling that it would drop or stumble over, since row 0 and the ladder will say it.
func (c *checkpoint) forHost() ([]byte, error) {
	members, err := c.object(c.plain)
	if err != nil {
		return nil, err
	}
	e := &jsonEdit{d: c.plain, members: members, after: "max_position_embeddings"}
	r := c.rope
	// Fields that transformers takes from the model's class, and the host's converter does not know.
	for _, f := range []struct {
		key, value string
		wanted     bool
	}{
		{"rope_theta", number(r.rope.FreqBase), true},
		{"max_position_embeddings", strconv.Itoa(r.context), r.kind != "longrope" || c.arch == "Phi3ForCausalLM"},
		{"num_attention_heads", strconv.Itoa(r.heads), r.heads > 0},
		{"head_dim", strconv.Itoa(r.headDim), r.classHeadDim},
	} {
		if ok, err := c.plain.decode(members, f.key, new(json.RawMessage)); err != nil {
			return nil, err
		} else if f.wanted && !ok {
			e.set(f.key, f.value)
		}
	}
	switch {
	case c.arch == "Phi3ForCausalLM":
		// Without factors it writes empty tensors, and without L it divides by 0.
		short, long := r.base.Factors, r.base.Factors
		if r.long != nil {
			long = r.long.Factors
		}
		e.set("original_max_position_embeddings", strconv.Itoa(r.rope.OriginalContextLength))
		e.set("rope_scaling", object([]field{{"type", `"longrope"`}, {"short_factor", numbers(short)}, {"long_factor", numbers(long)}}, "", false))
	case r.kind == "longrope":
		e.set("max_position_embeddings", strconv.Itoa(r.rope.OriginalContextLength))
		scaling := "null"
		if r.softmax != 1 { // which the host reads from the parameters of YaRN
			scaling = object([]field{
				{"type", `"yarn"`},
				{"factor", number(*r.givenFactor)},
				{"original_max_position_embeddings", strconv.Itoa(r.rope.OriginalContextLength)},
				{"mscale_all_dim", number(r.mscaleAllDim)},
			}, "", false)
		}
		e.set("rope_scaling", scaling)
	case r.kind == "yarn" && strings.HasPrefix(c.arch, "Qwen"), // it wants a list for factor
		r.kind == "llama3" && r.heads > 0 && r.rope.Dims != r.hidden/r.heads: // it computes with that width
		e.set("rope_scaling", "null")
	case r.kind == "default" && r.known || r.kind == "dynamic":
		if _, ok := find(members, "rope_scaling"); ok {
			e.set("rope_scaling", "null")
		}
	case r.kind == "linear" || r.kind == "llama3" || r.kind == "yarn":
		// Both names of the type, and rope_parameters under the older name.
		if err := c.oldSpelling(e); err != nil {
			return nil, err
		}
	}
	d, err := e.apply()
	if err != nil {
		return nil, err
	}
	return d.text, nil
}

func (c *checkpoint) oldSpelling(e *jsonEdit) error {
	params, err := c.plain.sub(e.members, "rope_scaling")
	if err == nil && len(params) == 0 {
		params, err = c.plain.sub(e.members, "rope_parameters")
		if full, nested := find(params, "full_attention"); nested && err == nil {
			params, err = c.plain.object(full.value0)
		}
	}
	if err != nil {
		return err
	}
	fields := []field{{"type", strconv.Quote(c.rope.kind)}, {"rope_type", strconv.Quote(c.rope.kind)}}
	for _, m := range params {
		if m.key != "type" && m.key != "rope_type" && m.key != "rope_theta" {
			fields = append(fields, field{m.key, string(c.plain.raw(m))})
		}
	}
	e.set("rope_scaling", object(fields, "", false))
	return nil
}

// mend corrects what the host's converter gets wrong about RoPE. For llama and phi3 it computes the rotated dimensions from
// width and heads alone, so a model with wider heads, or Phi-4-mini, of whose heads three quarters rotate, would not load;
// of multimodal gemma3 it writes no base and a fixed context length.
func (c *checkpoint) mend(e *edit, arch string) {
	differs := func(key string, want int) bool {
		n, ok, err := e.view().Int(key)
		return err == nil && ok && n != want
	}
	if key := arch + ".rope.dimension_count"; (arch == "llama" || arch == "phi3") && differs(key, c.rope.rope.Dims) {
		e.set(key, uint32(c.rope.rope.Dims))
	}
	if key := arch + ".rope.freq_base"; e.index(key) < 0 {
		e.set(key, float32(c.rope.rope.FreqBase))
	}
	if factor, ok, err := e.view().Float(arch + ".rope.scaling.factor"); arch == "deepseek2" && err == nil && ok && factor == 0 {
		// Written of a model without scaling too, of which the host then takes the logarithm.
		e.remove(scalingKeys(arch)...)
		e.remove(arch + ".rope.scaling.original_context_length")
		e.set(arch+".rope.scaling.factor", float32(1))
	}
	if arch == "llama" {
		e.swapExperts(c.rope.hidden)
	}
	if key := arch + ".context_length"; arch == "gemma3" && differs(key, c.rope.context) {
		e.set(key, uint32(c.rope.context))
	}
}

// swapExperts gives Mixtral's up and down matrices their names, which the host's converter swaps.
// A down matrix has hidden rows, so it is the shape that shows it.
func (e *edit) swapExperts(hidden int) {
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
func (c *checkpoint) sayOwn(e *edit) (*own, error) {
	o, err := readOwn(e.view())
	if err != nil {
		return nil, err
	}
	r := c.rope
	switch {
	case o.rope.Dims != r.rope.Dims && r.known:
		return nil, fmt.Errorf("%s: %d dimensions of a head rotate, in the file that the host's converter makes of it %d; name another output than a .gguf",
			c.config.path, r.rope.Dims, o.rope.Dims)
	case o.rope.Dims != r.rope.Dims, rowsClose(o.host, r.base), r.long != nil && stockForms[o.arch] == StockLong:
		return o, nil
	}
	base := r.base
	if stockForms[o.arch] != StockNothing {
		e.putStock(&own{arch: o.arch, base: base}, base)
		if as, err := readOwn(e.view()); err == nil && r.kind == "llama3" && rowsClose(as.host, base) {
			return as, nil // the form that this model has in any GGUF
		}
	} else if r.kind == "yarn" {
		plain := slices.Clone(e.kvs)
		e.putYaRN(o.arch, r)
		if as, err := readOwn(e.view()); err != nil || !rowsClose(as.host, base) {
			e.kvs = plain // it would be something else
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

// putYaRN writes the keys of YaRN that llama.cpp reads for every architecture.
func (e *edit) putYaRN(arch string, r *hfRope) {
	prefix := arch + ".rope.scaling."
	e.set(prefix+"type", "yarn")
	e.set(prefix+"factor", float32(r.factor))
	e.set(prefix+"original_context_length", uint32(r.original))
	// The host multiplies by YaRN's own attention factor.
	if a := r.base.AttentionFactor / ropescale.YaRNAttentionFactor(r.factor); float32(a) != 1 {
		e.set(prefix+"attn_factor", float32(a))
	}
}

// carried is the ladder that the checkpoint comes with: this package's, or the one that its authors trained; nil for none.
func (c *checkpoint) carried() *ropescale.Ladder {
	switch {
	case c.ladder != nil:
		return c.ladder
	case c.rope.long != nil:
		return &ropescale.Ladder{
			Version: ropescale.LadderVersion, OriginalContextLength: c.rope.rope.OriginalContextLength,
			RopeDimensionCount: c.rope.rope.Dims, Rungs: []ropescale.Rung{*c.rope.long},
		}
	}
	return nil
}

// override puts what config.json says in place of what the host's converter made of it.
func (c *checkpoint) override(o *own) {
	if !c.rope.known {
		return
	}
	o.base, o.long = c.rope.base, c.rope.long
	o.scaling = c.rope.scaling()
	o.context, o.rope.OriginalContextLength = c.rope.context, c.rope.rope.OriginalContextLength
}

// hostFS is the checkpoint's folder as the host's converter is to see it.
type hostFS struct {
	fs.FS
	ctx     context.Context
	config  []byte
	weights []string
	read    func(n int64) // bytes of weights so far; may be nil
	mu      sync.Mutex
	n       int64
}

// Open gives an error once the context is done: the converter opens the weights anew for every tensor.
func (h *hostFS) Open(name string) (fs.File, error) {
	if err := h.ctx.Err(); err != nil {
		return nil, err
	}
	switch ext := filepath.Ext(name); {
	case name == fileConfig:
		return &memFile{Reader: bytes.NewReader(h.config), name: name}, nil
	case slices.Contains(weightFiles, ext) && !slices.Contains(h.weights, name):
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := h.FS.Open(name)
	if at, ok := f.(io.ReaderAt); err == nil && ok && slices.Contains(h.weights, name) {
		return &countedFile{f, at, h}, nil
	}
	return f, err
}

// ReadDir hides weights that are not the model's.
func (h *hostFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(h.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return slices.Contains(weightFiles, filepath.Ext(e.Name())) && !slices.Contains(h.weights, e.Name())
	}), err
}

type countedFile struct {
	fs.File
	at io.ReaderAt
	h  *hostFS
}

func (f *countedFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.at.ReadAt(b, off)
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	f.h.n += int64(n)
	if f.h.read != nil {
		f.h.read(f.h.n)
	}
	return n, err
}

// memFile is a file of bytes.
type memFile struct {
	*bytes.Reader
	name string
}

func (f *memFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *memFile) Close() error               { return nil }
func (f *memFile) Name() string               { return f.name }
func (f *memFile) Mode() fs.FileMode          { return 0o444 }
func (f *memFile) ModTime() time.Time         { return time.Time{} }
func (f *memFile) IsDir() bool                { return false }
func (f *memFile) Sys() any                   { return nil }
