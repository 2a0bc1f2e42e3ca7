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

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// searchFlags are the flags of search.
type searchFlags struct {
	targets        sizesFlag
	rungs          bool
	starts         []string
	texts, heldOut []string
	out, study     string
	fresh          bool
	algorithm      string
	seed           uint64
	budget         budgetFlag
	windows        int
	keys           int
	fitness        string
	attention      string
	startWindows   []int
	knots          int
	plot           string
	page           string
	noPage         bool
	workersFlags
}

func searchCommand(open opener) *cobra.Command {
	var f searchFlags
	cmd := &cobra.Command{
		Use:   "search MODEL --target LENGTH[,LENGTH...]",
		Short: "Search RoPE factors for a longer context",
		Long: `Search rescale factors, a start window and an attention factor with which MODEL has a low perplexity at the target
length and finds keys hidden in the text. They are written to a file for convert, with a page about the search that any
browser shows. PI, NTK and YaRN are evaluated first, for comparison; text that is not searched on is read beside it, so
that overfitting shows. At the end the best two look for further keys, and so do the best two that need no search: factors
that measurably lose more of them are not returned. If none hold, the search begins once more (not with a --budget in tokens).

Several targets, or --rungs, make a ladder: a rung for each length, the shortest first, each starting from the one
below. A model that carries a ladder, because it was fine-tuned with one, is taken further: a target beyond its last rung
stretches that rung, a target up to there is a readjustment for shorter texts, with less interpolation. Rungs of other
lengths stay.

A search can be interrupted (Ctrl-C) or killed at any time: the same command goes on where it was. Its journals, one for a
rung, are beside the output.

Factors of a relative of MODEL, of an earlier search or published, are a good place to begin at: name them with --start.

The text should resemble what the model will read, and be several times longer than the target. Without --text, books in
the public domain that come with the program are used: for a target of 200k tokens they hold three windows, for 500k one.`,
		Example: `  ollama longrope search llama3 --target 32k
  ollama longrope search llama3 --target 16k,32k,64k -o factors.json
  ollama longrope search model.gguf --target 131072 --text war.txt --text peace.txt --budget 8h -o factors.json
  ollama longrope search llama3.1 --target 32k --start factors.json   # those of a relative, found or published
  ollama longrope search llama3-32k-tuned --target 128k,8k,16k        # on from 32k, and readjusted below it`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error { return a.search(ctx, args[0], f) })
		},
	}
	fl := cmd.Flags()
	fl.Var(&f.targets, "target", "Length to search for, e.g. 131072 or 128k; several make a ladder: 32k,64k,128k")
	fl.BoolVar(&f.rungs, "rungs", false, "A ladder to the target: a rung at each doubling below it too")
	fl.StringArrayVar(&f.texts, "text", nil, "Text `FILE` to search on (repeatable)")
	fl.StringArrayVar(&f.heldOut, "held-out", nil, "Text `FILE` to measure on beside the search (repeatable; default: other books that come with the program)")
	fl.StringVarP(&f.out, "output", "o", "", "Factors `FILE` to write (.json; default: the model's name and the target)")
	fl.Var(&f.budget, "budget", "What to spend on all rungs: tokens (600k) or time (90s, 10m, 2h; 10m is minutes); default: the algorithm's own")
	fl.StringVar(&f.algorithm, "algorithm", "cma", "cma (few evaluations), longrope (the paper's evolutionary search), dim-mono or dim-piece-mono (its authors' released ones)")
	fl.Uint64Var(&f.seed, "seed", 1, "Seed of the search")
	fl.IntVar(&f.windows, "windows", 0, "Windows of the target length that each candidate reads (default: 16k tokens of them, but at least 3 where the text has as many)")
	fl.IntVar(&f.keys, "keys", 0, "Keys hidden in each window (default: 4, but no more than one for 512 tokens of the target)")
	fl.StringVar(&f.fitness, "fitness", "", "What to minimise: perplexity of the text, needle (of keys hidden in it), or both (default)")
	fl.StringVar(&f.attention, "attention", "", "Attention factor: search or fixed (default: search for cma, fixed for longrope)")
	fl.IntSliceVar(&f.startWindows, "start-windows", nil, "Start windows to choose from, in tokens; 0 alone is none, for programs that have no start window (default: the paper's 14, from 0 to 256)")
	fl.IntVar(&f.knots, "knots", 0, "Knots of cma's curve of factors (default 8)")
	fl.StringArrayVar(&f.starts, "start", nil, "Begin from these factors too, if they are better than PI, NTK and YaRN: a factors `FILE`, or a model that carries some (repeatable)")
	fl.StringVar(&f.study, "study", "", "Journal `FILE`; of several rungs, each has its length in the name (default: that of the output, with .study)")
	fl.BoolVar(&f.fresh, "fresh", false, "Begin anew, and discard the journals of an earlier search")
	fl.StringVar(&f.page, "report", "", "Page `FILE` about the search (default: that of the output, .html)")
	fl.BoolVar(&f.noPage, "no-report", false, "Write no page")
	fl.StringVar(&f.plot, "plot", "", "Picture `FILE` of the factors (.png or .svg), and one more for each rung, -search, of the convergence")
	f.workersFlags.add(cmd)
	jsonFlag(cmd)
	engineFlags(cmd)
	return cmd
}

// check finds what is wrong with the flags before a model is loaded, and fills in what follows from others.
func (f *searchFlags) check(m *model) error {
	if len(f.targets) == 0 {
		return errors.New("--target is missing; give the length to search for, e.g. --target 16k")
	}
	carried := carriedBy(m.info)
	trained := m.info.OriginalContextLength
	if carried != nil && len(carried.Rungs) > 0 {
		trained = carried.Rungs[len(carried.Rungs)-1].Length
	}
	if f.rungs {
		if len(f.targets) > 1 {
			return errors.New("--rungs makes a ladder to one target; give one, or leave out --rungs")
		}
		f.targets = doublings(trained, f.targets[0])
	}
	f.targets = f.targets.ascending()
	switch {
	case f.targets[0] <= m.info.OriginalContextLength && carried == nil:
		return fmt.Errorf("--target %s: %s was trained for %s tokens already; give a longer target",
			size(f.targets[0]), m.name, size(m.info.OriginalContextLength))
	case f.windows < 0:
		return fmt.Errorf("--windows is %d; give at least 1", f.windows)
	case f.keys < 0 || f.keys > 9:
		return fmt.Errorf("--keys is %d; give 1 to 9", f.keys)
	case f.keys > 0 && f.fitness == "perplexity":
		return errors.New("--keys: --fitness perplexity hides none; leave one of them out")
	case f.out != "" && !strings.EqualFold(filepath.Ext(f.out), ".json"):
		return fmt.Errorf("--output: %s is not a .json file; factors are written as JSON", f.out)
	}
	f.startWindows = sizesFlag(f.startWindows).ascending()
	switch released := strings.HasPrefix(f.algorithm, "dim-"); {
	case len(f.starts) > 0 && released:
		return fmt.Errorf("--start: %s starts from YaRN alone; leave it out, or use --algorithm cma or longrope", f.algorithm)
	case len(f.startWindows) > 0 && released:
		return fmt.Errorf("--start-windows: %s has no start window; leave it out, or use --algorithm cma or longrope", f.algorithm)
	case len(f.startWindows) > 0 && (f.startWindows[0] < 0 || f.startWindows[0] >= f.targets[0]):
		return fmt.Errorf("--start-windows: %d; give at least 0, and one that is less than the target", f.startWindows[0])
	}
	if _, err := f.plan(m); err != nil {
		return err
	}
	if _, ok := measures[f.fitness]; !ok {
		return fmt.Errorf("--fitness: unknown measure %q; known: perplexity, needle, both", f.fitness)
	}
	if f.out == "" {
		f.out = strings.ReplaceAll(filepath.Base(nameFor(m.name, f.targets[len(f.targets)-1])), ":", "-") + ".json"
	}
	stem := strings.TrimSuffix(f.out, filepath.Ext(f.out))
	if f.study == "" {
		f.study = f.out + ".study"
	}
	switch {
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

// search is a search for all rungs that were asked for.
type search struct {
	*app
	m       *model
	e       runner
	f       searchFlags
	rungs   []*searching
	pool    *pool // nil: this process evaluates
	started time.Time
	said    bool // how long it will take
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
	e, err := a.load(m, slices.Max(f.targets))
	if err != nil {
		return err
	}
	defer e.Close()
	s := &search{app: a, m: m, e: e, f: f}
	defer s.close()
	if err := s.prepare(texts, heldOut); err != nil {
		return err
	}
	if s.pool, err = a.startPool(ctx, f.workersFlags, m, e, s.rungs[0].judge, f.study); err != nil {
		return err
	}
	err = s.run(ctx)
	s.pool.close(a.say, err == nil && s.rungs[len(s.rungs)-1].complete)
	a.done()
	if err != nil {
		return err
	}
	result, err := s.finish(ctx)
	if err != nil {
		return err
	}
	if err := a.report(result, f); err != nil {
		return err
	}
	return ctx.Err() // an interrupt while held-out text was read: what comes next in a script must not run
}

func (s *search) close() {
	for _, r := range s.rungs {
		r.close()
	}
}

// prepare decides what each rung reads, and finds what is wrong with it before the first hour is spent.
func (s *search) prepare(texts, heldOut []evals.Text) error {
	steps, err := s.f.plan(s.m)
	if err != nil {
		return err
	}
	for _, step := range steps {
		r := &searching{search: s, step: step, journal: s.f.journal(step.target)}
		f := s.f
		var err error
		if r.texts, f.windows, err = f.chooseWindows(s.e, texts, step.target); err != nil {
			return err
		}
		if r.judge, err = newJudge(s.e, s.m.info.Rope(), s.m.info.Base, r.texts, step.target, f); err != nil {
			return err
		}
		r.windows = f.windows
		s.rungs = append(s.rungs, r)
	}
	var least, usual []int
	for i, r := range s.rungs {
		opts := r.options()
		if s.below(i) != nil {
			opts.Starts = append(opts.Starts, r.standIns()...)
		}
		study, err := ropescale.NewStudy(opts)
		if err != nil {
			return err
		}
		r.budget, r.foreseen = study.Options().Budget, study.Foreseen()
		least, usual = append(least, s.least(i)), append(usual, r.budget)
	}
	if budget := s.f.budget.tokens; budget > 0 {
		if need := sum(least); budget < need {
			return fmt.Errorf("--budget: PI, NTK, YaRN, other starts and one candidate more take %s tokens; give at least that, or ask for fewer --windows", count(need))
		}
		for i, n := range shares(budget, least, usual) {
			s.rungs[i].budget, s.rungs[i].foreseen = n, n
		}
	}
	for _, r := range s.rungs {
		var err error
		if r.held, err = s.newHeldOut(s.e, heldOut, r.step.target, r.windows, r.foreseen); err != nil {
			return err
		}
		if s.f.fresh {
			if err := discard(r.journal); err != nil {
				return err
			}
		}
	}
	return nil
}

// plan makes a step for each target, with the starts that were named.
func (f *searchFlags) plan(m *model) ([]step, error) {
	steps := plan(m.info, f.targets)
	for i := range steps {
		if f.algorithm == "cma" && f.attention != "fixed" {
			if err := steps[i].unscaled(); err != nil {
				return nil, err
			}
		}
		if err := steps[i].from(m.info.Rope(), f.starts); err != nil {
			return nil, fmt.Errorf("--start: %w", err)
		}
		steps[i].allow(f.startWindows)
	}
	return steps, nil
}

// chooseWindows settles how many windows a candidate reads, and of which texts. On fewer than 16k tokens the default model
// found factors that were good for no other text (evals/RESULTS.md); for long targets, three windows are what time allows.
func (f *searchFlags) chooseWindows(e evals.Engine, given []evals.Text, target int) ([]evals.Text, int, error) {
	windows, least := f.windows, f.windows
	if windows == 0 {
		windows, least = max(3, 16<<10/target, len(given)), 1
	}
	for ; ; windows-- {
		texts, err := textsFor(e, given, searchBooks, target, windows)
		if err == nil {
			return texts, windows, nil
		}
		if !errors.Is(err, errBundled) || windows <= least {
			return nil, 0, fmt.Errorf("%w; give longer ones with --text, or fewer --windows", err)
		}
	}
}

// run searches rung by rung, each with what was found for the one below. A rung is closed once the next one has begun, so that
// a search that goes on finds the next one's starts as they were.
func (s *search) run(ctx context.Context) error {
	s.started = time.Now()
	foreseen, most, done := 0, 0, 0
	for i, r := range s.rungs {
		foreseen += r.foreseen
		most += r.budget
		ok, err := isJournal(r.journal)
		if err != nil {
			return err
		}
		if ok {
			done = i + 1
		}
	}
	if done == 0 {
		names := make([]string, len(s.rungs))
		for i, r := range s.rungs {
			names[i] = size(r.step.target)
		}
		within := ""
		if t := s.f.budget.time; t > 0 {
			within = " in " + duration(t)
		}
		reading := "at most " + count(most) + " tokens will be read"
		if foreseen < most {
			reading = fmt.Sprintf("%s tokens will be read, or %s if nothing is found at first", count(foreseen), count(most))
		}
		s.say("searching factors for %s tokens; %s%s, %s by a candidate", strings.Join(names, ", "), reading, within, reads(s.rungs))
		if err := s.foresee(ctx, foreseen); err != nil {
			return err
		}
	}
	for i, r := range s.rungs {
		if err := r.open(i); err != nil {
			return err
		}
		r.deadline = s.deadline(i)
		if i+1 < done {
			continue
		}
		switch err := r.run(ctx); {
		case errors.Is(err, errTime):
			s.done()
			s.say("the time is up for %s tokens after %d trials, %s of %s tokens", size(r.step.target), len(r.study.History()), count(r.spent()), count(r.study.Foreseen()))
			if _, ok := r.found(); !ok {
				if i > 0 {
					r.close()
					s.rungs = s.rungs[:i]
					return nil
				}
				return fmt.Errorf("no candidate has been read to its end yet; the same command goes on, or give a larger --budget")
			}
		case err != nil:
			return err
		default:
			r.complete = true
		}
	}
	return nil
}

// foresee says how long a search of so many tokens takes at least, from how fast a short text is read: the first candidate may
// take an hour, and nothing is known until then.
func (s *search) foresee(ctx context.Context, tokens int) error {
	const short, long = 32, 256
	sample := s.rungs[len(s.rungs)-1].judge.Samples[0].Tokens
	if len(sample) < 16*long || s.f.budget.time > 0 {
		return nil
	}
	if _, err := s.e.NLL(ctx, sample[:short], 1); err != nil { // the first call is slower
		return err
	}
	started := time.Now()
	if _, err := s.e.NLL(ctx, sample[:long], 1); err != nil {
		return err
	}
	if d := time.Duration(float64(time.Since(started)) * float64(tokens) / long); d > time.Minute {
		s.say("that is %s at the speed of a short text, and long texts are slower; --budget shortens it, Ctrl-C keeps what there is", duration(d))
	}
	return nil
}

// reads is what a candidate reads, in words.
func reads(rungs []*searching) string {
	low, high := rungs[0].judge.tokens(), rungs[0].judge.tokens()
	for _, r := range rungs {
		low, high = min(low, r.judge.tokens()), max(high, r.judge.tokens())
	}
	if low == high {
		return "up to " + count(high)
	}
	return fmt.Sprintf("up to %s to %s", count(low), count(high))
}

// deadline is when rung i has had its share of a budget in time: what remains is divided over it and those above it by the tokens
// that each would read. Some is left for the held-out text at the end. It is zero without a budget.
func (s *search) deadline(i int) time.Time {
	if s.f.budget.time == 0 {
		return time.Time{}
	}
	rest := 0
	for _, r := range s.rungs[i:] {
		rest += r.foreseen
	}
	left := time.Duration((1-heldOutShare)*float64(s.f.budget.time)) - time.Since(s.started)
	return time.Now().Add(time.Duration(float64(left) * float64(s.rungs[i].foreseen) / float64(rest)))
}
