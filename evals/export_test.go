package evals

import "context"

// The tests use these parts of the inside. They are a package of their own, since tasktest imports
// this one.
var (
	Always             = always
	BucketEdges        = bucketEdges
	LadderDigest       = ladderDigest
	WeightedMeanStderr = weightedMeanStderr
)

func (q *Question) Check() error { return q.check() }

func PromptOf(name string, q Question, shots []Question, n int) (string, error) {
	return benchmarks[name].prompt(q, shots, n)
}

func AskPasskey(ctx context.Context, e Engine, p *Prompt, o PasskeyOptions) (PasskeyTrial, error) {
	return new(PasskeyResult).ask(ctx, e, p, o)
}

// Choice asks one method the questions of a benchmark.
func Choice(ctx context.Context, e Engine, m Method, questions, shots []Question,
	o ChoiceOptions,
) (*ChoiceResult, error) {
	o.Questions, o.Examples = questions, shots
	r, err := runOne[*ChoiceResult](ctx, &o, Setup{Engine: e, Lengths: []int{o.Length}}, m)
	if err != nil {
		return nil, err
	}
	return r[0], nil
}
