//go:build linux

package longrope

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// running is a search with workers, as a process.
type running struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
}

func startSearch(t *testing.T, program string, env []string, args ...string) *running {
	t.Helper()
	r := &running{
		cmd:   exec.Command(program, append([]string{"longrope", "search"}, args...)...),
		ended: make(chan struct{}),
	}
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Stderr = &r.stderr
	require.NoError(t, r.cmd.Start())
	go func() {
		r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() { r.cmd.Process.Kill() })
	return r
}

// workers are the processes that the search has started.
func (r *running) workers() (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, _ := os.ReadFile(path)
		_, after, ok := strings.Cut(string(b), ") ") // state, parent, …
		if fields := strings.Fields(after); ok && len(fields) > 1 &&
			fields[1] == strconv.Itoa(r.cmd.Process.Pid) &&
			fields[0] != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// waitWorkers waits until there are n, or the search ends.
func (r *running) waitWorkers(t *testing.T, n int) (pids []int) {
	t.Helper()
	require.Eventually(t, func() bool {
		pids = r.workers()
		select {
		case <-r.ended:
			return true
		default:
			return len(pids) == n
		}
	}, time.Minute, 5*time.Millisecond, "no %d workers: %s", n, &r.stderr)
	return pids
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// gone checks that none of the processes stays.
func gone(t *testing.T, pids []int) {
	t.Helper()
	assert.Eventually(t, func() bool {
		for _, pid := range pids {
			if alive(pid) {
				return false
			}
		}
		return true
	}, time.Minute, 5*time.Millisecond, "workers outlive their search")
}

// point is where workers wait: at a number of lines of a journal (FAKE_STEP).
type point struct{ file, journal string }

func newPoint(dir, journal string) point {
	return point{filepath.Join(dir, "point"), filepath.Join(dir, journal)}
}

func (p point) env() string { return "FAKE_STEP=" + p.file + " " + p.journal }

// set lets the processes that wait continue to the point. It appears whole, by rename.
func (p point) set(t *testing.T, lines int) {
	t.Helper()
	require.NoError(t, os.WriteFile(p.file+".new", []byte(strconv.Itoa(lines)), 0o644))
	require.NoError(t, os.Rename(p.file+".new", p.file))
}

// held waits until a worker waits at the point, and returns it.
func (p point) held(t *testing.T, lines int, r *running) (pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		b, _ := os.ReadFile(p.journal + ".held")
		for _, line := range strings.Split(string(b), "\n") {
			number, at, _ := strings.Cut(line, " waits at ")
			pid, _ = strconv.Atoi(number)
			if at == strconv.Itoa(lines) && alive(pid) {
				return true
			}
		}
		return false
	}, time.Minute, time.Millisecond, "nothing waits at %d lines: %s", lines, &r.stderr)
	return pid
}

func countLines(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return bytes.Count(b, []byte("\n"))
}

// TestKilled kills searches and their workers, twenty times, at points of their journal that are
// drawn: the factors are those of a search that nobody killed, to the last byte, and nothing stays
// that runs.
func TestKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LONGROPE_KILL_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("for the same kills: LONGROPE_KILL_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	m, dir := tinyModel(t), t.TempDir()
	args := func(out string, more ...string) []string {
		return append([]string{
			m.path, "--target", "256", "--windows", "2", "--budget", "30k", "-o",
			filepath.Join(dir, out),
		}, more...)
	}
	whole := startSearch(t, "ollama", nil, args("whole.json")...)
	<-whole.ended
	want, err := os.ReadFile(filepath.Join(dir, "whole.json"))
	require.NoError(t, err, whole.stderr.String())
	end := countLines(t, filepath.Join(dir, "whole.json.study"))

	var points []int // in rising order, of which no two are one
	for _, i := range rng.Perm(end - 10)[:20] {
		points = append(points, i+2)
	}
	slices.Sort(points)
	p := newPoint(dir, "cut.json.study")
	var r *running
	var pids []int
	coordinators := 0
	for _, lines := range points {
		p.set(t, lines)
		if r == nil {
			r = startSearch(t, "ollama", []string{p.env()}, args("cut.json", "--workers", "2")...)
		}
		victim := p.held(t, lines, r)
		pids = append(pids, r.workers()...)
		if rng.IntN(2) == 0 {
			coordinators++
			require.NoError(t, r.cmd.Process.Kill())
			<-r.ended
			gone(t, pids)
			r, pids = nil, nil
			continue
		}
		require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
	}
	t.Logf("%d kills in %d lines, %d of them of the search itself", len(points), end, coordinators)
	p.set(t, math.MaxInt)
	if r == nil {
		r = startSearch(t, "ollama", nil, args("cut.json")...)
	}
	<-r.ended
	gone(t, pids)
	got, err := os.ReadFile(filepath.Join(dir, "cut.json"))
	require.NoError(t, err, r.stderr.String())
	assert.Equal(t, string(want), string(got))
}

// TestStopped: a worker that hangs costs its evaluation, and ends with the search.
func TestStopped(t *testing.T) {
	m, dir := tinyModel(t), t.TempDir()
	args := []string{m.path, "--target", "256", "--windows", "2", "--budget", "20k", "-o"}
	whole := startSearch(t, "ollama", nil, append(args, filepath.Join(dir, "whole.json"))...)
	<-whole.ended
	p := newPoint(dir, "stopped.json.study")
	p.set(t, 5)
	r := startSearch(t, "ollama", []string{p.env()},
		append(args, filepath.Join(dir, "stopped.json"), "--workers", "2")...)
	pids := r.waitWorkers(t, 2)
	require.NoError(t, syscall.Kill(p.held(t, 5, r), syscall.SIGSTOP))
	p.set(t, math.MaxInt)
	<-r.ended
	want, err := os.ReadFile(filepath.Join(dir, "whole.json"))
	require.NoError(t, err, whole.stderr.String())
	got, err := os.ReadFile(filepath.Join(dir, "stopped.json"))
	require.NoError(t, err, r.stderr.String())
	assert.Equal(t, string(want), string(got))
	gone(t, pids)
}

// TestAlone: a search that is killed leaves its workers on other machines waiting; they continue
// with it when it is back, and end with it.
func TestAlone(t *testing.T) {
	ns, err := server.NewServer(
		&server.Options{
			Host:      "127.0.0.1",
			Port:      server.RANDOM_PORT,
			JetStream: true,
			StoreDir:  t.TempDir(),
			NoLog:     true,
			NoSigs:    true,
		},
	)
	require.NoError(t, err)
	go ns.Start()
	t.Cleanup(ns.Shutdown)
	require.True(t, ns.ReadyForConnections(10*time.Second))
	m, dir := tinyModel(t), t.TempDir()
	args := func(out string) []string {
		return []string{
			m.path,
			"--target",
			"256",
			"--windows",
			"2",
			"--budget",
			"20k",
			"-o",
			filepath.Join(dir, out),
			"--nats",
			ns.ClientURL(),
		}
	}
	whole := startSearch(t, "ollama", nil, args("whole.json")[:9]...)
	<-whole.ended
	p := newPoint(dir, "cut.json.study")
	p.set(t, 5)
	var ends []chan error
	for range 2 {
		w := exec.Command("ollama", "longrope", "worker", m.path, "--nats", ns.ClientURL(),
			"--study", "cut")
		w.Env = append(os.Environ(), p.env())
		require.NoError(t, w.Start())
		t.Cleanup(func() { w.Process.Kill() })
		end := make(chan error, 1)
		go func() { end <- w.Wait() }()
		ends = append(ends, end)
	}
	var r *running
	for lines := 5; lines < 20; lines += 5 {
		p.set(t, lines)
		r = startSearch(t, "ollama", nil, args("cut.json")...)
		p.held(t, lines, r)
		require.NoError(t, r.cmd.Process.Kill())
		<-r.ended
	}
	t.Logf("%d kills of the search", 3)
	p.set(t, math.MaxInt)
	r = startSearch(t, "ollama", nil, args("cut.json")...)
	<-r.ended
	want, err := os.ReadFile(filepath.Join(dir, "whole.json"))
	require.NoError(t, err, whole.stderr.String())
	got, err := os.ReadFile(filepath.Join(dir, "cut.json"))
	require.NoError(t, err, r.stderr.String())
	assert.Equal(t, string(want), string(got))
	for _, end := range ends {
		select {
		case err := <-end:
			assert.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Error("a worker does not end with its search")
		}
	}
}
