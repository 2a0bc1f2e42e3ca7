package longrope

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// NewCommand is "ollama longrope", to be added to the host's command line.
func NewCommand() *cobra.Command { return newCommand(openEngine) }

// app is what the commands share. One is made for every run.
type app struct {
	*ui
	open opener
	json bool
	args []string // as typed, without the program: to say how a run is resumed

	// Of the engine; set by the flags of the commands that run a model.
	engine         string // as --engine
	threads, batch int
	gpuLayers      int // as --gpu-layers
}

// newCommand takes the opener of engines, so that tests can give one that needs no model.
func newCommand(open opener) *cobra.Command {
	root := &cobra.Command{
		Use:   "longrope",
		Short: "Extend a model's context with LongRoPE",
		Long: `Find RoPE factors that let a model read beyond the length it was trained for, write them
into the model, and measure the result.

MODEL is a GGUF file, a Hugging Face checkpoint folder, or the name of a model in the local
store. Lengths are in tokens: 131072 or 128k.`,
		Example: `  ollama longrope search  llama3 --target 16k -o factors.json
  ollama longrope convert llama3 --factors factors.json --name llama3-16k
  ollama run llama3-16k

  ollama longrope eval passkey llama3-16k --lengths 8k,12k,16k
  ollama longrope show llama3-16k`,
		SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return fmt.Errorf("unknown command %q for %q%s",
				args[0], cmd.CommandPath(), suggest(args[0], names(cmd)))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(searchCommand(open), workerCommand(open), extendCommand(open),
		convertCommand(open), evalCommand(open), showCommand(open))
	for _, cmd := range append(root.Commands(), root) {
		cmd.SilenceUsage = true
		fitHelp(cmd)
		cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
			return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
		})
	}
	return root
}

func names(cmd *cobra.Command) []string {
	var s []string
	for _, c := range cmd.Commands() {
		s = append(s, c.Name())
	}
	return s
}

// newApp is the app of a run of cmd.
func newApp(cmd *cobra.Command, open opener) *app {
	a := &app{ui: newUI(cmd.OutOrStdout(), cmd.ErrOrStderr(), open.now), open: open, gpuLayers: -1}
	a.json, _ = cmd.Flags().GetBool("json")
	a.threads, _ = cmd.Flags().GetInt("threads")
	if n, err := cmd.Flags().GetInt("gpu-layers"); err == nil {
		a.gpuLayers = n
	}
	a.batch, _ = cmd.Flags().GetInt("batch")
	if f := cmd.Flags().Lookup("engine"); f != nil {
		a.engine = f.Value.String()
	}
	for _, arg := range os.Args[1:] {
		a.args = append(a.args, quote(arg))
	}
	return a
}

// command is what resumes this run: its command, without the flag that would restart it.
func (a *app) command() string {
	args := slices.DeleteFunc(slices.Clone(a.args), func(arg string) bool {
		return arg == "--fresh" || arg == "--fresh=true"
	})
	return "ollama " + strings.Join(args, " ")
}

// quote makes an argument safe to paste into a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("-_./:,=+@%~", r) || r > 127
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// interruptible runs f with a context that ends at the first Ctrl-C (or SIGTERM), so that f can put
// things in order. The second one kills, as it does without this: from the moment at which the
// context ends.
func interruptible(cmd *cobra.Command, f func(ctx context.Context) error) error {
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		select {
		case <-signals:
			signal.Stop(signals)
			cancel()
		case <-ctx.Done():
		}
	}()
	err := f(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

var errInterrupted = errors.New("interrupted")

func jsonFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("json", false, "Write the result to standard output as JSON")
}

func engineFlags(cmd *cobra.Command) {
	cmd.Flags().Var(new(naturalFlag), "threads", "Threads on the CPU (default: one per core)")
	cmd.Flags().Var(new(naturalFlag), "batch",
		"Tokens decoded at once (default 512, on a CPU 256)")
	cmd.Flags().Int("gpu-layers", -1, "Layers on the GPUs, -1 for all")
	cmd.Flags().Var(new(engineFlag), "engine",
		strings.Join(engines, " or ")+" (default: the first that can load MODEL)")
}

// exactly asks for n arguments and says which.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return fmt.Errorf("%d arguments instead of %d; usage: %s", len(args), n, cmd.UseLine())
	}
}

// suggest names what was probably meant by name, "" if nothing is near.
func suggest(name string, known []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, k := range known {
		d := editDistance(strings.ToLower(name), strings.ToLower(k))
		// Somebody who types "llama3.2" may well have "llama3.2-128k" or "llama3.2:latest".
		if strings.HasPrefix(strings.ToLower(k), strings.ToLower(name)) {
			d = min(d, 1)
		}
		if d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// editDistance is Levenshtein's, in runes.
func editDistance(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(y)]
}
