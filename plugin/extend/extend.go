package extend

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

// Options say what to extend and how. Model, Targets, Texts, Dir and Load are needed.
type Options struct {
	Model Model
	// Targets are the lengths in tokens to extend to. Those that Training.Steps has a number for
	// are fine-tuned at; those beyond are reached by interpolation alone.
	Targets []int
	// Readjust are lengths to search again at the end; nil: the original context length and its
	// doublings below the first target, three at most. NoReadjust leaves the short lengths alone.
	Readjust   []int
	NoReadjust bool
	// Texts are files of documents to train on, .txt or .jsonl, or folders of such files.
	Texts []string
	// Dir is the folder for all outputs. Fresh discards those of an earlier run.
	Dir   string
	Fresh bool
	// First is a ladder for the first target that a search has found already; nil: it is searched.
	// FirstFile is its file.
	First     *ropescale.Ladder
	FirstFile string
	// Search has what searches have in common: budget, seed, windows, fitness, texts. Its model,
	// targets and journal follow from the stage. SearchFiles and HeldOutFiles are the files of its
	// texts.
	Search                    search.Options
	SearchFiles, HeldOutFiles []string
	Training                  Training
	// Load loads a model file, or a checkpoint folder, for sequences of so many tokens.
	Load func(ctx context.Context, path string, length int) (*Loaded, error)
	// Page is called after a search with the name of its factors file; nil is never.
	Page func(factors string, r *search.Result, l *Loaded) error
	// Called says what the user calls an option in errors.
	Called search.Names
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Model is the model to extend.
type Model struct {
	Name, Path string
	Checkpoint bool // a Hugging Face folder, not a GGUF
	Info       *convert.ModelInfo
}

// Loaded is a model on an engine.
type Loaded struct {
	Name   string
	Info   *convert.ModelInfo
	Engine search.Engine
	Close  func()
}

// Check finds errors before anything is run, and fills in what follows from the model.
func (o *Options) Check() error {
	if o.Now == nil {
		o.Now = time.Now
	}
	l := o.Model.Info.OriginalContextLength
	o.Targets = slices.Compact(slices.Sorted(slices.Values(o.Targets)))
	switch {
	case len(o.Targets) == 0:
		return o.Called.Wrong("Targets", " is missing; give the lengths to extend to, "+
			"e.g. %s 128k,256k,2048k", o.Called.Of("Targets"))
	case o.Targets[0] <= l:
		return o.Called.Wrong("Targets",
			" %s: %s was trained for %s tokens already; give longer targets",
			label.Size(o.Targets[0]), o.Model.Name, label.Size(l))
	case o.Dir == "":
		return o.Called.Wrong("Dir", " is missing; give a folder for all outputs, e.g. -o extended")
	case len(o.Texts) == 0:
		return o.Called.Wrong("Texts", " is missing; give the documents to fine-tune on")
	}
	if !o.NoReadjust && len(o.Readjust) == 0 {
		for n := l; n < o.Targets[0] && len(o.Readjust) < 3; n *= 2 {
			o.Readjust = append(o.Readjust, n)
		}
	}
	o.Readjust = slices.Compact(slices.Sorted(slices.Values(o.Readjust)))
	for _, n := range o.Readjust {
		if n >= o.Targets[0] {
			return o.Called.Wrong(
				"Readjust",
				" %s: from the first target %s on, the searched factors "+
					"stay; give shorter lengths",
				label.Size(n),
				label.Size(o.Targets[0]),
			)
		}
	}
	if err := o.Training.check(len(o.Targets), o.Called); err != nil {
		return err
	}
	var err error
	o.Texts, err = textFiles(o.Texts, o.Called)
	return err
}

// Stopped is the error of an extension whose context ended. The same options resume it.
type Stopped struct {
	Stage, Stages int // from 1
	cause         error
}

func (e *Stopped) Error() string {
	return fmt.Sprintf("stopped in stage %d of %d", e.Stage, e.Stages)
}

// Unwrap is the error of the context.
func (e *Stopped) Unwrap() error { return e.cause }

// Run extends the model: it does the stages whose output is missing, one after the other.
func Run(ctx context.Context, o Options, report search.Reporter) (*State, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	x := &extension{o: o, report: report}
	settings, err := o.settings()
	if err != nil {
		return nil, err
	}
	if err := x.o.Training.findPython(ctx, o.Called); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, o.Called.Wrong("Dir", ": %w", err)
	}
	stages := x.stages()
	if x.state, err = x.openState(settings, stages); err != nil {
		return nil, err
	}
	if err := Write(x.path("recipe")); err != nil {
		return nil, err
	}
	for i, st := range stages {
		if x.isDone(st) {
			report.Say("%d of %d, %s: done before, %s", i+1, len(stages), st.Name,
				x.path(st.Output))
			continue
		}
		report.Say("%d of %d, %s", i+1, len(stages), st.Name)
		started := o.Now()
		st.Result, err = st.do(ctx, x.path(st.Output))
		if ctx.Err() != nil {
			return nil, &Stopped{i + 1, len(stages), ctx.Err()}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", st.Name, err)
		}
		st.Took = o.Now().Sub(started).Seconds()
		x.state.put(st)
		if err := x.save(); err != nil {
			return nil, err
		}
	}
	return x.state, nil
}
