package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ollama/ollama/envconfig"
	"github.com/ollama/ollama/format"
	"github.com/ollama/ollama/template"
	"github.com/ollama/ollama/types/model"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
)

// ConvertToStore puts the model src with ladder l into the local Ollama store under name, as
// "ollama create" would: its template, system prompt, licence and other layers are the source's; a
// file gets the template that the host knows for its chat template. The blob is written first, the
// manifest last, each by rename; on any error, or when ctx is done, the store shows what it showed
// before. A model of that name is replaced, unless it is the source.
//
// Options.NumCtx is for the store: the host allocates the cache for num_ctx tokens when it loads a
// model, and without the parameter it takes a few thousand, whatever the model could do. 0 raises
// num_ctx to the last rung.
func ConvertToStore(ctx context.Context, src *Source, name string, l *ropescale.Ladder,
	opts Options,
) (report *Report, err error) {
	s, undo, err := src.storeFor()
	if err != nil {
		return nil, err
	}
	defer func() { undo(err) }()
	n, err := src.outputIn(s, name)
	if err != nil {
		return nil, err
	}
	blobs := filepath.Join(s.Dir, "blobs")
	if err := s.makeFolder(blobs); err != nil {
		return nil, err
	}
	f, c, done, err := openModel(ctx, src.Path, blobs, &opts)
	if err != nil {
		return nil, err
	}
	defer done()
	j, err := prepare(f, c, l, opts)
	if err != nil {
		return nil, err
	}
	if j.report.Ladder == nil {
		return nil, fmt.Errorf("%s: the checkpoint carries no factors; give some, or use ollama "+
			"create for the model as it is", src.Name)
	}
	last := j.report.Ladder.Rungs[len(j.report.Ladder.Rungs)-1].Length
	if err := checkNumCtx(opts.NumCtx, last); err != nil {
		return nil, err
	}

	m := manifest{SchemaVersion: 2, MediaType: mediaManifest}
	var config json.RawMessage
	if old := src.manifest; old == nil {
		if m.Layers, config, err = s.freshLayers(j.e.View()); err != nil {
			return nil, err
		}
	} else {
		m.Layers = slices.DeleteFunc(slices.Clone(old.Layers), isLadder)
		if config, err = s.readBlob(old.Config.Digest); err != nil {
			return nil, err
		}
	}
	blob, err := s.writeModel(ctx, j, opts)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(m.Layers, func(l layer) bool { return l.MediaType == mediaModel })
	if src.Kind == KindStore {
		blob.From = src.Name
	}
	m.Layers[at] = blob
	if err := s.setNumCtx(&m, &j.report, f, opts.NumCtx, last); err != nil {
		return nil, err
	}
	if m.Config, err = s.writeConfig(config, m.Layers); err != nil {
		return nil, err
	}
	if err := s.writeManifest(n, &m); err != nil {
		return nil, err
	}
	r := &j.report
	r.Name, r.Digest, r.Size = n.DisplayShortest(), blob.Digest, blob.Size
	r.Path, err = s.blobPath(blob.Digest)
	return r, err
}

// storeFor is the store of the source or, for one from elsewhere, the user's, which it makes where
// there is none. undo removes what it made, if there was an error.
func (src *Source) storeFor() (s *Store, undo func(error), err error) {
	undo = func(error) {}
	if src.store != nil {
		return src.store, undo, nil
	}
	if s, err = OpenStore(""); !errors.Is(err, ErrNoStore) {
		return s, undo, err
	}
	s = &Store{Dir: envconfig.Models()}
	return s, func(err error) {
		if err != nil { // folders that have something stay
			os.Remove(filepath.Join(s.Dir, "blobs"))
			os.Remove(s.Dir)
		}
	}, s.makeFolder(s.Dir)
}

// writeModel streams the model into a blob; its name is known only at the end.
func (s *Store) writeModel(ctx context.Context, j *job, opts Options) (layer, error) {
	l := layer{MediaType: mediaModel}
	p, err := j.e.Lay()
	if err != nil {
		return l, err
	}
	blobs := filepath.Join(s.Dir, "blobs")
	if err := s.makeFolder(blobs); err != nil {
		return l, err
	}
	err = atomicfile.WriteNamed(blobs, func(w io.Writer) (string, error) {
		h := sha256.New()
		if err := p.Write(ctx, &hashing{w, h}, opts.Progress); err != nil {
			return "", err
		}
		l.Digest, l.Size = "sha256:"+hex.EncodeToString(h.Sum(nil)), p.Size
		path, err := s.blobPath(l.Digest)
		if err != nil {
			return "", err
		}
		if there, err := holds(path, l); err != nil || there {
			return "", err // the very model is there already
		}
		return filepath.Base(path), nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; a server that starts clears away what it does not know: convert "+
			"again", err)
	}
	return l, err
}

// hashing writes and hashes at the same time, on two cores if there are.
type hashing struct {
	w io.Writer
	h hash.Hash
}

func (w *hashing) Write(b []byte) (int, error) {
	done := make(chan struct{})
	go func() {
		w.h.Write(b)
		close(done)
	}()
	n, err := w.w.Write(b)
	<-done
	return n, err
}

// freshLayers are the layers for a model that comes from a file, the first a place for the model
// itself.
func (s *Store) freshLayers(f *gguf.File) ([]layer, json.RawMessage, error) {
	info, err := inspect(f)
	if err != nil {
		return nil, nil, err
	}
	layers := []layer{{MediaType: mediaModel}}
	chat, _, err := f.String("tokenizer.chat_template")
	if err != nil {
		return nil, nil, err
	}
	if chat != "" {
		// An unknown template is no error: the host then shows the prompt as it is.
		if t, err := template.Named(chat); err == nil {
			l, err := s.writeBlob(mediaTemplate, t.Bytes)
			if err != nil {
				return nil, nil, err
			}
			layers = append(layers, l)
			if t.Parameters != nil {
				b, err := encodeJSON(t.Parameters)
				if err != nil {
					return nil, nil, err
				}
				if l, err = s.writeBlob(mediaParams, b); err != nil {
					return nil, nil, err
				}
				layers = append(layers, l)
			}
		}
	}
	config, err := encodeJSON(model.ConfigV2{
		ModelFormat: "gguf", ModelFamily: info.Architecture,
		ModelFamilies: []string{info.Architecture},
		ModelType:     format.HumanNumber(info.ParameterCount), FileType: info.FileType,
		OS: "linux", Architecture: "amd64", RootFS: model.RootFS{Type: "layers"},
	})
	return layers, config, err
}

// writeConfig stores the source's configuration with the new list of layers; what else is in it
// stays.
func (s *Store) writeConfig(config json.RawMessage, layers []layer) (layer, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		return layer{}, fmt.Errorf("the model's configuration is not JSON: %w; pull or create it "+
			"again", err)
	}
	root := model.RootFS{Type: "layers"}
	for _, l := range layers {
		root.DiffIDs = append(root.DiffIDs, l.Digest)
	}
	b, err := json.Marshal(root)
	if err != nil {
		return layer{}, err
	}
	fields["rootfs"] = b
	if b, err = encodeJSON(fields); err != nil {
		return layer{}, err
	}
	return s.writeBlob(mediaConfig, b)
}

// setNumCtx writes the parameter num_ctx.
func (s *Store) setNumCtx(m *manifest, r *Report, f *gguf.File, want, last int) error {
	if want == 0 {
		want = last
	}
	err := s.editParams(m, func(params map[string]any) { params["num_ctx"] = want })
	if err != nil {
		return err
	}
	r.NumCtx = want
	if n := cacheBytes(cacheElements(f), want, "f16"); n > 0 {
		r.Notes = append(r.Notes,
			fmt.Sprintf("num_ctx is %d: the cache of keys and values takes about %s; choose a "+
				"smaller num_ctx if memory is short", want, format.HumanBytes2(n)))
	}
	return nil
}

// editParams changes the parameters of a model.
func (s *Store) editParams(m *manifest, edit func(map[string]any)) error {
	params := make(map[string]any)
	at := slices.IndexFunc(m.Layers, func(l layer) bool { return l.MediaType == mediaParams })
	if at >= 0 {
		b, err := s.readBlob(m.Layers[at].Digest)
		if err != nil {
			return err
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber() // a parameter must not change by being read
		if err := d.Decode(&params); err != nil {
			return fmt.Errorf("the model's parameters are not JSON: %w; pull or create it again",
				err)
		}
		m.Layers = slices.Delete(m.Layers, at, at+1)
	}
	edit(params)
	if len(params) == 0 {
		return nil
	}
	b, err := encodeJSON(params)
	if err != nil {
		return err
	}
	l, err := s.writeBlob(mediaParams, b)
	if err != nil {
		return err
	}
	if at < 0 {
		at = len(m.Layers)
	}
	m.Layers = slices.Insert(m.Layers, at, l)
	return nil
}

// layerNumCtx sets the parameter num_ctx of a model whose ladder is a layer, and returns the one
// that src had before it was extended; nil for none.
func (s *Store) layerNumCtx(m *manifest, r *Report, src *Source, want int) (had any, err error) {
	err = s.editParams(m, func(params map[string]any) {
		had = params["num_ctx"]
		delete(params, "num_ctx")
		if want > 0 {
			params["num_ctx"] = want
		}
	})
	if err != nil {
		return nil, err
	}
	if want == 0 && had != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("%s has num_ctx %v, which is left out: the host "+
			"takes the longest rung that fits its memory, or --num-ctx", src.Name, had))
	}
	if src.Ladder != nil { // it is that model's own
		had = nil
		if raw, ok := src.Ladder.Extra[fieldNumCtx]; ok {
			had = raw
		}
	}
	r.NumCtx = want
	return had, nil
}

// writeShared puts a model into the store that has blobs of src.
func (s *Store) writeShared(n model.Name, m *manifest, src *Source) error {
	config, err := s.readBlob(src.manifest.Config.Digest)
	if err != nil {
		return err
	}
	if m.Config, err = s.writeConfig(config, m.Layers); err != nil {
		return err
	}
	return s.writeManifest(n, m)
}

// output is the name of a model that is made of src in its store.
func (src *Source) output(name string) (model.Name, error) { return src.outputIn(src.store, name) }

func (src *Source) outputIn(s *Store, name string) (model.Name, error) {
	n, _, err := s.parse(name)
	if err != nil {
		return n, err
	}
	if src.Kind == KindStore && n.DisplayShortest() == src.Name {
		return n, fmt.Errorf("%s: the output is the input itself; give the output another name",
			name)
	}
	return n, nil
}

// checkNumCtx checks Options.NumCtx against the longest rung.
func checkNumCtx(n, last int) error {
	if n > last {
		return fmt.Errorf("num_ctx %d is more than the longest rung, %d", n, last)
	}
	if n < 0 {
		return fmt.Errorf("num_ctx is %d", n)
	}
	return nil
}
