package longrope

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/memory"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/ropescale"
)

func showCommand(open opener) *cobra.Command {
	var plot, page string
	cmd := &cobra.Command{
		Use:   "show MODEL|FACTORS",
		Short: "Show the RoPE factors that a model or a factors file carries",
		Long: `Show the RoPE of a model: what it was trained with, the ladder of factors that it carries, and what an unpatched
Ollama would make of the file. Of a factors file (.json, or .csv as the authors of LongRoPE publish them), show the
factors; it is an error when they cannot be used. With --report, of a search's factors or of a journal (.study) that an
unfinished search left, write the page about the search.`,
		Example: `  ollama longrope show llama3-16k
  ollama longrope show factors.json --plot factors.png
  ollama longrope show factors.json.study --report so-far.html`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return newApp(cmd, open).show(args[0], plot, page)
		},
	}
	cmd.Flags().StringVar(&plot, "plot", "", "Draw the ladder to `FILE` (.png or .svg)")
	cmd.Flags().StringVar(&page, "report", "", "Write the page about a search to `FILE` (.html)")
	jsonFlag(cmd)
	return cmd
}

func (a *app) show(arg, plot, page string) error {
	if err := pictureName(plot); err != nil {
		return err
	}
	if page != "" || search.IsStudy(arg) {
		return a.showSearch(arg, page)
	}
	if isFactors(arg) {
		return a.showFactors(arg, plot)
	}
	m, err := find(arg)
	if err != nil {
		return err
	}
	rungs := m.info.Ladder
	if rungs == nil {
		rungs = search.OwnLadder(m.info)
	}
	if err := drawLadder(plot, rungs); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(struct {
			*convert.ModelInfo
			Memory *memory.Use `json:"memory,omitempty"`
		}{m.info, memory.Of(m.info, m.info.Ladder, machine(m))})
	}
	return a.print(describeModel(m) + memory.Of(m.info, m.info.Ladder, machine(m)).Text(table))
}

// showSearch shows what the journals of a search hold, and writes the page about it.
func (a *app) showSearch(path, page string) error {
	var l *ropescale.Ladder
	switch {
	case page != "" && !strings.EqualFold(filepath.Ext(page), ".html"):
		return fmt.Errorf("--report: %s is not a .html file", page)
	case isFactors(path):
		f, err := readFactors(path)
		if err != nil {
			return err
		}
		l = f.ladder
	case !search.IsStudy(path):
		return fmt.Errorf("--report: %s is neither a search's factors (.json) nor its journal "+
			"(.study)", path)
	}
	p, err := journalPage(path, l)
	if err != nil {
		return err
	}
	if page != "" {
		if err := writePage(page, p); err != nil {
			return err
		}
		a.say("wrote %s", page)
	}
	switch {
	case a.json:
		return a.printJSON(p.Ladder)
	case p.Ladder == nil:
		return a.print(path + "\n  no candidate was read to its end\n")
	}
	return a.print(path + "\n" + describeSource(p.Ladder.Source) + "\n" + describeLadder(p.Ladder))
}

func (a *app) showFactors(path, plot string) error {
	f, err := readFactors(path)
	if err != nil {
		return err
	}
	for _, warning := range convert.Misspelt(f.ladder) {
		a.say("note: %s", warning)
	}
	if f.ladder == nil { // csv: numbers without a length
		f.ladder = &ropescale.Ladder{
			Version: ropescale.LadderVersion, RopeDimensionCount: 2 * len(f.factors),
			Rungs: []ropescale.Rung{{AttentionFactor: 1, Factors: f.factors}},
		}
	}
	if err := drawLadder(plot, f.ladder); err != nil {
		return err
	}
	if a.json {
		if f.factors != nil {
			return a.printJSON(struct {
				Factors []float64 `json:"factors"`
			}{f.factors})
		}
		return a.printJSON(f.ladder)
	}
	if f.factors != nil {
		low, high := draw.FactorRange(f.ladder.Rungs)
		return a.print(fmt.Sprintf("%s\n  %d factors, for %d rotary dimensions, from %s to "+
			"%s%s\n  no length: give it to convert with --length\n\n%s",
			path, len(f.factors), 2*len(f.factors), label.Number(low), label.Number(high),
			monotone(f.factors), draw.FactorBars(f.ladder.Rungs[0], low, high)))
	}
	return a.print(path + "\n" + describeSource(f.ladder.Source) + "\n" + describeLadder(f.ladder))
}

func describeModel(m *model) string {
	i := m.info
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-25s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(&b, m.name)
	line("architecture", "%s", strings.TrimSpace(
		i.Architecture+", "+parameters(i.ParameterCount)+" parameters, "+i.FileType))
	line("context length", "%s tokens", label.Count(i.ContextLength))
	line("original context length", "%s tokens", label.Count(i.OriginalContextLength))
	line("rotary dimensions", "%d, frequency base %s", i.RopeDimensionCount,
		label.Number(i.FreqBase))
	line("own scaling", "%s", describeScaling(i))
	reader, notes := "an unpatched ollama", stockNotes(i.Stock)
	if i.Format == convert.FormatHuggingFace {
		reader, notes = "transformers", transformersNotes(i)
	}
	for n, note := range notes {
		if n > 0 {
			reader = ""
		}
		line(reader, "%s", note)
	}
	if i.Ladder == nil {
		b.WriteString("\nno ladder: sequences of every length get the model's own RoPE\n")
		if l := search.OwnLadder(i); i.Own != nil || i.Base != nil {
			b.WriteString("\n" + describeLadder(l))
		}
		return b.String()
	}
	b.WriteString(describeSource(i.Ladder.Source))
	b.WriteString("\n" + describeLadder(i.Ladder))
	return b.String()
}

func describeScaling(i *convert.ModelInfo) string {
	switch i.Scaling {
	case "":
		return "none: plain RoPE"
	case "rope_freqs":
		return "rope_freqs (a factor per pair, as Llama 3.1 has)"
	case "longrope":
		return "longrope (a short and a long set of factors)"
	}
	return i.Scaling
}

func parameters(n uint64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f B", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	}
	return fmt.Sprint(n)
}

// describeLadder is the table of the rungs, a plot of their factors and one of what they serve.
func describeLadder(l *ropescale.Ladder) string {
	var rows [][]string
	var rungs []ropescale.Rung
	for r := range len(l.Rungs) + 1 {
		g := l.At(r)
		if r == 0 {
			g.Length = l.OriginalContextLength
		}
		rungs = append(rungs, g)
		low, high := draw.FactorRange([]ropescale.Rung{g})
		name := fmt.Sprintf("rung %d", r)
		if r == 0 {
			name = "own RoPE"
		}
		rows = append(rows, []string{
			name, label.Count(g.Length), scale(g.Length, l.OriginalContextLength),
			label.Count(g.StartWindow),
			label.Number(g.AttentionFactor),
			label.Number(low) + " … " + label.Number(high) + monotone(g.Factors),
		})
	}
	var b strings.Builder
	b.WriteString(table([]string{
		"", "up to tokens", "scale", "start window", "attention factor",
		"factors",
	}, rows, 1))
	low, high := draw.FactorRange(rungs)
	switch {
	case len(l.Rungs) == 0:
		fmt.Fprintf(&b, "\nlambda of own RoPE, %s tokens\n%s", label.Size(rungs[0].Length),
			draw.FactorBars(rungs[0], low, high))
	case len(l.Rungs) == 1 && !scaled(rungs[0]):
		fmt.Fprintf(&b, "\nlambda of rung 1, %s tokens\n%s", label.Size(rungs[1].Length),
			draw.FactorBars(rungs[1], low, high))
	default:
		signs := []rune("·123456789abcdefghijklmnopqrstuvwxyz")
		for len(signs) < len(rungs) {
			signs = append(signs, '*')
		}
		names := "rung 1"
		if n := len(l.Rungs); n > 1 {
			names = fmt.Sprintf("rungs 1 to %d", n)
		}
		fmt.Fprintf(&b, "\nlambda of %s, own RoPE is ·\n%s", names,
			draw.FactorLines(rungs, signs, low, high))
	}
	if len(l.Rungs) > 0 {
		b.WriteString("\ntokens that get the factors of a rung\n" + draw.ServedBars(l))
	}
	return b.String()
}

// scaled says that a row is not plain RoPE.
func scaled(g ropescale.Rung) bool {
	low, high := draw.FactorRange([]ropescale.Rung{g})
	return low != 1 || high != 1
}

func scale(length, original int) string {
	if original == 0 {
		return ""
	}
	return label.Number(float64(length)/float64(original)) + "x"
}

// monotone notes factors that fall somewhere: some published sets do, and it is worth a look in
// one's own.
func monotone(f []float64) string {
	n := 0
	for i := 1; i < len(f); i++ {
		if f[i] < f[i-1] {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (falling %dx)", n)
}

func describeSource(s *ropescale.Source) string {
	if s == nil {
		return ""
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if s.Method != "" {
		add("%s", s.Method)
	}
	if s.Algorithm != "" {
		add("search %s, seed %d", s.Algorithm, s.Seed)
	}
	if s.Measure != "" && s.Fitness != 0 {
		add("%s %s", s.Measure, fitness(s.Fitness))
	}
	if s.Trials > 0 {
		add("%d trials, %s tokens", s.Trials, label.Count(s.Tokens))
	}
	if len(s.Texts) > 0 {
		add("on %s", strings.Join(s.Texts, ", "))
	}
	return fmt.Sprintf("  %-25s %s\n", "factors", strings.Join(parts, "; "))
}

// stockNotes say what an unpatched host makes of a file.
func stockNotes(s gguf.Stock) []string {
	var notes []string
	switch {
	case !s.Loads:
		notes = append(notes, "cannot load it")
	case s.Form == gguf.StockNothing && len(s.Notes) == 0:
		notes = append(notes, fmt.Sprintf("runs it as it was trained, with a context length of %s",
			label.Count(s.ContextLength)))
	default:
		notes = append(notes, fmt.Sprintf("loads it, with a context length of %s",
			label.Count(s.ContextLength)))
	}
	return append(notes, s.Notes...)
}

// transformersNotes say what transformers makes of a checkpoint folder.
func transformersNotes(i *convert.ModelInfo) []string {
	l := i.Transformers
	if i.Lost != "" {
		return []string{i.Lost}
	}
	if l == nil {
		return []string{fmt.Sprintf("runs it as it was trained, with a context length of %s",
			label.Count(i.ContextLength))}
	}
	short, long := l.Rungs[0], l.Rungs[1]
	return []string{
		fmt.Sprintf("runs it with a context length of %s", label.Count(i.ContextLength)),
		fmt.Sprintf("up to %s tokens it applies short_factor, beyond them long_factor, without a "+
			"start window", label.Count(short.Length)),
		fmt.Sprintf("attention factor %s, beyond %s tokens %s",
			fmt.Sprintf("%.4g", short.AttentionFactor), label.Count(short.Length),
			fmt.Sprintf("%.4g", long.AttentionFactor)),
	}
}
