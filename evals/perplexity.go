package evals

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/spf13/pflag"
)

var perplexityTask = Register(Task{
	Name:    "perplexity",
	Version: 1,
	Help:    "perplexity of text, by length and by position",
	All:     1,
	New:     func() Job { return &PerplexityOptions{} },
	Result:  func() Result { return &PerplexityResult{} },
	Columns: []string{
		"perplexity", "perplexity_stderr", "bits_per_byte", "nll_change",
		"nll_change_stderr",
	},
	Table: []Cell{
		{"perplexity", func(r Row) string { return FormatFigure("%.2f", r.Figure("perplexity")) }},
		{"± se", func(r Row) string { return FormatFigure("%.2f", r.Figure("perplexity_stderr")) }},
		{"vs {first}", func(r Row) string {
			change, stderr := r.Figure("nll_change"), r.Figure("nll_change_stderr")
			if change == nil || stderr == nil {
				return ""
			}
			ratio := math.Exp(*change)
			return fmt.Sprintf("%+.1f ± %.1f %%", 100*(ratio-1), 100*ratio**stderr)
		}},
		{"bits/byte", func(r Row) string { return FormatFigure("%.3f", r.Figure("bits_per_byte")) }},
	},
	Sheets: []Sheet{
		SheetOf("", []string{
			"method", "length", "text", "windows", "tokens", "bytes", "nll",
			"nll_stderr", "perplexity", "perplexity_stderr", "bits_per_byte",
			"bits_per_byte_stderr",
		}, (*PerplexityResult).rows),
		SheetOf("trials", []string{"method", "length", "text", "start", "tokens", "nll"},
			(*PerplexityResult).trials),
		SheetOf("curve", []string{
			"method", "length", "position_from", "position_to", "tokens", "nll",
			"nll_stderr", "perplexity",
		}, (*PerplexityResult).curve),
	},
})

// FormatFigure writes a figure, "" for none.
func FormatFigure(as string, v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf(as, *v)
}

// Units of the standard error: each of them is a document.
const (
	documentsWindows = "windows"
	documentsTexts   = "texts"
)

// curveBuckets is how many points the curve has at most.
const curveBuckets = 32

// PerplexityOptions are the arguments of Perplexity; zero values are the defaults named.
type PerplexityOptions struct {
	// Texts to predict; none: Setup.Books.
	Texts []Text `json:"texts"`
	// Length of every window in tokens, BOS included; 0 is the engine's MaxLength. A Job has it
	// from Setup.Lengths.
	Length int `json:"length"`
	// Stride between windows in tokens; 0 is the largest, which scores every token once with the
	// fewest model calls. See Windows.
	Stride int `json:"stride"`
	// MaxWindows of each text, spread evenly over it; 0 is all.
	MaxWindows int `json:"max_windows"`
	// Documents is the unit of the standard error: DocumentsWindows ("") or DocumentsTexts. A few
	// texts that differ in kind make the second large, and say little about how well the mean over
	// these texts is known.
	Documents string `json:"documents"`

	files []string
}

// Task is "perplexity".
func (*PerplexityOptions) Task() string { return "perplexity" }

// Flags declares the settings that a command offers.
func (o *PerplexityOptions) Flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.files, "text", nil,
		"Text `FILE` (repeatable; default: books that come with the program)")
	f.Var((*sizeFlag)(&o.Stride), "stride", "Tokens that windows move on by (default: the length)")
	f.IntVar(&o.MaxWindows, "windows", 4, "Windows of each text at most; 0 is all")
	f.StringVar(&o.Documents, "documents", documentsWindows,
		"What the standard error is over: "+documentsWindows+", "+documentsTexts)
}

// Load reads the texts.
func (o *PerplexityOptions) Load() error {
	if o.MaxWindows < 0 {
		return fmt.Errorf("--windows is %d; give 0 for all, or how many", o.MaxWindows)
	}
	if o.Documents != documentsWindows && o.Documents != documentsTexts {
		return fmt.Errorf("--documents: %q is neither %s nor %s", o.Documents, documentsWindows,
			documentsTexts)
	}
	texts, err := ReadTexts("text", o.files)
	o.Texts = append(o.Texts, texts...)
	return err
}

// Prepare lays the windows over the texts.
func (o *PerplexityOptions) Prepare(s Setup) (*Plan, error) {
	bos, err := BOS(s.Engine)
	if err != nil {
		return nil, err
	}
	given := *o
	if longest := slices.Max(s.Lengths); len(given.Texts) == 0 && s.Books != nil {
		if given.Texts, err = s.Books(longest); err != nil {
			return nil, fmt.Errorf("%w; give longer ones with --text", err)
		}
	}
	documents, err := tokenize(s.Engine, given.Texts, slices.Max(s.Lengths)-len(bos))
	if err != nil {
		return nil, err
	}
	p := &Plan{Args: given}
	calls := make([]int, len(s.Lengths))
	for i, length := range s.Lengths {
		given.Length = length
		eff, err := given.effective(s.Engine, len(bos))
		if err != nil {
			return nil, err
		}
		if _, calls[i], err = planWindows(documents, eff, len(bos)); err != nil {
			return nil, err
		}
		p.Calls += calls[i]
	}
	p.Run = func(ctx context.Context, m Method, progress Progress) (results []Result, err error) {
		done := 0
		for i, length := range s.Lengths {
			given.Length = length
			r, err := perplexity(ctx, s.Engine, m, bos, documents, given,
				progress.From(done, p.Calls))
			if err != nil {
				return nil, fmt.Errorf("length %d: %w", length, err)
			}
			done += calls[i]
			results = append(results, r)
		}
		return results, nil
	}
	return p, nil
}

func (o PerplexityOptions) effective(e Engine, bos int) (PerplexityOptions, error) {
	if o.Length == 0 {
		o.Length = e.Info().MaxLength
	}
	if o.Length-bos < 2 {
		return o, fmt.Errorf("length %d is too small: %d tokens go before every text and 2 more "+
			"are needed", o.Length, bos)
	}
	if err := CheckLength(e, o.Length); err != nil {
		return o, err
	}
	most := o.Length - bos - 1
	if o.Stride == 0 {
		o.Stride = most
	}
	if o.Stride < 0 || o.Stride > o.Length {
		return o, fmt.Errorf("stride %d is outside 1 to the length %d", o.Stride, o.Length)
	}
	// A stride of the whole length is what people ask for when they want disjoint windows.
	o.Stride = min(o.Stride, most)
	if o.MaxWindows < 0 {
		return o, fmt.Errorf("max windows %d is negative: 0 is all", o.MaxWindows)
	}
	if o.Documents == "" {
		o.Documents = documentsWindows
	}
	if o.Documents != documentsWindows && o.Documents != documentsTexts {
		return o, fmt.Errorf("documents %q: want %q or %q", o.Documents, documentsTexts,
			documentsWindows)
	}
	return o, nil
}

// Loss is a mean NLL and what follows from it.
type Loss struct {
	Windows int `json:"windows"`
	Tokens  int `json:"tokens"` // scored
	Bytes   int `json:"bytes"`  // of the scored tokens' text
	// NLL is the mean over tokens in nats.
	NLL       float64 `json:"nll"`
	NLLStderr float64 `json:"nll_stderr"`
	// Perplexity is exp(NLL), per token; its error is Perplexity · NLLStderr, to first order.
	Perplexity       float64 `json:"perplexity"`
	PerplexityStderr float64 `json:"perplexity_stderr"`
	// BitsPerByte is the summed NLL in bits over Bytes: the figure to compare across tokenizers.
	BitsPerByte       float64 `json:"bits_per_byte"`
	BitsPerByteStderr float64 `json:"bits_per_byte_stderr"`
}

// TextLoss is the loss on one text; its error is over windows.
type TextLoss struct {
	Text       TextID `json:"text"`
	TextTokens int    `json:"text_tokens"` // the text has
	Loss
}

// Bucket is one point of the curve: tokens at positions [From, To) of their window, that is with
// From to To-1 tokens before them. The error is over windows.
type Bucket struct {
	From      int     `json:"from"`
	To        int     `json:"to"`
	Tokens    int     `json:"tokens"`
	NLL       float64 `json:"nll"`
	NLLStderr float64 `json:"nll_stderr"`
}

// PerplexityResult is what Perplexity measured.
type PerplexityResult struct {
	Provenance
	Length int `json:"length"` // of the windows, tokens
	Loss
	Texts   []TextLoss   `json:"texts"`
	Curve   []Bucket     `json:"curve"`
	Details []WindowLoss `json:"details"`
}

// WindowLoss is one window: where it is in its text, how many of its tokens were scored and their
// mean NLL. Results of two methods over the same windows are compared window by window
// (Comparison), which cancels what makes texts differ.
type WindowLoss struct {
	Text   string  `json:"text"`
	Start  int     `json:"start"`
	Tokens int     `json:"tokens"`
	NLL    float64 `json:"nll"`
}

// Perplexity slides a window over each text and scores every token once; see Windows and the
// package comment. m names the ladder for the record and is set on the engine. The text itself has
// no randomness: there is no seed.
func Perplexity(ctx context.Context, e Engine, m Method, texts []Text,
	o PerplexityOptions,
) (*PerplexityResult, error) {
	if o.Texts = texts; o.Length == 0 {
		o.Length = e.Info().MaxLength
	}
	r, err := RunOne[*PerplexityResult](ctx, &o, Setup{Engine: e, Lengths: []int{o.Length}}, m)
	if err != nil {
		return nil, err
	}
	return r[0], nil
}

// perplexity is Perplexity after the ladder is set and texts are tokens.
func perplexity(ctx context.Context, e Engine, m Method, bos []int, documents []document,
	given PerplexityOptions, progress Progress,
) (*PerplexityResult, error) {
	o, err := given.effective(e, len(bos))
	if err != nil {
		return nil, err
	}
	edges := bucketEdges(o.Length, curveBuckets)
	windows, total, err := planWindows(documents, o, len(bos))
	if err != nil {
		return nil, err
	}

	r := &PerplexityResult{Provenance: NewProvenance("perplexity", perplexityTask.Version, e, m, 0,
		given, o), Length: o.Length}
	curve := make([]tally, len(edges)-1)
	var all, byText tally
	for i, d := range documents {
		var text tally
		for _, w := range windows[i] {
			progress.Report(r.Windows, total, fmt.Sprintf("perplexity %s, %s, %d tokens", m.Name,
				d.text.Name, o.Length))
			sequence := append(slices.Clone(bos), d.tokens[w.Start:w.End]...)
			from := len(bos) + w.From - w.Start
			values, err := CheckedNLL(ctx, e, sequence, from)
			if err != nil {
				return nil, fmt.Errorf("text %q, tokens %d to %d: %w", d.text.Name, w.Start, w.End,
					err)
			}
			scored, err := e.Detokenize(sequence[from:])
			if err != nil {
				return nil, fmt.Errorf("text %q: %w", d.text.Name, err)
			}
			r.Details = append(r.Details, WindowLoss{
				d.text.Name, w.Start, len(values),
				text.add(values, len(scored)),
			})
			all.add(values, len(scored))
			for b := range curve {
				// Bucket b takes positions edges[b] to edges[b+1]-1 of the window; values start at
				// position from.
				lo, hi := max(edges[b], from), min(edges[b+1], len(sequence))
				if lo < hi {
					curve[b].add(values[lo-from:hi-from], 0)
				}
			}
			r.EvaluatedTokens += len(sequence)
			r.Windows++
		}
		byText.merge(text)
		r.Texts = append(r.Texts, TextLoss{d.text.id(), len(d.tokens), text.loss()})
	}
	for b, t := range curve {
		if t.tokens == 0 {
			continue
		}
		l := t.loss()
		r.Curve = append(r.Curve, Bucket{edges[b], edges[b+1], l.Tokens, l.NLL, l.NLLStderr})
	}
	progress.Report(total, total, fmt.Sprintf("perplexity %s, %d tokens", m.Name, o.Length))
	count := r.Windows
	if o.Documents == documentsTexts {
		r.Loss = byText.loss()
	} else {
		r.Loss = all.loss()
	}
	r.Windows = count
	r.Finish()
	return r, nil
}

// planWindows lays the windows over every document.
func planWindows(documents []document, o PerplexityOptions, bos int) (windows [][]window, total int,
	err error,
) {
	body := o.Length - bos
	if err := long(documents, body); err != nil {
		return nil, 0, err
	}
	for _, d := range documents {
		w, err := splitWindows(len(d.tokens), body, o.Stride)
		if err != nil {
			return nil, 0, fmt.Errorf("text %q: %w", d.text.Name, err)
		}
		w = spread(w, o.MaxWindows)
		windows = append(windows, w)
		total += len(w)
	}
	return windows, total, nil
}

// tally sums NLL by document.
type tally struct {
	sums, counts  []float64 // of each document
	tokens, bytes int
	total         float64
}

// add takes one document's values and returns their mean.
func (t *tally) add(values []float64, bytes int) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	t.sums = append(t.sums, sum)
	t.counts = append(t.counts, float64(len(values)))
	t.tokens += len(values)
	t.bytes += bytes
	t.total += sum
	return sum / float64(len(values))
}

// merge takes all of another tally as one document.
func (t *tally) merge(of tally) {
	t.sums = append(t.sums, of.total)
	t.counts = append(t.counts, float64(of.tokens))
	t.tokens += of.tokens
	t.bytes += of.bytes
	t.total += of.total
}

func (t *tally) loss() Loss {
	means := make([]float64, len(t.sums))
	for i := range means {
		if t.counts[i] > 0 {
			means[i] = t.sums[i] / t.counts[i]
		}
	}
	mean, stderr := WeightedMeanStderr(means, t.counts)
	l := Loss{Windows: len(t.sums), Tokens: t.tokens, Bytes: t.bytes, NLL: mean, NLLStderr: stderr}
	// exp is held below infinity, which JSON cannot say.
	l.Perplexity = math.Min(math.Exp(mean), math.MaxFloat64)
	l.PerplexityStderr = math.Min(l.Perplexity*stderr, math.MaxFloat64)
	if t.bytes > 0 {
		scale := float64(t.tokens) / (math.Ln2 * float64(t.bytes))
		l.BitsPerByte, l.BitsPerByteStderr = mean*scale, stderr*scale
	}
	return l
}

// bucketEdges divides positions 1 to length-1 into at most count buckets: bucket b holds [edges[b],
// edges[b+1]). They have equal ratios, where rounding to whole positions allows.
func bucketEdges(length, count int) []int {
	edges := []int{1}
	for b := 1; b <= count; b++ {
		edge := int(math.Round(math.Exp(float64(b) / float64(count) * math.Log(float64(length)))))
		if b == count {
			edge = length
		}
		if edge > edges[len(edges)-1] {
			edges = append(edges, edge)
		}
	}
	return edges
}

// Figures are the loss, and its change from the first method over the same windows, in nats a
// token: exp of it is the ratio of the perplexities. Its error is that of the differences, much
// smaller than of either.
func (r *PerplexityResult) Figures(first Result) []Figures {
	f := Figures{r.Length, []*float64{&r.Perplexity, &r.PerplexityStderr, &r.BitsPerByte, nil, nil}}
	if first, ok := first.(*PerplexityResult); ok {
		change, stderr := nllChange(first, r)
		f.Values[3], f.Values[4] = &change, &stderr
	}
	return []Figures{f}
}

// nllChange is the mean of b's NLL less a's over the windows they share, tokens weighing the same,
// and its standard error.
func nllChange(a, b *PerplexityResult) (mean, stderr float64) {
	differences, weights := make([]float64, len(a.Details)), make([]float64, len(a.Details))
	for i, w := range a.Details {
		differences[i], weights[i] = b.Details[i].NLL-w.NLL, float64(w.Tokens)
	}
	return WeightedMeanStderr(differences, weights)
}

// rows are a row per text and one, "all", over them.
func (r *PerplexityResult) rows() (rows [][]any) {
	row := func(name string, l Loss) []any {
		return []any{
			r.Method, r.Length, name, l.Windows, l.Tokens, l.Bytes, l.NLL, l.NLLStderr,
			l.Perplexity, l.PerplexityStderr, l.BitsPerByte, l.BitsPerByteStderr,
		}
	}
	for _, t := range r.Texts {
		rows = append(rows, row(t.Text.Name, t.Loss))
	}
	return append(rows, row("all", r.Loss))
}

// trials are a row per window.
func (r *PerplexityResult) trials() (rows [][]any) {
	for _, w := range r.Details {
		rows = append(rows, []any{r.Method, r.Length, w.Text, w.Start, w.Tokens, w.NLL})
	}
	return rows
}

// curve is a row per bucket of positions.
func (r *PerplexityResult) curve() (rows [][]any) {
	for _, b := range r.Curve {
		rows = append(rows, []any{
			r.Method, r.Length, b.From, b.To, b.Tokens, b.NLL, b.NLLStderr,
			math.Min(math.Exp(b.NLL), math.MaxFloat64),
		})
	}
	return rows
}
