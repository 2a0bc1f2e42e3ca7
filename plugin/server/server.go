// Package server runs the real server of the host for the demonstration and the
// tests: on a free port of the loopback, with a store of its own, so that it
// touches neither a running Ollama nor its models.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/ollama/ollama/api"
)

// Server is a running server. Stop it.
type Server struct {
	binary string
	env    []string
	url    *url.URL
	cmd    *exec.Cmd
	exited chan error

	mu  sync.Mutex
	log bytes.Buffer
}

// Start runs binary ("ollama") as a server whose models lie in the folder store, and waits until it
// answers. extra are more environment variables, "NAME=value".
func Start(ctx context.Context, binary, store string, extra ...string) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()

	s := &Server{
		binary: binary,
		env: append(
			os.Environ(),
			append(
				[]string{"OLLAMA_HOST=" + address, "OLLAMA_MODELS=" + store, "OLLAMA_NOPRUNE=1"},
				extra...)...),
		url:    &url.URL{Scheme: "http", Host: address},
		exited: make(chan error, 1),
	}
	s.cmd = exec.Command(binary, "serve")
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.env, logWriter{s}, logWriter{s}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.exited <- s.cmd.Wait()
		close(s.exited) // for those who ask again
	}()

	client := s.Client()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := client.Heartbeat(ctx)
		if err == nil {
			return s, nil
		}
		select {
		case exit := <-s.exited:
			return nil, fmt.Errorf("%s serve ended (%v):\n%s", binary, exit, s.Log())
		default:
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			s.Stop()
			return nil, errors.Join(
				fmt.Errorf("%s serve does not answer: %w:\n%s", binary, err, s.Log()), ctx.Err())
		}
	}
}

// Stop ends the server and its runners, once more at no cost.
func (s *Server) Stop() {
	s.cmd.Process.Signal(os.Interrupt)
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.exited
	}
}

// Kill ends the server without a chance to clear up, as a crash does.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

// URL is where the server answers.
func (s *Server) URL() string { return s.url.String() }

// Client talks to the server's API.
func (s *Server) Client() *api.Client { return api.NewClient(s.url, http.DefaultClient) }

// Run runs the same program as a client of this server and returns what it prints on standard
// output.
func (s *Server) Run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.env, stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", s.binary, strings.Join(args, " "), err,
			stderr.String())
	}
	return stdout.String(), nil
}

// Log is what the server has written so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

type logWriter struct{ s *Server }

func (w logWriter) Write(p []byte) (int, error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.log.Write(p)
}
