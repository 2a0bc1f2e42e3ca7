//go:build cgo

package engine

import (
	"errors"
	"fmt"

	"github.com/ollama/ollama/model"

	"github.com/longrope/longrope/evals"
)

// errNotLoaded is that the llama.cpp engine cannot load a model.
var errNotLoaded = errors.New("the llama.cpp engine cannot load the model")

// Runner is either engine.
type Runner interface {
	evals.Engine
	Close()
}

// OpenOn loads a GGUF on the engine of a name. Without one that is the llama.cpp engine, or for a
// model that it cannot load, because of its architecture or the form of its tensors, the Go engine.
func OpenOn(name, path string, o Options) (Runner, error) {
	if name == evals.GoEngine {
		e, err := openGo(path, o)
		if err != nil {
			return nil, err // not e: a nil pointer in an interface is not nil
		}
		return e, nil
	}
	if name != evals.LlamaEngine && name != "" {
		return nil, fmt.Errorf("engine %q: want %s or %s", name, evals.LlamaEngine, evals.GoEngine)
	}
	e, err := Open(path, o)
	if err == nil {
		return e, nil
	}
	if name == evals.LlamaEngine || !errors.Is(err, errNotLoaded) {
		return nil, err
	}
	other, errGo := openGo(path, o)
	switch {
	case errGo == nil:
		return other, nil
	case errors.Is(errGo, model.ErrUnsupportedModel): // which says nothing of the file
		return nil, err
	}
	return nil, fmt.Errorf("%w; the Go engine cannot either: %w", err, errGo)
}
