// Prepare makes the source trees of the host that this project builds with.
//
//	go run ./patches/prepare [-src DIR] [-dst DIR] [-unpatched DIR] [-force]
//
// It copies the pinned host out of Go's module cache, or out of a git clone of
// the tag (-src), into build/host, applies the patch series, and writes
// go.work, with which every go command in this repository then builds with
// the patched host. In addition, build/host-stock gets the build fixes alone: it
// is the unpatched host that tests compare with, for which
// GOWORK=build/host-stock.work is set. Run again, it does nothing; after a
// change of the series it rewrites only the files that differ.
//
// Run it with GOWORK=off (make host does): a go.work whose tree was removed
// stops the go command before it can start anything.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/longrope/longrope/patches"
)

func main() {
	o := options{out: os.Stdout}
	flag.StringVar(&o.src, "src", "",
		"git clone of the host at "+patches.HostVersion+" (default: the module cache)")
	flag.StringVar(&o.dst, "dst", "build/host", "tree to make, with the whole series")
	flag.StringVar(&o.unpatched, "unpatched", "build/host-stock",
		"tree to make with the build fixes alone, \"\" for none")
	flag.BoolVar(&o.force, "force", false, "throw away what was edited by hand in these trees")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(),
			"usage: go run ./patches/prepare [flags]\n\nMakes the host's source trees: %s %s "+
				"with the series in patches/.\n\n", patches.HostModule, patches.HostVersion)
		flag.PrintDefaults()
	}
	flag.Parse()
	err := errors.New("takes no arguments, only flags: see -h")
	if flag.NArg() == 0 {
		err = o.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

type options struct {
	src, dst, unpatched string
	force               bool
	out                 io.Writer
}

func (o options) run() error {
	root, err := repository()
	if err != nil {
		return err
	}
	if o.src != "" { // relative to where it was typed; the trees are to the repository
		if o.src, err = filepath.Abs(o.src); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	series, err := patches.Embedded()
	if err != nil {
		return err
	}
	goSum, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	sum, err := patches.PinnedSum(goSum)
	if err != nil {
		return err
	}

	if err := o.tree(o.dst, "go.work", sum, series); err != nil {
		return err
	}
	if o.unpatched != "" {
		return o.tree(o.unpatched, o.unpatched+".work", sum, series.Area(patches.BuildArea))
	}
	return nil
}

// tree makes one tree and the workspace file that builds with it.
func (o options) tree(dst, work, sum string, series patches.Series) error {
	start := time.Now()
	r, err := patches.Prepare(
		patches.Options{Source: o.source, Sum: sum, Dst: dst, Series: series, Force: o.force})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s with %d patches (%.8s)", patches.HostVersion, len(series),
		series.Hash())
	took := time.Since(start).Round(10 * time.Millisecond)
	for _, p := range r.Discarded {
		fmt.Fprintf(o.out, "%s: threw away the edit of %s\n", dst, p)
	}
	switch {
	case r.UpToDate():
		fmt.Fprintf(o.out, "%s: up to date, %s\n", dst, what)
	case r.Created:
		fmt.Fprintf(o.out, "%s: made from %d files, %s, in %v\n", dst, r.Files, what, took)
	default:
		for _, p := range r.Written {
			fmt.Fprintf(o.out, "%s: wrote %s\n", dst, p)
		}
		for _, p := range r.Removed {
			fmt.Fprintf(o.out, "%s: removed %s\n", dst, p)
		}
		fmt.Fprintf(o.out, "%s: %d of %d files changed, %s, in %v\n", dst,
			len(r.Written)+len(r.Removed), r.Files, what, took)
	}
	return o.workspace(work, dst)
}

// source finds the unpatched host. The go command downloads it when it is not
// in the module cache, and checks it against go.sum.
func (o options) source() (string, error) {
	if o.src != "" {
		return o.src, nil
	}
	module := patches.HostModule + "@" + patches.HostVersion
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	runErr := cmd.Run()
	var m struct{ Dir, Error string }
	if err := json.Unmarshal(stdout.Bytes(), &m); err != nil || runErr != nil || m.Dir == "" {
		why := m.Error
		if why == "" {
			why = strings.TrimSpace(stderr.String())
		}
		if why == "" {
			why = fmt.Sprint(errors.Join(runErr, err))
		}
		return "", fmt.Errorf(
			"cannot get %s: %s: connect to a module proxy once, or give a git clone of the "+
				"tag with -src", module, why)
	}
	return m.Dir, nil
}

const workMark = "// Made by patches/prepare; git ignores it."

var goLine = regexp.MustCompile(`(?m)^go [0-9.]+$`)

// workspace writes the file that makes the go command take the tree for the
// host, unless it says so already.
func (o options) workspace(name, tree string) error {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	rel := func(to string) (string, error) {
		abs, err := filepath.Abs(to)
		if err != nil {
			return "", err
		}
		dir, err := filepath.Abs(filepath.Dir(name))
		if err != nil {
			return "", err
		}
		p, err := filepath.Rel(dir, abs)
		if err != nil {
			return "", err
		}
		p = filepath.ToSlash(p)
		if !strings.HasPrefix(p, ".") {
			p = "./" + p
		}
		return p, nil
	}
	use, err := rel(".")
	if err != nil {
		return err
	}
	replace, err := rel(tree)
	if err != nil {
		return err
	}
	want := fmt.Sprintf("%s\n\n%s\n\nuse %s\n\nreplace %s => %s\n", workMark, goLine.Find(mod), use,
		patches.HostModule, replace)
	have, err := os.ReadFile(name)
	switch {
	case err == nil && string(have) == want:
		return nil
	case err == nil && !bytes.HasPrefix(have, []byte(workMark)) && !o.force:
		return fmt.Errorf(
			"%s is not from this tool: add \"replace %s => %s\" to it yourself, or overwrite "+
				"it with -force", name, patches.HostModule, replace)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return os.WriteFile(name, []byte(want), 0o644)
}

// repository returns the folder of this module's go.mod, at or above the
// working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		mod, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module github.com/longrope/longrope\n")) {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside the repository: run it there", dir)
		}
	}
}
