package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// examinePath says which ollama a user runs who types "ollama".
func (m machine) examinePath(ctx context.Context, r *report) {
	found := programs(m.path)
	at := slices.IndexFunc(found, func(p string) bool { return same(p, m.program) })
	others := slices.DeleteFunc(slices.Clone(found), func(p string) bool {
		return same(p, m.program)
	})
	var more []string
	for _, p := range others {
		more = append(more, p+" is "+whatItIs(ctx, p))
	}
	bin := filepath.Dir(m.program)
	switch {
	case at == 0:
		r.add(OK, "PATH", "ollama is this program", more...)
	case len(found) == 0:
		r.add(Note, "PATH", "no ollama is in PATH; add "+bin)
	case at < 0:
		r.add(Note, "PATH", "ollama is another program; put "+bin+" first", more...)
	default:
		r.add(Note, "PATH", "another ollama comes before this program; put "+bin+" first", more...)
	}
}

// programs are the files named ollama in the folders of PATH, in order, each once.
func programs(path string) []string {
	var found []string
	for _, dir := range filepath.SplitList(path) {
		p, err := exec.LookPath(filepath.Join(dir, "ollama"))
		if dir == "" || err != nil {
			continue
		}
		if !slices.ContainsFunc(found, func(q string) bool { return same(p, q) }) {
			found = append(found, p)
		}
	}
	return found
}

func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// Lines of --version: of programs with LongRoPE, and of others.
var (
	longropeLine = regexp.MustCompile(`(?m)^longrope version is (.*)$`)
	clientLine   = regexp.MustCompile(`(?m)^Warning: client version is (\S+)`)
)

// whatItIs asks another ollama for its version. It is sent to a port where no server is, since the
// client otherwise says the server's.
func whatItIs(ctx context.Context, program string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Env = append(os.Environ(), "OLLAMA_HOST=127.0.0.1:9")
	cmd.WaitDelay = time.Second
	said, err := cmd.Output()
	if m := longropeLine.FindSubmatch(said); m != nil {
		return "longrope " + string(m[1])
	}
	if m := clientLine.FindSubmatch(said); m != nil {
		return "ollama " + string(m[1]) + ", without longrope"
	}
	if err != nil {
		return "something that does not say its version: " + strings.TrimSpace(err.Error())
	}
	return "something that does not say its version"
}
