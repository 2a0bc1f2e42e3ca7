package convert

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testStore makes a store with one model, tiny:latest, of several layers, and points OLLAMA_MODELS
// at it.
func testStore(t *testing.T, fx gguftest.Fixture, params string) *Store {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("OLLAMA_MODELS", dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "manifests"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "blobs"), 0o755))
	s, err := OpenStore("")
	require.NoError(t, err)
	put := func(mediaType, content string) layer {
		l, err := s.writeBlob(mediaType, []byte(content))
		require.NoError(t, err)
		return l
	}
	m := &manifest{SchemaVersion: 2, MediaType: mediaManifest}
	m.Config = put(mediaConfig,
		`{"model_format":"gguf","model_family":"llama","file_type":"Q4_0","unknown":{"kept":1.50},"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:old"]}}`)
	m.Layers = []layer{
		put(mediaModel, string(fx.Bytes())), put("application/vnd.ollama.image.license",
			"MIT"), put(mediaTemplate, "{{ .Prompt }}"),
	}
	if params != "" {
		m.Layers = append(m.Layers, put(mediaParams, params))
	}
	m.Layers = append(m.Layers, put("application/vnd.ollama.image.system", "be kind"))
	n, _, err := s.parse("tiny")
	require.NoError(t, err)
	require.NoError(t, s.writeManifest(n, m))
	return s
}

// stored lists all files of a store.
func stored(t *testing.T, s *Store) []string {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

func (s *Store) layer(t *testing.T, m *manifest, mediaType string) string {
	t.Helper()
	for _, l := range m.Layers {
		if l.MediaType == mediaType {
			b, err := s.readBlob(l.Digest)
			require.NoError(t, err)
			require.EqualValues(t, len(b), l.Size)
			return string(b)
		}
	}
	return ""
}

// TestConvertToStore: a new model next to the old one, complete, with every blob named by its
// content.
func TestConvertToStore(t *testing.T) {
	ctx := context.Background()
	fx := gguftest.Tiny("llama")
	s := testStore(t, fx, `{"stop":["<s>"],"temperature":0.10,"num_ctx":64}`)
	src, err := Resolve("tiny")
	require.NoError(t, err)
	assert.Equal(t, KindStore, src.Kind)
	assert.Equal(t, "tiny:latest", src.Name)
	before := stored(t, s)

	r, err := ConvertToStore(ctx, src, "tiny-1k", ladder(), Options{})
	require.NoError(t, err)
	assert.Equal(t, "tiny-1k:latest", r.Name)
	assert.Equal(t, 1024, r.NumCtx)
	assert.Contains(t, r.Notes[len(r.Notes)-1], "num_ctx is 1024")
	for _, path := range before {
		assert.FileExists(t, path)
	}
	for _, path := range stored(t, s) {
		if base := filepath.Base(path); filepath.Base(filepath.Dir(path)) == "blobs" {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, strings.ReplaceAll(digestOf(b), ":", "-"), base)
		}
	}

	out, err := s.Find("TINY-1K:Latest")
	require.NoError(t, err)
	assert.Equal(t, r.Digest, out.Digest)
	assert.Equal(t, r.Path, out.Path)
	info, err := Inspect(out.Path)
	require.NoError(t, err)
	assert.Equal(t, 1024, info.ContextLength)
	requireCarried(t, fx, out.Path, "llama.context_length")

	m := out.manifest
	assert.Equal(t, 2, m.SchemaVersion)
	assert.Equal(t, mediaManifest, m.MediaType)
	require.Len(t, m.Layers, 5)
	assert.Equal(t, "tiny:latest", m.Layers[0].From)
	assert.Equal(t, "MIT", s.layer(t, m, "application/vnd.ollama.image.license"))
	assert.Equal(t, "be kind", s.layer(t, m, "application/vnd.ollama.image.system"))
	assert.Equal(t, `{"num_ctx":1024,"stop":["\u003cs\u003e"],"temperature":0.10}`+"\n",
		s.layer(t, m, mediaParams))
	b, err := s.readBlob(m.Config.Digest)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(b, &config))
	assert.Equal(t, map[string]any{"kept": 1.5}, config["unknown"])
	assert.Equal(t, "Q4_0", config["file_type"])
	ids := config["rootfs"].(map[string]any)["diff_ids"].([]any)
	require.Len(t, ids, 5)
	for i, l := range m.Layers {
		assert.Equal(t, l.Digest, ids[i])
	}

	// Again, and over it: nothing is left behind. Another num_ctx.
	_, err = ConvertToStore(ctx, src, "tiny-1k", ladder(), Options{})
	require.NoError(t, err)
	_, err = ConvertToStore(ctx, src, "tiny-1k", ladder(), Options{NumCtx: 600})
	require.NoError(t, err)
	out, err = s.Find("tiny-1k")
	require.NoError(t, err)
	assert.Contains(t, s.layer(t, out.manifest, mediaParams), `"num_ctx":600`)
	for _, path := range stored(t, s) {
		assert.NotContains(t, path, ".tmp")
	}
}

// TestFileToStore: a GGUF file gets what ollama create would give it.
func TestFileToStore(t *testing.T) {
	const llama3 = "{% set loop_messages = messages %}{% for message in loop_messages %}{% set " +
		"content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ " +
		"message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = " +
		"bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt " +
		"%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
	for _, chat := range []string{
		"",
		"no such template, by far, that any host of any kind would know of, and long enough that " +
			"its distance to all of them is large", llama3,
	} {
		fx := gguftest.Tiny("llama").With("tokenizer.chat_template", chat)
		s := testStore(t, gguftest.Tiny("phi3"), "")
		// as in a store that was never used
		require.NoError(t, os.RemoveAll(filepath.Join(s.Dir, "blobs")))
		src, err := Resolve(fx.Write(t, "in.gguf"))
		require.NoError(t, err)
		assert.Equal(t, KindFile, src.Kind)
		r, err := ConvertToStore(context.Background(), src, "user/made:8x", ladder(), Options{})
		require.NoError(t, err)
		assert.Equal(t, "user/made:8x", r.Name)
		out, err := s.Find("user/made:8x")
		require.NoError(t, err)
		text := s.layer(t, out.manifest, mediaTemplate)
		if chat == llama3 {
			assert.Contains(t, text, "start_header_id")
			assert.Contains(t, s.layer(t, out.manifest, mediaParams), "eot_id")
		} else {
			assert.Empty(t, text)
		}
		assert.Contains(t, s.layer(t, out.manifest, mediaParams), `"num_ctx":1024`)
		b, err := s.readBlob(out.manifest.Config.Digest)
		require.NoError(t, err)
		for _, want := range []string{
			`"model_format":"gguf"`, `"model_family":"llama"`,
			`"file_type":"Q4_0"`, `"model_type":"2K"`,
		} {
			assert.Contains(t, string(b), want)
		}
	}
}

// TestStoreRefusals: names, stores and blobs that are not what they should be; the store stays as
// it was. TestFindDigest: a blob is found by the digest of its content, whatever model it belongs
// to.
func TestFindDigest(t *testing.T) {
	s := testStore(t, gguftest.Tiny("llama"), "")
	src, err := Resolve("tiny")
	require.NoError(t, err)
	digest, err := FileDigest(src.Path)
	require.NoError(t, err)
	assert.Equal(t, src.Digest, digest)
	path, err := s.FindDigest(digest)
	require.NoError(t, err)
	assert.Equal(t, src.Path, path)
	_, err = s.FindDigest(digestOf(nil))
	assert.ErrorIs(t, err, ErrUnknownModel)
	_, err = s.FindDigest("sha256:../x")
	assert.ErrorContains(t, err, "is not a digest")
	_, err = FileDigest(src.Path + ".missing")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestStoreRefusals(t *testing.T) {
	ctx := context.Background()
	s := testStore(t, gguftest.Tiny("llama"), "")
	before := stored(t, s)
	src, err := Resolve("tiny")
	require.NoError(t, err)

	_, err = Resolve("tinny")
	assert.ErrorIs(t, err, ErrUnknownModel)
	assert.ErrorContains(t, err, "did you mean tiny:latest?")
	_, err = Resolve("tiny:7b")
	assert.ErrorContains(t, err, "did you mean tiny:latest?")
	_, err = Resolve("elephant")
	assert.ErrorContains(t, err, "pull it first")
	_, err = Resolve("a b")
	assert.ErrorContains(t, err, "valid model name")
	_, err = Resolve("")
	assert.ErrorContains(t, err, "no model given")
	_, err = ConvertToStore(ctx, src, "library/tiny:latest", ladder(), Options{})
	assert.ErrorContains(t, err, "the output is the input")
	_, err = ConvertToStore(ctx, src, "bad name", ladder(), Options{})
	assert.ErrorContains(t, err, "valid model name")
	_, err = ConvertToStore(ctx, src, "x", ladder(), Options{NumCtx: 4096})
	assert.ErrorContains(t, err, "more than the longest rung")
	_, err = ConvertToStore(ctx, src, "x", ladder(), Options{NumCtx: -1})
	assert.ErrorContains(t, err, "num_ctx")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = ConvertToStore(cancelled, src, "x", ladder(), Options{})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, before, stored(t, s))

	t.Setenv("OLLAMA_MODELS", filepath.Join(t.TempDir(), "nowhere"))
	_, err = Resolve("tiny")
	assert.ErrorIs(t, err, ErrNoStore)
	assert.ErrorContains(t, err, "OLLAMA_MODELS")
	t.Setenv("OLLAMA_MODELS", s.Dir)

	require.NoError(t, os.Truncate(src.Path, 100))
	_, err = Resolve("tiny")
	assert.ErrorContains(t, err, "pull the model again")
	require.NoError(t, os.Remove(src.Path))
	_, err = Resolve("tiny")
	assert.ErrorContains(t, err, "is missing")

	n, _, err := s.parse("tiny")
	require.NoError(t, err)
	for content, want := range map[string]string{
		"{":             "not a manifest",
		`{"layers":[]}`: "cloud model",
		`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"../../etc/passwd"}]}`: "not a digest",
		`{"layers":[{"mediaType":"application/vnd.ollama.image.tensor","digest":"x"}]}`:               "MLX",
	} {
		require.NoError(t, os.WriteFile(s.manifestPath(n), []byte(content), 0o644))
		_, err = Resolve("tiny")
		assert.ErrorContains(t, err, want)
	}
}

func TestResolvePaths(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OLLAMA_MODELS", filepath.Join(dir, "nowhere"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o644))
	src, err := Resolve(dir)
	require.NoError(t, err)
	assert.Equal(t, KindCheckpoint, src.Kind)
	require.NoError(t, os.Remove(filepath.Join(dir, "config.json")))
	_, err = Resolve(dir)
	assert.ErrorContains(t, err, "a folder without")
	path := gguftest.Tiny("llama").Write(t, filepath.Join(dir, "model.gguf"))
	_, err = Resolve(dir)
	assert.ErrorContains(t, err, "model.gguf")
	src, err = Resolve(path)
	require.NoError(t, err)
	assert.Equal(t, path, src.Path)
	_, err = Resolve(filepath.Join(dir, "modle.gguf"))
	assert.ErrorContains(t, err, "in the same folder: model.gguf")
	_, err = Resolve("nothing-like-it.gguf")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"llama3", "lama3", 1}} {
		assert.Equal(t, c.want, distance(c.a, c.b))
		assert.Equal(t, c.want, distance(c.b, c.a))
	}
}

// FuzzManifest: no manifest makes Find panic or leave the store's folder.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:00","size":1}]}`))
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../../../x"}]}`))
	dir := f.TempDir()
	s := &Store{Dir: dir}
	path := filepath.Join(dir, "manifests", "registry.ollama.ai", "library", "m", "latest")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if src, err := s.Find("m"); err == nil &&
			!strings.HasPrefix(src.Path, filepath.Join(dir, "blobs")) {
			t.Fatalf("%s is outside of the store", src.Path)
		}
	})
}

// FuzzReplaced: no record makes undo panic or write a file that cannot be read again.
func FuzzReplaced(f *testing.F) {
	fx := gguftest.Tiny("llama")
	file, err := decodeBytes(fx.Bytes())
	if err != nil {
		f.Fatal(err)
	}
	j, err := prepare(file, nil, ladder(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	text, _, err := j.e.View().String("llama.rope.longrope.replaced")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(text))
	f.Add([]byte(`{"version":1,"keys":[{"key":"general.alignment","type":4,"raw":"AwAAAA=="}],"tensors":[{"name":"output_norm.weight","data":"AAAAAA=="}],"tail":3}`))
	f.Add([]byte(`{"version":1,"added":["general.alignment"],"keys":[{"key":"general.alignment","type":4,"raw":"gAAAAA==","index":0}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := fx.With("llama.rope.longrope.version", uint32(1)).With("llama.rope.longrope.replaced",
			string(b))
		file, err := decodeBytes(g.Bytes())
		if err != nil {
			return
		}
		e := gguf.NewEdit(file)
		if _, err := e.Undo("llama"); err != nil {
			return
		}
		var out bytes.Buffer
		p, err := e.Lay()
		if err != nil {
			return
		}
		if err := p.Write(context.Background(), &out, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := decodeBytes(out.Bytes()); err != nil {
			t.Fatal(err)
		}
	})
}
