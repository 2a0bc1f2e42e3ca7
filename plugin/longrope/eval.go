package longrope

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/ropescale"
)

// evalFlags are the flags of eval.
type evalFlags struct {
	lengths   sizesFlag
	methods   []string
	target    sizeFlag
	csv, plot string

	texts   []string
	stride  sizeFlag
	windows int

	depths   sharesFlag
	trials   int
	seed     uint64
	digits   int
	template string
	haystack string
	nll      bool

	choice choiceFlags
}

// tasks are what eval measures.
var tasks = map[string]struct{ perplexity, passkey bool }{
	"perplexity": {perplexity: true},
	"passkey":    {passkey: true},
	"all":        {true, true},
}

func evalCommand(open opener) *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "eval perplexity|passkey|all|BENCHMARK MODEL",
		Short: "Measure a model, and ways to extend its context side by side",
		Long: `Measure MODEL at several lengths with several sets of RoPE factors: the perplexity of text, whether a passkey hidden
in a long prompt is found, or both. Or its accuracy on a benchmark of multiple choice, from a file of questions as it is
published: arc_challenge, arc_easy, hellaswag, mmlu, truthfulqa_mc1, truthfulqa_mc2, with lm-evaluation-harness' prompts.
Questions are short, so a ladder leaves them alone; with --lengths they get the factors for texts that long.

Methods are stock, ` + closedForms() + `, factors files, and "model" for what the model itself carries. Stock
is the model's own RoPE with the context length raised, so that nothing is cut off: that is the fair baseline. A
factors file, or the model's, is called longrope in the results; where there are several, files go by their names.
Without --methods a plain model is measured with stock, ` + strings.Join(ropescale.MethodNames(ropescale.Seed), ", ") + `, and one that carries factors with
stock and model.`,
		Example: `  ollama longrope eval passkey llama3-16k --lengths 8k,12k,16k
  ollama longrope eval all llama3 --lengths 8k,16k --methods stock,yarn,factors.json --plot result.png --csv result.csv
  ollama longrope eval arc_challenge llama3-16k --questions ARC-Challenge-Test.jsonl --lengths 16k`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error { return a.eval(ctx, args[0], args[1], f) })
		},
	}
	fl := cmd.Flags()
	fl.Var(&f.lengths, "lengths", "Lengths to measure at, e.g. 4k,8k (default: the original context length, twice and four times that)")
	fl.StringSliceVar(&f.methods, "methods", nil, "Methods and factors files (default: see above)")
	fl.Var(&f.target, "target", "Length that methods stretch to (default: the largest of --lengths)")
	fl.StringVar(&f.csv, "csv", "", "Write the rows to `FILE` (.csv)")
	fl.StringVar(&f.plot, "plot", "", "Draw the result to `FILE` (.png or .svg)")
	fl.StringArrayVar(&f.texts, "text", nil, "Perplexity: text `FILE` (repeatable; default: books that come with the program)")
	fl.Var(&f.stride, "stride", "Perplexity: tokens that windows move on by (default: the length)")
	fl.IntVar(&f.windows, "windows", 4, "Perplexity: windows of each text at most; 0 is all")
	fl.Var(&f.depths, "depths", "Passkey: where the key is hidden, 0 to 1 (default 0,0.25,0.5,0.75,1)")
	fl.IntVar(&f.trials, "trials", 4, "Passkey: trials of each length and depth")
	fl.Uint64Var(&f.seed, "seed", 1, "Passkey: seed of the keys")
	fl.IntVar(&f.digits, "digits", 5, "Passkey: digits of a key")
	fl.StringVar(&f.template, "template", "passkey", "Passkey: prompt, "+strings.Join(templateNames(), ", "))
	fl.StringVar(&f.haystack, "haystack", "", "Passkey: text `FILE` to hide the key in (default: the paper's sentence, repeated)")
	fl.BoolVar(&f.nll, "nll", false, "Passkey: the NLL of the true key as well, at twice the time")
	fl.StringArrayVar(&f.choice.questions, "questions", nil, "Benchmarks: `FILE` of questions, .jsonl, .json or .csv (repeatable)")
	fl.StringArrayVar(&f.choice.examples, "examples", nil, "Benchmarks: `FILE` that --shots are taken from (repeatable)")
	fl.IntVar(&f.choice.shots, "shots", 0, "Benchmarks: examples before each question")
	fl.IntVar(&f.choice.limit, "limit", 0, "Benchmarks: questions at most; 0 is all")
	jsonFlag(cmd)
	engineFlags(cmd)
	return cmd
}

func templateNames() []string {
	var names []string
	for _, t := range evals.Templates() {
		names = append(names, t.Name)
	}
	return names
}

func (a *app) eval(ctx context.Context, task, arg string, f evalFlags) error {
	kind, ok := tasks[task]
	benchmark := slices.Contains(evals.BenchmarkNames(), task)
	if !ok && !benchmark {
		known := taskNames()
		return fmt.Errorf("unknown task %q; known: %s%s", task, strings.Join(known, ", "), suggest(task, known))
	}
	for _, path := range []string{f.csv, f.plot} {
		if path == "" {
			continue
		}
		if err := atomicfile.Check(path); err != nil {
			return err
		}
	}
	if err := pictureName(f.plot); err != nil {
		return err
	}
	if benchmark {
		return a.evalChoice(ctx, task, arg, f)
	}
	if len(f.choice.questions) > 0 {
		return fmt.Errorf("--questions are for benchmarks: %s", strings.Join(evals.BenchmarkNames(), ", "))
	}
	m, err := find(arg)
	if err != nil {
		return err
	}
	m, done, err := a.runnable(ctx, m)
	if err != nil {
		return err
	}
	defer done()
	if len(f.lengths) == 0 {
		l := m.info.OriginalContextLength
		f.lengths = sizesFlag{l, 2 * l, 4 * l}
		if m.info.Ladder != nil {
			f.lengths = rungLengths(m.info.Ladder)
		}
	}
	f.lengths = f.lengths.ascending()
	target := slices.Max(f.lengths)
	if f.target > 0 {
		target = int(f.target)
	}
	methods, err := methodsFor(m, f.methods, target, f.lengths)
	if err != nil {
		return err
	}
	o, err := f.options(kind.perplexity, kind.passkey)
	if err != nil {
		return err
	}

	e, err := a.load(m, slices.Max(f.lengths))
	if err != nil {
		return err
	}
	defer e.Close()
	if kind.perplexity {
		if o.Texts, err = textsFor(e, o.Texts, testBooks, slices.Max(f.lengths), 1); err != nil {
			return fmt.Errorf("%w; give longer ones with --text", err)
		}
	}
	stock := slices.ContainsFunc(methods, func(m evals.Method) bool { return m.Name == "stock" })
	if longest, trained := slices.Max(f.lengths), m.info.OriginalContextLength; stock && longest > trained {
		a.say("stock is the model's own RoPE with its context length raised from %s to %s tokens", size(trained), size(longest))
	}
	started := time.Now()
	o.Progress = func(done, total int, label string) {
		a.progress(started, label, float64(done), float64(total), "")
	}
	c, err := evals.Compare(ctx, e, methods, o)
	a.done()
	if err != nil {
		return err
	}
	return a.reportEval(c, f)
}

// rungLengths are the original context length and those at which a ladder's rungs end.
func rungLengths(l *ropescale.Ladder) sizesFlag {
	lengths := sizesFlag{l.OriginalContextLength}
	for _, g := range l.Rungs {
		lengths = append(lengths, g.Length)
	}
	return lengths.ascending()
}

// options are those of Compare, as far as they can be known without a model.
func (f *evalFlags) options(perplexity, passkey bool) (o evals.CompareOptions, err error) {
	o = evals.CompareOptions{Lengths: f.lengths, NoPasskey: !passkey}
	if f.windows < 0 {
		return o, fmt.Errorf("--windows is %d; give 0 for all, or how many", f.windows)
	}
	if perplexity {
		o.Perplexity = evals.PerplexityOptions{Stride: int(f.stride), MaxWindows: f.windows}
		if o.Texts, err = readTexts("text", f.texts); err != nil {
			return o, err
		}
	} else if len(f.texts) > 0 {
		return o, fmt.Errorf("--text is for perplexity; a text to hide keys in is --haystack")
	}
	if passkey {
		o.Passkey = evals.PasskeyOptions{Depths: f.depths, Trials: f.trials, Seed: f.seed, Digits: f.digits, NeedleNLL: f.nll}
		if f.trials < 1 {
			return o, fmt.Errorf("--trials is %d; give at least 1", f.trials)
		}
		if o.Passkey.Template, err = evals.TemplateByName(f.template); err != nil {
			return o, fmt.Errorf("--template: %w", err)
		}
		if f.haystack != "" {
			texts, err := readTexts("haystack", []string{f.haystack})
			if err != nil {
				return o, err
			}
			o.Passkey.Haystack = &texts[0]
		}
	}
	return o, nil
}

// reportEval writes the files that were asked for and prints the result.
func (a *app) reportEval(c *evals.Comparison, f evalFlags) error {
	var files []string
	if f.csv != "" {
		if err := atomicfile.Write(f.csv, c.WriteCSV); err != nil {
			return err
		}
		files = append(files, f.csv)
	}
	if f.plot != "" {
		drawn, err := drawComparison(f.plot, c)
		if err != nil {
			return err
		}
		files = append(files, drawn...)
	}
	defer func() {
		if len(files) > 0 {
			a.say("wrote %s", strings.Join(files, ", "))
		}
	}()
	if a.json {
		return a.printJSON(c)
	}
	var b strings.Builder
	if err := draw.Table(&b, c); err != nil {
		return err
	}
	color := colors(a.out)
	for i, r := range c.Passkey {
		if i == 0 {
			b.WriteString("\npasskeys found, in percent, by depth and length\n")
		}
		b.WriteString("\n")
		if err := draw.HeatMap(&b, r, color); err != nil {
			return err
		}
	}
	if len(c.Perplexity) > 0 {
		b.WriteString("\nNLL by position\n\n")
		if err := draw.CurveLines(&b, longest(c.Perplexity)); err != nil {
			return err
		}
	}
	if n := needleTable(c); n != "" {
		b.WriteString("\n" + n)
	}
	if err := a.print(b.String()); err != nil {
		return err
	}
	a.say("%s tokens evaluated on %s (%s)", count(c.EvaluatedTokens), c.Engine.Backend, c.Engine.Host)
	return nil
}

// longest keeps the results of the largest length: one curve for each method.
func longest(rs []*evals.PerplexityResult) []*evals.PerplexityResult {
	most := 0
	for _, r := range rs {
		most = max(most, r.Length)
	}
	return slices.DeleteFunc(slices.Clone(rs), func(r *evals.PerplexityResult) bool { return r.Length != most })
}

// needleTable is the NLL of the true key, where it was measured.
func needleTable(c *evals.Comparison) string {
	var rows [][]string
	for _, r := range c.Rows {
		if r.PasskeyNLL != nil {
			rows = append(rows, []string{r.Method, size(r.Length), fmt.Sprintf("%.3f", *r.PasskeyNLL)})
		}
	}
	if rows == nil {
		return ""
	}
	return table([]string{"method", "length", "nll of the key"}, rows, 1)
}

// drawComparison draws passkey grids and perplexity curves; where there are both, each gets a file of its own.
func drawComparison(path string, c *evals.Comparison) ([]string, error) {
	var files []string
	if len(c.Passkey) > 0 {
		p := path
		if len(c.Perplexity) > 0 {
			p = beside(path, "passkey")
		}
		if err := draw.Passkey(p, c.Passkey); err != nil {
			return nil, err
		}
		files = append(files, p)
	}
	if len(c.Perplexity) > 0 {
		p := path
		if len(c.Passkey) > 0 {
			p = beside(path, "perplexity")
		}
		if err := draw.Perplexity(p, longest(c.Perplexity)); err != nil {
			return nil, err
		}
		files = append(files, p)
	}
	return files, nil
}

// colors reports whether w shows colours to a person.
func colors(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
