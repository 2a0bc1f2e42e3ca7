package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/patches"
)

// checkout makes a folder that the tool takes for the repository, and goes
// into a folder of it.
func checkout(t *testing.T) string {
	t.Helper()
	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	sum, err := os.ReadFile("../../go.sum")
	require.NoError(t, err)
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), mod, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.sum"), sum, 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "some", "where"), 0o755))
	t.Chdir(filepath.Join(root, "some", "where"))
	return root
}

func offline(t *testing.T) {
	t.Helper()
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOPROXY", "off")
	cmd := exec.Command("go", "mod", "download", "-json",
		patches.HostModule+"@"+patches.HostVersion)
	out, err := cmd.Output()
	var m struct{ Dir string }
	if json.Unmarshal(out, &m); err != nil || m.Dir == "" {
		t.Skipf("SKIP: %s %s is not in the module cache: run make host", patches.HostModule,
			patches.HostVersion)
	}
}

// TestRun makes both trees from the module cache, offline, and asks the go
// command whether it takes them for the host.
func TestRun(t *testing.T) {
	offline(t)
	root := checkout(t)
	var out bytes.Buffer
	o := options{dst: "build/host", unpatched: "build/host-stock", out: &out}
	require.NoError(t, o.run(), out.String())
	assert.Contains(t, out.String(), "build/host: made from")
	assert.Contains(t, out.String(), "build/host-stock: made from")

	for work, want := range map[string]string{
		"go.work": "build/host", "build/host-stock.work": "build/host-stock",
	} {
		cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", patches.HostModule)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, work), "GOFLAGS=")
		got, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", got)
		assert.Equal(t, filepath.Join(root, want)+"\n", string(got), work)
	}
	patched, err := patches.ReadStamp(filepath.Join(root, "build/host"))
	require.NoError(t, err)
	stock, err := patches.ReadStamp(filepath.Join(root, "build/host-stock"))
	require.NoError(t, err)
	assert.Greater(t, len(patched.Patches), len(stock.Patches))
	assert.Len(t, patched.Files, len(stock.Files)+added(t))

	out.Reset()
	require.NoError(t, o.run())
	assert.Contains(t, out.String(), "build/host: up to date")
	assert.Contains(t, out.String(), "build/host-stock: up to date")

	t.Run("a go.work of the user's", func(t *testing.T) {
		mine := []byte("go 1.24.1\n\nuse .\nuse ../other\n")
		require.NoError(t, os.WriteFile(filepath.Join(root, "go.work"), mine, 0o644))
		assert.ErrorContains(t, o.run(), "go.work is not from this tool")
		got, err := os.ReadFile(filepath.Join(root, "go.work"))
		require.NoError(t, err)
		assert.Equal(t, string(mine), string(got))
	})
}

// added counts the files that patches outside the build area make, less those
// that they remove.
func added(t *testing.T) (n int) {
	t.Helper()
	s, err := patches.Embedded()
	require.NoError(t, err)
	for _, p := range s {
		for _, f := range p.Files {
			if p.Area != patches.BuildArea && f.IsNew {
				n++
			} else if p.Area != patches.BuildArea && f.IsDelete {
				n--
			}
		}
	}
	return n
}

func TestRunRefuses(t *testing.T) {
	root := checkout(t)
	o := options{dst: "build/host", out: &bytes.Buffer{}}

	t.Run("another source", func(t *testing.T) {
		src := t.TempDir()
		o.src = src
		assert.ErrorContains(t, o.run(), "not a source tree of the host")
		require.NoError(t,
			os.WriteFile(filepath.Join(src, "go.mod"), []byte("module other\n"), 0o644))
		assert.ErrorContains(t, o.run(), "go.sum pins h1:")
		assert.NoDirExists(t, filepath.Join(root, "build", "host"))
		assert.NoFileExists(t, filepath.Join(root, "go.work"))
	})
	t.Run("no proxy and no cache", func(t *testing.T) {
		t.Setenv("GOMODCACHE", t.TempDir())
		t.Setenv("GOPROXY", "off")
		o.src = ""
		assert.ErrorContains(t, o.run(), "or give a git clone of the tag with -src")
	})
	t.Run("no pin", func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(root, "go.sum"), nil, 0o644))
		assert.ErrorContains(t, o.run(), "go.sum has no line for")
	})
	t.Run("outside the repository", func(t *testing.T) {
		t.Chdir(t.TempDir())
		assert.ErrorContains(t, o.run(), "not inside the repository")
	})
}
