package longrope

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
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/plugin/extend"
)

// trainFlags are those of extend that concern fine-tuning.
type trainFlags struct {
	steps     []int
	rows      int
	lr        float64
	mixed     bool
	python    string
	processes int
	recipe    string
	more      []string // options of train.py, behind --
}

func (f *trainFlags) add(fl *pflag.FlagSet) {
	fl.IntSliceVar(&f.steps, "steps", nil, "Training steps at each target, in their order (default 400 at the first, 600 at the next, none at the last of several)")
	fl.IntVar(&f.rows, "rows", 32, "Rows of the target's length in a step, over all processes")
	fl.Float64Var(&f.lr, "lr", 2e-5, "Learning rate, which decays linearly to zero")
	fl.BoolVar(&f.mixed, "mixed", false, "LongRoPE2's mixed windows: documents up to the original context length keep the model's own RoPE in training")
	fl.StringVar(&f.python, "python", "", "Python with PyTorch and transformers (default: $PYTHON, or python3)")
	fl.IntVar(&f.processes, "processes", 0, "Training processes on this machine (default: one per GPU, or one)")
	fl.StringVar(&f.recipe, "recipe", "", "Only write the training recipe into `DIR`")
}

// check fills in the steps for so many targets.
func (f *trainFlags) check(targets int) error {
	if f.steps == nil {
		f.steps = []int{400}
		for len(f.steps) < targets-1 {
			f.steps = append(f.steps, 600)
		}
	}
	if len(f.steps) > targets {
		return fmt.Errorf("--steps has %d numbers for %d targets; give one for each target to fine-tune at", len(f.steps), targets)
	}
	for _, n := range f.steps {
		if n < 1 {
			return fmt.Errorf("--steps has %d; give at least 1, or leave the target out to reach it by interpolation alone", n)
		}
	}
	switch {
	case f.rows < 1:
		return fmt.Errorf("--rows is %d; give at least 1", f.rows)
	case !(f.lr > 0):
		return fmt.Errorf("--lr is %g; give a positive number", f.lr)
	case f.processes < 0:
		return fmt.Errorf("--processes is %d; give at least 1", f.processes)
	}
	return nil
}

func (f *trainFlags) stepsList() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(f.steps), " ", ","), "[]")
}

// arguments are train.py's that are the same for every target.
func (f *trainFlags) arguments() []string {
	args := []string{"--batch", strconv.Itoa(f.rows), "--lr", strconv.FormatFloat(f.lr, 'g', -1, 64)}
	if f.mixed {
		args = append(args, "--mixed")
	}
	return append(args, f.more...)
}

// findPython settles which Python, with how many processes, and says what it lacks before any hour is spent.
func (f *trainFlags) findPython(ctx context.Context) error {
	for _, name := range []string{os.Getenv("PYTHON"), "python3"} {
		if f.python == "" {
			f.python = name
		}
	}
	// One import after the other: the first that fails is the one to name. Where all are found, the GPUs are counted.
	script := fmt.Sprintf(`import importlib.util
for name in %q.split():
    if importlib.util.find_spec(name) is None: raise SystemExit("lacks " + name)
import torch
print(torch.cuda.device_count())`, strings.Join(extend.Needs(), " "))
	cmd := exec.CommandContext(ctx, f.python, "-c", script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return errInterrupted
	}
	const remedy = "make venv TORCH=1 makes one that has all in build/venv; then --python build/venv/bin/python"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("%s %s, which fine-tuning needs; %s", f.python, lastLine(stderr.String()), remedy)
	case err != nil:
		return fmt.Errorf("--python: %w; %s", err, remedy)
	}
	gpus, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return fmt.Errorf("--python: %s is no python: it answers %q", f.python, cut(string(out), 40))
	}
	if f.processes == 0 {
		f.processes = max(1, gpus)
	}
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// trainingLine is what train.py says of each step.
type trainingLine struct {
	Step, Steps, Resumed, Tokens int
	Loss                         float64
	TokensPerSecond              float64 `json:"tokens_per_second"`
	Wrote                        string
}

// train is the stage that fine-tunes model at the target of number i.
func (s *schedule) train(i int, model, factors, out string) *stage {
	target := s.f.targets[i]
	return &stage{Name: fmt.Sprintf("fine-tune at %s", size(target)), Output: out, do: func(ctx context.Context, path string) (json.RawMessage, error) {
		f := s.f.train
		args := []string{filepath.Join(s.f.out, "recipe", extend.Main)}
		if f.processes > 1 {
			args = append([]string{"-m", "torch.distributed.run", "--standalone", "--nproc-per-node", strconv.Itoa(f.processes)}, args...)
		}
		args = append(args, model, "--factors", s.path(factors), "--length", strconv.Itoa(target), "--out", path, "--seed", fmt.Sprint(s.f.seed), "--steps", strconv.Itoa(f.steps[i]))
		args = append(args, f.arguments()...)
		args = append(args, "--text")
		if s.m.checkpoint() {
			args = append(args, s.f.texts...)
		} else {
			args = append(args, s.path("text.jsonl"))
		}
		return s.app.python(ctx, f.python, args, path+".log", "fine-tuning at "+size(target))
	}}
}

// python runs the recipe, draws its progress and keeps all that it says in a log. It returns the last step's line.
func (a *app) python(ctx context.Context, python string, args []string, log, label string) (json.RawMessage, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, python, args...)
	var stderr tail
	cmd.Stderr = io.MultiWriter(f, &stderr)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it then leaves a state to go on with
	cmd.WaitDelay = time.Minute
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var last json.RawMessage
	var first trainingLine
	started, wrote := time.Now(), false
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintf(f, "%s\n", lines.Bytes())
		var line trainingLine
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // not the recipe's: a library that prints
		}
		switch {
		case line.Wrote != "":
			wrote = true
		case line.Step > 0:
			last = bytes.Clone(lines.Bytes())
			if first.Step == 0 {
				first = line
			}
			a.progress(started, label, float64(line.Step-first.Step+1), float64(line.Steps-first.Step+1),
				fmt.Sprintf("step %d of %d, loss %.3f, %.0f tokens/s", line.Step, line.Steps, line.Loss, line.TokensPerSecond))
		case line.Resumed > 0:
			a.say("going on after step %d of %d", line.Resumed, line.Steps)
		}
	}
	io.Copy(f, stdout) // what follows a line that is too long for any step's: else the recipe would wait for a reader
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, errInterrupted
	case err != nil:
		return nil, fmt.Errorf("%s; all that was said is in %s", orElse(lastLine(string(stderr)), err.Error()), log)
	case !wrote:
		return nil, fmt.Errorf("the recipe ended without a result; all that was said is in %s", log)
	}
	return last, nil
}

// tail keeps the end of what is written to it: days of training may say much.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	if most := 16 << 10; len(*t) > most {
		*t = append((*t)[:0], (*t)[len(*t)-most/2:]...)
	}
	return len(b), nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// tokenize writes the training text as the engine reads it: a GGUF's own tokenizer, which Python has not.
func (s *schedule) tokenize(ctx context.Context, path string) (json.RawMessage, error) {
	e, err := s.app.load(s.m, s.m.info.OriginalContextLength)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	started, documents, tokens := time.Now(), 0, 0
	err = atomicfile.Write(path, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		for i, name := range s.f.texts {
			s.app.progress(started, "tokenizing", float64(i), float64(len(s.f.texts)), name)
			err := eachDocument(name, func(where string, d map[string]json.RawMessage) error {
				if ctx.Err() != nil {
					return errInterrupted
				}
				documents++
				if _, ok := d["tokens"]; !ok {
					var text string
					if err := json.Unmarshal(d["text"], &text); err != nil {
						return fmt.Errorf(`--text: %s: neither "text" nor "tokens"; give {"text": "…"} in each line`, where)
					}
					ids, err := e.Tokenize(text, true)
					if err != nil {
						return fmt.Errorf("--text: %s: %w", where, err)
					}
					tokens += len(ids)
					delete(d, "text")
					if d["tokens"], err = json.Marshal(ids); err != nil {
						return err
					}
				}
				line, err := json.Marshal(d)
				if err != nil {
					return err
				}
				_, err = out.Write(append(line, '\n'))
				return err
			})
			if err != nil {
				return err
			}
		}
		return out.Flush()
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]int{"documents": documents, "tokenized": tokens})
}

// textFiles puts the .txt and .jsonl files of a folder, in the order of their names, in its place.
func textFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			files = append(files, path) // what is wrong with a file is found where it is read
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("--text: %w", err)
		}
		before := len(files)
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext == ".txt" || ext == ".jsonl" {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
		if len(files) == before {
			return nil, fmt.Errorf("--text: there is no .txt or .jsonl file in %s", path)
		}
	}
	return files, nil
}

// eachDocument calls do for the document of a text file, or for each of a .jsonl file; where says which one it is.
func eachDocument(path string, do func(where string, d map[string]json.RawMessage) error) error {
	if filepath.Ext(path) != ".jsonl" {
		texts, err := readTexts("text", []string{path})
		if err != nil {
			return err
		}
		body, err := json.Marshal(texts[0].Body)
		if err != nil {
			return err
		}
		return do(path, map[string]json.RawMessage{"text": body})
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--text: %w", err)
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReader(f))
	for n := 1; ; n++ {
		where := fmt.Sprintf("%s, document %d", path, n)
		var d map[string]json.RawMessage
		if err := dec.Decode(&d); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf(`--text: %s: %w; give {"text": "…"} in each line`, where, err)
		}
		if err := do(where, d); err != nil {
			return err
		}
	}
}
