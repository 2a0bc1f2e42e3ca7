package longppl

import (
	"context"
	"fmt"
	"math"

	"github.com/longrope/longrope/evals"
)

// Window is what a method makes of a window: mean losses in nats.
type Window struct {
	Length    int     `json:"length"`
	Text      string  `json:"text"`
	Window    int     `json:"window"`
	KeyTokens int     `json:"key_tokens"`
	KeyNLL    float64 `json:"key_nll"` // over the key tokens
	Tokens    int     `json:"tokens"`
	NLL       float64 `json:"nll"` // over all tokens

	values []float64 // losses of all tokens, until the key tokens are known
}

// measure takes the key tokens among the last ones.
func (x *Window) measure(keys []bool) {
	for i, v := range x.values[len(x.values)-len(keys):] {
		if keys[i] {
			x.KeyTokens++
			x.KeyNLL += v
		}
	}
	x.KeyNLL /= float64(max(x.KeyTokens, 1))
	x.values = nil
}

// Cell sums up a length. Errors are standard errors over windows.
type Cell struct {
	Length    int `json:"length"`
	Windows   int `json:"windows"`
	KeyTokens int `json:"key_tokens"`
	// LongPPL is the perplexity of key tokens, exp of their mean loss; nil where there are none.
	LongPPL          *float64 `json:"longppl"`
	LongPPLStderr    *float64 `json:"longppl_stderr"`
	Tokens           int      `json:"tokens"`
	Perplexity       float64  `json:"perplexity"`
	PerplexityStderr float64  `json:"perplexity_stderr"`
}

// Result is what was measured of one method.
type Result struct {
	evals.Provenance
	Lengths []Cell   `json:"lengths"`
	Details []Window `json:"details"`
}

// measure reads the windows of a length with the method's factors, and once in cut contexts.
func (r *Result) measure(ctx context.Context, e evals.Engine, windows []window, length int,
	o options, bos int, p evals.Progress,
) (err error) {
	for i := range windows {
		w := &windows[i]
		p.Report(i, len(windows), fmt.Sprintf("%s %s, %s, %d tokens", name, r.Method, w.text,
			length))
		if w.cut == nil {
			// Sequences of up to the original context length have the model's own RoPE whatever
			// the ladder.
			if w.cut, err = o.losses(ctx, e, w.tokens, bos, r); err != nil {
				return err
			}
		}
		values, err := evals.CheckedNLL(ctx, e, w.tokens, max(bos, 1))
		if err != nil {
			return fmt.Errorf("text %q, window %d: %w", w.text, w.number, err)
		}
		r.EvaluatedTokens += len(w.tokens)
		x := Window{
			Length: length, Text: w.text, Window: w.number, Tokens: len(values), values: values,
		}
		for _, v := range values {
			x.NLL += v / float64(len(values))
		}
		r.Details = append(r.Details, x)
	}
	return nil
}

// sum sums up each length.
func (r *Result) sum() {
	for from := 0; from < len(r.Details); {
		to := from
		for to < len(r.Details) && r.Details[to].Length == r.Details[from].Length {
			to++
		}
		r.Lengths = append(r.Lengths, cell(r.Details[from:to]))
		from = to
	}
}

// cell sums up the windows of a length.
func cell(windows []Window) Cell {
	n := len(windows)
	c := Cell{Length: windows[0].Length, Windows: n}
	keys, plain := make([]float64, n), make([]float64, n)
	keyWeights, weights := make([]float64, n), make([]float64, n)
	for i, x := range windows {
		keys[i], keyWeights[i] = x.KeyNLL, float64(x.KeyTokens)
		plain[i], weights[i] = x.NLL, float64(x.Tokens)
		c.KeyTokens += x.KeyTokens
		c.Tokens += x.Tokens
	}
	mean, stderr := evals.WeightedMeanStderr(plain, weights)
	c.Perplexity = perplexity(mean)
	c.PerplexityStderr = math.Min(c.Perplexity*stderr, math.MaxFloat64)
	if c.KeyTokens > 0 {
		mean, stderr := evals.WeightedMeanStderr(keys, keyWeights)
		p := perplexity(mean)
		s := math.Min(p*stderr, math.MaxFloat64)
		c.LongPPL, c.LongPPLStderr = &p, &s
	}
	return c
}

// perplexity is held below infinity, which JSON cannot say.
func perplexity(nll float64) float64 { return math.Min(math.Exp(nll), math.MaxFloat64) }

// Figures are how many key tokens there are, their perplexity with its error, its change from the
// first method on the same tokens in nats, and plain perplexity.
func (r *Result) Figures(first evals.Result) (all []evals.Figures) {
	for i := range r.Lengths {
		c := &r.Lengths[i]
		keys := float64(c.KeyTokens)
		f := evals.Figures{Length: c.Length, Values: []*float64{
			&keys, c.LongPPL, c.LongPPLStderr, nil, nil, &c.Perplexity,
		}}
		if first, ok := first.(*Result); ok && c.KeyTokens > 0 {
			f.Values[3], f.Values[4] = r.change(first, c.Length)
		}
		all = append(all, f)
	}
	return all
}

// change is the mean of the losses of key tokens less those of another method, window by window.
func (r *Result) change(first *Result, length int) (mean, stderr *float64) {
	var differences, weights []float64
	for i, x := range r.Details {
		if x.Length == length && i < len(first.Details) {
			differences = append(differences, x.KeyNLL-first.Details[i].KeyNLL)
			weights = append(weights, float64(x.KeyTokens))
		}
	}
	m, s := evals.WeightedMeanStderr(differences, weights)
	return &m, &s
}

// Note says where there are no key tokens, or few.
func (r *Result) Note() string {
	for _, c := range r.Lengths {
		if c.KeyTokens < 100 {
			return fmt.Sprintf("%d key tokens at %d tokens: few; more --windows or longer texts "+
				"have more", c.KeyTokens, c.Length)
		}
	}
	return ""
}

// rows are a row per length.
func (r *Result) rows() (rows [][]any) {
	for _, c := range r.Lengths {
		rows = append(rows, []any{
			r.Method, c.Length, c.Windows, c.KeyTokens, c.LongPPL, c.LongPPLStderr, c.Tokens,
			c.Perplexity, c.PerplexityStderr,
		})
	}
	return rows
}

// trials are a row per window.
func (r *Result) trials() (rows [][]any) {
	for _, x := range r.Details {
		rows = append(rows, []any{
			r.Method, x.Length, x.Text, x.Window, x.KeyTokens, x.KeyNLL, x.Tokens, x.NLL,
		})
	}
	return rows
}
