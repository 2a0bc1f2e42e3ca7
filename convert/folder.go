package convert

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/hf"
	"github.com/longrope/longrope/ropescale"
)

// convertCheckpoint writes a copy of the folder with ladder l.
func convertCheckpoint(ctx context.Context, in, out string, l *ropescale.Ladder,
	opts Options,
) (*Report, error) {
	c, err := hf.Open(in)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.RefuseUnknown(), c.CheckWhole()); err != nil {
		return nil, err
	}
	if !c.Rope.Known {
		return nil, fmt.Errorf("%s: its rope_parameters have sections (mrope), which transformers "+
			"cannot "+
			"combine with longrope; a GGUF file can have the ladder: name the output .gguf",
			c.ConfigPath())
	}
	if l == nil {
		return nil, errors.New("convert: no ladder")
	}
	if c.Rope.Local {
		return nil, fmt.Errorf("%s: %w", c.ConfigPath(), gguf.ErrLocalRoPE)
	}
	o := folderOwn(c)
	if c.Ladder != nil && c.Ladder.Base != nil {
		o.Base = *c.Ladder.Base
	}
	m, notes, err := o.Fit(in, l)
	if err != nil {
		return nil, err
	}
	row, err := stockRow(l, m, opts.StockRung)
	if err != nil {
		return nil, err
	}
	if row == 0 {
		return nil, errors.New("a checkpoint without a rung in its config.json is the original; " +
			"choose a rung")
	}
	if g := m.Rungs[row-1]; g.Length <= m.OriginalContextLength {
		return nil, fmt.Errorf("the rung for %d tokens is for short texts; config.json needs one "+
			"beyond %d: choose a longer one", g.Length, m.OriginalContextLength)
	}
	w, err := c.WithLadder(m, row)
	if err != nil {
		return nil, err
	}
	r := &Report{Ladder: m, Changes: c.Changes(w), Notes: slices.Concat(Misspelt(l), notes,
		c.Lost(m, row))}
	return r, saveFolder(ctx, c, w, out, r, opts)
}

// saveFolder writes the folder out, and reports it.
func saveFolder(ctx context.Context, c *hf.Checkpoint, w *hf.Written, out string, r *Report,
	opts Options,
) error {
	linked, err := c.Save(ctx, out, w, opts.CopyWeights, opts.Progress)
	if err != nil {
		return err
	}
	if linked > 0 {
		r.Notes = append(r.Notes,
			fmt.Sprintf("the weights are hard links to those of %s (%d files) and take no room; "+
				"--copy-weights makes copies", c.Dir, linked))
	}
	r.Path, r.Size = filepath.Clean(out), c.Size()
	return nil
}

// stripCheckpoint writes a copy of the folder without its ladder.
func stripCheckpoint(ctx context.Context, in, out string, opts Options) (*Report, error) {
	c, err := hf.Open(in)
	if err != nil {
		return nil, err
	}
	if c.Ladder == nil {
		return nil, fmt.Errorf("%s: %w: no %s", in, gguf.ErrNoLadder, hf.LadderFile)
	}
	w := c.Original()
	r := &Report{Changes: c.Changes(w)}
	return r, saveFolder(ctx, c, w, out, r, opts)
}

// folderOwn is a checkpoint's RoPE in the terms of a GGUF's.
func folderOwn(c *hf.Checkpoint) *gguf.Own {
	return &gguf.Own{
		Arch: c.Arch, Rope: c.Rope.Rope, Context: c.Rope.Context,
		Scaling: c.Rope.Scaling(), Base: c.Rope.Base, Long: c.Rope.Long,
	}
}

// inspectCheckpoint is Inspect of a folder.
func inspectCheckpoint(dir string) (*ModelInfo, error) {
	c, err := hf.Open(dir)
	if err != nil {
		return nil, err
	}
	m := &ModelInfo{Path: dir, Format: FormatHuggingFace, Architecture: c.Arch}
	o := folderOwn(c)
	m.OriginalContextLength = o.Rope.OriginalContextLength
	m.RopeDimensionCount, m.FreqBase = o.Rope.Dims, o.Rope.FreqBase
	m.ContextLength, m.Scaling, m.Own, m.Ladder = c.Now.Context, o.Scaling, o.Long, c.Ladder
	if c.Ladder != nil {
		m.OriginalContextLength = c.Ladder.OriginalContextLength
		if m.Ladder.Base != nil {
			o.Base = *m.Ladder.Base
		}
	}
	if !o.Identity() {
		m.Base = &o.Base
	}
	m.Transformers, m.Lost = c.AsRun(), c.Unlike()
	for key, field := range map[string]*int{
		"hidden_size":         &m.EmbeddingLength,
		"num_hidden_layers":   &m.BlockCount,
		"num_attention_heads": &m.HeadCount, "num_key_value_heads": &m.HeadCountKV,
		"vocab_size": &m.VocabSize,
	} {
		*field = c.IntOf(key)
	}
	if m.HeadCountKV == 0 {
		m.HeadCountKV = m.HeadCount
	}
	types := make(map[string]*TensorCount)
	for _, s := range c.Shards {
		if len(c.Shards) > 1 {
			m.Parts = append(m.Parts, s.Path)
		}
		m.Size += s.Size
		for _, t := range s.Tensors {
			if types[t.Dtype] == nil {
				types[t.Dtype] = &TensorCount{Type: t.Dtype}
			}
			types[t.Dtype].Count++
			types[t.Dtype].Bytes += t.End - t.Begin
			m.ParameterCount += t.Elements
		}
	}
	for _, n := range types {
		m.Tensors = append(m.Tensors, *n)
	}
	sort.Slice(m.Tensors, func(i, j int) bool {
		return m.Tensors[i].Bytes > m.Tensors[j].Bytes ||
			m.Tensors[i].Bytes == m.Tensors[j].Bytes && m.Tensors[i].Type < m.Tensors[j].Type
	})
	if len(m.Tensors) > 0 {
		m.FileType = m.Tensors[0].Type
	}
	return m, nil
}
