package longrope

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale"
)

// workersFlags say who evaluates.
type workersFlags struct {
	workers                         int
	url, creds, token, ca, crt, key string
}

func (f *workersFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	if cmd.Name() == "search" {
		fl.IntVar(&f.workers, "workers", 0, "Processes on this machine that evaluate; they share its cores (--threads is for each), or have a GPU each (default: this one alone)")
	}
	fl.StringVar(&f.url, "nats", "", "`URL` of a NATS server with JetStream, through which other machines take part")
	fl.StringVar(&f.creds, "nats-creds", "", "Credentials `FILE` for it (default: $NATS_CREDS)")
	fl.StringVar(&f.token, "nats-token", "", "`FILE` that holds a token for it (default: the token in $NATS_TOKEN)")
	fl.StringVar(&f.ca, "nats-ca", "", "Certificates `FILE` to trust it by (default: $NATS_CA)")
	fl.StringVar(&f.crt, "nats-cert", "", "Certificate `FILE` to be let in by it (default: $NATS_CERT)")
	fl.StringVar(&f.key, "nats-key", "", "Key `FILE` of that certificate (default: $NATS_KEY)")
}

// server is the NATS server that the flags name, nil for none. The environment is the nats command's.
func (f *workersFlags) server() (*workers.Server, error) {
	if f.url == "" {
		for flag, value := range map[string]string{"nats-creds": f.creds, "nats-token": f.token, "nats-ca": f.ca, "nats-cert": f.crt, "nats-key": f.key} {
			if value != "" {
				return nil, fmt.Errorf("--%s is of no use without --nats URL", flag)
			}
		}
		return nil, nil
	}
	or := func(flag, env string) string {
		if flag != "" {
			return flag
		}
		return os.Getenv(env)
	}
	s := &workers.Server{URL: f.url, Creds: or(f.creds, "NATS_CREDS"), Token: os.Getenv("NATS_TOKEN"), User: os.Getenv("NATS_USER"), Password: os.Getenv("NATS_PASSWORD"),
		CA: or(f.ca, "NATS_CA"), Cert: or(f.crt, "NATS_CERT"), Key: or(f.key, "NATS_KEY")}
	if f.token != "" {
		b, err := os.ReadFile(f.token)
		if err != nil {
			return nil, fmt.Errorf("--nats-token: %w", err)
		}
		if s.Token = strings.TrimSpace(string(b)); s.Token == "" {
			return nil, fmt.Errorf("--nats-token: %s is empty", f.token)
		}
	}
	return s, nil
}

// pool is the workers of a search.
type pool struct {
	*workers.Coordinator
	spec workers.Spec // of every judge, but for what is read
}

// startPool starts the workers that the flags ask for, or finds the server through which they come; nil for none. The first
// rung's judge serves to compare engines.
func (a *app) startPool(ctx context.Context, f workersFlags, m *model, e evals.Engine, j *judge, study string) (*pool, error) {
	server, err := f.server()
	switch {
	case err != nil:
		return nil, err
	case f.workers < 0:
		return nil, fmt.Errorf("--workers is %d; give the number of processes to start", f.workers)
	case f.workers == 0 && server == nil:
		return nil, nil
	case server != nil && m.checkpoint():
		return nil, fmt.Errorf("--nats: %s is a checkpoint folder, and workers need one and the same file; make it with: ollama longrope convert %s -o %s",
			m.name, quote(m.name), quote(filepath.Base(m.name)+".gguf"))
	}
	o := workers.Options{Server: server, Name: studyName(study), Say: func(format string, args ...any) { a.say(format, args...) }}
	if o.Engine, err = describe(ctx, e, j, a.threads); err != nil {
		return nil, err
	}
	if f.workers > 0 {
		if o.Local, err = a.locals(f.workers, m); err != nil {
			return nil, err
		}
	}
	c, err := workers.New(ctx, o)
	if err != nil {
		return nil, err
	}
	if server != nil {
		a.say("on every other machine that is to take part:\n  ollama longrope worker %s --nats %s --study %s", quote(m.name), quote(server.Public()), o.Name)
	}
	return &pool{c, workers.Spec{ModelDigest: e.Info().Digest, ModelName: m.name, Batch: a.batch}}, nil
}

// locals describes worker processes. On a CPU they share the cores, and each GPU has its own.
func (a *app) locals(n int, m *model) (*workers.Local, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("--workers: this program does not know where it is: %w", err)
	}
	path, err := filepath.Abs(m.path)
	if err != nil {
		return nil, err
	}
	threads := a.threads
	if threads == 0 {
		threads = max(1, runtime.NumCPU()/n)
	}
	config, err := json.Marshal(localConfig{Model: path, Threads: threads, GPULayers: a.gpuLayers})
	return &workers.Local{Count: n, Command: []string{self, "longrope", "worker", "--local"}, Config: config, Env: deviceEnv}, err
}

// localConfig is what a worker process of this machine is told.
type localConfig struct {
	Model     string `json:"model"`
	Threads   int    `json:"threads"`
	GPULayers int    `json:"gpu_layers"`
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// studyName is a journal's name on a NATS server.
func studyName(journal string) string {
	name := filepath.Base(journal)
	for _, ext := range []string{".study", ".json"} {
		name = strings.TrimSuffix(name, ext)
	}
	if name = strings.Trim(notInNames.ReplaceAllString(name, "-"), "-"); name == "" {
		return "search"
	}
	return name[:min(len(name), 64)]
}

// evaluator has the pool's workers evaluate for a judge; without a pool the engine e does.
func (p *pool) evaluator(j *judge, e evals.Engine) evaluator {
	if p == nil {
		return here{j, e}
	}
	return &there{pool: p, judge: j}
}

// crew is who works, to go on with in the progress line.
func (p *pool) crew() string {
	if p == nil {
		return ""
	}
	return ", " + p.Status().String()
}

// close ends the workers; with complete, also those on other machines. It says who did what.
func (p *pool) close(say func(format string, args ...any), complete bool) {
	if p == nil {
		return
	}
	if text := p.Status().Summary(); text != "" {
		say("%s", text)
	}
	p.Close(complete)
}

type there struct {
	*pool
	judge *judge
	out   bool // the workers were told what to read
}

func (t *there) evaluate(ctx context.Context, trials []ropescale.Trial, tell func(ropescale.Trial, []float64, int) error) error {
	if !t.out {
		spec := t.spec
		spec.Length = t.judge.length()
		var err error
		if spec.Readings, err = json.Marshal(t.judge); err != nil {
			return err
		}
		if err := t.Search(ctx, spec); err != nil {
			return err
		}
		t.out = true
	}
	byID := map[int]ropescale.Trial{}
	var asked []workers.Trial
	for _, trial := range trials {
		byID[trial.ID] = trial
		a := workers.Trial{ID: trial.ID, Rung: trial.Rung}
		for _, pass := range ropescale.Passes(t.judge.Readings) {
			if slices.Contains(trial.Readings, pass[0]) {
				a.Passes = append(a.Passes, pass)
			}
		}
		asked = append(asked, a)
	}
	return t.Evaluate(ctx, asked, func(r workers.Result) error { return tell(byID[r.ID], r.Losses, r.Tokens) })
}

// probe is how many tokens are read for a fingerprint: enough for every kind of kernel, and soon done.
const probe = 64

// describe says on what an engine computes, with a fingerprint of its bits.
func describe(ctx context.Context, e evals.Engine, j *judge, threads int) (workers.Engine, error) {
	if threads == 0 {
		threads = runtime.NumCPU()
	}
	info := e.Info()
	d := workers.Engine{Host: info.Host, Backend: info.Backend, Threads: threads}
	if err := e.SetLadder(nil); err != nil {
		return d, err
	}
	tokens := j.Samples[0].Tokens
	values, err := e.NLL(ctx, tokens[:min(probe, len(tokens))], 1)
	if err != nil {
		return d, err
	}
	h := sha256.New()
	for _, v := range values {
		binary.Write(h, binary.LittleEndian, math.Float64bits(v))
	}
	d.Fingerprint = fmt.Sprintf("%x", h.Sum(nil)[:8])
	return d, nil
}
