package tests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/api"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/server"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

// tell continues a prompt with the given options until the model ends or most tokens came.
func tell(
	ctx context.Context,
	s *server.Server,
	model, prompt string,
	most int,
	options map[string]any,
) (string, error) {
	var b strings.Builder
	pieces := 0
	err := s.Client().
		Generate(ctx, &api.GenerateRequest{
			Model: model, Prompt: prompt, Options: options,
		}, func(r api.GenerateResponse) error {
			b.WriteString(r.Response)
			if pieces++; pieces == most {
				return errEnough
			}
			return nil
		})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return b.String(), err
}

// A crossing is done as the request says, else the environment, else the model file;
// an unknown policy is an error in each place.
func (h *host) testPolicies(t *testing.T) {
	const n = 8
	crosses := func(policy string) string {
		return fmt.Sprintf(`%s".* from=0 to=1 cause=request policy=%s tokens=2[0-9][0-9] ms=`,
			crossing, policy)
	}
	first, second := h.prompt(t, 3000, serverL-2*n), h.prompt(t, 3000, serverL+n)
	// the log of a server in which a conversation with a model grows past L
	grow := func(s *server.Server, model string, options map[string]any) string {
		_, err := h.Run(t.Context(), nil, "stop", model)
		require.NoError(t, err)
		at := len(s.Log())
		for _, prompt := range []string{first, second} {
			o := map[string]any{"num_predict": n}
			maps.Copy(o, options)
			text, err := tell(t.Context(), s, model, prompt, n, o)
			require.NoError(t, err)
			require.NotEmpty(t, text)
		}
		return said(s.Log()[at:])
	}
	assert.Regexp(t, crosses("recompute"), grow(h.Server, "default-2k", nil))
	log := grow(h.Server, "default-2k", map[string]any{"longrope_crossing": "rerotate"})
	assert.Regexp(t, crosses("rerotate"), log)
	assert.Equal(t, 1, strings.Count(log, crossing), "once per crossing")

	_, err := tell(t.Context(), h.Server, "default-2k", first, n,
		map[string]any{"longrope_crossing": "fast"})
	var status api.StatusError
	require.ErrorAs(t, err, &status)
	assert.Equal(t, 400, status.StatusCode)
	assert.Contains(t, err.Error(),
		`option "longrope_crossing": "fast" is no policy for crossing rungs: want recompute `+
			`or rerotate`)

	// in a Modelfile
	modelfile := func(policy string) (string, error) {
		path := h.path("Modelfile." + policy)
		require.NoError(
			t,
			os.WriteFile(path, []byte("FROM default-2k\nPARAMETER longrope_crossing "+policy+"\n"),
				0o644),
		)
		return h.Run(t.Context(), nil, "create", "by-parameter", "-f", path)
	}
	_, err = modelfile("fast")
	assert.ErrorContains(t, err, `"fast" is no policy`)
	_, err = modelfile("rerotate")
	require.NoError(t, err)
	assert.Regexp(t, crosses("rerotate"), grow(h.Server, "by-parameter", nil))
	assert.Regexp(t, crosses("recompute"),
		grow(h.Server, "by-parameter", map[string]any{"longrope_crossing": "recompute"}))

	// in the model file
	_, err = h.Run(t.Context(), nil, "longrope", "convert", h.path("default.gguf"), "--factors",
		h.path("factors.json"), "--crossing", "rerotate", "-o", h.path("by-file.gguf"))
	require.NoError(t, err)
	h.create(t, "by-file-rerotate", "by-file.gguf")
	f, err := reference.ReadFile(h.path("by-file.gguf"))
	require.NoError(t, err)
	f.Set("llama.rope.longrope.crossing", "fast")
	require.NoError(t, f.WriteFile(h.path("by-file-fast.gguf")))
	h.create(t, "by-file-fast", "by-file-fast.gguf")
	assert.Regexp(t, crosses("rerotate"), grow(h.Server, "by-file-rerotate", nil))
	_, err = ask(t.Context(), h.Server, "by-file-fast", first, n)
	assert.ErrorContains(t, err, `rope.longrope.crossing of the model file: "fast" is no policy`)

	// in the environment
	s := h.start(t, "OLLAMA_LONGROPE_CROSSING=recompute")
	assert.Regexp(t, crosses("recompute"), grow(s, "by-file-rerotate", nil))
	s = h.start(t, "OLLAMA_LONGROPE_CROSSING=fast")
	_, err = ask(t.Context(), s, "default-2k", first, n)
	assert.ErrorContains(t, err, `OLLAMA_LONGROPE_CROSSING: "fast" is no policy`)
	_, err = ask(t.Context(), s, "default", h.prompt(t, 0, 20), n)
	assert.NoError(t, err, "a model without a ladder")
	help, err := exec.CommandContext(t.Context(), h.binary, "serve", "--help").CombinedOutput()
	require.NoError(t, err)
	assert.Contains(t, string(help), "OLLAMA_LONGROPE_CROSSING")
}

// On a rung, whichever it is, what a request has in common with the one before is not computed
// again, and the answer is that of a fresh run.
func (h *host) testCaching(t *testing.T) {
	const n = 12
	s := h.start(t, "OLLAMA_NUM_PARALLEL=1", "OLLAMA_DEBUG=1")
	for _, c := range []struct {
		first, second int
		ladder        *ropescale.Ladder
	}{{150, 200, nil}, {serverL + 40, serverL + 90, h.ladder}} {
		long := h.prompt(t, 3000, c.second)
		_, err := ask(t.Context(), s, "default-2k", h.detokenize(t, h.tokens(t, long)[:c.first]), n)
		require.NoError(t, err)
		at := len(s.Log())
		a, err := ask(t.Context(), s, "default-2k", long, n)
		require.NoError(t, err)
		log := s.Log()[at:]
		loading := fmt.Sprintf(`loading cache slot" id=0 .*prompt=%d used=(\d+) `, c.second)
		found := regexp.MustCompile(loading).
			FindStringSubmatch(log)
		require.NotNil(t, found, said(log))
		used, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		assert.GreaterOrEqual(t, used, c.first-2,
			"cached tokens; the last may be another where the prompt was cut")
		assert.NotContains(t, log, crossing)
		h.sameAnswer(t, c.ladder, h.tokens(t, long), a.text, n)
	}
}

// With a cache for several users, a request that shares a prefix with another slot gets a copy of
// it, on its rung; the copy may then cross. The Go engine's copy shares its keys with the source,
// so they are not rotated.
func (h *host) testFork(t *testing.T) {
	const n = 12
	s := h.start(t, "OLLAMA_NUM_PARALLEL=3", "OLLAMA_MULTIUSER_CACHE=1", "OLLAMA_DEBUG=1")
	text := h.tokens(t, h.prompt(t, 3000, 2*serverL))
	other := h.text[9000:]
	branch := func(common, length int) string {
		for skip := 0; ; skip++ {
			p := h.detokenize(t, append(text[:common:common], other[skip:skip+length-common]...))
			if fmt.Sprint(h.tokens(t, p)[:common]) == fmt.Sprint(text[:common]) &&
				len(h.tokens(t, p)) == length {
				return p
			}
		}
	}
	rotated := "rerotate"
	if h.goEngine() {
		rotated = "recompute"
	}
	for _, c := range []struct {
		prompt, policy, log string
	}{
		{h.detokenize(t, text[:200]), "recompute", ""},
		{branch(120, 220), "recompute", "forking cache slot"},
		{branch(150, serverL+50), "recompute", "cause=request policy=recompute tokens=150"},
		{branch(160, serverL+60), "rerotate", "cause=request policy=" + rotated + " tokens=160"},
	} {
		at := len(s.Log())
		answer, err := tell(t.Context(), s, "default-2k", c.prompt, n,
			map[string]any{"num_predict": n, "longrope_crossing": c.policy})
		require.NoError(t, err)
		require.NotEmpty(t, answer)
		assert.Contains(t, s.Log()[at:], c.log)
		if c.policy == "recompute" {
			h.sameAnswer(t, h.ladder, h.tokens(t, c.prompt), answer, n)
		}
	}
}

// Two clients at once, one for each policy, have conversations that cross every rung and then shift
// their context again and again, through the real server. Their last answers are what an engine
// that reads it afresh expects: -ln p of a token is by its own entropy in the mean, whatever the
// conversation came to be about.
//
// The bound: -ln p of a token deviates from the entropy by some 2 nats, so a mean over 400 has a
// standard error of 0.1. Four of these, and 0.05 for what the model had in its context before the
// tokens that are read afresh.
func (h *host) testLongLife(t *testing.T) {
	const (
		numCtx = 2*serverL + serverL/4 // on the last rung, which is for 2048
		most   = 4 * numCtx            // each shift makes room for half of a context
		tail   = 400
		bound  = 0.45
	)
	h.forget(t, "default-2k")
	s := h.start(t, "OLLAMA_NUM_PARALLEL=2", "OLLAMA_DEBUG=1")
	options := func(policy string, seed int) map[string]any {
		return map[string]any{
			"longrope_crossing": policy, "num_ctx": numCtx, "num_predict": -1, "seed": seed,
			// else the model repeats itself
			"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
		}
	}
	policies := []string{"recompute", "rerotate"}
	prompts := []string{h.prompt(t, 7000, 150), h.prompt(t, 11000, 150)}
	both := func(f func(i int) error) {
		t.Helper()
		errs := make([]error, len(policies))
		var wg sync.WaitGroup
		for i := range policies {
			wg.Add(1)
			go func() {
				defer wg.Done()
				errs[i] = f(i)
			}()
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
	}

	said := make([]string, 2)
	both(func(i int) (err error) {
		for seed := 1; seed < 20; seed++ { // until the model does not end by itself
			said[i], err = tell(t.Context(), s, "default-2k", prompts[i], most,
				options(policies[i], seed))
			if err != nil || len(h.engineTokens(said[i])) > most*9/10 {
				return err
			}
		}
		return errors.New("the model always ends")
	})
	log := s.Log()
	for _, policy := range policies {
		for _, step := range []string{"from=0 to=1", "from=1 to=2"} {
			assert.Regexp(t, step+" cause=growth policy="+policy, log)
		}
	}
	shifts := len(regexp.MustCompile(`context limit hit - shifting`).FindAllString(log, -1))
	t.Logf("the two conversations shifted their contexts %d times", shifts)
	assert.GreaterOrEqual(t, shifts, 2*3)

	// afresh, from half of L before them on
	reader := open(t, h.path("default.gguf"), session.Options{Context: serverL/2 + tail})
	require.NoError(t, reader.SetLadder(h.ladder))
	surprise := func(before, text []int) float64 {
		t.Helper()
		tokens := slices.Concat(before, text)
		reader.Clear()
		require.NoError(t, reader.SetRung(0, reader.RungFor(len(tokens))))
		logits, err := reader.Prefill(tokens, 0, 0, 64)
		require.NoError(t, err)
		var excess []float64
		for i := len(before); i < len(tokens); i++ {
			excess = append(excess, surprisal(logits[i-1], tokens[i]))
		}
		mean, stderr := evals.MeanStderr(excess)
		t.Logf("%.2f ± %.2f nats a token more than the entropy", mean, stderr)
		return mean
	}
	for i, policy := range policies {
		all := h.tokens(t, said[i])
		require.Greater(t, len(all), serverL/2+tail)
		last, before := all[len(all)-tail:], all[len(all)-tail-serverL/2:len(all)-tail]
		assert.InDelta(t, 0, surprise(before, last), bound, policy)

		garbage := slices.Clone(last)
		slices.Reverse(garbage)
		assert.Greater(t, surprise(before, garbage), 2*bound, "the bound cannot tell garbage")
	}
}

// surprisal is -ln p of a token less the mean of that over p, the entropy, in nats.
func surprisal(logits []float32, token int) float64 {
	top, sum, mean := slices.Max(logits), 0.0, 0.0
	for _, l := range logits {
		p := math.Exp(float64(l - top))
		sum += p
		mean += p * float64(l)
	}
	return mean/sum - float64(logits[token])
}

func (h *host) engineTokens(text string) []int {
	tokens, err := h.engine.Tokenize(text, true)
	if err != nil {
		return nil
	}
	return tokens
}
