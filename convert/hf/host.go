package hf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"github.com/longrope/longrope/ropescale/jsontext"
)

// HostConvert writes the checkpoint as a GGUF with the converter of the host. It takes its files on
// trust, so it sees only those that were checked; it panics at what it does not know. read, if not
// nil, is called with the bytes of weights that were read so far.
func (c *Checkpoint) HostConvert(ctx context.Context, w *os.File, read func(n int64)) (err error) {
	config, err := c.forHost()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: the host's converter gave up: %v", c.Dir, p)
		}
	}()
	fsys := &hostFS{FS: os.DirFS(c.Dir), dir: c.Dir, ctx: ctx, config: config, read: read}
	for _, s := range c.Shards {
		fsys.weights = append(fsys.weights, filepath.Base(s.Path))
	}
	if err := hostconvert.ConvertModel(fsys, w); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		where := c.Dir
		if malformed(err) {
			where = filepath.Join(c.Dir, fsys.last)
		}
		err = jsontext.Plain(err)
		if strings.Contains(err.Error(), "unsupported architecture") {
			return fmt.Errorf("%s: the host's converter: %w; make a GGUF with llama.cpp's "+
				"convert_hf_to_gguf.py and name that, or name an output folder", c.Dir, err)
		}
		return fmt.Errorf("%s: the host's converter: %w", where, err)
	}
	return nil
}

// forHost is config.json as the host's converter understands it: without a conversion of ours, in
// the spelling of transformers 4, and without scaling that it would drop or stumble over, since row
// 0 and the ladder will say it.
func (c *Checkpoint) forHost() ([]byte, error) {
	members, err := c.object(c.plain)
	if err != nil {
		return nil, err
	}
	e := &jsonEdit{d: c.plain, members: members, after: "max_position_embeddings"}
	r := c.Rope
	// Fields that transformers takes from the model's class, and the host's converter does not
	// know.
	for _, f := range []struct {
		key, value string
		wanted     bool
	}{
		{"rope_theta", number(r.Rope.FreqBase), true},
		{"max_position_embeddings", strconv.Itoa(r.Context), r.Kind != "longrope" ||
			c.Arch == "Phi3ForCausalLM"},
		{"num_attention_heads", strconv.Itoa(r.heads), r.heads > 0},
		{"head_dim", strconv.Itoa(r.headDim), r.classHeadDim},
		// gpt-oss has two of its numbers under two names each
		{
			"experts_per_token", strconv.Itoa(c.IntOf("num_experts_per_tok")),
			c.Arch == "GptOssForCausalLM",
		},
		{
			"initial_context_length", strconv.Itoa(r.Original),
			c.Arch == "GptOssForCausalLM" && r.Original > 0,
		},
	} {
		if ok, err := c.plain.decode(members, f.key, new(json.RawMessage)); err != nil {
			return nil, err
		} else if f.wanted && !ok {
			e.set(f.key, f.value)
		}
	}
	switch {
	case c.Arch == "Phi3ForCausalLM":
		// Without factors it writes empty tensors, and without L it divides by 0.
		short, long := r.Base.Factors, r.Base.Factors
		if r.Long != nil {
			long = r.Long.Factors
		}
		e.set("original_max_position_embeddings", strconv.Itoa(r.Rope.OriginalContextLength))
		e.set("rope_scaling", object([]field{{"type", `"longrope"`}, {
			"short_factor",
			numbers(short),
		}, {"long_factor", numbers(long)}}, "", false))
	case r.Kind == "longrope":
		e.set("max_position_embeddings", strconv.Itoa(r.Rope.OriginalContextLength))
		scaling := "null"
		if r.softmax != 1 { // which the host reads from the parameters of YaRN
			scaling = object([]field{
				{"type", `"yarn"`},
				{"factor", number(*r.givenFactor)},
				{"original_max_position_embeddings", strconv.Itoa(r.Rope.OriginalContextLength)},
				{"mscale_all_dim", number(r.mscaleAllDim)},
			}, "", false)
		}
		e.set("rope_scaling", scaling)
	case r.Kind == "yarn" && strings.HasPrefix(c.Arch, "Qwen"), // it wants a list for factor
		// it computes with that width
		r.Kind == "llama3" && r.heads > 0 && r.Rope.Dims != r.Hidden/r.heads,
		// it writes factors that the loaders of these architectures refuse
		r.Kind == "llama3" && slices.Contains([]string{
			"GraniteForCausalLM", "SmolLM3ForCausalLM", "Olmo2ForCausalLM",
		}, c.Arch):
		e.set("rope_scaling", "null")
	case r.Kind == "default" && r.Known || r.Kind == "dynamic":
		if _, ok := find(members, "rope_scaling"); ok {
			e.set("rope_scaling", "null")
		}
	case r.Kind == "linear" || r.Kind == "llama3" || r.Kind == "yarn":
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

func (c *Checkpoint) oldSpelling(e *jsonEdit) error {
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
	fields := []field{
		{"type", strconv.Quote(c.Rope.Kind)},
		{"rope_type", strconv.Quote(c.Rope.Kind)},
	}
	for _, m := range params {
		if m.key != "type" && m.key != "rope_type" && m.key != "rope_theta" {
			fields = append(fields, field{m.key, string(c.plain.raw(m))})
		}
	}
	e.set("rope_scaling", object(fields, "", false))
	return nil
}

// hostFS is the checkpoint's folder as the host's converter is to see it.
type hostFS struct {
	fs.FS   // of dir
	dir     string
	ctx     context.Context
	config  []byte
	weights []string
	read    func(n int64) // bytes of weights so far; may be nil
	mu      sync.Mutex
	n       int64
	last    string // the name that was opened last
}

// Open gives an error once the context is done: the converter opens the weights again for every
// tensor.
func (h *hostFS) Open(name string) (fs.File, error) {
	if err := h.ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.last = name
	h.mu.Unlock()
	switch ext := filepath.Ext(name); {
	case name == ConfigFile:
		return &memFile{Reader: bytes.NewReader(h.config), name: name}, nil
	case slices.Contains(weightFiles, ext) && !slices.Contains(h.weights, name):
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if fi, err := fs.Stat(h.FS, name); err != nil || fi.IsDir() {
		return h.FS.Open(name)
	}
	f, err := atomicfile.Open(filepath.Join(h.dir, name))
	if err != nil {
		return nil, err
	}
	if slices.Contains(h.weights, name) {
		return &countedFile{f, f, h}, nil
	}
	return f, nil
}

// malformed says that an error of the host's converter is about the content of the file that it
// opened last.
func malformed(err error) bool {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &typed) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), "proto: ")
}

// ReadDir hides weights that are not the model's.
func (h *hostFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(h.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return slices.Contains(weightFiles, filepath.Ext(e.Name())) &&
			!slices.Contains(h.weights, e.Name())
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
