package evals

import (
	"context"
	"errors"
)

// Answerer is an Engine that takes and gives text: a server, whose tokenizer and template are its
// own.
type Answerer interface {
	Engine
	// Answer continues a prompt greedily. An answer that says nothing about the model, since the
	// prompt was cut or refused as too long, is ErrUnanswered.
	Answer(ctx context.Context, a Ask) (string, error)
}

// AsAnswerer is e if it takes text: itself, or an engine around one.
func AsAnswerer(e Engine) (Answerer, bool) {
	if around, ok := e.(interface{ Answerer() (Answerer, bool) }); ok {
		return around.Answerer()
	}
	a, ok := e.(Answerer)
	return a, ok
}

// Ask is a prompt for an Answerer.
type Ask struct {
	Input  string // the question with its context
	Prefix string // what the answer begins with
	Tokens int    // of both in the model's tokens; 0 is not known
	Answer int    // tokens to be generated at most
}

// ErrNoTokenizer is an engine that cannot tokenize. Prompts that say how many tokens they take can
// be asked still.
var ErrNoTokenizer = errors.New("no tokenizer: name a local model too, or ask --samples")

// ErrUnanswered is a prompt that was not read as it was sent.
var ErrUnanswered = errors.New("not answered")

// ErrNoLikelihoods is a likelihood asked of an Answerer.
var ErrNoLikelihoods = errors.New("--nll: a server gives text, no likelihoods; leave it out")

// ErrNoSamples is a file of samples that has none of a task.
var ErrNoSamples = errors.New("no samples")
