package patches

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false,
	"write the table in README.md and the expected outcomes in testdata again")

// golden compares got with a file of testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err, "run go test ./patches -update and read the difference")
	assert.Equal(t, string(want), got,
		"%s differs: run go test ./patches -update and read the difference", name)
}

func load(t testing.TB, folder string) Series {
	t.Helper()
	s, err := loadSeries(os.DirFS(filepath.Join("testdata", folder)))
	require.NoError(t, err)
	return s
}

// TestScenarios holds each folder of testdata against testdata/upstream. The
// file want in it is what comes of it: the changed files in full, or the error.
// Every folder was made with git format-patch, and where it is to fail, one
// thing in it was then broken by hand: its name says which.
func TestScenarios(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	require.NoError(t, err)
	n := 0
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "upstream" || e.Name() == "fuzz" {
			continue
		}
		n++
		t.Run(e.Name(), func(t *testing.T) {
			golden(t, filepath.Join("testdata", e.Name(), "want"), outcome(e.Name()))
		})
	}
	assert.Greater(t, n, 20, "scenarios")
}

func outcome(folder string) string {
	s, err := loadSeries(os.DirFS(filepath.Join("testdata", folder)))
	if err != nil {
		return "load: " + err.Error() + "\n"
	}
	var out strings.Builder
	if err := s.Lint(); err != nil {
		fmt.Fprintf(&out, "lint: %v\n", err)
	}
	changes, err := s.Apply(os.DirFS("testdata/upstream"))
	if err != nil {
		fmt.Fprintf(&out, "apply: %v\n", err)
	}
	for _, c := range changes {
		if strings.HasPrefix(folder, "lint-") {
			break // it applies, and that is all
		}
		what := ""
		if c.Deleted {
			what = " deleted"
		} else if c.Exec {
			what = " executable"
		}
		fmt.Fprintf(&out, "== %s%s\n%s", c.Path, what, c.Data)
		if len(c.Data) > 0 && c.Data[len(c.Data)-1] != '\n' {
			out.WriteString("\\ no newline\n")
		}
	}
	return out.String()
}

// TestScenariosFail guards the goldens: an update must not turn a scenario
// that is to fail into one that does not.
func TestScenariosFail(t *testing.T) {
	for _, folder := range []string{
		"fuzzy", "moved", "missing-file", "missing-file-of-two", "made-twice", "deletes-another",
		"deletes-less", "file-goes-on", "no-context", "all-that-fail",
	} {
		changes, err := load(t, folder).Apply(os.DirFS("testdata/upstream"))
		var ae *ApplyError
		require.ErrorAs(t, err, &ae, folder)
		assert.Nil(t, changes, folder)
		for _, f := range ae.Failures {
			assert.NotEmpty(t, f.Patch, folder)
			assert.NotEmpty(t, f.File, folder)
			if f.Hunk > 0 {
				assert.Positive(t, f.Line, folder)
				assert.Positive(t, f.PatchLine, folder)
			}
		}
	}
	matches, err := filepath.Glob("testdata/lint-*")
	require.NoError(t, err)
	for _, folder := range matches {
		assert.Error(t, load(t, filepath.Base(folder)).Lint(), folder)
	}
	matches, err = filepath.Glob("testdata/parse-*")
	require.NoError(t, err)
	for _, folder := range matches {
		_, err := loadSeries(os.DirFS(folder))
		assert.Error(t, err, folder)
	}
}

// TestGitAgrees applies the good scenario with git and compares: what this
// package makes of a patch is what its author saw. It is the one test that
// runs git, and skips without it.
func TestGitAgrees(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/upstream")))
	s := load(t, "applies")
	for _, p := range s {
		cmd := exec.Command(git, "apply", "-")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(string(p.raw))
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	changes, err := s.Apply(os.DirFS("testdata/upstream"))
	require.NoError(t, err)
	for _, c := range changes {
		got, err := os.ReadFile(filepath.Join(dir, c.Path))
		if c.Deleted {
			assert.ErrorIs(t, err, fs.ErrNotExist, c.Path)
			continue
		}
		require.NoError(t, err, c.Path)
		assert.Equal(t, string(got), string(c.Data), c.Path)
		info, err := os.Stat(filepath.Join(dir, c.Path))
		require.NoError(t, err)
		assert.Equal(t, info.Mode()&0o100 != 0, c.Exec, c.Path)
	}
}

func TestSeries(t *testing.T) {
	s := load(t, "applies")
	require.Len(t, s, 4)
	assert.Equal(t, "build", s[0].Area)
	assert.Equal(t, "take the header from the system", s[0].Title)
	assert.Equal(t, "the fake engine is wrong.", s[0].Section("Symptom"))
	assert.Equal(t, "the scenario that it is in.", s[0].Section("Tests"))
	assert.Equal(t, "N/A only a test has it", s[0].Upstream)
	assert.Equal(t, []string{s[0].Name}, s.Area(BuildArea).Names())

	// the hash covers names, bytes and order
	hash := s.Hash()
	assert.Equal(t, hash, load(t, "applies").Hash())
	assert.NotEqual(t, hash, s[:3].Hash())
	assert.NotEqual(t, hash, Series{s[1], s[0], s[2], s[3]}.Hash())
	renamed := *s[0]
	renamed.Name = "0001-build-other.patch"
	assert.NotEqual(t, hash, Series{&renamed, s[1], s[2], s[3]}.Hash())
}

// TestEmbedded lints the real series.
func TestEmbedded(t *testing.T) {
	s, err := Embedded()
	require.NoError(t, err)
	require.NotEmpty(t, s)
	assert.NoError(t, s.Lint())
	assert.NotEmpty(t, s.Area(BuildArea), "the host does not build without its fixes")
	files, err := filepath.Glob("*.patch")
	require.NoError(t, err)
	sort.Strings(files)
	assert.Equal(t, files, s.Names())
}

// TestEmbeddedApplies applies the real series, and the build fixes alone, to
// the pinned host where the module cache has it.
func TestEmbeddedApplies(t *testing.T) {
	s, err := Embedded()
	require.NoError(t, err)
	host := hostDir(t)
	goSum, err := os.ReadFile("../go.sum")
	require.NoError(t, err)
	sum, err := PinnedSum(goSum)
	require.NoError(t, err)
	require.NoError(t, verifySource(host, sum))
	_, err = s.Apply(os.DirFS(host))
	assert.NoError(t, err)
	_, err = s.Area(BuildArea).Apply(os.DirFS(host))
	assert.NoError(t, err)
}

// hostDir returns the pinned host in the module cache; a test without it
// skips, and never goes to the network.
func hostDir(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", HostModule+"@"+HostVersion)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOPROXY=off", "GOFLAGS=-mod=mod")
	out, err := cmd.Output()
	m := regexp.MustCompile(`"Dir": "([^"]+)"`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Skipf("SKIP: %s %s is not in the module cache: run make host", HostModule, HostVersion)
	}
	return string(m[1])
}

// TestPin holds the version in this package to the one in go.mod.
func TestPin(t *testing.T) {
	mod, err := os.ReadFile("../go.mod")
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(HostModule) + ` (\S+)`).
		FindSubmatch(mod)
	require.NotNil(t, m)
	assert.Equal(t, string(m[1]), HostVersion, "go.mod and HostVersion must name one host")
}

// FuzzLoad: whatever bytes a patch file has, it is refused or parsed, and what
// parses applies or fails, without a panic.
func FuzzLoad(f *testing.F) {
	matches, err := filepath.Glob("testdata/*/*.patch")
	require.NoError(f, err)
	for _, name := range matches {
		data, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(data)
	}
	upstream := os.DirFS("testdata/upstream")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := loadSeries(fstest.MapFS{"0001-engine-x.patch": {Data: data}})
		if err != nil {
			return
		}
		s.Lint()
		changes, err := s.Apply(upstream)
		if err == nil {
			for _, c := range changes {
				assert.True(t, filepath.IsLocal(c.Path), c.Path)
			}
		}
	})
}

// TestBackendVersion: the number by which a program and its backends know each other is a hash of
// all that the series changes in ggml, so that those of another series are refused.
func TestBackendVersion(t *testing.T) {
	s, err := Embedded()
	require.NoError(t, err)
	number := regexp.MustCompile(`GGML_BACKEND_API_VERSION 0x[0-9a-f]{8}`)
	h := sha256.New()
	var in *Patch
	for _, p := range s {
		for _, f := range p.Files {
			if !strings.HasPrefix(f.NewName, "ml/backend/ggml/ggml/") {
				continue
			}
			fmt.Fprintln(h, f.NewName)
			for _, fragment := range f.TextFragments {
				text := fragment.String()
				if number.MatchString(text) {
					in = p
				}
				fmt.Fprintln(h, number.ReplaceAllString(text, ""))
			}
		}
	}
	require.NotNil(t, in, "a patch sets GGML_BACKEND_API_VERSION")
	// 28 bits: it is an int, and never upstream's small number
	want := "GGML_BACKEND_API_VERSION 0x1" + hex.EncodeToString(h.Sum(nil))[:7]
	golden(t, in.Name, string(number.ReplaceAll(in.raw, []byte(want))))
}
