//go:build cgo

package longrope

import "github.com/longrope/longrope/plugin/engine"

// openEngine is the opener of the program.
var openEngine = opener{load: loadEngine}

func loadEngine(path string, o openOptions) (runner, error) {
	findGPUs()
	e, err := engine.Open(path, engine.Options{
		Name: o.Name, Length: o.Length, Threads: o.Threads, Batch: o.Batch,
		GPULayers: &o.GPULayers, Ladder: o.Ladder, Progress: o.Progress,
	})
	if err != nil {
		return nil, err // not e: a nil *Engine in an interface is not nil
	}
	return e, nil
}
