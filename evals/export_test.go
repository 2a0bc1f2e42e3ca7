package evals

import "context"

// The tests use these parts of the inside. They are a package of their own, since tasktest imports
// this one.
// one.
var Always = always

func (q *Question) Check() error { return q.check() }

func PromptOf(name string, q Question, shots []Question, n int) (string, error) {
	return benchmarks[name].prompt(q, shots, n)
}

func AskPasskey(ctx context.Context, e Engine, p *Prompt, o PasskeyOptions) (PasskeyTrial, error) {
	return new(PasskeyResult).ask(ctx, e, p, o)
}
