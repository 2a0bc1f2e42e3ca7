package longrope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/plugin/extend"
)

// extendFlags are the flags of extend.
type extendFlags struct {
	targets    sizesFlag
	readjust   sizesFlag
	noReadjust bool
	texts      []string
	searchText []string
	heldOut    []string
	out        string
	fresh      bool
	budget     budgetFlag
	windows    int
	fitness    string
	seed       uint64
	first      string
	train      trainFlags
}

func extendCommand(open opener) *cobra.Command {
	var f extendFlags
	cmd := &cobra.Command{
		Use:   "extend MODEL --targets LENGTH,... --text FILE... -o DIR [-- OPTIONS OF train.py]",
		Short: "Fine-tune a model at a longer context, progressively",
		Long: `Extend MODEL as the paper does: search factors for the first target, fine-tune with them, search again on the fine-tuned
model for the next, and at last search the short lengths anew on the result. It ends with one laddered GGUF.

The targets that --steps has a number for are fine-tuned at; those beyond are reached by interpolation alone. By default
the last of several is: with --targets 128k,256k,2048k that is 400 steps, 600 steps and none, as for the paper's LLaMA2.

Fine-tuning needs Python with PyTorch and transformers; every GPU that it sees is used (--processes). MODEL is a checkpoint
folder, or a GGUF of an architecture that the recipe reads. Documents are never mixed in a row, and longer ones become
consecutive windows. The recipe is written to DIR/recipe and can be run alone: python3 DIR/recipe/train.py --help.

Each stage's output appears whole or not at all. Ctrl-C at any time, and the same command goes on where it was.`,
		Example: `  ollama longrope extend ./Llama-2-7b-hf --targets 128k,256k,2048k --text books -o llama2-2048k
  ollama longrope extend model.gguf --targets 2k,8k --text rows.jsonl --steps 300 --rows 2 --lr 5e-4 -o out -- --no-checkpointing`,
		Args: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				f.train.more, args = args[at:], args[:at]
			}
			if len(args) == 0 && f.train.recipe != "" {
				return nil
			}
			return exactly(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.train.recipe != "" {
				return extend.Write(f.train.recipe)
			}
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error { return a.extend(ctx, args[0], f) })
		},
	}
	fl := cmd.Flags()
	fl.Var(&f.targets, "targets", "Lengths to extend to, shortest first, e.g. 128k,256k,2048k")
	fl.StringArrayVar(&f.texts, "text", nil, "Training text `FILE`, .txt or .jsonl, or a folder of such files (repeatable)")
	fl.StringVarP(&f.out, "output", "o", "", "Folder `DIR` for all that is made")
	fl.StringVar(&f.first, "factors", "", "Factors `FILE` of the first target that a search has found already")
	fl.Var(&f.readjust, "readjust", "Lengths to search anew at the end (default: the original context length and its doublings below the first target, three at most)")
	fl.BoolVar(&f.noReadjust, "no-readjust", false, "Leave the short lengths as they are")
	fl.StringArrayVar(&f.searchText, "search-text", nil, "Text `FILE` to search on (repeatable; default: books that come with the program)")
	fl.StringArrayVar(&f.heldOut, "held-out", nil, "Text `FILE` that searches are measured on (repeatable)")
	fl.Var(&f.budget, "budget", "What each search may spend: tokens (600k) or time (2h)")
	fl.IntVar(&f.windows, "windows", 0, "Windows that each candidate of a search reads")
	fl.StringVar(&f.fitness, "fitness", "", "What searches minimise: perplexity of the text, needle (of keys hidden in it), or both (default)")
	fl.Uint64Var(&f.seed, "seed", 1, "Seed of searches and training")
	fl.BoolVar(&f.fresh, "fresh", false, "Begin anew, and discard what an earlier run left in DIR")
	f.train.add(fl)
	jsonFlag(cmd)
	engineFlags(cmd)
	return cmd
}

// check finds what is wrong with the flags before anything is run, and fills in what follows from the model.
func (f *extendFlags) check(m *model) error {
	l := m.info.OriginalContextLength
	f.targets = f.targets.ascending()
	switch {
	case len(f.targets) == 0:
		return errors.New("--targets is missing; give the lengths to extend to, e.g. --targets 128k,256k,2048k")
	case f.targets[0] <= l:
		return fmt.Errorf("--targets %s: %s was trained for %s tokens already; give longer targets", size(f.targets[0]), m.name, size(l))
	case f.out == "":
		return errors.New("--output is missing; give a folder for all that is made, e.g. -o extended")
	case len(f.texts) == 0:
		return errors.New("--text is missing; give the documents to fine-tune on")
	case f.noReadjust && len(f.readjust) > 0:
		return errors.New("--readjust and --no-readjust exclude each other; give one of them")
	}
	if !f.noReadjust && len(f.readjust) == 0 {
		for n := l; n < f.targets[0] && len(f.readjust) < 3; n *= 2 {
			f.readjust = append(f.readjust, n)
		}
	}
	f.readjust = f.readjust.ascending()
	for _, n := range f.readjust {
		if n >= f.targets[0] {
			return fmt.Errorf("--readjust %s: from the first target %s on, the searched factors stay; give shorter lengths", size(n), size(f.targets[0]))
		}
	}
	return f.train.check(len(f.targets))
}

func (a *app) extend(ctx context.Context, arg string, f extendFlags) error {
	m, err := find(arg)
	if err != nil {
		return err
	}
	if err := f.check(m); err != nil {
		return err
	}
	if f.texts, err = textFiles(f.texts); err != nil {
		return err
	}
	s := &schedule{Version: 1, app: a, f: f, m: m}
	if s.Settings, err = f.settings(m); err != nil {
		return err
	}
	if err := s.f.train.findPython(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	if err := s.open(); err != nil {
		return err
	}
	if err := extend.Write(s.path("recipe")); err != nil {
		return err
	}
	began := time.Now()
	plan := s.plan()
	for i, st := range plan {
		if s.done(st) {
			a.say("%d of %d, %s: done before, %s", i+1, len(plan), st.Name, s.path(st.Output))
			continue
		}
		a.say("%d of %d, %s", i+1, len(plan), st.Name)
		started := time.Now()
		st.Result, err = st.do(ctx, s.path(st.Output))
		a.done()
		if errors.Is(err, errInterrupted) || ctx.Err() != nil {
			a.say("stopped in stage %d of %d; to go on:\n  %s", i+1, len(plan), a.command())
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("%s: %w", st.Name, err)
		}
		st.Took = time.Since(started).Seconds()
		s.Stages = append(slices.DeleteFunc(s.Stages, func(d *stage) bool { return d.Output == st.Output }), st)
		if err := s.save(); err != nil {
			return err
		}
	}
	return s.report(time.Since(began))
}

// run runs another command of the program, quietly, and returns what it writes with --json.
func (a *app) run(ctx context.Context, cmd *cobra.Command, args ...string) (json.RawMessage, error) {
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(a.ui.err)
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(ctx); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// engineArgs are the flags of the engine, for another command.
func (a *app) engineArgs() []string {
	layers := a.gpuLayers
	switch {
	case layers < 0:
		layers = 0
	case layers == 0:
		layers = -1
	}
	return []string{"--threads", fmt.Sprint(a.threads), "--batch", fmt.Sprint(a.batch), "--gpu-layers", fmt.Sprint(layers)}
}

// report prints the stages and what comes next.
func (s *schedule) report(took time.Duration) error {
	if s.app.json {
		return s.app.printJSON(s)
	}
	var rows [][]string
	for _, st := range s.Stages {
		rows = append(rows, []string{st.Name, s.path(st.Output), st.note(), duration(time.Duration(st.Took * float64(time.Second)))})
	}
	if err := s.app.print(table([]string{"stage", "output", "", "took"}, rows, 3)); err != nil {
		return err
	}
	final := s.path(s.Stages[len(s.Stages)-1].Output)
	list := slices.Concat(s.f.readjust, s.f.targets)
	s.app.say("done in %s; next:\n  ollama longrope eval all %s --lengths %s\n  ollama longrope show %s", duration(took), quote(final), list.String(), quote(final))
	return nil
}
