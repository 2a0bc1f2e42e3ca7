//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"strings"
)

// settingsFile has what install.sh was asked for, one NAME=value in a line.
const settingsFile = "share/ollama-longrope/env"

// takeSettings sets what the settings of the installation that program is in say and the
// environment does not: an installation next to an official Ollama has a port and models of its
// own, for the server and its clients.
func takeSettings(program string) {
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(program), "..", settingsFile))
	if err != nil {
		return // not installed by install.sh, or without settings
	}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if _, set := os.LookupEnv(name); ok && !set && strings.HasPrefix(name, "OLLAMA_") {
			os.Setenv(name, value)
		}
	}
}
