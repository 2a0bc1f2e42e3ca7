package tests

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A request that no runner can take is the client's fault, and ends nothing: the next request, on
// the same runner, is answered as before.
func (h *host) testBadRequests(t *testing.T) {
	post := func(body string) (int, string) {
		resp, err := http.Post(h.URL()+"/api/generate", "application/json",
			strings.NewReader(`{"model": "default-2k", "prompt": "In the", "stream": false, `+
				body+`}`))
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b)
	}
	want := h.ask(t, "default-2k", "In the beginning", 8)
	for body, words := range map[string]string{
		`"options": {"longrope_crossing": 5}`:      "longrope_crossing",
		`"options": {"longrope_crossing": "fast"}`: "no policy for crossing rungs",
		`"options": {"temperature": "hot"}`:        "must be of type float32",
		`"options": {"num_batch": 0}`:              "must be 1 or more, is 0",
		`"options": {"num_batch": -1}`:             "must be 1 or more, is -1",
		`"context": [1, -1]`:                       "context: token -1 at 1",
		`"context": [100000000]`:                   "context: token 100000000 at 0",
	} {
		code, answer := post(body)
		assert.Equal(t, http.StatusBadRequest, code, "%s: %s", body, answer)
		assert.Contains(t, answer, words, body)
		assert.Equal(t, want, h.ask(t, "default-2k", "In the beginning", 8), "after %s", body)
	}
}
