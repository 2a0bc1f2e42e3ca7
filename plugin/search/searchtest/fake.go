// Package searchtest has a model that needs no engine, for tests of the search and of the commands.
package searchtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// Fake is a model whose best factors are known: at twice L or more they rise as a square root from
// 1 to s, with attention factor 1.05. A token is a byte. Environment variables, which a test sets,
// make it stop at a point or break it:
//
//	FAKE_DELAY  a call takes so long by Now
//	FAKE_HOLD   "N FILE": once FILE has N lines, a call waits for its context to end; a line in
//	            FILE.held with the number of the process says that it waits
//	FAKE_STEP   "POINT FILE": the same for the calls of a worker, where the file POINT has N;
//	            they wait until POINT has a larger one
//	FAKE_DEAF   a call that waits does not end, but writes a second line when its context does
//	FAKE_NAN    losses are no numbers
type Fake struct {
	info   evals.Info
	base   *ropescale.Rung
	file   *ropescale.Ladder // of the model file
	ladder *ropescale.Ladder
}

// Open reads a model file, as the engine does.
func Open(path, name string, length int) (*Fake, error) {
	if length > 1<<17 {
		return nil, fmt.Errorf("%s at %d tokens: out of memory", path, length)
	}
	mi, err := convert.Inspect(path)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return &Fake{base: mi.Base, file: mi.Ladder, ladder: mi.Ladder, info: evals.Info{
		Model: name, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(b)),
		Architecture: mi.Architecture, Engine: "fake", Host: "fake host", Backend: "CPU",
		OriginalContextLength: mi.OriginalContextLength, RopeDimensionCount: mi.RopeDimensionCount,
		FreqBase: mi.FreqBase, VocabSize: 256, MaxLength: length,
	}}, nil
}

// New is a fake without a file.
func New(info evals.Info) *Fake { return &Fake{info: info} }

// Close does nothing.
func (f *Fake) Close() {}

// Info is evals.Engine's.
func (f *Fake) Info() evals.Info { return f.info }

// Tokenize is evals.Engine's.
func (f *Fake) Tokenize(text string, _ bool) ([]int, error) {
	ids := make([]int, len(text))
	for i := range ids {
		ids[i] = int(text[i])
	}
	return ids, nil
}

// Detokenize is evals.Engine's.
func (f *Fake) Detokenize(tokens []int) (string, error) {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = byte(t)
	}
	return string(b), nil
}

// SetLadder is evals.Engine's.
func (f *Fake) SetLadder(l *ropescale.Ladder) error {
	if l == nil {
		l = f.file
	}
	if l != nil {
		if err := l.Validate(); err != nil {
			return err
		}
		if l.RopeDimensionCount != f.info.RopeDimensionCount {
			return errors.New("factors do not fit the model")
		}
	}
	f.ladder = l
	return nil
}

// Error is how far the factors for n tokens are from the best ones: 0 up to L.
func (f *Fake) Error(n int) float64 {
	if n <= f.info.OriginalContextLength {
		return 0
	}
	g := ropescale.Rope{Dims: f.info.RopeDimensionCount}.Identity(n)
	if f.ladder != nil {
		g = f.ladder.At(f.ladder.RungFor(n))
	}
	s, sum := float64(n)/float64(f.info.OriginalContextLength), 0.0
	last := float64(max(len(g.Factors)-1, 1))
	for i, x := range g.Factors {
		if f.base != nil {
			x /= f.base.Factors[i]
		}
		d := math.Log(x) - math.Sqrt(float64(i)/last)*math.Log(s)
		sum += d * d
	}
	return sum/float64(len(g.Factors)) + math.Abs(g.AttentionFactor-1.05) +
		0.001*math.Abs(float64(g.StartWindow)-16)/16
}

// NLL is evals.Engine's.
func (f *Fake) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	if err := wait(ctx); err != nil {
		return nil, err
	}
	out := make([]float64, len(tokens)-from)
	for i := range out {
		out[i] = 2 + float64(tokens[from+i]%7)/100 + f.Error(len(tokens))
		if os.Getenv("FAKE_NAN") != "" {
			out[i] = math.NaN()
		}
	}
	return out, nil
}

var hidden = regexp.MustCompile(`pass key is ([0-9]+)\.`)

// Generate finds the key while the factors are good enough.
func (f *Fake) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	if err := wait(ctx); err != nil {
		return nil, err
	}
	text, _ := f.Detokenize(tokens)
	answer := " 0."
	if m := hidden.FindStringSubmatch(text); m != nil && f.Error(len(tokens)+n) < 0.5 {
		answer = " " + m[1] + "."
	}
	ids, _ := f.Tokenize(answer, false)
	return ids[:min(n, len(ids))], nil
}

// wait is what a call does in addition to its answer.
func wait(ctx context.Context) error {
	advance(delay("FAKE_DELAY"))
	if count, file, ok := strings.Cut(os.Getenv("FAKE_HOLD"), " "); ok && reached(count, file) {
		note(file, "waits")
		<-ctx.Done()
		if os.Getenv("FAKE_DEAF") != "" {
			note(file, "does not end")
			select {}
		}
	}
	point, file, ok := strings.Cut(os.Getenv("FAKE_STEP"), " ")
	if ok && slices.Contains(os.Args, "worker") {
		step(ctx, point, file)
	}
	return ctx.Err()
}

// reached reports whether a file has so many lines.
func reached(count, file string) bool {
	n, _ := strconv.Atoi(count)
	b, _ := os.ReadFile(file)
	return bytes.Count(b, []byte("\n")) >= n
}

// step waits while the file has as many lines as point says.
func step(ctx context.Context, point, file string) {
	for noted := ""; ; {
		count, err := os.ReadFile(point)
		if err != nil || !reached(string(count), file) {
			return
		}
		if noted != string(count) {
			noted = string(count)
			note(file, "waits at "+noted)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond): // until it looks again
		}
	}
}

// note writes a line next to a file.
func note(file, line string) {
	f, err := os.OpenFile(file+".held", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, os.Getpid(), line)
}

func delay(name string) time.Duration {
	d, _ := time.ParseDuration(os.Getenv(name))
	return d
}
