package checkpoints

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

//go:embed check.py
var checkScript string

// Job is a checkpoint for check.py to load.
type Job struct {
	Dir    string `json:"dir"`
	Pairs  int    `json:"pairs"`  // rotated pairs of a head
	Length int    `json:"length"` // beyond it the long factors serve
	Tokens []int  `json:"tokens"`
}

// Rotation is how transformers rotates at one length.
type Rotation struct {
	InvFreq   []float64 `json:"inv_freq"`
	Attention []float64 `json:"attention"`
}

// Checked is what transformers makes of a checkpoint.
type Checked struct {
	Version string      `json:"transformers"`
	Error   string      `json:"error"`
	Short   Rotation    `json:"short"`
	Long    Rotation    `json:"long"`
	Softmax []float64   `json:"softmax"`
	Logits  [][]float64 `json:"logits"`
}

// Lacks says that transformers wants a module that is not there: accelerate, for MXFP4.
func (c *Checked) Lacks() bool { return strings.Contains(strings.ToLower(c.Error), "accelerate") }

// Tolerance bounds Deviation. transformers computes inverse frequencies in float32, to some 1e-6 of
// them, and check.py reads them from cos and sin in float32, where the angle of 1 rad has 1e-7.
const Tolerance = 3e-6

// Deviation is the largest distance of a rotation from what a row makes of rope, as a share;
// infinite where the number of pairs is another.
func (r Rotation) Deviation(rope ropescale.Rope, row ropescale.Rung) float64 {
	if len(r.InvFreq) != rope.Pairs() {
		return math.Inf(1)
	}
	worst := 0.0
	for i, omega := range rope.InverseFrequencies() {
		want := omega / row.Factors[i]
		worst = max(worst, math.Abs(r.InvFreq[i]/want-1),
			math.Abs(r.Attention[i]/row.AttentionFactor-1))
	}
	return worst
}

// Python is the interpreter that env names, or else fallback, if it has transformers; else "".
func Python(env, fallback string) string {
	python := os.Getenv(env)
	if python == "" {
		python = fallback
	}
	if python == "" || exec.Command(python, "-c", "import torch, transformers").Run() != nil {
		return ""
	}
	return python
}

// Check runs transformers on each checkpoint.
func Check(python string, jobs []Job) ([]Checked, error) {
	input, err := json.Marshal(jobs)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python, "-c", checkScript)
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("check.py: %w", err)
	}
	var results []Checked
	if err := json.Unmarshal(output, &results); err != nil || len(results) != len(jobs) {
		return nil, fmt.Errorf("check.py: %d results for %d jobs: %w", len(results), len(jobs), err)
	}
	return results, nil
}
