package convert

import (
	"fmt"
	"sort"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/hf"
	"github.com/longrope/longrope/ropescale"
)

// The formats of a model.
const (
	FormatGGUF        = "gguf"
	FormatHuggingFace = "huggingface"
)

// ModelInfo is what a model file says about itself, as far as context length and RoPE are
// concerned.
type ModelInfo struct {
	Path      string   `json:"path"`
	Format    string   `json:"format"`          // FormatGGUF or FormatHuggingFace
	Parts     []string `json:"parts,omitempty"` // of a split file
	Version   int      `json:"gguf_version,omitempty"`
	BigEndian bool     `json:"big_endian,omitempty"`
	Size      int64    `json:"size"` // bytes, all parts

	Architecture string `json:"architecture"`
	Name         string `json:"name,omitempty"`
	// quantisation by general.file_type, e.g. "Q4_K_M"
	FileType string `json:"file_type,omitempty"`

	ContextLength         int     `json:"context_length"`          // to which hosts clamp num_ctx
	OriginalContextLength int     `json:"original_context_length"` // L
	RopeDimensionCount    int     `json:"rope_dimension_count"`    // d
	FreqBase              float64 `json:"freq_base"`
	EmbeddingLength       int     `json:"embedding_length,omitempty"`
	BlockCount            int     `json:"block_count,omitempty"`
	HeadCount             int     `json:"head_count,omitempty"`
	HeadCountKV           int     `json:"head_count_kv,omitempty"`
	VocabSize             int     `json:"vocab_size,omitempty"`
	ParameterCount        uint64  `json:"parameter_count"`

	// Scaling is the model's own: "", rope_freqs, linear, yarn or longrope.
	Scaling string `json:"scaling,omitempty"`
	// Base is row 0, the model's own RoPE; nil for plain RoPE.
	Base *ropescale.Rung `json:"base,omitempty"`
	// Own is a rung that the model was trained with, as Phi-3 128k's long factors; nil for most.
	Own *ropescale.Rung `json:"own,omitempty"`
	// Ladder is what the model carries; nil for none.
	Ladder *ropescale.Ladder `json:"ladder,omitempty"`
	// Layer is sha256:… of the blob that the ladder is in; empty when the file carries it.
	Layer string `json:"layer,omitempty"`
	// Transformers is what transformers makes of a checkpoint of rope type longrope; nil for other
	// models.
	Transformers *ropescale.Ladder `json:"transformers,omitempty"`
	// Lost is what transformers makes of the folder that no ladder can say.
	Lost string `json:"lost,omitempty"`
	// Stock is what an unpatched host makes of the file.
	Stock gguf.Stock `json:"stock,omitzero"`

	// Tensors counts tensors by type.
	Tensors []TensorCount `json:"tensors"`

	cacheElements uint64 // of a token
}

// TensorCount sums up the tensors of one type.
type TensorCount struct {
	Type  string `json:"type"`
	Count int    `json:"count"`
	Bytes uint64 `json:"bytes"`
}

// Rope is the model's RoPE as the methods of package ropescale take it.
func (m *ModelInfo) Rope() ropescale.Rope {
	return ropescale.Rope{
		Dims: m.RopeDimensionCount, FreqBase: m.FreqBase,
		OriginalContextLength: m.OriginalContextLength,
	}
}

// Inspect reads what the model at path, a GGUF file or a checkpoint folder, says. A file with a
// ladder says what the model was like before it: L, row 0 and scaling; ContextLength is the file's.
// The error is ErrNoRoPE, among others, when there is nothing to rescale.
func Inspect(path string) (*ModelInfo, error) {
	if hf.IsCheckpoint(path) {
		return inspectCheckpoint(path)
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return inspect(f)
}

func inspect(f *gguf.File) (*ModelInfo, error) {
	m := &ModelInfo{
		Path: f.Path, Format: FormatGGUF, Version: int(f.Version),
		BigEndian: f.BigEndian(),
	}
	if parts := f.Parts(); len(parts) > 1 {
		m.Parts = parts
	}
	m.Size = f.Size()
	var err error
	if m.Architecture, _, err = f.String("general.architecture"); err != nil {
		return nil, err
	}
	if m.Name, _, err = f.String("general.name"); err != nil {
		return nil, err
	}
	if n, ok, err := f.Int("general.file_type"); err == nil && ok {
		m.FileType = fileType(n)
	}
	if m.Ladder, err = gguf.ReadLadder(f, m.Architecture); err != nil {
		return nil, err
	}
	e := gguf.NewEdit(f)
	known := true
	if m.Ladder != nil {
		if known, err = e.Undo(m.Architecture); err != nil {
			return nil, err
		}
	}
	o, err := gguf.ReadOwn(e.View())
	if err != nil {
		return nil, err
	}
	m.OriginalContextLength, m.RopeDimensionCount, m.FreqBase = o.Rope.OriginalContextLength,
		o.Rope.Dims, o.Rope.FreqBase
	m.Scaling, m.Own = o.Scaling, o.Long
	if m.Ladder != nil {
		m.OriginalContextLength = m.Ladder.OriginalContextLength
		o.Base = *m.Ladder.Base
		if m.Ladder.RopeDimensionCount != o.Rope.Dims {
			return nil, fmt.Errorf("%s: the ladder is for %d rotary dimensions, the model has %d; "+
				"convert the original model "+
				"again", f.Path, m.Ladder.RopeDimensionCount, o.Rope.Dims)
		}
		if !known {
			m.Scaling, m.Own = "", nil // the stock rung's tensors would look like the model's own
		}
	}
	if !o.Identity() {
		base := o.Base
		m.Base = &base
	}
	if m.ContextLength, err = f.Need(m.Architecture + ".context_length"); err != nil {
		return nil, err
	}
	for _, v := range []struct {
		name  string
		field *int
	}{
		{"embedding_length", &m.EmbeddingLength},
		{"block_count", &m.BlockCount},
		{"attention.head_count", &m.HeadCount},
		{"attention.head_count_kv", &m.HeadCountKV},
		{"vocab_size", &m.VocabSize},
	} {
		if *v.field, err = f.Most(m.Architecture + "." + v.name); err != nil {
			return nil, err
		}
	}
	if m.HeadCountKV == 0 {
		m.HeadCountKV = m.HeadCount
	}
	if kv, ok := f.Lookup("tokenizer.ggml.tokens"); ok && kv.Type == gguf.TypeArray {
		m.VocabSize = int(kv.Len)
	}
	m.count(f.Tensors)
	m.cacheElements = cacheElements(f)
	o.Context = m.ContextLength
	m.Stock = gguf.StockView(f, o, m.Ladder)
	return m, nil
}

func (m *ModelInfo) count(ts []gguf.Tensor) {
	counts := make(map[gguf.TensorType]*TensorCount)
	for i := range ts {
		t := &ts[i]
		c := counts[t.Type]
		if c == nil {
			c = &TensorCount{Type: t.Type.String()}
			counts[t.Type] = c
		}
		c.Count++
		c.Bytes += t.Size
		switch t.Name {
		// no parameters of the network
		case gguf.TensorRopeFreqs, gguf.TensorRopeLong, gguf.TensorRopeShort:
		default:
			m.ParameterCount += t.Elements()
		}
	}
	for _, c := range counts {
		m.Tensors = append(m.Tensors, *c)
	}
	sort.Slice(m.Tensors, func(i, j int) bool { return m.Tensors[i].Bytes > m.Tensors[j].Bytes })
}

// fileType names general.file_type as llama.cpp does (enum llama_ftype).
func fileType(n int) string {
	names := map[int]string{
		0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
		11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
		17: "Q5_K_M", 18: "Q6_K",
		19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S",
		25: "IQ4_NL", 26: "IQ3_S",
		27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
		37: "TQ2_0", 38: "MXFP4",
	}
	if s, ok := names[n]; ok {
		return s
	}
	return fmt.Sprintf("file type %d", n)
}
