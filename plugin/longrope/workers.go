package longrope

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/plugin/workers"
)

// workersFlags say who evaluates.
type workersFlags struct {
	count                           int // of processes on this machine
	url, creds, token, ca, crt, key string
}

// serverFlags are those of a NATS server, for the help.
var serverFlags = []string{
	"nats", "nats-creds", "nats-token", "nats-ca", "nats-cert", "nats-key",
}

func (f *workersFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.url, "nats", "", "`URL` of a NATS server with JetStream")
	fl.StringVar(&f.creds, "nats-creds", "", "Credentials `FILE` (default: $NATS_CREDS)")
	fl.StringVar(&f.token, "nats-token", "",
		"`FILE` with a token (default: the token in $NATS_TOKEN)")
	fl.StringVar(&f.ca, "nats-ca", "", "Certificates `FILE` to trust it by (default: $NATS_CA)")
	fl.StringVar(&f.crt, "nats-cert", "",
		"Certificate `FILE` of this program (default: $NATS_CERT)")
	fl.StringVar(&f.key, "nats-key", "", "Key `FILE` of that certificate (default: $NATS_KEY)")
}

// server is the NATS server that the flags name, nil for none. The environment is the nats
// command's.
func (f *workersFlags) server() (*workers.Server, error) {
	if f.url == "" {
		for i, value := range []string{f.creds, f.token, f.ca, f.crt, f.key} {
			if value != "" {
				return nil, fmt.Errorf("--%s is of no use without --nats URL", serverFlags[i+1])
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
	s := &workers.Server{
		URL: f.url, Creds: or(f.creds, "NATS_CREDS"), Token: os.Getenv("NATS_TOKEN"),
		User: os.Getenv("NATS_USER"), Password: os.Getenv("NATS_PASSWORD"),
		CA: or(f.ca, "NATS_CA"), Cert: or(f.crt, "NATS_CERT"), Key: or(f.key, "NATS_KEY"),
	}
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

// check returns the server for a search on m.
func (f *workersFlags) check(m *model) (*workers.Server, error) {
	server, err := f.server()
	switch {
	case err != nil:
		return nil, err
	case f.count < 0:
		return nil, fmt.Errorf("--workers is %d; give the number of processes to start", f.count)
	case server != nil && m.checkpoint():
		return nil, fmt.Errorf(
			"--nats: %s is a checkpoint folder, and workers need one and the same "+
				"file; make it with: ollama longrope convert %s -o %s",
			m.name,
			quote(m.name),
			quote(filepath.Base(m.name)+".gguf"),
		)
	}
	return server, nil
}

// workers says who evaluates for a search on m: so many processes of this machine, and others by
// way of the server; nil for none.
func (a *app) workers(count int, server *workers.Server, m *model) (*search.Workers, error) {
	if count == 0 && server == nil {
		return nil, nil
	}
	w := &search.Workers{Server: server}
	w.Invite = func(study string) {
		a.say("on every other machine that takes part:\n"+
			"  ollama longrope worker %s --nats %s --study %s",
			quote(m.name), quote(server.Public()), study)
	}
	if count == 0 {
		return w, nil
	}
	// On a CPU the processes share the cores, and each GPU has its own.
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
		threads = max(1, runtime.NumCPU()/count)
	}
	config, err := json.Marshal(localConfig{path, threads, a.gpuLayers})
	w.Local = &workers.Local{
		Count: count, Command: []string{self, "longrope", "worker", "--local"},
		Config: config, Env: deviceEnv,
	}
	return w, err
}

// localConfig is what a worker process of this machine is given.
type localConfig struct {
	Model     string `json:"model"`
	Threads   int    `json:"threads"`
	GPULayers int    `json:"gpu_layers"` // as --gpu-layers
}
