package longrope

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/published"
)

// searchFlags are the flags of search. Most are options of the search itself.
type searchFlags struct {
	options        search.Options
	targets        sizesFlag
	doublings      bool
	starts         []string
	texts, heldOut []string
	budget         budgetFlag
	out            string
	plot           string
	page           string
	noPage         bool
	workers        workersFlags
}

// searchNames are what the options of a search are called on the command line.
var searchNames = map[string]string{
	"Targets": "--target", "Texts": "--text", "HeldOut": "--held-out", "Starts": "--start",
	"Algorithm": "--algorithm", "Seed": "--seed", "Tokens": "--budget", "Time": "--budget",
	"Windows": "--windows", "Keys": "--keys", "Fitness": "--fitness", "Attention": "--attention",
	"Knots": "--knots", "StartWindows": "--start-windows", "Journal": "--study",
	"Fresh": "--fresh", "Workers": "--workers", "Threads": "--threads", "Batch": "--batch",
	"Exact": "--exact",
}

func searchCommand(open opener) *cobra.Command {
	f := searchFlags{options: search.Options{Called: searchNames}}
	cmd := &cobra.Command{
		Use:   "search MODEL --target LENGTH[,LENGTH...]",
		Short: "Search RoPE factors for a longer context",
		Long: `Search rescale factors, a start window and an attention factor with which MODEL has a low
perplexity at the target length and finds keys hidden in the text. Writes a factors file
for convert, and a page that shows the search in any browser.
` + seedLabels() + ` are evaluated first, for comparison.
Text that is not searched on is evaluated alongside, so that overfitting shows. Several
targets make a ladder. Ctrl-C at any time: the same command resumes.`,
		Example: `  ollama longrope search llama3 --target 32k
  ollama longrope search llama3 --target 16k,32k,64k -o factors.json
  ollama longrope search model.gguf --target 131072 --text war.txt --budget 8h
  ollama longrope search llama3.1 --target 32k --start factors.json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error {
				return a.search(ctx, args[0], f)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// add defines the flags.
func (f *searchFlags) add(cmd *cobra.Command) {
	fl, o := cmd.Flags(), &f.options
	fl.Var(&f.targets, "target", "Length to search for: 131072 or 128k; several are a ladder")
	fl.BoolVar(&f.doublings, "rungs", false,
		"A ladder: a rung at each doubling below the target too")
	fl.StringArrayVar(&f.texts, "text", nil,
		"Text `FILE` to search on, like the model's later texts")
	fl.StringArrayVar(&f.heldOut, "held-out", nil, "Text `FILE` to measure on alongside")
	fl.StringArrayVar(&f.starts, "start", nil,
		"Factors to begin from too: a `FILE`, a model's, a published set")
	fl.StringVarP(&f.out, "output", "o", "", "Factors `FILE` to write (.json)")
	fl.Var(&f.budget, "budget", "Tokens (600k) or time (90s, 10m, 2h) for all rungs")
	fl.Uint64Var(&o.Seed, "seed", 1, "Seed of the search")
	fl.BoolVar(&o.Fresh, "fresh", false, "Restart: discard the journals of an earlier search")
	fl.IntVar(&f.workers.count, "workers", 0,
		"Processes of this machine that evaluate; one per GPU")
	f.addRare(cmd)
	fl.SortFlags = false
}

// addRare defines the flags that the help lists at its end.
func (f *searchFlags) addRare(cmd *cobra.Command) {
	fl, o := cmd.Flags(), &f.options
	fl.StringVar(&o.Algorithm, "algorithm", "cma",
		"cma, longrope (the paper's), dim-mono, dim-piece-mono")
	fl.StringVar(&o.Fitness, "fitness", "",
		"Minimise perplexity, needle (hidden keys) or both (default)")
	fl.IntVar(&o.Windows, "windows", 0,
		"Windows that score a candidate (default: 16k tokens, 3 at least)")
	fl.IntVar(&o.Keys, "keys", 0, "Keys hidden in each window (default 4, one per 512 tokens)")
	fl.StringVar(&o.Attention, "attention", "",
		"Attention factor: search (default of cma) or fixed")
	fl.IntSliceVar(&o.StartWindows, "start-windows", nil,
		"Start windows to choose from; 0 alone is none")
	fl.IntVar(&o.Knots, "knots", 0, "Knots of cma's curve of factors (default 8)")
	fl.BoolVar(&o.Exact, "exact", false, "Score all in full, where cheap readings would do")
	fl.StringVar(&o.Journal, "study", "", "Journal `FILE` (default: the output's, with .study)")
	fl.StringVar(&f.page, "report", "", "Page `FILE` (default: the output's name, .html)")
	fl.BoolVar(&f.noPage, "no-report", false, "Write no page")
	fl.StringVar(&f.plot, "plot", "",
		"Picture `FILE` of the factors (.png or .svg), and one of each search")
	jsonFlag(cmd)
	engineFlags(cmd)
	f.workers.add(cmd)
	// Workers need them too, and their help has them.
	for _, name := range serverFlags[1:] {
		fl.Lookup(name).Hidden = true
	}
	fl.Lookup("nats").Usage += "; for --" + strings.Join(serverFlags[1:], ", --") +
		" see worker --help"
	rarely(cmd, "algorithm", "fitness", "windows", "keys", "attention", "start-windows", "knots",
		"exact", "study", "report", "no-report", "plot", "json", "threads", "batch", "gpu-layers",
		"engine")
	rarely(cmd, serverFlags...)
}

// check fills in what follows from the flags and the model, and finds errors before the model is
// loaded.
func (f *searchFlags) check(m *model) error {
	o := &f.options
	o.Model, o.Info = m.name, m.info
	if f.doublings && len(f.targets) > 1 {
		return errors.New("--rungs makes a ladder to one target; give one, or leave out --rungs")
	}
	o.Targets = f.targets.ascending()
	if f.doublings && len(o.Targets) > 0 {
		o.Targets = search.Doublings(search.LongestTrained(m.info), o.Targets[0])
	}
	if f.out == "" && len(o.Targets) > 0 {
		name := nameFor(m.name, o.Targets[len(o.Targets)-1])
		f.out = strings.ReplaceAll(filepath.Base(name), ":", "-") + ".json"
	}
	if o.Journal == "" {
		o.Journal = f.out + ".study"
	}
	o.Tokens, o.Time = f.budget.tokens, f.budget.time
	var err error
	if o.Starts, err = readStarts(f.starts); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return err
	}
	return f.checkOutputs()
}

func (f *searchFlags) checkOutputs() error {
	stem := strings.TrimSuffix(f.out, filepath.Ext(f.out))
	switch {
	case !strings.EqualFold(filepath.Ext(f.out), ".json"):
		return fmt.Errorf("--output: %s is not a .json file; factors are written as JSON", f.out)
	case f.noPage:
		f.page = ""
	case f.page == "":
		f.page = stem + ".html"
	case !strings.EqualFold(filepath.Ext(f.page), ".html"):
		return fmt.Errorf("--report: %s is not a .html file", f.page)
	}
	if err := atomicfile.Check(f.out); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	if f.page != "" {
		if err := atomicfile.Check(f.page); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	return pictureName(f.plot)
}

// readStarts reads the factors of --start: names of published sets, files, and models that carry
// some.
func readStarts(paths []string) ([]search.Start, error) {
	var starts []search.Start
	for _, path := range paths {
		set, err := published.ByName(path)
		if err == nil {
			starts = append(starts, search.Start{Name: set.Name, Path: path, Published: &set})
			continue
		}
		f, err := readFactors(path)
		if err != nil {
			return nil, fmt.Errorf("--start: %w", err)
		}
		starts = append(starts, search.Start{
			Name: filepath.Base(path), Path: path, Ladder: f.ladder, Factors: f.factors,
		})
	}
	return starts, nil
}

func (a *app) search(ctx context.Context, arg string, f searchFlags) error {
	m, err := find(arg)
	if err != nil {
		return err
	}
	if err := f.check(m); err != nil {
		return err
	}
	o := &f.options
	o.Threads, o.Batch, o.Now = a.threads, a.batch, a.now
	if o.Texts, err = evals.ReadTexts("text", f.texts); err != nil {
		return err
	}
	if o.HeldOut, err = evals.ReadTexts("held-out", f.heldOut); err != nil {
		return err
	}
	server, err := f.workers.check(m)
	if err != nil {
		return err
	}
	m, done, err := a.runnable(ctx, m)
	if err != nil {
		return err
	}
	defer done()
	o.Info = m.info
	if o.Workers, err = a.workers(f.workers.count, server, m); err != nil {
		return err
	}
	e, err := a.loadFor(m, slices.Max(o.Targets), !o.Exact)
	if err != nil {
		return err
	}
	defer e.Close()
	if d := machine(m).Devices; len(d) > 0 {
		o.Memory = int64(d[0].Free / 2)
	}

	found := func(l *ropescale.Ladder) error { return atomicfile.Write(f.out, l.WriteFactors) }
	r, err := search.Search(ctx, e, *o, &searchEvents{a.ui, found})
	a.done()
	if cut := (*search.Interrupted)(nil); errors.As(err, &cut) {
		a.say("%d trials are kept in %s; to resume:\n  %s", cut.Trials, cut.Journal, a.command())
		return errInterrupted
	}
	if r == nil {
		return err
	}
	files, drawn := a.writeSearch(r, m, e.Info(), f)
	if drawn != nil {
		return drawn
	}
	if err := a.reportSearch(r, files, f); err != nil {
		return err
	}
	return err // an interrupt at the end: the next command of a script must not run
}

// searchEvents shows what a search reports.
type searchEvents struct {
	ui    *ui
	found func(*ropescale.Ladder) error
}

func (s *searchEvents) Say(format string, args ...any) { s.ui.say(format, args...) }

func (s *searchEvents) Progress(p search.Progress) {
	s.ui.progress(p.Started, p.Label, p.Done, p.Total, p.Note, standing(p.Standing))
}

func (s *searchEvents) ToBeat(methods []search.Score) {
	var parts []string
	for _, m := range methods {
		parts = append(parts, ropescale.MethodLabel(m.Origin)+" "+score(m))
	}
	s.ui.say("to beat: %s", strings.Join(parts, ", "))
}

func (s *searchEvents) Found(l *ropescale.Ladder) error { return s.found(l) }

// score is a candidate's fitness and, in brackets, what else is known of it.
func score(s search.Score) string {
	var more []string
	if s.Text != nil {
		more = append(more, "text "+fitness(*s.Text))
	}
	if s.HeldOut != nil {
		more = append(more, "held-out "+fitness(*s.HeldOut))
	}
	if more == nil {
		return fitness(s.Fitness)
	}
	return fmt.Sprintf("%s (%s)", fitness(s.Fitness), strings.Join(more, ", "))
}

// standing is the best candidate against the best method, in words.
func standing(s *search.Standing) string {
	if s == nil {
		return ""
	}
	text := "best " + score(s.Best)
	if s.Rival == nil {
		return text
	}
	rival := ropescale.MethodLabel(s.Rival.Origin)
	if s.Rival.Candidate == s.Best.Candidate {
		return text + ", " + rival
	}
	return fmt.Sprintf("%s against %s %s", text, rival, score(*s.Rival))
}

// searchOutput is what search writes with --json.
type searchOutput struct {
	*search.Result
	Files map[string]string `json:"files,omitempty"`
}
