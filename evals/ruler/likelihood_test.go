package ruler

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/recall"
	"github.com/longrope/longrope/evals/tasktest"
)

// written is how the true answers continue a prompt.
func written() map[string]func(r []string) string {
	return map[string]func(r []string) string{
		"niah_single_1":   func(r []string) string { return " " + r[0] },
		"niah_multiquery": func(r []string) string { return " " + strings.Join(r, ", ") },
		"vt":              func(r []string) string { return " " + strings.Join(r, " ") },
		"cwe": func(r []string) string {
			return " 1. " + r[0] + " 2. " + r[1] + " 3. " + r[2] + " 4. " + r[3] + " 5. " + r[4] +
				" 6. " + r[5] + " 7. " + r[6] + " 8. " + r[7] + " 9. " + r[8] + " 10. " + r[9]
		},
		"qa_1":     func(r []string) string { return " " + r[0] },
		"keyvalue": func(r []string) string { return ` "` + r[0] + `"` },
	}
}

// The NLL of the true answer is that of its tokens after the prompt, also where a token holds the
// end of the one and the beginning of the other.
func TestLikelihood(t *testing.T) {
	for name, write := range written() {
		task, err := evals.TaskByName(name)
		require.NoError(t, err)
		for _, tok := range []tasktest.Tokenizer{tasktest.Bytes{BOS: true}, tasktest.NewMerges()} {
			e := tasktest.New(tok)
			e.Original = 2700 // the last tokens of an answer can be beyond its reach
			c, err := evals.Compare(context.Background(), e, []evals.Method{{Name: "stock"}},
				evals.CompareOptions{
					Jobs:    []evals.Job{tasktest.Job(t, task, "--limit", "3", "--nll")},
					Lengths: []int{2800}, Books: books,
				})
			require.NoError(t, err)
			r := c.Tasks[0].Results[0].(*recall.Result)
			require.NotEmpty(t, r.Details)
			sum := 0.0
			for i, s := range samplesOf(t, e, name, []int{2800}, "--limit", "3") {
				require.Equal(t, s.Outputs, r.Details[i].References)
				answer := write(s.Outputs)
				prompt := e.Encode(s.Input+s.AnswerPrefix, true)
				all := e.Encode(s.Input+s.AnswerPrefix+answer, true)
				from := 0
				for from < len(prompt) && prompt[from] == all[from] {
					from++
				}
				want := 0.0
				for k := from; k < len(all); k++ {
					want += tasktest.Bigram(all[k-1], all[k])
					if k >= e.Original {
						want += tasktest.Penalty
					}
				}
				want /= float64(len(all) - from)
				require.InDelta(t, want, *r.Details[i].NLL, 1e-9, "%s: %q", name, answer)
				sum += want
			}
			require.InDelta(t, sum/float64(len(r.Details)), *c.Rows[0].Figure(name + "_nll"), 1e-9)
			require.NotNil(t, c.Rows[0].Figure(name+"_nll_stderr"))
		}
	}
}

// Questions to one context are one observation of the error.
func TestLikelihoodByContext(t *testing.T) {
	task, err := evals.TaskByName("keyvalue")
	require.NoError(t, err)
	e := tasktest.New(tasktest.Bytes{})
	run := func(limit string) recall.Cell {
		c, err := evals.Compare(context.Background(), e, []evals.Method{{Name: "stock"}},
			evals.CompareOptions{
				Jobs: []evals.Job{tasktest.Job(t, task, "--nll", "--per-context", "4",
					"--limit", limit)},
				Lengths: []int{3000},
			})
		require.NoError(t, err)
		return c.Tasks[0].Results[0].(*recall.Result).Lengths[0]
	}
	one := run("4")
	require.NotNil(t, one.NLL)
	require.Nil(t, one.NLLStderr, "of one context")
	two := run("8")
	require.Positive(t, *two.NLLStderr)
	require.False(t, math.IsNaN(*two.NLLStderr))
}
