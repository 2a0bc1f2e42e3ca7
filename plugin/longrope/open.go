package longrope

import (
	"time"

	"github.com/longrope/longrope/evals"
)

// An opener loads a model to run it.
type opener func(path string, o openOptions) (runner, error)

// openOptions are what the commands say about a model to run; zero values are the engine's defaults.
type openOptions struct {
	Name           string // in reports
	Length         int    // of the longest sequence, tokens
	Threads, Batch int
	GPULayers      int
	Progress       func(share float32)
}

// runner is an engine that can be closed.
type runner interface {
	evals.Engine
	Close()
}

// load opens the model of m for sequences of up to length tokens, with progress.
func (a *app) load(m *model, length int) (runner, error) {
	started := time.Now()
	e, err := a.open(m.path, openOptions{Name: m.name, Length: length, Threads: a.threads, Batch: a.batch, GPULayers: a.gpuLayers,
		Progress: func(share float32) { a.progress(started, "loading "+m.name, float64(share), 1, "") }})
	a.done()
	return e, err
}
