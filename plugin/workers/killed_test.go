package workers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestKilledServer: a server of another make, killed with no time to write anything, and started
// again on the same files, loses no job. NATS_SERVER is the program, nats-server if unset.
func TestKilledServer(t *testing.T) {
	program := os.Getenv("NATS_SERVER")
	if program == "" {
		program = "nats-server"
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("no nats-server here (Debian has one): whether jobs outlive its death is not tested")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	var cmd *exec.Cmd
	start := func() {
		cmd = exec.Command(program, "-js", "-a", "127.0.0.1", "-p", fmt.Sprint(port), "-sd",
			filepath.Join(dir, "js"))
		require.NoError(t, cmd.Start())
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
			if err == nil {
				conn.Close()
			}
			return err == nil
		}, 10*time.Second, 10*time.Millisecond)
	}
	kill := func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	start()
	defer func() { kill() }()
	want := alone(t, newStudy(t, "", 6000))
	there := Server{URL: fmt.Sprint("nats://127.0.0.1:", port), patience: 20 * time.Second}
	said := &words{}
	c := coordinate(t, there, said)
	for _, name := range []string{"one", "two"} {
		work(t, there, name, &synthetic{delay: 5 * time.Millisecond})
	}
	s := newStudy(t, "", 6000)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	told := 0
	for !s.Done() {
		require.NoError(t, c.Evaluate(ctx, trialsOf(s), func(r Result) error {
			if told++; told%5 == 2 {
				kill()
				start()
			}
			return s.Tell(r.ID, r.Losses, r.Tokens)
		}), said)
	}
	assert.Equal(t, want, found(t, s))
	t.Log(strings.Count(said.String(), "is back"), "kills:", said)
}
