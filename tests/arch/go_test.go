package arch

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/model"

	"github.com/longrope/longrope/tests/gosession"
	"github.com/longrope/longrope/tests/session"
)

// goFile is the model with what the Go engine wants beside it: a tokenizer.
func (c *candidate) goFile(m *Model, tokenizer string) string {
	out := &Model{KV: map[string]any{}, Tensors: m.Tensors}
	for k, v := range m.KV {
		out.KV[k] = v
	}
	if window, _ := out.KV[c.arch+".attention.sliding_window"].(uint32); window > 0 {
		out.KV[c.arch+".attention.sliding_window"] = window - 1 // the Go engine's windows see one token more
	}
	set(out.KV, c.arch, c.hint.Go)
	if c.hint.Alias != "" {
		out.Tensors = maps.Clone(m.Tensors)
		out.Tensors[c.hint.Alias+".weight"] = m.Tensors[c.hint.Alias]
	}
	n := int(m.KV[c.arch+".vocab_size"].(uint32))
	tokens, kinds, scores := make([]string, n), make([]int32, n), make([]float32, n)
	for i := range n {
		tokens[i], kinds[i] = fmt.Sprintf("t%d", i), 1
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

// goCompute runs n tokens on the Go engine. The error is the engine's, or what it panics with.
func (c *candidate) goCompute(path string, rung, n int) (out [][]float32, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	s, err := gosession.Open(path, session.Options{Context: 128, Batch: 128})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if rung >= 0 {
		s.SetRung(0, rung)
	}
	text := ids(n + 2)
	if c.hint.Hidden { // the hints ask for the last token's
		var batch []session.Token
		for i, id := range text[:n] {
			batch = append(batch, session.Token{ID: id, Pos: i, Logits: i == n-1})
		}
		err = s.Decode(batch...)
		return [][]float32{s.Logits(n - 1)}, err
	}
	var batch []session.Token
	for i, id := range text {
		batch = append(batch, session.Token{ID: id, Pos: i * max(1, c.stride), Logits: true})
	}
	for _, part := range [][]session.Token{batch[:n], batch[n : n+1], batch[n+1:]} {
		if err := s.Decode(part...); err != nil {
			return nil, err
		}
		for i := range part {
			out = append(out, s.Logits(i))
		}
	}
	return out, nil
}

// checkGo does the same for the Go engine, with the same model: its results are held against those of the llama.cpp
// engine, base without a ladder and laddered with one; these are nil if it has none.
func (c *candidate) checkGo(m *Model, base, laddered [][]float32, pairs int, local bool) (status, note string) {
	tokenizer, path := "", ""
	var plain [][]float32
	var err error
	for _, tokenizer = range []string{"gpt2", "llama", "bert"} {
		path = c.goFile(m, tokenizer)
		if plain, err = c.goCompute(path, -1, Long); !errors.Is(err, model.ErrUnsupportedTokenizer) {
			break
		}
	}
	if errors.Is(err, model.ErrUnsupportedModel) || errors.Is(err, model.ErrUnsupportedTokenizer) {
		return "–", ""
	}
	if err != nil {
		c.Logf("Go engine: %v", err)
		return "not tested", "the Go engine wants a file of another form"
	}

	rungs := Ladder(pairs)
	long, err := c.goCompute(c.goFile(m.WithLadder(c.arch, rungs), tokenizer), 2, Long)
	if laddered == nil {
		require.Error(c, err, "a ladder that nothing applies must be refused by the Go engine")
		require.Regexp(c, fmt.Sprintf(noRoPE+"|"+localRoPE, c.arch, c.arch), err.Error())
		return "refused", ""
	}
	if err != nil && regexp.MustCompile(fmt.Sprintf(localRoPE, c.arch)).MatchString(err.Error()) {
		return "refused", "the Go engine has RoPE in local layers alone"
	}
	require.NoError(c, err, "Go engine")
	short, err := c.goCompute(c.goFile(m.WithLadder(c.arch, rungs), tokenizer), 0, Short)
	require.NoError(c, err)
	want, err := c.goCompute(c.goFile(m, tokenizer), -1, Short)
	require.NoError(c, err)
	diff, size := difference(short, want)
	assert.Zero(c, diff, "Go engine, at a length that the model was trained for, of %g", size)
	if c.hint.Hidden {
		base, laddered = base[len(base)-1:], laddered[len(laddered)-1:]
	}
	last := len(plain) - 1
	diff, size = difference(long[last:], plain[last:])
	assert.Greater(c, diff, 1e-3*size, "the ladder changes nothing in the Go engine")

	off, size := relative(plain, base)
	if off > 1e-3 {
		if local {
			return "not checked", "the engines differ without a ladder too"
		}
		// where lambda is 4 everywhere, position 4p is what p is without a ladder
		c.stride = 4
		got, err := c.goCompute(c.goFile(m.WithLadder(c.arch, Uniform(pairs, 4)), tokenizer), 1, Short)
		c.stride = 1
		require.NoError(c, err)
		diff, size := difference(got, want)
		assert.Less(c, diff, 1e-4*size, "Go engine: positions times 4 over lambda of 4")
		c.Logf("Go engine: positions times 4 over lambda of 4: off by %.1e of %g", diff, size)
		return "rows", "the engines differ without a ladder too: the Go engine is held against itself"
	}
	with, _ := relative(long, laddered)
	c.Logf("Go engine against llama.cpp's: %.1e without a ladder, %.1e with one, of %g", off, with, size)
	assert.Less(c, with, max(20*off, 1e-4), "the engines differ with a ladder")
	return "rows", ""
}

// relative is the largest difference to the largest number.
func relative(a, b [][]float32) (float64, float64) {
	if len(a) != len(b) || len(a[0]) != len(b[0]) {
		return math.Inf(1), 0
	}
	diff, size := difference(a, b)
	return diff / size, size
}

// checkGoOnly makes the model of an architecture that only the Go engine has from one that it is like, and holds its results
// against those of the llama.cpp engine for that.
func (c *candidate) checkGoOnly() (status, note string) {
	if c.hint.Like == "" {
		return "not tested", ""
	}
	name := c.arch
	c.arch = c.hint.Like
	kv, tensors := c.hint.Start(c.arch)
	m, err := Discover(kv, tensors, c.dir, c.tryOpen)
	require.NoError(c, err)
	c.plain = filepath.Join(c.dir, "plain.gguf")
	require.NoError(c, m.Save(c.plain, true))
	watch := c.options()
	watch.Watch = true
	base := c.compute(c.plain, watch, -1, Long)
	pairs := base.layers[len(base.layers)-1].Ropes[0].Dims / 2
	got := c.nodes(base, watch, pairs)

	renamed := &Model{KV: map[string]any{}, Tensors: m.Tensors}
	for k, v := range m.KV {
		renamed.KV[strings.Replace(k, c.arch+".", name+".", 1)] = v
	}
	renamed.KV["general.architecture"] = name
	c.arch = name
	return c.checkGo(renamed, base.out, got.out, pairs, c.arch == "olmo3" || c.arch == "gptoss")
}
