package longrope

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// model is a MODEL argument that was found, and what its file says.
type model struct {
	source *convert.Source
	name   string // for tables and messages
	path   string // of the GGUF, or of the checkpoint's folder
	info   *convert.ModelInfo
}

// find resolves a MODEL argument: a file, a checkpoint folder, or a name in the local store.
func find(arg string) (*model, error) {
	src, err := convert.Resolve(arg)
	if err != nil {
		return nil, err
	}
	info, err := src.Inspect()
	if err != nil {
		return nil, err
	}
	return &model{source: src, name: src.Name, path: src.Path, info: info}, nil
}

// layer is the ladder that the model has next to its file, in the store; nil for none.
func (m *model) layer() *ropescale.Ladder {
	if m.source == nil { // a worker's, which has a file alone
		return nil
	}
	return m.source.Ladder
}

func (m *model) checkpoint() bool { return m.source.Kind == convert.KindCheckpoint }

// runnable is m as a GGUF, which is what the engine runs: a checkpoint becomes one in a temporary
// folder (TMPDIR says where), which done removes.
func (a *app) runnable(ctx context.Context, m *model) (gguf *model, done func(), err error) {
	if !m.checkpoint() {
		return m, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "longrope-")
	if err != nil {
		return nil, nil, fmt.Errorf("no place for %s as a GGUF: %w; set TMPDIR", m.name, err)
	}
	done = func() { os.RemoveAll(dir) }
	a.say("converting %s to a temporary GGUF; to keep one: ollama longrope convert %s -o %s",
		m.name, quote(m.name), quote(filepath.Base(m.name)+".gguf"))
	path := filepath.Join(dir, "model.gguf")
	started := a.now()
	_, err = convert.Convert(
		ctx,
		m.path,
		path,
		nil,
		convert.Options{Progress: func(now, total int64) {
			a.progress(started, "converting "+m.name, float64(now), float64(total), "")
		}},
	)
	a.done()
	if err != nil {
		done()
		return nil, nil, err
	}
	info, err := convert.Inspect(path)
	if err != nil {
		done()
		return nil, nil, err
	}
	info.Transformers, info.Lost = m.info.Transformers, m.info.Lost
	return &model{source: m.source, name: m.name, path: path, info: info}, done, nil
}
