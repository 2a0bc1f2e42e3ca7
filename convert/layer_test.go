package convert

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/longrope/longrope/ropescale"
)

// bytesOf sums up the blobs of a store.
func bytesOf(t *testing.T, s *Store) (n int64) {
	t.Helper()
	for _, path := range stored(t, s) {
		fi, err := os.Stat(path)
		require.NoError(t, err)
		n += fi.Size()
	}
	return n
}

// TestConvertToLayer: the new model shares all blobs but the ladder, its parameters and its
// configuration; what the layer says is what the file of Convert says.
func TestConvertToLayer(t *testing.T) {
	s := testStore(t, gguftest.Tiny("llama"), `{"temperature":0.10,"num_ctx":64}`)
	src, err := Resolve("tiny")
	require.NoError(t, err)
	before, size := stored(t, s), bytesOf(t, s)
	r, err := ConvertToLayer(src, "tiny-1k", ladder(), Options{Crossing: "rerotate"})
	require.NoError(t, err)
	assert.Equal(t, "tiny-1k:latest", r.Name)
	assert.Equal(t, src.Digest, r.Weights)
	assert.Zero(t, r.NumCtx)
	assert.Contains(t, strings.Join(r.Notes, "\n"), "tiny:latest has num_ctx 64")
	for _, path := range before {
		assert.FileExists(t, path)
	}
	assert.Len(t, stored(t, s), len(before)+4) // manifest, ladder, parameters, configuration
	assert.Less(t, bytesOf(t, s)-size, int64(8<<10))
	assert.Equal(t, 128, r.Stock.ContextLength, "what an unpatched host runs")

	out, err := s.Find("tiny-1k")
	require.NoError(t, err)
	assert.Equal(t, src.Path, out.Path)
	assert.Equal(t, "rerotate", out.Crossing())
	assert.Equal(t, `{"temperature":0.10}`+"\n", s.layer(t, out.manifest, mediaParams))
	info, err := out.Inspect()
	require.NoError(t, err)
	assert.Equal(t, 1024, info.ContextLength)
	assert.Equal(t, r.Digest, info.Layer)
	baked, _ := convert(t, src.Path, ladder(), Options{})
	same, err := Inspect(baked)
	require.NoError(t, err)
	rows, windows := info.Ladder.Rows()
	wantRows, wantWindows := same.Ladder.Rows()
	assert.Equal(t, wantRows, rows, "float32 for float32")
	assert.Equal(t, wantWindows, windows)
	assert.Equal(t, same.OriginalContextLength, info.OriginalContextLength)

	// The ladder of a layer is replaced, written into a file, and taken off again.
	l := ladder()
	l.Rungs = l.Rungs[1:]
	_, err = ConvertToLayer(out, "again", l, Options{NumCtx: 600})
	require.NoError(t, err)
	again, err := s.Find("again")
	require.NoError(t, err)
	assert.Len(t, again.Ladder.Rungs, 1)
	assert.Equal(t, `{"num_ctx":600,"temperature":0.10}`+"\n",
		s.layer(t, again.manifest, mediaParams))
	again.Name = "again"
	_, err = ConvertToStore(context.Background(), again, "whole", again.Ladder, Options{})
	require.NoError(t, err)
	whole, err := s.Find("whole")
	require.NoError(t, err)
	assert.Nil(t, whole.Ladder)
	assert.NotEqual(t, src.Path, whole.Path)

	_, err = StripLayer(again, "back")
	require.NoError(t, err)
	back, err := s.Find("back")
	require.NoError(t, err)
	assert.Nil(t, back.Ladder)
	assert.Equal(t, `{"num_ctx":64,"temperature":0.10}`+"\n",
		s.layer(t, back.manifest, mediaParams))
	assert.Equal(t, len(src.manifest.Layers), len(back.manifest.Layers))
	_, err = StripLayer(back, "further")
	require.ErrorIs(t, err, gguf.ErrNoLadder)
	file := filepath.Join(t.TempDir(), "back.gguf")
	_, err = StripSource(context.Background(), again, file, Options{})
	require.NoError(t, err)
	digest, err := FileDigest(file)
	require.NoError(t, err)
	assert.Equal(t, src.Digest, digest)
}

// TestLayerRefusals: ladders and names that a layer cannot have; the store stays as it was.
func TestLayerRefusals(t *testing.T) {
	s := testStore(t, gguftest.Tiny("llama"), "")
	src, err := Resolve("tiny")
	require.NoError(t, err)
	before := stored(t, s)
	wide := ladder()
	wide.RopeDimensionCount = 16
	for i := range wide.Rungs {
		wide.Rungs[i].Factors = append(wide.Rungs[i].Factors, 9, 9, 9, 9)
	}
	big := ladder()
	big.Extra = map[string]json.RawMessage{"x": []byte(`"` + strings.Repeat("x", 1<<20) + `"`)}
	for want, c := range map[string]struct {
		name   string
		l      *ropescale.Ladder
		numCtx int
	}{
		"the output is the input":    {"library/tiny", ladder(), 0},
		"valid model name":           {"a b", ladder(), 0},
		"the model rotates 8":        {"x", wide, 0},
		"--bake":                     {"x", big, 0},
		"more than the longest rung": {"x", ladder(), 4096},
	} {
		_, err := ConvertToLayer(src, c.name, c.l, Options{NumCtx: c.numCtx})
		require.ErrorContains(t, err, want)
	}
	assert.Equal(t, before, stored(t, s))
	file, err := Resolve(src.Path)
	require.NoError(t, err)
	_, err = ConvertToLayer(file, "x", ladder(), Options{})
	require.ErrorContains(t, err, "not a model of the store")

	s = testStore(t, gguftest.Tiny("gpt2"), "")
	before = stored(t, s)
	src, err = Resolve("tiny")
	require.NoError(t, err)
	_, err = ConvertToLayer(src, "x", ladder(), Options{})
	require.ErrorContains(t, err, "has no RoPE")
	assert.Equal(t, before, stored(t, s))
}

// TestBadLayers: layers that are not what they should be are errors that name the model.
func TestBadLayers(t *testing.T) {
	s := testStore(t, gguftest.Tiny("llama"), "")
	src, err := Resolve("tiny")
	require.NoError(t, err)
	_, err = ConvertToLayer(src, "good", ladder(), Options{})
	require.NoError(t, err)
	good, err := s.Find("good")
	require.NoError(t, err)
	at := len(good.manifest.Layers) - 1
	text := s.layer(t, good.manifest, mediaLadder)
	n, _, err := s.parse("good")
	require.NoError(t, err)
	put := func(mediaType, text string) layer {
		l, err := s.writeBlob(mediaType, []byte(text))
		require.NoError(t, err)
		return l
	}
	for name, c := range map[string]struct {
		layers []layer
		want   string
	}{
		"version of the type": {[]layer{put(mediaLadders+"v2+json", text)}, "v2+json"},
		"version": {[]layer{put(mediaLadder, strings.Replace(text, `"version": 1`,
			`"version": 2`, 1))}, "version is 2"},
		"two":     {[]layer{put(mediaLadder, text), put(mediaLadder, text)}, "has two"},
		"cut":     {[]layer{put(mediaLadder, text[:len(text)/2])}, "not json"},
		"NaN":     {[]layer{put(mediaLadder, strings.Replace(text, "2.25", "NaN", 1))}, "not json"},
		"zero":    {[]layer{put(mediaLadder, strings.Replace(text, "2.25", "0", 1))}, "factor 2"},
		"no base": {[]layer{put(mediaLadder, strings.Replace(text, "base", "bass", 1))}, "missing"},
		"missing": {[]layer{{mediaLadder, digestOf(nil), 3, "", ""}}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			m := *good.manifest
			m.Layers = append(m.Layers[:at:at], c.layers...)
			require.NoError(t, s.writeManifest(n, &m))
			_, err := s.Find("good")
			require.ErrorContains(t, err, "good:latest: its ladder: ")
			require.ErrorContains(t, err, c.want)
		})
	}
	require.NoError(t, s.writeManifest(n, good.manifest))
	other := *good
	wide := *good.Ladder
	wide.RopeDimensionCount = 16
	other.Ladder = &wide
	_, err = other.Inspect()
	require.ErrorContains(t, err, "its ladder is for 16 rotary dimensions, the model has 8")
}

// TestCorruptBlob: a blob that has another content than its name says is not adopted.
func TestCorruptBlob(t *testing.T) {
	s := testStore(t, gguftest.Tiny("llama"), "")
	src, err := Resolve("tiny")
	require.NoError(t, err)
	for _, bake := range []bool{false, true} {
		to := func(name string) (*Report, error) {
			if bake {
				return ConvertToStore(context.Background(), src, name, ladder(), Options{})
			}
			return ConvertToLayer(src, name, ladder(), Options{})
		}
		r, err := to("first")
		require.NoError(t, err)
		b, err := os.ReadFile(r.Path)
		require.NoError(t, err)
		right := append([]byte(nil), b...)
		b[len(b)-1] ^= 1
		require.NoError(t, os.WriteFile(r.Path, b, 0o644))
		before := stored(t, s)
		_, err = to("second")
		require.ErrorIs(t, err, ErrCorruptBlob)
		require.ErrorContains(t, err, filepath.Base(r.Path))
		assert.Equal(t, before, stored(t, s))

		// One that is cut short, as by a broken download, is written again.
		require.NoError(t, os.WriteFile(r.Path, b[:5], 0o644))
		_, err = to("second")
		require.NoError(t, err)
		b, err = os.ReadFile(r.Path)
		require.NoError(t, err)
		assert.Equal(t, right, b)
	}
}
