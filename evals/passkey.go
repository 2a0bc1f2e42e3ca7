package evals

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/evals/label"
)

var passkeyTask = Register(Task{
	Variants: templateFlags(),
	Name:     "passkey",
	Version:  1,
	Help:     "whether a key hidden in a long prompt is found, by depth and length",
	Server:   true,
	All:      2,
	New:      func() Job { return &PasskeyOptions{} },
	Result:   func() Result { return &PasskeyResult{} },
	Columns:  []string{"passkey", "passkey_low", "passkey_high", "passkey_nll"},
	Table: []Cell{
		{"passkey", func(r Row) string { return Percent(r.Figure("passkey"), " %") }},
		{"95 %", func(r Row) string {
			return between(r.Figure("passkey_low"), r.Figure("passkey_high"))
		}},
		{"nll of the key", func(r Row) string { return FormatFigure("%.3f", r.Figure("passkey_nll")) }},
	},
	Sheets: []Sheet{
		SheetOf("", []string{
			"method", "length", "depth", "correct", "trials", "rate", "low", "high",
			"nll",
		}, (*PasskeyResult).rows),
		SheetOf("trials", []string{
			"method", "length", "depth", "trial", "prompt_tokens",
			"needle_start", "retokenizes", "key", "answer", "correct", "nll",
		},
			(*PasskeyResult).trials),
	},
})

// templateFlags are --template with each of Templates.
func templateFlags() (flags [][]string) {
	for _, name := range templateNames() {
		flags = append(flags, []string{"--template", name})
	}
	return flags
}

// Percent writes a share with a unit, "" for none.
func Percent(share *float64, unit string) string {
	if share == nil {
		return ""
	}
	return fmt.Sprintf("%.0f%s", 100**share, unit)
}

// between writes an interval of shares in percent, "" for none.
func between(low, high *float64) string {
	if low == nil || high == nil {
		return ""
	}
	return Percent(low, "–") + Percent(high, "")
}

// PasskeyOptions are the arguments of Passkey; zero values are the defaults named.
type PasskeyOptions struct {
	// Lengths in tokens of prompt and answer together; nil is the engine's MaxLength alone. A Job
	// has them from Setup.Lengths.
	Lengths []int `json:"lengths"`
	// Depths of the needle as a share of the filler before it, 0 to 1; nil is 0, 0.25, 0.5, 0.75,
	// 1.
	Depths []float64 `json:"depths"`
	// Trials per length and depth, each with another key (and another stretch of the haystack); 0
	// is 4.
	Trials int `json:"trials"`
	// Seed of keys, names and stretches.
	Seed uint64 `json:"seed"`
	// Digits of a key, 1 to 18; 0 is 5. A key never begins with 0.
	Digits int `json:"digits"`
	// Template of the prompt; the zero Template is the first of Templates.
	Template Template `json:"template"`
	// Haystack, where given, is the filler in place of the template's sentence. It is not repeated:
	// it must be long enough.
	Haystack *Text `json:"haystack,omitempty"`
	// AnswerTokens are kept free for the answer and generated; 0 is Digits+3: a tokenizer of bytes
	// needs Digits+1, and a model that writes on after the key must get the chance to be wrong.
	AnswerTokens int `json:"answer_tokens"`
	// NeedleNLL asks for the NLL of the true key in every trial, at the cost of another pass over
	// the prompt.
	NeedleNLL bool `json:"needle_nll"`

	template, haystack string // flags
}

// Task is "passkey".
func (*PasskeyOptions) Task() string { return "passkey" }

// Flags declares the settings that a command offers.
func (o *PasskeyOptions) Flags(f *pflag.FlagSet) {
	f.Var((*sharesFlag)(&o.Depths), "depths",
		"Where the key is hidden, 0 to 1 (default 0,0.25,0.5,0.75,1)")
	f.IntVar(&o.Trials, "trials", 4, "Trials of each length and depth")
	f.Uint64Var(&o.Seed, "seed", 1, "Seed of what is hidden")
	f.IntVar(&o.Digits, "digits", 5, "Digits of a key")
	names := strings.Join(templateNames(), ", ")
	f.StringVar(&o.template, "template", templateNames()[0], "Prompt: "+names)
	f.StringVar(&o.haystack, "haystack", "",
		"Text `FILE` to hide the key in (default: the paper's sentence, repeated)")
	f.BoolVar(&o.NeedleNLL, "nll", false, "The NLL of the true answer as well, at up to twice "+
		"the time")
}

// Load finds the template and reads the haystack.
func (o *PasskeyOptions) Load() (err error) {
	if o.Trials < 1 {
		return fmt.Errorf("--trials is %d; give at least 1", o.Trials)
	}
	if o.Template, err = TemplateByName(o.template); err != nil {
		return fmt.Errorf("--template: %w", err)
	}
	if o.haystack != "" {
		t, err := ReadText(o.haystack)
		if err != nil {
			return fmt.Errorf("--haystack: %w", err)
		}
		o.Haystack = &t
	}
	return nil
}

// Prepare makes the shortest and the longest prompt.
func (o *PasskeyOptions) Prepare(s Setup) (*Plan, error) {
	if _, answers := AsAnswerer(s.Engine); answers && o.NeedleNLL {
		return nil, ErrNoLikelihoods
	}
	given := *o
	given.Lengths = s.Lengths
	eff, err := given.effective(s.Engine)
	if err != nil {
		return nil, err
	}
	b, err := eff.builder(s.Engine)
	if err != nil {
		return nil, err
	}
	for _, length := range []int{slices.Min(eff.Lengths), slices.Max(eff.Lengths)} {
		if _, err := b.build(length, eff.Depths[0], 0); err != nil {
			return nil, err
		}
	}
	return &Plan{
		Args: eff, Seed: eff.Seed, Calls: len(eff.Lengths) * len(eff.Depths) * eff.Trials,
		Run: func(ctx context.Context, m Method, p Progress) ([]Result, error) {
			r, err := passkey(ctx, m, given, b, p)
			return []Result{r}, err
		},
	}, nil
}

func (o PasskeyOptions) effective(e Engine) (PasskeyOptions, error) {
	if len(o.Lengths) == 0 {
		o.Lengths = []int{e.Info().MaxLength}
	}
	if len(o.Depths) == 0 {
		o.Depths = []float64{0, 0.25, 0.5, 0.75, 1}
	}
	if o.Trials == 0 {
		o.Trials = 4
	}
	if o.Digits == 0 {
		o.Digits = 5
	}
	if o.AnswerTokens == 0 {
		o.AnswerTokens = o.Digits + 3
	}
	if o.Template == (Template{}) {
		o.Template = Templates()[0]
	}
	for i, l := range o.Lengths {
		if err := CheckLength(e, l); err != nil {
			return o, err
		}
		if l < 1 || slices.Contains(o.Lengths[:i], l) {
			return o, fmt.Errorf("length %d is not positive or stands there twice", l)
		}
	}
	for i, d := range o.Depths {
		if !(d >= 0 && d <= 1) || slices.Contains(o.Depths[:i], d) {
			return o, fmt.Errorf("depth %v is not between 0 and 1 or stands there twice", d)
		}
	}
	switch {
	case o.Trials < 0:
		return o, fmt.Errorf("trials %d is negative", o.Trials)
	case o.Digits < 1 || o.Digits > 18:
		return o, fmt.Errorf("digits %d is outside 1 to 18", o.Digits)
	case o.AnswerTokens < 1:
		return o, fmt.Errorf("answer tokens %d is negative", o.AnswerTokens)
	case o.Haystack != nil && o.Haystack.Body == "":
		return o, fmt.Errorf("haystack %q is empty: give a text", o.Haystack.Name)
	case o.Template.Distractors+1 > 9 && o.Digits == 1:
		return o, errors.New("keys of one digit are fewer than the distractors: ask for more " +
			"digits")
	}
	return o, o.Template.Validate()
}

func (o PasskeyOptions) builder(e Engine) (*promptBuilder, error) {
	b := &promptBuilder{e: e, o: o, hay: haystack{text: o.Template.Filler}}
	if o.Haystack != nil {
		b.hay = haystack{text: o.Haystack.Body, most: len(o.Haystack.Body)}
	}
	const probe = 4096
	tokens, err := e.Tokenize(b.hay.take(0, probe), false)
	if err != nil {
		return nil, fmt.Errorf("cannot tokenize the filler: %w", err)
	}
	b.rate = max(float64(len(tokens)), 1) / probe
	return b, nil
}

// PasskeyTrial is one question and what the model answered.
type PasskeyTrial struct {
	Length int     `json:"length"` // prompt and answer, tokens
	Depth  float64 `json:"depth"`  // asked for
	Trial  int     `json:"trial"`
	// PromptTokens is the prompt's actual length, NeedleStart the token at which the needle begins;
	// Retokenizes as in Prompt.
	PromptTokens int    `json:"prompt_tokens"`
	NeedleStart  int    `json:"needle_start"`
	Retokenizes  bool   `json:"retokenizes"`
	Key          string `json:"key"`
	Answer       string `json:"answer"` // text generated
	Correct      bool   `json:"correct"`
	// NLL is the mean over the tokens of the true key, in nats, where asked for.
	NLL *float64 `json:"nll,omitempty"`
	// Note says why the trial was not scored.
	Note string `json:"note,omitempty"`
}

// PasskeyCell sums up the trials of a length and a depth; Depth is -1 for all depths of a length.
// Trials that were not scored are none of its Trials.
type PasskeyCell struct {
	Length int     `json:"length"`
	Depth  float64 `json:"depth"`
	Proportion
	NLL      *float64 `json:"nll,omitempty"` // mean over trials
	Unscored int      `json:"unscored,omitempty"`
}

// PasskeyResult is what Passkey measured. Cells are by length, then depth, in the order of Args.
type PasskeyResult struct {
	Provenance
	Proportion
	Lengths []PasskeyCell  `json:"lengths"`
	Cells   []PasskeyCell  `json:"cells"`
	Details []PasskeyTrial `json:"details"`
}

// integer is what an answer is searched for.
var integer = regexp.MustCompile(`[0-9]+`)

var digit = regexp.MustCompile(`[0-9]`)

// passkey hides keys over a grid of lengths and depths and asks for them, when the ladder is set;
// see the package comment. b has the options in effect, m names the ladder for the record.
func passkey(ctx context.Context, m Method, given PasskeyOptions, b *promptBuilder,
	progress Progress,
) (*PasskeyResult, error) {
	o, e := b.o, b.e
	r := &PasskeyResult{
		Provenance: NewProvenance("passkey", passkeyTask.Version, e, m, o.Seed, given, o),
	}
	total := len(o.Lengths) * len(o.Depths) * o.Trials
	for _, length := range o.Lengths {
		for _, depth := range o.Depths {
			for trial := range o.Trials {
				progress.Report(len(r.Details), total,
					fmt.Sprintf("passkey %s, %d tokens, depth %.0f %%", m.Name, length, 100*depth))
				p, err := b.build(length, depth, trial)
				if err != nil {
					return nil, err
				}
				t, err := r.ask(ctx, e, p, o)
				if err != nil {
					return nil, fmt.Errorf("length %d, depth %v: %w", length, depth, err)
				}
				t.Length, t.Depth, t.Trial = length, depth, trial
				r.Details = append(r.Details, t)
			}
			r.Cells = append(r.Cells, r.cell(length, depth))
		}
		r.Lengths = append(r.Lengths, r.cell(length, -1))
	}
	progress.Report(total, total, "passkey "+m.Name)
	scored := 0
	for _, c := range r.Lengths {
		r.Correct += c.Correct
		scored += c.Trials
	}
	if scored > 0 {
		r.Proportion = NewProportion(r.Correct, scored)
	}
	r.Finish()
	return r, nil
}

// PasskeyPrompt makes the prompt that Passkey uses for a trial: to show it, to send it to a server,
// or to look at it.
func PasskeyPrompt(e Engine, o PasskeyOptions, length int, depth float64, trial int) (*Prompt,
	error,
) {
	o.Lengths, o.Depths = []int{length}, []float64{depth}
	o, err := o.effective(e)
	if err != nil {
		return nil, err
	}
	b, err := o.builder(e)
	if err != nil {
		return nil, err
	}
	return b.build(length, depth, trial)
}

// HideKeys hides keys in each window of text and asks for all of them at its end. A sample has a
// score of the text, without what was added to it, and one of each key. Perplexity alone is a poor
// guide to retrieval (LongRoPE2, arXiv 2502.20082, section 3.3), so one reading of a window says
// both; and several keys in it cost hardly more than one.
//
// The keys of a window begin with different digits. Where there are several, the first token of
// each is given with the question, which says what key is meant, and the score is that of its other
// tokens. Key k of window i is at depth (k + i/windows)/keys.
//
// The windows have one length, BOS included, as the samples do; of the options Seed, Digits and
// Template count. It is an error where less than half of the length would be left to text.
func HideKeys(e Engine, windows [][]int, keys int, o PasskeyOptions) ([]Sample, error) {
	if keys < 1 || keys > 9 {
		return nil, fmt.Errorf("%d keys in a window: ask for 1 to 9", keys)
	}
	bos, err := BOS(e)
	if err != nil {
		return nil, err
	}
	var samples []Sample
	for i, w := range windows {
		o.Lengths = []int{len(w)}
		eff, err := o.effective(e)
		if err != nil {
			return nil, err
		}
		b := &promptBuilder{e: e, o: eff}
		var depths []float64
		for k := range keys {
			depths = append(depths, (float64(k)+float64(i)/float64(len(windows)))/float64(keys))
		}
		s, err := b.hide(w[len(bos):], len(w), depths, i)
		if err != nil {
			return nil, fmt.Errorf("window %d: %w", i+1, err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// hide puts a key at each depth (ascending) of the text and asks for all of them. It joins
// tokens: the tokenizer's own of each piece.
func (b *promptBuilder) hide(text []int, length int, depths []float64, window int) (Sample, error) {
	rng := rand.New(rand.NewPCG(b.o.Seed, uint64(length)<<32^uint64(window)))
	t, name := b.o.Template, nameWords[rng.IntN(len(nameWords))]
	var err error
	tokenize := func(s string, special bool) (tokens []int) {
		if err == nil {
			tokens, err = b.e.Tokenize(s, special)
		}
		return tokens
	}
	d := draft{question: fill(t.Question, name, "")}
	head := tokenize(fill(t.Intro, name, ""), true)
	first, next := tokenize(t.separator()+d.question, false), tokenize("."+t.separator()+d.question,
		false)
	left := length - len(head) // for text
	pieces, answers, given := make([][]int, len(depths)), make([][]int, len(depths)), make([]int,
		len(depths))
	firsts := rng.Perm(9)
	for k, depth := range depths {
		if err == nil {
			d.key, answers[k], given[k], err = b.cued(d, firsts[k]+1, len(depths) > 1, rng)
		}
		d.needles = append(d.needles, needle{depth, fill(t.Needle, name, d.key), true})
		pieces[k] = tokenize(t.separator()+d.needles[k].text, false)
		left -= len(pieces[k]) + len(answers[k])
	}
	left -= len(first) + (len(depths)-1)*len(next)
	switch {
	case err != nil:
		return Sample{}, err
	case left < length/2:
		return Sample{}, fmt.Errorf("a prompt with %d keys leaves %d of %d tokens to text",
			len(depths), max(left, 0), length)
	}
	s := Sample{Scored: make([][]Span, 1+len(depths))}
	var spans []Span
	s.Tokens, spans = weave(head, text[:left], d.needles, pieces)
	for _, span := range spans {
		if span.From++; span.From < span.To { // what follows something else is not scored
			s.Scored[0] = append(s.Scored[0], span)
		}
	}
	question := first
	for _, k := range rng.Perm(len(depths)) {
		s.Tokens = append(s.Tokens, question...)
		s.Scored[1+k] = []Span{{len(s.Tokens) + given[k], len(s.Tokens) + len(answers[k])}}
		s.Tokens = append(s.Tokens, answers[k]...)
		question = next
	}
	return s, nil
}

// cued draws a key that begins with lead. tokens are those of the answer; with cue, the given first
// of them have the digits of lead, and at least one is left.
func (b *promptBuilder) cued(d draft, lead int, cue bool, rng *rand.Rand) (key string,
	tokens []int, given int, err error,
) {
	digits := len(strconv.Itoa(lead))
	for range 100 {
		rest := int64(math.Pow10(max(b.o.Digits-digits, 0)))
		d.key = strconv.FormatInt(int64(lead)*rest+rng.Int64N(rest), 10)
		if tokens, err = b.answer(d); err != nil || !cue {
			return d.key, tokens, 0, err
		}
		for given = 1; given < len(tokens); given++ {
			text, err := b.e.Detokenize(tokens[:given])
			if err != nil || len(digit.FindAllString(text, -1)) >= digits {
				return d.key, tokens, given, err
			}
		}
	}
	return "", nil, 0, fmt.Errorf("keys of %d digits are single tokens in this model: ask for "+
		"more digits", b.o.Digits)
}

// Figures are the share of keys found at each length, its interval, and the NLL of the key.
func (r *PasskeyResult) Figures(Result) (all []Figures) {
	for i := range r.Lengths {
		c := &r.Lengths[i]
		all = append(all, Figures{c.Length, []*float64{
			c.scored(&c.Rate), c.scored(&c.Low), c.scored(&c.High), c.NLL,
		}})
	}
	return all
}

// Grid is depth (down) by length (across).
func (r *PasskeyResult) Grid() Grid {
	g := Grid{
		Title:    "Passkey retrieval",
		Subtitle: "share of keys found by depth of the key in the text and length in tokens",
		Method:   r.Method, Down: "depth", Total: r.Proportion,
	}
	var lengths []int
	var depths []float64
	for _, c := range r.Cells {
		if !slices.Contains(lengths, c.Length) {
			lengths = append(lengths, c.Length)
		}
		if !slices.Contains(depths, c.Depth) {
			depths = append(depths, c.Depth)
		}
	}
	slices.Sort(lengths)
	slices.Sort(depths)
	for _, d := range depths {
		g.Rows = append(g.Rows, fmt.Sprintf("%.0f %%", 100*d))
	}
	g.Rows = append(g.Rows, "all")
	g.Cells = make([][]*Proportion, len(g.Rows))
	for i := range g.Cells {
		g.Cells[i] = make([]*Proportion, len(lengths))
	}
	for _, length := range lengths {
		g.Columns = append(g.Columns, label.Size(length))
	}
	for _, c := range append(slices.Clone(r.Cells), r.Lengths...) {
		row := len(depths)
		if c.Depth >= 0 {
			row = slices.Index(depths, c.Depth)
		}
		if column := slices.Index(lengths, c.Length); column >= 0 && c.Trials > 0 {
			g.Cells[row][column] = &c.Proportion
		}
	}
	return g
}

// rows are a row per cell, then one per length with depth "all".
func (r *PasskeyResult) rows() (rows [][]any) {
	for _, c := range append(slices.Clone(r.Cells), r.Lengths...) {
		depth := "all"
		if c.Depth >= 0 {
			depth = label.Exact(c.Depth)
		}
		rows = append(rows,
			[]any{
				r.Method, c.Length, depth, c.Correct, c.Trials, c.scored(&c.Rate), c.Low, c.High,
				c.NLL,
			})
	}
	return rows
}

// trials are a row per trial.
func (r *PasskeyResult) trials() (rows [][]any) {
	for _, t := range r.Details {
		correct := any(t.Correct)
		if t.Note != "" {
			correct = "" // not scored
		}
		rows = append(rows, []any{
			r.Method, t.Length, t.Depth, t.Trial, t.PromptTokens,
			t.NeedleStart, t.Retokenizes, t.Key, t.Answer, correct, t.NLL,
		})
	}
	return rows
}
