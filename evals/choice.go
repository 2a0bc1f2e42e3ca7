package evals

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/longrope/longrope/ropescale"
)

// ChoiceVersion is the task version of Choice.
const ChoiceVersion = 1

// ChoiceOptions are the arguments of Choice; zero values are the defaults named.
type ChoiceOptions struct {
	// Benchmark is one of BenchmarkNames.
	Benchmark string `json:"benchmark"`
	// Limit is how many questions are asked, from the first; 0 is all.
	Limit int `json:"limit"`
	// Shots is how many examples precede each question: the first ones of the examples given, for MMLU of its subject.
	// The harness draws ARC's and HellaSwag's at random, from a generator that is Python's own; MMLU's are the first there
	// too. TruthfulQA has its six in any case.
	Shots int `json:"shots"`
	// Length gives every question the factors of the rung for so many tokens, as if a text of that length surrounded it;
	// 0: the rung that its own length asks for, which for short questions is the model's own RoPE whatever the ladder.
	Length int `json:"length"`

	Progress Progress `json:"-"`
}

// ChoiceAnswer is what a model made of one question.
type ChoiceAnswer struct {
	ID         string    `json:"id"`
	NLL        []float64 `json:"nll"`         // of each choice, in nats, the sum over its tokens
	Choice     int       `json:"choice"`      // the likeliest
	ChoiceNorm int       `json:"choice_norm"` // the likeliest by character
	Correct    bool      `json:"correct"`
	// CorrectNorm is acc_norm's verdict: likelihoods by the length of a choice in characters.
	CorrectNorm bool `json:"correct_norm"`
	// Mass is the share of the likelihood of all choices that the correct ones have.
	Mass float64 `json:"mass"`
}

// ChoiceResult is what Choice measured. lm-evaluation-harness calls Accuracy acc, AccuracyNorm acc_norm. Papers give acc_norm
// for ARC and HellaSwag, acc for MMLU and TruthfulQA's mc1, and Mass for its mc2.
type ChoiceResult struct {
	Provenance
	Questions    string         `json:"questions"` // digest of what was asked
	Length       int            `json:"length"`    // of Args
	Accuracy     Proportion     `json:"accuracy"`
	AccuracyNorm Proportion     `json:"accuracy_norm"`
	Mass         float64        `json:"mass"` // mean over questions
	MassStderr   float64        `json:"mass_stderr"`
	Details      []ChoiceAnswer `json:"details"`
}

// Choice asks multiple-choice questions by log-likelihood: the answer is the choice that the model finds likeliest after
// the prompt and a blank. shots are examples; nil for none. The engine's tokenizer puts its BOS in front, as the harness
// does with add_bos_token.
func Choice(ctx context.Context, e Engine, m Method, questions, shots []Question, given ChoiceOptions) (*ChoiceResult, error) {
	o := given
	b, ok := benchmarks[o.Benchmark]
	switch {
	case !ok:
		return nil, fmt.Errorf("unknown benchmark %q", o.Benchmark)
	case len(questions) == 0:
		return nil, errors.New("no questions")
	case o.Limit < 0 || o.Shots < 0 || o.Length < 0:
		return nil, fmt.Errorf("limit %d, shots %d, length %d: want no negative numbers", o.Limit, o.Shots, o.Length)
	}
	if o.Limit == 0 || o.Limit > len(questions) {
		o.Limit = len(questions)
	}
	questions = questions[:o.Limit]
	ladder := m.Ladder
	if o.Length > 0 && ladder != nil {
		var err error
		if ladder, err = always(ladder, o.Length); err != nil {
			return nil, fmt.Errorf("method %q: %w", m.Name, err)
		}
	}
	if err := e.SetLadder(ladder); err != nil {
		return nil, fmt.Errorf("method %q: %w", m.Name, err)
	}
	r := &ChoiceResult{Provenance: newProvenance("choice", ChoiceVersion, e, m, 0, given, o), Length: o.Length}
	all, correct, correctNorm := "", 0, 0
	masses := make([]float64, len(questions))
	for i, q := range questions {
		o.Progress.report(i, len(questions), o.Benchmark+" "+m.Name)
		prompt, err := b.prompt(q, shots, o.Shots)
		if err != nil {
			return nil, fmt.Errorf("question %s: %w", q.ID, err)
		}
		a, err := r.ask(ctx, e, q, prompt)
		if err != nil {
			return nil, fmt.Errorf("question %s: %w", q.ID, err)
		}
		all += fmt.Sprintf("%q%q%v", prompt, q.Choices, q.Correct)
		masses[i] = a.Mass
		if a.Correct {
			correct++
		}
		if a.CorrectNorm {
			correctNorm++
		}
		r.Details = append(r.Details, a)
	}
	o.Progress.report(len(questions), len(questions), o.Benchmark+" "+m.Name)
	r.Questions = digest(all)
	r.Accuracy, r.AccuracyNorm = proportion(correct, len(questions)), proportion(correctNorm, len(questions))
	r.Mass, r.MassStderr = MeanStderr(masses)
	r.finish()
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
		return "", fmt.Errorf("%d more examples are wanted than there are for subject %q", n, q.Subject)
	}
	return s + q.Prompt, nil
}

// ask scores the choices of one question.
func (r *ChoiceResult) ask(ctx context.Context, e Engine, q Question, prompt string) (ChoiceAnswer, error) {
	a := ChoiceAnswer{ID: q.ID}
	// Blanks at the end of a prompt are scored with the choice, since they are one token with its first word.
	before, err := e.Tokenize(strings.TrimRightFunc(prompt, unicode.IsSpace), true)
	if err != nil {
		return a, err
	}
	best, bestNorm := math.Inf(1), math.Inf(1)
	for i, choice := range q.Choices {
		// As the harness splits: what the prompt alone is in tokens is not scored, even where the joint differs.
		tokens, err := e.Tokenize(prompt+" "+choice, true)
		if err != nil {
			return a, err
		}
		if err := checkLength(e, len(tokens)); err != nil {
			return a, err
		}
		values, err := nll(ctx, e, tokens, max(1, min(len(before), len(tokens)-1)))
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
		return nil, fmt.Errorf("its start window, %d tokens, is as long as the original context length", g.StartWindow)
	}
	one := *l
	one.Rungs = []ropescale.Rung{g}
	return &one, one.Validate()
}

// WriteChoicesCSV writes a row per result and question.
func WriteChoicesCSV(w io.Writer, results []*ChoiceResult) error {
	var rows [][]any
	for _, r := range results {
		for _, a := range r.Details {
			rows = append(rows, []any{r.Method, r.Length, a.ID, a.Choice, a.Correct, a.ChoiceNorm, a.CorrectNorm, a.Mass})
		}
	}
	return writeCSV(w, []string{"method", "length", "id", "choice", "correct", "choice_norm", "correct_norm", "mass"}, rows)
}
