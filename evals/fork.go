package evals

import (
	"context"
	"errors"

	"github.com/longrope/longrope/ropescale"
)

// ErrNoForks is the answer of an engine that cannot keep the keys of a prefix, or cannot turn those
// of this model. Read exactly.
var ErrNoForks = errors.New("a prefix cannot be kept and forked")

// Forker is an Engine that keeps what it computed of a prefix and scores what may follow it.
type Forker interface {
	Engine
	// NewPrefix evaluates tokens under base and keeps their keys and values. It returns -ln p of
	// tokens[from:] too, in nats; from is at least 1, and their number for none. Engines that
	// cannot keep a prefix return ErrNoForks.
	NewPrefix(ctx context.Context, tokens []int, base ropescale.Rung, from int) (
		Prefix, []float64, error)
	// PrefixBytes is the memory that a prefix of n tokens takes until it is closed, in bytes.
	PrefixBytes(n int) (int64, error)
}

// Prefix is a sequence whose keys and values are kept, as they were under a base rung. Close it.
type Prefix interface {
	// Score evaluates forks under a rung and returns for each -ln p of its tokens from From, in
	// nats. See Fork.
	//
	// Of the prefix only the keys are those of the rung, turned from where the base had turned them
	// to: what else its tokens left behind, values and the keys before they were turned, is as the
	// base made it. So scores are exact where the rung is the base, and in a model of one layer;
	// else they are near, and the nearer the rung is to the base the nearer they are. The forks
	// themselves are evaluated under the rung in full.
	Score(ctx context.Context, rung ropescale.Rung, forks []Fork) ([][]float64, error)
	Close()
}

// Fork is a continuation of the first At tokens of a prefix, which replaces what the prefix has
// there. It knows nothing of other forks.
type Fork struct {
	// At is the number of tokens of the prefix before it, at least 1.
	At int
	// Tokens are at positions At, At+1, …
	Tokens []int
	// From is the first of Tokens to be scored, at least 1: what precedes the first one is not
	// evaluated again.
	From int
}
