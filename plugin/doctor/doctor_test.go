package doctor

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/longrope/longrope/patches"
	"github.com/longrope/longrope/plugin/search/searchtest"
	"github.com/longrope/longrope/ropescale"
)

// script writes an executable that prints text.
func script(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\ncat <<'E'\n"+text+"\nE\n"), 0o755))
}

// only has one finding, which is of a subject.
func only(t *testing.T, r *report) finding {
	t.Helper()
	require.Len(t, r.Findings, 1)
	return r.Findings[0]
}

// TestPath: which ollama comes first, and what others are.
func TestPath(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "own", "ollama")
	script(t, own, "")
	script(t, filepath.Join(dir, "stock", "ollama"),
		"Warning: could not connect to a running Ollama instance\n"+
			"Warning: client version is 0.16.1")
	script(t, filepath.Join(dir, "older", "ollama"),
		"Warning: client version is 0.17.4\nlongrope version is 0.17.4-longrope.0, of ollama")
	script(t, filepath.Join(dir, "mute", "ollama"), "hello")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "link"), 0o755))
	require.NoError(t, os.Symlink(own, filepath.Join(dir, "link", "ollama")))

	for path, want := range map[string]struct {
		grade Grade
		says  string
		more  int
	}{
		"":                    {Note, "no ollama is in PATH; add " + dir + "/own", 0},
		"none":                {Note, "no ollama is in PATH", 0},
		"own":                 {OK, "ollama is this program", 0},
		"link,own":            {OK, "ollama is this program", 0},
		"own,stock":           {OK, "stock/ollama is ollama 0.16.1, without longrope", 1},
		"stock,own":           {Note, "another ollama comes before this program; put", 1},
		"older,mute,own":      {Note, "older/ollama is longrope 0.17.4-longrope.0", 2},
		"mute":                {Note, "does not say its version", 1},
		"stock,stock,nothing": {Note, "ollama is another program; put " + dir + "/own first", 1},
	} {
		var list []string
		for name := range strings.SplitSeq(path, ",") {
			list = append(list, filepath.Join(dir, name))
		}
		r := &report{}
		machine{program: own, path: strings.Join(list, ":")}.examinePath(context.Background(), r)
		f := only(t, r)
		assert.Equal(t, want.grade, f.Grade, path)
		assert.Contains(t, f.Text+"\n"+strings.Join(f.More, "\n"), want.says, path)
		assert.Len(t, f.More, want.more, path)
	}
}

// TestServer: what is on the port.
func TestServer(t *testing.T) {
	own := strings.TrimPrefix(patches.Version(), "v")
	for answer, want := range map[string]struct {
		grade   Grade
		says    string
		applies bool
	}{
		`{"version":"0.17.4"}`: {Fault, "ollama 0.17.4, without longrope: it ignores ladders", false},
		`{"version":"0.17.4","longrope":"0.17.4-longrope.0"}`: {
			Note, "longrope 0.17.4-longrope.0, this program is " + own, true,
		},
		fmt.Sprintf(`{"version":"0.17.4","longrope":%q}`, own): {OK, "is longrope " + own, true},
		"<html>": {Fault, "is no ollama; OLLAMA_HOST=127.0.0.1:PORT", true},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			assert.Equal(t, "/api/version", q.URL.Path)
			fmt.Fprint(w, answer)
		}))
		r := &report{}
		assert.Equal(t, want.applies, machine{host: s.URL}.examineServer(context.Background(), r),
			answer)
		s.Close()
		f := only(t, r)
		assert.Equal(t, want.grade, f.Grade, answer)
		assert.Contains(t, f.Text, want.says)
	}
	r := &report{}
	assert.True(t, machine{host: "http://127.0.0.1:9"}.examineServer(context.Background(), r))
	assert.Equal(t, Note, only(t, r).Grade)
	r = &report{}
	machine{host: "http://a b"}.examineServer(context.Background(), r)
	assert.Equal(t, Fault, only(t, r).Grade)
}

// TestStore: models with ladders, in the file and as a layer, and one whose blob is lost.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OLLAMA_MODELS", dir)
	for _, name := range []string{"plain", "lost", "baked"} {
		require.NoError(t, searchtest.PutInStore(dir, name+":latest", searchtest.TinyGGUF("llama")))
	}
	l, err := ropescale.ReadFactors(strings.NewReader(`{"version": 1,
		"original_context_length": 128, "rope_dimension_count": 16,
		"rungs": [{"length": 256, "factors": [1,1,1,1,1,2,2,2]},
			{"length": 1024, "factors": [1,1,1,1,2,2,4,8]}]}`))
	require.NoError(t, err)
	src, err := convert.Resolve("plain")
	require.NoError(t, err)
	_, err = convert.ConvertToLayer(src, "layered", l, convert.Options{})
	require.NoError(t, err)
	_, err = convert.ConvertToStore(context.Background(), src, "baked", l, convert.Options{})
	require.NoError(t, err)
	require.NoError(t, searchtest.PutInStore(dir, "lost:latest", searchtest.TinyGGUF("qwen2")))
	lost, err := convert.Resolve("lost")
	require.NoError(t, err)
	require.NoError(t, os.Remove(lost.Path))

	m := machine{store: func() (*convert.Store, error) { return convert.OpenStore("") }}
	for _, patched := range []bool{true, false} {
		r := &report{}
		m.examineStore(r, patched)
		var text []string
		for _, f := range r.Findings {
			text = append(text, string(f.Grade)+" "+f.Text)
		}
		grade, more := "ok", ""
		if !patched {
			grade, more = "fault", ", which the server does not apply"
		}
		require.Len(t, text, 4, "%v", text)
		assert.Equal(t, "ok "+dir+", models: 4", text[0])
		assert.Equal(t, grade+" baked:latest: a ladder in its file, for 256, 1k"+more, text[1])
		assert.Equal(t, grade+" layered:latest: a ladder as a layer, for 256, 1k"+more, text[2])
		assert.Contains(t, text[3], "fault lost:latest: its model file")
	}
	t.Setenv("OLLAMA_MODELS", filepath.Join(dir, "none"))
	r := &report{}
	m.examineStore(r, true)
	assert.Equal(t, Note, only(t, r).Grade)
}

// TestStoreFactors: factors in a file that no host applies, and those that a model came with.
func TestStoreFactors(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("OLLAMA_MODELS", dir)
	for _, arch := range []string{"llama", "phi3"} {
		fx := gguftest.Tiny(arch).With(arch+".rope.scaling.original_context_length", uint32(64))
		for i, name := range []string{"long", "short"} {
			fx.Tensors = slices.Insert(slices.Clone(fx.Tensors), 1, gguftest.Tensor{
				Name: "rope_factors_" + name + ".weight", Dims: []uint64{4},
				Data: gguf.FloatBytes(binary.LittleEndian, []float64{1, 1, 1, float64(2 - i)}),
			})
		}
		require.NoError(t, searchtest.PutInStore(dir, arch+":latest", fx.Bytes()))
	}
	r := &report{}
	machine{store: func() (*convert.Store, error) { return convert.OpenStore("") }}.
		examineStore(r, true)
	require.Len(t, r.Findings, 3, "%v", r.Findings)
	assert.Equal(t, Fault, r.Findings[1].Grade)
	assert.Equal(t, "llama:latest: factors that nothing applies", r.Findings[1].Text)
	assert.Contains(t, r.Findings[1].More[0], "it refuses to load the file")
	assert.Equal(t, Note, r.Findings[2].Grade)
	assert.Contains(t, r.Findings[2].Text, "phi3:latest: own long factors")
}

// TestDescribe: how a backend is graded.
func TestDescribe(t *testing.T) {
	gpu := device{Description: "a GPU", Cases: 8}
	with := func(edit func(d *device)) []device {
		d := gpu
		edit(&d)
		return []device{{CPU: true, Cases: 8}, d}
	}
	for name, want := range map[string]struct {
		b     backend
		grade Grade
		says  string
	}{
		"right":   {backend{Devices: with(func(*device) {})}, OK, "takes rows"},
		"wrong":   {backend{Devices: with(func(d *device) { d.Wrong = 1 })}, Fault, "in 1 of 8 ops"},
		"refuses": {backend{Devices: with(func(d *device) { d.Refused = 8 })}, Note, "and slow"},
		"partly":  {backend{Devices: with(func(d *device) { d.Refused = 2 })}, Note, "6 of 8"},
		"fails":   {backend{Devices: with(func(d *device) { d.Error = "x" })}, Fault, "failed: x"},
		"absent":  {backend{Devices: with(func(d *device) { d.CPU = true })}, Note, "no device"},
		"ends":    {backend{Error: "the process ended"}, Fault, "the process ended"},
	} {
		r := &report{}
		want.b.Name = "cuda_v13"
		want.b.describe(r)
		f := only(t, r)
		assert.Equal(t, want.grade, f.Grade, name)
		assert.Contains(t, f.Text, want.says, name)
	}
	r := &report{}
	backend{Name: cpuBackend}.describe(r)
	assert.Equal(t, Fault, only(t, r).Grade, "a machine without a CPU")
	r = &report{}
	backend{Name: cpuBackend, Devices: with(func(*device) {})[:1]}.describe(r)
	assert.Equal(t, Note, only(t, r).Grade, "the slow CPU")
}

// TestAsk: a process that ends, or says something else, is a finding.
func TestAsk(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "ollama")
	script(t, program, `{"devices": [{"name": "a"}]}`)
	b := ask(context.Background(), program, "vulkan", []string{dir})
	assert.Equal(t, backend{Name: "vulkan", Devices: []device{{Name: "a"}}}, b)
	script(t, program, "")
	assert.NotEmpty(t, ask(context.Background(), program, "vulkan", nil).Error)
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\necho no driver >&2\nexit 3\n"),
		0o755))
	assert.Equal(t, "the process that loaded it ended: exit status 3: no driver",
		ask(context.Background(), program, "vulkan", nil).Error)
}

// TestFolders are those with a GPU's library.
func TestFolders(t *testing.T) {
	lib := t.TempDir()
	for _, f := range []string{
		"cuda_v12/libggml-cuda.so", "vulkan/libggml-vulkan.so",
		"vulkan/libggml-x.so", "other/lib.so",
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(lib, filepath.Dir(f)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(lib, f), nil, 0o644))
	}
	assert.Equal(t, []string{filepath.Join(lib, "cuda_v12"), filepath.Join(lib, "vulkan")},
		folders(lib))
	assert.Empty(t, folders(filepath.Join(lib, "vulkan")))
}

// TestForeign: a library of another build is a fault, and the report says what to do.
func TestForeign(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ollama")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\necho 'load_backend: x.so is "+
		foreign+" and is not used' >&2\necho '{}'\n"), 0o755))
	r := &report{}
	ask(t.Context(), program, "CPU", []string{"lib"}).describe(r)
	f := only(t, r)
	assert.Equal(t, Fault, f.Grade)
	assert.Contains(t, f.Text, "is not used; install the lib/ollama that came with this program")
}
