// Package hiddenkeys has the task that a search is judged by: the loss of a text, and of many keys
// that are hidden in it. Each key is asked for by itself behind the whole window, so that questions
// do not disturb each other, and an engine that keeps the last sequence computes the window once.
// Losses say more than shares of keys that are found: a few windows tell methods apart.
package hiddenkeys

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals"
)

const (
	name    = "keys"
	version = 1
)

var _ = evals.Register(evals.Task{
	Name: name, Version: version,
	Help:   "loss of text and of keys hidden in it, each asked for by itself",
	New:    func() evals.Job { return &options{} },
	Result: func() evals.Result { return &Result{} },
	Columns: []string{
		"text_nll", "text_change", "text_change_stderr",
		"keys_nll", "keys_change", "keys_change_stderr",
	},
	Table: []evals.Cell{
		{Head: "text, nats", Text: figure("%.4f", "text_nll")},
		{Head: "less {first}'s", Text: change("%+.4f ± %.4f", "text_change")},
		{Head: "keys, nats", Text: figure("%.3f", "keys_nll")},
		{Head: "less {first}'s ", Text: change("%+.3f ± %.3f", "keys_change")},
	},
	Sheets: []evals.Sheet{
		evals.SheetOf("", []string{
			"method", "length", "windows", "keys", "text_nll", "text_nll_stderr", "keys_nll",
			"keys_nll_stderr",
		}, (*Result).rows),
		evals.SheetOf("trials", []string{"method", "length", "text", "window", "key", "nll"},
			(*Result).trials),
	},
	Variants: variants(),
})

func figure(format, column string) func(evals.Row) string {
	return func(r evals.Row) string { return evals.FormatFigure(format, r.Figure(column)) }
}

func change(format, column string) func(evals.Row) string {
	return func(r evals.Row) string {
		mean, stderr := r.Figure(column), r.Figure(column+"_stderr")
		if mean == nil || stderr == nil {
			return ""
		}
		return fmt.Sprintf(format, *mean, *stderr)
	}
}

// variants are the templates that keys are hidden by.
func variants() (flags [][]string) {
	for _, t := range evals.Templates() {
		flags = append(flags, []string{"--template", t.Name})
	}
	return flags
}

// options are the settings; zero values are the defaults named.
type options struct {
	// Texts to hide keys in; none: Setup.Books.
	Texts []evals.Text `json:"texts"`
	// MaxWindows of each text, spread evenly over it; 0 is as many as do not overlap.
	MaxWindows int `json:"max_windows"`
	// Keys in a window, 1 to 90; 0 is 8.
	Keys int `json:"keys"`
	// Seed and Template are those of evals.PasskeyOptions.
	Seed     uint64         `json:"seed"`
	Template evals.Template `json:"template"`

	files    []string
	template string
}

// Task is "keys".
func (*options) Task() string { return name }

// Flags declares the settings that a command offers.
func (o *options) Flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.files, "text", nil,
		"Text `FILE` (repeatable; default: books that come with the program)")
	f.IntVar(&o.MaxWindows, "windows", 4, "Windows of each text at most; 0 is all")
	f.IntVar(&o.Keys, "keys", 8, "Keys hidden in each window, 1 to 90")
	f.Uint64Var(&o.Seed, "seed", 1, "Seed of what is hidden")
	f.StringVar(&o.template, "template", evals.Templates()[0].Name, "Prompt")
}

// Load reads the texts.
func (o *options) Load() (err error) {
	switch {
	case o.MaxWindows < 0:
		return fmt.Errorf("--windows is %d; give 0 for all, or how many", o.MaxWindows)
	case o.Keys < 1 || o.Keys > 90:
		return fmt.Errorf("--keys is %d; give 1 to 90", o.Keys)
	}
	if o.Template, err = evals.TemplateByName(o.template); err != nil {
		return fmt.Errorf("--template: %w", err)
	}
	texts, err := evals.ReadTexts("text", o.files)
	o.Texts = append(o.Texts, texts...)
	return err
}

// window is one with its keys.
type window struct {
	text   string
	number int // in its text
	length int
	evals.Forked
}

// Prepare hides the keys.
func (o *options) Prepare(s evals.Setup) (*evals.Plan, error) {
	given := *o
	if len(given.Texts) == 0 && s.Books != nil {
		var err error
		if given.Texts, err = s.Books(slices.Max(s.Lengths)); err != nil {
			return nil, fmt.Errorf("%w; give longer ones with --text", err)
		}
	}
	eff := given
	if eff.Keys == 0 {
		eff.Keys = 8
	}
	var all []window
	for _, length := range s.Lengths {
		windows, err := eff.windows(s.Engine, length)
		if err != nil {
			return nil, err
		}
		all = append(all, windows...)
	}
	return &evals.Plan{
		Args: eff, Seed: eff.Seed, Calls: len(all) * (1 + eff.Keys),
		Run: func(ctx context.Context, m evals.Method, p evals.Progress) ([]evals.Result, error) {
			r := &Result{
				Provenance: evals.NewProvenance(name, version, s.Engine, m, eff.Seed, given, eff),
			}
			for i, w := range all {
				err := r.measure(ctx, s.Engine, w, p.From(i*(1+eff.Keys), len(all)*(1+eff.Keys)))
				if err != nil {
					return nil, fmt.Errorf("text %q, window %d of %d tokens: %w", w.text,
						w.number+1, w.length, err)
				}
			}
			n := len(all) * (1 + eff.Keys)
			p.Report(n, n, name+" "+m.Name)
			r.sum()
			r.Finish()
			return []evals.Result{r}, nil
		},
	}, nil
}

// windows hides keys in windows of a length.
func (o options) windows(e evals.Engine, length int) (all []window, err error) {
	if len(o.Texts) == 0 {
		return nil, fmt.Errorf("no text to hide keys in: give at least one")
	}
	for _, t := range o.Texts {
		windows, err := evals.TextWindows(e, t, length, o.MaxWindows)
		if err != nil {
			return nil, err
		}
		forked, err := evals.HideForks(e, windows, evals.ForkOptions{
			Whole: true, Keys: o.Keys, Seed: o.Seed, Template: o.Template,
		})
		if err != nil {
			return nil, fmt.Errorf("text %q: %w", t.Name, err)
		}
		for i, f := range forked {
			all = append(all, window{t.Name, i, length, f})
		}
	}
	return all, nil
}
