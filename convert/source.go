package convert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/longrope/longrope/convert/hf"
	"github.com/longrope/longrope/ropescale"
)

// Kind is what a MODEL argument turned out to be.
type Kind int

const (
	// KindFile is a GGUF file, or the parts of one.
	KindFile Kind = iota
	// KindStore is a model of the local Ollama store.
	KindStore
	// KindCheckpoint is a Hugging Face checkpoint folder.
	KindCheckpoint
)

// Source is a resolved MODEL argument.
type Source struct {
	Kind Kind
	// Path is the GGUF file or the checkpoint folder to open; for a model of the store, its blob.
	Path string
	// Name is what to call the model: the file's path or the short name in the store, with its tag.
	Name string
	// Digest is sha256:… of a store's blob; empty for a file.
	Digest string
	// Ladder of the layer that a model of the store has next to its file; nil for none.
	Ladder *ropescale.Ladder

	store        *Store
	manifest     *manifest
	ladderDigest string
}

// Resolve finds what the user means by arg: a GGUF file or a checkpoint folder if one of that name
// exists or arg looks like a path (a separator at its start, ./, ../, or .gguf at its end), else a
// name in the local Ollama store, where Store.Find explains what it found instead.
func Resolve(arg string) (*Source, error) {
	if arg == "" {
		return nil, errors.New("no model given: name a GGUF file or a model of the Ollama store")
	}
	fi, err := os.Stat(arg)
	switch {
	case err == nil && fi.Mode().IsRegular():
		return &Source{Kind: KindFile, Path: arg, Name: arg}, nil
	case err == nil && hf.IsCheckpoint(arg):
		return &Source{Kind: KindCheckpoint, Path: arg, Name: filepath.Clean(arg)}, nil
	case err == nil && fi.IsDir():
		if err := checkFolder(arg); err != nil {
			return nil, err
		}
	case err == nil:
		return nil, fmt.Errorf("%s: neither a file nor a folder", arg)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if looksLikePath(arg) {
		return nil, missing(arg)
	}
	s, err := OpenStore("")
	if err != nil {
		return nil, fmt.Errorf("%s: no such file, and no Ollama store to look it up in: %w", arg,
			err)
	}
	return s.Find(arg)
}

func looksLikePath(arg string) bool {
	return filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "~") ||
		strings.HasSuffix(strings.ToLower(arg), ".gguf") || strings.ContainsRune(arg, '\\')
}

// checkFolder says what a folder is. nil: nothing that this package knows, and arg may still be a
// name.
func checkFolder(dir string) error {
	files, _ := filepath.Glob(filepath.Join(dir, "*.gguf"))
	if len(files) > 0 {
		return fmt.Errorf("%s: a folder; name the model file in it, such as %s", dir, files[0])
	}
	if looksLikePath(dir) {
		return fmt.Errorf("%s: a folder without config.json (Hugging Face) or a .gguf file", dir)
	}
	return nil
}

// missing is the error for a path that is not there, with what is there instead.
func missing(path string) error {
	var names []string
	if entries, err := os.ReadDir(filepath.Dir(path)); err == nil {
		for _, e := range entries {
			if strings.HasSuffix(strings.ToLower(e.Name()), ".gguf") {
				names = append(names, e.Name())
			}
		}
	}
	if near := nearest(filepath.Base(path), names); len(near) > 0 {
		return fmt.Errorf("%s: no such file; in the same folder: %s", path,
			strings.Join(near, ", "))
	}
	return fmt.Errorf("%s: %w", path, fs.ErrNotExist)
}
