//go:build cgo

// Package engine runs a model on the patched engines of the host, llama.cpp's (Engine) and its own
// in Go (goEngine), for the search and the evaluations: one loaded model, one sequence at a time,
// factors set between two calls without loading again. NewPrefix keeps what the model computed of a
// prefix, so that many factors and many continuations of it cost little each.
//
// It is the one package, apart from the host itself, that touches patched symbols.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/patches"
	"github.com/longrope/longrope/ropescale"
)

// Options for Open. The zero value is one thread per core and the model's own context length.
type Options struct {
	// Name of the model for reports; the path when empty.
	Name string
	// Length is the longest sequence, in tokens; 0 is the context length of the model file.
	Length int
	// Threads on the CPU; 0 is one per core.
	Threads int
	// Batch is the number of tokens decoded at once; 0 is 512, as the host has it, and 256 on a
	// CPU.
	Batch int
	// GPULayers is how many layers go to the GPUs that the host finds, the last ones first: 0 is
	// none, a negative number or nil all.
	GPULayers *int
	// Forks is how many forks of a prefix are evaluated at once, up to 63; see NewPrefix. 0 is
	// none: no prefix can be kept.
	Forks int
	// Ladder that the model has next to its file, in the Ollama store, in place of what the file
	// carries; nil for none.
	Ladder *ropescale.Ladder
	// Progress of loading, 0 to 1.
	Progress func(float32)
}

// maxSequences is the host's limit, LLAMA_MAX_SEQ.
const maxSequences = 64

// Engine is an evals.Engine on the host's llama.cpp engine. Close it. It is not safe for concurrent
// use.
type Engine struct {
	info  evals.Info
	base  *ropescale.Rung
	given *ropescale.Ladder // Options.Ladder
	model *llama.Model
	lc    *llama.Context
	batch *llama.Batch
	size  int // of a batch

	cells int // of the cache
	own   rows
	kept  kept

	// of prefixes
	forks       int      // at once
	inPrefix    bool     // the context has the ladder of a prefix, not own
	dirty       bool     // the cache has numbers that are not finite
	prefixBytes [2]int64 // see PrefixBytes
}

// rows are a ladder as the host takes it; without any it is what the model file carries.
type rows struct {
	values           [][]float32
	lengths, windows []int32
}

var _ evals.Engine = (*Engine)(nil)

// The engine's own words, some two hundred lines for each model, are for those who look for a fault
// in it.
var backends = sync.OnceFunc(func() {
	if os.Getenv("OLLAMA_DEBUG") == "" {
		slog.SetLogLoggerLevel(slog.LevelError + 1)
	}
	llama.BackendInit()
})

// check finds numbers that the engine would take for others.
func (o Options) check() error {
	switch {
	case o.Forks < 0 || o.Forks >= maxSequences:
		return fmt.Errorf("%d forks at once: ask for 0 to %d", o.Forks, maxSequences-1)
	case o.Batch < 0 || o.Threads < 0 || o.Length < 0:
		return fmt.Errorf("batch %d, threads %d, length %d: want no negative numbers", o.Batch,
			o.Threads, o.Length)
	}
	return nil
}

// prepare loads the host's backends, fills in what the model and the machine decide, and says what
// the GGUF at path is.
func (o *Options) prepare(path string) (*evals.Info, *convert.ModelInfo, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	mi, err := convert.Inspect(path)
	if err != nil {
		return nil, nil, err
	}
	digest, err := convert.FileDigest(path)
	if err != nil {
		return nil, nil, err
	}
	series, err := patches.Embedded()
	if err != nil {
		return nil, nil, err
	}
	o.fill(mi)
	if o.Name == "" {
		o.Name = path
	}
	backends()
	return &evals.Info{
		Model: o.Name, Digest: digest, Architecture: mi.Architecture,
		Host:                  "ollama " + patches.HostVersion + "+longrope." + series.Hash()[:8],
		OriginalContextLength: mi.OriginalContextLength, RopeDimensionCount: mi.RopeDimensionCount,
		FreqBase: mi.FreqBase, MaxLength: o.Length,
	}, mi, nil
}

// batchSize is how many tokens are decoded at once, of the option.
func (o *Options) batchSize(device string) int {
	n := o.Batch
	if n == 0 {
		n = 512
		if device == cpu {
			n = 256 // the same bits; what a batch attends to stays in the cache
		}
	}
	return min(n, o.Length)
}

const cpu = "CPU" // of evals.Info.Backend

// Open loads a GGUF. All layers or some go to the GPUs that the host finds, to the CPU if there are
// none.
func Open(path string, o Options) (*Engine, error) {
	info, mi, err := o.prepare(path)
	if err != nil {
		return nil, err
	}
	params := llama.ModelParams{UseMmap: true, Progress: o.Progress}
	device := cpu
	flash := ml.FlashAttentionDisabled // on a CPU it halves the speed
	for _, gpu := range llama.EnumerateGPUs() {
		if o.GPULayers != nil && *o.GPULayers == 0 {
			break
		}
		params.Devices = append(params.Devices, gpu.LlamaID)
		params.NumGpuLayers = math.MaxInt32
		device, flash = gpu.Library, ml.FlashAttentionAuto
		if o.GPULayers != nil && *o.GPULayers > 0 {
			params.NumGpuLayers = *o.GPULayers
			device = fmt.Sprintf("%s, %d layers", gpu.Library, *o.GPULayers)
		}
	}
	o.Batch = o.batchSize(device)
	model, err := llama.LoadModelFromFile(path, params)
	if err != nil {
		return nil, fmt.Errorf("%w: %w (run with OLLAMA_DEBUG=1 for the engine's own words)",
			errNotLoaded, err)
	}
	e := &Engine{model: model, size: o.Batch, base: mi.Base}
	e.cells = o.Length
	if o.Forks > 0 {
		e.forks, e.cells = o.Forks, o.Length+o.Batch
	}
	e.lc, err = llama.NewContextWithModel(model,
		llama.NewContextParams(e.cells, o.Batch, 1+e.forks, o.Threads, flash, "").Unified())
	if err == nil {
		e.batch, err = llama.NewBatch(o.Batch, 1, 0)
	}
	if e.given = o.Ladder; err == nil && e.given != nil {
		err = e.SetLadder(nil)
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("%s at %d tokens: %w", path, o.Length, err)
	}

	e.info = *info
	e.info.Engine, e.info.Backend, e.info.VocabSize = evals.LlamaEngine, device, model.NumVocab()
	return e, nil
}

// fill sets what the model and the machine decide.
func (o *Options) fill(mi *convert.ModelInfo) {
	if o.Length == 0 {
		o.Length = mi.ContextLength
		if l := o.Ladder; l != nil && len(l.Rungs) > 0 {
			o.Length = l.Rungs[len(l.Rungs)-1].Length
		}
	}
	if o.Threads == 0 {
		o.Threads = runtime.NumCPU()
	}
}

// Close frees the model.
func (e *Engine) Close() {
	if e.batch != nil {
		e.batch.Free()
	}
	if e.lc != nil {
		e.lc.Free()
	}
	llama.FreeModel(e.model)
}

// Info says what is being measured.
func (e *Engine) Info() evals.Info { return e.info }

// Base is row 0, the model's own RoPE; nil for plain RoPE.
func (e *Engine) Base() *ropescale.Rung { return e.base }

// Tokenize turns text into token ids; special adds what the model wants at the start and parses
// special tokens.
func (e *Engine) Tokenize(text string, special bool) ([]int, error) {
	return e.model.Tokenize(text, special, special)
}

// Detokenize turns token ids back into text.
func (e *Engine) Detokenize(tokens []int) (string, error) {
	if err := checkTokens(tokens, e.info.VocabSize); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(e.model.TokenToPiece(t))
	}
	return b.String(), nil
}

func checkScored(tokens []int, from int) error {
	if from < 1 || from >= len(tokens) {
		return fmt.Errorf("score from token %d of %d: nothing to score", from, len(tokens))
	}
	return nil
}

func checkFit(info evals.Info, length int) error {
	if length > info.MaxLength {
		return fmt.Errorf("%d tokens do not fit the %d that %s was opened for", length,
			info.MaxLength, info.Model)
	}
	return nil
}

func checkTokens(tokens []int, vocabulary int) error {
	for _, t := range tokens {
		if t < 0 || t >= vocabulary {
			return fmt.Errorf("token %d is not in the vocabulary of %d", t, vocabulary)
		}
	}
	return nil
}

// SetLadder sets the factors of every later call; nil restores what the model carries. A ladder
// without a base gets the model's own RoPE as row 0.
func (e *Engine) SetLadder(l *ropescale.Ladder) error {
	var own rows
	if l == nil {
		l = e.given
	}
	if l != nil {
		full, err := withBase(l, e.base)
		if err != nil {
			return err
		}
		own.values, own.windows = full.Rows()
		for r := range own.values {
			own.lengths = append(own.lengths, int32(full.At(r).Length))
		}
	}
	if err := e.lc.SetLadder(own.values, own.lengths, own.windows); err != nil {
		return err
	}
	e.own, e.inPrefix = own, false
	e.kept.forget()
	return nil
}

// withBase is a ladder with the model's own RoPE as row 0, where it has no other.
func withBase(l *ropescale.Ladder, base *ropescale.Rung) (*ropescale.Ladder, error) {
	full := *l
	if full.Base == nil {
		full.Base = base
	}
	return &full, full.Validate()
}

// NLL returns -ln p(tokens[i] | tokens[:i]) in nats for i in [from, len(tokens)).
func (e *Engine) NLL(ctx context.Context, tokens []int, from int) ([]float64, error) {
	if err := checkScored(tokens, from); err != nil {
		return nil, err
	}
	nll := make([]float64, 0, len(tokens)-from)
	err := e.decode(
		ctx,
		tokens,
		len(tokens),
		from-1,
		func(i int) bool { return i >= from-1 && i+1 < len(tokens) },
		func(out, i int) {
			v := e.lc.NLL(out, tokens[i+1])
			e.kept.check(v)
			nll = append(nll, v)
		},
	)
	return nll, err
}

// Generate continues tokens greedily by up to n tokens, stopping at an end-of-generation token,
// which is not returned.
func (e *Engine) Generate(ctx context.Context, tokens []int, n int) ([]int, error) {
	if len(tokens) == 0 {
		return nil, errors.New("nothing to continue: no tokens")
	}
	next := 0
	greedy := func(out, _ int) {
		logits := e.lc.GetLogitsIth(out)
		next = argmax(logits)
		e.kept.check(float64(logits[next]))
	}
	last := func(i int) bool { return i == len(tokens)-1 }
	if err := e.decode(ctx, tokens, len(tokens)+n, len(tokens)-1, last, greedy); err != nil {
		return nil, err
	}
	step := func(at int) error {
		e.batch.Clear()
		e.batch.Add(next, nil, at, true, 0)
		if err := e.lc.Decode(e.batch); err != nil {
			return err
		}
		greedy(0, 0)
		return nil
	}
	return continued(ctx, &next, len(tokens), n, e.model.TokenIsEog, step)
}

// continued is up to n tokens from next on, which is the one at a position, until one ends the
// text. step computes next, at its position, and puts the one after it in its place.
func continued(ctx context.Context, next *int, at, n int, ends func(token int) bool,
	step func(at int) error,
) (answer []int, err error) {
	for len(answer) < n && !ends(*next) {
		answer = append(answer, *next)
		if len(answer) == n {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(at + len(answer) - 1); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// decode runs tokens on the rung for a sequence of length tokens, from an empty cache or behind
// those of its first tokens that the cache has, of which at least the last needed one is run again.
// scored is called for each token for which want holds, with its index in the batch and in tokens.
func (e *Engine) decode(
	ctx context.Context,
	tokens []int,
	length int,
	needed int,
	want func(i int) bool,
	scored func(out, i int),
) error {
	if err := checkFit(e.info, length); err != nil {
		return err
	}
	if e.inPrefix {
		if err := e.lc.SetLadder(e.own.values, e.own.lengths, e.own.windows); err != nil {
			return err
		}
		e.inPrefix = false
		e.kept.forget()
	}
	rung := e.lc.RungFor(length)
	from, err := e.reuse(tokens, rung, needed)
	if err != nil {
		return err
	}
	if err := e.run(ctx, tokens, from, want, scored); err != nil {
		e.kept.forget()
		return err
	}
	e.kept.remember(tokens, rung)
	return nil
}

// run is decode on what cache and rung there are: the first from tokens are in the cache.
func (e *Engine) run(
	ctx context.Context, tokens []int, from int, want func(i int) bool, scored func(out, i int),
) error {
	e.kept.computed += len(tokens) - from
	for start := from; start < len(tokens); start += e.size {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk := tokens[start:min(start+e.size, len(tokens))]
		e.batch.Clear()
		some := false
		for j, t := range chunk {
			wanted := want(start + j)
			some = some || wanted
			// not every graph can be computed without any output (chameleon's)
			e.batch.Add(t, nil, start+j, wanted || !some && j == len(chunk)-1, 0)
		}
		if err := e.lc.Decode(e.batch); err != nil {
			return err
		}
		for j := range chunk {
			if want(start + j) {
				scored(j, start+j)
			}
		}
	}
	return nil
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
