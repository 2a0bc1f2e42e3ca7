//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSettings: those of the installation hold where the environment says nothing.
func TestSettings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, settingsFile)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, os.WriteFile(file, []byte("# a comment\nOLLAMA_HOST=127.0.0.1:11435\r\n"+
		"OLLAMA_MODELS=/a folder/x=y\nPATH=/nowhere\nOLLAMA_DEBUG=1"), 0o644))
	program := filepath.Join(dir, "bin", "ollama")
	require.NoError(t, os.WriteFile(program, nil, 0o755))
	link := filepath.Join(t.TempDir(), "ollama")
	require.NoError(t, os.Symlink(program, link))
	for _, name := range []string{"OLLAMA_HOST", "OLLAMA_MODELS"} {
		t.Setenv(name, "")
		require.NoError(t, os.Unsetenv(name))
	}
	t.Setenv("OLLAMA_DEBUG", "0")
	path := os.Getenv("PATH")

	takeSettings(link)
	assert.Equal(t, "127.0.0.1:11435", os.Getenv("OLLAMA_HOST"))
	assert.Equal(t, "/a folder/x=y", os.Getenv("OLLAMA_MODELS"))
	assert.Equal(t, "0", os.Getenv("OLLAMA_DEBUG"))
	assert.Equal(t, path, os.Getenv("PATH"))
	takeSettings(filepath.Join(t.TempDir(), "ollama")) // no installation: nothing happens
}
