package recall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
)

// Trial is one question and what the model answered.
type Trial struct {
	Length       int      `json:"length"`
	Sample       int      `json:"sample"`
	Context      int      `json:"context"`
	PromptTokens int      `json:"prompt_tokens"`
	References   []string `json:"references"`
	Answer       string   `json:"answer"`
	Score        *float64 `json:"score"`          // nil: not scored
	NLL          *float64 `json:"nll,omitempty"`  // of the true answer, mean over its tokens, nats
	Note         string   `json:"note,omitempty"` // why not
}

// Cell sums up a length.
type Cell struct {
	Length  int `json:"length"`
	Samples int `json:"samples"` // scored
	// Score is the mean over samples; nil where none was scored. Low and High are its 95 % interval
	// over contexts, Floor what the references of other contexts score.
	Score *float64 `json:"score"`
	Low   *float64 `json:"low"`
	High  *float64 `json:"high"`
	Floor *float64 `json:"floor"`
	// NLL is the mean over samples, in nats, with its standard error over contexts; nil where it
	// was not asked for, and the error nil where there is one context.
	NLL       *float64 `json:"nll,omitempty"`
	NLLStderr *float64 `json:"nll_stderr,omitempty"`
	Unscored  int      `json:"unscored"`
	Note      string   `json:"note,omitempty"` // why there are none, or the first reason
}

// Result is what a task with generated samples measured.
type Result struct {
	evals.Provenance
	Lengths []Cell  `json:"lengths"`
	Details []Trial `json:"details"`
}

// run asks all samples of one method.
func (r *Result) run(ctx context.Context, e evals.Engine, k Kind, sets []set, p evals.Progress,
	total int, nll bool,
) error {
	for _, x := range sets {
		if x.unfit != nil {
			r.Lengths = append(r.Lengths, Cell{Length: x.length, Note: x.unfit.Error()})
			continue
		}
		name := fmt.Sprintf("%s %s, %d tokens", k.Name, r.Method, x.length)
		from := len(r.Details)
		for i := range x.count {
			p.Report(len(r.Details), total, name)
			if err := ctx.Err(); err != nil {
				return err
			}
			q, err := x.prompt(i)
			if errors.Is(err, errUnfit) {
				r.Details = append(r.Details, Trial{Length: x.length, Sample: i, Note: err.Error()})
				continue
			}
			if err != nil {
				return fmt.Errorf("length %d, sample %d: %w", x.length, i, err)
			}
			t, err := r.ask(ctx, e, k, q, x.length)
			if err == nil && nll && t.Score != nil {
				err = r.likelihood(ctx, e, k, q, &t)
			}
			if err != nil {
				return fmt.Errorf("length %d, sample %d: %w", x.length, q.sample, err)
			}
			r.Details = append(r.Details, t)
		}
		r.Lengths = append(r.Lengths, sum(k, x.length, r.Details[from:]))
	}
	p.Report(total, total, k.Name+" "+r.Method)
	r.Finish()
	return nil
}

// ask puts one question to the model. A prompt that does not fit, or that a server cut, is noted.
func (r *Result) ask(ctx context.Context, e evals.Engine, k Kind, q prompt, length int) (
	Trial, error,
) {
	t := Trial{
		Length: length, Sample: q.sample, Context: q.context, PromptTokens: q.size,
		References: q.references,
	}
	if most := e.Info().MaxLength; most > 0 && q.size+k.Answer > most {
		t.Note = fmt.Sprintf("does not fit: %d tokens and %d for the answer, of %d", q.size,
			k.Answer, most)
		return t, nil
	}
	if a, ok := evals.AsAnswerer(e); ok {
		reply, err := a.Answer(ctx, evals.Ask{
			Input: q.input, Prefix: q.prefix, Tokens: q.size, Answer: k.Answer,
		})
		if errors.Is(err, evals.ErrUnanswered) {
			t.Note = err.Error()
			return t, nil
		}
		if err != nil {
			return t, err
		}
		t.Answer = reply
		r.EvaluatedTokens += q.size
	} else {
		tokens, err := e.Generate(ctx, q.tokens, k.Answer)
		if err != nil {
			return t, err
		}
		if t.Answer, err = e.Detokenize(tokens); err != nil {
			return t, err
		}
		r.EvaluatedTokens += len(q.tokens) + len(tokens)
	}
	score := k.Score(t.Answer, q.references)
	t.Score = &score
	return t, nil
}

// likelihood is the NLL of the true answer after the prompt. The rung is that of prompt and answer.
func (r *Result) likelihood(ctx context.Context, e evals.Engine, k Kind, q prompt, t *Trial) error {
	answer := " " + strings.Join(q.references, ", ")
	if k.Write != nil {
		answer = k.Write(q.references)
	}
	tokens, err := q.continued(e, answer)
	if err != nil {
		return err
	}
	if most := e.Info().MaxLength; most > 0 && len(tokens) > most {
		t.Note = fmt.Sprintf("no NLL: the true answer ends at %d tokens, of %d", len(tokens), most)
		return nil
	}
	from := 0
	for from < min(len(q.tokens), len(tokens)-1) && tokens[from] == q.tokens[from] {
		from++ // a token may end in the answer
	}
	values, err := evals.CheckedNLL(ctx, e, tokens, from)
	if err != nil {
		return fmt.Errorf("NLL of the true answer: %w", err)
	}
	mean, _ := evals.MeanStderr(values)
	t.NLL = &mean
	r.EvaluatedTokens += len(tokens)
	return nil
}

// sum sums up the trials of a length.
func sum(k Kind, length int, trials []Trial) Cell {
	c := Cell{Length: length}
	total := 0.0
	contexts := map[int]bool{}
	for _, t := range trials {
		if t.Score == nil {
			if c.Unscored++; c.Note == "" {
				c.Note = t.Note
			}
			continue
		}
		c.Samples++
		contexts[t.Context] = true
		total += *t.Score
	}
	if c.Samples > 0 {
		mean := total / float64(c.Samples)
		low, high := evals.WilsonRate(mean, len(contexts))
		c.Score, c.Low, c.High = &mean, &low, &high
	}
	c.Floor = floor(k, trials)
	c.NLL, c.NLLStderr = meanNLL(trials)
	return c
}

// meanNLL is the mean over samples, and its standard error by the means of contexts, which have as
// many samples each.
func meanNLL(trials []Trial) (mean, stderr *float64) {
	var all, means []float64
	contexts := map[int][]float64{}
	for _, t := range trials {
		if t.NLL != nil {
			all = append(all, *t.NLL)
			contexts[t.Context] = append(contexts[t.Context], *t.NLL)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	for _, c := range slices.Sorted(maps.Keys(contexts)) {
		m, _ := evals.MeanStderr(contexts[c])
		means = append(means, m)
	}
	m, _ := evals.MeanStderr(all)
	if len(means) > 1 {
		_, s := evals.MeanStderr(means)
		stderr = &s
	}
	return &m, stderr
}

// floor is the mean score of the references of each sample's next context; nil where there is one
// context.
func floor(k Kind, trials []Trial) *float64 {
	trials = slices.DeleteFunc(slices.Clone(trials), func(t Trial) bool {
		return t.References == nil
	})
	total := 0.0
	for i, t := range trials {
		j := 1
		for j < len(trials) && trials[(i+j)%len(trials)].Context == t.Context {
			j++
		}
		if j >= len(trials) {
			return nil
		}
		other := trials[(i+j)%len(trials)].References
		total += k.Score(strings.Join(other, " "), t.References)
	}
	if len(trials) == 0 {
		return nil
	}
	mean := total / float64(len(trials))
	return &mean
}

// Figures are the score, its interval and floor, and what was not scored, at each length.
func (r *Result) Figures(evals.Result) (all []evals.Figures) {
	for i := range r.Lengths {
		c := &r.Lengths[i]
		unscored := float64(c.Unscored)
		all = append(all, evals.Figures{Length: c.Length, Values: []*float64{
			c.Score, c.Low, c.High, c.Floor, &unscored, c.NLL, c.NLLStderr,
		}})
	}
	return all
}

// Grid has one row.
func (r *Result) Grid() evals.Grid {
	g := evals.Grid{
		Title: "Recall", Subtitle: "share of what was asked for by task and length in tokens",
		Method: r.Method, Down: "task", Rows: []string{r.Task, "all"},
		Cells: make([][]*evals.Proportion, 2),
	}
	scores, n := 0.0, 0
	for _, c := range r.Lengths {
		g.Columns = append(g.Columns, label.Size(c.Length))
		p := c.proportion()
		if p != nil {
			scores += p.Rate
			n++
			g.Total.Trials += p.Trials
		}
		g.Cells[0], g.Cells[1] = append(g.Cells[0], p), append(g.Cells[1], p)
	}
	if n > 0 {
		g.Total.Rate = scores / float64(n)
		g.Total.Low, g.Total.High = evals.WilsonRate(g.Total.Rate, g.Total.Trials)
	}
	return g
}

func (c Cell) proportion() *evals.Proportion {
	if c.Score == nil {
		return nil
	}
	return &evals.Proportion{
		Correct: int(math.Round(*c.Score * float64(c.Samples))), Trials: c.Samples, Rate: *c.Score,
		Low: *c.Low, High: *c.High,
	}
}

// Note says what was not scored and why.
func (r *Result) Note() string {
	var notes []string
	for _, c := range r.Lengths {
		switch {
		case c.Unscored > 0:
			notes = append(notes, fmt.Sprintf("%s at %d tokens: %d of %d samples not scored: %s",
				r.Task, c.Length, c.Unscored, c.Unscored+c.Samples, c.Note))
		case c.Score == nil:
			notes = append(notes, fmt.Sprintf("%s at %d tokens: %s", r.Task, c.Length, c.Note))
		}
	}
	return strings.Join(notes, "\n")
}

// rows are a row per length.
func (r *Result) rows() (rows [][]any) {
	for _, c := range r.Lengths {
		rows = append(rows, []any{
			r.Method, c.Length, c.Samples, c.Score, c.Low, c.High, c.Floor, c.Unscored, c.NLL,
			c.NLLStderr,
		})
	}
	return rows
}

// trials are a row per sample.
func (r *Result) trials() (rows [][]any) {
	for _, t := range r.Details {
		rows = append(rows, []any{
			r.Method, t.Length, t.Sample, t.Context, t.PromptTokens,
			strings.Join(t.References, " "), t.Answer, t.Score, t.NLL, t.Note,
		})
	}
	return rows
}
