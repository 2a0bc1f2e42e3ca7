package recall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals"
)

// generated is how many samples of a length are made where nobody says so.
const generated = 20

// Options are the settings of a task with generated samples; zero values are the defaults named.
type Options struct {
	// Limit is how many samples of each length are asked; 0 is 20 generated ones, or all of a file.
	Limit int `json:"limit"`
	// Each is how many questions are asked to a context, where the task has several: an engine
	// evaluates a context once. 0 is 1, which is the original's.
	Each int `json:"per_context"`
	// Seed of the samples.
	Seed uint64 `json:"seed"`
	// Chat puts prompts into the model's chat template.
	Chat bool `json:"chat"`
	// NLL asks for the NLL of the true answer too, at the cost of another pass over each prompt
	// that an engine does not keep.
	NLL bool `json:"nll,omitempty"`
	// Texts are the haystack of tasks that hide in text; none: Setup.Books.
	Texts []evals.Text `json:"texts,omitempty"`
	// Source is the digest of the file that samples are read from or made of.
	Source string `json:"source,omitempty"`

	kind    Kind
	files   []string
	samples string // file to read them from
	source  string // file to make them of
	read    []Record
	data    any
	enough  int // samples that data is for
}

// Task is the name of the task.
func (o *Options) Task() string { return o.kind.Name }

// Flags declares the settings that a command offers.
func (o *Options) Flags(f *pflag.FlagSet) {
	f.IntVar(&o.Limit, "limit", 0, "Questions at most, of each length where they are generated "+
		"(default: all of a file, 20 generated ones)")
	f.Uint64Var(&o.Seed, "seed", 1, "Seed of what is hidden")
	f.BoolVar(&o.Chat, "chat", false, "Put prompts into the model's chat template")
	f.StringVar(&o.samples, "samples", "", "Ask the samples of `FILE` (.jsonl), which "+
		"--write-samples or RULER wrote, in place of new ones")
	f.BoolVar(&o.NLL, "nll", false, "The NLL of the true answer as well, at up to twice the "+
		"time")
	if o.kind.Questions > 1 {
		f.IntVar(&o.Each, "per-context", 1, "Questions to each context, which is evaluated once "+
			"for all of them")
	}
	if o.kind.Essay {
		f.StringArrayVar(&o.files, "hide-in", nil, "Text `FILE` to hide things in (repeatable; "+
			"default: books that come with the program)")
	}
	if x := o.kind.File; x != nil {
		f.StringVar(&o.source, x.Flag, "", x.Usage)
	}
}

// Load checks the settings and reads files.
func (o *Options) Load() (err error) {
	switch {
	case o.Limit < 0:
		return fmt.Errorf("--limit is %d; give 0 for the default, or how many", o.Limit)
	case o.Each < 0 || o.Each > max(o.kind.Questions, 1):
		return fmt.Errorf("--per-context is %d; give 1 to %d", o.Each, max(o.kind.Questions, 1))
	}
	for _, path := range o.files {
		t, err := evals.ReadText(path)
		if err != nil {
			return fmt.Errorf("--hide-in: %w", err)
		}
		o.Texts = append(o.Texts, t)
	}
	if o.samples != "" {
		if o.read, o.Source, err = readSamples(o.samples, o.kind.Name); err != nil {
			return fmt.Errorf("--samples: %w", err)
		}
		return nil
	}
	if x := o.kind.File; x != nil {
		if o.source == "" {
			return fmt.Errorf("%s: give its file with --%s; the program brings none", o.kind.Name,
				x.Flag)
		}
		if o.data, o.enough, err = x.Read(o.source); err != nil {
			return fmt.Errorf("--%s: %w", x.Flag, err)
		}
		if o.Source, err = fileDigest(o.source); err != nil {
			return fmt.Errorf("--%s: %w", x.Flag, err)
		}
	}
	return nil
}

// set is the samples of a length.
type set struct {
	length int
	count  int
	unfit  error // why there are none
	// prompt makes the i-th one.
	prompt func(i int) (prompt, error)
}

// Prepare fits the samples of each length. One that nothing fits is no error: its result says so.
func (o *Options) Prepare(s evals.Setup) (*evals.Plan, error) {
	eff := *o
	if eff.Each = max(eff.Each, 1); eff.Limit == 0 {
		eff.Limit = generated
	}
	chat := s.Chat
	_, answers := evals.AsAnswerer(s.Engine)
	if answers && o.NLL {
		return nil, evals.ErrNoLikelihoods
	}
	if !o.Chat || answers { // a server has its own template
		chat = nil
	} else if chat == nil {
		return nil, errors.New("--chat: the model has no chat template that this program knows; " +
			"leave it out for plain prompts")
	}
	for _, length := range s.Lengths {
		if length < 1 {
			return nil, fmt.Errorf("%s: length %d is not positive", o.kind.Name, length)
		}
		if err := evals.CheckLength(s.Engine, length); err != nil {
			return nil, err
		}
	}
	var sets []set
	var err error
	if o.read != nil {
		sets, err = o.fromFile(s, chat)
	} else {
		sets, err = eff.generate(s, chat)
	}
	if err != nil {
		return nil, err
	}
	given := *o
	p := &evals.Plan{Args: eff, Seed: eff.Seed}
	if o.read != nil {
		p.Seed = 0
	}
	for _, x := range sets {
		p.Calls += x.count
	}
	p.Samples = func(add func(record any) error) error { return eff.records(sets, add) }
	p.Run = func(ctx context.Context, m evals.Method, progress evals.Progress) (
		[]evals.Result, error,
	) {
		r := &Result{Provenance: evals.NewProvenance(o.kind.Name, o.kind.Version, s.Engine, m,
			p.Seed, given, eff)}
		if err := r.run(ctx, s.Engine, o.kind, sets, progress, p.Calls, o.NLL); err != nil {
			return nil, err
		}
		return []evals.Result{r}, nil
	}
	return p, nil
}

// generate fits new samples.
func (o *Options) generate(s evals.Setup, chat func(string) (string, error)) ([]set, error) {
	g := generator{
		kind: o.kind, engine: s.Engine, chat: chat, data: o.data, seed: o.Seed, each: o.Each,
		limit: o.Limit,
	}
	if o.enough > 0 {
		g.limit = min(g.limit, o.enough)
	}
	if o.kind.Essay {
		var err error
		if len(o.Texts) == 0 && s.Books != nil {
			if o.Texts, err = s.Books(slices.Max(s.Lengths)); err != nil {
				return nil, fmt.Errorf("%w; give longer ones with --hide-in", err)
			}
		}
		if len(o.Texts) == 0 {
			return nil, fmt.Errorf("%s hides things in text: give one", o.kind.Name)
		}
		for _, t := range o.Texts {
			g.words = append(g.words, strings.Fields(t.Body)...)
		}
	}
	if o.kind.Once != nil {
		var err error
		g.once, err = o.kind.Once(func(text string) (int, error) {
			tokens, err := s.Engine.Tokenize(text, false)
			return len(tokens), err
		})
		if err != nil {
			return nil, err
		}
	}
	var sets []set
	for _, length := range s.Lengths {
		g := g
		g.length = length
		err := g.fit()
		if errors.Is(err, errUnfit) {
			sets = append(sets, set{length: length, unfit: err})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.kind.Name, err)
		}
		sets = append(sets, set{length: length, count: g.limit, prompt: g.prompt})
	}
	return sets, nil
}
