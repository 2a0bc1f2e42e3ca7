package longrope

import (
	"github.com/longrope/longrope/convert"
)

// model is a MODEL argument that was found, and what its file says.
type model struct {
	source *convert.Source
	name   string // for tables and messages
	path   string // of the GGUF
	info   *convert.ModelInfo
}

// find resolves a MODEL argument: a file, or a name in the local store.
func find(arg string) (*model, error) {
	src, err := convert.Resolve(arg)
	if err != nil {
		return nil, err
	}
	info, err := convert.Inspect(src.Path)
	if err != nil {
		return nil, err
	}
	return &model{source: src, name: src.Name, path: src.Path, info: info}, nil
}
