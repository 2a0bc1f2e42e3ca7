package longrope

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/plugin/workers"
)

// workerFlags are the flags of worker.
type workerFlags struct {
	server      workersFlags
	study, name string
	local       bool
}

func workerCommand(open opener) *cobra.Command {
	var f workerFlags
	cmd := &cobra.Command{
		Use:   "worker [MODEL] --nats URL --study NAME",
		Short: "Take part in a search that runs elsewhere",
		Long: `Evaluate candidates for a search that was started with --nats on another machine. The
search shows the command to type. It may be started before or after its workers, and
workers may come and go: others evaluate what they had begun, and the factors are the
same.

MODEL must be the very file that is searched on, wherever it is here; without MODEL it is
looked for in the local store. Texts and settings come from the search.

The token of the server keeps strangers out, and encrypts nothing (tls:// does). Whoever has
it sees the texts and can stop the search. Wrong losses are another matter: the search
computes a sample of them again, and puts out a worker that differs.`,
		Example: `  ollama longrope worker llama3 --nats nats://search-host:4222 --study factors
  ollama longrope worker model.gguf --nats tls://nats.example.com --study factors --threads 8`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly(1)(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newApp(cmd, open)
			if f.local {
				return a.workHere(cmd.Context(), cmd.InOrStdin())
			}
			arg := ""
			if len(args) > 0 {
				arg = args[0]
			}
			return interruptible(cmd, func(ctx context.Context) error {
				return a.work(ctx, arg, f)
			})
		},
	}
	f.server.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.study, "study", "", "`NAME` of the search on the server")
	fl.StringVar(&f.name, "name", "",
		"`NAME` of this worker in messages (default: host and process)")
	fl.BoolVar(&f.local, "local", false, "Be a worker of the search that started this process")
	fl.MarkHidden("local")
	fl.Int("threads", 0, "Threads on the CPU (default: one per core)")
	fl.Int("gpu-layers", -1, "Layers on the GPUs, -1 for all")
	return cmd
}

// work takes part in a search by way of a server.
func (a *app) work(ctx context.Context, arg string, f workerFlags) error {
	if f.server.url == "" {
		f.server.url = os.Getenv("NATS_URL")
	}
	if f.server.url == "" {
		return errors.New("--nats is missing; give the URL that the search was started with " +
			"(or set NATS_URL)")
	}
	if f.study == "" {
		return errors.New("--study is missing; give the name that the search shows")
	}
	server, err := f.server.server()
	if err != nil {
		return err
	}
	err = workers.Worker{
		Server: *server, Search: f.study, Name: f.name,
		Say: func(format string, args ...any) { a.say(format, args...) },
		Open: func(ctx context.Context, s workers.Spec) (workers.Evaluator, error) {
			path, err := fileOf(arg, s)
			if err != nil {
				return nil, err
			}
			return a.openWorker(ctx, path, s)
		},
	}.Run(ctx)
	if err != nil {
		return err
	}
	a.say("the search %s is complete", f.study)
	return nil
}

// workHere is a worker that a search of this machine has started. It ends with it, whatever ends
// that; Ctrl-C, which a terminal gives to both, is the search's to act on.
func (a *app) workHere(ctx context.Context, stdin io.Reader) error {
	signal.Ignore(os.Interrupt)
	h, lost, err := workers.Joined(stdin)
	if err != nil {
		return err
	}
	go func() {
		<-lost
		os.Exit(0) // an engine that hangs, too
	}()
	var c localConfig
	if err := json.Unmarshal(h.Config, &c); err != nil {
		return err
	}
	a.threads, a.gpuLayers = c.Threads, c.GPULayers
	return workers.Worker{
		Server: h.Server, Search: h.Search, Name: h.Name, ID: h.ID,
		Open: func(ctx context.Context, s workers.Spec) (workers.Evaluator, error) {
			return a.openWorker(ctx, c.Model, s)
		},
	}.Run(ctx)
}

// fileOf finds the file of a specification's model: the one that arg names if it is that, without
// arg the store's.
func fileOf(arg string, s workers.Spec) (string, error) {
	if arg == "" {
		store, err := convert.OpenStore("")
		if err == nil {
			path, err := store.FindDigest(s.ModelDigest)
			if err == nil {
				return path, nil
			}
		}
		return "", fmt.Errorf(
			"the search is on %s (%s), which the local store does not have; pull "+
				"it, or give its file as MODEL",
			s.ModelName,
			s.ModelDigest,
		)
	}
	m, err := find(arg)
	if err != nil {
		return "", err
	}
	if m.checkpoint() {
		return "", fmt.Errorf(
			"%s is a checkpoint folder; a worker needs the file that is searched "+
				"on: convert it once, and search on that",
			arg,
		)
	}
	digest := m.source.Digest
	if digest == "" {
		if digest, err = convert.FileDigest(m.path); err != nil {
			return "", err
		}
	}
	if digest != s.ModelDigest {
		return "", fmt.Errorf(
			"%s is another file than the search's %s: its digest is %s instead of %s", arg,
			s.ModelName, digest, s.ModelDigest)
	}
	return m.path, nil
}

// openWorker loads a model for a specification.
func (a *app) openWorker(
	ctx context.Context, path string, s workers.Spec,
) (workers.Evaluator, error) {
	if err := search.CheckSpec(s); err != nil {
		return nil, err
	}
	a.batch, a.engine = s.Batch, s.Engine
	e, err := a.loadFor(&model{name: s.ModelName, path: path}, s.Length, true)
	if err != nil {
		return nil, err
	}
	w, err := search.NewEvaluator(ctx, e, s, a.threads)
	if err != nil {
		e.Close()
		return nil, err
	}
	a.say("evaluating %s at up to %s tokens (%s)", s.ModelName, label.Size(s.Length), w.Engine())
	return w, nil
}
