package longrope

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/evals/taskflag"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

// evalFlags are the flags of eval that are no task's own.
type evalFlags struct {
	lengths   sizesFlag
	methods   []string
	target    sizeFlag
	csv, plot string
	samples   string // file to write them to
	journal   string // file of finished calls

	server, serverModel string
	numCtx              sizeFlag
	tasks               taskflag.Set
}

func evalCommand(open opener) *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "eval TASK MODEL",
		Short: "Measure a model, and ways to extend its context side by side",
		Long: `Measure MODEL at several lengths with several sets of RoPE factors. Tasks:

` + taskHelp() + `
Benchmarks of multiple choice are read from a file of questions as it is published, and asked with
lm-evaluation-harness' prompts. Questions are short, so a ladder leaves them alone; with --lengths
they get the factors for texts that long.

RULER's tasks and key-value retrieval generate samples that fit a length in tokens of MODEL; "ruler"
runs all of RULER's that need no file, and gives their average. --write-samples writes the samples
with the fields of RULER's own files, for other harnesses, and --samples asks such a file. --server
asks another runtime the same; a prompt that it cut is reported as truncated, not as a wrong answer.

A run that was interrupted takes the answers that it had from its journal.

Methods are stock, ` + closedForms() + `, factors files, and "model" for what the model itself
carries. Stock is the model's own RoPE with the context length raised, so that nothing is cut off:
that is the fair baseline. A factors file, or the model's, is called longrope in the results; where
there are several, files go by their names. Without --methods a plain model is measured with stock,
` + strings.Join(ropescale.MethodNames(ropescale.Seed), ", ") + `, and one that carries factors with stock and model.

--csv writes the task's rows to FILE and details, such as each trial, to files next to it; of
several tasks the comparison, and each task's files next to it.`,
		Example: `  ollama longrope eval passkey llama3-16k --lengths 8k,12k,16k
  ollama longrope eval all llama3 --lengths 8k,16k --methods stock,yarn,factors.json \
    --plot result.png --csv result.csv
  ollama longrope eval ruler llama3-16k --lengths 8k,16k --limit 50 --plot ruler.png
  ollama longrope eval arc_challenge llama3-16k --questions ARC-Challenge-Test.jsonl --lengths 16k`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error {
				return a.eval(ctx, cmd.Flags(), args[0], args[1], f)
			})
		},
	}
	fl := cmd.Flags()
	fl.Var(&f.lengths, "lengths",
		"Lengths to measure at, e.g. 4k,8k (default: the original context length, twice and four "+
			"times that)")
	fl.StringSliceVar(&f.methods, "methods", nil, "Methods and factors files (default: see above)")
	fl.Var(&f.target, "target",
		"Length that methods stretch to (default: the largest of --lengths)")
	fl.StringVar(&f.csv, "csv", "", "Write the rows to `FILE` (.csv)")
	fl.StringVar(&f.plot, "plot", "", "Draw the result to `FILE` (.png or .svg)")
	fl.StringVar(&f.samples, "write-samples", "",
		"Write the generated samples to `FILE` (.jsonl) and measure nothing")
	f.tasks = taskflag.New(fl)
	fl.StringVar(&f.journal, "journal", "", "Keep finished answers in `FILE`, and take those "+
		"that it has (default: next to --csv until the run is done)")
	fl.StringVar(&f.server, "server", "", "Ask the server at `URL` in place of MODEL, which then "+
		"only makes the samples (Ollama's API, or OpenAI's: http://host:port/v1)")
	fl.StringVar(&f.serverModel, "server-model", "", "What the server calls the model (default: "+
		"MODEL)")
	fl.Var(&f.numCtx, "num-ctx", "Context length to ask an Ollama --server for (default: its own)")
	jsonFlag(cmd)
	engineFlags(cmd)
	return cmd
}

// shortPrompts is how long a prompt of a benchmark may be at least, in tokens: those of many
// examples must fit even where the model was trained for less.
const shortPrompts = 4096

func (a *app) eval(ctx context.Context, given *pflag.FlagSet, name, arg string, f evalFlags) error {
	tasks, err := tasksNamed(name, given)
	if err != nil {
		return err
	}
	if err := f.check(name, tasks); err != nil {
		return err
	}
	o := evals.CompareOptions{}
	if o.Jobs, err = f.tasks.Jobs(tasks, given); err != nil {
		return err
	}
	if f.server != "" {
		return a.evalServer(ctx, arg, tasks, o, f)
	}
	if f.numCtx != 0 || f.serverModel != "" {
		return errors.New("--server-model and --num-ctx are for --server")
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
	methods, ends, err := f.methodsOf(m, tasks, &o)
	if err != nil {
		return err
	}
	short, room := shortTasks(tasks), slices.Max(o.Lengths)
	if short {
		room = max(m.info.OriginalContextLength, shortPrompts)
	}
	e, err := a.load(m, room)
	if err == nil && short {
		e, err = a.roomier(m, e, o.Jobs, max(room, ends[len(ends)-1]))
	}
	if err != nil {
		return err
	}
	defer e.Close()
	o.Books = books(e)
	if o.Chat, err = chatTemplate(m); err != nil {
		return err
	}
	if f.samples != "" {
		return a.writeSamples(f.samples, e, o)
	}
	a.noteMethods(m, methods, short, room)
	return a.measure(ctx, e, methods, o, f)
}

// shortTasks reports whether one of the tasks has prompts of its own length.
func shortTasks(tasks []evals.Task) bool {
	return slices.ContainsFunc(tasks, func(t evals.Task) bool { return t.Short })
}

// books gives jobs the texts that come with the program.
func books(e evals.Engine) func(length int) ([]evals.Text, error) {
	return func(length int) ([]evals.Text, error) {
		return search.TextsFor(e, nil, search.TestBooks, length, 1)
	}
}

// methodsOf are the methods to measure; o gets lengths and ladders. ends are where the rungs of
// methods that have one for each length end.
func (f evalFlags) methodsOf(m *model, tasks []evals.Task, o *evals.CompareOptions) (
	methods []evals.Method, ends []int, err error,
) {
	o.Lengths, o.Carried = evalLengths(m, f.lengths, shortTasks(tasks)), m.info.Ladder
	target := int(f.target)
	if target == 0 {
		target = slices.Max(o.Lengths)
	}
	ends = o.Lengths
	if slices.Max(ends) == 0 { // prompts of their own length: a rung for each doubling
		if target == 0 {
			target = 4 * m.info.OriginalContextLength
		}
		ends = doublings(m.info.OriginalContextLength, target)
	}
	methods, err = methodsFor(m, f.methods, target, ends)
	return methods, ends, err
}

// noteMethods says what is remarkable about the methods.
func (a *app) noteMethods(m *model, methods []evals.Method, short bool, room int) {
	for _, method := range methods {
		for _, warning := range convert.Misspelt(method.Ladder) {
			a.say("note: %s: %s", method.Name, warning)
		}
	}
	stock := slices.ContainsFunc(methods, func(m evals.Method) bool { return m.Name == "stock" })
	if trained := m.info.OriginalContextLength; stock && !short && room > trained {
		a.say("stock is the model's own RoPE with its context length raised from %s to %s tokens",
			label.Size(trained), label.Size(room))
	}
}

// roomier is e, or where a prompt of the jobs is longer than e was opened for, the model loaded
// again for that, but for no more than most tokens. After an error e is closed.
func (a *app) roomier(m *model, e runner, jobs []evals.Job, most int) (runner, error) {
	has, longest := e.Info().MaxLength, 0
	for _, j := range jobs {
		j, ok := j.(interface {
			Longest(e evals.Engine, enough int) (int, error)
		})
		if !ok {
			continue
		}
		n, err := j.Longest(e, has)
		if err != nil {
			e.Close()
			return nil, err
		}
		longest = max(longest, n)
	}
	if longest > most {
		a.say("questions of more than %s tokens are left out; --target %s asks the longest",
			label.Size(most), label.Size(longest))
	}
	if longest <= has || most <= has {
		return e, nil
	}
	e.Close()
	return a.load(m, min(longest, most))
}

// check finds outputs that cannot be written, before anything is computed.
func (f evalFlags) check(name string, tasks []evals.Task) error {
	for _, x := range []struct{ flag, path string }{
		{"write-samples", f.samples}, {"csv", f.csv}, {"journal", f.journal},
	} {
		if x.path == "" {
			continue
		}
		if err := atomicfile.Check(x.path); err != nil {
			return fmt.Errorf("--%s: %w", x.flag, err)
		}
	}
	if err := pictureName(f.plot); err != nil {
		return err
	}
	if f.plot != "" && !slices.ContainsFunc(tasks, draw.HasPicture) {
		return fmt.Errorf("--plot: %s has no picture; --csv has each answer", name)
	}
	return nil
}

// evalLengths are the lengths to measure at: given ones, or those that the model suggests.
func evalLengths(m *model, given sizesFlag, short bool) []int {
	switch l := m.info.OriginalContextLength; {
	case len(given) > 0:
		return given.ascending()
	case short:
		return []int{0} // the rung that a prompt's own length asks for
	case m.info.Ladder != nil:
		return rungLengths(m.info.Ladder)
	default:
		return []int{l, 2 * l, 4 * l}
	}
}

// doublings are the lengths from twice a length on, up to a target.
func doublings(length, target int) (all []int) {
	for n := 2 * length; n < target; n *= 2 {
		all = append(all, n)
	}
	return append(all, target)
}

// rungLengths are the original context length and those at which a ladder's rungs end.
func rungLengths(l *ropescale.Ladder) sizesFlag {
	lengths := sizesFlag{l.OriginalContextLength}
	for _, g := range l.Rungs {
		lengths = append(lengths, g.Length)
	}
	return lengths.ascending()
}

// reportEval writes the files that were asked for and prints the result.
func (a *app) reportEval(c *evals.Comparison, f evalFlags) error {
	files, err := draw.Tables(f.csv, c)
	if err != nil {
		return err
	}
	pictures, err := draw.Comparison(f.plot, c)
	if err != nil {
		return err
	}
	files = append(files, pictures...)
	defer func() {
		if len(files) > 0 {
			a.say("wrote %s", strings.Join(files, ", "))
		}
	}()
	if a.json {
		return a.printJSON(c)
	}
	var b strings.Builder
	if err := draw.Report(&b, c, colors(a.out)); err != nil {
		return err
	}
	if err := a.draw(b.String()); err != nil {
		return err
	}
	var notes []string
	for _, t := range c.Tasks {
		for _, r := range t.Results {
			if r, ok := r.(interface{ Note() string }); ok && !slices.Contains(notes, r.Note()) {
				notes = append(notes, r.Note())
			}
		}
	}
	for _, note := range slices.DeleteFunc(notes, func(s string) bool { return s == "" }) {
		a.say("%s", note)
	}
	on := c.Engine.Backend
	if c.Engine.Engine == evals.GoEngine {
		on += ", Go engine"
	}
	a.say("%s tokens evaluated on %s (%s)", label.Count(c.EvaluatedTokens), on, c.Engine.Host)
	return nil
}

// colors reports whether w shows colours to a person.
func colors(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" &&
		os.Getenv("TERM") != "dumb"
}
