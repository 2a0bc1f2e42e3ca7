//go:build cgo

package doctor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/ollama/ollama/discover"
	"github.com/ollama/ollama/envconfig"
	"github.com/ollama/ollama/format"
	"github.com/ollama/ollama/ml"

	"github.com/longrope/longrope/convert"
)

// here is this machine.
func here() (machine, error) {
	program, err := os.Executable()
	if err != nil {
		return machine{}, err
	}
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real
	}
	return machine{
		program: program, path: os.Getenv("PATH"), host: envconfig.Host().String(),
		backends: func(ctx context.Context) []backend { return backends(ctx, program) },
		devices:  devices,
		store:    func() (*convert.Store, error) { return convert.OpenStore("") },
	}, nil
}

// backends asks for those of the library folder, which are where the host looks; or of the folders
// that OLLAMA_LIBRARY_PATH names.
func backends(ctx context.Context, program string) []backend {
	base := []string{ml.LibOllamaPath}
	if list, set := os.LookupEnv("OLLAMA_LIBRARY_PATH"); set {
		base = filepath.SplitList(list)
	}
	all := []backend{ask(ctx, program, cpuBackend, base)}
	if len(base) == 0 {
		return all
	}
	for _, dir := range folders(base[0]) {
		b := ask(ctx, program, filepath.Base(dir), append(base[:len(base):len(base)], dir))
		if strings.Contains(b.Name, "vulkan") && !envconfig.EnableVulkan() {
			b.Hint = "ollama serve uses it with OLLAMA_VULKAN=1 alone"
		}
		all = append(all, b)
	}
	return all
}

// devices are the memory of the machine and of the GPUs that a server of this program uses.
func devices(ctx context.Context) []string {
	s := discover.GetSystemInfo()
	lines := []string{fmt.Sprintf("this machine: %s free of %s", format.HumanBytes2(s.FreeMemory),
		format.HumanBytes2(s.TotalMemory))}
	level := slog.SetLogLoggerLevel(slog.LevelError + 1) // the host reports all about its search
	gpus := discover.GPUDevices(ctx, nil)
	slog.SetLogLoggerLevel(level)
	for _, d := range gpus {
		lines = append(lines, fmt.Sprintf("%s %s: %s free of %s", d.Library,
			cmp.Or(d.Description, d.Name), format.HumanBytes2(d.FreeMemory),
			format.HumanBytes2(d.TotalMemory)))
	}
	if len(gpus) == 0 {
		lines = append(lines, "no GPU that ollama serve would use")
	}
	return lines
}
