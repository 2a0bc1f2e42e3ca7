//go:build stock

package gosession

import (
	"github.com/ollama/ollama/model"
	"github.com/ollama/ollama/model/input"

	"github.com/longrope/longrope/tests/session"
)

type ladders struct{}

func newLadders(model.Model, session.Options) ladders { return ladders{} }

func (ladders) setRungs(*input.Batch) {}
