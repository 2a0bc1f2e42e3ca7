package longrope

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/memory"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

// convertFlags are the flags of convert.
type convertFlags struct {
	factors         []string
	lengths         sizesFlag
	method          string
	targets         sizesFlag
	startWindow     int
	attentionFactor float64
	stockRung       string
	copyWeights     bool
	bake            bool
	crossing        string
	strip           bool
	out, name       string
	numCtx          sizeFlag
}

func convertCommand(open opener) *cobra.Command {
	var f convertFlags
	cmd := &cobra.Command{
		Use:   "convert MODEL --factors FILE (-o FILE | --name NAME)",
		Short: "Write RoPE factors into a model",
		Long: `Give MODEL a ladder of RoPE factors and a longer context length.

With --name, a model of the local store becomes another one that shares its weights: the ladder is a small layer next
to them, and takes no time and no space. An unpatched Ollama ignores the layer and runs the model as it was. With
--bake, or from a file, the ladder goes into a copy of the weights' file, bit for bit but for the factors, of which an
unpatched Ollama applies what it can.

Factors come from search, from a hand-written factors.json, or from a csv file as the authors of LongRoPE publish them
(which says no length: give --length). Several files make one ladder, and a sequence gets the shortest rung that holds
it. A model that carries factors can be named in place of a file. A method that needs no search is quicker and worse:
--method yarn --target 128k, or for a ladder --target 16k,32k,128k.

Of a file, an unpatched Ollama gets one rung of the ladder, where it can use any for the architecture: the last one, or
that of --stock-rung. --strip gives the model back as it was before its conversion.

If MODEL is a Hugging Face checkpoint folder, -o is a GGUF if it ends in .gguf, and else a new folder: config.json says the
factors as transformers and vLLM read them (one rung, no start window; --stock-rung chooses it), longrope.json keeps the
whole ladder, and the weights are hard links. Without --factors a GGUF gets what the folder carries.`,
		Example: `  ollama longrope convert llama3 --factors factors.json --name llama3-16k
  ollama longrope convert llama3 --factors factors.json --name llama3-16k --bake
  ollama longrope convert model.gguf --factors 32k.json --factors 128k.json -o model-128k.gguf
  ollama longrope convert model.gguf --factors ft_la2_128k.csv --length 128k -o model-128k.gguf
  ollama longrope convert ./Llama-3.2-1B --factors factors.json -o ./Llama-3.2-1B-128k
  ollama longrope convert ./Phi-4-mini-instruct --name phi4-mini`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newApp(cmd, open)
			return interruptible(cmd, func(ctx context.Context) error {
				return a.convert(ctx, args[0], f)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.factors, "factors", nil, "Factors `FILE`, .json or .csv (repeatable)")
	fl.Var(&f.lengths, "length", "Length of each .csv file, in their order")
	fl.StringVar(&f.method, "method", "", "Method instead of factors: "+closedForms())
	fl.Var(&f.targets, "target", "Length for --method, e.g. 128k, or several for a ladder")
	fl.IntVar(&f.startWindow, "start-window", 0, "Start window in tokens, for --method and .csv")
	fl.Float64Var(&f.attentionFactor, "attention-factor", 0,
		"Attention factor, for --method and .csv (default: the method's own)")
	fl.StringVar(&f.stockRung, "stock-rung", "",
		"Rung for an unpatched host, and for config.json: its length, or none (default: the last)")
	fl.BoolVar(&f.copyWeights, "copy-weights", false,
		"From folder to folder: copy the weights instead of linking them")
	fl.BoolVar(&f.bake, "bake", false,
		"With --name: write the factors into a copy of the weights instead of a layer of their own")
	fl.StringVar(&f.crossing, "crossing", "",
		"Cached keys at a change of rung: recompute (exact) or rerotate (fast), unless a request "+
			"says (default: recompute)")
	fl.BoolVar(&f.strip, "strip", false, "Take the factors out of a converted model")
	fl.StringVarP(&f.out, "output", "o", "",
		"Model `FILE` to write (.gguf), or from a checkpoint folder another folder")
	fl.StringVar(&f.name, "name", "", "Name in the local store to give the model")
	fl.Var(&f.numCtx, "num-ctx", "With --name: the parameter num_ctx, for which the host reserves "+
		"memory (default: the longest rung that fits; with --bake the longest)")
	jsonFlag(cmd)
	return cmd
}

// check finds flags that do not go together.
func (f *convertFlags) check() error {
	given := 0
	for _, set := range []bool{len(f.factors) > 0, f.method != "", f.strip} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		return errors.New("--factors, --method and --strip exclude each other; give one of them")
	case f.method != "" && len(f.targets) == 0:
		return fmt.Errorf("--method %s needs --target; give the length, e.g. --target 128k",
			f.method)
	case f.method == "" && len(f.targets) > 0:
		return errors.New("--target is for --method; factors say their lengths themselves, or " +
			"--length does for csv")
	case f.out == "" && f.name == "":
		return errors.New("nowhere to write; give -o FILE, or --name NAME for a model in the " +
			"local store")
	case f.out != "" && f.name != "":
		return errors.New("--output and --name exclude each other; give one of them")
	case f.bake && f.name == "":
		return errors.New("--bake is for --name; -o writes the factors into the file anyway")
	case f.bake && f.strip:
		return errors.New("--bake is for a ladder; --strip takes it out")
	case f.numCtx != 0 && f.name == "":
		return errors.New("--num-ctx is for --name; for a file, PARAMETER num_ctx in its " +
			"Modelfile says it")
	case f.crossing != "" && f.crossing != "recompute" && f.crossing != "rerotate":
		return fmt.Errorf("--crossing is %q; give recompute or rerotate", f.crossing)
	case f.crossing != "" && f.strip:
		return errors.New("--crossing is for a ladder; --strip takes it out")
	case f.startWindow < 0:
		return fmt.Errorf("--start-window is %d; give 0 or more tokens", f.startWindow)
	case f.attentionFactor < 0:
		return fmt.Errorf("--attention-factor is %g; give a positive number", f.attentionFactor)
	case f.out != "" && isFactors(f.out):
		return fmt.Errorf("--output: %s would be a model under the name of a factors file; name "+
			"it .gguf", f.out)
	}
	return nil
}

func (a *app) convert(ctx context.Context, arg string, f convertFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	m, err := find(arg)
	if err != nil {
		return err
	}
	plain := m.checkpoint() && f.out != "" && !f.folder(m) // to a GGUF, which is something
	if f.nothing() && search.Carried(m.info) == nil && !plain {
		return errors.New("nothing to write into the model; give --factors FILE, or --method " +
			"NAME --target LENGTH")
	}
	if err := f.checkLayer(m); err != nil {
		return err
	}
	if f.copyWeights && !f.folder(m) {
		return errors.New("--copy-weights is for checkpoint folders that become folders; a GGUF " +
			"has its own weights anyway")
	}
	if f.crossing != "" && f.folder(m) {
		return errors.New("--crossing is kept in a GGUF; a checkpoint folder has no place for it")
	}
	opts := convert.Options{CopyWeights: f.copyWeights, Crossing: f.crossing}
	if f.nothing() && f.crossing == "" {
		opts.Crossing = m.source.Crossing()
	}
	started := time.Now()
	opts.Progress = func(done, total int64) {
		a.progress(started, "writing", float64(done), float64(total),
			fmt.Sprintf("%.1f of %.1f GB", float64(done)/1e9, float64(total)/1e9))
	}
	var l *ropescale.Ladder
	if !f.strip {
		if l, err = f.ladder(m); err != nil {
			return err
		}
		if l != nil || f.stockRung != "" {
			if opts.StockRung, err = stockRung(f.stockRung, l); err != nil {
				return err
			}
		}
		if f.folder(m) && opts.StockRung == convert.StockNone {
			return errors.New("--stock-rung none: config.json has no other place for factors " +
				"than the one that transformers reads; name a rung")
		}
	}
	r, err := a.write(ctx, m, l, f, opts)
	a.done()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	return a.reportConvert(r, m, f)
}

// layer says that the ladder is to become a layer of a model in the store.
func (f *convertFlags) layer(m *model) bool {
	return f.name != "" && !f.bake && m.source.Kind == convert.KindStore
}

// checkLayer finds flags that do not go with the model.
func (f *convertFlags) checkLayer(m *model) error {
	switch {
	case f.layer(m) && f.stockRung != "":
		return errors.New("--stock-rung: an unpatched ollama ignores a ladder that is a layer; " +
			"add --bake to write the rung into a copy of the weights")
	case f.strip && f.name != "" && m.source.Kind != convert.KindStore:
		return errors.New("--strip writes a file; give -o FILE instead of --name")
	}
	return nil
}

// nothing says that no factors were given.
func (f *convertFlags) nothing() bool { return len(f.factors) == 0 && f.method == "" && !f.strip }

// folder says that a checkpoint folder is to become another one.
func (f *convertFlags) folder(m *model) bool {
	return m.checkpoint() && f.out != "" && !strings.EqualFold(filepath.Ext(f.out), ".gguf")
}

// ladder makes what goes into the model; nil for a checkpoint that becomes a GGUF without factors.
func (f *convertFlags) ladder(m *model) (*ropescale.Ladder, error) {
	if f.nothing() {
		return search.Carried(m.info), nil
	}
	o := factorsOptions{
		lengths: f.lengths, startWindow: f.startWindow,
		attentionFactor: f.attentionFactor,
	}
	if f.method == "" {
		l, err := ladderFrom(m.info, f.factors, o)
		if err != nil {
			return nil, fmt.Errorf("--factors: %w", err)
		}
		return l, nil
	}
	return ladderFor(m, f.method, f.targets.ascending(), o)
}

// stockRung turns --stock-rung, a length, into a row of the ladder.
func stockRung(flag string, l *ropescale.Ladder) (int, error) {
	switch flag {
	case "":
		return 0, nil
	case "none":
		return convert.StockNone, nil
	}
	n, err := label.ParseSize(flag)
	if err != nil {
		return 0, fmt.Errorf("--stock-rung: %w, or none", err)
	}
	if l == nil {
		return 0, errors.New("--stock-rung: the model has no rungs; give factors")
	}
	var lengths []string
	for i, g := range l.Rungs {
		if g.Length == n {
			return i + 1, nil
		}
		lengths = append(lengths, label.Size(g.Length))
	}
	return 0, fmt.Errorf("--stock-rung: there is no rung for %s tokens; there are rungs for %s",
		label.Size(n), strings.Join(lengths, ", "))
}

// write makes the file, or the model in the store.
func (a *app) write(ctx context.Context, m *model, l *ropescale.Ladder, f convertFlags,
	opts convert.Options,
) (*convert.Report, error) {
	opts.NumCtx = int(f.numCtx)
	a.sweep(f)
	switch {
	case f.strip && f.name != "":
		return convert.StripLayer(m.source, f.name)
	case f.strip:
		return convert.StripSource(ctx, m.source, f.out, opts)
	case f.layer(m):
		return convert.ConvertToLayer(m.source, f.name, l, opts)
	case f.name != "":
		return convert.ConvertToStore(ctx, m.source, f.name, l, opts)
	}
	return convert.Convert(ctx, m.path, f.out, l, opts)
}

// sweep removes what a killed conversion left where this one writes: it may be of a model's size.
func (a *app) sweep(f convertFlags) {
	dir := filepath.Dir(f.out)
	if f.out == "" {
		store, err := convert.OpenStore("")
		if err != nil {
			return
		}
		dir = filepath.Join(store.Dir, "blobs")
	}
	for _, path := range atomicfile.Sweep(dir) {
		a.say("removed %s, which a program that was killed had left", path)
	}
}

// reportConvert says what was done and what comes next.
func (a *app) reportConvert(r *convert.Report, m *model, f convertFlags) error {
	var rows [][]string
	for _, c := range r.Changes {
		rows = append(rows, []string{c.Key, cut(dash(c.Old), 24), cut(dash(c.New), 48)})
	}
	if len(rows) > 0 { // a checkpoint became a GGUF and no more
		if err := a.print(table([]string{"changed", "before", "after"}, rows, 3)); err != nil {
			return err
		}
	}
	if u := memory.Of(m.info, r.Ladder, machine(m)); u != nil {
		if err := a.print(u.Text(table)); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		a.say("note: %s", n)
	}
	if f.folder(m) {
		a.say("wrote %s%s", r.Path, nextOfFolder(r))
		return nil
	}
	if r.Weights != "" {
		a.say("%s shares the weights of %s; an unpatched ollama ignores the ladder's layer and %s",
			r.Name, m.name, strings.Join(stockNotes(r.Stock), "; "))
	} else {
		a.say("an unpatched ollama %s", strings.Join(stockNotes(r.Stock), "; "))
	}
	if m.source.Kind == convert.KindStore && f.out != "" {
		a.say("note: the file has neither the template nor the parameters of %s; --name instead "+
			"of -o keeps them", m.name)
	}
	if f.name != "" {
		a.say("made %s; next:\n  ollama run %s", r.Name, quote(r.Name))
		return nil
	}
	path := strings.TrimSuffix(r.Path, filepath.Ext(r.Path))
	name, modelfile := storeName(path), path+".modelfile"
	lines := quote("FROM ./" + filepath.Base(r.Path))
	if r.Ladder != nil {
		longest := r.Ladder.Rungs[len(r.Ladder.Rungs)-1].Length
		lines += " " + quote(fmt.Sprintf("PARAMETER num_ctx %d", longest))
	}
	a.say("wrote %s; next:\n  printf '%%s\\n' %s > %s\n  ollama create %s -f %s\n  ollama run %s",
		r.Path, lines, quote(modelfile), quote(name), quote(modelfile), quote(name))
	return nil
}

// nextOfFolder are the commands that measure a checkpoint with and without what transformers has
// not, and that run it.
func nextOfFolder(r *convert.Report) string {
	if r.Ladder == nil {
		return ""
	}
	lengths := rungLengths(r.Ladder)
	return fmt.Sprintf("; next, to measure what transformers loses:\n  ollama longrope eval all "+
		"%s --methods %s,%s --lengths %s\nto run it with the whole ladder:\n  ollama longrope "+
		"convert %s --name %s",
		quote(r.Path), carried, asRun, lengths.String(), quote(r.Path),
		quote(storeName(r.Path)))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// storeName is a file's or folder's name as one that the store takes: letters, digits, "-", "_" and
// ".", the first of them a letter or digit.
func storeName(path string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("-_.", r):
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(path)))
	if name = strings.TrimLeft(name, "-_."); name == "" {
		return "model"
	}
	return name
}

// nameFor proposes a name in the store for a model that was extended.
func nameFor(model string, target int) string {
	suffix := "-" + label.Size(target)
	if ext := filepath.Ext(model); strings.EqualFold(ext, ".gguf") {
		return storeName(strings.TrimSuffix(model, ext)) + suffix
	}
	if fi, err := os.Stat(model); err == nil && fi.IsDir() { // a checkpoint
		return storeName(model) + suffix
	}
	// A tag stays a tag: llama3.2:1b becomes llama3.2-128k:1b.
	slash := strings.LastIndexByte(model, '/')
	if colon := strings.LastIndexByte(model, ':'); colon > slash {
		return model[:colon] + suffix + model[colon:]
	}
	return model + suffix
}
