package extend

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/plugin/tail"
)

// Training says how to fine-tune.
type Training struct {
	// Steps at each target, in their order. nil: 400 at the first, 600 at each next, none at the
	// last of several.
	Steps []int
	// Rows of the target's length in a step, over all processes; Rate is the learning rate.
	Rows int
	Rate float64
	// Mixed is LongRoPE2's mixed windows: documents up to the original context length keep the
	// model's own RoPE; with positions skip or end, half of the windows.
	Mixed bool
	// Positions are full, rows of the target's length; skip (PoSE) or end (after EndPrompt), rows
	// of the original context length whose tokens stand apart in a text of the target's; auto or
	// "", full where its rows fit into memory, else skip. Skip and end were measured on the default
	// model alone: evals/results/2026-12-01-long-positions.md.
	Positions string
	// Python has PyTorch and transformers; "" is $PYTHON, or python3.
	Python string
	// Processes on this machine; 0 is one per GPU, or one.
	Processes int
	// Options are further ones of train.py.
	Options []string
}

// check fills in the steps for so many targets.
func (t *Training) check(targets int, called search.Names) error {
	if t.Steps == nil {
		t.Steps = []int{400}
		for len(t.Steps) < targets-1 {
			t.Steps = append(t.Steps, 600)
		}
	}
	if len(t.Steps) > targets {
		return called.Wrong("Steps", " has %d numbers for %d targets; give one for each target to "+
			"fine-tune at", len(t.Steps), targets)
	}
	for _, n := range t.Steps {
		if n < 1 {
			return called.Wrong(
				"Steps",
				" has %d; give at least 1, or leave the target out to reach it "+
					"by interpolation alone",
				n,
			)
		}
	}
	switch {
	case !slices.Contains([]string{"", "auto", "full", "skip", "end"}, t.Positions):
		return called.Wrong("Positions", " is %q; give auto, full, skip or end", t.Positions)
	case t.Rows < 1:
		return called.Wrong("Rows", " is %d; give at least 1", t.Rows)
	case !(t.Rate > 0):
		return called.Wrong("Rate", " is %g; give a positive number", t.Rate)
	case t.Processes < 0:
		return called.Wrong("Processes", " is %d; give at least 1", t.Processes)
	}
	return nil
}

func (t *Training) stepsList() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Steps), " ", ","), "[]")
}

// arguments are train.py's that are the same for every target.
func (t *Training) arguments() []string {
	args := []string{
		"--batch", strconv.Itoa(t.Rows), "--lr", strconv.FormatFloat(t.Rate, 'g', -1, 64),
	}
	if t.Mixed {
		args = append(args, "--mixed")
	}
	if t.Positions != "" && t.Positions != "auto" { // which is the recipe's own default
		args = append(args, "--positions", t.Positions)
	}
	return append(args, t.Options...)
}

// findPython settles which Python, with how many processes, and says what it lacks before any hour
// is spent.
func (t *Training) findPython(ctx context.Context, called search.Names) error {
	for _, name := range []string{os.Getenv("PYTHON"), "python3"} {
		if t.Python == "" {
			t.Python = name
		}
	}
	// One import after the other: the first that fails is the one to name. Where all are found, the
	// GPUs are counted.
	script := fmt.Sprintf(`import importlib.util
for name in %q.split():
    if importlib.util.find_spec(name) is None: raise SystemExit("lacks " + name)
import torch
print(torch.cuda.device_count())`, strings.Join(Needs(), " "))
	cmd := exec.CommandContext(ctx, t.Python, "-c", script)
	var stderr tail.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	const remedy = "make venv TORCH=1 makes one that has all in build/venv; " +
		"then --python build/venv/bin/python"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("%s %s, which fine-tuning needs; %s", t.Python, stderr.LastLine(), remedy)
	case err != nil:
		return called.Wrong("Python", ": %w; %s", err, remedy)
	}
	gpus, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return called.Wrong("Python", ": %s is no python: it answers %q", t.Python,
			head(string(out)))
	}
	if t.Processes == 0 {
		t.Processes = max(1, gpus)
	}
	return nil
}

// trainingLine is what train.py prints for each step.
type trainingLine struct {
	Step, Steps, Resumed, Tokens int
	Loss                         float64
	TokensPerSecond              float64 `json:"tokens_per_second"`
	Wrote                        string
}

// trainStage fine-tunes a model at the target of number i.
func (x *extension) trainStage(i int, model, factors, out string) *Stage {
	target := x.o.Targets[i]
	name := "fine-tune at " + label.Size(target)
	return &Stage{Name: name, Output: out, do: func(
		ctx context.Context, path string,
	) (json.RawMessage, error) {
		t := x.o.Training
		args := []string{x.path(filepath.Join("recipe", recipeMain))}
		if t.Processes > 1 {
			launcher := []string{"-m", "torch.distributed.run", "--standalone", "--nproc-per-node"}
			args = append(append(launcher, strconv.Itoa(t.Processes)), args...)
		}
		args = append(args, model, "--factors", x.path(factors), "--length", strconv.Itoa(target),
			"--out", path, "--seed", fmt.Sprint(x.o.Search.Seed), "--steps",
			strconv.Itoa(t.Steps[i]))
		args = append(args, t.arguments()...)
		args = append(args, "--text")
		if x.o.Model.Checkpoint {
			args = append(args, x.o.Texts...)
		} else {
			args = append(args, x.path("text.jsonl"))
		}
		p := pythonRun{x: x, args: args, log: path + ".log"}
		p.label = "fine-tuning at " + label.Size(target)
		return p.do(ctx)
	}}
}

// pythonRun runs the recipe, reports its progress and keeps all its output in a log.
type pythonRun struct {
	x          *extension
	args       []string
	log, label string

	started time.Time
	first   trainingLine    // the first step of this run
	last    json.RawMessage // the line of the last step
	wrote   bool
}

// do returns the last step's line.
func (p *pythonRun) do(ctx context.Context) (json.RawMessage, error) {
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, p.x.o.Training.Python, p.args...)
	var stderr tail.Buffer
	cmd.Stderr = io.MultiWriter(f, &stderr)
	// An interrupted recipe saves a state to resume from.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.started = p.x.o.Now()
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintf(f, "%s\n", lines.Bytes())
		p.line(lines.Bytes())
	}
	// The rest behind a line that is too long for any step's: else the recipe would wait for a
	// reader.
	io.Copy(f, stdout)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		why := stderr.LastLine()
		if why == "" {
			why = err.Error()
		}
		return nil, fmt.Errorf("%s; the whole output is in %s", why, p.log)
	case !p.wrote:
		return nil, fmt.Errorf("the recipe ended without a result; the whole output is in %s",
			p.log)
	}
	return p.last, nil
}

// line takes in a line of standard output.
func (p *pythonRun) line(b []byte) {
	var line trainingLine
	if json.Unmarshal(b, &line) != nil {
		return // not the recipe's: a library that prints
	}
	switch {
	case line.Wrote != "":
		p.wrote = true
	case line.Step > 0:
		p.last = bytes.Clone(b)
		if p.first.Step == 0 {
			p.first = line
		}
		before := p.first.Step - 1
		p.x.report.Progress(search.Progress{
			Started: p.started, Label: p.label,
			Done: float64(line.Step - before), Total: float64(line.Steps - before),
			Note: fmt.Sprintf("step %d of %d, loss %.3f, %.0f tokens/s",
				line.Step, line.Steps, line.Loss, line.TokensPerSecond),
		})
	case line.Resumed > 0:
		p.x.report.Say("resuming after step %d of %d", line.Resumed, line.Steps)
	}
}
