package convert

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sort"

	"github.com/longrope/longrope/ropescale"
)

// convertCheckpoint writes a copy of the folder with ladder l.
func convertCheckpoint(ctx context.Context, in, out string, l *ropescale.Ladder, opts Options) (*Report, error) {
	c, err := openCheckpoint(in)
	if err != nil {
		return nil, err
	}
	if err := c.refuseUnknown(); err != nil {
		return nil, err
	}
	if !c.rope.known {
		return nil, fmt.Errorf("%s: rope type %q: transformers cannot combine it with longrope; a GGUF file can have the ladder: name the output .gguf", c.configPath(), c.rope.kind)
	}
	if l == nil {
		return nil, errors.New("convert: no ladder")
	}
	if c.rope.local {
		return nil, fmt.Errorf("%s: %w", c.configPath(), ErrLocalRoPE)
	}
	o := folderOwn(c)
	if c.ladder != nil && c.ladder.Base != nil {
		o.base = *c.ladder.Base
	}
	m, notes, err := o.fit(in, l)
	if err != nil {
		return nil, err
	}
	row, err := stockRow(l, m, opts.StockRung)
	if err != nil {
		return nil, err
	}
	if row == 0 {
		return nil, errors.New("a checkpoint without a rung in its config.json is the original; choose a rung")
	}
	if g := m.Rungs[row-1]; g.Length <= m.OriginalContextLength {
		return nil, fmt.Errorf("the rung for %d tokens is for short texts; config.json needs one beyond %d: choose a longer one", g.Length, m.OriginalContextLength)
	}
	w, err := c.withLadder(m, row)
	if err != nil {
		return nil, err
	}
	r := &Report{Ladder: m, Changes: c.changes(w), Notes: append(notes, c.lost(m, row)...)}
	return r, saveFolder(ctx, c, w, out, r, opts)
}

// saveFolder writes the folder out, and reports it.
func saveFolder(ctx context.Context, c *checkpoint, w *written, out string, r *Report, opts Options) error {
	linked, err := c.save(ctx, out, w, opts.CopyWeights, opts.Progress)
	if err != nil {
		return err
	}
	if linked > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("the weights are hard links to those of %s (%d files) and take no room; --copy-weights makes copies", c.dir, linked))
	}
	r.Path, r.Size = filepath.Clean(out), c.size()
	return nil
}

// stripCheckpoint writes a copy of the folder without its ladder.
func stripCheckpoint(ctx context.Context, in, out string, opts Options) (*Report, error) {
	c, err := openCheckpoint(in)
	if err != nil {
		return nil, err
	}
	if c.ladder == nil {
		return nil, fmt.Errorf("%s: %w: no %s", in, ErrNoLadder, fileLadder)
	}
	w := c.original()
	r := &Report{Changes: c.changes(w)}
	return r, saveFolder(ctx, c, w, out, r, opts)
}

// folderOwn is a checkpoint's RoPE in the terms of a GGUF's.
func folderOwn(c *checkpoint) *own {
	return &own{arch: c.arch, rope: c.rope.rope, context: c.rope.context, scaling: c.rope.scaling(), base: c.rope.base, long: c.rope.long}
}

// inspectCheckpoint is Inspect of a folder.
func inspectCheckpoint(dir string) (*ModelInfo, error) {
	c, err := openCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	m := &ModelInfo{Path: dir, Format: FormatHuggingFace, Architecture: c.arch}
	o := folderOwn(c)
	m.OriginalContextLength, m.RopeDimensionCount, m.FreqBase = o.rope.OriginalContextLength, o.rope.Dims, o.rope.FreqBase
	m.ContextLength, m.Scaling, m.Own, m.Ladder = c.now.context, o.scaling, o.long, c.ladder
	if c.ladder != nil {
		m.OriginalContextLength = c.ladder.OriginalContextLength
		if m.Ladder.Base != nil {
			o.base = *m.Ladder.Base
		}
	}
	if !o.identity() {
		m.Base = &o.base
	}
	m.Transformers = c.asRun()
	for key, field := range map[string]*int{"hidden_size": &m.EmbeddingLength, "num_hidden_layers": &m.BlockCount,
		"num_attention_heads": &m.HeadCount, "num_key_value_heads": &m.HeadCountKV, "vocab_size": &m.VocabSize} {
		*field = c.intOf(key)
	}
	if m.HeadCountKV == 0 {
		m.HeadCountKV = m.HeadCount
	}
	types := make(map[string]*TensorCount)
	for _, s := range c.shards {
		if len(c.shards) > 1 {
			m.Parts = append(m.Parts, s.path)
		}
		m.Size += s.size
		for _, t := range s.tensors {
			if types[t.dtype] == nil {
				types[t.dtype] = &TensorCount{Type: t.dtype}
			}
			types[t.dtype].Count++
			types[t.dtype].Bytes += t.end - t.begin
			m.ParameterCount += t.elements
		}
	}
	for _, n := range types {
		m.Tensors = append(m.Tensors, *n)
	}
	sort.Slice(m.Tensors, func(i, j int) bool {
		return m.Tensors[i].Bytes > m.Tensors[j].Bytes || m.Tensors[i].Bytes == m.Tensors[j].Bytes && m.Tensors[i].Type < m.Tensors[j].Type
	})
	if len(m.Tensors) > 0 {
		m.FileType = m.Tensors[0].Type
	}
	return m, nil
}
