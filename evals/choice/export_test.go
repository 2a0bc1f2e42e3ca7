package choice

import (
	"context"

	"github.com/longrope/longrope/evals"
)

// The tests use these parts of the inside.
var (
	Always        = always
	ReadQuestions = readQuestions
)

func (q *Question) Check() error { return q.check() }

func PromptOf(name string, q Question, shots []Question, n int) (string, error) {
	return benchmarks[name].prompt(q, shots, n)
}

// Choice asks one method the questions of a benchmark.
func Choice(ctx context.Context, e evals.Engine, m evals.Method, questions, shots []Question,
	o Options,
) (*Result, error) {
	o.Questions, o.Examples = questions, shots
	s := evals.Setup{Engine: e, Lengths: []int{o.Length}}
	r, err := evals.RunOne[*Result](ctx, &o, s, m)
	if err != nil {
		return nil, err
	}
	return r[0], nil
}
