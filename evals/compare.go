package evals

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// CompareVersion is the task version of Compare.
const CompareVersion = 1

// CompareOptions are the arguments of Compare; zero values are the defaults named.
type CompareOptions struct {
	// Lengths in tokens, for both tasks; nil is the engine's MaxLength alone.
	Lengths []int `json:"lengths"`
	// Texts for perplexity; none leaves perplexity out.
	Texts []Text `json:"texts"`
	// Perplexity's Length is set by Lengths, its Progress by Progress.
	Perplexity PerplexityOptions `json:"perplexity"`
	// Passkey's Lengths are set by Lengths, its Progress by Progress.
	Passkey PasskeyOptions `json:"passkey"`
	// NoPasskey leaves passkeys out.
	NoPasskey bool `json:"no_passkey"`

	Progress Progress `json:"-"`
}

// Row is a line of the comparison. What was not measured is nil.
type Row struct {
	Method     string   `json:"method"`
	Length     int      `json:"length"`
	Perplexity *float64 `json:"perplexity"`
	Passkey    *float64 `json:"passkey"` // share of keys found, 0 to 1

	PerplexityStderr *float64 `json:"perplexity_stderr,omitempty"`
	BitsPerByte      *float64 `json:"bits_per_byte,omitempty"`
	// NLLChange is the mean difference in NLL from the first method at this length, over the same windows, in nats a token:
	// exp of it is the ratio of the perplexities. Its error is that of the differences, much smaller than of either.
	NLLChange       *float64 `json:"nll_change,omitempty"`
	NLLChangeStderr *float64 `json:"nll_change_stderr,omitempty"`

	PasskeyLow  *float64 `json:"passkey_low,omitempty"`
	PasskeyHigh *float64 `json:"passkey_high,omitempty"`
	PasskeyNLL  *float64 `json:"passkey_nll,omitempty"`
}

// Comparison is what Compare measured: rows by method, then length, and the results they come from.
type Comparison struct {
	Provenance
	Rows       []Row               `json:"rows"`
	Perplexity []*PerplexityResult `json:"perplexity"` // by method, then length
	Passkey    []*PasskeyResult    `json:"passkey"`    // by method
}

// Compare measures every method at every length on one loaded model, with the same windows and the same keys. Afterwards
// the engine has the model file's own factors again.
func Compare(ctx context.Context, e Engine, methods []Method, given CompareOptions) (c *Comparison, err error) {
	o := given
	if len(methods) == 0 {
		return nil, errors.New("no method to compare: give at least one")
	}
	for i, m := range methods {
		if m.Name == "" || slices.ContainsFunc(methods[:i], func(n Method) bool { return n.Name == m.Name }) {
			return nil, fmt.Errorf("method %d has no name or the name %q of an earlier one", i, m.Name)
		}
	}
	if len(o.Texts) == 0 && o.NoPasskey {
		return nil, errors.New("nothing to measure: give a text for perplexity or leave passkey on")
	}
	if len(o.Lengths) == 0 {
		o.Lengths = []int{e.Info().MaxLength}
	}

	// What can fail for want of text or of length fails before the first model call, not after an hour.
	var bos []int
	var documents []document
	windows, counts := 0, make([]int, len(o.Lengths))
	if len(o.Texts) > 0 {
		if bos, err = prefix(e); err != nil {
			return nil, err
		}
		if documents, err = tokenize(e, o.Texts, slices.Max(o.Lengths)-len(bos)); err != nil {
			return nil, err
		}
		for i, length := range o.Lengths {
			p, err := o.perplexity(length, nil).effective(e, len(bos))
			if err != nil {
				return nil, err
			}
			if _, counts[i], err = planWindows(documents, p, len(bos)); err != nil {
				return nil, err
			}
			windows += counts[i]
		}
	}
	trials := 0
	if !o.NoPasskey {
		o.Passkey.Lengths = o.Lengths
		p, err := o.Passkey.effective(e)
		if err != nil {
			return nil, err
		}
		b, err := p.builder(e)
		if err != nil {
			return nil, err
		}
		for _, length := range []int{slices.Min(p.Lengths), slices.Max(p.Lengths)} {
			if _, err := b.build(length, p.Depths[0], 0); err != nil {
				return nil, err
			}
		}
		p.Progress = nil
		o.Passkey = p
		trials = len(p.Lengths) * len(p.Depths) * p.Trials
	}

	c = &Comparison{Provenance: newProvenance("compare", CompareVersion, e, Method{}, o.Passkey.Seed, given, o)}
	done, total := 0, len(methods)*(windows+trials)
	step := func(tasks int) Progress { // progress of a task that starts after what is done
		base := done
		done += tasks
		return func(n, _ int, label string) { o.Progress.report(base+n, total, label) }
	}
	defer func() { err = errors.Join(err, e.SetLadder(nil)) }()
	for _, m := range methods {
		if err := e.SetLadder(m.Ladder); err != nil {
			return nil, fmt.Errorf("method %q: %w", m.Name, err)
		}
		rows := make([]Row, len(o.Lengths))
		for i, length := range o.Lengths {
			rows[i] = Row{Method: m.Name, Length: length}
			if len(documents) == 0 {
				continue
			}
			r, err := perplexity(ctx, e, m, bos, documents, o.perplexity(length, step(counts[i])))
			if err != nil {
				return nil, fmt.Errorf("method %q, length %d: %w", m.Name, length, err)
			}
			c.Perplexity = append(c.Perplexity, r)
			c.EvaluatedTokens += r.EvaluatedTokens
			rows[i].Perplexity, rows[i].PerplexityStderr, rows[i].BitsPerByte = &r.Perplexity, &r.PerplexityStderr, &r.BitsPerByte
			if first := c.Perplexity[i]; first != r {
				change, stderr := nllChange(first, r)
				rows[i].NLLChange, rows[i].NLLChangeStderr = &change, &stderr
			}
		}
		if !o.NoPasskey {
			p := o.Passkey
			p.Progress = step(trials)
			r, err := Passkey(ctx, e, m, p)
			if err != nil {
				return nil, fmt.Errorf("method %q: %w", m.Name, err)
			}
			c.Passkey = append(c.Passkey, r)
			c.EvaluatedTokens += r.EvaluatedTokens
			for i := range rows {
				l := &r.Lengths[i]
				rows[i].Passkey, rows[i].PasskeyLow, rows[i].PasskeyHigh, rows[i].PasskeyNLL = &l.Rate, &l.Low, &l.High, l.NLL
			}
		}
		c.Rows = append(c.Rows, rows...)
	}
	c.finish()
	return c, nil
}

// nllChange is the mean of b's NLL less a's over the windows they share, tokens weighing the same, and its standard error.
func nllChange(a, b *PerplexityResult) (mean, stderr float64) {
	differences, weights := make([]float64, len(a.Details)), make([]float64, len(a.Details))
	for i, w := range a.Details {
		differences[i], weights[i] = b.Details[i].NLL-w.NLL, float64(w.Tokens)
	}
	return WeightedMeanStderr(differences, weights)
}

func (o CompareOptions) perplexity(length int, p Progress) PerplexityOptions {
	po := o.Perplexity
	po.Length, po.Progress = length, p
	return po
}

// WriteCSV writes a row per method and length.
func (c *Comparison) WriteCSV(w io.Writer) error {
	var rows [][]any
	for _, r := range c.Rows {
		rows = append(rows, []any{r.Method, r.Length, r.Perplexity, r.PerplexityStderr, r.BitsPerByte, r.NLLChange, r.NLLChangeStderr, r.Passkey, r.PasskeyLow, r.PasskeyHigh, r.PasskeyNLL})
	}
	return writeCSV(w, []string{"method", "length", "perplexity", "perplexity_stderr", "bits_per_byte", "nll_change", "nll_change_stderr", "passkey", "passkey_low", "passkey_high", "passkey_nll"}, rows)
}
