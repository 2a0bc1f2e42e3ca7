package longrope

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
)

// choiceFlags are the flags of eval that are for benchmarks of multiple choice.
type choiceFlags struct {
	questions, examples []string
	shots, limit        int
}

// taskNames are what eval takes.
func taskNames() []string {
	return append([]string{"perplexity", "passkey", "all"}, evals.BenchmarkNames()...)
}

// readQuestions reads the files of a flag.
func readQuestions(benchmark, flag string, paths []string) ([]evals.Question, error) {
	var all []evals.Question
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		questions, err := evals.ReadQuestions(benchmark, f, filepath.Base(path))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		all = append(all, questions...)
	}
	return all, nil
}

func (a *app) evalChoice(ctx context.Context, benchmark, arg string, f evalFlags) error {
	c := f.choice
	switch {
	case len(c.questions) == 0:
		return fmt.Errorf("%s: give its file with --questions; the program brings none", benchmark)
	case c.shots > 0 && len(c.examples) == 0:
		return fmt.Errorf("--shots %d needs --examples: the file that they are taken from, not that of the questions", c.shots)
	case c.shots < 0 || c.limit < 0:
		return errors.New("--shots and --limit are numbers of questions; give 0 or more")
	case f.plot != "":
		return errors.New("--plot: a benchmark has no picture; --csv has each answer")
	}
	questions, err := readQuestions(benchmark, "questions", c.questions)
	if err != nil {
		return err
	}
	examples, err := readQuestions(benchmark, "examples", c.examples)
	if err != nil {
		return err
	}
	m, err := find(arg)
	if err != nil {
		return err
	}
	m, done, err := a.runnable(ctx, m)
	if err != nil {
		return err
	}
	defer done()
	lengths := f.lengths.ascending()
	target := int(f.target)
	if target == 0 {
		target = 4 * m.info.OriginalContextLength
		if len(lengths) > 0 {
			target = slices.Max(lengths)
		} else {
			lengths = []int{0} // the rung that the question's own length asks for
		}
	}
	methods, err := methodsFor(m, f.methods, target, lengths)
	if err != nil {
		return err
	}
	// Prompts of many examples have some thousand tokens, and must fit even where the model was trained for less.
	e, err := a.load(m, max(m.info.OriginalContextLength, 4096))
	if err != nil {
		return err
	}
	defer e.Close()
	var results []*evals.ChoiceResult
	started := time.Now()
	for _, method := range methods {
		if method.Ladder == nil { // a length asks for a rung by name
			method.Ladder = m.info.Ladder
		}
		for i, length := range lengths {
			if i > 0 && (method.Name == "stock" || method.Ladder == nil) {
				continue // the same at every length
			}
			before := len(results)
			r, err := evals.Choice(ctx, e, method, questions, examples, evals.ChoiceOptions{
				Benchmark: benchmark, Limit: c.limit, Shots: c.shots, Length: length,
				Progress: func(n, total int, label string) {
					a.progress(started, label, float64(before*total+n), float64(len(methods)*len(lengths)*total), "")
				}})
			if err != nil {
				a.done()
				return fmt.Errorf("%s, method %s: %w", benchmark, method.Name, err)
			}
			results = append(results, r)
		}
	}
	a.done()
	return a.reportChoice(benchmark, results, f)
}

func (a *app) reportChoice(benchmark string, results []*evals.ChoiceResult, f evalFlags) error {
	if f.csv != "" {
		if err := atomicfile.Write(f.csv, func(w io.Writer) error { return evals.WriteChoicesCSV(w, results) }); err != nil {
			return err
		}
		defer a.say("wrote %s", f.csv)
	}
	if a.json {
		return a.printJSON(struct {
			Benchmark string                `json:"benchmark"`
			Results   []*evals.ChoiceResult `json:"results"`
		}{benchmark, results})
	}
	percent := func(p evals.Proportion) string {
		return fmt.Sprintf("%.1f (%.1f … %.1f)", 100*p.Rate, 100*p.Low, 100*p.High)
	}
	var rows [][]string
	for _, r := range results {
		length := "its own"
		if r.Length > 0 {
			length = size(r.Length)
		}
		rows = append(rows, []string{r.Method, length, percent(r.Accuracy), percent(r.AccuracyNorm), fmt.Sprintf("%.1f ± %.1f", 100*r.Mass, 100*r.MassStderr)})
	}
	title := fmt.Sprintf("%s, %d questions, %d examples, in percent (95 %% interval)\n\n", benchmark, results[0].Accuracy.Trials, f.choice.shots)
	if err := a.print(title + table([]string{"method", "factors for", "acc", "acc_norm", "mass"}, rows, 1)); err != nil {
		return err
	}
	reported := "acc_norm"
	switch {
	case benchmark == "truthfulqa_mc2":
		reported = "mass"
	case benchmark == "mmlu" || strings.HasPrefix(benchmark, "truthfulqa"):
		reported = "acc"
	}
	a.say("papers report %s of %s", reported, benchmark)
	return nil
}
