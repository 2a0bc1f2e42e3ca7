//go:build cgo

package longrope

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/ollama/ollama/discover"
	"github.com/ollama/ollama/ml"
	ggml "github.com/ollama/ollama/ml/backend/ggml/ggml/src"

	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/plugin/kernel"
	"github.com/longrope/longrope/plugin/memory"
)

// findGPUs has the engine, which runs in this process, load the GPU backend that "ollama run"
// would: the host asks each of its libraries in a process of its own (this program again) and drops
// devices that two of them find, or that one cannot use. A machine that has no such library pays
// nothing, and OLLAMA_LIBRARY_PATH, as the server sets it, goes before.
var findGPUs = sync.OnceFunc(func() {
	if _, set := os.LookupEnv("OLLAMA_LIBRARY_PATH"); set {
		return
	}
	if libs, _ := filepath.Glob(filepath.Join(ml.LibOllamaPath, "*", "*ggml-*")); len(libs) == 0 {
		return
	}
	level := slog.SetLogLoggerLevel(slog.LevelError + 1) // the host reports all about its search
	gpus := discover.GPUDevices(context.Background(), nil)
	slog.SetLogLoggerLevel(level)
	if len(gpus) == 0 {
		return
	}
	gpus = slices.DeleteFunc(
		gpus,
		func(d ml.DeviceInfo) bool { return d.Library != gpus[0].Library },
	)
	devices = gpus
	os.Setenv(
		"OLLAMA_LIBRARY_PATH",
		strings.Join(gpus[0].LibraryPath, string(filepath.ListSeparator)),
	)
	for name, value := range ml.GetVisibleDevicesEnv(gpus, true) {
		os.Setenv(name, value)
	}
})

// slowCPU says where the CPU backends should be, if none was loaded: what is compiled into the
// program takes their place, and knows nothing of this processor. The host looks only into folders
// whose path holds lib/ollama.
func slowCPU() string {
	if runtime.GOOS != "linux" || kernel.CPULibrary() != "" {
		return ""
	}
	return strings.Join(ggml.LibPaths(), ", ")
}

// devices are the GPUs that findGPUs found.
var devices []ml.DeviceInfo

// deviceEnv lets worker process i see one GPU alone, each its own while there are enough. Who set
// CUDA_VISIBLE_DEVICES and the library's path has that list shared out; without GPUs there is
// nothing to say.
func deviceEnv(i int) (env []string) {
	if len(devices) > 0 {
		for name, value := range ml.GetVisibleDevicesEnv(devices[i%len(devices):][:1], true) {
			env = append(env, name+"="+value)
		}
		return env
	}
	if list := strings.Split(os.Getenv("CUDA_VISIBLE_DEVICES"), ","); len(list) > 1 {
		env = append(env, "CUDA_VISIBLE_DEVICES="+list[i%len(list)])
	}
	return env
}

// machine is the memory of the machine and of the GPUs that the server would use.
func machine(m *model) memory.Machine {
	findGPUs()
	return engine.Machine(m.path, devices)
}

// openEngine is the opener of the program.
var openEngine = opener{load: loadEngine, slow: slowCPU}

func loadEngine(path string, o openOptions) (runner, error) {
	findGPUs()
	forks := 0
	if o.Forks {
		forks = 1 // more at once are faster on a GPU alone, and differ by rounding
	}
	return engine.OpenOn(o.Engine, path, engine.Options{
		Name: o.Name, Length: o.Length, Threads: o.Threads, Batch: o.Batch,
		GPULayers: &o.GPULayers, Ladder: o.Ladder, Progress: o.Progress,
		Forks: forks,
	})
}
