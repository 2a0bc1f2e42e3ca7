package hiddenkeys

import (
	"context"
	"fmt"
	"slices"

	"github.com/longrope/longrope/evals"
)

// Window is what a method makes of a window: mean losses in nats.
type Window struct {
	Length  int       `json:"length"`
	Text    string    `json:"text"`
	Window  int       `json:"window"`
	TextNLL float64   `json:"text_nll"` // over the text, without the keys' sentences
	KeyNLL  []float64 `json:"key_nll"`  // of each key
}

// keys is the mean over the keys.
func (w Window) keys() float64 {
	mean, _ := evals.MeanStderr(w.KeyNLL)
	return mean
}

// Cell sums up a length. Errors are standard errors over windows.
type Cell struct {
	Length        int     `json:"length"`
	Windows       int     `json:"windows"`
	Keys          int     `json:"keys"`
	TextNLL       float64 `json:"text_nll"`
	TextNLLStderr float64 `json:"text_nll_stderr"`
	KeysNLL       float64 `json:"keys_nll"`
	KeysNLLStderr float64 `json:"keys_nll_stderr"`
}

// Result is what was measured of one method.
type Result struct {
	evals.Provenance
	Lengths []Cell   `json:"lengths"`
	Details []Window `json:"details"`
}

// measure reads a window, and asks for each of its keys behind it.
func (r *Result) measure(
	ctx context.Context, e evals.Engine, w window, p evals.Progress,
) error {
	out := Window{Length: w.length, Text: w.text, Window: w.number}
	label := fmt.Sprintf("%s %s, %s, %d tokens", name, r.Method, w.text, w.length)
	total := 1 + len(w.Forks)
	p.Report(0, total, label)
	values, err := evals.CheckedNLL(ctx, e, w.Tokens, 1)
	if err != nil {
		return err
	}
	r.EvaluatedTokens += len(w.Tokens)
	n := 0
	for _, s := range w.Forked.Text {
		for _, v := range values[s.From-1 : s.To-1] {
			out.TextNLL += v
		}
		n += s.To - s.From
	}
	out.TextNLL /= float64(n)
	for k, fork := range w.Forks {
		p.Report(1+k, total, label)
		all := slices.Concat(w.Tokens[:fork.At], fork.Tokens)
		values, err := evals.CheckedNLL(ctx, e, all, fork.At+fork.From)
		if err != nil {
			return fmt.Errorf("key %d: %w", k+1, err)
		}
		r.EvaluatedTokens += len(all)
		mean, _ := evals.MeanStderr(values)
		out.KeyNLL = append(out.KeyNLL, mean)
	}
	r.Details = append(r.Details, out)
	return nil
}

// sum sums up each length.
func (r *Result) sum() {
	for from := 0; from < len(r.Details); {
		c := Cell{Length: r.Details[from].Length}
		var text, keys []float64
		for ; from < len(r.Details) && r.Details[from].Length == c.Length; from++ {
			w := r.Details[from]
			text, keys = append(text, w.TextNLL), append(keys, w.keys())
			c.Keys += len(w.KeyNLL)
		}
		c.Windows = len(text)
		c.TextNLL, c.TextNLLStderr = evals.MeanStderr(text)
		c.KeysNLL, c.KeysNLLStderr = evals.MeanStderr(keys)
		r.Lengths = append(r.Lengths, c)
	}
}

// Figures are the losses, and how much they are above those of the first method on the same
// windows, with standard errors over windows.
func (r *Result) Figures(first evals.Result) (all []evals.Figures) {
	for i := range r.Lengths {
		c := &r.Lengths[i]
		f := evals.Figures{Length: c.Length, Values: []*float64{
			&c.TextNLL, nil, nil, &c.KeysNLL, nil, nil,
		}}
		if first, ok := first.(*Result); ok {
			f.Values[1], f.Values[2] = r.above(first, c.Length, func(w Window) float64 {
				return w.TextNLL
			})
			f.Values[4], f.Values[5] = r.above(first, c.Length, Window.keys)
		}
		all = append(all, f)
	}
	return all
}

// above is how much the windows of a length are above those of another method.
func (r *Result) above(
	first *Result, length int, loss func(Window) float64,
) (mean, stderr *float64) {
	var differences []float64
	for i, w := range r.Details {
		if w.Length == length && i < len(first.Details) {
			differences = append(differences, loss(w)-loss(first.Details[i]))
		}
	}
	m, s := evals.MeanStderr(differences)
	return &m, &s
}

// rows are a row per length.
func (r *Result) rows() (rows [][]any) {
	for _, c := range r.Lengths {
		rows = append(rows, []any{
			r.Method, c.Length, c.Windows, c.Keys, c.TextNLL, c.TextNLLStderr, c.KeysNLL,
			c.KeysNLLStderr,
		})
	}
	return rows
}

// trials are a row per key, and one of key 0 for the text.
func (r *Result) trials() (rows [][]any) {
	for _, w := range r.Details {
		rows = append(rows, []any{r.Method, w.Length, w.Text, w.Window, 0, w.TextNLL})
		for k, v := range w.KeyNLL {
			rows = append(rows, []any{r.Method, w.Length, w.Text, w.Window, k + 1, v})
		}
	}
	return rows
}
