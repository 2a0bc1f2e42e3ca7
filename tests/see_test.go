package tests

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/api"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/server"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/strict"
)

// Users see the ladder in show and ps, and warnings where something else happens than they
// may think. On both engines.
func TestSee(t *testing.T) {
	h := newHost(t)
	h.create(t, "chat", "default.gguf")
	_, err := h.Run(t.Context(), nil, "create", "chat", "-f",
		h.modelfile(t, "FROM chat\nTEMPLATE \"{{ range .Messages }}{{ .Content }}\n{{ end }}\"\n"))
	require.NoError(t, err)
	h.variants(t)
	t.Run("show", h.testSeeShow)
	t.Run("nothing without a ladder", h.testSeeNothing)
	for _, e := range []struct{ name, env string }{
		{"llama.cpp", "OLLAMA_NEW_ENGINE=0"}, {"Go engine", "OLLAMA_NEW_ENGINE=1"},
	} {
		t.Run(e.name, func(t *testing.T) {
			s := startServer(t, h.binary, h.store, "OLLAMA_NUM_PARALLEL=2", e.env)
			see := &seen{host: h, Server: s, goEngine: e.env == "OLLAMA_NEW_ENGINE=1"}
			t.Run("ps", see.testPs)
			t.Run("truncated", see.testTruncated)
			t.Run("num_ctx", see.testNumCtx)
			t.Run("factors", see.testFactors)
		})
	}
}

// seen is a server of one engine.
type seen struct {
	*host
	*server.Server
	goEngine bool
}

func (s *seen) since(t *testing.T, f func()) string {
	t.Helper()
	at := len(s.Server.Log())
	f()
	return s.Server.Log()[at:]
}

// generate asks for one token with options of the request.
func (s *seen) generate(
	t *testing.T,
	model, prompt string,
	options map[string]any,
) (last api.GenerateResponse) {
	t.Helper()
	if options == nil {
		options = map[string]any{}
	}
	options["num_predict"] = 1
	err := s.Server.Client().
		Generate(t.Context(), &api.GenerateRequest{
			Model: model, Prompt: prompt, Options: options,
		}, func(r api.GenerateResponse) error {
			last = r
			return nil
		})
	require.NoError(t, err)
	return last
}

// variants makes models whose RoPE is not what their file, or its user, says.
func (h *host) variants(t *testing.T) {
	t.Helper()
	ones, twos := make([]float32, 32), make([]float32, 32)
	for i := range ones {
		ones[i], twos[i] = 1, 2
	}
	long := reference.Tensor{Name: "rope_factors_long.weight", Dims: []uint64{32}, Data: twos}
	short := reference.Tensor{Name: "rope_factors_short.weight", Dims: []uint64{32}, Data: ones}
	freqs := reference.Tensor{Name: "rope_freqs.weight", Dims: []uint64{32}, Data: ones}
	for name, v := range map[string]struct {
		arch    string
		keys    map[string]any
		tensors []reference.Tensor
	}{
		"long-short": {"minicpm", map[string]any{"rope.scaling.type": "longrope"}, []reference.Tensor{long, short}},
		"short-only": {"minicpm", map[string]any{"rope.scaling.type": "longrope"}, []reference.Tensor{short}},
		"no-factors": {"minicpm", map[string]any{"rope.scaling.type": "longrope"}, nil},
		// loads on the Go engine only: the other one refuses tensors that it does not use
		"freqs-long": {"llama", map[string]any{"rope.scaling.type": "yarn", "rope.scaling.factor": float32(4)}, []reference.Tensor{freqs, long, short}},
	} {
		f, err := reference.Read(defaultmodel.Model)
		require.NoError(t, err)
		if v.arch != "llama" {
			f.SetArchitecture(v.arch)
		}
		f.Set(v.arch+".context_length", uint32(4*serverL))
		f.Set(v.arch+".rope.scaling.original_context_length", uint32(serverL))
		for key, value := range v.keys {
			f.Set(v.arch+"."+key, value)
		}
		f.Tensors = append(f.Tensors, v.tensors...)
		require.NoError(t, f.WriteFile(h.path(name+".gguf")))
		h.create(t, name, name+".gguf")
	}

	_, err := h.Run(t.Context(), nil, "longrope", "convert", h.path("default.gguf"), "--factors",
		h.path("factors.json"), "-o", h.path("beyond.gguf"))
	require.NoError(t, err)
	f, err := reference.ReadFile(h.path("beyond.gguf"))
	require.NoError(t, err)
	f.Set("llama.context_length", uint32(2*serverTarget))
	require.NoError(t, f.WriteFile(h.path("beyond.gguf")))
	h.create(t, "beyond", "beyond.gguf")
}

func (h *host) testSeeShow(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		r, err := h.Client().
			Show(t.Context(), &api.ShowRequest{Model: "default-2k", Verbose: verbose})
		require.NoError(t, err)
		require.NotNil(t, r.Ladder)
		assert.Equal(t, serverL, r.Ladder.OriginalContextLength)
		require.Len(t, r.Ladder.Rungs, len(h.ladder.Rungs))
		for i, g := range h.ladder.Rungs {
			assert.Equal(
				t,
				api.Rung{
					Length:          g.Length,
					StartWindow:     g.StartWindow,
					AttentionFactor: float32(g.AttentionFactor),
				},
				r.Ladder.Rungs[i],
			)
		}

		r, err = h.Client().Show(t.Context(), &api.ShowRequest{Model: "default", Verbose: verbose})
		require.NoError(t, err)
		assert.Nil(t, r.Ladder, "nothing new in the response of a model without a ladder")
	}

	out, err := h.Run(t.Context(), nil, "show", "default-2k")
	require.NoError(t, err)
	assert.Regexp(t,
		`(?s)\n  Ladder\n +original context length +256 *\n +rung 1 +up to 512 tokens, start `+
			`window 4, attention factor 1\.05 *\n`+
			` +rung 2 +up to 2048 tokens, start window 16, attention factor 1\.1 *\n`, out)
	out, err = h.Run(t.Context(), nil, "show", "default")
	require.NoError(t, err)
	assert.NotContains(t, out, "Ladder")
}

// Of a model without a ladder, whose prompts fit, users see what they see on the unpatched host.
func (h *host) testSeeNothing(t *testing.T) {
	binary, err := filepath.Abs("../build/stock/bin/ollama")
	require.NoError(t, err)
	if _, err := os.Stat(binary); err != nil {
		strict.Skipf(t, "no unpatched host to compare with (%v): run make stock first", err)
	}
	see := func(binary string) (out []string) {
		s := startServer(t, binary, h.store, "OLLAMA_NUM_PARALLEL=1")
		call := func(path, body string) string {
			resp, err := http.Post(s.URL()+path, "application/json", strings.NewReader(body))
			require.NoError(t, err)
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s", b)
			return string(b)
		}
		run := func(args ...string) string {
			text, err := s.Run(t.Context(), nil, args...)
			require.NoError(t, err)
			return text
		}
		out = append(
			out,
			call("/api/show", `{"model":"default"}`),
			run("show", "default"),
			run("show", "default", "--verbose"),
			call("/api/generate", `{"model":"default","prompt":"In the beginning","stream":false}`),
			call("/api/chat", `{"model":"chat","messages":[{"role":"user","content":"In the `+
				`beginning"}],"stream":false}`),
			call("/api/embed", `{"model":"default","input":"In the beginning"}`),
			run("ps"),
		)
		resp, err := http.Get(s.URL() + "/api/ps")
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return append(out, string(b))
	}
	// Times and durations, and the host prints parameters in any order.
	times := regexp.MustCompile(
		`"\d{4}-\d\d-\d\dT[^"]*"|"\w+_duration":\d+|` +
			`(num_predict|num_thread|temperature|repeat_penalty)[^\n]{0,40}?[\d.]+ ` +
			`*(\\n|\n|")`,
	)
	stock, patched := see(binary), see(h.binary)
	for i := range stock {
		assert.Equal(t, times.ReplaceAllString(stock[i], "*"),
			times.ReplaceAllString(patched[i], "*"))
	}
}

func (s *seen) testPs(t *testing.T) {
	ps := func() string {
		out, err := s.Server.Run(t.Context(), nil, "ps")
		require.NoError(t, err)
		return out
	}
	inUse := func(ctx context.Context) *api.LadderInUse {
		r, err := s.Server.Client().ListRunning(ctx)
		require.NoError(t, err)
		for _, m := range r.Models {
			if strings.HasPrefix(m.Name, "default-2k") {
				return m.Ladder
			}
		}
		t.Fatal("default-2k is not loaded")
		return nil
	}

	s.generate(t, "default", "In the beginning", nil)
	assert.Regexp(t, `^NAME +ID +SIZE +PROCESSOR +CONTEXT +UNTIL +\n`, ps(), "no ladder, no column")

	s.generate(t, "default-2k", s.prompt(t, 0, 100), nil)
	l := inUse(t.Context())
	require.NotNil(t, l)
	assert.Equal(t, []int{serverL, 2 * serverL, serverTarget}, l.Lengths)
	assert.Equal(t, []api.SequenceInUse{{Slot: 0, Rung: 0, Length: serverL}}, l.Sequences)
	assert.Regexp(t, `^NAME +ID +SIZE +PROCESSOR +CONTEXT +LADDER +UNTIL`, ps())
	assert.Regexp(t, `(?m)^default-2k:latest .* 2048 +256 of 2k +`, ps())
	assert.Regexp(t, `(?m)^default:latest .* 256 {8}`, ps(), "the other model has none")

	// while a sequence is computed, and after
	var during *api.LadderInUse
	err := s.Server.Client().
		Generate(t.Context(), &api.GenerateRequest{
			Model: "default-2k", Prompt: s.prompt(t, 0, 3*serverL),
			Options: map[string]any{"num_predict": 64},
		},
			func(r api.GenerateResponse) error {
				if during == nil {
					during = inUse(t.Context())
				}
				return nil
			})
	require.NoError(t, err)
	active := func(l *api.LadderInUse) (rungs []int) {
		for _, q := range l.Sequences {
			if q.Active {
				rungs = append(rungs, q.Rung)
			}
		}
		return rungs
	}
	assert.Equal(t, []int{2}, active(during))
	assert.Empty(t, active(inUse(t.Context())))
	assert.Contains(t, ps(), "2k of 2k")
}

// A prompt that is cut is told once in the log, with what would hold it, and in the response.
func (s *seen) testTruncated(t *testing.T) {
	const warning = "truncating input prompt"
	var r api.GenerateResponse
	log := s.since(t, func() { r = s.generate(t, "default", s.prompt(t, 0, serverL-8), nil) })
	assert.Zero(t, r.PromptTruncated)
	assert.NotContains(t, log, warning)

	const numbers = "The sons of Parosh, 2172. The sons of Shephatiah, 372. The sons of Arah, 775."
	assert.Equal(t, len(s.tokens(t, numbers)),
		s.generate(t, "default", numbers, nil).PromptEvalCount)

	log = s.since(t, func() { r = s.generate(t, "default", s.prompt(t, 0, 3*serverL), nil) })
	assert.Equal(t, serverL, r.PromptEvalCount)
	assert.Equal(t, 2*serverL, r.PromptTruncated)
	assert.Equal(t, 1, strings.Count(log, warning))
	assert.Regexp(
		t,
		fmt.Sprintf(
			`%s".* prompt=%d .*cut=%d num_ctx_wanted=%d context_length=%d hint="no num_ctx `+
				`is enough`, warning, 3*serverL, 2*serverL, 3*serverL+1, serverL),
		log,
	)

	log = s.since(t, func() {
		r = s.generate(t, "default-2k", s.prompt(t, 0, 3*serverL),
			map[string]any{"num_ctx": 2 * serverL})
	})
	assert.Equal(t, serverL, r.PromptTruncated)
	assert.Regexp(
		t,
		fmt.Sprintf(`%s".* num_ctx_wanted=%d context_length=%d hint="set num_ctx`, warning,
			3*serverL+1, serverTarget),
		log,
	)

	if !s.goEngine { // which has no embeddings for this architecture
		log = s.since(t, func() {
			r, err := s.Server.Client().
				Embed(t.Context(), &api.EmbedRequest{
					Model: "default",
					Input: []string{s.prompt(t, 0, serverL+50), "In the beginning"},
				})
			require.NoError(t, err)
			assert.InDelta(t, 50, r.PromptTruncated, 2,
				"the host leaves room for tokens that begin and end an input")
		})
		assert.Equal(t, 1, strings.Count(log, "truncating embedding input"))
	}

	// a chat loses its oldest messages
	var messages []api.Message
	tokens := 0
	for i := range 4 {
		text := s.prompt(t, 100*i, 100)
		messages = append(messages, api.Message{Role: "user", Content: text})
		tokens += 100
	}
	var last api.ChatResponse
	log = s.since(t, func() {
		err := s.Server.Client().
			Chat(t.Context(), &api.ChatRequest{
				Model: "chat", Messages: messages,
				Options: map[string]any{"num_predict": 1, "num_ctx": serverL},
			},
				func(r api.ChatResponse) error { last = r; return nil })
		require.NoError(t, err)
	})
	assert.InDelta(t, tokens, last.PromptEvalCount+last.PromptTruncated, 12,
		"line ends are tokens, and each message began with one")
	assert.Greater(t, last.PromptTruncated, 100)
	assert.Equal(t, 1, strings.Count(log, "truncating chat history"))
	assert.Regexp(
		t,
		fmt.Sprintf(`truncating chat history" limit=%d prompt=\d+ new=%d cut=%d `, serverL,
			last.PromptEvalCount, last.PromptTruncated),
		log,
	)
}

func (s *seen) testNumCtx(t *testing.T) {
	const (
		clamped = "requested context size too large for model"
		above   = "num_ctx is above what the rungs of the model serve"
	)
	log := s.since(
		t,
		func() {
			options := map[string]any{"num_ctx": 3 * serverTarget}
			s.generate(t, "default-2k", "In the beginning", options)
		},
	)
	assert.Regexp(t,
		fmt.Sprintf(`%s" num_ctx=%d n_ctx_train=%d`, clamped, 3*serverTarget, serverTarget), log)
	assert.NotContains(t, log, above)

	log = s.since(t, func() {
		s.generate(t, "beyond", "In the beginning", map[string]any{"num_ctx": 2 * serverTarget})
		s.generate(t, "beyond", "God created", map[string]any{"num_ctx": 2 * serverTarget})
	})
	assert.NotContains(t, log, clamped)
	assert.Equal(t, 1, strings.Count(log, above))
	assert.Regexp(t,
		fmt.Sprintf(`%s.* num_ctx=%d longest_rung=%d`, above, 2*serverTarget, serverTarget), log)
}

// Factors that a model file carries and that do not do what one would think.
func (s *seen) testFactors(t *testing.T) {
	const short, long = "In the beginning", 2 * serverL
	twice := func(model string, numCtx int) string {
		return s.since(t, func() {
			for range 2 {
				s.generate(t, model, short, map[string]any{"num_ctx": numCtx})
			}
		})
	}
	for _, log := range []string{twice("default", serverL), twice("default-2k", serverTarget)} {
		assert.NotContains(t, log, "longrope: a short prompt")
		assert.NotContains(t, log, "llama_rope_factors_check")
		assert.NotContains(t, log, "does not apply")
	}
	if s.goEngine {
		log := twice("freqs-long", long)
		assert.Equal(
			t,
			1,
			strings.Count(log,
				`msg="longrope: the model file carries RoPE factors that the Ollama engine `+
					`does not apply" architecture=llama unused="rope_factors_long, `+
					`rope_factors_short"`),
			said(log),
		)
		assert.Equal(
			t,
			1,
			strings.Count(log,
				`the Ollama engine does not apply for this architecture" architecture=llama `+
					`ignored="rope.scaling.type=yarn"`),
			said(log),
		)
		return
	}

	const onLong = "longrope: a short prompt gets the RoPE factors for long ones"
	assert.NotContains(t, twice("long-short", serverL), onLong)
	log := s.since(
		t,
		func() {
			s.generate(t, "long-short", s.prompt(t, 0, serverL+1), map[string]any{"num_ctx": long})
		},
	)
	assert.NotContains(t, log, onLong, "a long prompt has a right to them")
	assert.Equal(t, 1, strings.Count(twice("long-short", long), onLong))

	assert.Contains(t, twice("no-factors", long),
		"rope.scaling.type is longrope, but the model file carries no factors")
	assert.NotContains(t, twice("short-only", serverL), "llama_rope_factors_check")
	assert.Contains(t, twice("short-only", long),
		"the model file carries RoPE factors (rope_factors_short), but architecture minicpm "+
			"applies none of them in a context of 512 tokens")
}

func (h *host) modelfile(t *testing.T, text string) string {
	t.Helper()
	path := h.path("Modelfile.other")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}
