package arch

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/kvcache"
	"github.com/ollama/ollama/model"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/gosession"
	"github.com/longrope/longrope/tests/session"
)

// goFile is the model with what the Go engine wants in addition: a tokenizer.
func (c *candidate) goFile(m *Model, tokenizer string) string {
	out := &Model{KV: map[string]any{}, Tensors: m.Tensors}
	for k, v := range m.KV {
		out.KV[k] = v
	}
	if window, _ := out.KV[c.arch+".attention.sliding_window"].(uint32); window > 0 {
		// the Go engine's windows see one token more
		out.KV[c.arch+".attention.sliding_window"] = window - 1
	}
	set(out.KV, c.arch, c.hint.Go)
	out.Tensors = maps.Clone(m.Tensors)
	if c.hint.Alias != "" {
		out.Tensors[c.hint.Alias+".weight"] = m.Tensors[c.hint.Alias]
	}
	for name, shape := range c.hint.GoAdd {
		for _, name := range perLayer(name, out.KV[c.arch+".block_count"].(uint32)) {
			out.Tensors[name] = shape
			if shape == nil {
				delete(out.Tensors, name)
			}
		}
	}
	n := int(m.KV[c.arch+".vocab_size"].(uint32))
	tokens, kinds, scores := make([]string, n), make([]int32, n), make([]float32, n)
	for i := range n {
		tokens[i], kinds[i] = fmt.Sprintf("t%d", i), 1
	}
	if c.words != nil {
		copy(tokens, c.words)
	}
	out.KV["tokenizer.ggml.model"] = tokenizer
	out.KV["tokenizer.ggml.tokens"] = tokens
	out.KV["tokenizer.ggml.token_type"] = kinds
	out.KV["tokenizer.ggml.scores"] = scores
	out.KV["tokenizer.ggml.merges"] = []string{}
	path := filepath.Join(c.dir, "go.gguf")
	require.NoError(c, out.Save(path, true))
	return path
}

// goOpen opens a file of the model on the Go engine, and watches it. The error is the engine's, or
// what it panics with.
func (c *candidate) goOpen(path string) (s *gosession.Session, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return gosession.Open(path, session.Options{Context: 128, Batch: 128, Watch: true})
}

// goLayers are the layers of what the session computed since the last call. In the Go engine those
// with a base of their own are local, though a file can leave them without a window.
func (c *candidate) goLayers(s *gosession.Session) []Layer {
	layers := c.layers(s)
	for i, l := range layers {
		layers[i].Local = l.Local || len(l.Ropes) > 0 && l.Ropes[0].FreqBase != freqBase
	}
	return layers
}

// goCompute runs n tokens on the Go engine, then two by themselves where there is a cache, as
// compute does on the other one.
func (c *candidate) goCompute(path string, rung, n int) (r run, err error) {
	s, err := c.goOpen(path)
	if err != nil {
		return r, err
	}
	defer s.Close()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if rung >= 0 {
		s.SetRung(0, rung)
	}
	text := ids(n + 2)
	var batch []session.Token
	for i, id := range text {
		// the hints ask for an encoder's last
		batch = append(batch, session.Token{ID: id, Pos: i, Logits: !c.hint.Hidden || i == n-1})
	}
	parts := [][]session.Token{batch[:n], batch[n : n+1], batch[n+1:]}
	if c.hint.Hidden {
		parts = parts[:1]
	}
	for i, part := range parts {
		if err := s.Decode(part...); err != nil {
			return r, err
		}
		if i == 0 {
			r.layers = c.goLayers(s)
		}
		for i := range part {
			if part[i].Logits {
				r.out = append(r.out, s.Logits(i))
			}
		}
	}
	for _, l := range r.out {
		require.NotEmpty(c, l)
		for _, x := range l {
			require.False(c, math.IsNaN(float64(x)) || math.IsInf(float64(x), 0),
				"the model computes %v", x)
		}
	}
	return r, nil
}

// checkGo does for the Go engine what check does for the other one, with the same model: node by
// node. Where the engines agree without a ladder (base), they must with one (laddered); these are
// nil if the llama.cpp engine has none.
func (c *candidate) checkGo(
	m *Model,
	row0 ropescale.Rung,
	base, laddered [][]float32,
) (status string, notes []string) {
	var tokenizer string
	var plain run
	var err error
	for _, tokenizer = range []string{"gpt2", "llama", "bert"} {
		if plain, err = c.goCompute(c.goFile(m, tokenizer), -1, Long); !errors.Is(err,
			model.ErrUnsupportedTokenizer) {
			break
		}
	}
	if errors.Is(err, model.ErrUnsupportedModel) || errors.Is(err, model.ErrUnsupportedTokenizer) {
		return "–", nil
	}
	require.NoError(c, err, "Go engine")

	layers := c.kinds(plain)
	pairs := cmp.Or(layers.pairs, 8)
	if row0.Factors == nil {
		row0 = Plain(pairs)
	}
	file := c.goFile(m.WithLadder(c.arch, row0, Ladder(pairs)), tokenizer)
	long, err := c.goCompute(file, 2, Long)
	if layers.global == 0 {
		require.Error(c, err, "a ladder that nothing applies must be refused by the Go engine")
		if layers.local == 0 {
			require.Regexp(c, fmt.Sprintf(noRoPE, c.arch), err.Error())
			return "no RoPE", nil
		}
		require.Regexp(c, fmt.Sprintf(localRoPE, c.arch), err.Error())
		return "refused", []string{"the Go engine has RoPE in local layers alone"}
	}
	require.NoError(c, err, "Go engine")
	c.compareNodes(plain, long, row0)
	for _, l := range plain.layers {
		for _, n := range l.Ropes {
			if d := Deviation(n, func(int) ropescale.Rung { return row0 }); !l.Local && d > bound {
				c.Logf(
					"row 0 is not what RoPE %s of the Go engine does without a ladder: off by %.1e",
					n.Name, d)
				notes = append(notes, "the Go engine alone does not scale as the file says")
			}
		}
	}
	short, err := c.goCompute(file, 0, Short)
	require.NoError(c, err)
	want, err := c.goCompute(c.goFile(m, tokenizer), -1, Short)
	require.NoError(c, err)
	diff, size := difference(short.out, want.out)
	switch {
	case slices.Equal(row0.Factors, Plain(pairs).Factors):
		assert.Zero(c, diff, "Go engine, at a length that the model was trained for, of %g", size)
	case notes == nil: // the same angles, rounded in another way
		assert.Less(c, diff, 1e-4*size, "Go engine, at a length that the model was trained for")
	}
	last := len(plain.out) - 1
	diff, size = difference(long.out[last:], plain.out[last:])
	assert.Greater(c, diff, 1e-3*size, "the ladder changes nothing in the Go engine")

	if c.hint.Hidden && base != nil {
		base, laddered = base[len(base)-1:], laddered[len(laddered)-1:]
	}
	if off, size := relative(plain.out, base); off < 1e-3 && laddered != nil {
		with, _ := relative(long.out, laddered)
		c.Logf("Go engine against llama.cpp's: %.1e without a ladder, %.1e with one, of %g", off,
			with, size)
		assert.Less(c, with, max(20*off, 1e-4), "the engines differ with a ladder")
	}
	withLadder := c.goFile(m.WithLadder(c.arch, row0, Ladder(pairs)), tokenizer)
	if note := c.goShift(withLadder, plain, row0); note != "" {
		notes = append(notes, note)
	}
	return "rows", append(layers.what, notes...)
}

// goShift holds all cached keys after a context shift in the Go engine against the oracle.
func (c *candidate) goShift(path string, base run, row0 ropescale.Rung) (note string) {
	s, err := c.goOpen(path)
	require.NoError(c, err)
	defer s.Close()
	if s.Cache() == nil {
		return noShift
	}
	s.SetRung(0, 2)
	_, err = s.Prefill(ids(Long), 0, 0, Long)
	require.NoError(c, err)
	before := c.goLayers(s)
	stored := func() (keys []map[int][]float32) {
		for layer := range 64 {
			if k, err := s.Keys(0, layer); err == nil {
				keys = append(keys, k)
			}
		}
		return keys
	}
	had := stored()
	require.Len(c, had, len(before), "layers whose keys are cached")
	if err := s.Shift(0, keep, discard); err != nil {
		require.ErrorIs(c, err, kvcache.ErrNotSupported)
		return noShift
	}
	worst := 0.0
	for i, now := range stored() {
		l := before[i]
		n, off, ok := l.cached()
		if !ok && len(l.Ropes) > 0 {
			return "the Go engine changes keys after RoPE, where no context shift is exact"
		}
		row := func(int) ropescale.Rung { return row0 }
		if len(l.Ropes) > 0 {
			if row, err = c.row(l, base.layers[i].Ropes[0], row0); err != nil {
				continue // a local layer that scales in a way of its own
			}
		}
		moved := 0
		for p, key := range now {
			was := p
			if p >= keep {
				was += discard
			}
			want := make([]float64, len(key))
			for j, x := range had[i][was] {
				want[j] = float64(x)
			}
			for h := range len(want) / l.KeyDim {
				if ok && was != p {
					at := (was*n.Heads + h%n.Heads) * n.HeadDim
					copy(want[h*l.KeyDim+off:], rotate(n, n.In[at:at+n.HeadDim], textAt(p), row(p)))
					moved++
				}
			}
			for j, x := range key {
				worst = max(worst, math.Abs(float64(x)-want[j])/(1+math.Abs(want[j])))
			}
		}
		require.True(c, !ok || moved > 0, "no key of attention %d moved", i)
	}
	c.Logf("Go engine: keys after a context shift are off by %.1e of %g", worst, bound)
	assert.Less(c, worst, bound, "Go engine: keys after a context shift")
	return ""
}

// relative is the largest difference to the largest number.
func relative(a, b [][]float32) (float64, float64) {
	if len(a) != len(b) || len(a[0]) != len(b[0]) {
		return math.Inf(1), 0
	}
	diff, size := difference(a, b)
	return diff / size, size
}

// checkGoOnly makes the model of an architecture that only the Go engine has from one that it is
// like, and holds its results against those of the llama.cpp engine for that.
func (c *candidate) checkGoOnly() (status, note string) {
	if c.hint.Like == "" {
		return "not tested", ""
	}
	name := c.arch
	c.arch = c.hint.Like
	kv, tensors := c.hint.Start(c.arch)
	m, err := discover(kv, tensors, c.dir, c.tryOpen)
	require.NoError(c, err)
	c.plain = filepath.Join(c.dir, "plain.gguf")
	require.NoError(c, m.Save(c.plain, true))
	watch := c.options()
	watch.Watch = true
	base := c.compute(c.plain, watch, -1, Long)
	got := c.nodes(base, watch, base.layers[len(base.layers)-1].Ropes[0].Dims/2)

	m = renamed(m, c.arch, name)
	c.arch = name
	status, notes := c.checkGo(m, c.row0, base.out, got.out)
	return status, join(notes)
}

// renamed is the model as one of another architecture.
func renamed(m *Model, from, to string) *Model {
	out := &Model{KV: map[string]any{}, Tensors: maps.Clone(m.Tensors)}
	for k, v := range m.KV {
		out.KV[strings.Replace(k, from+".", to+".", 1)] = v
	}
	out.KV["general.architecture"] = to
	return out
}
