package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ollama/ollama/api"

	"github.com/longrope/longrope/convert"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/plugin/engine"
	"github.com/longrope/longrope/plugin/server"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/checkpoints"
	"github.com/longrope/longrope/tests/strict"
)

// A ladder that is a layer does what one in the file does, bit for bit, on both engines, and
// wherever the model goes.
func TestLayer(t *testing.T) {
	for name, env := range map[string]string{
		"llama.cpp": "OLLAMA_NEW_ENGINE=0", "Go engine": newEngine,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, env)
			_, err := h.Run(t.Context(), nil, "longrope", "convert", "default", "--factors",
				h.path("factors.json"), "--name", "baked", "--bake")
			require.NoError(t, err)
			t.Run("bits", h.testLayerBits)
			t.Run("travels", h.testLayerTravels)
			t.Run("create", h.testLayerCreate)
			t.Run("two of one model", h.testLayerTwo)
			if !h.goEngine() {
				t.Run("fits", h.testFits)
				t.Run("show", h.testLayerShow)
				t.Run("folder", h.testLayerFolder)
				t.Run("quantized", h.testLayerQuantized)
				t.Run("bad", h.testLayerBad)
				t.Run("stock", h.testLayerStock)
			}
		})
	}
}

// logprobs are those of the 20 best tokens at each of n places after a prompt, and the text.
func logprobs(t *testing.T, s *server.Server, model, prompt string, n int,
	options map[string]any,
) (text string, p []float64) {
	t.Helper()
	o := map[string]any{"num_predict": n, "temperature": 0, "seed": 1}
	for k, v := range options {
		o[k] = v
	}
	require.NoError(t, s.Client().Generate(t.Context(), &api.GenerateRequest{
		Model: model, Prompt: prompt, Options: o, Logprobs: true, TopLogprobs: 20,
	}, func(r api.GenerateResponse) error {
		text += r.Response
		for _, token := range r.Logprobs {
			for _, top := range token.TopLogprobs {
				p = append(p, top.Logprob)
			}
		}
		return nil
	}))
	require.NotEmpty(t, p)
	return text, p
}

// layerLengths are lengths of prompts on each rung: the own RoPE, the first and the second.
var layerLengths = []int{serverL / 2, serverL + 50, 2*serverL + 50}

// sameBits wants a model of b to answer as the baked one of a, to the last bit of probabilities.
func (h *host) sameBits(t *testing.T, a, b *server.Server, is string) {
	t.Helper()
	for i, length := range layerLengths[1:] {
		prompt := h.prompt(t, 700*i, length)
		wantText, want := logprobs(t, a, "baked", prompt, 4, nil)
		text, got := logprobs(t, b, is, prompt, 4, nil)
		require.Equal(t, wantText, text, "%s, %d tokens", is, length)
		require.Equal(t, want, got, "%s, %d tokens", is, length)
	}
}

func (h *host) testLayerBits(t *testing.T) {
	h.sameBits(t, h.Server, h.Server, "default-2k")
	short := h.prompt(t, 0, layerLengths[0])
	_, want := logprobs(t, h.Server, "baked", short, 4, nil)
	_, got := logprobs(t, h.Server, "default-2k", short, 4, nil)
	require.Equal(t, want, got, "on the own RoPE")
	// the comparison would notice another rung, and none
	prompt := h.prompt(t, 0, serverL+50)
	_, baked := logprobs(t, h.Server, "baked", prompt, 2, nil)
	_, own := logprobs(t, h.Server, "default", prompt, 2, nil)
	assert.NotEqual(t, baked, own)

	// Crossing rungs by growth, and by keys that are rotated.
	for _, policy := range []string{"recompute", "rerotate"} {
		o := map[string]any{"longrope_crossing": policy}
		for _, model := range []string{"baked", "default-2k"} {
			h.forget(t, model)
		}
		start := h.prompt(t, 900, serverL-8)
		wantText, want := logprobs(t, h.Server, "baked", start, 40, o)
		text, got := logprobs(t, h.Server, "default-2k", start, 40, o)
		require.Equal(t, wantText, text, policy)
		require.Equal(t, want, got, policy)
	}
	if h.goEngine() {
		return
	}
	// In this process, the same numbers without a server.
	s, err := convert.OpenStore(h.store)
	require.NoError(t, err)
	nll := func(name string) []float64 {
		src, err := s.Find(name)
		require.NoError(t, err)
		e, err := engine.Open(src.Path, engine.Options{Ladder: src.Ladder})
		require.NoError(t, err)
		defer e.Close()
		assert.Equal(t, serverTarget, e.Info().MaxLength)
		x, err := e.NLL(t.Context(), h.text[:3*serverL], 1)
		require.NoError(t, err)
		return x
	}
	assert.Equal(t, nll("baked"), nll("default-2k"))
}

// After cp, create FROM, push, rm of all else, and pull.
func (h *host) testLayerTravels(t *testing.T) {
	run := func(s *server.Server, args ...string) {
		t.Helper()
		_, err := s.Run(t.Context(), nil, args...)
		require.NoError(t, err)
	}
	r := newRegistry(t)
	name, scheme := r.name("far")
	run(h.Server, "cp", "default-2k", "copied")
	run(h.Server, "cp", "default-2k", name)
	run(h.Server, "create", "from", "-f", h.modelfile(t, "FROM default-2k\nSYSTEM be kind\n"))
	run(h.Server, "push", scheme+name, "--insecure")
	h.sameBits(t, h.Server, h.Server, "copied")

	// what the first model leaves when it is removed is what others use
	run(h.Server, "cp", "default-2k", "doomed")
	run(h.Server, "rm", "doomed")
	h.sameBits(t, h.Server, h.Server, "from")

	away := startServer(t, h.binary, t.TempDir(), h.env...)
	run(away, "pull", scheme+name, "--insecure")
	h.sameBits(t, h.Server, away, name)
	shown, err := away.Client().Show(t.Context(), &api.ShowRequest{Model: name})
	require.NoError(t, err)
	require.NotNil(t, shown.Ladder)
	assert.Len(t, shown.Ladder.Rungs, 2)
	blobs, err := os.ReadDir(filepath.Join(h.store, "blobs"))
	require.NoError(t, err)
	size := int64(0)
	for _, b := range blobs {
		fi, err := b.Info()
		require.NoError(t, err)
		if fi.Size() > 1<<20 {
			size++
		}
	}
	assert.EqualValues(t, 2, size, "the weights, and those of the baked model")

	// A model that is removed while it runs.
	run(away, "cp", name, "gone")
	prompt := h.prompt(t, 0, serverL+50)
	want, _ := logprobs(t, away, "gone", prompt, 8, nil)
	_, err = ask(t.Context(), away, "gone", prompt, 1)
	require.NoError(t, err)
	got := make(chan string)
	go func() {
		a, err := ask(t.Context(), away, "gone", prompt, 64)
		if err != nil {
			a.text = err.Error()
		}
		got <- a.text
	}()
	time.Sleep(50 * time.Millisecond)
	run(away, "rm", "gone")
	assert.True(t, strings.HasPrefix(<-got, want))
}

// A Modelfile names factors; a file that carries some keeps them.
func (h *host) testLayerCreate(t *testing.T) {
	create := func(name, modelfile string) error {
		_, err := h.Run(t.Context(), nil, "create", name, "-f", h.modelfile(t, modelfile))
		return err
	}
	rest := fmt.Sprintf("TEMPLATE %q\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n",
		defaultmodel.Template)
	require.NoError(t, create("named", "FROM ./default.gguf\nLADDER ./factors.json\n"+rest))
	h.sameBits(t, h.Server, h.Server, "named")
	shown, err := h.Run(t.Context(), nil, "show", "named", "--modelfile")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^LADDER /.*/blobs/sha256-`, shown)
	require.NoError(t, create("twice", shown))
	h.sameBits(t, h.Server, h.Server, "twice")

	// another ladder in place of the one that FROM has
	one := *h.ladder
	one.Rungs = one.Rungs[1:]
	writeLadder(t, h.path("one.json"), &one)
	require.NoError(t, create("other", "FROM default-2k\nLADDER one.json\n"))
	r, err := h.Client().Show(t.Context(), &api.ShowRequest{Model: "other"})
	require.NoError(t, err)
	require.Len(t, r.Ladder.Rungs, 1)

	_, err = h.Run(t.Context(), nil, "longrope", "convert", h.path("default.gguf"), "--factors",
		h.path("factors.json"), "-o", h.path("carries.gguf"))
	require.NoError(t, err)
	require.NoError(t, create("carries", "FROM ./carries.gguf\n"+rest))
	h.sameBits(t, h.Server, h.Server, "carries")

	require.NoError(t, os.WriteFile(h.path("bad.json"), []byte("[1,"), 0o644))
	require.ErrorContains(t, create("bad", "FROM default\nLADDER bad.json\n"), "is not JSON")
	require.NoError(t, os.WriteFile(h.path("bad.json"), []byte(`{"version":1}`), 0o644))
	require.ErrorContains(t, create("bad", "FROM default\nLADDER bad.json\n"), "LADDER: ")
	require.ErrorContains(t, create("bad", "FROM default\nLADDER none.json\n"), "none.json")
	wide := *h.ladder
	wide.RopeDimensionCount, wide.Rungs = 4, []ropescale.Rung{{
		Length: 512, AttentionFactor: 1, Factors: []float64{1, 2},
	}}
	writeLadder(t, h.path("bad.json"), &wide)
	require.ErrorContains(t, create("bad", "FROM default\nLADDER bad.json\n"),
		"the model rotates 64 dimensions")
}

func writeLadder(t *testing.T, path string, l *ropescale.Ladder) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, l.WriteFactors(f))
	require.NoError(t, f.Close())
}

// Two models with the same weights and other ladders are two models to the server.
func (h *host) testLayerTwo(t *testing.T) {
	prompt := h.prompt(t, 0, serverL+50)
	one := *h.ladder
	one.Rungs = one.Rungs[1:]
	writeLadder(t, h.path("one.json"), &one)
	_, err := h.Run(t.Context(), nil, "longrope", "convert", "default", "--factors",
		h.path("one.json"), "--name", "one")
	require.NoError(t, err)
	running := func(name string) []int {
		ps, err := h.Client().ListRunning(t.Context())
		require.NoError(t, err)
		for _, m := range ps.Models {
			if m.Name == name && m.Ladder != nil {
				return m.Ladder.Lengths
			}
		}
		return nil
	}
	_, first := logprobs(t, h.Server, "default-2k", prompt, 2, nil)
	assert.Equal(t, []int{serverL, 2 * serverL, serverTarget}, running("default-2k:latest"))
	_, other := logprobs(t, h.Server, "one", prompt, 2, nil)
	assert.Equal(t, []int{serverL, serverTarget}, running("one:latest"))
	assert.NotEqual(t, first, other)
	_, own := logprobs(t, h.Server, "default", prompt, 2, nil)
	_, again := logprobs(t, h.Server, "default-2k", prompt, 2, nil)
	// Tokens that a slot has are not computed again, so batches differ, and their rounding.
	assert.InDeltaSlice(t, first, again, 0.02)
	assert.NotEqual(t, first, own)

	// The layer wins over what the file carries.
	_, err = h.Run(t.Context(), nil, "longrope", "convert", "baked", "--factors",
		h.path("one.json"), "--name", "over")
	require.NoError(t, err)
	_, over := logprobs(t, h.Server, "over", prompt, 2, nil)
	assert.Equal(t, []int{serverL, serverTarget}, running("over:latest"))
	assert.Equal(t, other, over)
}

func (h *host) testLayerShow(t *testing.T) {
	out, err := h.Run(t.Context(), nil, "longrope", "show", "default-2k")
	require.NoError(t, err)
	assert.Contains(t, out, "rung 2")
	assert.Contains(t, out, "2,048")
	out, err = h.Run(t.Context(), nil, "show", "default-2k")
	require.NoError(t, err)
	assert.Contains(t, out, "up to 2048 tokens, start window 16")
	out, err = h.Run(t.Context(), nil, "longrope", "convert", "default-2k", "--strip", "--name",
		"stripped")
	require.NoError(t, err, out)
	r, err := h.Client().Show(t.Context(), &api.ShowRequest{Model: "stripped"})
	require.NoError(t, err)
	assert.Nil(t, r.Ladder)
	_, err = h.Run(t.Context(), nil, "longrope", "convert", "default-2k", "--strip", "-o",
		h.path("stripped.gguf"))
	require.NoError(t, err)
	b, err := os.ReadFile(h.path("stripped.gguf"))
	require.NoError(t, err)
	assert.Equal(t, defaultmodel.Model, b)
	// the ladder of the layer goes into a file
	_, err = h.Run(t.Context(), nil, "longrope", "convert", "default-2k", "-o",
		h.path("written.gguf"))
	require.NoError(t, err)
	info, err := convert.Inspect(h.path("written.gguf"))
	require.NoError(t, err)
	require.NotNil(t, info.Ladder)
	assert.Len(t, info.Ladder.Rungs, 2)
}

// A folder that carries factors keeps them, and one that was published with some gets them.
func (h *host) testLayerFolder(t *testing.T) {
	for _, f := range checkpoints.Families {
		if f.Name != checkpoints.Families[0].Name && f.Long == nil || f.Refused != "" {
			continue
		}
		in, out := h.path(f.Name), h.path(f.Name+"-long")
		require.NoError(t, f.Write(in))
		r := f.Rope()
		l := someLadder(t, r, someRung(r, 2*f.L, 4, 1.05))
		if f.Long != nil { // as it was published
			out = in
		} else {
			writeLadder(t, h.path("folder.json"), l)
			_, err := h.Run(t.Context(), nil, "longrope", "convert", in, "--factors",
				h.path("folder.json"), "-o", out)
			require.NoError(t, err)
		}
		name := "folder-" + strings.ToLower(strings.ReplaceAll(f.Name, ".", "-"))
		said, err := h.Run(t.Context(), nil, "create", name, "-f",
			h.modelfile(t, fmt.Sprintf("FROM %q\n", out)))
		if f.Name == "Phi-4-mini" { // of whose heads the host's converter rotates too much
			require.ErrorContains(t, err, "the RoPE factors of the folder would be lost")
			require.ErrorContains(t, err, "use ollama longrope convert")
			continue
		}
		require.NoError(t, err, said)
		shown, err := h.Client().Show(t.Context(), &api.ShowRequest{Model: name})
		require.NoError(t, err)
		require.NotNil(t, shown.Ladder, f.Name)
		file := h.path(name + ".gguf")
		_, err = convert.Convert(t.Context(), out, file, nil, convert.Options{})
		require.NoError(t, err)
		want, err := convert.Inspect(file)
		require.NoError(t, err)
		s, err := convert.OpenStore(h.store)
		require.NoError(t, err)
		src, err := s.Find(name)
		require.NoError(t, err)
		require.NotNil(t, src.Ladder)
		rows, windows := src.Ladder.Rows()
		wantRows, wantWindows := want.Ladder.Rows()
		assert.Equal(t, wantRows, rows, f.Name)
		assert.Equal(t, wantWindows, windows, f.Name)
	}
}

// A model that is quantized by create keeps its ladder, in the file and as a layer.
func (h *host) testLayerQuantized(t *testing.T) {
	_, err := h.Run(t.Context(), nil, "longrope", "convert", h.path("default.gguf"), "--factors",
		h.path("factors.json"), "-o", h.path("whole.gguf"))
	require.NoError(t, err)
	rest := fmt.Sprintf("TEMPLATE %q\nPARAMETER temperature 0\n", defaultmodel.Template)
	for name, text := range map[string]string{
		"q-layer": "FROM ./default.gguf\nLADDER factors.json\n", "q-baked": "FROM ./whole.gguf\n",
	} {
		_, err = h.Run(t.Context(), nil, "create", name, "--quantize", "q8_0", "-f",
			h.modelfile(t, text+rest))
		require.NoError(t, err)
	}
	prompt := h.prompt(t, 0, serverL+50)
	wantText, want := logprobs(t, h.Server, "q-baked", prompt, 4, nil)
	text, got := logprobs(t, h.Server, "q-layer", prompt, 4, nil)
	assert.Equal(t, wantText, text)
	assert.Equal(t, want, got)
}

// Layers that are not what they should be: show and run say so, and rm removes the model.
func (h *host) testLayerBad(t *testing.T) {
	manifest := filepath.Join(h.store, "manifests/registry.ollama.ai/library")
	b, err := os.ReadFile(filepath.Join(manifest, "default-2k/latest"))
	require.NoError(t, err)
	const media = "application/vnd.longrope.ladder.v1+json"
	at := strings.Index(string(b), `{"mediaType":"`+media)
	require.Positive(t, at)
	end := at + strings.Index(string(b)[at:], "}") + 1
	layer := string(b)[at:end]
	src, err := (&convert.Store{Dir: h.store}).Find("default-2k")
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(h.store, "blobs",
		strings.ReplaceAll(src.LadderDigest(), ":", "-")))
	require.NoError(t, err)
	put := func(content string) string {
		sum := sha256.Sum256([]byte(content))
		digest := hex.EncodeToString(sum[:])
		require.NoError(t, os.WriteFile(filepath.Join(h.store, "blobs", "sha256-"+digest),
			[]byte(content), 0o644))
		return fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%s","size":%d}`, media, digest,
			len(content))
	}
	change := func(old, with string) string {
		changed := strings.Replace(string(text), old, with, 1)
		require.NotEqual(t, string(text), changed)
		return put(changed)
	}
	for want, other := range map[string]string{
		"v2+json, this build reads":     strings.Replace(layer, "v1+json", "v2+json", 1),
		"two of them":                   layer + "," + layer,
		"version is 7, this build":      change(`"version": 1`, `"version": 7`),
		"it is for 2 rotary dimensions": put(`{"version":1,"original_context_length":256,"rope_dimension_count":2,"base":{"length":256,"attention_factor":1,"factors":[1]},"rungs":[{"length":512,"attention_factor":1,"factors":[2]}]}`),
		"invalid character 'N'":         change(`"attention_factor": 1.0499999`, `"attention_factor": NaN, "x": 1.0499999`),
		"attention_factor is 0":         change(`"attention_factor": 1.0499999`, `"attention_factor": 0, "x": 1.0499999`),
		"unexpected end of JSON":        put(string(text[:len(text)/2])),
		"its blob is missing (sha256-00": strings.ReplaceAll(layer, src.LadderDigest(),
			"sha256:"+strings.Repeat("0", 64)),
	} {
		name := "bad"
		require.NoError(t, os.MkdirAll(filepath.Join(manifest, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(manifest, name, "latest"),
			[]byte(string(b)[:at]+other+string(b)[end:]), 0o644))
		_, err := ask(t.Context(), h.Server, name, "In the beginning", 1)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "longrope: ladder: ")
		_, err = h.Run(t.Context(), nil, "show", name)
		require.ErrorContains(t, err, want)
		_, err = h.Run(t.Context(), nil, "rm", name)
		require.NoError(t, err)
	}
	_, err = os.Stat(filepath.Join(h.store, "blobs", strings.ReplaceAll(src.Digest, ":", "-")))
	require.NoError(t, err, "rm leaves what another model uses")
}

// The unpatched host runs a model that has the layer as the original.
func (h *host) testLayerStock(t *testing.T) {
	stock, err := filepath.Abs("../build/stock/bin/ollama")
	require.NoError(t, err)
	if _, err := os.Stat(stock); err != nil {
		strict.Skipf(t, "no unpatched host (%v): run make stock first", err)
	}
	s := startServer(t, stock, h.store, h.env...)
	prompt := h.prompt(t, 0, serverL-20)
	wantText, want := logprobs(t, s, "default", prompt, 12, nil)
	_, err = s.Run(t.Context(), nil, "stop", "default")
	require.NoError(t, err)
	text, got := logprobs(t, s, "default-2k", prompt, 12, nil)
	assert.Equal(t, wantText, text)
	assert.Equal(t, want, got)
	a, err := ask(t.Context(), s, "default-2k", h.prompt(t, 0, 2*serverL), 1)
	require.NoError(t, err)
	assert.LessOrEqual(t, a.prompt, serverL, "it cuts what the original does not hold")
	_, err = s.Run(t.Context(), nil, "cp", "default-2k", "by-stock")
	require.NoError(t, err)
	h.sameBits(t, h.Server, h.Server, "by-stock")
}
