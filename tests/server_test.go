package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/api"

	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/plugin/server"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/strict"
)

const (
	serverL      = defaultmodel.ContextLength
	serverTarget = 8 * serverL
	crossing     = "longrope: crossing rungs" // in the server's log
)

// host is a real server with a store of its own, which holds the default model as "default" and
// converted as "default-2k", and the engine next to it to check answers with.
type host struct {
	*server.Server
	binary, store, dir string
	env                []string       // of the server
	engine             *engine.Engine // of the default model
	ladder             *ropescale.Ladder
	text               []int // tokens that the model has not seen
}

func program(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../build/bin/ollama")
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		strict.Skipf(t, "no server to test (%v): run make build first", err)
	}
	return path
}

func startServer(t *testing.T, binary, store string, env ...string) *server.Server {
	t.Helper()
	s, err := server.Start(
		t.Context(),
		binary,
		store,
		append([]string{"OLLAMA_CONTEXT_LENGTH=4096", "OLLAMA_DEBUG=0"}, env...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Log(said(s.Log()))
		}
	})
	return s
}

// said is what a log says apart from the engine's description of each model.
func said(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "time=") && !strings.Contains(line, "inference compute") ||
			strings.Contains(line, "rror") ||
			strings.Contains(line, "[GIN]") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// newHost makes the models with the commands that a user types. env is added to the server's
// environment.
func newHost(t *testing.T, env ...string) *host {
	t.Helper()
	h := &host{binary: program(t), store: t.TempDir(), dir: t.TempDir(), env: env}
	h.Server = h.start(t, "OLLAMA_NUM_PARALLEL=1")

	path := h.path("default.gguf")
	require.NoError(t, os.WriteFile(path, defaultmodel.Model, 0o644))
	var err error
	h.engine, err = engine.Open(path, engine.Options{Length: serverTarget})
	require.NoError(t, err)
	t.Cleanup(h.engine.Close)
	h.text, err = h.engine.Tokenize(defaultmodel.TestTexts()[0].Body, false)
	require.NoError(t, err)

	h.create(t, "default", "default.gguf")
	info := h.engine.Info()
	r := ropescale.Rope{
		Dims:                  info.RopeDimensionCount,
		FreqBase:              info.FreqBase,
		OriginalContextLength: serverL,
	}
	h.ladder = someLadder(t, r, someRung(r, 2*serverL, 4, 1.05), someRung(r, serverTarget, 16, 1.1))
	var factors bytes.Buffer
	require.NoError(t, h.ladder.WriteFactors(&factors))
	require.NoError(t, os.WriteFile(h.path("factors.json"), factors.Bytes(), 0o644))
	_, err = h.Run(t.Context(), nil, "longrope", "convert", "default", "--factors",
		h.path("factors.json"), "--name", "default-2k")
	require.NoError(t, err)
	return h
}

// start starts another server on the store.
func (h *host) start(t *testing.T, env ...string) *server.Server {
	t.Helper()
	return startServer(t, h.binary, h.store, slices.Concat(h.env, env)...)
}

// goEngine says that models run on the host's Go engine.
func (h *host) goEngine() bool { return slices.Contains(h.env, newEngine) }

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) create(t *testing.T, name, file string) {
	t.Helper()
	// The host takes a thread for each core of the machine, also where this process may use some of
	// them only, and threads that wait for each other on one core take forever.
	modelfile := fmt.Sprintf(
		"FROM ./%s\nTEMPLATE %q\nPARAMETER temperature 0\nPARAMETER repeat_penalty "+
			"1\nPARAMETER num_predict 12\nPARAMETER num_thread %d\n", file, defaultmodel.Template,
		runtime.NumCPU())
	require.NoError(t, os.WriteFile(h.path("Modelfile"), []byte(modelfile), 0o644))
	_, err := h.Run(t.Context(), nil, "create", name, "-f", h.path("Modelfile"))
	require.NoError(t, err)
}

// answer is what a model generates: its text, and how many tokens prompt and text have.
type answer struct {
	text           string
	prompt, tokens int
}

var errEnough = errors.New("enough")

// ask continues a prompt by n tokens. With n < 0 the server is not told how many, and stops after
// -n because its client goes away.
func ask(ctx context.Context, s *server.Server, model, prompt string, n int) (a answer, err error) {
	pieces := 0
	options := map[string]any{"num_predict": n}
	if n < 0 {
		options["num_predict"] = -1
	}
	err = s.Client().
		Generate(ctx, &api.GenerateRequest{
			Model: model, Prompt: prompt, Options: options,
		}, func(r api.GenerateResponse) error {
			a.text += r.Response
			if r.Done {
				a.prompt, a.tokens = r.PromptEvalCount, r.EvalCount
			} else if pieces++; pieces == -n {
				return errEnough
			}
			return nil
		})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return a, err
}

func (h *host) ask(t *testing.T, model, prompt string, n int) answer {
	t.Helper()
	a, err := ask(t.Context(), h.Server, model, prompt, n)
	require.NoError(t, err)
	return a
}

// forget unloads a model, so that the next request finds no cached keys.
func (h *host) forget(t *testing.T, model string) {
	t.Helper()
	_, err := h.Run(t.Context(), nil, "stop", model)
	require.NoError(t, err)
}

// prompt is text of exactly n tokens, another for each start.
func (h *host) prompt(t *testing.T, start, n int) string {
	t.Helper()
	for ; ; start++ {
		s := h.detokenize(t, h.text[start:start+n])
		if tokens, err := h.engine.Tokenize(s, true); err == nil && len(tokens) == n {
			return s
		}
	}
}

func (h *host) tokens(t *testing.T, text string) []int {
	t.Helper()
	tokens, err := h.engine.Tokenize(text, true)
	require.NoError(t, err)
	return tokens
}

func (h *host) detokenize(t *testing.T, tokens []int) string {
	t.Helper()
	s, err := h.engine.Detokenize(tokens)
	require.NoError(t, err)
	return s
}

// greedy is what the engine generates after a prompt with a ladder; nil is plain RoPE.
func (h *host) greedy(t *testing.T, l *ropescale.Ladder, prompt []int, n int) []int {
	t.Helper()
	require.NoError(t, h.engine.SetLadder(l))
	out, err := h.engine.Generate(t.Context(), prompt, n)
	require.NoError(t, err)
	return out
}

// tie is by how much, in nats, the engine may prefer its own token to the server's: the server
// computes attention in another way, with its keys in float16, so logits differ by about 2^-10 of
// their largest, which is about 20.
const tie = 0.05

// sameAnswer wants text to be what the engine generates, up to a tie of two tokens; after one the
// texts have nothing to do with each other. It returns the number of tokens compared.
func (h *host) sameAnswer(t *testing.T, l *ropescale.Ladder, prompt []int, text string, n int) int {
	t.Helper()
	want := h.greedy(t, l, prompt, n)
	for i := range want {
		if strings.HasPrefix(text, h.detokenize(t, want[:i+1])) {
			continue
		}
		before := h.detokenize(t, want[:i])
		rest := strings.TrimPrefix(text, before)
		nll := func(token int) float64 {
			x, err := h.engine.NLL(t.Context(),
				append(append([]int{}, prompt...), append(want[:i:i], token)...), len(prompt)+i)
			require.NoError(t, err)
			return x[0]
		}
		other := math.Inf(1)
		for token := range h.engine.Info().VocabSize {
			if piece := h.detokenize(t, []int{token}); piece != "" &&
				strings.HasPrefix(rest, piece) {
				other = min(other, nll(token))
			}
		}
		assert.LessOrEqual(t, other, nll(want[i])+tie, "the server answers %q, the engine %q", text,
			h.detokenize(t, want))
		t.Logf("a tie at token %d: %q", i, rest)
		return i
	}
	assert.Equal(t, h.detokenize(t, want), text)
	return len(want)
}

// The whole path on a real server.
func TestServer(t *testing.T) {
	h := newHost(t)
	t.Run("show", h.testShow)
	t.Run("past L", h.testPastL)
	t.Run("crossing by request", h.testRequestCrosses)
	t.Run("crossing by growth", h.testGrowthCrosses)
	t.Run("engine", h.testEngine)
	t.Run("version", h.testVersion)
	t.Run("misfit", h.testMisfit)
	t.Run("one name", h.testOneName)
	t.Run("bad input", h.testBadInput)
	t.Run("parallel", h.testParallel)
	t.Run("bad requests", h.testBadRequests)
	t.Run("policies", h.testPolicies)
	t.Run("exact", h.testExact)
	t.Run("caching", h.testCaching)
	t.Run("fork", h.testFork)
	t.Run("long life", h.testLongLife)
}

func (h *host) testShow(t *testing.T) {
	for model, want := range map[string]int{"default": serverL, "default-2k": serverTarget} {
		r, err := h.Client().Show(t.Context(), &api.ShowRequest{Model: model})
		require.NoError(t, err)
		assert.EqualValues(t, want, r.ModelInfo["llama.context_length"], model)
		assert.Contains(t, r.Template, defaultmodel.Template, model)
	}
	r, err := h.Client().Show(t.Context(), &api.ShowRequest{Model: "default-2k"})
	require.NoError(t, err)
	require.NotNil(t, r.Ladder)
	assert.Equal(t, serverL, r.Ladder.OriginalContextLength)
	assert.NotContains(t, r.Parameters, "num_ctx", "the host takes what fits")
}

// Beyond L the server reads the whole prompt and answers as the engine does on the rung for prompt
// and answer; the model as it was gets what fits into L.
func (h *host) testPastL(t *testing.T) {
	const n = 12
	for i, length := range []int{serverL - n, serverL - n + 1, 2*serverL - n + 1, 3 * serverL} {
		h.forget(t, "default-2k")
		prompt := h.prompt(t, 500*i, length)
		a := h.ask(t, "default-2k", prompt, n)
		require.Equal(t, length, a.prompt, "tokens of the prompt that the server read")
		compared := h.sameAnswer(t, h.ladder, h.tokens(t, prompt), a.text, n)
		t.Logf("%d tokens, rung %d: %q, %d tokens compared", length, h.ladder.RungFor(length+n),
			a.text, compared)

		out, err := h.Run(t.Context(), strings.NewReader(prompt), "run", "default-2k")
		require.NoError(t, err)
		assert.Equal(t, strings.TrimSpace(a.text), strings.TrimSpace(out), "ollama run")
	}
	a := h.ask(t, "default", h.prompt(t, 0, 2*serverL), n)
	assert.LessOrEqual(t, a.prompt, serverL,
		"the control: without factors the host cuts the prompt")
}

// A conversation that grows past L is processed again with the factors of its new rung: the
// answer is that of a server that never saw its beginning.
func (h *host) testRequestCrosses(t *testing.T) {
	const n = 16
	first := h.prompt(t, 3000, serverL-2*n)
	second := h.prompt(t, 3000, serverL+n)
	require.True(t, strings.HasPrefix(second, first))

	h.forget(t, "default-2k")
	h.ask(t, "default-2k", first, n)
	require.NotContains(t, said(h.since(t, func() { h.ask(t, "default-2k", first, n) })), crossing,
		"the same rung again")
	var a answer
	log := h.since(t, func() { a = h.ask(t, "default-2k", second, n) })
	assert.Regexp(t, crossing+`".* from=0 to=1 cause=request policy=recompute tokens=[1-9]`,
		said(log))

	h.forget(t, "default-2k")
	var fresh answer
	log = h.since(t, func() { fresh = h.ask(t, "default-2k", second, n) })
	assert.NotContains(t, said(log), crossing)
	assert.Equal(t, fresh.text, a.text)
	h.sameAnswer(t, h.ladder, h.tokens(t, second), a.text, n)

	// and back: a short request does not keep the factors of the long one
	log = h.since(t, func() { a = h.ask(t, "default-2k", first, n) })
	assert.Regexp(t, crossing+`".* from=1 to=0 cause=request`, said(log))
	h.sameAnswer(t, nil, h.tokens(t, first), a.text, n)
}

// An answer that grows past L continues as a fresh request would that has all of it as its prompt.
func (h *host) testGrowthCrosses(t *testing.T) {
	const before, after = 24, 24
	for start := 5000; start < 5000+40*20; start += 40 {
		prompt := h.prompt(t, start, serverL-before)
		// The token after position L-1 still comes from plain RoPE; with it the sequence is L+1
		// long.
		grown := append(h.tokens(t, prompt), h.greedy(t, nil, h.tokens(t, prompt), before+1)...)
		text := h.detokenize(t, grown)
		if len(grown) != serverL+1 || fmt.Sprint(h.tokens(t, text)) != fmt.Sprint(grown) {
			// the answer ended, or its text is not the same tokens when it comes back as a prompt
			continue
		}
		long, short := h.greedy(t, h.ladder, grown, after), h.greedy(t, nil, grown, after)
		if fmt.Sprint(long[:min(len(long), after/2)]) == fmt.Sprint(
			short[:min(len(short), after/2)]) {
			continue // the case could not tell rungs apart
		}

		h.forget(t, "default-2k")
		var a answer
		log := h.since(t, func() { a = h.ask(t, "default-2k", prompt, -(before + 1 + after)) })
		if !strings.HasPrefix(prompt+a.text, text) {
			continue // a tie went the other way
		}
		require.Regexp(
			t,
			fmt.Sprintf(`%s".* from=0 to=1 cause=growth policy=recompute tokens=%d`, crossing,
				serverL),
			said(log),
		)

		h.forget(t, "default-2k")
		fresh := h.ask(t, "default-2k", text, after)
		rest := strings.TrimPrefix(prompt+a.text, text)
		require.NotEmpty(t, rest)
		assert.True(t, strings.HasPrefix(fresh.text, rest) || strings.HasPrefix(rest, fresh.text),
			"grown: %q\nfresh: %q", rest, fresh.text)
		t.Logf("past L: %q", rest)
		assert.False(t, strings.HasPrefix(h.detokenize(t, short), rest),
			"the factors of the short rung: %q", rest)
		return
	}
	t.Fatal("no prompt of 20 whose answer grows past L and survives detokenizing")
}

// Two clients at once, on different rungs and in the same batches, get what each gets alone.
func (h *host) testParallel(t *testing.T) {
	const n = 24
	h.forget(t, "default-2k")
	s := h.start(t, "OLLAMA_NUM_PARALLEL=2")
	prompts := []string{h.prompt(t, 7000, serverL-n), h.prompt(t, 7400, 2*serverL)}
	for round := range 2 {
		answers := make([]answer, len(prompts))
		errs := make([]error, len(prompts))
		var wg sync.WaitGroup
		for i, prompt := range prompts {
			wg.Add(1)
			go func() {
				defer wg.Done()
				answers[i], errs[i] = ask(t.Context(), s, "default-2k", prompt, n)
			}()
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		for i, l := range []*ropescale.Ladder{nil, h.ladder} {
			assert.Equal(t, len(h.tokens(t, prompts[i])), answers[i].prompt)
			compared := h.sameAnswer(t, l, h.tokens(t, prompts[i]), answers[i].text, n)
			t.Logf("round %d, %d tokens: %d tokens compared", round, answers[i].prompt, compared)
		}
	}
	assert.Contains(t, s.Log(), "Parallel:2 ", "the runner serves one at a time")
}

// A model of an architecture that the host gives to its Go engine runs there, with its ladder.
func (h *host) testEngine(t *testing.T) {
	f, err := reference.Read(defaultmodel.Model)
	require.NoError(t, err)
	f.SetArchitecture("mistral3") // tensors and sums of a llama
	require.NoError(t, f.WriteFile(h.path("mistral3.gguf")))
	_, err = h.Run(t.Context(), nil, "longrope", "convert", h.path("mistral3.gguf"), "--factors",
		h.path("factors.json"), "-o", h.path("mistral3-2k.gguf"))
	require.NoError(t, err)
	h.create(t, "mistral3-2k", "mistral3-2k.gguf")

	prompt := h.prompt(t, 9000, 2*serverL)
	var a answer
	log := h.since(t, func() { a = h.ask(t, "mistral3-2k", prompt, 12) })
	assert.Contains(t, said(log), "--ollama-engine")
	h.sameAnswer(t, h.ladder, h.tokens(t, prompt), a.text, 12)
}

// A ladder of a version that this build does not know is an error and not a guess.
func (h *host) testVersion(t *testing.T) {
	converted := h.path("converted.gguf")
	_, err := h.Run(t.Context(), nil, "longrope", "convert", h.path("default.gguf"), "--factors",
		h.path("factors.json"), "-o", converted)
	require.NoError(t, err)
	f, err := reference.ReadFile(converted)
	require.NoError(t, err)
	f.Set("llama.rope.longrope.version", uint32(2))
	require.NoError(t, f.WriteFile(h.path("newer.gguf")))
	h.create(t, "newer", "newer.gguf")
	_, err = ask(t.Context(), h.Server, "newer", "In the beginning", 1)
	require.Error(t, err)
	assert.Contains(t, err.Error()+said(h.Log()),
		"llama.rope.longrope.version is not 1: this build cannot read the ladder, update it")
}

// Of two conversions to one name at once, one is what the name stands for in the end; the store is
// whole.
func (h *host) testOneName(t *testing.T) {
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i, target := range []string{"1k", "2k"} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, errs[i] = h.Run(t.Context(), nil, "longrope", "convert", "default", "--method",
				"yarn", "--target", target, "--name", "twice")
		}()
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	r, err := h.Client().Show(t.Context(), &api.ShowRequest{Model: "twice"})
	require.NoError(t, err)
	assert.Contains(t, []any{1024.0, 2048.0}, r.ModelInfo["llama.context_length"])
	assert.NotContains(t, r.Parameters, "num_ctx", "the ladder bounds it")
	a := h.ask(t, "twice", h.prompt(t, 0, 2*serverL), 1)
	assert.Equal(t, 2*serverL, a.prompt)
}

func (h *host) testBadInput(t *testing.T) {
	models := func() map[string]string {
		r, err := h.Client().List(t.Context())
		require.NoError(t, err)
		digests := map[string]string{}
		for _, m := range r.Models {
			digests[m.Name] = m.Digest
		}
		return digests
	}
	before := models()
	nowhere := filepath.Join(h.dir, "no", "store")
	for _, c := range []struct {
		name string
		env  string
		args []string
		want string
	}{
		{"no store to read from", "OLLAMA_MODELS=" + nowhere, []string{"longrope", "show", "default"}, "no Ollama store"},
		{"no such model", "", []string{"longrope", "convert", "defualt", "--method", "yarn", "--target", "2k", "--name", "x"}, `defualt.*did you mean "?default`},
		{"no such file", "", []string{"longrope", "convert", "./default.guff", "--method", "yarn", "--target", "2k", "--name", "x"}, `default\.guff: no such file`},
		{"a target the model has", "", []string{"longrope", "convert", "default", "--method", "yarn", "--target", "256", "--name", "x"}, "trained for 256 tokens already"},
		{"a name that is none", "", []string{"longrope", "convert", "default", "--method", "yarn", "--target", "2k", "--name", "a b"}, "a b"},
		{"no server", "OLLAMA_HOST=127.0.0.1:1", []string{"run", "default-2k", "hello"}, "ollama serve"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), h.binary, c.args...)
			cmd.Env = append(os.Environ(), "OLLAMA_MODELS="+h.store, c.env)
			cmd.Dir = h.dir
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			var exit *exec.ExitError
			require.ErrorAs(t, cmd.Run(), &exit, "%v ran", c.args)
			assert.Equal(t, 1, exit.ExitCode())
			assert.Empty(t, stdout.String())
			says := strings.TrimSpace(stderr.String())
			assert.Regexp(t, c.want, says)
			assert.Less(t, strings.Count(says, "\n"), 3, "an error is a line or two: %s", says)
			t.Log(says)
		})
	}
	assert.Equal(t, before, models(), "nothing was added")
	assert.NoDirExists(t, nowhere)
}

// since is what the server logs while f runs.
func (h *host) since(t *testing.T, f func()) string {
	t.Helper()
	at := len(h.Log())
	f()
	return h.Log()[at:]
}
