package longrope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/evals"
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
		Example: `  ollama longrope extend ./Llama-2-7b-hf --targets 128k,256k,2048k --text books/*.txt -o llama2-2048k
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
	fl.StringArrayVar(&f.texts, "text", nil, "Training text `FILE`, .txt or .jsonl (repeatable)")
	fl.StringVarP(&f.out, "output", "o", "", "Folder `DIR` for all that is made")
	fl.StringVar(&f.first, "factors", "", "Factors `FILE` of the first target that a search has found already")
	fl.Var(&f.readjust, "readjust", "Lengths to search anew at the end (default: the original context length and its doublings below the first target, three at most)")
	fl.BoolVar(&f.noReadjust, "no-readjust", false, "Leave the short lengths as they are")
	fl.StringArrayVar(&f.searchText, "search-text", nil, "Text `FILE` to search on (repeatable; default: books that come with the program)")
	fl.StringArrayVar(&f.heldOut, "held-out", nil, "Text `FILE` that searches are measured on (repeatable)")
	fl.Var(&f.budget, "budget", "What each search may spend: tokens (600k) or time (2h)")
	fl.IntVar(&f.windows, "windows", 0, "Windows that each candidate of a search reads")
	fl.StringVar(&f.fitness, "fitness", "perplexity", "What searches minimise: perplexity, needle, or both")
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

// stage is one piece of the schedule. Its output exists or not; there is nothing between.
type stage struct {
	Name   string          `json:"name"`
	Output string          `json:"output"` // in the folder
	Took   float64         `json:"seconds,omitempty"`
	Result json.RawMessage `json:"result,omitempty"` // what the command of the stage said, or the last line of training

	do func(ctx context.Context, path string) (json.RawMessage, error)
}

// schedule is what state.json holds: what was asked for, and the stages that are done.
type schedule struct {
	Version  int               `json:"version"`
	Settings map[string]string `json:"settings"`
	Stages   []*stage          `json:"stages"`

	app *app
	f   extendFlags
	m   *model
}

func (s *schedule) path(name string) string { return filepath.Join(s.f.out, name) }

func (a *app) extend(ctx context.Context, arg string, f extendFlags) error {
	m, err := find(arg)
	if err != nil {
		return err
	}
	if err := f.check(m); err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	s := &schedule{Version: 1, app: a, f: f, m: m}
	if s.Settings, err = f.settings(m); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	if err := s.f.train.findPython(ctx); err != nil {
		return err
	}
	if err := extend.Write(s.path("recipe")); err != nil {
		return err
	}
	began := time.Now()
	plan := s.plan()
	for i, st := range plan {
		if done := s.done(st); done != nil {
			a.say("%d of %d, %s: done before, %s", i+1, len(plan), st.Name, s.path(st.Output))
			continue
		}
		a.say("%d of %d, %s", i+1, len(plan), st.Name)
		started := time.Now()
		st.Result, err = st.do(ctx, s.path(st.Output))
		a.done()
		if errors.Is(err, errInterrupted) || ctx.Err() != nil {
			a.say("stopped in stage %d of %d; to go on:\n  ollama %s", i+1, len(plan), strings.Join(withoutFresh(a.args), " "))
			return errInterrupted
		}
		if err != nil {
			return fmt.Errorf("%s: %w", st.Name, err)
		}
		st.Took = time.Since(started).Seconds()
		s.Stages = append(s.Stages, st)
		if err := s.save(); err != nil {
			return err
		}
	}
	return s.report(time.Since(began))
}

// plan lays out the stages, which name each other's outputs. Searches run on a GGUF that carries the ladder so far, since
// they go on from its last rung; training goes on from weights of the kind that MODEL has.
func (s *schedule) plan() []*stage {
	f, suffix := s.f, ".gguf"
	var plan []*stage
	if s.m.checkpoint() {
		suffix = ""
	} else {
		plan = append(plan, &stage{Name: "tokenize the training text", Output: "text.jsonl", do: s.tokenize})
	}
	model, weights, factors := s.m.path, s.m.path, ""
	for i := range f.train.steps {
		at := size(f.targets[i])
		factors = fmt.Sprintf("search-%s.json", at)
		tuned, laddered := "tuned-"+at+suffix, "model-"+at+".gguf"
		plan = append(plan,
			s.search("search factors for "+at, factors, model, f.targets[i:i+1], i == 0),
			s.train(i, weights, factors, tuned),
			s.convert("write the factors for "+at, laddered, s.path(tuned), factors))
		model, weights = s.path(laddered), s.path(tuned)
	}
	var names []string
	rest := slices.Concat(f.readjust, f.targets[len(f.train.steps):])
	if beyond := f.targets[len(f.train.steps):]; len(beyond) > 0 {
		names = append(names, "search factors for "+beyond.String())
	}
	if len(f.readjust) > 0 {
		names = append(names, "readjust "+f.readjust.String())
	}
	if len(rest) > 0 {
		factors = "rungs.json"
		plan = append(plan, s.search(strings.Join(names, ", "), factors, model, rest, false))
	}
	name := fmt.Sprintf("%s-%s", strings.NewReplacer("/", "-", ":", "-").Replace(strings.TrimSuffix(filepath.Base(s.m.name), ".gguf")), size(f.targets[len(f.targets)-1]))
	if s.m.checkpoint() {
		plan = append(plan, s.convert("write the ladder into a checkpoint", name, weights, factors))
	}
	return append(plan, s.convert("write the ladder into a GGUF", name+".gguf", weights, factors))
}

// search is a stage that runs "longrope search" on a model.
func (s *schedule) search(name, out, model string, targets sizesFlag, first bool) *stage {
	return &stage{Name: name, Output: out, do: func(ctx context.Context, path string) (json.RawMessage, error) {
		f := s.f
		if first && f.first != "" {
			return nil, s.given(path, targets[0])
		}
		args := []string{model, "--target", targets.String(), "-o", path, "--seed", fmt.Sprint(f.seed), "--fitness", f.fitness, "--json"}
		if f.budget.tokens > 0 || f.budget.time > 0 {
			args = append(args, "--budget", f.budget.String())
		}
		if f.windows > 0 {
			args = append(args, "--windows", fmt.Sprint(f.windows))
		}
		for _, t := range f.searchText {
			args = append(args, "--text", t)
		}
		for _, t := range f.heldOut {
			args = append(args, "--held-out", t)
		}
		return s.app.run(ctx, searchCommand(s.app.open), append(args, s.app.engineArgs()...)...)
	}}
}

// given takes the factors of --factors in place of a search.
func (s *schedule) given(path string, target int) error {
	l, err := ladderFrom(s.m.info, []string{s.f.first}, factorsOptions{lengths: csvLength(s.f.first, target)})
	if err == nil {
		err = fits(s.m.info, l)
	}
	if err == nil && l.Rungs[len(l.Rungs)-1].Length != target {
		err = fmt.Errorf("%s: its last rung is for %s tokens, the first target is %s", s.f.first, size(l.Rungs[len(l.Rungs)-1].Length), size(target))
	}
	if err != nil {
		return fmt.Errorf("--factors: %w", err)
	}
	return evals.WriteFile(path, l.WriteFactors)
}

// csvLength is what a csv file does not say.
func csvLength(path string, target int) []int {
	if strings.EqualFold(filepath.Ext(path), ".csv") {
		return []int{target}
	}
	return nil
}

// convert is a stage that runs "longrope convert" on a model.
func (s *schedule) convert(name, out, model, factors string) *stage {
	return &stage{Name: name, Output: out, do: func(ctx context.Context, path string) (json.RawMessage, error) {
		return s.app.run(ctx, convertCommand(s.app.open), model, "--factors", s.path(factors), "-o", path, "--json")
	}}
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

// settings are what makes two schedules the same; with others, what is in the folder does not count.
func (f *extendFlags) settings(m *model) (map[string]string, error) {
	set := map[string]string{
		"model": m.name, "targets": f.targets.String(), "readjust": f.readjust.String(), "seed": fmt.Sprint(f.seed), "fitness": f.fitness,
		"windows": fmt.Sprint(f.windows), "budget": f.budget.String(), "training": strings.Join(f.train.arguments(0), " "), "steps": f.train.stepsList(),
	}
	for flag, paths := range map[string][]string{"text": f.texts, "search-text": f.searchText, "held-out": f.heldOut, "factors": {f.first}} {
		for _, path := range paths {
			if path == "" {
				continue
			}
			sum, err := digestFile(path)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", flag, err)
			}
			set[flag] = strings.TrimSpace(set[flag] + " " + sum)
		}
	}
	return set, nil
}

// open reads state.json, and refuses one of another schedule.
func (s *schedule) open() error {
	b, err := os.ReadFile(s.path("state.json"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case s.f.fresh:
		return s.discard()
	}
	var before schedule
	if err := json.Unmarshal(b, &before); err != nil {
		return fmt.Errorf("%s: %w; --fresh begins anew", s.path("state.json"), err)
	}
	for key, value := range s.Settings {
		if before.Settings[key] != value {
			return fmt.Errorf("%s is of a run with %s %q, this one has %q; give that, another --output, or --fresh to begin anew",
				s.path("state.json"), key, cut(before.Settings[key], 60), cut(value, 60))
		}
	}
	s.Stages = before.Stages
	return nil
}

// discard removes what a run makes in its folder, and nothing else.
func (s *schedule) discard() error {
	remove := []string{s.path("state.json")}
	for _, st := range s.plan() {
		out := s.path(st.Output)
		journals, err := filepath.Glob(strings.TrimSuffix(out, filepath.Ext(out)) + "*.study")
		if err != nil {
			return fmt.Errorf("--fresh: %w", err)
		}
		remove = slices.Concat(remove, journals, []string{out, out + ".states", out + ".tmp", out + ".log"})
	}
	for _, path := range remove {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("--fresh: %w", err)
		}
	}
	return nil
}

// done is the stage as it was done before, if its output is still there.
func (s *schedule) done(st *stage) *stage {
	i := slices.IndexFunc(s.Stages, func(d *stage) bool { return d.Name == st.Name && d.Output == st.Output })
	if i < 0 {
		return nil
	}
	if _, err := os.Stat(s.path(st.Output)); err != nil {
		s.Stages = slices.Delete(s.Stages, i, i+1)
		return nil
	}
	return s.Stages[i]
}

func (s *schedule) save() error {
	return evals.WriteFile(s.path("state.json"), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(s)
	})
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

// note is what a stage came to, in a few words.
func (st *stage) note() string {
	var r struct {
		Trials, Steps, Tokens int
		Loss                  float64
	}
	if json.Unmarshal(st.Result, &r) != nil {
		return ""
	}
	switch {
	case r.Trials > 0:
		return fmt.Sprintf("%d trials, %s tokens", r.Trials, count(r.Tokens))
	case r.Steps > 0:
		return fmt.Sprintf("%d steps, %s tokens, loss %.3f", r.Steps, count(r.Tokens), r.Loss)
	}
	return ""
}

func withoutFresh(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--fresh" || a == "--fresh=true" })
}
