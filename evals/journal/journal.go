// Package journal keeps the finished calls of a model in a file, so that an evaluation that was
// interrupted computes none of them again. It is an Engine around another one, so it serves every
// task.
//
// The file has a line of JSON for each call: a key, which is a digest of the model, the host, the
// factors, and the tokens, and the answer. Lines are only appended. A last line that was cut by the
// end of the process is dropped; any other line that is none is an error. An answer is taken only
// where all of its key is the same, so a journal can be kept and used for other settings too.
package journal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// header is the first line.
const header = `{"longrope_eval_journal":1}`

// Engine is an engine with a journal. Close it.
type Engine struct {
	evals.Engine
	// Known is how many calls the file had, Taken how many were answered from it, and Computed how
	// many were not.
	Known, Taken, Computed int

	path   string
	file   *os.File
	seen   map[string]entry
	ladder string // digest
}

// entry is a call: one of its answers is given.
type entry struct {
	Key    string    `json:"key"`
	NLL    []float64 `json:"nll,omitempty"`
	Tokens []int     `json:"tokens,omitempty"`
	Text   *string   `json:"text,omitempty"`
}

// Open reads the journal at path, or begins one.
func Open(path string, e evals.Engine) (*Engine, error) {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file; name another journal", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	j := &Engine{Engine: e, path: path, file: f, seen: map[string]entry{}}
	if err := j.read(); err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

// read reads the file and cuts a torn line off.
func (j *Engine) read() error {
	r := bufio.NewReader(j.file)
	var good int64
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // a rest without an end
		}
		if err != nil {
			return fmt.Errorf("%s: %w", j.path, err)
		}
		var x entry
		switch {
		case n == 1 && string(bytes.TrimSpace(line)) != header:
			return fmt.Errorf("%s is no journal of an evaluation; name another file, or remove it",
				j.path)
		case n > 1:
			if err := json.Unmarshal(line, &x); err != nil || x.Key == "" {
				return fmt.Errorf("%s: line %d is damaged; remove the file to start again", j.path,
					n)
			}
			j.seen[x.Key] = x
		}
		good += int64(len(line))
	}
	j.Known = len(j.seen)
	if good == 0 { // new, or cut within the first line
		if fi, err := j.file.Stat(); err != nil || fi.Size() > int64(len(header)) {
			return fmt.Errorf("%s is no journal of an evaluation; name another file, or remove it",
				j.path)
		}
	}
	if err := j.file.Truncate(good); err != nil {
		return fmt.Errorf("%s: %w", j.path, err)
	}
	if good == 0 {
		_, err := j.file.WriteString(header + "\n")
		return err
	}
	return nil
}

// Close closes the file, not the engine. A file without a call is removed.
func (j *Engine) Close() error {
	err := errors.Join(j.file.Sync(), j.file.Close())
	if len(j.seen) == 0 {
		err = errors.Join(err, os.Remove(j.path))
	}
	return err
}

// SetLadder is evals.Engine's.
func (j *Engine) SetLadder(l *ropescale.Ladder) error {
	if err := j.Engine.SetLadder(l); err != nil {
		return err
	}
	if j.ladder = ""; l != nil {
		j.ladder = l.Digest()
	}
	return nil
}

// key identifies a call.
func (j *Engine) key(call string, n int, tokens []int, text string) string {
	i := j.Info()
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %q %d %q\n", i.Digest, i.Architecture, i.Engine, i.Host,
		i.Backend, j.ladder, n, call+text)
	for _, t := range tokens {
		fmt.Fprintf(h, "%d ", t)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// add appends a call. A journal that cannot be written ends the run: hours could be lost later.
func (j *Engine) add(x entry) error {
	j.Computed++
	b, err := json.Marshal(x)
	if err == nil {
		_, err = j.file.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	j.seen[x.Key] = x
	return nil
}

// NLL is evals.Engine's.
func (j *Engine) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	key := j.key("nll", from, tokens, "")
	if x, ok := j.seen[key]; ok && len(x.NLL) == len(tokens)-from {
		j.Taken++
		return slices.Clone(x.NLL), ctx.Err()
	}
	values, err := j.Engine.NLL(ctx, tokens, from)
	if err != nil || slices.ContainsFunc(values, func(v float64) bool {
		return math.IsNaN(v) || math.IsInf(v, 0)
	}) {
		return values, err
	}
	return values, j.add(entry{Key: key, NLL: values})
}

// Generate is evals.Engine's.
func (j *Engine) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	key := j.key("generate", n, tokens, "")
	if x, ok := j.seen[key]; ok {
		j.Taken++
		return slices.Clone(x.Tokens), ctx.Err()
	}
	answer, err := j.Engine.Generate(ctx, tokens, n)
	if err != nil {
		return nil, err
	}
	return answer, j.add(entry{Key: key, Tokens: answer})
}

// Answerer is j for an engine that is one.
func (j *Engine) Answerer() (evals.Answerer, bool) {
	a, ok := j.Engine.(evals.Answerer)
	return answerer{j, a}, ok
}

type answerer struct {
	*Engine
	a evals.Answerer
}

// Answer is evals.Answerer's. A prompt that was cut or refused is asked again by the next run: the
// server may be set up better then.
func (j answerer) Answer(ctx context.Context, a evals.Ask) (string, error) {
	key := j.key("answer", a.Answer, []int{len(a.Input), len(a.Prefix)}, a.Input+a.Prefix)
	if x, ok := j.seen[key]; ok && x.Text != nil {
		j.Taken++
		return *x.Text, ctx.Err()
	}
	text, err := j.a.Answer(ctx, a)
	if err != nil {
		return "", err
	}
	return text, j.add(entry{Key: key, Text: &text})
}
