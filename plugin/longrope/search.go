package longrope

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/ropescale"
)

// searchFlags are the flags of search.
type searchFlags struct {
	target         sizeFlag
	texts, heldOut []string
	out, study     string
	fresh          bool
	algorithm      string
	seed           uint64
	budget         budgetFlag
	windows        int
	fitness        string
	attention      string
	knots          int
	plot           string
	noPlot         bool
}

func searchCommand(open opener) *cobra.Command {
	var f searchFlags
	cmd := &cobra.Command{
		Use:   "search MODEL --target LENGTH",
		Short: "Search RoPE factors for a longer context",
		Long: `Search rescale factors, a start window and an attention factor with which MODEL has the lowest perplexity at the
target length, and write them to a file for convert. PI, NTK and YaRN are evaluated first, for comparison.

A search can be interrupted (Ctrl-C) or killed at any time: the same command goes on where it was. Its journal is
beside the output, FACTORS.study.

The text should resemble what the model will read, and be several times longer than the target. Without --text, two
books in the public domain that come with the program are used; they reach to about 80k tokens.`,
		Example: `  ollama longrope search llama3 --target 16k -o factors.json
  ollama longrope search model.gguf --target 131072 --text war.txt --text peace.txt --budget 8h -o factors.json`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error { return a.search(ctx, args[0], f) })
		},
	}
	fl := cmd.Flags()
	fl.Var(&f.target, "target", "Length to search for, e.g. 131072 or 128k")
	fl.StringArrayVar(&f.texts, "text", nil, "Text `FILE` to search on (repeatable)")
	fl.StringArrayVar(&f.heldOut, "held-out", nil, "Text `FILE` to measure on at the end (repeatable)")
	fl.StringVarP(&f.out, "output", "o", "", "Factors `FILE` to write (.json)")
	fl.Var(&f.budget, "budget", "What to spend: tokens (600k) or time (90s, 10m, 2h); default: the algorithm's own")
	fl.StringVar(&f.algorithm, "algorithm", "cma", "cma (few evaluations), longrope (the paper's evolutionary search), dim-mono or dim-piece-mono (its authors' released ones)")
	fl.Uint64Var(&f.seed, "seed", 1, "Seed of the search")
	fl.IntVar(&f.windows, "windows", 0, "Windows of the target length that each candidate reads (default: 16k tokens of them, but at least 3 where the text has as many)")
	fl.StringVar(&f.fitness, "fitness", "perplexity", "What to minimise: perplexity, needle (of hidden keys), or both")
	fl.StringVar(&f.attention, "attention", "", "Attention factor: search or fixed (default: search for cma, fixed for longrope)")
	fl.IntVar(&f.knots, "knots", 0, "Knots of cma's curve of factors (default 8)")
	fl.StringVar(&f.study, "study", "", "Journal `FILE` (default: that of the output, with .study)")
	fl.BoolVar(&f.fresh, "fresh", false, "Begin anew, and discard the journal of an earlier search")
	fl.StringVar(&f.plot, "plot", "", "Picture `FILE` of the factors, and one more, -search, of the convergence (default: that of the output, .png)")
	fl.BoolVar(&f.noPlot, "no-plot", false, "Draw no picture")
	jsonFlag(cmd)
	engineFlags(cmd)
	return cmd
}

// check finds what is wrong with the flags before a model is loaded, and fills in the files that follow from others.
func (f *searchFlags) check(m *model) error {
	switch {
	case f.target == 0:
		return errors.New("--target is missing; give the length to search for, e.g. --target 16k")
	case int(f.target) <= m.info.OriginalContextLength:
		return fmt.Errorf("--target %s: %s was trained for %s tokens already; give a longer target",
			size(int(f.target)), m.name, size(m.info.OriginalContextLength))
	case f.windows < 0:
		return fmt.Errorf("--windows is %d; give at least 1", f.windows)
	case f.out != "" && !strings.EqualFold(filepath.Ext(f.out), ".json"):
		return fmt.Errorf("--output: %s is not a .json file; factors are written as JSON", f.out)
	}
	if _, ok := measures[f.fitness]; !ok {
		return fmt.Errorf("--fitness: unknown measure %q; known: perplexity, needle, both", f.fitness)
	}
	if f.out != "" {
		if err := writable(f.out); err != nil {
			return fmt.Errorf("--output: %w", err)
		}
		if f.study == "" {
			f.study = f.out + ".study"
		}
		if f.plot == "" && !f.noPlot {
			f.plot = strings.TrimSuffix(f.out, filepath.Ext(f.out)) + ".png"
		}
	}
	if f.fresh && f.study == "" {
		return errors.New("--fresh: there is no journal to discard; give --output or --study")
	}
	if f.noPlot {
		f.plot = ""
	}
	return pictureName(f.plot)
}

// writable refuses an output that cannot appear, before the hours it takes to make it.
func writable(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder; give the name of a file", path)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".longrope-*")
	if err != nil {
		return fmt.Errorf("cannot write to the folder of %s: %w", path, errors.Unwrap(err))
	}
	f.Close()
	return os.Remove(f.Name())
}

func (a *app) search(ctx context.Context, arg string, f searchFlags) error {
	m, err := find(arg)
	if err != nil {
		return err
	}
	if err := f.check(m); err != nil {
		return err
	}
	texts, err := readTexts("text", f.texts)
	if err != nil {
		return err
	}
	heldOut, err := readTexts("held-out", f.heldOut)
	if err != nil {
		return err
	}

	m, done, err := a.runnable(ctx, m)
	if err != nil {
		return err
	}
	defer done()
	target := int(f.target)
	e, err := a.load(m, target)
	if err != nil {
		return err
	}
	defer e.Close()
	if texts, err = f.chooseWindows(e, texts); err != nil {
		return err
	}
	j, err := newJudge(e, m.info.Rope(), m.info.Base, texts, target, f)
	if err != nil {
		return err
	}
	s := &searching{app: a, m: m, e: e, f: f, judge: j}
	if err := s.readHeldOut(heldOut); err != nil {
		return err
	}
	if err := s.openStudy(texts); err != nil {
		return err
	}
	defer s.study.Close()
	err = s.run(ctx)
	a.done()
	if err != nil {
		return err
	}
	result, err := s.finish(ctx, texts)
	if err != nil {
		return err
	}
	if err := a.report(result, f); err != nil {
		return err
	}
	return ctx.Err() // an interrupt while held-out text was read: what comes next in a script must not run
}

// chooseWindows settles how many windows a candidate reads, and of which texts. On fewer than 16k tokens the default model
// found factors that were good for no other text (evals/RESULTS.md); for long targets, three windows are what time allows.
func (f *searchFlags) chooseWindows(e evals.Engine, given []evals.Text) ([]evals.Text, error) {
	target, least := int(f.target), f.windows
	if f.windows == 0 {
		f.windows, least = max(3, 16<<10/target, len(given)), 1
	}
	for ; ; f.windows-- {
		texts, err := textsFor(e, given, defaultmodel.SearchTexts(), target, f.windows)
		if err == nil {
			return texts, nil
		}
		if !errors.Is(err, errBundled) || f.windows <= least {
			return nil, fmt.Errorf("%w; give longer ones with --text, or fewer --windows", err)
		}
	}
}

// searching is a search that goes on.
type searching struct {
	*app
	m        *model
	e        runner
	f        searchFlags
	judge    *judge
	heldOut  []evals.Text
	windows  [][]int // of heldOut; nil: there is no text that is long enough
	study    *ropescale.Study
	started  time.Time
	resumed  int // trials that the journal had
	read     int // tokens of these
	complete bool
}

func (s *searching) openStudy(texts []evals.Text) error {
	f := s.f
	opts := ropescale.Options{
		Rope: s.judge.Rope, Target: int(f.target), Base: s.judge.Base, Readings: s.judge.Readings, Algorithm: f.algorithm, Seed: f.seed,
		Budget: f.budget.tokens, ModelDigest: s.e.Info().Digest, Fitness: s.judge.Name,
		Params: ropescale.Params{Attention: f.attention, Knots: f.knots},
	}
	for _, t := range texts {
		opts.Texts = append(opts.Texts, textID(t))
	}
	if each := s.judge.tokens(); f.budget.tokens > 0 && f.budget.tokens < 4*each {
		return fmt.Errorf("--budget: a candidate reads %s tokens, and PI, NTK and YaRN take three times that; give at least %s or ask for fewer --windows",
			count(each), count(4*each))
	}
	if f.study == "" {
		var err error
		s.study, err = ropescale.NewStudy(opts)
		return err
	}
	journal, err := isJournal(f.study)
	if err != nil {
		return err
	}
	if f.fresh && journal {
		if err := os.Remove(f.study); err != nil {
			return fmt.Errorf("--fresh: %w", err)
		}
	}
	if s.study, err = ropescale.OpenStudy(f.study, opts); err != nil {
		if journal && strings.HasPrefix(err.Error(), "study "+f.study) {
			err = fmt.Errorf("%w; --fresh discards it", err)
		}
		return err
	}
	s.resumed = len(s.study.History())
	s.read = s.spent()
	return nil
}

// isJournal says whether there is a study's journal at path: what --fresh may discard, which is nothing else that somebody
// named by mistake.
func isJournal(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, len(`{"longrope_study"`))
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("--study: %w", err)
	}
	return string(head[:n]) == `{"longrope_study"`, nil
}

// textID is a text in the study's record: with other contents it is another study.
func textID(t evals.Text) string {
	return fmt.Sprintf("%s (%s, %d bytes)", t.Name, digest(t.Body)[:len("sha256:")+12], len(t.Body))
}

// run evaluates trials until the study is done, time is up or the user interrupts.
func (s *searching) run(ctx context.Context) error {
	s.started = time.Now()
	most := s.study.Options().Budget
	switch {
	case s.study.Done():
		s.say("the search in %s is complete, with %d trials", s.f.study, s.resumed)
	case s.resumed > 0:
		s.say("going on with %s after %d trials, %s of %s tokens", s.f.study, s.resumed, count(s.read), count(most))
	default:
		s.say("at most %s tokens, of which a candidate reads up to %s", count(most), count(s.judge.tokens()))
	}
	stopped := func(err error) error {
		if ctx.Err() == nil {
			return err
		}
		if s.f.study == "" {
			return fmt.Errorf("%w after %d trials; give --output to be able to go on", errInterrupted, len(s.study.History()))
		}
		s.done()
		s.say("%d trials are kept in %s; to go on:\n  %s", len(s.study.History()), s.f.study, s.command())
		return errInterrupted
	}
	said := false
	for !s.study.Done() {
		for _, t := range s.study.Ask() {
			if s.f.budget.time > 0 && time.Since(s.started) >= s.f.budget.time {
				s.done()
				s.say("the time is up after %d trials, %s of %s tokens", len(s.study.History()), count(s.spent()), count(most))
				return nil
			}
			losses, tokens, err := s.judge.evaluate(ctx, s.e, t.Rung, t.Readings)
			if err != nil {
				return stopped(err)
			}
			if err := s.study.Tell(t.ID, losses, tokens); err != nil {
				return err
			}
			s.show(most)
			if seeds := s.study.Seeds(); !said && len(seeds) == 3 {
				said = true
				if s.resumed < 3 {
					s.done()
					s.say("to beat: %s", seedLine(seeds))
				}
			}
		}
	}
	s.complete = true
	return nil
}

// command is what goes on: the command of this run, without what would begin anew.
func (s *searching) command() string {
	var args []string
	for _, arg := range s.args {
		if arg != "--fresh" && arg != "--fresh=true" {
			args = append(args, arg)
		}
	}
	return "ollama " + strings.Join(args, " ")
}

func seedLine(seeds map[string]ropescale.Trial) string {
	var parts []string
	for _, name := range seedOrder {
		parts = append(parts, fmt.Sprintf("%s %s", label(name), fitness(seeds[name].Fitness)))
	}
	return strings.Join(parts, ", ")
}

// rival is the best of the methods that need no search.
func (s *searching) rival() (name string, best float64) {
	best = math.Inf(1)
	seeds := s.study.Seeds()
	for _, n := range seedOrder {
		if t, ok := seeds[n]; ok && t.Fitness < best {
			name, best = n, t.Fitness
		}
	}
	return name, best
}

// show draws the progress line.
func (s *searching) show(most int) {
	spent := s.spent()
	done, total := float64(spent-s.read), float64(most-s.read)
	if t := s.f.budget.time; t > 0 {
		share := max(done/total, time.Since(s.started).Seconds()/t.Seconds())
		done, total = share, 1
	}
	note := fmt.Sprintf("trial %d, %s tokens", len(s.study.History()), count(spent))
	if best, ok := s.study.Best(); ok {
		note += fmt.Sprintf(", best %s (%s)", fitness(best.Fitness), label(best.Origin))
		if name, rival := s.rival(); name != "" && rival < math.Inf(1) && best.Origin != name {
			note += fmt.Sprintf(" against %s %s", label(name), fitness(rival))
		}
	}
	s.progress(s.started, "search", done, total, note)
}

// spent is how many tokens were read for the study.
func (s *searching) spent() int {
	curve := s.study.Curve()
	if len(curve) == 0 {
		return 0
	}
	return curve[len(curve)-1].Tokens
}
