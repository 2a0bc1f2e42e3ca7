// Dist makes a release out of what "make build" built: tarballs in Ollama's own layout, their sums,
// the installer, and a manifest.
//
//	go run ./plugin/dist -build build -binary FILE -o build/dist
//
// The same inputs give the same bytes: entries are sorted, owned by root, and have the time of the
// commit (SOURCE_DATE_EPOCH). "make dist" runs it.
package main

import (
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/patches"
)

// scripts are the files of a release that a person wrote.
//
//go:embed install.sh Dockerfile ollama-longrope.service
var scripts embed.FS

// release is what is to be made.
type release struct {
	build  string // what make built: lib/ollama, host
	binary string // the program
	out    string
	arch   string // as Go names it
	time   time.Time
	commit string
}

func main() {
	var r release
	flag.StringVar(&r.build, "build", "build", "`folder` of what make built")
	flag.StringVar(&r.binary, "binary", "build/bin/ollama", "`file` of the program")
	flag.StringVar(&r.out, "o", "build/dist", "`folder` to write to")
	flag.StringVar(&r.arch, "arch", "amd64", "`architecture` of the program, as Go names it")
	flag.Parse()
	if err := r.run(); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

func (r *release) run() error {
	if err := r.date(); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	docs, missing, err := r.licences()
	if err != nil {
		return err
	}
	base, gpus, err := r.libraries()
	if err != nil {
		return err
	}
	m, err := r.manifest(missing)
	if err != nil {
		return err
	}
	files := append(docs, entry{name: "bin/ollama", path: r.binary, mode: 0o755})
	files = append(files, base...)
	if err := r.tarball("", files, m); err != nil {
		return err
	}
	for _, kind := range slices.Sorted(maps.Keys(gpus)) {
		if !licensed(gpus[kind]) {
			m.LicencesMissing = append(m.LicencesMissing, kind)
		}
		if err := r.tarball("-"+kind, gpus[kind], m); err != nil {
			return err
		}
	}
	if err := r.scripts(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, "manifest-"+r.arch+".json"), append(text, '\n'),
		0o644); err != nil {
		return err
	}
	return r.sums()
}

// date takes time and commit from git, the time from SOURCE_DATE_EPOCH if that is set.
func (r *release) date() error {
	git := func(format string) string {
		out, err := exec.Command("git", "log", "-1", "--format="+format).Output()
		if err != nil {
			return "" // a source archive
		}
		return strings.TrimSpace(string(out))
	}
	r.commit = git("%H")
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		epoch = git("%ct")
	}
	if epoch == "" {
		return fmt.Errorf("this is no git checkout: set SOURCE_DATE_EPOCH, the time of the " +
			"release in seconds")
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	return nil
}

// libraries are the backends: those of the CPU and Vulkan, which go with the program, and the
// folders of other GPUs by their names.
func (r *release) libraries() (base []entry, gpus map[string][]entry, err error) {
	lib := filepath.Join(r.build, "lib", "ollama")
	if variants, _ := filepath.Glob(filepath.Join(lib, "libggml-cpu*")); len(variants) == 0 {
		return nil, nil, fmt.Errorf("%s has no CPU backend: run make build", lib)
	}
	gpus = map[string][]entry{}
	_, cuda := r.made("cuda")
	err = filepath.Walk(lib, func(file string, fi os.FileInfo, err error) error {
		rel, relErr := filepath.Rel(lib, file)
		if err != nil || relErr != nil || fi.IsDir() || strings.HasPrefix(fi.Name(), ".") {
			return err
		}
		e := entry{name: "lib/ollama/" + filepath.ToSlash(rel), path: file, mode: 0o755}
		switch folder, _, inside := strings.Cut(filepath.ToSlash(rel), "/"); {
		case !inside || folder == "vulkan":
			base = append(base, e)
		case strings.HasPrefix(folder, "cuda_") && !cuda: // of other patches, or of one GPU
		default:
			gpus[folder] = append(gpus[folder], e)
		}
		return nil
	})
	return base, gpus, err
}

// licensed says that the vendor's licence is among the files of a kind of GPU.
func licensed(files []entry) bool {
	return slices.ContainsFunc(files, func(e entry) bool { return path.Base(e.name) == "LICENSE" })
}

// name is that of a tarball of a kind, "" for the program's own.
func (r *release) name(kind string) string {
	return fmt.Sprintf("ollama-%s-linux-%s%s.tgz", patches.Version(), r.arch, kind)
}

func (r *release) tarball(kind string, files []entry, m *manifest) error {
	name := r.name(kind)
	f, err := os.CreateTemp(r.out, ".dist-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	sums, err := writeArchive(f, files, r.time)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	m.Archives = append(m.Archives, archive{Name: name, Files: sums})
	return os.Rename(f.Name(), filepath.Join(r.out, name))
}

// scripts puts the files next to the tarballs that are used from there.
func (r *release) scripts() error {
	for _, name := range []string{"install.sh", "Dockerfile"} {
		text, err := scripts.ReadFile(name)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		path := filepath.Join(r.out, name)
		if err := os.WriteFile(path, text, mode); err != nil {
			return err
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

// sums writes SHA256SUMS, of all that is in the folder.
func (r *release) sums() error {
	names, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, n := range names {
		if !n.Type().IsRegular() || n.Name() == "SHA256SUMS" || strings.HasPrefix(n.Name(), ".") {
			continue
		}
		digest, err := convert.FileDigest(filepath.Join(r.out, n.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s  %s\n", strings.TrimPrefix(digest, "sha256:"), n.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(b.String()), 0o644)
}
