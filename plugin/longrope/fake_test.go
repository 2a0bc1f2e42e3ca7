package longrope

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/search/searchtest"
)

// openFake loads fake models, and has their clock.
var openFake = opener{load: loadFake, now: searchtest.Now}

func loadFake(path string, o openOptions) (runner, error) {
	if os.Getenv("FAKE_BROKEN_WORKER") != "" && slices.Contains(os.Args, "worker") {
		return nil, fmt.Errorf("%s at %d tokens: out of memory", path, o.Length)
	}
	f, err := searchtest.Open(path, o.Name, o.Length)
	if err != nil {
		return nil, err
	}
	if o.Progress != nil {
		o.Progress(1)
	}
	return f, nil
}

// tinyModel is the model of searchtest on disk.
func tinyModel(t *testing.T) *model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	require.NoError(t, os.WriteFile(path, searchtest.TinyGGUF("llama"), 0o644))
	m, err := find(path)
	require.NoError(t, err)
	return m
}
