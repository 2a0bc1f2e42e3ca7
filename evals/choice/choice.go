// Package choice asks the questions of multiple-choice benchmarks by log-likelihood, from the files
// that their authors or the Hugging Face hub publish, with the prompts, the split into tokens and
// the normalisation of lm-evaluation-harness. Each benchmark is a task of package evals. To add
// one, add an entry to benchmarks in question.go.
//
// Two things differ from the harness: the examples of few-shot prompts, which come in the order of
// their file, and BOS, which the model's tokenizer decides. Short questions get a model's own RoPE
// whatever the ladder; Options.Length measures how the factors for long texts change them.
package choice

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// version is that of all benchmarks.
const version = 1

// The benchmarks of multiple choice are tasks, one each.
var _ = addBenchmarks()

func addBenchmarks() []evals.Task {
	for _, name := range BenchmarkNames() {
		b := benchmarks[name]
		evals.Register(evals.Task{
			Name: name, Version: version, Help: b.help, Group: "benchmarks", Short: true,
			New:    func() evals.Job { return &Options{Benchmark: name} },
			Result: func() evals.Result { return &Result{} },
			Columns: []string{
				"acc", "acc_low", "acc_high", "acc_norm", "acc_norm_low",
				"acc_norm_high", "mass", "mass_stderr",
			},
			Table: []evals.Cell{
				{Head: "acc", Text: func(r evals.Row) string { return interval(r, "acc") }},
				{Head: "acc_norm", Text: func(r evals.Row) string {
					return interval(r, "acc_norm")
				}},
				{Head: "mass", Text: func(r evals.Row) string {
					mass, stderr := r.Figure("mass"), r.Figure("mass_stderr")
					if mass == nil || stderr == nil {
						return ""
					}
					return fmt.Sprintf("%.1f ± %.1f", 100**mass, 100**stderr)
				}},
			},
			Sheets: []evals.Sheet{
				evals.SheetOf("", []string{
					"method", "length", "questions", "acc", "acc_low", "acc_high",
					"acc_norm", "acc_norm_low", "acc_norm_high", "mass", "mass_stderr",
				},
					(*Result).rows),
				evals.SheetOf("trials", []string{
					"method", "length", "id", "choice", "correct",
					"choice_norm", "correct_norm", "mass", "note",
				}, (*Result).trials),
			},
			Example: []evals.ExampleFile{{Flag: "questions", Name: b.file, Text: b.example}},
		})
	}
	return nil
}

// interval writes a share and its 95 % interval in percent.
func interval(r evals.Row, name string) string {
	rate, low, high := r.Figure(name), r.Figure(name+"_low"), r.Figure(name+"_high")
	if rate == nil || low == nil || high == nil {
		return ""
	}
	return fmt.Sprintf("%.1f (%.1f … %.1f)", 100**rate, 100**low, 100**high)
}

// Options are the settings of a benchmark; zero values are the defaults named.
type Options struct {
	// Benchmark is one of BenchmarkNames.
	Benchmark string `json:"benchmark"`
	// Limit is how many questions are asked, from the first; 0 is all.
	Limit int `json:"limit"`
	// Shots is how many examples precede each question: the first ones of the examples given, for
	// MMLU of its subject. The harness draws ARC's and HellaSwag's at random, from a generator that
	// is Python's own; MMLU's are the first there too. TruthfulQA has its six in any case.
	Shots int `json:"shots"`
	// Length gives every question the factors of the rung for so many tokens, as if a text of that
	// length surrounded it; 0: the rung that its own length asks for, which for short questions is
	// the model's own RoPE whatever the ladder. A Job has it from Setup.Lengths.
	Length int `json:"length"`
	// Questions are asked; Examples are what Shots are taken from.
	Questions []Question `json:"-"`
	Examples  []Question `json:"-"`

	questions, examples []string // files
}

// Task is the benchmark.
func (o *Options) Task() string { return o.Benchmark }

// Flags declares the settings that a command offers.
func (o *Options) Flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.questions, "questions", nil,
		"`FILE` of questions, .jsonl, .json or .csv (repeatable)")
	f.StringArrayVar(&o.examples, "examples", nil,
		"`FILE` that --shots are taken from (repeatable)")
	f.IntVar(&o.Shots, "shots", 0, "Examples before each question")
	f.IntVar(&o.Limit, "limit", 0, "Questions at most, of each length where they are "+
		"generated (default: all of a file, 20 generated ones)")
}

// Load reads questions and examples.
func (o *Options) Load() (err error) {
	switch {
	case len(o.questions) == 0:
		return fmt.Errorf("%s: give its file with --questions; the program brings none",
			o.Benchmark)
	case o.Shots > 0 && len(o.examples) == 0:
		return fmt.Errorf("--shots %d needs --examples: the file that they are taken from, not "+
			"that of the questions", o.Shots)
	case o.Shots < 0 || o.Limit < 0:
		return errors.New("--shots and --limit are numbers of questions; give 0 or more")
	}
	if o.Questions, err = o.read("questions", o.questions); err != nil {
		return err
	}
	o.Examples, err = o.read("examples", o.examples)
	return err
}

// read reads the files of a flag.
func (o *Options) read(flag string, paths []string) (all []Question, err error) {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		questions, err := readQuestions(o.Benchmark, f, filepath.Base(path))
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		all = append(all, questions...)
	}
	return all, nil
}

// Longest is how many tokens the longest prompt takes with its choice; 0 where enough are enough.
func (o *Options) Longest(e evals.Engine, enough int) (longest int, err error) {
	b := benchmarks[o.Benchmark]
	for i, q := range o.Questions {
		if o.Limit > 0 && i == o.Limit {
			break
		}
		prompt, err := b.prompt(q, o.Examples, o.Shots)
		if err != nil {
			return 0, nil // Prepare says it
		}
		for _, c := range q.Choices {
			if len(prompt)+len(c) < enough-8 {
				continue // a token has a byte at least
			}
			tokens, err := e.Tokenize(prompt+" "+c, true)
			if err != nil {
				return 0, err
			}
			longest = max(longest, len(tokens))
		}
	}
	return longest, nil
}

// Prepare makes every prompt once.
func (o *Options) Prepare(s evals.Setup) (*evals.Plan, error) {
	given := *o
	eff := given
	b, ok := benchmarks[o.Benchmark]
	switch {
	case !ok:
		return nil, fmt.Errorf("unknown benchmark %q", o.Benchmark)
	case len(o.Questions) == 0:
		return nil, errors.New("no questions")
	case o.Limit < 0 || o.Shots < 0 || slices.Min(s.Lengths) < 0:
		return nil, fmt.Errorf("limit %d, shots %d, lengths %v: want no negative numbers", o.Limit,
			o.Shots, s.Lengths)
	}
	if eff.Limit == 0 || eff.Limit > len(eff.Questions) {
		eff.Limit = len(eff.Questions)
	}
	eff.Questions = eff.Questions[:eff.Limit]
	prompts := make([]string, eff.Limit)
	for i, q := range eff.Questions {
		var err error
		if prompts[i], err = b.prompt(q, eff.Examples, eff.Shots); err != nil {
			return nil, fmt.Errorf("question %s: %w", q.ID, err)
		}
	}
	return &evals.Plan{
		Args: eff, Calls: len(prompts) * len(s.Lengths),
		Run: func(ctx context.Context, m evals.Method, p evals.Progress) (
			results []evals.Result, err error,
		) {
			if m.Ladder == nil { // a length asks for a rung of it
				m.Ladder = s.Carried
			}
			for i, length := range s.Lengths {
				if i > 0 && (m.Name == "stock" || m.Ladder == nil) {
					continue // the same at every length
				}
				given.Length, eff.Length = length, length
				r, err := choice(ctx, s.Engine, m, prompts, given, eff,
					p.From(i*len(prompts), len(prompts)*len(s.Lengths)))
				if err != nil {
					return nil, err
				}
				results = append(results, r)
			}
			return results, nil
		},
	}, nil
}

// Answer is what a model made of one question.
type Answer struct {
	ID         string    `json:"id"`
	NLL        []float64 `json:"nll"`         // of each choice, in nats, the sum over its tokens
	Choice     int       `json:"choice"`      // the likeliest
	ChoiceNorm int       `json:"choice_norm"` // the likeliest by character
	Correct    bool      `json:"correct"`
	// CorrectNorm is acc_norm's verdict: likelihoods by the length of a choice in characters.
	CorrectNorm bool `json:"correct_norm"`
	// Mass is the share of the likelihood of all choices that the correct ones have.
	Mass float64 `json:"mass"`
	// Note says why the question was not asked; it counts nowhere then.
	Note string `json:"note,omitempty"`
}

// Result is what a benchmark measured. lm-evaluation-harness calls Accuracy acc, AccuracyNorm
// acc_norm. Papers give acc_norm for ARC and HellaSwag, acc for MMLU and TruthfulQA's mc1, and Mass
// for its mc2.
type Result struct {
	evals.Provenance
	Questions    string           `json:"questions"` // digest of what was asked
	Length       int              `json:"length"`    // of Args
	Accuracy     evals.Proportion `json:"accuracy"`
	AccuracyNorm evals.Proportion `json:"accuracy_norm"`
	Mass         float64          `json:"mass"` // mean over questions
	MassStderr   float64          `json:"mass_stderr"`
	NotAsked     int              `json:"not_asked,omitempty"` // they do not fit the engine
	Details      []Answer         `json:"details"`
}

// choice asks multiple-choice questions by log-likelihood: the answer is the choice that the model
// finds likeliest after the prompt and a blank. The engine's tokenizer puts its BOS in front, as
// the harness does with add_bos_token.
func choice(ctx context.Context, e evals.Engine, m evals.Method, prompts []string, given, o Options,
	p evals.Progress,
) (*Result, error) {
	ladder := m.Ladder
	if o.Length > 0 && ladder != nil {
		var err error
		if ladder, err = always(ladder, o.Length); err != nil {
			return nil, err
		}
	}
	if err := e.SetLadder(ladder); err != nil {
		return nil, err
	}
	r := &Result{
		Provenance: evals.NewProvenance(o.Benchmark, version, e, m, 0, given, o), Length: o.Length,
	}
	all, correct, correctNorm := "", 0, 0
	var masses []float64
	for i, q := range o.Questions {
		p.Report(i, len(prompts), o.Benchmark+" "+m.Name)
		a, err := r.ask(ctx, e, q, prompts[i])
		if err != nil {
			return nil, fmt.Errorf("question %s: %w", q.ID, err)
		}
		all += fmt.Sprintf("%q%q%v", evals.Digest(prompts[i]), q.Choices, q.Correct)
		r.Details = append(r.Details, a)
		if a.Note != "" {
			r.NotAsked++
			continue
		}
		masses = append(masses, a.Mass)
		if a.Correct {
			correct++
		}
		if a.CorrectNorm {
			correctNorm++
		}
	}
	p.Report(len(prompts), len(prompts), o.Benchmark+" "+m.Name)
	r.Questions = evals.Digest(all)
	r.Accuracy = evals.NewProportion(correct, len(masses))
	r.AccuracyNorm = evals.NewProportion(correctNorm, len(masses))
	r.Mass, r.MassStderr = evals.MeanStderr(masses)
	r.Finish()
	return r, nil
}

// prompt puts the preamble and n examples in front of the question.
func (b benchmark) prompt(q Question, shots []Question, n int) (string, error) {
	s := ""
	if b.preamble != nil {
		s = b.preamble(q.Subject)
	}
	for _, shot := range shots {
		if n == 0 {
			break
		}
		if shot.Subject != q.Subject || shot.Prompt == q.Prompt {
			continue
		}
		for i, ok := range shot.Correct {
			if ok {
				s += shot.Prompt + " " + shot.Choices[i] + "\n\n"
				break
			}
		}
		n--
	}
	if n > 0 {
		return "", fmt.Errorf("%d more examples are wanted than there are for subject %q", n,
			q.Subject)
	}
	return s + q.Prompt, nil
}

// ask scores the choices of one question.
func (r *Result) ask(ctx context.Context, e evals.Engine, q Question, prompt string) (Answer,
	error,
) {
	a := Answer{ID: q.ID}
	// Blanks at the end of a prompt are scored with the choice, since they are one token with its
	// first word.
	before, err := e.Tokenize(strings.TrimRightFunc(prompt, unicode.IsSpace), true)
	if err != nil {
		return a, err
	}
	best, bestNorm := math.Inf(1), math.Inf(1)
	for i, choice := range q.Choices {
		// As the harness splits: what the prompt alone is in tokens is not scored, even where the
		// joint differs.
		tokens, err := e.Tokenize(prompt+" "+choice, true)
		if err != nil {
			return a, err
		}
		if most := e.Info().MaxLength; most > 0 && len(tokens) > most {
			return Answer{ID: q.ID, Note: fmt.Sprintf("does not fit: %d tokens, of %d",
				len(tokens), most)}, nil
		}
		values, err := evals.CheckedNLL(ctx, e, tokens, max(1, min(len(before), len(tokens)-1)))
		if err != nil {
			return a, err
		}
		r.EvaluatedTokens += len(tokens)
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		a.NLL = append(a.NLL, sum)
		if sum < best {
			best, a.Choice = sum, i
		}
		if norm := sum / float64(utf8.RuneCountInString(choice)); norm < bestNorm {
			bestNorm, a.ChoiceNorm = norm, i
		}
	}
	a.Correct, a.CorrectNorm = q.Correct[a.Choice], q.Correct[a.ChoiceNorm]
	var right, total float64
	for i, v := range a.NLL {
		p := math.Exp(best - v) // by the likeliest, so that none underflows
		total += p
		if q.Correct[i] {
			right += p
		}
	}
	a.Mass = right / total
	return a, nil
}

// always is a ladder that gives every length the rung that l has for n tokens.
func always(l *ropescale.Ladder, n int) (*ropescale.Ladder, error) {
	row := l.RungFor(n)
	if row == 0 {
		own := *l
		own.Rungs = nil
		return &own, nil
	}
	g := l.At(row)
	if g.Length = l.OriginalContextLength; g.StartWindow >= g.Length {
		return nil, fmt.Errorf("its start window, %d tokens, is as long as the original context "+
			"length", g.StartWindow)
	}
	one := *l
	one.Rungs = []ropescale.Rung{g}
	return &one, one.Validate()
}

// Figures are the accuracies with their intervals, and the mass.
func (r *Result) Figures(evals.Result) []evals.Figures {
	a, n := &r.Accuracy, &r.AccuracyNorm
	if a.Trials == 0 { // none was asked
		return []evals.Figures{{Length: r.Length, Values: make([]*float64, 8)}}
	}
	return []evals.Figures{{Length: r.Length, Values: []*float64{
		&a.Rate, &a.Low, &a.High, &n.Rate, &n.Low, &n.High,
		&r.Mass, &r.MassStderr,
	}}}
}

// Title is a line above a table: what was asked.
func (r *Result) Title() string {
	shots := 0
	if o, ok := r.Args.(Options); ok {
		shots = o.Shots
	}
	return fmt.Sprintf("%s, %d questions, %d examples, in percent (95 %% interval)", r.Task,
		r.Accuracy.Trials, shots)
}

// Note says which figure papers report.
func (r *Result) Note() string {
	reported := benchmarks[r.Task].reported
	note := fmt.Sprintf("papers report %s of %s", reported, r.Task)
	for _, a := range r.Details {
		if a.Note != "" {
			return fmt.Sprintf("%s; %d of %d questions were not asked, the first of them: %s", note,
				r.NotAsked, len(r.Details), a.Note)
		}
	}
	return note
}

// rows are one row.
func (r *Result) rows() [][]any {
	a, n := r.Accuracy, r.AccuracyNorm
	return [][]any{{
		r.Method, r.Length, a.Trials, a.Rate, a.Low, a.High, n.Rate, n.Low, n.High,
		r.Mass, r.MassStderr,
	}}
}

// trials are a row per question.
func (r *Result) trials() (rows [][]any) {
	for _, a := range r.Details {
		rows = append(rows, []any{
			r.Method, r.Length, a.ID, a.Choice, a.Correct, a.ChoiceNorm,
			a.CorrectNorm, a.Mass, a.Note,
		})
	}
	return rows
}
