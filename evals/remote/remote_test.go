package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/recall"
	_ "github.com/longrope/longrope/evals/ruler"
	"github.com/longrope/longrope/evals/tasktest"
)

// server is a model with a token per byte. It has a context of so many tokens; longer prompts are
// cut or refused.
type server struct {
	context int
	refuses bool
	add     int // tokens of its template
	fail    int // requests that it does not answer before it answers
	gone    bool
	silent  bool // does not count
	asked   []map[string]any
}

// find answers as who reads what is left of the prompt.
func find(prompt string) string {
	if key := tasktest.Hidden.FindStringSubmatch(prompt); key != nil {
		return " " + key[1] + "."
	}
	_, key, _ := strings.Cut(prompt, `Key: "`)
	key, _, _ = strings.Cut(key, `"`)
	_, value, _ := strings.Cut(prompt, `"`+key+`": "`)
	value, _, _ = strings.Cut(value, `"`)
	return ` "` + value + `"`
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/version" && !strings.Contains(r.Header.Get("X"), "openai") {
		fmt.Fprint(w, `{"version": "0.17.4"}`)
		return
	}
	if s.fail > 0 || s.gone {
		s.fail--
		panic(http.ErrAbortHandler)
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, "bad", http.StatusBadRequest)
		return
	}
	s.asked = append(s.asked, body)
	if body["model"] != "tiny" {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"error": "model \"%v\" not found"}`, body["model"])
		return
	}
	prompt, _ := body["prompt"].(string)
	if m, ok := body["messages"].([]any); ok {
		prompt = m[0].(map[string]any)["content"].(string)
	}
	tokens := len(prompt) + s.add
	if tokens > s.context {
		if s.refuses {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error": {"message": "maximum context length is 2000 tokens"}}`)
			return
		}
		prompt, tokens = prompt[tokens-s.context/2:], s.context/2
	}
	if s.silent {
		tokens = 0
	}
	answer, _ := json.Marshal(find(prompt))
	switch r.URL.Path {
	case "/api/generate":
		fmt.Fprintf(w, `{"response": %s, "prompt_eval_count": %d}`, answer, tokens)
	case "/api/chat":
		fmt.Fprintf(w, `{"message": {"content": %s}, "prompt_eval_count": %d}`, answer, tokens)
	case "/v1/completions":
		fmt.Fprintf(w, `{"choices": [{"text": %s}], "usage": {"prompt_tokens": %d}}`, answer, tokens)
	case "/v1/chat/completions":
		fmt.Fprintf(w, `{"choices": [{"message": {"content": %s}}], "usage": {"prompt_tokens": %d}}`,
			answer, tokens)
	default:
		http.NotFound(w, r)
	}
}

// measure asks a server 4 samples of each length.
func measure(t *testing.T, s *server, o Options, lengths ...int) (*recall.Result, error) {
	t.Helper()
	h := httptest.NewServer(s)
	defer h.Close()
	o.URL = h.URL + o.URL
	o.Wait = time.Millisecond
	if o.Model == "" {
		o.Model = "tiny"
	}
	e, err := New(context.Background(), o)
	if err != nil {
		return nil, err
	}
	args := []string{"--limit", "4"}
	if o.Chat {
		args = append(args, "--chat")
	}
	r, err := compare(t, e, "keyvalue_digits", lengths, args...)
	if err != nil {
		return nil, err
	}
	return r.(*recall.Result), nil
}

// compare is a task asked of a server.
func compare(t *testing.T, e *Engine, name string, lengths []int, args ...string) (
	evals.Result, error,
) {
	t.Helper()
	task, err := evals.TaskByName(name)
	require.NoError(t, err)
	c, err := evals.Compare(context.Background(), e, []evals.Method{{Name: "server"}},
		evals.CompareOptions{Jobs: []evals.Job{tasktest.Job(t, task, args...)}, Lengths: lengths})
	if err != nil {
		return nil, err
	}
	require.Contains(t, c.Engine.Backend, "server")
	return c.Tasks[0].Results[0], nil
}

// Passkeys too are asked, and a prompt that was cut is no key that was not found.
func TestPasskey(t *testing.T) {
	h := httptest.NewServer(&server{context: 2000})
	defer h.Close()
	e, err := New(context.Background(), Options{
		URL: h.URL, Model: "tiny", Wait: time.Millisecond,
		Tokenizer: tasktest.New(tasktest.Bytes{}),
	})
	require.NoError(t, err)
	found, err := compare(t, e, "passkey", []int{1000, 3000}, "--trials", "2")
	require.NoError(t, err)
	r := found.(*evals.PasskeyResult)
	require.Equal(t, evals.NewProportion(10, 10), r.Lengths[0].Proportion)
	require.Equal(t, evals.NewProportion(10, 10), r.Proportion)
	require.Equal(t, 10, r.Lengths[1].Unscored)
	require.Nil(t, r.Figures(nil)[1].Values[0], "not 0 %%")
	require.Equal(t, "passkey at 3000 tokens: 10 of 10 trials not scored: not answered: "+
		"truncated: the server read 1000 of 2992 tokens", r.Note())
	for _, row := range r.Grid().Cells {
		require.NotNil(t, row[0])
		require.Nil(t, row[1])
	}
	for _, name := range []string{"passkey", "vt"} {
		_, err = compare(t, e, name, []int{3000}, "--nll")
		require.ErrorIs(t, err, evals.ErrNoLikelihoods)
	}
}

func TestBothAPIs(t *testing.T) {
	for _, tt := range []struct {
		url  string
		chat bool
	}{{"", false}, {"", true}, {"/v1", false}, {"/v1", true}} {
		s := &server{context: 10_000}
		if tt.chat {
			s.add = 30
		}
		o := Options{URL: tt.url, Chat: tt.chat, Tokenizer: tasktest.New(tasktest.Bytes{})}
		r, err := measure(t, s, o, 1000, 3000)
		require.NoError(t, err)
		for _, c := range r.Lengths {
			require.Equal(t, 1.0, *c.Score, "%+v: %+v", tt, r.Details)
			require.Zero(t, c.Unscored)
		}
		require.Len(t, s.asked, 9, "a probe and the samples")
	}
}

// A prompt that was cut is truncated, not wrong.
func TestTruncated(t *testing.T) {
	for _, chat := range []bool{false, true} {
		s := &server{context: 2000}
		if chat {
			s.add = 50
		}
		o := Options{Chat: chat, Tokenizer: tasktest.New(tasktest.Bytes{})}
		r, err := measure(t, s, o, 1000, 3000)
		require.NoError(t, err)
		require.Equal(t, 1.0, *r.Lengths[0].Score)
		require.Nil(t, r.Lengths[1].Score, "not 0 %%")
		require.Equal(t, 4, r.Lengths[1].Unscored)
		require.Regexp(t, `^not answered: truncated: the server read 1000 of \d{4} tokens$`,
			r.Lengths[1].Note)
	}
	// Those without a tokenizer say how many tokens they have.
	e := &Engine{o: Options{Wait: time.Millisecond, Model: "tiny"}, api: ollama{}}
	h := httptest.NewServer(&server{context: 2000})
	defer h.Close()
	e.o.URL = h.URL
	long := evals.Ask{Input: strings.Repeat("x", 2500), Tokens: 2500}
	_, err := e.Answer(context.Background(), long)
	require.ErrorIs(t, err, evals.ErrUnanswered)
	_, err = e.Tokenize("x", true)
	require.ErrorIs(t, err, evals.ErrNoTokenizer)
}

func TestRefused(t *testing.T) {
	s := &server{context: 2000, refuses: true}
	o := Options{URL: "/v1", Tokenizer: tasktest.New(tasktest.Bytes{})}
	r, err := measure(t, s, o, 1000, 3000)
	require.NoError(t, err)
	require.Equal(t, 1.0, *r.Lengths[0].Score)
	require.Nil(t, r.Lengths[1].Score)
	require.Equal(t, `not answered: refused: "maximum context length is 2000 tokens"`,
		r.Lengths[1].Note)
}

func TestDisappears(t *testing.T) {
	tokenizer := tasktest.New(tasktest.Bytes{})
	s := &server{context: 10_000, fail: tries - 1}
	_, err := measure(t, s, Options{Tokenizer: tokenizer}, 1000)
	require.NoError(t, err, "it came back")
	s = &server{context: 10_000, gone: true}
	_, err = measure(t, s, Options{Tokenizer: tokenizer}, 1000)
	require.ErrorContains(t, err, "no answer of the server")
	_, err = New(context.Background(), Options{URL: "http://127.0.0.1:1", Model: "tiny"})
	require.ErrorContains(t, err, "no answer of the server")

	h := httptest.NewServer(s)
	defer h.Close()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = New(ended, Options{URL: h.URL, Model: "tiny"})
	require.ErrorIs(t, err, context.Canceled)
}

func TestWrongServers(t *testing.T) {
	tokenizer := tasktest.New(tasktest.Bytes{})
	for _, tt := range []struct {
		s    *server
		o    Options
		want string
	}{
		{&server{context: 9999}, Options{Model: "huge"}, `404: "model \"huge\" not found"`},
		{&server{context: 9999, silent: true}, Options{}, "does not say how many tokens"},
		{&server{context: 9999, add: 40}, Options{Tokenizer: tokenizer}, "is another model than fake"},
	} {
		_, err := measure(t, tt.s, tt.o, 1000)
		require.ErrorContains(t, err, tt.want)
	}
	for _, u := range []string{"localhost:11434", "ftp://x", "", "http://"} {
		_, err := New(context.Background(), Options{URL: u})
		require.ErrorContains(t, err, "is no address of a server")
	}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<html>hello</html>")
	}))
	defer h.Close()
	_, err := New(context.Background(), Options{URL: h.URL, Model: "tiny"})
	require.ErrorContains(t, err, "the answer is not understood")
	e := &Engine{api: ollama{}}
	assert.ErrorIs(t, e.SetLadder(tasktest.LadderTo(100)), errServer)
}
