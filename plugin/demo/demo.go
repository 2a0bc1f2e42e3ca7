//go:build cgo

// Package demo is "ollama longrope demo": the whole path on the default model,
// with the commands that a user would type and a real server, in a few
// minutes on any machine.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/plugin/server"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

const (
	target = 8 * defaultmodel.ContextLength
	// answerTokens are generated for each question: a key of five digits, a space and what follows.
	answerTokens = 8
)

// NewCommand is "demo", to be added to "ollama longrope".
func NewCommand() *cobra.Command {
	var d demo
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Search, convert, run and measure the default model",
		Long: `Take the default model (4 million parameters, trained for 256 tokens) to 2048 tokens:
search factors, write them into the model, ask it for a passkey on a real server, and measure it
next to the methods that need no search.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out, d.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&d.dir, "output", "o", "longrope-demo", "Folder to write to")
	cmd.Flags().StringVar(&d.budget, "budget", "",
		"Budget of the search, in tokens (600k) or time (90s); default: the search's own")
	cmd.Flags().Uint64Var(&d.seed, "seed", 1, "Seed of the search and of the passkeys")
	cmd.Flags().IntVar(&d.trials, "trials", 4, "Passkey trials of each length and depth")
	return cmd
}

type demo struct {
	dir, budget string
	seed        uint64
	trials      int

	out, err io.Writer
	program  string
	started  time.Time
	steps    int
}

// report is what report.json holds.
type report struct {
	Rows    []evals.Row       `json:"rows"`
	Answers map[string]string `json:"answers"`
	Details *evals.Comparison `json:"details"`
}

func (d *demo) step(format string, args ...any) {
	d.steps++
	fmt.Fprintf(d.err, "\n[%d/5, %s] %s\n", d.steps, time.Since(d.started).Round(time.Second),
		fmt.Sprintf(format, args...))
}

// longrope runs a command of this program as a user would, and shows it. Its output goes
// to out.
func (d *demo) longrope(ctx context.Context, out io.Writer, args ...string) error {
	fmt.Fprintf(d.err, "$ ollama longrope %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.program, append([]string{"longrope"}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, out, d.err
	// An interrupted search leaves a study to resume.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("longrope %s: %w", args[0], err)
	}
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) run(ctx context.Context) (err error) {
	d.started = time.Now()
	if d.program, err = os.Executable(); err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	if err := d.search(ctx); err != nil {
		return err
	}

	d.step("convert: write the factors into the model, and a copy whose context length alone is " +
		"raised")
	if err := d.longrope(ctx, d.err, "convert", "default.gguf", "--factors", "factors.json", "-o",
		"default-2k.gguf"); err != nil {
		return err
	}
	if err := d.raise(ctx); err != nil {
		return err
	}

	d.step("measure: perplexity on text that was not searched on, and hidden passkeys, by method " +
		"and length")
	c, prompt, err := d.measure(ctx)
	if err != nil {
		return err
	}

	d.step("run: ask for the passkey in a prompt of %d tokens on a real server", len(prompt.Tokens))
	answers, err := d.ask(ctx, prompt)
	if err != nil {
		return err
	}

	d.step("report")
	r := report{Rows: c.Rows, Answers: answers, Details: c}
	if err := atomicfile.Write(d.path("report.json"), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(r)
	}); err != nil {
		return err
	}
	if err := draw.Table(d.out, c); err != nil {
		return err
	}
	d.summary(answers, len(prompt.Tokens))
	return nil
}

// search writes the default model and its texts, and searches factors with them.
func (d *demo) search(ctx context.Context) error {
	if err := atomicfile.WriteBytes(d.path("default.gguf"), defaultmodel.Model); err != nil {
		return err
	}
	args := []string{
		"search", "default.gguf", "--target", fmt.Sprint(target),
		"--seed", fmt.Sprint(d.seed), "-o", "factors.json", "--plot", "factors.png",
	}
	for _, t := range defaultmodel.SearchTexts() {
		name := t.Name + ".txt"
		if err := atomicfile.WriteBytes(d.path(name), []byte(t.Body)); err != nil {
			return err
		}
		args = append(args, "--text", name)
	}
	d.step("search: which factors let a model trained for %d tokens read %d?",
		defaultmodel.ContextLength, target)
	if d.budget != "" {
		args = append(args, "--budget", d.budget)
	}
	s, err := study.Read(d.path("factors.json.study"))
	if err == nil && s.Options().Seed == d.seed {
		if err = d.longrope(ctx, d.err, args...); err == nil || ctx.Err() != nil {
			return err
		}
		fmt.Fprintln(d.err, "the search in this folder cannot be resumed: it restarts")
	}
	// A study that is there, if any, is of another version or seed.
	return d.longrope(ctx, d.err, append(args, "--fresh")...)
}

// summary prints the answers of the server, where the files are, and what to do next.
func (d *demo) summary(answers map[string]string, tokens int) {
	var pictures []string
	for _, name := range []string{
		"result-perplexity.png", "result-passkey.png", "factors.png", "factors-search.png",
	} {
		pictures = append(pictures, d.path(name))
	}
	fmt.Fprintf(d.out, "\nthe passkey %s was hidden in %d tokens of filler:\n", answers["expected"],
		tokens)
	for _, m := range []struct{ label, answer string }{
		{"stock model", "stock"},
		{"stock, context length raised", "stock_raised"},
		{"longrope", "longrope"},
	} {
		fmt.Fprintf(d.out, "  %-28s %s\n", m.label, quote(answers[m.answer]))
	}
	fmt.Fprintf(d.out, `(one answer is an anecdote: the table is the evidence)

pictures: %s
search:   %s
report:   %s

the same with your own model:
  ollama longrope search  MODEL --target 32k -o factors.json
  ollama longrope convert MODEL --factors factors.json --name MODEL-32k
  ollama run MODEL-32k
`, strings.Join(pictures, " "), d.path("factors.html"), d.path("report.json"))
}

// raise writes the stock model with its context length raised and nothing else: what it is fair to
// compare with. The host truncates the prompt of the model as it is, and any rival looks
// good next to that.
func (d *demo) raise(ctx context.Context) error {
	m, err := convert.Inspect(d.path("default.gguf"))
	if err != nil {
		return err
	}
	l, err := ropescale.NewLadder(m.Rope(), nil, m.Rope().Identity(target))
	if err != nil {
		return err
	}
	if err := atomicfile.Write(d.path("stock.json"), l.WriteFactors); err != nil {
		return err
	}
	return d.longrope(ctx, d.err, "convert", "default.gguf", "--factors", "stock.json", "-o",
		"default-raised.gguf")
}

// measure compares the methods, and makes the prompt that the server will be asked.
func (d *demo) measure(ctx context.Context) (*evals.Comparison, *evals.Prompt, error) {
	var out bytes.Buffer
	if err := d.longrope(ctx, &out, "eval", "all", "default.gguf", "--lengths", "256,512,1k,2k",
		"--methods", "stock,linear,ntk,yarn,factors.json",
		"--trials", fmt.Sprint(d.trials), "--seed", fmt.Sprint(d.seed), "--plot", "result.png",
		"--json"); err != nil {
		return nil, nil, err
	}
	var c evals.Comparison
	if err := json.Unmarshal(out.Bytes(), &c); err != nil {
		return nil, nil, fmt.Errorf("longrope eval --json: %w", err)
	}
	e, err := engine.Open(d.path("default.gguf"), engine.Options{Name: "default", Length: target})
	if err != nil {
		return nil, nil, err
	}
	defer e.Close()
	prompt, err := evals.PasskeyPrompt(e, evals.PasskeyOptions{
		Seed:         d.seed,
		AnswerTokens: answerTokens,
	}, target-target/64, 0.4, 0)
	return &c, prompt, err
}

// ask creates the three models in a store of their own and asks each over "ollama run".
func (d *demo) ask(ctx context.Context, prompt *evals.Prompt) (answers map[string]string,
	err error,
) {
	store, err := filepath.Abs(d.path("store"))
	if err != nil {
		return nil, err
	}
	s, err := server.Start(ctx, d.program, store)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	defer func() {
		err = errors.Join(err, atomicfile.WriteBytes(d.path("server.log"), []byte(s.Log())))
	}()

	answers = map[string]string{"expected": prompt.Key}
	for _, m := range []struct{ answer, file string }{
		{"stock", "default"},
		{"stock_raised", "default-raised"},
		{"longrope", "default-2k"},
	} {
		modelfile := fmt.Sprintf("FROM ./%s.gguf\nTEMPLATE %q\nPARAMETER temperature 0\nPARAMETER "+
			"num_predict %d\nPARAMETER num_ctx %d\n",
			m.file, defaultmodel.Template, answerTokens, target)
		if err := atomicfile.WriteBytes(d.path(m.file+".Modelfile"),
			[]byte(modelfile)); err != nil {
			return nil, err
		}
		fmt.Fprintf(d.err, "$ ollama create %s -f %s.Modelfile\n", m.file, m.file)
		if _, err := s.Run(ctx, nil, "create", m.file, "-f",
			d.path(m.file+".Modelfile")); err != nil {
			return nil, err
		}
		fmt.Fprintf(d.err, "$ ollama run %s <prompt.txt\n", m.file)
		answer, err := s.Run(ctx, strings.NewReader(prompt.Text), "run", m.file)
		if err != nil {
			return nil, err
		}
		answers[m.answer] = integer.FindString(answer)
		if answers[m.answer] == "" {
			answers[m.answer] = strings.TrimSpace(answer)
		}
		fmt.Fprintf(d.err, "%s\n", strings.TrimSpace(answer))
	}
	return answers, atomicfile.WriteBytes(d.path("prompt.txt"), []byte(prompt.Text))
}

var integer = regexp.MustCompile(`[0-9]+`)

func quote(answer string) string {
	if answer == "" {
		return "(nothing)"
	}
	return answer
}
