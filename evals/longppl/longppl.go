// Package longppl has the perplexity of key tokens (LongPPL; Fang et al., arXiv 2410.23771): those
// of a long text that a model predicts well because of what stands far before them. Plain
// perplexity hides them among the many that the last few words determine.
//
// A token is a key token where the whole context raises its log-likelihood by more than alpha over
// a context that is cut to its last tokens (equation 4, long-short difference), and where its
// log-likelihood in the whole context is above beta (long-context likelihood). Alpha is 2, beta -2,
// the cut context 4,096 tokens, and 1,024 tokens share one, as in the paper's code (longppl 0.3.0).
//
// The model is contrasted with itself. Cut contexts are read with its own RoPE: cut context and
// the tokens scored behind it take at most the original context length L, so both are smaller for
// models of a short one. The whole is read with each method that is measured. All methods are then
// measured on the same tokens: those that are key tokens with one of them at least. (Tokens that
// one method chose would favour it: its luck is in the choice.) So figures of one run compare, and
// those of runs with other methods do not quite.
//
// Two things differ from the paper: the evaluator is the model, where the paper has a large one for
// all; and a cut context has the model's BOS in front.
package longppl

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals"
)

const (
	name    = "longppl"
	version = 1
)

// Defaults of the paper.
const (
	alpha, beta         = 2.0, -2.0
	truncation, sliding = 4096, 1024
)

var _ = evals.Register(evals.Task{
	Name: name, Version: version,
	Help:   "LongPPL: perplexity of tokens that need what stands far before them",
	New:    func() evals.Job { return &options{} },
	Result: func() evals.Result { return &Result{} },
	Columns: []string{
		"key_tokens", name, name + "_stderr", name + "_change", name + "_change_stderr",
		"all_tokens",
	},
	Table: []evals.Cell{
		{Head: "key tokens", Text: func(r evals.Row) string {
			return evals.FormatFigure("%.0f", r.Figure("key_tokens"))
		}},
		{Head: "their perplexity", Text: func(r evals.Row) string {
			return evals.FormatFigure("%.3f", r.Figure(name))
		}},
		{Head: "± se", Text: func(r evals.Row) string {
			return evals.FormatFigure("%.3f", r.Figure(name+"_stderr"))
		}},
		{Head: "vs {first}", Text: func(r evals.Row) string {
			change, stderr := r.Figure(name+"_change"), r.Figure(name+"_change_stderr")
			if change == nil || stderr == nil {
				return ""
			}
			ratio := math.Exp(*change)
			return fmt.Sprintf("%+.1f ± %.1f %%", 100*(ratio-1), 100*ratio**stderr)
		}},
		{Head: "plain perplexity", Text: func(r evals.Row) string {
			return evals.FormatFigure("%.2f", r.Figure("all_tokens"))
		}},
	},
	Sheets: []evals.Sheet{
		evals.SheetOf("", []string{
			"method", "length", "windows", "key_tokens", "longppl", "longppl_stderr", "tokens",
			"perplexity", "perplexity_stderr",
		}, (*Result).rows),
		evals.SheetOf("trials", []string{
			"method", "length", "text", "window", "key_tokens", "key_nll", "tokens", "nll",
		}, (*Result).trials),
	},
})

// options are the settings; zero values are the defaults named.
type options struct {
	// Texts to predict; none: Setup.Books.
	Texts []evals.Text `json:"texts"`
	// MaxWindows of each text, spread evenly over it; 0 is as many as do not overlap.
	MaxWindows int `json:"max_windows"`
	// Alpha is how much the whole context must gain, in nats; 0 is 2. Beta is the log-likelihood
	// that it must reach; 0 is -2.
	Alpha float64 `json:"alpha"`
	Beta  float64 `json:"beta"`
	// Truncation is how many tokens a cut context has, Sliding how many tokens share one; 0 is
	// 4,096 and 1,024, or 3/4 and 1/4 of the original context length where that is less.
	Truncation int `json:"truncation"`
	Sliding    int `json:"sliding"`

	files []string
}

// Task is "longppl".
func (*options) Task() string { return name }

// Flags declares the settings that a command offers.
func (o *options) Flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.files, "text", nil,
		"Text `FILE` (repeatable; default: books that come with the program)")
	f.IntVar(&o.MaxWindows, "windows", 4, "Windows of each text at most; 0 is all")
	f.Float64Var(&o.Alpha, "alpha", alpha, "Nats that a key token gains from the whole context")
	f.Float64Var(&o.Beta, "beta", beta, "Log-likelihood that a key token has in it at least")
	f.IntVar(&o.Truncation, "truncation", 0, "Tokens of the cut context (default 4096, or what "+
		"fits the original context length)")
}

// Load reads the texts.
func (o *options) Load() error {
	switch {
	case o.MaxWindows < 0:
		return fmt.Errorf("--windows is %d; give 0 for all, or how many", o.MaxWindows)
	case !(o.Alpha > 0) || math.IsInf(o.Alpha, 0):
		return fmt.Errorf("--alpha is %v; give a number of nats above 0", o.Alpha)
	case !(o.Beta < 0) || math.IsInf(o.Beta, 0):
		return fmt.Errorf("--beta is %v; give a log-likelihood, which is below 0", o.Beta)
	case o.Truncation < 0:
		return fmt.Errorf("--truncation is %d; give a number of tokens", o.Truncation)
	}
	texts, err := evals.ReadTexts("text", o.files)
	o.Texts = append(o.Texts, texts...)
	return err
}

// effective has the defaults filled in, for a model of an original context length and so many
// tokens before every text.
func (o options) effective(trained, bos int) (options, error) {
	if o.Alpha == 0 {
		o.Alpha = alpha
	}
	if o.Beta == 0 {
		o.Beta = beta
	}
	if o.Truncation == 0 {
		o.Truncation = min(truncation, trained*3/4)
	}
	if o.Sliding == 0 {
		o.Sliding = min(sliding, trained-bos-o.Truncation)
	}
	if o.Truncation < 1 || o.Sliding < 1 || bos+o.Truncation+o.Sliding > trained {
		return o, fmt.Errorf("truncation %d: a cut context and at least one token behind it must "+
			"fit the original context length, %d tokens", o.Truncation, trained)
	}
	return o, nil
}

// window is a stretch of a text, BOS in front.
type window struct {
	text   string
	number int // in its text
	tokens []int
	cut    []float64 // losses in cut contexts, from the first token behind one on
}

// Prepare lays the windows.
func (o *options) Prepare(s evals.Setup) (*evals.Plan, error) {
	bos, err := evals.BOS(s.Engine)
	if err != nil {
		return nil, err
	}
	given := *o
	if len(given.Texts) == 0 && s.Books != nil {
		if given.Texts, err = s.Books(slices.Max(s.Lengths)); err != nil {
			return nil, fmt.Errorf("%w; give longer ones with --text", err)
		}
	}
	eff, err := given.effective(s.Engine.Info().OriginalContextLength, len(bos))
	if err != nil {
		return nil, err
	}
	all := make([][]window, len(s.Lengths))
	p := &evals.Plan{Args: eff}
	for i, length := range s.Lengths {
		if length <= len(bos)+eff.Truncation {
			return nil, fmt.Errorf("length %d has no token behind a cut context of %d: ask for a "+
				"longer one", length, eff.Truncation)
		}
		if all[i], err = eff.windows(s.Engine, length); err != nil {
			return nil, err
		}
		p.Calls += len(all[i])
	}
	p.Run = func(ctx context.Context, m evals.Method, progress evals.Progress) (
		[]evals.Result, error,
	) {
		r := &Result{
			Provenance: evals.NewProvenance(name, version, s.Engine, m, 0, given, eff),
		}
		done := 0
		for i, length := range s.Lengths {
			err := r.measure(ctx, s.Engine, all[i], length, eff, len(bos),
				progress.From(done, p.Calls))
			if err != nil {
				return nil, fmt.Errorf("length %d: %w", length, err)
			}
			done += len(all[i])
		}
		progress.Report(p.Calls, p.Calls, name+" "+m.Name)
		r.Finish()
		return []evals.Result{r}, nil
	}
	p.Finish = func(results []evals.Result) { eff.finish(results, all, len(bos)) }
	return p, nil
}

// windows cuts windows of a length out of each text.
func (o options) windows(e evals.Engine, length int) (all []window, err error) {
	if len(o.Texts) == 0 {
		return nil, fmt.Errorf("no text to score: give at least one")
	}
	for _, t := range o.Texts {
		windows, err := evals.TextWindows(e, t, length, o.MaxWindows)
		if err != nil {
			return nil, err
		}
		for i, w := range windows {
			all = append(all, window{text: t.Name, number: i, tokens: w})
		}
	}
	return all, nil
}

// losses are those of the tokens of a window in cut contexts, from bos+Truncation on.
func (o options) losses(ctx context.Context, e evals.Engine, tokens []int, bos int, r *Result) (
	all []float64, err error,
) {
	for start := bos; start+o.Truncation < len(tokens); start += o.Sliding {
		end := min(start+o.Truncation+o.Sliding, len(tokens))
		cut := append(slices.Clone(tokens[:bos]), tokens[start:end]...)
		values, err := evals.CheckedNLL(ctx, e, cut, bos+o.Truncation)
		if err != nil {
			return nil, err
		}
		r.EvaluatedTokens += len(cut)
		all = append(all, values...)
	}
	return all, nil
}

// key reports whether a token is a key token, by its losses in the cut context and in the whole.
func (o options) key(cut, whole float64) bool { return cut-whole > o.Alpha && -whole > o.Beta }

// finish finds the key tokens of each window with all methods, and measures each on them.
func (o options) finish(results []evals.Result, all [][]window, bos int) {
	at := 0 // in Details
	for _, windows := range all {
		for _, w := range windows {
			keys := make([]bool, len(w.cut))
			for _, r := range results {
				d := &r.(*Result).Details[at]
				for i, whole := range d.values[len(d.values)-len(keys):] {
					keys[i] = keys[i] || o.key(w.cut[i], whole)
				}
			}
			for _, r := range results {
				r.(*Result).Details[at].measure(keys)
			}
			at++
		}
	}
	for _, r := range results {
		r.(*Result).sum()
	}
}
