package longrope

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/extend"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/plugin/units"
	"github.com/longrope/longrope/ropescale"
)

// extendFlags are the flags of extend. Most are options of the extension itself, of its searches or
// of its training.
type extendFlags struct {
	options  extend.Options
	targets  sizesFlag
	readjust sizesFlag
	budget   budgetFlag
	recipe   string
}

// extendNames are what the options of an extension are called on the command line,
// extendSearchNames those of its searches.
var (
	extendNames = search.Names{
		"Targets": "--targets", "Readjust": "--readjust", "NoReadjust": "--no-readjust",
		"Texts": "--text", "SearchFiles": "--search-text", "HeldOutFiles": "--held-out",
		"Dir": "--output", "Fresh": "--fresh", "FirstFile": "--factors",
		"Steps": "--steps", "Rows": "--rows", "Rate": "--lr", "Mixed": "--mixed",
		"Positions": "--positions",
		"Python":    "--python", "Processes": "--processes",
	}
	extendSearchNames = search.Names{
		"Targets": "--targets", "Texts": "--search-text", "HeldOut": "--held-out",
		"Seed": "--seed", "Tokens": "--budget", "Time": "--budget", "Windows": "--windows",
		"Fitness": "--fitness", "Fresh": "--fresh", "Journal": "--output",
	}
)

func extendCommand(open opener) *cobra.Command {
	var f extendFlags
	cmd := &cobra.Command{
		Use:   "extend MODEL --targets LENGTH,... --text FILE... -o DIR [-- OPTIONS]",
		Short: "Fine-tune a model at a longer context, progressively",
		Long: `Extend MODEL as the paper does: search factors for the first target, fine-tune with them,
search again on the fine-tuned model for the next, and at last search the short lengths
again on the result. It ends with one laddered GGUF.

The targets that --steps has a number for are fine-tuned at; those beyond are reached by
interpolation alone. By default the last of several is: --targets 128k,256k,2048k is 400
steps, 600 steps and none, as for the paper's LLaMA2.

Fine-tuning needs Python with PyTorch and transformers, and uses every GPU that it finds.
MODEL is a checkpoint folder, or a GGUF of an architecture that the recipe reads.
Documents are never mixed in a row, and longer ones become consecutive windows. The recipe
is written to DIR/recipe and can be run alone: python3 DIR/recipe/train.py --help.

Each stage's output appears whole or not at all. Ctrl-C at any time: the same command
resumes.`,
		Example: `  ollama longrope extend ./Llama-2-7b-hf --targets 128k,256k,2048k --text books -o out
  ollama longrope extend model.gguf --targets 2k,8k --text rows.jsonl --steps 300 --rows 2 \
    --lr 5e-4 -o out -- --no-checkpointing`,
		Args: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				f.options.Training.Options, args = args[at:], args[:at]
			}
			if len(args) == 0 && f.recipe != "" {
				return nil
			}
			return exactly(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.recipe != "" {
				return extend.Write(f.recipe)
			}
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error {
				return a.extend(ctx, args[0], f)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// add defines the flags.
func (f *extendFlags) add(cmd *cobra.Command) {
	fl, o := cmd.Flags(), &f.options
	s, t := &o.Search, &o.Training
	fl.Var(&f.targets, "targets", "Lengths to extend to, shortest first, e.g. 128k,256k,2048k")
	fl.StringArrayVar(&o.Texts, "text", nil,
		"Training text `FILE`, .txt or .jsonl, or a folder of them")
	fl.StringVarP(&o.Dir, "output", "o", "", "Folder `DIR` for all outputs")
	fl.IntSliceVar(&t.Steps, "steps", nil,
		"Training steps at each target (default 400, then 600 each; none at the last of several)")
	fl.IntVar(&t.Rows, "rows", 32, "Rows of the target's length in a step, over all processes")
	fl.Float64Var(&t.Rate, "lr", 2e-5, "Learning rate, which decays linearly to zero")
	fl.StringVar(&o.FirstFile, "factors", "",
		"Factors `FILE` of the first target that a search has found already")
	fl.Var(
		&f.readjust,
		"readjust",
		"Lengths to search again at the end (default: the original context length and its "+
			"doublings below the first target, three at most)",
	)
	fl.BoolVar(&o.NoReadjust, "no-readjust", false, "Leave the short lengths as they are")
	fl.StringArrayVar(&o.SearchFiles, "search-text", nil,
		"Text `FILE` to search on (default: books that come with the program)")
	fl.StringArrayVar(&o.HeldOutFiles, "held-out", nil, "Text `FILE` that searches are measured on")
	fl.Var(&f.budget, "budget", "Budget of each search: tokens (600k) or time (2h)")
	fl.Uint64Var(&s.Seed, "seed", 1, "Seed of searches and training")
	fl.BoolVar(&o.Fresh, "fresh", false, "Restart: discard the outputs of an earlier run in DIR")

	fl.StringVar(&t.Positions, "positions", "auto",
		"Places of the tokens that are trained: full, rows of the target's length; skip (PoSE) "+
			"or end (EndPrompt), short rows spread over it, measured on the default model alone; "+
			"auto, full where it fits into memory, else skip")
	fl.BoolVar(&t.Mixed, "mixed", false,
		"LongRoPE2's mixed windows: short documents keep the model's own RoPE in training")
	fl.IntVar(&s.Windows, "windows", 0, "Windows that score a candidate of a search")
	fl.StringVar(&s.Fitness, "fitness", "",
		"What searches minimise: perplexity, needle (hidden keys) or both (default)")
	fl.StringVar(&t.Python, "python", "",
		"Python with PyTorch and transformers (default: $PYTHON, or python3)")
	fl.IntVar(&t.Processes, "processes", 0,
		"Training processes on this machine (default: one per GPU, or one)")
	fl.StringVar(&f.recipe, "recipe", "", "Only write the training recipe into `DIR`")
	jsonFlag(cmd)
	engineFlags(cmd)
	rarely(cmd, "mixed", "positions", "windows", "fitness", "python", "processes", "recipe", "json",
		"threads", "batch", "gpu-layers", "engine")
	cmd.Flags().SortFlags = false
}

// fill makes the options for a model.
func (f *extendFlags) fill(m *model) (err error) {
	o := &f.options
	if o.NoReadjust && len(f.readjust) > 0 {
		return errors.New("--readjust and --no-readjust exclude each other; give one of them")
	}
	o.Model = extend.Model{Name: m.name, Path: m.path, Checkpoint: m.checkpoint(), Info: m.info}
	o.Targets, o.Readjust = f.targets, f.readjust
	o.Called, o.Search.Called = extendNames, extendSearchNames
	o.Search.Tokens, o.Search.Time = f.budget.tokens, f.budget.time
	if err := o.Check(); err != nil {
		return err
	}
	if o.Search.Texts, err = evals.ReadTexts("search-text", o.SearchFiles); err != nil {
		return err
	}
	if o.Search.HeldOut, err = evals.ReadTexts("held-out", o.HeldOutFiles); err != nil {
		return err
	}
	if o.FirstFile != "" {
		if o.First, err = firstLadder(m, o.FirstFile, o.Targets[0]); err != nil {
			return fmt.Errorf("--factors: %w", err)
		}
	}
	return nil
}

// firstLadder reads the factors of --factors, which take the place of a search.
func firstLadder(m *model, path string, target int) (*ropescale.Ladder, error) {
	var lengths []int
	if strings.HasSuffix(strings.ToLower(path), ".csv") {
		lengths = []int{target} // which the file does not say
	}
	l, err := ladderFrom(m.info, []string{path}, factorsOptions{lengths: lengths})
	if err != nil {
		return nil, err
	}
	if err := fits(m.info, l); err != nil {
		return nil, err
	}
	if last := l.Rungs[len(l.Rungs)-1].Length; last != target {
		return nil, fmt.Errorf("%s: its last rung is for %s tokens, the first target is %s",
			path, label.Size(last), label.Size(target))
	}
	return l, nil
}

func (a *app) extend(ctx context.Context, arg string, f extendFlags) error {
	m, err := find(arg)
	if err != nil {
		return err
	}
	if err := f.fill(m); err != nil {
		return err
	}
	o := &f.options
	o.Now, o.Search.Threads, o.Search.Batch = a.now, a.threads, a.batch
	o.Search.Exact = true // cheap readings are not measured in an extension yet
	o.Load = a.loadStage
	o.Page = func(factors string, r *search.Result, l *extend.Loaded) error {
		p := searchPage(r, &model{name: l.Name, info: l.Info}, l.Engine.Info())
		p.Command = a.command()
		return writePage(strings.TrimSuffix(factors, ".json")+".html", p)
	}
	began := a.now()
	state, err := extend.Run(ctx, *o, &searchEvents{ui: a.ui})
	a.done()
	if stopped := (*extend.Stopped)(nil); errors.As(err, &stopped) {
		a.say("%v; to resume:\n  %s", stopped, a.command())
		return errInterrupted
	}
	if err != nil {
		return err
	}
	return a.reportExtension(state, o, a.now().Sub(began))
}

// loadStage loads a model that a stage names by its path.
func (a *app) loadStage(ctx context.Context, path string, length int) (*extend.Loaded, error) {
	m, err := find(path)
	if err != nil {
		return nil, err
	}
	m, done, err := a.runnable(ctx, m)
	if err != nil {
		return nil, err
	}
	e, err := a.load(m, length)
	if err != nil {
		done()
		return nil, err
	}
	closed := func() {
		e.Close()
		done()
	}
	return &extend.Loaded{Name: m.name, Info: m.info, Engine: e, Close: closed}, nil
}

// reportExtension prints the stages and what comes next.
func (a *app) reportExtension(s *extend.State, o *extend.Options, took time.Duration) error {
	if a.json {
		return a.printJSON(s)
	}
	path := func(name string) string { return filepath.Join(o.Dir, name) }
	var rows [][]string
	for _, st := range s.Stages {
		took := time.Duration(st.Took * float64(time.Second))
		rows = append(rows, []string{st.Name, path(st.Output), st.Note(), units.Duration(took)})
	}
	if err := a.print(table([]string{"stage", "output", "", "took"}, rows, 3)); err != nil {
		return err
	}
	final := quote(path(s.Stages[len(s.Stages)-1].Output))
	lengths := units.Sizes(slices.Concat(o.Readjust, o.Targets))
	a.say(
		"done in %s; next:\n  ollama longrope eval all %s --lengths %s\n  ollama longrope show %s",
		units.Duration(took), final, lengths, final)
	return nil
}
