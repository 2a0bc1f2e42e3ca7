package longrope

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

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

// needleWeight is the share of the keys' NLL that is added to the text's with --fitness both. Between good candidates the text
// differs by hundredths of a nat and the keys by tenths. On the default model a search with a weight of 0.3 found as many keys as
// YaRN, three with 0.2 somewhat fewer at a better perplexity of text; with equal weights the text gets worse by 8 %.
const needleWeight = 0.3

// found is the least loss of a key, in nats per token. Below it every token of the key has a probability near 0.9, greedy
// decoding gives it, and to make the model still surer would be paid for with text.
const found = 0.1

// judge scores candidates on what they read: windows of text, prompts with hidden keys, or both. What is read is prepared
// once, so that all candidates read the same. It is all that an evaluation needs beside the model, and goes through JSON as
// it is: a worker elsewhere scores as this process does.
type judge struct {
	Name     string              `json:"name"` // in the record
	Rope     ropescale.Rope      `json:"rope"`
	Base     *ropescale.Rung     `json:"base,omitempty"` // the model's own scaling
	Samples  []evals.Sample      `json:"samples"`        // what Readings are made of
	Readings []ropescale.Reading `json:"readings"`
}

func newJudge(e evals.Engine, rope ropescale.Rope, base *ropescale.Rung, texts []evals.Text, target int, f searchFlags) (*judge, error) {
	j := &judge{Rope: rope, Base: base}
	kind := measures[f.fitness]
	if kind.text {
		windows, err := evals.SampleWindows(e, texts, target, f.windows)
		if err != nil {
			return nil, fmt.Errorf("--text: %w", err)
		}
		for i, w := range windows {
			j.add("text", fmt.Sprintf("window %d", i+1), evals.Sample{Tokens: w, From: 1}, 1/float64(len(windows)))
		}
		j.Name = fmt.Sprintf("perplexity of %d windows of %d tokens", f.windows, target)
	}
	if kind.needle {
		// As many prompts as windows, beside windows half as many. The needle is at depths evenly apart from the beginning on:
		// what is farther from the question is harder, and the key right before it is found by all.
		n, weight := f.windows, 1.0
		if kind.text {
			n, weight = (n+1)/2, needleWeight
		}
		var depths []float64
		for i := range n {
			depths = append(depths, float64(i)/float64(n))
		}
		needles, err := evals.PasskeySamples(e, evals.PasskeyOptions{Lengths: []int{target}, Depths: depths, Trials: 1, Seed: f.seed})
		if err != nil && f.fitness == "" {
			return j, nil
		}
		if err != nil {
			return nil, fmt.Errorf("--fitness %s: %w", f.fitness, err)
		}
		for i, s := range needles {
			j.add("key", fmt.Sprintf("key %d", i+1), s, weight/float64(n))
		}
		name := fmt.Sprintf("perplexity of %d keys hidden in %d tokens", n, target)
		if j.Name != "" {
			name = fmt.Sprintf("%s, and with a weight of %g %s", j.Name, needleWeight, name)
		}
		j.Name = name
	}
	return j, nil
}

func (j *judge) add(kind, name string, s evals.Sample, weight float64) {
	j.Samples = append(j.Samples, s)
	j.Readings = append(j.Readings, ropescale.Reading{Name: name, Kind: kind, Tokens: len(s.Tokens), Weight: weight})
}

// tokens is what one evaluation on all readings takes.
func (j *judge) tokens() int {
	n := 0
	for _, r := range j.Readings {
		n += r.Tokens
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

// evaluate scores a rung on some of the readings: the mean NLL of each, in nats, of a key at least found, and the tokens that
// they took. Factors with which the model computes no finite number are worth +Inf; that is an answer, not an error.
func (j *judge) evaluate(ctx context.Context, e evals.Engine, g ropescale.Rung, readings []int) (losses []float64, tokens int, err error) {
	if err := j.set(e, g); err != nil {
		return nil, 0, err
	}
	for _, i := range readings {
		if i < 0 || i >= len(j.Samples) {
			return nil, 0, fmt.Errorf("there is no reading %d", i)
		}
		loss, _, err := evals.ScoreSamples(ctx, e, j.Samples[i:i+1])
		if errors.Is(err, evals.ErrNotFinite) {
			loss, err = math.Inf(1), nil
		}
		if err != nil {
			return nil, 0, err
		}
		if j.Readings[i].Kind == "key" {
			loss = max(loss, found)
		}
		losses = append(losses, loss)
		tokens += len(j.Samples[i].Tokens)
	}
	return losses, tokens, nil
}

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
