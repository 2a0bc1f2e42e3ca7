package workers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/longrope/longrope/plugin/tail"
)

// Local describes worker processes on this machine.
type Local struct {
	// Count of processes, and the command of each: this program as a local worker.
	Count   int
	Command []string
	// Env is added to the environment of process i (from 0); nil adds nothing.
	Env func(i int) []string
	// Config is handed to each together with the address of the server, for Joined.
	Config json.RawMessage
}

// Hand is what a local worker is handed on its standard input, in one line. The pipe stays open for
// as long as the coordinator lives: its end, however the coordinator ended, is the worker's.
type Hand struct {
	Server Server          `json:"server"`
	Search string          `json:"search"`
	ID     string          `json:"id"`
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config,omitempty"`
}

// Joined reads what a local worker is handed; lost is closed when the coordinator has gone.
func Joined(stdin io.Reader) (h Hand, lost <-chan struct{}, err error) {
	d := json.NewDecoder(stdin)
	if err := d.Decode(&h); err != nil {
		return h, nil, fmt.Errorf("a local worker is started by a search: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, stdin)
		close(gone)
	}()
	return h, gone, nil
}

// maxDeaths is how often in a row, without an answer between, one local worker may end by a signal,
// and maxErrors how often with an error of its own, which it will hardly get over.
const (
	maxDeaths = 5
	maxErrors = 2
)

// exit is the end of a local worker.
type exit struct {
	slot int
	id   string // of the process
	said string // the last of its standard error
	err  error
}

// locals are the processes.
type locals struct {
	Local
	hand   Hand
	events chan<- event

	mu      sync.Mutex
	slots   []*slot
	closing bool
	wait    sync.WaitGroup
}

type slot struct {
	name   string
	id     string // of the process that runs
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	deaths int // since its last answer
}

func newLocals(l Local, s Server, search string, events chan<- event) *locals {
	s.inProcess = nil
	ls := &locals{Local: l, events: events, hand: Hand{Server: s, Search: search, Config: l.Config}}
	for i := range l.Count {
		ls.slots = append(ls.slots, &slot{name: fmt.Sprintf("worker %d", i+1)})
	}
	return ls
}

func (l *locals) startAll() error {
	for i := range l.slots {
		if err := l.start(i); err != nil {
			return err
		}
	}
	return nil
}

func (l *locals) start(i int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil
	}
	s := l.slots[i]
	cmd := exec.Command(l.Command[0], l.Command[1:]...)
	cmd.Env = os.Environ()
	if l.Env != nil {
		cmd.Env = append(cmd.Env, l.Env(i)...)
	}
	out := &tail.Buffer{}
	cmd.Stderr = out
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", s.name, err)
	}
	s.cmd, s.stdin = cmd, stdin
	h := l.hand
	h.Name, h.ID = s.name, fmt.Sprintf("local-%d-%d", i+1, time.Now().UnixNano())
	s.id = h.ID
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	go stdin.Write(append(b, '\n'))
	l.wait.Add(1)
	go func() {
		defer l.wait.Done()
		err := cmd.Wait()
		l.mu.Lock()
		closing := l.closing
		l.mu.Unlock()
		if !closing {
			l.events <- event{exit: &exit{slot: i, id: h.ID, said: lastWords(out), err: err}}
		}
	}()
	return nil
}

// lastWords is the last line that a process wrote, without the text that the host's command line
// puts before an error.
func lastWords(out *tail.Buffer) string { return strings.TrimPrefix(out.LastLine(), "Error: ") }

// restart takes a worker that ended up again. It is an error when it ends time after time.
func (l *locals) restart(e exit, say func(format string, args ...any)) error {
	l.mu.Lock()
	s := l.slots[e.slot]
	s.deaths++
	deaths := s.deaths
	l.mu.Unlock()
	most, why := maxDeaths, fmt.Sprint(e.err)
	if ended := (*exec.ExitError)(nil); errors.As(e.err, &ended) && ended.Exited() {
		most = maxErrors
		if e.said != "" {
			why = e.said
		}
	}
	if deaths >= most {
		return fmt.Errorf("%s ended %d times without having evaluated anything: %s", s.name, deaths,
			why)
	}
	say("%s ended (%s) and is started again", s.name, why)
	return l.start(e.slot)
}

// answered notes that a worker is of use.
func (l *locals) answered(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.slots {
		if s.id == id {
			s.deaths = 0
		}
	}
}

// has says whether a worker is one of ours.
func (l *locals) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.slots, func(s *slot) bool { return s.id == id })
}

// close ends the workers: the end of their pipe asks them to, and soon after they are killed.
func (l *locals) close() {
	l.mu.Lock()
	l.closing = true
	for _, s := range l.slots {
		if s.stdin != nil {
			s.stdin.Close()
		}
	}
	l.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		l.wait.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
		for _, s := range l.slots {
			if s.cmd != nil && s.cmd.Process != nil {
				s.cmd.Process.Kill()
			}
		}
		<-ended
	}
}
