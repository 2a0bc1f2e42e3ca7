// Package recall measures whether a model finds what stands in a long text, by samples that are
// generated: a context of some length, questions to it, and the references that an answer should
// name. Package ruler has such tasks.
//
// A task is a Kind: data and a function that draws a sample with so many units of haystack. Samples
// are fitted in the tokens of the model under test: prompt and room for the answer take at most the
// length, and one more unit would be too much for the first sample. The amount of haystack is found
// once for a length; a sample whose words take more tokens gives up as much of it as that needs.
// The same seed, texts and tokenizer make the same samples everywhere.
//
// A score is the mean over samples. Its interval is Wilson's 95 % interval of a share of contexts:
// exact in spirit where a sample is right or wrong, and too wide where it can be right in part,
// since the variance of a number from 0 to 1 with mean p is at most p(1-p). Next to it stands a
// floor: what the references of other contexts of the same length score as answers, which is what a
// model gets that knows the form of an answer and did not read the text.
//
// A prompt that a server cut, or that does not fit, is not scored. It counts as unscored, never as
// 0 %.
//
// With --nll stands the NLL of the true answer next to that: the mean over its tokens after the
// prompt. It differs between sets of factors where a model is too small to be right with any.
package recall

import (
	"fmt"
	"math/rand/v2"

	"github.com/longrope/longrope/evals"
)

// Kind is a task with generated samples.
type Kind struct {
	// Name, Group, Suite, Version and Help are those of evals.Task.
	Name, Group, Suite, Help string
	Version                  int
	// Answer is how many tokens are generated.
	Answer int
	// Essay says that the haystack is text, whose units are words.
	Essay bool
	// Units is the largest amount of haystack; 0: there is always more.
	Units int
	// Questions is how many questions a context can be asked; 0 is 1.
	Questions int
	// Draw makes a sample. With other Units all else that is drawn is the same, and the prompt
	// grows with them.
	Draw func(Request) (Sample, error)
	// Once is computed before the first sample, from a count of tokens; nil: nothing is.
	Once func(count func(text string) (int, error)) (int, error)
	// Score is the share of an answer that is right, 0 to 1.
	Score func(answer string, references []string) float64
	// Write is the true answer as it continues the prompt, for its NLL; nil: a blank, then the
	// references with commas between them.
	Write func(references []string) string
	// File is what samples are made of, where a task needs one of the user's.
	File *File
}

// File is a flag that names a data set.
type File struct {
	Flag, Usage string
	// Example is a small one, for tests.
	Example evals.ExampleFile
	// Read gives the data, and how many samples it is enough for.
	Read func(path string) (data any, samples int, err error)
}

// Request is what a sample is drawn from.
type Request struct {
	Rand      *rand.Rand
	Units     int      // of haystack
	Questions int      // to the context
	Length    int      // of prompt and answer, tokens
	Index     int      // of the context
	Words     []string // of an essay
	Once      int      // what Kind.Once computed
	Data      any      // what File.Read read
}

// Sample is a context and its questions.
type Sample struct {
	// Context begins every prompt.
	Context   string
	Questions []Question
}

// Question is the rest of a prompt and what is to be found.
type Question struct {
	Text string
	// Prefix begins the answer: the model continues it.
	Prefix     string
	References []string
}

// Register makes a task of each kind.
func Register(kinds ...Kind) (tasks []evals.Task) {
	for _, k := range kinds {
		tasks = append(tasks, evals.Register(k.task()))
	}
	return tasks
}

// task is a kind as a task.
func (k Kind) task() evals.Task {
	t := evals.Task{
		Name: k.Name, Group: k.Group, Suite: k.Suite, Version: k.Version, Help: k.Help,
		Server: true,
		New:    func() evals.Job { return &Options{kind: k} },
		Result: func() evals.Result { return &Result{} },
		Columns: []string{
			k.Name, k.Name + "_low", k.Name + "_high", k.Name + "_floor", k.Name + "_unscored",
			k.Name + "_nll", k.Name + "_nll_stderr",
		},
		Table: []evals.Cell{
			{Head: k.Name, Text: k.cell},
			{Head: "floor", Text: func(r evals.Row) string {
				return evals.Percent(r.Figure(k.Name+"_floor"), " %")
			}},
			{Head: "nll of the answer", Text: func(r evals.Row) string {
				nll, stderr := r.Figure(k.Name+"_nll"), r.Figure(k.Name+"_nll_stderr")
				if nll == nil || stderr == nil {
					return evals.FormatFigure("%.3f", nll)
				}
				return fmt.Sprintf("%.3f ± %.3f", *nll, *stderr)
			}},
		},
		Sheets: []evals.Sheet{
			evals.SheetOf("", []string{
				"method", "length", "samples", "score", "low", "high", "floor", "unscored", "nll",
				"nll_stderr",
			}, (*Result).rows),
			evals.SheetOf("trials", []string{
				"method", "length", "sample", "context", "prompt_tokens", "references", "answer",
				"score", "nll", "note",
			}, (*Result).trials),
		},
	}
	if k.File != nil {
		t.Example = []evals.ExampleFile{k.File.Example}
	}
	return t
}

// cell is a score with its interval, in percent, or why there is none.
func (k Kind) cell(r evals.Row) string {
	score, unscored := r.Figure(k.Name), r.Figure(k.Name+"_unscored")
	low, high := r.Figure(k.Name+"_low"), r.Figure(k.Name+"_high")
	text := ""
	if score != nil && low != nil && high != nil {
		text = fmt.Sprintf("%.1f (%.0f … %.0f)", 100**score, 100**low, 100**high)
	}
	if unscored != nil && *unscored > 0 {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%.0f unscored", *unscored)
	}
	return text
}
