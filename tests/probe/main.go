// Command probe shows what a host computes, with nothing that an unpatched host lacks: tests build
// it against both hosts and compare. It prints one line of JSON.
//
//	probe logits MODEL PREFILL DECODE   logits of a prefill, of single tokens and after a context
//	                                    shift
//	probe gologits MODEL PREFILL DECODE the same on the Go engine
//	probe keys MODEL TYPE SHIFTS        cached keys of layer 0 after context shifts
//	probe run MODEL TOKENS              logits of the last tokens of a prefill in float32
//	probe state MODEL TOKENS FILE       the saved state of a sequence after a prefill
//	probe rope                          the RoPE op without rows, all modes
//	probe speed MODEL PREFILL DECODE    tokens per second of a prefill in batches of 512 and
//	                                    of single tokens after it, on the GPUs that the
//	                                    host finds, the CPU if there are none
//
// Against the unpatched host it is built with the tag stock.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"

	"github.com/longrope/longrope/plugin/kernel"
	"github.com/longrope/longrope/tests/session"
)

func main() {
	slog.SetLogLoggerLevel(slog.LevelError) // the host logs all about a model
	out, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) (any, error) {
	switch {
	case len(args) == 4 && (args[0] == "logits" || args[0] == "gologits" || args[0] == "speed"):
		prefill, err := strconv.Atoi(args[2])
		decode, err2 := strconv.Atoi(args[3])
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		if args[0] == "speed" {
			return speed(args[1], prefill, decode)
		}
		if args[0] == "gologits" {
			return goLogits(args[1], prefill, decode)
		}
		return logits(args[1], prefill, decode)
	case len(args) == 4 && args[0] == "keys":
		shifts, err := strconv.Atoi(args[3])
		if err != nil {
			return nil, err
		}
		return keys(args[1], args[2], shifts)
	case len(args) == 3 && args[0] == "run":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return nil, err
		}
		return prefill(args[1], n)
	case len(args) == 4 && args[0] == "state":
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return nil, err
		}
		return n, saveState(args[1], n, args[3])
	case len(args) == 1 && args[0] == "rope":
		return rope()
	}
	return nil, errors.New(
		"usage: probe logits MODEL PREFILL DECODE | gologits MODEL PREFILL DECODE | keys " +
			"MODEL TYPE SHIFTS | run MODEL TOKENS | state MODEL TOKENS FILE | rope | speed MODEL " +
			"PREFILL DECODE")
}

// open loads a model with a context and a batch. The unpatched host cannot free a context; the
// program ends soon.
func open(
	path string,
	batchSize int,
	mp llama.ModelParams,
	params llama.ContextParams,
) (*llama.Model, *llama.Context, *llama.Batch, error) {
	model, err := llama.LoadModelFromFile(path, mp)
	if err != nil {
		return nil, nil, nil, err
	}
	lc, err := llama.NewContextWithModel(model, params)
	if err != nil {
		return nil, nil, nil, err
	}
	batch, err := llama.NewBatch(batchSize, 1, 0)
	return model, lc, batch, err
}

// speed runs a model as fast as the machine does, with a thread for each processor.
func speed(path string, prefill, decode int) (map[string]float64, error) {
	const batchSize = 512
	llama.BackendInit()
	// on a CPU it halves the speed
	mp, flash := llama.ModelParams{UseMmap: true}, ml.FlashAttentionDisabled
	for _, gpu := range llama.EnumerateGPUs() {
		mp.Devices = append(mp.Devices, gpu.LlamaID)
		mp.NumGpuLayers, flash = math.MaxInt32, ml.FlashAttentionAuto
	}
	model, lc, batch, err := open(path, batchSize, mp,
		llama.NewContextParams(prefill+decode, batchSize, 1, runtime.NumCPU(), flash, ""))
	if err != nil {
		return nil, err
	}
	defer llama.FreeModel(model)
	defer batch.Free()

	// tokens from p on, in batches of at most n; the host computes when a batch is decoded
	rate := func(p, end, n int) (float64, error) {
		started, first := time.Now(), p
		for p < end {
			batch.Clear()
			for ; p < end && batch.NumTokens() < n; p++ {
				batch.Add((p*7919+p/3*31)%model.NumVocab(), nil, p, p == end-1 || n == 1, 0)
			}
			if err := lc.Decode(batch); err != nil {
				return 0, err
			}
			lc.Synchronize()
		}
		return float64(end-first) / time.Since(started).Seconds(), nil
	}
	out := map[string]float64{}
	if out["prefill"], err = rate(0, prefill, batchSize); err != nil {
		return nil, err
	}
	out["decode"], err = rate(prefill, prefill+decode, 1)
	return out, err
}

// digest is what is left of numbers: their hash and some of them, to see how far apart two hosts
// are.
type digest struct {
	SHA256 string    `json:"sha256"`
	N      int       `json:"n"`
	Some   []float32 `json:"some"`

	h hash.Hash
}

func newDigest() *digest { return &digest{h: sha256.New()} }

func (d *digest) add(x []float32) {
	for i, v := range x {
		if (d.N+i)%10007 == 0 {
			d.Some = append(d.Some, v)
		}
	}
	d.N += len(x)
	_ = binary.Write(d.h, binary.LittleEndian, x) // a hash does not fail
	d.SHA256 = hex.EncodeToString(d.h.Sum(nil))
}

// logits runs a model as the host's runner does: prefill in batches, tokens one by one, a context
// shift, tokens again.
func logits(path string, prefill, decode int) (map[string]*digest, error) {
	const batchSize = 64
	llama.BackendInit()
	model, lc, batch, err := open(path, batchSize, llama.ModelParams{UseMmap: true},
		llama.NewContextParams(prefill+2*decode, batchSize, 1, 1, ml.FlashAttentionAuto, ""))
	if err != nil {
		return nil, err
	}
	defer llama.FreeModel(model)
	defer batch.Free()

	out := map[string]*digest{"prefill": newDigest(), "decode": newDigest(), "shifted": newDigest()}
	next := 1
	flush := func(d *digest) error {
		if batch.NumTokens() == 0 {
			return nil
		}
		if err := lc.Decode(batch); err != nil {
			return err
		}
		for i := range batch.NumTokens() {
			x := lc.GetLogitsIth(i)
			d.add(x)
			next = argmax(x)
		}
		batch.Clear()
		return nil
	}
	for p := range prefill {
		batch.Add((p*7919+p/3*31)%model.NumVocab(), nil, p, true, 0)
		if batch.NumTokens() == batchSize {
			if err := flush(out["prefill"]); err != nil {
				return nil, err
			}
		}
	}
	if err := flush(out["prefill"]); err != nil {
		return nil, err
	}

	pos := prefill
	one := func(d *digest) error {
		batch.Add(next, nil, pos, true, 0)
		pos++
		return flush(d)
	}
	for range decode {
		if err := one(out["decode"]); err != nil {
			return nil, err
		}
	}
	keep, discard := 4, pos/2
	if !lc.KvCacheSeqRm(0, keep, keep+discard) {
		return nil, errors.New("cannot discard tokens")
	}
	lc.KvCacheSeqAdd(0, keep+discard, pos, -discard)
	pos -= discard
	for range decode {
		if err := one(out["shifted"]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// Shifts of keys: positions 8 to 16 go, again and again.
const (
	prompt  = 160
	keep    = 8
	discard = 8
)

// keyReport is the keys of layer 0 by position, and the tokens they belong to.
type keyReport struct {
	Tokens map[int]int       `json:"tokens"`
	Keys   map[int][]float32 `json:"keys"`
}

func keys(path, typ string, shifts int) (*keyReport, error) {
	s, err := session.Open(path, session.Options{Context: 512, Keys: typ})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	tokens := make([]int, prompt)
	for i := range tokens {
		tokens[i] = (i*7919 + 13) % s.Vocab()
	}
	if _, err := s.Prefill(tokens, 0, 0, 512); err != nil {
		return nil, err
	}
	for i := range shifts {
		if err := s.Shift(0, keep, discard, len(tokens)); err != nil {
			return nil, err
		}
		tokens = append(tokens[:keep:keep], tokens[keep+discard:]...)
		tokens = append(tokens, i+1) // which makes the engine apply the shift
		next := session.Token{ID: i + 1, Pos: len(tokens) - 1, Logits: true}
		if err := s.Decode(next); err != nil {
			return nil, err
		}
	}
	r := &keyReport{Tokens: map[int]int{}}
	for p, id := range tokens {
		r.Tokens[p] = id
	}
	r.Keys, err = s.Keys(0)
	return r, err
}

// prefill gives the logits of the last 8 of n tokens (i*7919 + 13) mod the vocabulary.
func prefill(path string, n int) ([][]float32, error) {
	s, err := session.Open(path, session.Options{Context: n})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = (i*7919 + 13) % s.Vocab()
	}
	logits, err := s.Prefill(tokens, 0, 0, 512)
	if err != nil {
		return nil, err
	}
	return logits[n-8:], nil
}

// saveState saves a sequence of the tokens of prefill.
func saveState(path string, n int, file string) error {
	s, err := session.Open(path, session.Options{Context: 2 * n})
	if err != nil {
		return err
	}
	defer s.Close()
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = (i*7919 + 13) % s.Vocab()
	}
	if _, err := s.Prefill(tokens, 0, 0, 512); err != nil {
		return err
	}
	state, err := s.State(0)
	if err != nil {
		return err
	}
	return os.WriteFile(file, state, 0o644)
}

func rope() (map[string]*digest, error) {
	out := map[string]*digest{}
	for _, d := range kernel.Devices() {
		for _, c := range kernel.Cases() {
			if c.Rows {
				continue
			}
			y, err := d.Run(c, c.Input())
			if errors.Is(err, kernel.ErrUnsupported) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, v := range y {
				if math.IsNaN(float64(v)) {
					return nil, fmt.Errorf("not a number: %v", c)
				}
			}
			name := d.Name() + " " + c.Mode.String() + " " + c.Type()
			if out[name] == nil {
				out[name] = newDigest()
			}
			out[name].add(y)
		}
	}
	return out, nil
}
