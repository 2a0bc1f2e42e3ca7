package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// measures are the values of Options.Fitness. "" is both, or perplexity where no prompt fits the
// model or the target.
var measures = map[string]struct{ text, needle bool }{
	"":           {true, true},
	"perplexity": {true, false},
	"needle":     {false, true},
	"both":       {true, true},
}

// needleWeight is the weight of the keys' NLL alongside the text's where the fitness is both. Good
// candidates differ by hundredths of a nat in the text and by tenths in the keys: on SmolLM2 keys
// are bought with text at 0.5, and at 0.1 both are gained (evals/RESULTS.md). The study weighs
// more what falls behind the closed forms.
const needleWeight = 0.1

// keysAsked is how many keys are hidden in each window, as far as each has keyRoom tokens of it.
// Four windows of four keys each say as much about the share of passkeys that are found as sixteen
// of one (evals/RESULTS.md).
const keysAsked, keyRoom = 4, 512

// dealt is about how many windows with keys there are for generations: one for each.
const dealt = study.CMAGenerations

// leastKeyLoss and mostKeyLoss bound the loss of a key, in nats per token. Below the first every
// token of the key has a probability near 0.9, greedy decoding gives it, and to make the model
// still surer would be paid for with text. Above the second the key is not found, however far off
// it is, and one such key must not outweigh all others; where keys are all that counts, there is no
// such bound.
const leastKeyLoss, mostKeyLoss = 0.1, 2

// judge scores candidates on windows of text, with keys hidden in them or without. They are
// prepared once, so that all candidates are scored on the same. The judge is all that an evaluation
// needs besides the model, and goes through JSON as it is: a worker elsewhere scores as this
// process does.
type judge struct {
	Name     string          `json:"name"` // in the record
	Rope     ropescale.Rope  `json:"rope"`
	Base     *ropescale.Rung `json:"base,omitempty"` // the model's own scaling
	Readings []study.Reading `json:"readings"`
	// Samples are the sequences of the first passes of Readings (ropescale.Passes), Forked the
	// windows of the others: those of cheap readings, and after them the same in full, for bases.
	Samples []evals.Sample `json:"samples"`
	// Whole take the place of Samples where prefixes can be kept: all text of a window, and more
	// keys, for finalists too, each asked for by itself.
	Whole  []evals.Forked `json:"whole,omitempty"`
	Forked []evals.Forked `json:"forked,omitempty"`
	// Exact says why generations are scored exactly, "" where they are not.
	Exact string `json:"-"`
	// Memory is what the prefixes of cheap readings take, in bytes.
	Memory int64 `json:"-"`
}

// newJudge prepares the readings for a target: windows of the texts, with keys as the options say.
func newJudge(
	e evals.Engine, texts []evals.Text, target, windows int, o *Options,
) (*judge, error) {
	j := &judge{Rope: o.Info.Rope(), Base: o.Info.Base}
	sequences, err := evals.SampleWindows(e, texts, target, windows)
	if err != nil {
		return nil, o.Called.Wrong("Texts", ": %w", err)
	}
	d := dealer{
		judge: j, engine: e, target: target, text: measures[o.Fitness].text,
		keys:  cmp.Or(o.Keys, min(max(target/keyRoom, 1), keysAsked)),
		share: 1 / float64(len(sequences)),
	}
	needle := measures[o.Fitness].needle
	if o.Algorithm == "cma" {
		if j.Memory, j.Exact = d.forks(texts, sequences, needle, o); j.Exact != "" {
			needle, err = d.full(texts, sequences, needle, o)
		}
	} else {
		needle, err = d.full(nil, sequences, needle, o)
	}
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d windows of %d tokens", windows, target)
	switch {
	case !needle:
		j.Name = "perplexity of " + what
	case !d.text:
		j.Name = "perplexity of the keys hidden in " + what
	default:
		j.Name = fmt.Sprintf("perplexity of %s, and with a weight of %g of the keys hidden in them",
			what, needleWeight)
	}
	return j, nil
}

// dealer fills a judge.
type dealer struct {
	judge  *judge
	engine evals.Engine
	target int
	text   bool // the text of a window with keys is scored too
	keys   int  // in a window
	share  float64
}

// full adds readings that are evaluated in full. With texts, generations and finalists have some of
// their own. It returns whether there are keys.
func (d *dealer) full(texts []evals.Text, windows [][]int, needle bool, o *Options) (bool, error) {
	if needle {
		if err := d.hide(windows, "", o.Seed, ""); err != nil {
			switch {
			case o.Keys > 0:
				return false, o.Called.Wrong("Keys", " %d: %w", o.Keys, err)
			case o.Fitness != "":
				return false, o.Called.Wrong("Fitness", " %s: %w", o.Fitness, err)
			}
			needle = false
		}
	}
	switch {
	case !needle:
		d.plain(windows)
	case texts != nil:
		return true, d.deal(texts, windows, o.Seed)
	}
	return needle, nil
}

// plain adds windows without keys.
func (d *dealer) plain(windows [][]int) {
	for i, w := range windows {
		d.judge.add(
			evals.Sample{Tokens: w, Scored: [][]evals.Span{{{From: 1, To: len(w)}}}},
			study.Reading{
				Name: fmt.Sprintf("window %d",
					i+1), Kind: "text", Tokens: d.target, Weight: d.share,
			})
	}
}

// hide adds windows with keys hidden in them.
func (d *dealer) hide(windows [][]int, use study.Use, seed uint64, name string) error {
	text, weight := d.text && use != study.ForFinalists, needleWeight
	if !d.text {
		weight = 1
	}
	samples, err := evals.HideKeys(d.engine, windows, d.keys, evals.PasskeyOptions{Seed: seed})
	if err != nil {
		return err
	}
	for i, s := range samples {
		var readings []study.Reading
		if text {
			readings = append(readings, study.Reading{
				Name: fmt.Sprintf("%swindow %d", name,
					i+1), Kind: "text", Weight: d.share, Use: use,
			})
		} else {
			s.Scored = s.Scored[1:]
		}
		for k := range d.keys {
			readings = append(readings, study.Reading{
				Name: fmt.Sprintf("%skey %d of window %d", name, k+1, i+1), Kind: "key",
				Weight: weight * d.share / float64(d.keys), Use: use,
			})
		}
		readings[0].Tokens = d.target
		d.judge.add(s, readings...)
	}
	return nil
}

// deal adds what generations and finalists alone are scored on. Each generation looks for other
// keys, in other windows as far as the texts reach: the search fits what it is scored on again and
// again, and that says nothing any more.
func (d *dealer) deal(texts []evals.Text, windows [][]int, seed uint64) error {
	others := d.others(texts, windows)
	for round := range max(dealt/len(others), 1) {
		name := fmt.Sprintf("round %d, ", round+1)
		err := d.hide(others, study.ForGenerations, seed^uint64(round+1)<<32, name)
		if err != nil {
			return err
		}
	}
	return d.hide(windows, study.ForFinalists, ^seed, "further ")
}

// others are windows for generations: more than those given, as far as the texts reach.
func (d *dealer) others(texts []evals.Text, windows [][]int) [][]int {
	for times := dealt / len(windows); times > 1; times /= 2 {
		more, err := evals.SampleWindows(d.engine, texts, d.target, times*len(windows))
		if err == nil {
			return more
		}
	}
	return windows
}

// first is the tokens of the first sequence.
func (j *judge) first() []int {
	if len(j.Samples) > 0 {
		return j.Samples[0].Tokens
	}
	return j.Whole[0].Tokens
}

func (j *judge) add(s evals.Sample, readings ...study.Reading) {
	j.Samples = append(j.Samples, s)
	j.Readings = append(j.Readings, readings...)
}

// check refuses what newJudge did not make, and what would take an engine outside its vocabulary.
func (j *judge) check(length, vocabulary int) error {
	if len(j.Readings) == 0 || j.Readings[0].Tokens < 1 {
		return errors.New("the search has no readings")
	}
	passes := study.Passes(j.Readings)
	first := len(j.Samples) + len(j.Whole)
	if n := first + 2*len(j.Forked); len(passes) != n {
		return fmt.Errorf("the search has readings of %d sequences, and %d sequences",
			len(passes), n)
	}
	for i, f := range slices.Concat(j.Whole, j.Forked) {
		if err := j.checkForked(f, passes[len(j.Samples)+i], length, vocabulary); err != nil {
			return fmt.Errorf("forked window %d of the search: %w", i, err)
		}
	}
	for i, s := range j.Samples {
		err := s.Check()
		switch {
		case err != nil:
		case len(s.Scored) != len(passes[i]):
			err = fmt.Errorf("%d scores for %d readings", len(s.Scored), len(passes[i]))
		case len(s.Tokens) > length:
			err = fmt.Errorf("%d tokens at a length of %d", len(s.Tokens), length)
		}
		for _, t := range s.Tokens {
			if t < 0 || t >= vocabulary {
				err = fmt.Errorf("token %d is not in the vocabulary of %d", t, vocabulary)
			}
		}
		if err != nil {
			return fmt.Errorf("sequence %d of the search: %w", i, err)
		}
	}
	return nil
}

// checkForked is check for a window of cheap readings, which a pass is of.
func (j *judge) checkForked(f evals.Forked, pass []int, length, vocabulary int) error {
	if err := f.Check(); err != nil {
		return err
	}
	if f.Scores() != len(pass) {
		return fmt.Errorf("%d scores for %d readings", f.Scores(), len(pass))
	}
	sequences := [][]int{f.Tokens}
	for _, fork := range f.Forks {
		sequences = append(sequences, fork.Tokens)
		if n := fork.At + len(fork.Tokens); n > length {
			return fmt.Errorf("%d tokens at a length of %d", n, length)
		}
	}
	for _, t := range slices.Concat(sequences...) {
		if t < 0 || t >= vocabulary {
			return fmt.Errorf("token %d is not in the vocabulary of %d", t, vocabulary)
		}
	}
	return nil
}

// tokens is how many one evaluation takes on all that the fitness is made of.
func (j *judge) tokens() int {
	n := 0
	for _, r := range j.Readings {
		if r.Use == "" {
			n += r.Tokens
		}
	}
	return n
}

// length is that of the longest sequence, in tokens.
func (j *judge) length() int {
	n := 0
	for _, s := range j.Samples {
		n = max(n, len(s.Tokens))
	}
	for _, f := range slices.Concat(j.Whole, j.Forked) {
		n = max(n, len(f.Tokens))
		for _, fork := range f.Forks {
			n = max(n, fork.At+len(fork.Tokens))
		}
	}
	return n
}

// set gives an engine a rung that serves every length up to the target.
func (j *judge) set(e evals.Engine, g ropescale.Rung) error {
	l, err := ropescale.NewLadder(j.Rope, j.Base, g)
	if err != nil {
		return err
	}
	return e.SetLadder(l)
}

// evaluate scores a rung on some of the readings: the mean NLL of each, in nats, of a key between
// leastKeyLoss and mostKeyLoss, and the tokens that they took. Factors with which the model
// computes no finite number have +Inf; that is an answer, not an error. Cheap readings have a base.
func (j *judge) evaluate(
	ctx context.Context, e evals.Engine, kept *prefixes, g ropescale.Rung, base *ropescale.Rung,
	readings []int,
) (losses []float64, tokens int, err error) {
	for _, r := range readings {
		if r < 0 || r >= len(j.Readings) {
			return nil, 0, fmt.Errorf("there is no reading %d", r)
		}
	}
	losses = make([]float64, len(readings))
	text := slices.ContainsFunc(j.Readings, func(r study.Reading) bool {
		return r.Kind == "text"
	})
	for i, pass := range study.Passes(j.Readings) {
		asked := func(r int) bool { return slices.Contains(readings, r) }
		if !slices.ContainsFunc(pass, asked) {
			continue
		}
		scores, err := j.score(ctx, e, kept, i, g, base)
		if errors.Is(err, evals.ErrNotFinite) {
			scores, err = slices.Repeat([]float64{math.Inf(1)}, len(pass)), nil
		}
		if err != nil {
			return nil, 0, err
		}
		tokens += j.Readings[pass[0]].Tokens
		for k, r := range pass {
			if j.Readings[r].Kind == "key" {
				scores[k] = max(scores[k], leastKeyLoss)
				if text { // which shows whether the model computes anything finite
					scores[k] = min(scores[k], mostKeyLoss)
				}
			}
			if at := slices.Index(readings, r); at >= 0 {
				losses[at] = scores[k]
			}
		}
	}
	return losses, tokens, nil
}
