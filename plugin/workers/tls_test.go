package workers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// authority signs certificates, and writes them as files.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(
			1,
		), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a := &authority{cert, key, filepath.Join(t.TempDir(), "ca.pem")}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	require.NoError(t,
		os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue writes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t *testing.T) (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(
			2,
		), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, cert, "CERTIFICATE", der)
	der, err = x509.MarshalECPrivateKey(k)
	require.NoError(t, err)
	writePEM(t, key, "EC PRIVATE KEY", der)
	return cert, key
}

// startServer is a NATS server with options.
func startServer(t *testing.T, o *server.Options) Server {
	t.Helper()
	o.Host, o.Port, o.StoreDir = "127.0.0.1", server.RANDOM_PORT, t.TempDir()
	o.NoLog, o.NoSigs = true, true
	ns, err := server.NewServer(o)
	require.NoError(t, err)
	go ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	require.True(t, ns.ReadyForConnections(10*time.Second))
	return Server{URL: ns.ClientURL(), patience: time.Second}
}

// runs checks that a search with a worker works on a server.
func runs(t *testing.T, s Server) {
	t.Helper()
	want := alone(t, newStudy(t, "", 3000))
	c := coordinate(t, s, &words{})
	work(t, s, "worker", &synthetic{})
	study := newStudy(t, "", 3000)
	require.NoError(t, together(context.Background(), study, c))
	assert.Equal(t, want, found(t, study))
}

// TestTLS: both sides know each other by certificates; who has none, or trusts another authority,
// is not let in and sees why.
func TestTLS(t *testing.T) {
	ours := newAuthority(t)
	cert, key := ours.issue(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	s := startServer(t, &server.Options{
		JetStream: true, TLS: true, TLSVerify: true, TLSTimeout: 5,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{pair},
			ClientCAs:    pool,
			ClientAuth:   tls.RequireAndVerifyClientCert,
		},
	})

	good := s
	good.CA = ours.file
	good.Cert, good.Key = ours.issue(t)
	runs(t, good)

	for name, change := range map[string]func(s *Server){
		"no authority":          func(s *Server) { s.CA = "" },
		"another authority":     func(s *Server) { s.CA = newAuthority(t).file },
		"no certificate":        func(s *Server) { s.Cert, s.Key = "", "" },
		"another's certificate": func(s *Server) { s.Cert, s.Key = newAuthority(t).issue(t) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			change(&bad)
			err := Worker{Server: bad, Search: "test"}.Run(context.Background())
			assert.ErrorContains(t, err, "no secure connection to the NATS server 127.0.0.1:")
		})
	}
	half := good
	half.Key = ""
	_, err = half.connect("x")
	assert.ErrorContains(t, err, "--nats-cert and --nats-key go together")
	missing := good
	missing.CA = "missing.pem"
	_, err = missing.connect("x")
	assert.ErrorContains(t, err, "missing.pem")
}

// TestCredentials: a server that knows accounts by signed tokens lets in who has a credentials
// file.
func TestCredentials(t *testing.T) {
	operator, err := nkeys.CreateOperator()
	require.NoError(t, err)
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	user, err := nkeys.CreateUser()
	require.NoError(t, err)
	public := func(k nkeys.KeyPair) string {
		p, err := k.PublicKey()
		require.NoError(t, err)
		return p
	}
	operatorToken, err := jwt.NewOperatorClaims(public(operator)).Encode(operator)
	require.NoError(t, err)
	claims := jwt.NewAccountClaims(public(account))
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: -1,
		DiskStorage:   -1,
		Streams:       -1,
		Consumer:      -1,
	}
	accountToken, err := claims.Encode(operator)
	require.NoError(t, err)
	userToken, err := jwt.NewUserClaims(public(user)).Encode(account)
	require.NoError(t, err)
	seed, err := user.Seed()
	require.NoError(t, err)
	creds, err := jwt.FormatUserConfig(userToken, seed)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "me.creds")
	require.NoError(t, os.WriteFile(file, creds, 0o600))

	trusted, err := jwt.DecodeOperatorClaims(operatorToken)
	require.NoError(t, err)
	system, err := nkeys.CreateAccount()
	require.NoError(t, err)
	systemToken, err := jwt.NewAccountClaims(public(system)).Encode(operator)
	require.NoError(t, err)
	resolver := &server.MemAccResolver{}
	require.NoError(t, resolver.Store(public(system), systemToken))
	require.NoError(t, resolver.Store(public(account), accountToken))
	s := startServer(
		t,
		&server.Options{
			JetStream:        true,
			TrustedOperators: []*jwt.OperatorClaims{trusted},
			AccountResolver:  resolver,
			SystemAccount:    public(system),
		},
	)
	_, err = s.connect("nobody")
	assert.ErrorContains(t, err, "refused the credentials")
	s.Creds = file + ".missing"
	_, err = s.connect("nobody")
	assert.ErrorContains(t, err, "--nats-creds: open")
	s.Creds = file
	runs(t, s)
}

// TestNoJetStream: a server without what is needed is said to be one.
func TestNoJetStream(t *testing.T) {
	s := startServer(t, &server.Options{})
	_, err := New(context.Background(), Options{Server: &s, Name: "test"})
	assert.ErrorContains(t, err, "has no JetStream")
	assert.ErrorContains(t, err, "start it with -js")
}
