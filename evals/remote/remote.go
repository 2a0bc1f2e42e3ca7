// Package remote asks a server the prompts of generated tasks, so that the same samples measure
// another runtime. It speaks Ollama's API and OpenAI's.
//
// A plain prompt is sent as it is: raw to /api/generate, or to /v1/completions. With Options.Chat
// the server's own chat template is used, for one message of the user that holds the question and
// the beginning of the answer, since not every server continues an answer that was begun; RULER's
// own client does the same.
//
// A server may cut a prompt that is longer than its context, and answer as if nothing were amiss.
// So the tokens that it counted are compared with those that were sent. A short probe comes first:
// it shows what the server's template adds, and that both count alike. A prompt that was cut, or
// refused as too long, is evals.ErrUnanswered, never a wrong answer.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Options say what is asked.
type Options struct {
	URL   string // http://host:port, for OpenAI's API with /v1 at its end
	Model string // as the server calls it
	Chat  bool
	// NumCtx is the context length to ask an Ollama server for; 0 is the server's own choice.
	NumCtx int
	// Tokenizer is the same model here: it makes prompts of a length. nil: prompts are not
	// tokenized, and say themselves how many tokens they take.
	Tokenizer evals.Engine
	// Wait is how long to wait before the second try of a request, twice as long before each
	// further one; 0 is a second. There are four tries.
	Wait time.Duration
}

// Engine is an evals.Answerer.
type Engine struct {
	o     Options
	api   api
	host  string // what the server says it is
	extra int    // tokens that its template adds
}

var _ evals.Answerer = (*Engine)(nil)

// slack is how many tokens two counts of one prompt may differ by, as BOS is counted or not.
const slack = 8

// tries of a request that the server did not answer.
const tries = 4

// api is how a server is asked.
type api interface {
	name() string
	// request is the path and the body for a prompt.
	request(o Options, text string, answer int) (path string, body any)
	// reply reads an answer, and how many tokens the prompt had.
	reply(b []byte) (text string, tokens int, err error)
}

// New finds out what the server speaks and sends it a short probe.
func New(ctx context.Context, o Options) (*Engine, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of a server; write it like "+
			"http://localhost:11434, or http://localhost:8080/v1 for OpenAI's API", o.URL)
	}
	o.URL = strings.TrimRight(o.URL, "/")
	if o.Wait == 0 {
		o.Wait = time.Second
	}
	e := &Engine{o: o, api: openAI{}, host: o.URL}
	if !strings.HasSuffix(o.URL, "/v1") {
		var v struct {
			Version string `json:"version"`
		}
		b, err := e.send(ctx, http.MethodGet, "/api/version", nil)
		if err == nil && json.Unmarshal(b, &v) == nil && v.Version != "" {
			e.api, e.host = ollama{}, "ollama v"+v.Version+" at "+o.URL
		} else if refused := new(status); errors.As(err, &refused) || err == nil {
			e.o.URL += "/v1"
		} else {
			return nil, err
		}
	}
	return e, e.probe(ctx)
}

// probeText is a short prompt. It has nothing that tokenizers merge with what stands around it.
const probeText = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and " +
	"back again. One, two, three, four, five, six, seven, eight, nine, ten."

// probe sends a short prompt, to see that the server has the model and counts tokens.
func (e *Engine) probe(ctx context.Context) error {
	_, counted, err := e.ask(ctx, probeText, 1)
	switch {
	case err != nil:
		return err
	case counted == 0:
		return fmt.Errorf("%s does not say how many tokens a prompt has, so a prompt that it cut "+
			"could not be told from a wrong answer", e.o.URL)
	case e.o.Tokenizer == nil:
		return nil
	}
	own, err := e.o.Tokenizer.Tokenize(probeText, true)
	if err != nil {
		return err
	}
	e.extra = counted - len(own)
	if e.extra < -slack || e.extra > slack && !e.o.Chat {
		return fmt.Errorf("%s counts %d tokens in a prompt that has %d here: %s there is another "+
			"model than %s; name the same one", e.o.URL, counted, len(own), e.o.Model,
			e.o.Tokenizer.Info().Model)
	}
	return nil
}

// Info says what is measured.
func (e *Engine) Info() evals.Info {
	i := evals.Info{Model: e.o.Model}
	if e.o.Tokenizer != nil {
		i = e.o.Tokenizer.Info()
	}
	i.Engine, i.Host, i.MaxLength = e.api.name(), e.host+", model "+e.o.Model, 0
	i.Backend = "server"
	if e.o.Chat {
		i.Backend += ", chat"
	}
	if e.o.NumCtx > 0 {
		i.Backend += fmt.Sprintf(", num_ctx %d", e.o.NumCtx)
	}
	return i
}

// Tokenize is the tokenizer's.
func (e *Engine) Tokenize(text string, special bool) ([]int, error) {
	if e.o.Tokenizer == nil {
		return nil, evals.ErrNoTokenizer
	}
	return e.o.Tokenizer.Tokenize(text, special)
}

// Detokenize is the tokenizer's.
func (e *Engine) Detokenize(tokens []int) (string, error) {
	if e.o.Tokenizer == nil {
		return "", evals.ErrNoTokenizer
	}
	return e.o.Tokenizer.Detokenize(tokens)
}

// errServer is what a server cannot do.
var errServer = errors.New("a server takes text and gives text: no factors, no likelihoods")

// SetLadder takes no ladder: the server's model is as it is.
func (e *Engine) SetLadder(l *ropescale.Ladder) error {
	if l != nil {
		return errServer
	}
	return nil
}

// NLL is not there.
func (e *Engine) NLL(context.Context, []int, int) ([]float64, error) { return nil, errServer }

// Generate is not there: see Answer.
func (e *Engine) Generate(context.Context, []int, int) ([]int, error) { return nil, errServer }

// Answer sends a prompt.
func (e *Engine) Answer(ctx context.Context, a evals.Ask) (string, error) {
	text, counted, err := e.ask(ctx, a.Input+a.Prefix, a.Answer)
	if refused := new(status); errors.As(err, &refused) && refused.tooLong() {
		return "", fmt.Errorf("%w: refused: %s", evals.ErrUnanswered, refused.text)
	}
	if err != nil {
		return "", err
	}
	if sent := a.Tokens + max(e.extra, 0); a.Tokens > 0 && counted+slack < sent {
		return "", fmt.Errorf("%w: truncated: the server read %d of %d tokens", evals.ErrUnanswered,
			counted, sent)
	}
	return text, nil
}

// ask sends a prompt and reads the answer.
func (e *Engine) ask(ctx context.Context, text string, n int) (answer string, counted int,
	err error,
) {
	path, body := e.api.request(e.o, text, n)
	b, err := json.Marshal(body)
	if err != nil {
		return "", 0, err
	}
	wait := e.o.Wait
	var reply []byte
	for try := 1; ; try++ {
		reply, err = e.send(ctx, http.MethodPost, path, b)
		if refused := new(status); err == nil || ctx.Err() != nil || try == tries ||
			errors.As(err, &refused) && !refused.passing() {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait *= 2
	}
	if err != nil {
		return "", 0, errors.Join(ctx.Err(), err)
	}
	answer, counted, err = e.api.reply(reply)
	if err != nil {
		return "", 0, fmt.Errorf("%s%s: the answer is not understood: %w", e.o.URL, path, err)
	}
	return answer, counted, nil
}

// status is an answer that is none.
type status struct {
	url  string
	code int
	text string
}

func (s *status) Error() string { return fmt.Sprintf("%s: %d: %s", s.url, s.code, s.text) }

// passing reports whether it may pass.
func (s *status) passing() bool {
	return s.code == http.StatusTooManyRequests || s.code >= 500
}

// tooLong reports whether a prompt was refused for what it is, not for who asks or where.
func (s *status) tooLong() bool {
	return s.code == http.StatusBadRequest || s.code == http.StatusRequestEntityTooLarge ||
		s.code == http.StatusUnprocessableEntity
}

// maxReply bounds an answer, in bytes.
const maxReply = 16 << 20

func (e *Engine) send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.o.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer of the server: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("no whole answer of the server: %s: %w", e.o.URL+path, err)
	case len(b) > maxReply:
		return nil, fmt.Errorf("%s: more than %d bytes", e.o.URL+path, maxReply)
	case resp.StatusCode != http.StatusOK:
		return nil, &status{e.o.URL + path, resp.StatusCode, message(b)}
	}
	return b, nil
}

// message is the text of a server's error, one line of it.
func message(b []byte) string {
	var e struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
	}
	text := string(b)
	if json.Unmarshal(b, &e) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		switch {
		case json.Unmarshal(e.Error, &text) == nil && text != "":
		case json.Unmarshal(e.Error, &inner) == nil && inner.Message != "":
			text = inner.Message
		case e.Message != "":
			text = e.Message
		}
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return fmt.Sprintf("%q", text)
}
