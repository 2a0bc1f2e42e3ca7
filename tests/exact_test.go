package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/api"

	"github.com/longrope/longrope/plugin/server"
)

// Keys that one request rotated are of no use to the next one that asks for exact keys: it answers
// as a server that never saw them, to the last bit. One that takes rotated keys reuses them.
func (h *host) testExact(t *testing.T) {
	const n = 2
	policy := func(p string) map[string]any { return map[string]any{"longrope_crossing": p} }
	first, second := h.prompt(t, 3000, serverL-2*n), h.prompt(t, 3000, serverL+8)
	require.True(t, strings.HasPrefix(second, first))
	h.forget(t, "default-2k")
	_, fresh := logprobs(t, h.Server, "default-2k", second, n, policy("recompute"))

	h.forget(t, "default-2k")
	_, _ = logprobs(t, h.Server, "default-2k", first, n, policy("rerotate"))
	var rotated, again, exact []float64
	log := h.since(t, func() {
		_, rotated = logprobs(t, h.Server, "default-2k", second, n, policy("rerotate"))
	})
	require.Contains(t, said(log), "policy=rerotate", "the control: keys are rotated")
	require.NotEqual(t, fresh, rotated, "the control: which is not exact")
	log = h.since(t, func() {
		_, again = logprobs(t, h.Server, "default-2k", second, n, policy("rerotate"))
	})
	require.NotContains(t, said(log), crossing, "rotated keys serve who takes them")
	require.NotEqual(t, fresh, again)
	log = h.since(t, func() {
		_, exact = logprobs(t, h.Server, "default-2k", second, n, policy("recompute"))
	})
	assert.Regexp(t, crossing+`".* from=1 to=1 cause=exact policy=recompute tokens=2`, said(log))
	assert.Equal(t, fresh, exact)
	log = h.since(t, func() {
		_, exact = logprobs(t, h.Server, "default-2k", second, n, policy("recompute"))
	})
	assert.NotContains(t, said(log), crossing, "keys that were computed again are exact")
}

// endpoints are those that take a prompt, each with a body for a model and a text, and whether it
// answers in a stream.
var endpoints = []struct {
	path, body string
	cut        string // the member of the answer that says how many tokens were cut
}{
	{"/api/generate", `{"model":%q,"prompt":%q,"options":{"num_predict":1}}`, "prompt_truncated"},
	{
		"/api/generate", `{"model":%q,"prompt":%q,"stream":false,"options":{"num_predict":1}}`,
		"prompt_truncated",
	},
	{
		"/api/chat", `{"model":%q,"messages":[{"role":"user","content":%q}],` +
			`"options":{"num_predict":1}}`, "prompt_truncated",
	},
	{"/api/embed", `{"model":%q,"input":%q}`, "prompt_truncated"},
	{"/api/embeddings", `{"model":%q,"prompt":%q}`, ""},
	{"/v1/completions", `{"model":%q,"prompt":%q,"max_tokens":1}`, "prompt_truncated"},
	{"/v1/completions", `{"model":%q,"prompt":%q,"max_tokens":1,"stream":true}`, "prompt_truncated"},
	{
		"/v1/chat/completions", `{"model":%q,"messages":[{"role":"user","content":%q}],` +
			`"max_tokens":1}`, "prompt_truncated",
	},
	{
		"/v1/chat/completions", `{"model":%q,"messages":[{"role":"user","content":%q}],` +
			`"max_tokens":1,"stream":true}`, "prompt_truncated",
	},
	{
		"/v1/chat/completions", `{"model":%q,"messages":[{"role":"user","content":%q}],` +
			`"max_tokens":1,"stream":true,"stream_options":{"include_usage":true}}`,
		"prompt_truncated",
	},
	{"/v1/embeddings", `{"model":%q,"input":%q}`, "prompt_truncated"},
	{"/v1/responses", `{"model":%q,"input":%q,"max_output_tokens":1}`, "input_truncated"},
	{
		"/v1/responses", `{"model":%q,"input":%q,"max_output_tokens":1,"stream":true}`,
		"input_truncated",
	},
	{
		"/v1/messages", `{"model":%q,"max_tokens":1,"messages":[{"role":"user","content":%q}]}`,
		"input_truncated",
	},
	{
		"/v1/messages", `{"model":%q,"max_tokens":1,"stream":true,` +
			`"messages":[{"role":"user","content":%q}]}`, "input_truncated",
	},
}

func post(t *testing.T, s *server.Server, path, body string) (int, string) {
	t.Helper()
	r, err := http.Post(s.URL()+path, "application/json", bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(b)
}

// A prompt that does not fit is cut, and every endpoint's answer says by how much; or, if the
// server is told to, refused with both numbers.
func TestRefuse(t *testing.T) {
	for name, env := range map[string]string{
		"llama.cpp": "OLLAMA_NEW_ENGINE=0", "Go engine": newEngine,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, env)
			_, err := h.Run(t.Context(), nil, "create", "chat", "-f", h.modelfile(t,
				"FROM default\nTEMPLATE \"{{ range .Messages }}{{ .Content }}\n{{ end }}\"\n"))
			require.NoError(t, err)
			long := h.prompt(t, 0, 2*serverL)
			refuses := h.start(t, "OLLAMA_LONGROPE_TRUNCATE=refuse")
			for _, e := range endpoints {
				if h.goEngine() && strings.Contains(e.path, "embed") {
					continue // which this model does not have on the Go engine
				}
				body := fmt.Sprintf(e.body, "chat", long)
				status, answer := post(t, refuses, e.path, body)
				assert.Equal(t, http.StatusBadRequest, status, "%s %s", e.body, answer)
				assert.Regexp(t, `the prompt has 51[0-9] tokens, num_ctx is 256`, answer, e.body)
				if h.goEngine() && strings.Contains(e.path, "v1") {
					continue // the server's part is the same for both engines
				}
				status, answer = post(t, h.Server, e.path, body)
				if e.cut == "" {
					assert.Equal(t, http.StatusBadRequest, status, "%s %s", e.body, answer)
					continue
				}
				assert.Equal(t, http.StatusOK, status, "%s %s", e.body, answer)
				assert.Regexp(t, fmt.Sprintf(`"%s":2[5-6][0-9]\b`, e.cut), answer, e.body)
				status, answer = post(t, refuses, e.path, fmt.Sprintf(e.body, "chat", "Call me"))
				assert.Equal(t, http.StatusOK, status, "%s %s", e.body, answer)
				assert.NotContains(t, answer, "truncated", e.body)
			}
			_, err = server.Start(context.Background(), h.binary, h.store,
				"OLLAMA_LONGROPE_TRUNCATE=cute")
			require.ErrorContains(t, err, `OLLAMA_LONGROPE_TRUNCATE is "cute", must be cut or refuse`)
		})
	}
}

// With no num_ctx a laddered model gets the longest rung that fits, and says so; a request, a
// parameter and the environment override it.
func (h *host) testFits(t *testing.T) {
	s := h.start(t, "OLLAMA_CONTEXT_LENGTH=0")
	far := *h.ladder
	last := far.Rungs[1]
	far.Rungs = append(far.Rungs[:2:2], last, last)
	far.Rungs[2].Length, far.Rungs[3].Length = 1<<14, 1<<29 // of which one fits
	writeLadder(t, h.path("far.json"), &far)
	_, err := h.Run(t.Context(), nil, "longrope", "convert", "default", "--factors",
		h.path("far.json"), "--name", "far")
	require.NoError(t, err)
	_, err = h.Run(t.Context(), nil, "longrope", "convert", "default", "--factors",
		h.path("far.json"), "--name", "far-1k", "--num-ctx", "1k")
	require.NoError(t, err)
	context := func(model string, options map[string]any) (n int, fitted bool) {
		t.Helper()
		body, err := json.Marshal(map[string]any{
			"model": model, "prompt": "Call me", "options": options, "stream": false,
		})
		require.NoError(t, err)
		status, answer := post(t, s, "/api/generate", string(body))
		require.Equal(t, http.StatusOK, status, answer)
		ps, err := s.Client().ListRunning(t.Context())
		require.NoError(t, err)
		for _, m := range ps.Models {
			if m.Name == model+":latest" {
				return m.ContextLength, m.Ladder != nil && m.Ladder.Fitted
			}
		}
		t.Fatalf("%s does not run", model)
		return 0, false
	}
	one := map[string]any{"num_predict": 1, "num_thread": 2}
	n, fitted := context("far", one)
	assert.Equal(t, 1<<14, n)
	assert.True(t, fitted)
	assert.Regexp(t, `longrope: num_ctx is not given, taking the longest rung that fits" num_ctx=16384`,
		s.Log())
	out, err := s.Run(t.Context(), nil, "ps")
	require.NoError(t, err)
	assert.Contains(t, out, "16384 (fits)")
	at := len(s.Log())
	_, _ = context("far", one)
	assert.NotContains(t, s.Log()[at:], "starting runner", "the next request finds it loaded")
	// a prompt that the default would not hold is not cut
	var last2 api.GenerateResponse
	require.NoError(t, s.Client().Generate(t.Context(), &api.GenerateRequest{
		Model: "far", Prompt: h.prompt(t, 0, 3*serverL), Options: one,
	}, func(r api.GenerateResponse) error {
		last2 = r
		return nil
	}))
	assert.Equal(t, 3*serverL, last2.PromptEvalCount)
	assert.Zero(t, last2.PromptTruncated)

	n, fitted = context("far", map[string]any{"num_predict": 1, "num_ctx": 512})
	assert.Equal(t, 512, n)
	assert.False(t, fitted)
	n, fitted = context("far-1k", one)
	assert.Equal(t, 1024, n)
	assert.False(t, fitted)
	n, fitted = context("default", one)
	assert.Equal(t, serverL, n)
	assert.False(t, fitted)
}
