package extend

import (
	"embed"
	"os"
	"path/filepath"

	"github.com/longrope/longrope/convert/atomicfile"
)

//go:embed train.py rope.py data.py model.py
var recipe embed.FS

// recipeMain is the file of the recipe to run.
const recipeMain = "train.py"

// Needs are the Python modules that the recipe imports.
func Needs() []string { return []string{"torch", "transformers", "safetensors", "gguf", "numpy"} }

// Write writes the recipe's files into dir, which it makes if need be, and replaces what is there
// under their names.
func Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := recipe.ReadDir(".")
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := recipe.ReadFile(f.Name())
		if err != nil {
			return err
		}
		if err := atomicfile.WriteBytes(filepath.Join(dir, f.Name()), b); err != nil {
			return err
		}
	}
	return nil
}
