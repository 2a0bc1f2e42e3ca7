package workers

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/mod/semver"
)

// Server says which NATS server to use and how to be let in; what is empty is not used.
type Server struct {
	URL string // nats://host:4222 or tls://…, several with commas
	// Creds is a credentials file (JWT and seed), Token a secret, User and Password a pair.
	Creds, Token, User, Password string
	// CA is a file of certificates to trust, Cert and Key are files of the client's own.
	CA, Cert, Key string

	// patience is how long a lost connection is tried again; 0 is two minutes.
	patience time.Duration

	inProcess *server.Server
}

// name is the server for messages: its address without a password.
func (s Server) name() string {
	var names []string
	for _, one := range strings.Split(s.URL, ",") {
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil && u.Host != "" {
			one = u.Host
		}
		names = append(names, one)
	}
	return strings.Join(names, ", ")
}

// Public is the URL to show, with xxxxx for a password.
func (s Server) Public() string {
	urls := strings.Split(s.URL, ",")
	for i, one := range urls {
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil && u.User != nil {
			urls[i] = u.Redacted()
		}
	}
	return strings.Join(urls, ",")
}

// connect returns a connection that looks for its server again when it is lost, and closes when it
// was not found in time.
func (s Server) connect(who string) (*nats.Conn, error) {
	patience := s.patience
	if patience == 0 {
		patience = 2 * time.Minute
	}
	wait := min(time.Second, patience/4)
	options := []nats.Option{
		nats.Name(
			who,
		), nats.Timeout(5 * time.Second),
		nats.ReconnectWait(wait), nats.MaxReconnects(int(patience / wait)),
		nats.PingInterval(20 * time.Second), nats.MaxPingsOutstanding(2),
	}
	if s.inProcess != nil {
		options = append(options, nats.InProcessServer(s.inProcess))
	}
	if s.Creds != "" {
		if _, err := os.ReadFile(s.Creds); err != nil {
			return nil, fmt.Errorf("--nats-creds: %w", err)
		}
		options = append(options, nats.UserCredentials(s.Creds))
	}
	if s.Token != "" {
		options = append(options, nats.Token(s.Token))
	}
	if s.User != "" {
		options = append(options, nats.UserInfo(s.User, s.Password))
	}
	if s.CA != "" {
		options = append(options, nats.RootCAs(s.CA))
	}
	if (s.Cert == "") != (s.Key == "") {
		return nil, errors.New("--nats-cert and --nats-key go together; give both")
	}
	if s.Cert != "" {
		options = append(options, nats.ClientCert(s.Cert, s.Key))
	}
	nc, err := nats.Connect(s.URL, options...)
	if err != nil {
		return nil, s.explain(err)
	}
	return nc, nil
}

// explain says what to do about an error of a connection.
func (s Server) explain(err error) error {
	text := err.Error()
	has := func(words string) bool { return strings.Contains(text, words) }
	// A server that does not like a certificate may close the connection before it can be read why.
	closed := s.CA+s.Cert != "" &&
		(has("broken pipe") || has("reset by peer") || has("EOF"))
	switch {
	case errors.Is(err, nats.ErrAuthorization),
		errors.Is(err, nats.ErrAuthExpired),
		errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf(
			"the NATS server %s refused the credentials: %w; check --nats-creds or --nats-token",
			s.name(), err)
	case errors.Is(err, nats.ErrNoServers),
		strings.Contains(text, "connection refused"),
		strings.Contains(text, "i/o timeout"),
		strings.Contains(text, "no such host"):
		return fmt.Errorf("no NATS server at %s: %w; check --nats and that the server runs",
			s.name(), err)
	case closed || has("x509") || has("tls:") || errors.Is(err, nats.ErrSecureConnRequired) ||
		errors.Is(err, nats.ErrSecureConnWanted):
		return fmt.Errorf(
			"no secure connection to the NATS server %s: %w; check "+
				"--nats-ca, --nats-cert and --nats-key",
			s.name(),
			err,
		)
	}
	return fmt.Errorf("the NATS server %s: %w", s.name(), err)
}

// leastVersion is the first version of a NATS server whose work queues hold one message of a
// subject, which keeps a job from being queued twice.
const leastVersion = "2.9.0"

// check refuses a server that is too old.
func (s Server) check(nc *nats.Conn) error {
	version := nc.ConnectedServerVersion()
	if semver.Compare("v"+version, "v"+leastVersion) >= 0 {
		return nil
	}
	return fmt.Errorf("the NATS server %s is of version %q; %s or later is needed", s.name(),
		printable(version), leastVersion)
}

// embedded starts a server of our own on the loopback, for workers on this machine: they alone are
// told its token. It keeps nothing that is worth keeping, since all results are in the study's
// journal.
func embedded() (Server, func(), error) {
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return Server{}, nil, err
	}
	dir, err := os.MkdirTemp("", "longrope-nats-")
	if err != nil {
		return Server{}, nil, fmt.Errorf("no place for the workers' queue: %w; set TMPDIR", err)
	}
	token := hex.EncodeToString(secret)
	ns, err := server.NewServer(&server.Options{
		ServerName: "longrope", Host: "127.0.0.1", Port: server.RANDOM_PORT, Authorization: token,
		JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true,
	})
	if err == nil {
		go ns.Start()
		if !ns.ReadyForConnections(10 * time.Second) {
			ns.Shutdown()
			err = errors.New("it did not start within 10 s")
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return Server{}, nil, fmt.Errorf("the workers' own NATS server: %w", err)
	}
	// All is in memory. The folder is gone before somebody can kill this process.
	os.RemoveAll(dir)
	stop := func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	}
	return Server{URL: ns.ClientURL(), Token: token, inProcess: ns}, stop, nil
}
