//go:build cgo

package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ollama/ollama/fs/ggml"
	"github.com/ollama/ollama/kvcache"
	"github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"
	"github.com/ollama/ollama/ml/nn/rope"
	gomodel "github.com/ollama/ollama/model"
	"github.com/ollama/ollama/model/input"
	_ "github.com/ollama/ollama/model/models" // which register themselves
	"github.com/ollama/ollama/tokenizer"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// goEngine is an evals.Engine on the host's Go engine, which alone runs some architectures.
// Prefixes cannot be kept on it, so it is no evals.Forker. Close it. It is not safe for concurrent
// use.
type goEngine struct {
	path   string
	params ml.BackendParams
	o      Options
	info   evals.Info
	base   *ropescale.Rung
	file   *ropescale.Ladder // that the model file carries

	model  gomodel.Model
	words  tokenizer.Tokenizer
	cache  kvcache.Cache
	own    *rope.Ladder      // of the file, as the engine has it
	ladder *ropescale.Ladder // in force; nil: none
	rung   int               // of the sequence in the cache
	proven int               // columns of a ladder that the model took
	same   bool              // the model's own RoPE is known to be what the file says
	kept   kept
}

var _ evals.Engine = (*goEngine)(nil)

// openGo loads a GGUF on the host's Go engine, as Open does on the other one.
func openGo(path string, o Options) (*goEngine, error) {
	info, mi, err := o.prepare(path)
	if err != nil {
		return nil, err
	}
	e := &goEngine{path: path, info: *info, base: mi.Base, file: mi.Ladder}
	e.info.Engine = evals.GoEngine
	e.params, e.info.Backend, err = o.goParams(path)
	if err != nil {
		return nil, err
	}
	o.Batch = o.batchSize(e.info.Backend)
	e.o = o
	if err := e.open(); err != nil {
		return nil, fmt.Errorf("%s at %d tokens: %w", path, o.Length, err)
	}
	e.info.VocabSize = len(e.words.Vocabulary().Values)
	return e, nil
}

// goParams say where the layers go, and the name of that.
func (o *Options) goParams(path string) (p ml.BackendParams, device string, err error) {
	p = ml.BackendParams{AllocMemory: true, NumThreads: o.Threads}
	r, err := os.Open(path)
	if err != nil {
		return p, "", err
	}
	defer r.Close()
	f, err := ggml.Decode(r, 0)
	if err != nil {
		return p, "", fmt.Errorf("%s: %w", path, err)
	}
	gpus := llama.EnumerateGPUs()
	layers := int(f.KV().BlockCount()) + 1 // and the output
	n := layers
	if o.GPULayers != nil && *o.GPULayers >= 0 {
		n = min(n, *o.GPULayers)
	}
	if len(gpus) == 0 || n == 0 {
		return p, cpu, nil
	}
	device = gpus[0].Library
	if n < layers {
		device = fmt.Sprintf("%s, %d layers", device, n)
	}
	for i, gpu := range gpus {
		part := ml.GPULayers{DeviceID: gpu.DeviceID}
		for l := layers - n + i*n/len(gpus); l < layers-n+(i+1)*n/len(gpus); l++ {
			part.Layers = append(part.Layers, l)
		}
		p.GPULayers = append(p.GPULayers, part)
	}
	if f.FlashAttention() && f.SupportsFlashAttention() {
		p.FlashAttention = ml.FlashAttentionEnabled
	}
	return p, device, nil
}

// open loads the model, with an empty cache and its own factors.
func (e *goEngine) open() (err error) {
	defer recovered(&err)
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if e.model, err = gomodel.New(e.path, e.params); err != nil {
		return fmt.Errorf("%w (of the host's Go engine; OLLAMA_DEBUG=1 shows its own words)", err)
	}
	var ok bool
	if e.words, ok = e.model.(tokenizer.Tokenizer); !ok {
		return fmt.Errorf("architecture %s has no tokenizer on the Go engine", e.info.Architecture)
	}
	if e.cache = e.model.Config().Cache; e.cache == nil {
		return fmt.Errorf("architecture %s generates no text", e.info.Architecture)
	}
	if err = e.model.Backend().Load(context.Background(), func(share float32) {
		if e.o.Progress != nil {
			e.o.Progress(share)
		}
	}); err != nil {
		return err
	}
	e.cache.Init(e.model.Backend(), ml.DTypeF16, 1, e.o.Length, e.o.Batch)
	e.kept = kept{computed: e.kept.computed}
	e.own = rope.LadderOf(e.model.Backend())
	return e.SetLadder(nil)
}

// recovered makes an error of a panic, which is how the host's Go engine says that there is no
// memory, and much else.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the Go engine: %v", p)
	}
}

// Close frees the model.
func (e *goEngine) Close() {
	if e.model == nil {
		return
	}
	if e.cache != nil {
		e.cache.Close()
	}
	e.model.Backend().Close()
	e.model, e.cache = nil, nil
}

// Info says what is being measured.
func (e *goEngine) Info() evals.Info { return e.info }

// Base is row 0, the model's own RoPE; nil for plain RoPE.
func (e *goEngine) Base() *ropescale.Rung { return e.base }

// SetLadder sets the factors of every later call; nil restores what the model carries.
func (e *goEngine) SetLadder(l *ropescale.Ladder) error {
	if l == nil {
		l = e.o.Ladder
	}
	rows := e.own
	if l != nil {
		full, err := withBase(l, e.base)
		if err != nil {
			return err
		}
		values, windows := full.Rows()
		rows = &rope.Ladder{StartWindows: windows}
		for r, row := range values {
			rows.Lengths = append(rows.Lengths, int32(full.At(r).Length))
			rows.Factors = append(rows.Factors, row...)
		}
	} else {
		l = e.file
	}
	b, ok := e.model.Backend().(rope.LadderBackend)
	if !ok {
		return errors.New("this backend of the Go engine takes no ladder")
	}
	if err := b.SetLadder(rows); err != nil {
		return err
	}
	e.ladder = l
	e.kept.forget()
	if rows == nil || rows.Columns() == e.proven {
		return nil
	}
	if err := e.probe(); err != nil {
		return err
	}
	e.proven = rows.Columns()
	return nil
}

// probe says why the model takes no ladder, which the host finds as it builds a graph.
func (e *goEngine) probe() error {
	_, err := e.reuse([]int{0}, 1, 0)
	if err == nil {
		err = e.forward([]int{0}, 0, 0, 0, nil)
	}
	return errors.Join(err, e.cache.Remove(0, 0, math.MaxInt32))
}

// Tokenize turns text into token ids; special adds what the model wants at the start and parses
// special tokens. The host's tokenizers always parse them: without special their texts are cut
// after the first letter, so that they are none.
func (e *goEngine) Tokenize(text string, special bool) ([]int, error) {
	parts := []string{text}
	if !special {
		parts = cutSpecial(text, e.words.Vocabulary().SpecialVocabulary())
	}
	var tokens []int
	for _, part := range parts {
		ids, err := e.words.Encode(part, special)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			tokens = append(tokens, int(id))
		}
	}
	return tokens, nil
}

// cutSpecial is a text in parts that have no special token.
func cutSpecial(text string, special []string) (parts []string) {
	for {
		at := -1
		for _, s := range special {
			if i := strings.Index(text, s); i >= 0 && len(s) > 1 && (at < 0 || i < at) {
				at = i
			}
		}
		if at < 0 {
			return append(parts, text)
		}
		_, size := utf8.DecodeRuneInString(text[at:])
		parts, text = append(parts, text[:at+size]), text[at+size:]
	}
}

// Detokenize turns token ids back into text.
func (e *goEngine) Detokenize(tokens []int) (string, error) {
	if err := checkTokens(tokens, e.info.VocabSize); err != nil {
		return "", err
	}
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		ids[i] = int32(t)
	}
	return e.words.Decode(ids)
}

// NLL returns -ln p(tokens[i] | tokens[:i]) in nats for i in [from, len(tokens)).
func (e *goEngine) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	if err := checkScored(tokens, from); err != nil {
		return nil, err
	}
	nll := make([]float64, 0, len(tokens)-from)
	err := e.decode(ctx, tokens, len(tokens), from-1, len(tokens)-1,
		func(i int, logits []float32) {
			v := minusLog(logits, tokens[i+1])
			e.kept.check(v)
			nll = append(nll, v)
		})
	return nll, err
}

// minusLog is -ln of the probability that logits give to a token.
func minusLog(logits []float32, token int) float64 {
	most := float64(slices.Max(logits))
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - most)
	}
	return most + math.Log(sum) - float64(logits[token])
}

// Generate continues tokens greedily by up to n tokens, stopping at an end-of-generation token,
// which is not returned.
func (e *goEngine) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	if len(tokens) == 0 {
		return nil, errors.New("nothing to continue: no tokens")
	}
	next := 0
	greedy := func(_ int, logits []float32) {
		next = argmax(logits)
		e.kept.check(float64(logits[next]))
	}
	last := len(tokens) - 1
	if err := e.decode(ctx, tokens, len(tokens)+n, last, last+1, greedy); err != nil {
		return nil, err
	}
	ends := func(token int) bool { return e.words.Is(int32(token), tokenizer.SpecialEOS) }
	return continued(ctx, &next, len(tokens), n, ends, func(at int) error {
		err := e.forward([]int{next}, at, at, at+1, greedy)
		if err != nil {
			e.kept.forget()
		}
		return err
	})
}

// decode runs tokens on the rung for a sequence of length tokens, from an empty cache or behind
// those of its first tokens that the cache has. scored is called with the logits after each token
// from first on and below end.
func (e *goEngine) decode(ctx context.Context, tokens []int, length, first, end int,
	scored func(i int, logits []float32),
) error {
	if err := checkFit(e.info, length); err != nil {
		return err
	}
	if err := checkTokens(tokens, e.info.VocabSize); err != nil {
		return err
	}
	if err := e.checkOwn(ctx); err != nil {
		return err
	}
	from, err := e.reuse(tokens, length, first)
	if err != nil {
		return err
	}
	e.kept.computed += len(tokens) - from
	for start := from; start < len(tokens); start += e.o.Batch {
		err := ctx.Err()
		if err == nil {
			chunk := tokens[start:min(start+e.o.Batch, len(tokens))]
			err = e.forward(chunk, start, max(first, start), min(end, start+len(chunk)), scored)
		}
		if err != nil {
			e.kept.forget()
			return err
		}
	}
	e.kept.remember(tokens, e.rung)
	return nil
}

// reuse has the cache ready for tokens, and returns how many of them it has; see kept. Where a
// layer attends to a window, or has a state, the cache is not what it was once it is cut back.
func (e *goEngine) reuse(tokens []int, length, needed int) (int, error) {
	rung := 0
	if e.ladder != nil {
		rung = e.ladder.RungFor(length)
	}
	if e.kept.spoiled { // what is masked is read all the same, and nothing clears it
		l := e.ladder
		e.Close()
		if err := e.open(); err != nil {
			return 0, err
		}
		if l != nil && l != e.file {
			if err := e.SetLadder(l); err != nil {
				return 0, err
			}
		}
	}
	n := e.kept.common(tokens, rung, needed, e.o.Batch)
	if _, ok := e.cache.(*kvcache.Causal); !ok || kvcache.Local(e.cache) {
		n = 0
	}
	e.kept.forget()
	e.rung = rung
	if n > 0 && e.cache.CanResume(0, int32(n)) &&
		e.cache.Remove(0, int32(n), math.MaxInt32) == nil {
		return n, nil
	}
	return 0, e.cache.Remove(0, 0, math.MaxInt32)
}

// forward computes tokens that begin at a position, and calls scored with the logits after those at
// positions from first on and below end.
func (e *goEngine) forward(tokens []int, at, first, end int, scored func(int, []float32)) (
	err error,
) {
	defer recovered(&err)
	ctx := e.model.Backend().NewContext()
	defer ctx.Close()
	var ids, outputs []int32
	var b input.Batch
	for i, t := range tokens {
		ids = append(ids, int32(t))
		b.Positions = append(b.Positions, int32(at+i))
		b.Sequences = append(b.Sequences, 0)
		b.Rungs = append(b.Rungs, e.rung)
		if at+i >= first && at+i < end {
			outputs = append(outputs, int32(i))
		}
	}
	wanted := len(outputs)
	if wanted == 0 { // not every graph can be computed without any
		outputs = append(outputs, int32(len(tokens)-1))
	}
	b.Inputs = ctx.Input().FromInts(ids, len(ids))
	b.Outputs = ctx.Input().FromInts(outputs, len(outputs))
	ctx.SetBatchSize(len(ids))
	out, err := gomodel.Forward(ctx, e.model, b)
	if err != nil {
		return err
	}
	ctx.Compute(out)
	all := out.Floats()
	n := len(all) / len(outputs)
	if n < e.info.VocabSize {
		return fmt.Errorf("architecture %s gives %d logits for %d tokens of the vocabulary",
			e.info.Architecture, n, e.info.VocabSize)
	}
	for i, o := range outputs[:wanted] {
		scored(at+int(o), all[i*n:(i+1)*n])
	}
	return nil
}
