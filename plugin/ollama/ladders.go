//go:build cgo

package main

import (
	"bytes"
	"fmt"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
)

// ladders makes the ladders of "ollama create", the host's server.LadderMaker.
type ladders struct{}

// Fit is the ladder for a model file out of factors that LADDER names in a Modelfile.
func (ladders) Fit(path string, factors []byte) ([]byte, error) {
	l, err := ropescale.ReadFactors(bytes.NewReader(factors))
	if err != nil {
		return nil, fmt.Errorf("LADDER: %w", err)
	}
	return convert.FitLayer(path, l)
}

// Carried is the ladder that a checkpoint folder carries, for the file that the host made of it.
func (ladders) Carried(dir, path string) ([]byte, error) { return convert.CarriedLayer(dir, path) }
