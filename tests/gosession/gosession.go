// Package gosession runs a model on the host's Go engine, inside of this process, with the verbs
// that package session has for the llama.cpp engine.
//
// All but ladder.go is on what the unpatched host has too; built with the tag stock, the package
// needs no patch.
package gosession

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"unsafe"

	"github.com/ollama/ollama/kvcache"
	"github.com/ollama/ollama/ml"
	"github.com/ollama/ollama/model"
	"github.com/ollama/ollama/model/input"
	_ "github.com/ollama/ollama/model/models"

	"github.com/longrope/longrope/tests/session"
)

// Token is one entry of a batch.
type Token = session.Token

// Session is a loaded model with a cache. Close it. It is not safe for concurrent use.
type Session struct {
	model  model.Model
	cache  kvcache.Cache // nil if the model has none
	o      session.Options
	logits map[int][]float32
	watch  *session.Watch // nil without Options.Watch

	ladders // of the patched host
}

// Open loads a GGUF onto the CPU. Options.Keys is the type of cached keys and values.
func Open(path string, o session.Options) (*Session, error) {
	o.Context, o.Batch, o.Sequences, o.Threads = or(o.Context, 512), or(o.Batch, 512), or(
		o.Sequences, 1), or(
		o.Threads,
		1,
	)
	types := map[string]ml.DType{
		"":     ml.DTypeF32,
		"f32":  ml.DTypeF32,
		"f16":  ml.DTypeF16,
		"q8_0": ml.DTypeQ80,
	}
	keys, ok := types[o.Keys]
	if !ok {
		return nil, fmt.Errorf("gosession: unknown type of keys %q", o.Keys)
	}
	flash := ml.FlashAttentionDisabled
	if o.Flash {
		flash = ml.FlashAttentionEnabled
	}
	m, err := model.New(path,
		ml.BackendParams{AllocMemory: true, NumThreads: o.Threads, FlashAttention: flash})
	if err != nil {
		return nil, fmt.Errorf("gosession: %w", err)
	}
	s := &Session{model: m, cache: m.Config().Cache, o: o, ladders: newLadders(m, o)}
	if err := m.Backend().Load(context.Background(), nil); err != nil {
		s.Close()
		return nil, fmt.Errorf("gosession: %w", err)
	}
	if o.Watch {
		s.watch = session.NewWatch(field[unsafe.Pointer](reflect.ValueOf(m.Backend()), "sched"))
	}
	if s.cache != nil {
		s.cache.Init(m.Backend(), keys, o.Sequences, o.Context, o.Batch)
	}
	return s, nil
}

func or(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}

// Close frees the model and its cache.
func (s *Session) Close() {
	if s.cache != nil {
		s.cache.Close()
	}
	s.model.Backend().Close()
	if s.watch != nil {
		s.watch.Close()
	}
}

// Watched gives what was computed since the last call. The session must have been opened with
// Options.Watch.
func (s *Session) Watched() []session.Node { return s.watch.Nodes() }

// Model is the loaded model, whose Backend has the metadata and the tensors.
func (s *Session) Model() model.Model { return s.model }

// Cache is the model's cache, nil if it has none.
func (s *Session) Cache() kvcache.Cache { return s.cache }

// Vocab is the number of tokens that the model knows.
func (s *Session) Vocab() int {
	return len(s.model.Backend().Config().Strings("tokenizer.ggml.tokens"))
}

// Decode computes a batch.
func (s *Session) Decode(tokens ...Token) error {
	ctx := s.model.Backend().NewContext()
	defer ctx.Close()
	var ids, outputs []int32
	var b input.Batch
	for i, t := range tokens {
		ids = append(ids, int32(t.ID))
		b.Positions = append(b.Positions, int32(t.Pos))
		b.Sequences = append(b.Sequences, t.Seq)
		if t.Logits {
			outputs = append(outputs, int32(i))
		}
	}
	return s.compute(ctx, b, ids, outputs)
}

// compute runs a batch of tokens, outputs are those whose logits are wanted.
func (s *Session) compute(ctx ml.Context, b input.Batch, ids, outputs []int32) error {
	b.Inputs = ctx.Input().FromInts(ids, len(ids))
	b.Outputs = ctx.Input().FromInts(outputs, len(outputs))
	s.setRungs(&b)
	ctx.SetBatchSize(len(ids))
	out, err := model.Forward(ctx, s.model, b)
	if err != nil {
		return fmt.Errorf("gosession: %w", err)
	}
	ctx.Compute(out)
	all := out.Floats()
	s.logits = map[int][]float32{}
	for i, at := range outputs {
		n := len(all) / len(outputs)
		s.logits[int(at)] = all[i*n : (i+1)*n]
	}
	return nil
}

// Logits of the ith entry of the last batch; nil if they were not asked for.
func (s *Session) Logits(i int) []float32 { return s.logits[i] }

// Prefill decodes tokens from position pos on in pieces of at most chunk, and returns all their
// logits.
func (s *Session) Prefill(tokens []int, seq, pos, chunk int) ([][]float32, error) {
	return session.Prefill(s, tokens, seq, pos, chunk)
}

// Clear empties the cache of every sequence.
func (s *Session) Clear() {
	for seq := range s.o.Sequences {
		if s.cache != nil {
			_ = s.cache.Remove(seq, 0, math.MaxInt32) // which does not fail
		}
	}
}

// Remove drops a sequence's positions from p0 to its end.
func (s *Session) Remove(seq, p0 int) error { return s.cache.Remove(seq, int32(p0), math.MaxInt32) }

// Shift is a context shift as the host's runner does it: positions keep to keep+discard of the
// sequence are removed and the later ones move down by discard.
func (s *Session) Shift(seq, keep, discard int) error {
	return s.cache.Remove(seq, int32(keep), int32(keep+discard))
}
