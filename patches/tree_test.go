package patches

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeHost copies testdata/upstream to a folder that looks like the host.
func fakeHost(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "module")
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/upstream")))
	write(t, dir, "go.mod", "module "+HostModule+"\n")
	write(t, dir, ".gitattributes", "* text=auto\n")
	return dir
}

func write(t *testing.T, dir, name, data string) {
	t.Helper()
	name = filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(data), 0o644))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(data)
}

// source gives a folder and counts how often it was asked for.
func source(dir string, asked *int) func() (string, error) {
	return func() (string, error) { *asked++; return dir, nil }
}

// age sets every file's time back, so that a rewritten one stands out.
func age(t *testing.T, dir string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	require.NoError(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chtimes(name, old, old)
		}
		return err
	}))
}

// fresh lists the files that were written since age.
func fresh(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == stampName {
			return err
		}
		info, err := d.Info()
		if err == nil && time.Since(info.ModTime()) < 30*time.Minute {
			rel, _ := filepath.Rel(dir, name)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	}))
	return out
}

func TestPrepare(t *testing.T) {
	host, dst, asked := fakeHost(t), filepath.Join(t.TempDir(), "build", "host"), 0
	s := load(t, "applies")
	o := Options{Source: source(host, &asked), Dst: dst, Series: s[:3]}

	r, err := Prepare(o)
	require.NoError(t, err)
	assert.True(t, r.Created)
	assert.Contains(t, read(t, dst, "engine/rope.c"), "theta / 2 * p")
	assert.Equal(t, "int rows;\n", read(t, dst, "engine/rows.c"))
	assert.NoFileExists(t, filepath.Join(dst, "docs/old.txt"))
	stamp, err := ReadStamp(dst)
	require.NoError(t, err)
	assert.Equal(t, s[:3].Hash(), stamp.Series)
	assert.Equal(t, HostModule+"@"+HostVersion, stamp.Host)
	assert.Equal(t, []string{"docs/new.txt", "engine/rope.c", "engine/rows.c", "engine/shift.c"},
		stamp.Touched)
	entries, err := os.ReadDir(filepath.Dir(dst))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing is left next to the tree")

	t.Run("no git, so no git configuration, takes part", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		t.Setenv("GIT_CONFIG_GLOBAL", "/dev/full")
		other := filepath.Join(t.TempDir(), "host")
		_, err := Prepare(Options{Source: source(host, new(int)), Dst: other, Series: s[:3]})
		require.NoError(t, err)
		assert.Equal(t, stamp, must(ReadStamp(other)))
	})
	t.Run("a second run does nothing and needs no source", func(t *testing.T) {
		age(t, dst)
		r, err := Prepare(o)
		require.NoError(t, err)
		assert.True(t, r.UpToDate())
		assert.Equal(t, 1, asked)
		assert.Empty(t, fresh(t, dst))
	})
	t.Run("a longer series writes what it changes", func(t *testing.T) {
		o.Series = s
		r, err := Prepare(o)
		require.NoError(t, err)
		assert.Equal(t, []string{"engine/rope.c", "engine/rows.c", "scripts/run.sh"}, r.Written)
		assert.Empty(t, r.Removed)
		assert.Equal(t, r.Written, fresh(t, dst))
		info, err := os.Stat(filepath.Join(dst, "scripts/run.sh"))
		require.NoError(t, err)
		assert.NotZero(t, info.Mode()&0o100, "executable")
	})
	t.Run("a shorter series takes its files away", func(t *testing.T) {
		age(t, dst)
		o.Series = s[:1]
		r, err := Prepare(o)
		require.NoError(t, err)
		assert.Equal(t,
			[]string{"docs/name.txt", "docs/old.txt", "engine/rope.c", "scripts/run.sh"}, r.Written)
		assert.Equal(t, []string{"docs/new.txt", "engine/rows.c"}, r.Removed)
		assert.Equal(t, r.Written, fresh(t, dst))
		assert.Equal(t, read(t, host, "engine/rope.c"), read(t, dst, "engine/rope.c"))
	})
	t.Run("a series that fails writes nothing", func(t *testing.T) {
		age(t, dst)
		o.Series = load(t, "all-that-fail")
		_, err := Prepare(o)
		var ae *ApplyError
		require.ErrorAs(t, err, &ae)
		assert.Empty(t, fresh(t, dst))
		assert.Equal(t, s[:1].Hash(), must(ReadStamp(dst)).Series)

		o.Dst = filepath.Join(t.TempDir(), "new")
		_, err = Prepare(o)
		require.ErrorAs(t, err, &ae)
		assert.NoDirExists(t, o.Dst)
		entries, err := os.ReadDir(filepath.Dir(o.Dst))
		require.NoError(t, err)
		assert.Empty(t, entries)
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPrepareEdited(t *testing.T) {
	host, dst, asked := fakeHost(t), filepath.Join(t.TempDir(), "host"), 0
	o := Options{Source: source(host, &asked), Dst: dst, Series: load(t, "applies")}
	_, err := Prepare(o)
	require.NoError(t, err)
	clean := read(t, dst, "engine/rope.c")

	write(t, dst, "engine/rope.c", clean+"// mine\n")
	write(t, dst, "engine/mine.c", "int mine;\n")
	write(t, dst, "build/cache.o", "what cmake writes\n")
	write(t, dst, "engine/.rope.c.swp", "what an editor writes\n")
	require.NoError(t, os.Remove(filepath.Join(dst, ".gitattributes")))
	for _, s := range []Series{o.Series, o.Series[:1]} {
		o.Series = s
		_, err = Prepare(o)
		var ee *EditedError
		require.ErrorAs(t, err, &ee)
		assert.Equal(
			t,
			[]string{
				".gitattributes (removed)",
				"engine/mine.c (added)",
				"engine/rope.c (changed)",
			},
			ee.Files,
		)
		assert.ErrorContains(t, err, "-force")
		assert.Contains(t, read(t, dst, "engine/rope.c"), "// mine")
	}

	o.Series, o.Force = load(t, "applies"), true
	r, err := Prepare(o)
	require.NoError(t, err)
	assert.Len(t, r.Discarded, 3)
	assert.Equal(t, clean, read(t, dst, "engine/rope.c"))
	assert.NoFileExists(t, filepath.Join(dst, "engine/mine.c"))
	assert.FileExists(t, filepath.Join(dst, "build/cache.o"))
	o.Force = false
	assert.True(t, must(Prepare(o)).UpToDate())
}

// TestPrepareKilled leaves a tree as a run does that is killed between two
// files: the next run must complete it, not call it edited.
func TestPrepareKilled(t *testing.T) {
	host, dst, asked := fakeHost(t), filepath.Join(t.TempDir(), "host"), 0
	s := load(t, "applies")
	o := Options{Source: source(host, &asked), Dst: dst, Series: s[:1]}
	_, err := Prepare(o)
	require.NoError(t, err)

	o.Series = s
	killed := errors.New("killed")
	testHookWritten = func(p string) error {
		if p == "engine/rope.c" {
			return killed
		}
		return nil
	}
	defer func() { testHookWritten = nil }()
	_, err = Prepare(o)
	require.ErrorIs(t, err, killed)
	testHookWritten = nil
	assert.Contains(t, read(t, dst, "engine/rope.c"), "theta / 4")
	assert.NoFileExists(t, filepath.Join(dst, "engine/rows.c"), "comes after rope.c")

	r, err := Prepare(o)
	require.NoError(t, err)
	assert.Equal(t, []string{"engine/rows.c", "scripts/run.sh"}, r.Written,
		"what is done stays done")
	want := writeTree(t, host, s)
	for p := range must(ReadStamp(want)).Files {
		assert.Equal(t, read(t, want, p), read(t, dst, p), p)
	}
	assert.Nil(t, must(ReadStamp(dst)).Pending)
	assert.NoFileExists(t, filepath.Join(dst, "docs/old.txt"))
	assert.True(t, must(Prepare(o)).UpToDate())
}

func writeTree(t *testing.T, host string, s Series) string {
	t.Helper()
	dst, asked := filepath.Join(t.TempDir(), "tree"), 0
	_, err := Prepare(Options{Source: source(host, &asked), Dst: dst, Series: s})
	require.NoError(t, err)
	return dst
}

func TestPrepareRefuses(t *testing.T) {
	host, asked := fakeHost(t), 0
	s := load(t, "applies")
	t.Run("a folder that is not its own", func(t *testing.T) {
		dst := t.TempDir()
		write(t, dst, "thesis.tex", "years of work")
		_, err := Prepare(Options{Source: source(host, &asked), Dst: dst, Series: s})
		assert.ErrorContains(t, err, "was not made by this tool")
		assert.Equal(t, "years of work", read(t, dst, "thesis.tex"))
	})
	t.Run("a stamp that does not parse", func(t *testing.T) {
		dst := t.TempDir()
		write(t, dst, stampName, "{")
		_, err := Prepare(Options{Source: source(host, &asked), Dst: dst, Series: s})
		assert.ErrorContains(t, err, stampName)
	})
	t.Run("another source than the pinned one", func(t *testing.T) {
		dst := filepath.Join(t.TempDir(), "host")
		_, err := Prepare(
			Options{Source: source(host, &asked), Sum: "h1:other", Dst: dst, Series: s})
		assert.ErrorContains(t, err, "go.sum pins h1:other")
		assert.NoDirExists(t, dst)
		_, err = Prepare(Options{Source: source(t.TempDir(), &asked), Dst: dst, Series: s})
		assert.ErrorContains(t, err, "not a source tree of the host")
		_, err = Prepare(
			Options{
				Source: func() (string, error) { return "", errors.New("offline") },
				Dst:    dst,
				Series: s,
			},
		)
		assert.ErrorContains(t, err, "offline")
	})
}

// TestSourceSum: a clone of the tag has the module's sum whatever git, a
// vendored header or another module add to it, and a changed byte shows.
func TestSourceSum(t *testing.T) {
	module := fakeHost(t)
	files, err := readSource(module, "")
	require.NoError(t, err)
	sum := h1(files)
	require.NoError(t, verifySource(module, sum))

	clone := fakeHost(t)
	write(t, clone, ".git/HEAD", "ref: refs/heads/main\n")
	write(t, clone, "sub/go.mod", "module other\n")
	write(t, clone, "sub/sub.c", "int sub;\n")
	write(t, clone, "llama/llama.cpp/vendor/stb/stb_image.h", "// stb\n")
	write(t, clone, "app/vendor/x/x.c", "int x;\n")
	require.NoError(t, os.Symlink("engine", filepath.Join(clone, "link")))
	require.NoError(t, verifySource(clone, sum))
	tree := writeTree(t, clone, nil)
	assert.FileExists(t, filepath.Join(tree, "llama/llama.cpp/vendor/stb/stb_image.h"))
	assert.NoFileExists(t, filepath.Join(tree, "app/vendor/x/x.c"))
	assert.NoDirExists(t, filepath.Join(tree, ".git"))

	write(t, clone, "engine/shift.c", "int shift(int p) {\n    return p - 3;\n}\n")
	assert.ErrorContains(t, verifySource(clone, sum), "go.sum pins "+sum)
}

func TestTable(t *testing.T) {
	s, err := Embedded()
	require.NoError(t, err)
	readme := read(t, ".", "README.md")
	got, err := withTable(readme, s.Table())
	require.NoError(t, err)
	golden(t, "README.md", got)
	for _, p := range s {
		assert.Contains(t, got, "]("+p.Name+") | "+p.Area)
		assert.Contains(t, got, p.Upstream)
	}
	_, err = withTable("no markers", "")
	assert.Error(t, err)
}

// TestHeaderMark: folders that use cgo have a file that changes when a header elsewhere does, and
// only then.
func TestHeaderMark(t *testing.T) {
	host := fakeHost(t)
	write(t, host, "cgo/a.go", "package cgo\n\n// #include \"x.h\"\nimport \"C\"\n")
	write(t, host, "pure/a.go", "package pure\n\nimport \"fmt\"\n")
	files, err := readSource(host, "")
	require.NoError(t, err)
	marks := func(changes ...Change) string {
		pl := &plan{
			source:  host,
			changes: map[string]Change{},
			stamp:   &Stamp{Files: map[string]string{}},
		}
		for _, c := range changes {
			pl.changes[c.Path] = c
		}
		require.NoError(t, pl.markHeaders(files))
		assert.Equal(t, []string{"cgo/" + headerMark}, sortedKeys(pl.stamp.Files))
		return string(pl.changes["cgo/"+headerMark].Data)
	}
	plain := marks(Change{Path: "include/x.h", Data: []byte("1")})
	assert.NotEqual(t, plain, marks(Change{Path: "include/x.h", Data: []byte("2")}))
	assert.Equal(
		t,
		plain,
		marks(Change{Path: "include/x.h", Data: []byte("1")},
			Change{Path: "src/x.cpp", Data: []byte("2")}),
	)
}
