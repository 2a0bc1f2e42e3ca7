package search

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale"
)

// RunEngine is an engine that can be closed.
type RunEngine interface {
	Engine
	Close()
}

// NewEvaluator is a worker's part of a search: an evaluator on an engine that has loaded the model
// of the specification. threads are the engine's, 0 its default. It refuses readings that would
// take the engine outside its vocabulary. Close closes the engine.
func NewEvaluator(
	ctx context.Context, e RunEngine, s workers.Spec, threads int,
) (workers.Evaluator, error) {
	info := e.Info()
	if info.Digest != s.ModelDigest {
		return nil, fmt.Errorf("%s has changed: its digest is %s instead of %s",
			info.Model, info.Digest, s.ModelDigest)
	}
	w := &worker{engine: e}
	if err := json.Unmarshal(s.Readings, &w.judge); err != nil {
		return nil, fmt.Errorf("the readings of the search: %w", err)
	}
	if err := w.judge.check(s.Length, info.VocabSize); err != nil {
		return nil, err
	}
	var err error
	if w.description, err = describe(ctx, e, &w.judge, threads); err != nil {
		return nil, err
	}
	return w, nil
}

// CheckSpec holds the length of a specification against its readings, before an engine is opened
// for so many tokens.
func CheckSpec(s workers.Spec) error {
	var j judge
	if err := json.Unmarshal(s.Readings, &j); err != nil {
		return fmt.Errorf("the readings of the search: %w", err)
	}
	if n := j.length(); n != s.Length {
		return fmt.Errorf("the search asks for %d tokens, and its readings have %d", s.Length, n)
	}
	return nil
}

// worker evaluates on an engine of its own.
type worker struct {
	engine      RunEngine
	judge       judge
	kept        prefixes
	description workers.Engine
}

func (w *worker) Engine() workers.Engine { return w.description }

func (w *worker) Close() {
	w.kept.close()
	w.engine.Close()
}

func (w *worker) Evaluate(
	ctx context.Context, g ropescale.Rung, base *ropescale.Rung, readings []int,
) ([]float64, int, error) {
	return w.judge.evaluate(ctx, w.engine, &w.kept, g, base, readings)
}
