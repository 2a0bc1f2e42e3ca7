package longrope

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// measures are what --fitness takes. Without it, it is both, or perplexity where no prompt fits the model or the target.
var measures = map[string]struct{ text, needle bool }{
	"":           {true, true},
	"perplexity": {true, false},
	"needle":     {false, true},
	"both":       {true, true},
}

// needleWeight is the weight of the keys' NLL beside the text's with --fitness both. Good candidates differ by hundredths of a nat
// in the text and by tenths in the keys: at 0.5 both are gained, at 1 keys alone (evals/RESULTS.md).
const needleWeight = 0.5

// keysAsked is how many keys are hidden in each window, as far as each has keyRoom tokens of it. Four windows of four keys each say
// as much about the share of passkeys that are found as sixteen of one (evals/RESULTS.md).
const keysAsked, keyRoom = 4, 512

// dealt is how many windows with keys are there for generations, about: one for each.
const dealt = ropescale.CMAGenerations

// found and lost bound the loss of a key, in nats per token. Below the first every token of the key has a probability near
// 0.9, greedy decoding gives it, and to make the model still surer would be paid for with text; above the second the key is not
// found, however far off it is, and one such key must not outweigh all others; where keys are all that counts, there is no such bound.
const found, lost = 0.1, 2

// judge scores candidates on what they read: windows of text, with keys hidden in them or without. What is read is prepared
// once, so that all candidates read the same. It is all that an evaluation needs beside the model, and goes through JSON as
// it is: a worker elsewhere scores as this process does.
type judge struct {
	Name     string              `json:"name"` // in the record
	Rope     ropescale.Rope      `json:"rope"`
	Base     *ropescale.Rung     `json:"base,omitempty"` // the model's own scaling
	Readings []ropescale.Reading `json:"readings"`
	// Samples are what the passes of Readings (ropescale.Passes) read.
	Samples []evals.Sample `json:"samples"`
}

func newJudge(e evals.Engine, rope ropescale.Rope, base *ropescale.Rung, texts []evals.Text, target int, f searchFlags) (*judge, error) {
	j := &judge{Rope: rope, Base: base}
	windows, err := evals.SampleWindows(e, texts, target, f.windows)
	if err != nil {
		return nil, fmt.Errorf("--text: %w", err)
	}
	kind := measures[f.fitness]
	keys := cmp.Or(f.keys, min(max(target/keyRoom, 1), keysAsked))
	share := 1 / float64(len(windows))
	// read adds windows with keys hidden in them.
	read := func(windows [][]int, use ropescale.Use, seed uint64, name string) error {
		text, weight := kind.text && use != ropescale.ForFinalists, needleWeight
		if !kind.text {
			weight = 1
		}
		samples, err := evals.HideKeys(e, windows, keys, evals.PasskeyOptions{Seed: seed})
		if err != nil {
			return err
		}
		for i, s := range samples {
			var readings []ropescale.Reading
			if text {
				readings = append(readings, ropescale.Reading{Name: fmt.Sprintf("%swindow %d", name, i+1), Kind: "text", Weight: share, Use: use})
			} else {
				s.Scored = s.Scored[1:]
			}
			for k := range keys {
				readings = append(readings, ropescale.Reading{Name: fmt.Sprintf("%skey %d of window %d", name, k+1, i+1), Kind: "key", Weight: weight * share / float64(keys), Use: use})
			}
			readings[0].Tokens = target
			j.add(s, readings...)
		}
		return nil
	}
	if kind.needle {
		if err := read(windows, "", f.seed, ""); err != nil {
			switch {
			case f.keys > 0:
				return nil, fmt.Errorf("--keys %d: %w", f.keys, err)
			case f.fitness != "":
				return nil, fmt.Errorf("--fitness %s: %w", f.fitness, err)
			}
			kind.needle = false
		}
	}
	switch {
	case !kind.needle:
		for i, w := range windows {
			j.add(evals.Sample{Tokens: w, Scored: [][]evals.Span{{{From: 1, To: len(w)}}}}, ropescale.Reading{Name: fmt.Sprintf("window %d", i+1), Kind: "text", Tokens: target, Weight: share})
		}
	case f.algorithm == "cma":
		// Each generation looks for other keys, in other windows as far as the texts reach: what is searched with
		// again and again is fitted, and says nothing any more.
		others := windows
		for times := dealt / len(windows); times > 1; times /= 2 {
			if more, err := evals.SampleWindows(e, texts, target, times*len(windows)); err == nil {
				others = more
				break
			}
		}
		for round := range max(dealt/len(others), 1) {
			if err := read(others, ropescale.ForGenerations, f.seed^uint64(round+1)<<32, fmt.Sprintf("round %d, ", round+1)); err != nil {
				return nil, err
			}
		}
		if err := read(windows, ropescale.ForFinalists, ^f.seed, "further "); err != nil {
			return nil, err
		}
	}
	what := fmt.Sprintf("%d windows of %d tokens", f.windows, target)
	switch {
	case !kind.needle:
		j.Name = "perplexity of " + what
	case !kind.text:
		j.Name = "perplexity of the keys hidden in " + what
	default:
		j.Name = fmt.Sprintf("perplexity of %s, and with a weight of %g of the keys hidden in them", what, needleWeight)
	}
	return j, nil
}

func (j *judge) add(s evals.Sample, readings ...ropescale.Reading) {
	j.Samples = append(j.Samples, s)
	j.Readings = append(j.Readings, readings...)
}

// check refuses what newJudge did not make, and what would make an engine read outside its vocabulary.
func (j *judge) check(length, vocabulary int) error {
	if len(j.Readings) == 0 || j.Readings[0].Tokens < 1 {
		return errors.New("the search has no readings")
	}
	passes := ropescale.Passes(j.Readings)
	if len(passes) != len(j.Samples) {
		return fmt.Errorf("the search has readings of %d sequences, and %d sequences", len(passes), len(j.Samples))
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

// tokens is what one evaluation on all that the fitness is made of takes.
func (j *judge) tokens() int {
	n := 0
	for _, r := range j.Readings {
		if r.Use == "" {
			n += r.Tokens
		}
	}
	return n
}

// length is that of the longest reading, in tokens.
func (j *judge) length() int {
	n := 0
	for _, s := range j.Samples {
		n = max(n, len(s.Tokens))
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

// evaluate scores a rung on some of the readings: the mean NLL of each, in nats, of a key from found to lost, and the tokens
// that they took. Factors with which the model computes no finite number are worth +Inf; that is an answer, not an error.
func (j *judge) evaluate(ctx context.Context, e evals.Engine, g ropescale.Rung, readings []int) (losses []float64, tokens int, err error) {
	if err := j.set(e, g); err != nil {
		return nil, 0, err
	}
	for _, r := range readings {
		if r < 0 || r >= len(j.Readings) {
			return nil, 0, fmt.Errorf("there is no reading %d", r)
		}
	}
	losses = make([]float64, len(readings))
	text := slices.ContainsFunc(j.Readings, func(r ropescale.Reading) bool { return r.Kind == "text" })
	for i, pass := range ropescale.Passes(j.Readings) {
		if !slices.ContainsFunc(pass, func(r int) bool { return slices.Contains(readings, r) }) {
			continue
		}
		scores, err := j.Samples[i].Score(ctx, e)
		if errors.Is(err, evals.ErrNotFinite) {
			scores, err = slices.Repeat([]float64{math.Inf(1)}, len(pass)), nil
		}
		if err != nil {
			return nil, 0, err
		}
		tokens += len(j.Samples[i].Tokens)
		for k, r := range pass {
			if j.Readings[r].Kind == "key" {
				scores[k] = max(scores[k], found)
				if text {
					scores[k] = min(scores[k], lost) // the text says whether a model computes anything finite
				}
			}
			if at := slices.Index(readings, r); at >= 0 {
				losses[at] = scores[k]
			}
		}
	}
	return losses, tokens, nil
}

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
