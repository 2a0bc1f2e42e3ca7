package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestArchive: the same files give the same bytes, whatever their order, times and owner.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	at := time.Unix(1_700_000_000, 0).UTC()
	write := func(order ...int) []byte {
		lib := filepath.Join(dir, "lib.so.1")
		require.NoError(t, os.WriteFile(lib, []byte("code"), 0o600))
		require.NoError(t, os.Chtimes(lib, time.Now(), time.Now()))
		link := filepath.Join(dir, "lib.so")
		os.Remove(link)
		require.NoError(t, os.Symlink("lib.so.1", link))
		all := []entry{
			{name: "lib/ollama/lib.so.1", path: lib, mode: 0o755},
			{name: "lib/ollama/lib.so", path: link, mode: 0o755},
			{name: "bin/ollama", text: []byte("program"), mode: 0o755},
		}
		var files []entry
		for _, i := range order {
			files = append(files, all[i])
		}
		var b bytes.Buffer
		sums, err := writeArchive(&b, files, at)
		require.NoError(t, err)
		assert.Equal(t, "-> lib.so.1", sums["lib/ollama/lib.so"])
		assert.Len(t, sums["bin/ollama"], 64)
		return b.Bytes()
	}
	first := write(0, 1, 2)
	assert.Equal(t, first, write(2, 1, 0))

	zip, err := gzip.NewReader(bytes.NewReader(first))
	require.NoError(t, err)
	var names []string
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		names = append(names, h.Name)
		assert.True(t, h.ModTime.Equal(at), h.Name)
		assert.Zero(t, h.Uid+h.Gid, h.Name)
	}
	assert.Equal(t, []string{
		"bin/", "bin/ollama", "lib/", "lib/ollama/", "lib/ollama/lib.so", "lib/ollama/lib.so.1",
	}, names)

	absolute := filepath.Join(dir, "absolute")
	require.NoError(t, os.Symlink("/usr/lib/x", absolute))
	_, err = writeArchive(io.Discard, []entry{{name: "x", path: absolute}}, at)
	assert.ErrorContains(t, err, "another machine has not")
}

// TestBackendTable: the manifest says how each backend was checked, as patches/README.md does.
func TestBackendTable(t *testing.T) {
	readme, err := os.ReadFile("../../patches/README.md")
	require.NoError(t, err)
	rows, err := backendTable(string(readme))
	require.NoError(t, err)
	by := map[string]checked{}
	for _, r := range rows {
		by[r.Backend] = r
	}
	for _, backend := range []string{"CPU", "CUDA", "HIP", "Vulkan", "Metal"} {
		assert.Equal(t, "yes", by[backend].Rows, backend)
		assert.NotEmpty(t, by[backend].By, backend)
	}
	_, err = backendTable("# Patches\n")
	assert.Error(t, err)
}

// TestLicences: a module without a licence is an error.
func TestLicences(t *testing.T) {
	dir := t.TempDir()
	_, err := licenceFiles(dir)
	assert.ErrorContains(t, err, "no licence")
	for _, name := range []string{"LICENSE.txt", "copying", "NOTICE", "main.go"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	names, err := licenceFiles(dir)
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"LICENSE.txt", "copying", "NOTICE"}, names)
	dir, err = folder("github.com/BurntSushi/toml", "v1.5.0")
	require.NoError(t, err)
	assert.Equal(t, "github.com/!burnt!sushi/toml@v1.5.0", dir)
}

// TestLibraries: the CPU's and Vulkan's go with the program, other GPUs have tarballs of their own.
func TestLibraries(t *testing.T) {
	r := release{build: t.TempDir(), arch: "amd64"}
	_, _, err := r.libraries()
	assert.ErrorContains(t, err, "run make build")
	for _, f := range []string{
		"libggml-cpu-x64.so", "libggml-base.so", ".backends",
		"vulkan/libggml-vulkan.so", "cuda_v13/libggml-cuda.so",
	} {
		path := filepath.Join(r.build, "lib/ollama", f)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o644))
	}
	base, gpus, err := r.libraries()
	require.NoError(t, err)
	var names []string
	for _, e := range base {
		names = append(names, e.name)
	}
	assert.ElementsMatch(t, []string{
		"lib/ollama/libggml-cpu-x64.so", "lib/ollama/libggml-base.so",
		"lib/ollama/vulkan/libggml-vulkan.so",
	}, names)
	assert.Empty(t, gpus, "a CUDA backend that make dist did not finish is left out")
	note := filepath.Join(r.build, "cuda.txt")
	for text, made := range map[string]bool{
		"left out: 3 of 9 files were compiled when the time budget of 10m was over\n": false,
		"made: for 80-virtual, by nvcc 13.0\n":                                        true,
	} {
		require.NoError(t, os.WriteFile(note, []byte(text), 0o644))
		said, is := r.made("cuda")
		assert.Equal(t, made, is, text)
		assert.Equal(t, strings.TrimSpace(text), said)
		_, gpus, err = r.libraries()
		require.NoError(t, err)
		if !made {
			assert.Empty(t, gpus)
			continue
		}
		require.Len(t, gpus, 1)
		require.Len(t, gpus["cuda_v13"], 1)
		assert.False(t, licensed(gpus["cuda_v13"]))
		with := append(gpus["cuda_v13"], entry{name: "lib/ollama/cuda_v13/LICENSE"})
		assert.True(t, licensed(with))
	}
	assert.Regexp(t, `^ollama-v[0-9.]+-longrope\.[0-9]+-linux-amd64-cuda_v13\.tgz$`,
		r.name("-cuda_v13"))
}
