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
	if at := slowCPU(); err == nil && at != "" {
		a.say("no CPU backend of the host's is in %s: this will be slow, by ten times and more. Keep bin/ and lib/ together, or set OLLAMA_LIBRARY_PATH", at)
	}
	return e, err
}
