package longrope

import (
	"time"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

// An opener is what the commands have of the machine: how a model is loaded to run it, and the
// clock (nil is time.Now). Tests give others.
type opener struct {
	load func(path string, o openOptions) (runner, error)
	// slow says, after load, where the CPU's backend should be if there is none; nil says nothing.
	slow func() (dirs string)
	now  func() time.Time
}

// openOptions are what the commands say about a model to run; zero values are the engine's
// defaults.
type openOptions struct {
	Name           string // in reports
	Engine         string // as --engine: "" is that which can load the model
	Length         int    // of the longest sequence, tokens
	Threads, Batch int
	GPULayers      int  // as --gpu-layers: 0 is none, -1 all
	Forks          bool // prefixes can be kept (evals.Forker)
	// Ladder that the model has next to its file, in the store; nil for none.
	Ladder   *ropescale.Ladder
	Progress func(share float32)
}

// runner is an engine that can be closed.
type runner = search.RunEngine

// load opens the model of m for sequences of up to length tokens, with progress.
func (a *app) load(m *model, length int) (runner, error) { return a.loadFor(m, length, false) }

// loadFor is load for an engine that keeps prefixes, or does not.
func (a *app) loadFor(m *model, length int, forks bool) (runner, error) {
	started := a.now()
	e, err := a.open.load(m.path, openOptions{
		Name: m.name, Engine: a.engine, Length: length, Threads: a.threads, Batch: a.batch,
		GPULayers: a.gpuLayers, Ladder: m.layer(), Forks: forks,
		Progress: func(share float32) {
			a.progress(started, "loading "+m.name, float64(share), 1, "")
		},
	})
	a.done()
	if err == nil && a.engine == "" && e.Info().Engine == evals.GoEngine {
		a.say("%s runs on the host's Go engine; the llama.cpp engine cannot load it", m.name)
	}
	if err == nil && a.open.slow != nil {
		if dirs := a.open.slow(); dirs != "" {
			a.say("no CPU backend of the host's is loaded from %s: this will be slow, by ten "+
				"times and more. Keep bin/ and lib/ollama/ together, or set "+
				"OLLAMA_LIBRARY_PATH to a folder lib/ollama", dirs)
		}
	}
	return e, err
}
