package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	xmodule "golang.org/x/mod/module"
)

// docs is the folder of licences and the service in a tarball, and in an installation.
const docs = "share/ollama-longrope"

// compiledIn are parts that are no Go modules: where their licences are, the first that is there.
// The names of Debian's packages are those of patches/scripts/packages.sh.
var compiledIn = []struct {
	name  string
	paths []string // in the build folder, or absolute
}{
	{"ollama", []string{"host/LICENSE"}},
	{"llama.cpp", []string{"host/llama/llama.cpp/LICENSE"}},
	{"ggml", []string{"host/ml/backend/ggml/ggml/LICENSE"}},
	{"nlohmann-json", []string{"/usr/share/doc/nlohmann-json3-dev/copyright"}},
	{"stb", []string{"/usr/share/doc/libstb-dev/copyright"}},
	{"vulkan-loader", []string{"/usr/share/doc/libvulkan1/copyright"}},
}

// licences are the licence of the program, those of its parts, and the service; and the names of
// parts whose licence is not here. A Go module without one is an error.
func (r *release) licences() (files []entry, missing []string, err error) {
	text := func(name, path string) error {
		b, err := os.ReadFile(path)
		if err == nil {
			files = append(files, entry{name: docs + "/" + name, text: b, mode: 0o644})
		}
		return err
	}
	if err := text("LICENSE", "LICENSE"); err != nil {
		return nil, nil, fmt.Errorf("%w: run from the top of the source", err)
	}
	for _, c := range compiledIn {
		found := false
		for _, p := range c.paths {
			if !filepath.IsAbs(p) {
				p = filepath.Join(r.build, p)
			}
			if err := text("licences/"+c.name, p); err == nil {
				found = true
				break
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, nil, err
			}
		}
		if !found {
			missing = append(missing, c.name)
		}
	}
	modules, err := r.modules()
	if err != nil {
		return nil, nil, err
	}
	for _, m := range modules {
		names, err := licenceFiles(m.dir)
		if err != nil {
			return nil, nil, fmt.Errorf("module %s: %w", m.path, err)
		}
		for _, name := range names {
			err := text(path.Join("licences", m.path, name), filepath.Join(m.dir, name))
			if err != nil {
				return nil, nil, err
			}
		}
	}
	service, err := scripts.ReadFile("ollama-longrope.service")
	if err != nil {
		return nil, nil, err
	}
	files = append(files, entry{
		name: docs + "/ollama-longrope.service", text: service, mode: 0o644,
	})
	return files, missing, nil
}

// module is a Go module that is compiled into the program.
type module struct{ path, dir string }

func (r *release) modules() ([]module, error) {
	info, err := buildinfo.ReadFile(r.binary)
	if err != nil {
		return nil, err
	}
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMODCACHE: %w", err)
	}
	cache := strings.TrimSpace(string(out))
	var all []module
	for _, d := range info.Deps {
		if d.Replace != nil { // the patched host
			continue
		}
		dir, err := folder(d.Path, d.Version)
		if err != nil {
			return nil, err
		}
		all = append(all, module{d.Path, filepath.Join(cache, dir)})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s names no modules", r.binary)
	}
	return all, nil
}

// folder is where the module cache has a version of a module.
func folder(path, version string) (string, error) {
	path, err := xmodule.EscapePath(path)
	if err != nil {
		return "", err
	}
	version, err = xmodule.EscapeVersion(version)
	return path + "@" + version, err
}

// licenceFiles are the names of the licences in the folder of a module.
func licenceFiles(dir string) ([]string, error) {
	all, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range all {
		name := strings.ToUpper(e.Name())
		if e.Type().IsRegular() && slices.ContainsFunc(
			[]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS", "AUTHORS"},
			func(prefix string) bool { return strings.HasPrefix(name, prefix) },
		) {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no licence in " + dir)
	}
	return names, nil
}
