package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
)

// A model of the store can have its ladder as a layer of its own, next to weights that it shares
// with other models: JSON as factors.json, with row 0 spelled out, under a media type of its own. A
// patched host applies it when it loads the model, in place of what the weights' file carries. An
// unpatched one skips layers of a kind that it does not know.
const (
	mediaLadders = "application/vnd.longrope.ladder."
	mediaLadder  = mediaLadders + "v1+json"
)

// Fields of the layer's JSON that factors.json does not have.
const (
	fieldCrossing = "crossing"         // Options.Crossing
	fieldNumCtx   = "replaced_num_ctx" // the parameter num_ctx that the model had before
)

// ConvertToLayer puts the model src of the store with ladder l into the store under name, without a
// copy of its weights: the manifest names the same blobs and one more, the ladder. Opts.StockRung
// does not apply. A ladder that src carries, as a layer or in its file, has no effect any more; of
// layers there is one. A model of that name is replaced, unless it is the source.
//
// Opts.NumCtx 0 leaves num_ctx to the host, which takes the longest rung that fits its memory; a
// num_ctx that src has is for what it was, and is removed.
func ConvertToLayer(src *Source, name string, l *ropescale.Ladder, opts Options) (*Report, error) {
	s := src.store
	if src.Kind != KindStore {
		return nil, fmt.Errorf("%s: not a model of the store: its factors go into its file",
			src.Name)
	}
	n, err := src.output(name)
	if err != nil {
		return nil, err
	}
	info, err := Inspect(src.Path)
	if err != nil {
		return nil, err
	}
	m, notes, err := fit(src.Path, l)
	if err != nil {
		return nil, err
	}
	last := m.Rungs[len(m.Rungs)-1].Length
	if err := checkNumCtx(opts.NumCtx, last); err != nil {
		return nil, err
	}
	r := &Report{Ladder: m, Notes: notes, Stock: info.Stock, Weights: src.Digest}
	out := manifest{SchemaVersion: 2, MediaType: mediaManifest}
	out.Layers = slices.DeleteFunc(slices.Clone(src.manifest.Layers), isLadder)
	for i := range out.Layers {
		if out.Layers[i].MediaType == mediaModel {
			out.Layers[i].From = src.Name
		}
	}
	replaced, err := s.layerNumCtx(&out, r, src, opts.NumCtx)
	if err != nil {
		return nil, err
	}
	b, err := encodeLadder(m, opts.Crossing, replaced)
	if err != nil {
		return nil, err
	}
	blob, err := s.writeBlob(mediaLadder, b)
	if err != nil {
		return nil, err
	}
	out.Layers = append(out.Layers, blob)
	r.Changes = []gguf.Change{
		{
			Key: info.Architecture + ".context_length", Old: fmt.Sprint(src.context(info)),
			New: fmt.Sprint(last),
		},
		{Key: "layer " + mediaLadder, Old: src.ladderDigest, New: blob.Digest},
	}
	r.Name, r.Digest, r.Size = n.DisplayShortest(), blob.Digest, blob.Size
	if r.Path, err = s.blobPath(blob.Digest); err != nil {
		return nil, err
	}
	return r, s.writeShared(n, &out, src)
}

// StripLayer puts the model src of the store under name without the layer of its ladder, and with
// the num_ctx that it had before.
func StripLayer(src *Source, name string) (*Report, error) {
	if src.Ladder == nil {
		return nil, fmt.Errorf("%s: %w in a layer; -o FILE writes its file without the factors "+
			"that the file may carry", src.Name, gguf.ErrNoLadder)
	}
	n, err := src.output(name)
	if err != nil {
		return nil, err
	}
	info, err := Inspect(src.Path)
	if err != nil {
		return nil, err
	}
	r := &Report{Stock: info.Stock, Weights: src.Digest, Path: src.Path}
	out := manifest{SchemaVersion: 2, MediaType: mediaManifest}
	out.Layers = slices.DeleteFunc(slices.Clone(src.manifest.Layers), isLadder)
	var numCtx json.Number
	if raw, ok := src.Ladder.Extra[fieldNumCtx]; ok {
		if err := json.Unmarshal(raw, &numCtx); err != nil {
			return nil, fmt.Errorf("%s: its ladder: %s: %w", src.Name, fieldNumCtx, err)
		}
		if err := src.store.editParams(&out, func(params map[string]any) {
			params["num_ctx"] = numCtx
		}); err != nil {
			return nil, err
		}
	}
	r.Changes = []gguf.Change{
		{
			Key: info.Architecture + ".context_length", Old: fmt.Sprint(src.context(info)),
			New: fmt.Sprint(info.ContextLength),
		},
		{Key: "layer " + mediaLadder, Old: src.ladderDigest},
	}
	r.Name = n.DisplayShortest()
	return r, src.store.writeShared(n, &out, src)
}

// StripSource is Strip of what src names: the file of a model of the store, whose layer stays out
// of it anyway.
func StripSource(ctx context.Context, src *Source, out string, opts Options) (*Report, error) {
	info, err := Inspect(src.Path)
	if err != nil {
		return nil, err
	}
	if src.Ladder == nil || info.Ladder != nil {
		return Strip(ctx, src.Path, out, opts)
	}
	f, err := gguf.Open(src.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	j := &job{f: f, e: gguf.NewEdit(f), report: Report{Stock: info.Stock}}
	return j.save(ctx, out, opts)
}

// FitLayer is the layer of ladder l for the model file at path, as the host's "ollama create" takes
// it from a Modelfile.
func FitLayer(path string, l *ropescale.Ladder) ([]byte, error) {
	m, _, err := fit(path, l)
	if err != nil {
		return nil, err
	}
	return encodeLadder(m, "", nil)
}

// fit is ladder l as it goes to the model file at path.
func fit(path string, l *ropescale.Ladder) (*ropescale.Ladder, []string, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	j, err := prepare(f, nil, l, Options{})
	if err != nil {
		return nil, nil, err
	}
	notes := slices.DeleteFunc(j.report.Notes, func(n string) bool { return n == noteNoStrip })
	return j.report.Ladder, notes, nil
}

func isLadder(l layer) bool { return strings.HasPrefix(l.MediaType, mediaLadders) }

// encodeLadder writes the layer of m, whose Base is set. replaced is the num_ctx that the model had
// before, nil for none.
func encodeLadder(m *ropescale.Ladder, crossing string, replaced any) ([]byte, error) {
	l := *m
	l.Extra = make(map[string]json.RawMessage)
	for k, v := range m.Extra {
		l.Extra[k] = v
	}
	for key, value := range map[string]any{fieldCrossing: crossing, fieldNumCtx: replaced} {
		delete(l.Extra, key)
		if value == nil || value == "" {
			continue
		}
		b, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		l.Extra[key] = b
	}
	var b bytes.Buffer
	if err := l.WriteFactors(&b); err != nil {
		return nil, err
	}
	if b.Len() > maxSmallBlob {
		return nil, fmt.Errorf("ladder: %d bytes as a layer, which holds %d; write it into the "+
			"model's file (--bake)", b.Len(), maxSmallBlob)
	}
	return b.Bytes(), nil
}

// readLadder takes the ladder of a layer of the manifest.
func (src *Source) readLadder(l layer) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s: its ladder: %w", src.Name, fmt.Errorf(format, args...))
	}
	switch {
	case l.MediaType != mediaLadder:
		return fail("the layer is %s, this program reads %s; update it", l.MediaType, mediaLadder)
	case src.Ladder != nil:
		return fail("the manifest has two; convert the original model again")
	}
	b, err := src.store.readBlob(l.Digest)
	if err != nil {
		return fail("%w", err)
	}
	ladder, err := ropescale.ReadFactors(bytes.NewReader(b))
	if err == nil && ladder.Base == nil {
		err = fmt.Errorf("base, the model's own RoPE, is missing")
	}
	if err != nil {
		path, _ := src.store.blobPath(l.Digest)
		return fail("%s: %w; convert the original model again", filepath.Base(path), err)
	}
	src.Ladder, src.ladderDigest = ladder, l.Digest
	return nil
}

// Inspect is Inspect of the model's file, with the ladder of its layer, if it has one, in place of
// what the file carries.
func (src *Source) Inspect() (*ModelInfo, error) {
	info, err := Inspect(src.Path)
	if err != nil || src.Ladder == nil {
		return info, err
	}
	l := src.Ladder
	if l.RopeDimensionCount != info.RopeDimensionCount {
		return nil, fmt.Errorf("%s: its ladder is for %d rotary dimensions, the model has %d; "+
			"convert the original model again", src.Name, l.RopeDimensionCount,
			info.RopeDimensionCount)
	}
	info.Ladder, info.OriginalContextLength = l, l.OriginalContextLength
	info.ContextLength = l.Rungs[len(l.Rungs)-1].Length
	info.Layer = src.ladderDigest
	return info, nil
}

// LadderDigest is sha256:… of the blob of the ladder's layer; empty for none.
func (src *Source) LadderDigest() string { return src.ladderDigest }

// Crossing is what a patched host does with cached keys at a change of rung, as the layer of the
// ladder says; empty for the host's default.
func (src *Source) Crossing() string {
	var crossing string
	if src.Ladder != nil {
		_ = json.Unmarshal(src.Ladder.Extra[fieldCrossing], &crossing)
	}
	return crossing
}

// context is the context length that src has before a conversion.
func (src *Source) context(file *ModelInfo) int {
	if src.Ladder != nil {
		return src.Ladder.Rungs[len(src.Ladder.Rungs)-1].Length
	}
	return file.ContextLength
}
