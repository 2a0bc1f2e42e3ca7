package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// registry is a registry of models on the loopback, as much of one as the host's push and pull
// want: blobs that are uploaded in parts, and manifests.
type registry struct {
	*httptest.Server
	mu        sync.Mutex
	blobs     map[string][]byte
	uploads   map[string][]byte
	manifests map[string][]byte
}

func newRegistry(t *testing.T) *registry {
	r := &registry{
		blobs: map[string][]byte{}, uploads: map[string][]byte{}, manifests: map[string][]byte{},
	}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// name is what a model of the registry is called; scheme says that it has no TLS.
func (r *registry) name(model string) (name, scheme string) {
	return strings.TrimPrefix(r.URL, "http://") + "/library/" + model, "http://"
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, at, _ := strings.Cut(q.URL.Path, "/v2/library/")
	_, what, _ := strings.Cut(at, "/")
	body, err := io.ReadAll(q.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	kind, id, _ := strings.Cut(what, "/")
	switch {
	case kind == "manifests" && q.Method == http.MethodPut:
		r.manifests[at] = body
		w.WriteHeader(http.StatusCreated)
	case kind == "manifests":
		r.serve(w, r.manifests[at])
	case strings.HasPrefix(id, "uploads"):
		r.upload(w, q, body)
	case strings.HasPrefix(q.Host, "127."):
		// the host follows a blob to the machine that has it
		if r.blobs[id] == nil {
			http.NotFound(w, q)
			return
		}
		if q.Method == http.MethodHead {
			http.ServeContent(w, q, "", time.Time{}, strings.NewReader(string(r.blobs[id])))
			return
		}
		http.Redirect(w, q, strings.Replace(r.URL, "127.0.0.1", "localhost", 1)+q.URL.Path,
			http.StatusTemporaryRedirect)
	default:
		http.ServeContent(w, q, "", time.Time{}, strings.NewReader(string(r.blobs[id])))
	}
}

func (r *registry) serve(w http.ResponseWriter, b []byte) {
	if b == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(b)
}

// upload takes the parts of a blob, one after the other, and at the end its digest.
func (r *registry) upload(w http.ResponseWriter, q *http.Request, body []byte) {
	path := q.URL.Path
	if q.Method == http.MethodPost {
		path += "one" + hex.EncodeToString([]byte{byte(len(r.uploads))})
		r.uploads[path] = []byte{}
	}
	switch q.Method {
	case http.MethodPatch:
		r.uploads[path] = append(r.uploads[path], body...)
	case http.MethodPut:
		sum := sha256.Sum256(r.uploads[path])
		digest := "sha256:" + hex.EncodeToString(sum[:])
		if digest != q.URL.Query().Get("digest") {
			http.Error(w, "digest of another content", http.StatusBadRequest)
			return
		}
		r.blobs[digest] = r.uploads[path]
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Location", r.URL+path)
	w.WriteHeader(http.StatusAccepted)
}
