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

// measures are what --fitness takes.
var measures = map[string]struct{ text, needle bool }{
	"perplexity": {true, false},
	"needle":     {false, true},
	"both":       {true, true},
}

// needleWeight is the share of the keys' NLL that is added to the text's with --fitness both. Between good candidates the
// text differs by hundredths of a nat and the keys by tenths, so a tenth lets both have a say; with equal weights the text got
// worse by 8 % on the default model (evals/RESULTS.md).
const needleWeight = 0.1

// judge gives a candidate its fitness: exp of the mean NLL of the windows, of hidden keys, or of the first and a share of the
// second. What is read is prepared once, so that all candidates read the same.
type judge struct {
	name    string // in the record
	windows [][]int
	needles []evals.Sample
	tokens  int // that one evaluation reads
}

func newJudge(e evals.Engine, texts []evals.Text, target int, f searchFlags) (*judge, error) {
	j := &judge{}
	kind := measures[f.fitness]
	if kind.text {
		var err error
		if j.windows, err = evals.SampleWindows(e, texts, target, f.windows); err != nil {
			return nil, fmt.Errorf("--text: %w", err)
		}
		j.name = fmt.Sprintf("perplexity of %d windows of %d tokens", f.windows, target)
	}
	if kind.needle {
		// As many prompts as windows, beside windows half as many; the needle at depths evenly apart.
		n := f.windows
		if kind.text {
			n = (n + 1) / 2
		}
		var depths []float64
		for i := range n {
			depths = append(depths, (float64(i)+0.5)/float64(n))
		}
		var err error
		j.needles, err = evals.PasskeySamples(e, evals.PasskeyOptions{Lengths: []int{target}, Depths: depths, Trials: 1, Seed: f.seed})
		if err != nil {
			return nil, fmt.Errorf("--fitness %s: %w", f.fitness, err)
		}
		name := fmt.Sprintf("perplexity of %d keys hidden in %d tokens", n, target)
		if j.name != "" {
			name = fmt.Sprintf("%s, and with a weight of %g %s", j.name, needleWeight, name)
		}
		j.name = name
	}
	for _, w := range j.windows {
		j.tokens += len(w)
	}
	for _, s := range j.needles {
		j.tokens += len(s.Tokens)
	}
	return j, nil
}

// fitness evaluates a rung. Factors with which the model computes no finite number are worth +Inf; that is an answer,
// not an error.
func (j *judge) fitness(ctx context.Context, s *searching, g ropescale.Rung) (float64, error) {
	if err := s.set(g); err != nil {
		return 0, err
	}
	var text, needle float64
	var err error
	if len(j.windows) > 0 {
		text, _, err = evals.Score(ctx, s.e, j.windows, 1)
	}
	if len(j.needles) > 0 && err == nil {
		needle, _, err = evals.ScoreSamples(ctx, s.e, j.needles)
		if len(j.windows) > 0 {
			needle *= needleWeight
		}
	}
	if errors.Is(err, evals.ErrNotFinite) {
		return math.Inf(1), nil
	}
	return math.Exp(text + needle), err
}

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
