package convert

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/convert/gguf/gguftest"
)

// plainWriter hides that a file is one, so that the copy goes through memory, as it does into the
// store.
type plainWriter struct{ io.Writer }

// TestMemory: 512 MiB of tensors pass in less than 64 MiB of memory, through the kernel and through
// a buffer.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	in := gguftest.Large(t, dir, 512<<20, false)
	f, err := gguf.Open(in)
	require.NoError(t, err)
	defer f.Close()
	j, err := prepare(f, nil, ladder(), Options{})
	require.NoError(t, err)
	p, err := j.e.Lay()
	require.NoError(t, err)

	// Everything allocated counts, whether or not it was freed in between: a bound that no garbage
	// collector helps.
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = Convert(context.Background(), in, filepath.Join(dir, "out.gguf"), ladder(), Options{})
	require.NoError(t, err)
	require.NoError(t, p.Write(context.Background(), plainWriter{io.Discard}, nil))
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%.1f MiB allocated for two copies of 512 MiB", float64(allocated)/(1<<20))
	assert.Less(t, allocated, uint64(64<<20))
	assert.Less(t, after.Sys, uint64(128<<20), "memory of the whole test process")

	out, err := gguf.Open(filepath.Join(dir, "out.gguf"))
	require.NoError(t, err)
	defer out.Close()
	x, y := make([]byte, 16), make([]byte, 16)
	for n := int64(0); n < 512<<20; n += 64 << 20 {
		_, err := f.Reader(&f.Tensors[0]).ReadAt(x, n)
		require.NoError(t, err)
		_, err = out.Reader(&out.Tensors[0]).ReadAt(y, n)
		require.NoError(t, err)
		require.True(t, bytes.Equal(x, y))
	}
}

// TestCancel: Ctrl-C in the middle leaves nothing, and the older file as it was.
func TestCancel(t *testing.T) {
	dir := t.TempDir()
	in := gguftest.Large(t, dir, 64<<20, false)
	out := filepath.Join(dir, "out.gguf")
	require.NoError(t, os.WriteFile(out, []byte("older"), 0o644))
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Convert(ctx, in, out, ladder(), Options{Progress: func(done, total int64) {
		assert.LessOrEqual(t, done, total)
		if done > total/2 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	onlyFiles(t, dir, "large.gguf", "out.gguf")
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.Equal(t, "older", string(b))

	// Not cancelled, the progress ends at the total.
	var last, all int64
	r, err := Convert(context.Background(), in, out, ladder(),
		Options{Progress: func(done, total int64) { last, all = done, total }})
	require.NoError(t, err)
	assert.Equal(t, r.Size, last)
	assert.Equal(t, r.Size, all)
}

// TestWriteFails: whatever fails while writing leaves nothing.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	for _, want := range []error{syscall.ENOSPC, errors.New("the cable came out")} {
		err := atomicfile.Write(out, func(w io.Writer) error {
			f := w.(*os.File)
			_, err := f.Write(make([]byte, 1<<16))
			require.NoError(t, err)
			return &os.PathError{Op: "write", Path: f.Name(), Err: want}
		})
		require.ErrorIs(t, err, want)
		if want == syscall.ENOSPC {
			assert.ErrorContains(t, err, "free some space")
		}
		onlyFiles(t, dir)
	}

	in := gguftest.Tiny("llama").Write(t, filepath.Join(dir, "in.gguf"))
	before, err := os.ReadFile(in)
	require.NoError(t, err)
	link := filepath.Join(dir, "link.gguf")
	require.NoError(t, os.Symlink(in, link))
	for _, same := range []string{in, link, filepath.Join(dir, ".", "in.gguf")} {
		_, err = Convert(context.Background(), in, same, ladder(), Options{})
		require.ErrorContains(t, err, "the output is the input")
	}
	after, err := os.ReadFile(in)
	require.NoError(t, err)
	assert.Equal(t, before, after)

	_, err = Convert(context.Background(), in, dir, ladder(), Options{})
	require.ErrorContains(t, err, "not a regular file")
	_, err = Convert(context.Background(), in, filepath.Join(dir, "no", "out.gguf"), ladder(),
		Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Convert(context.Background(), dir, out, ladder(), Options{})
	require.ErrorContains(t, err, "not a regular file")
	onlyFiles(t, dir, "in.gguf", "link.gguf")
}

// TestDiskFull fills a real file system, where the test may mount one.
func TestDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.Mkdir(dir, 0o755))
	if b, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs",
		dir).CombinedOutput(); err != nil {
		t.Skipf("no small file system to fill: mount: %v: %s", err, b)
	}
	defer exec.Command("umount", dir).Run()
	in := gguftest.Large(t, t.TempDir(), 8<<20, true)
	_, err := Convert(context.Background(), in, filepath.Join(dir, "out.gguf"), ladder(), Options{})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "free some space")
	onlyFiles(t, dir)
}

// TestConcurrent: conversions to one name each finish whole; the last one stays.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	in := gguftest.Large(t, dir, 4<<20, true)
	out := filepath.Join(dir, "out.gguf")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			l := ladder()
			l.Rungs[1].Length += i
			_, err := Convert(context.Background(), in, out, l, Options{})
			assert.NoError(t, err)
		}()
	}
	wg.Wait()
	onlyFiles(t, dir, "large.gguf", "out.gguf")
	info, err := Inspect(out)
	require.NoError(t, err)
	last := info.Ladder.Rungs[1].Length
	l := ladder()
	l.Rungs[1].Length = last
	want, _ := convert(t, in, l, Options{})
	a, err := os.ReadFile(want)
	require.NoError(t, err)
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(a, b))
}

// TestPython lets the reference reader, gguf-py, read what was written, and compare it with the
// original.
func TestPython(t *testing.T) {
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	if b, err := exec.Command(python, "-c",
		"from gguf import GGUFReader").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no gguf-py to compare with (pip install gguf; set PYTHON): %v: %s", err,
			b)
	}
	for name, fx := range scaled() {
		in := fx.Write(t, "in.gguf")
		info, err := Inspect(in)
		require.NoError(t, err)
		l := ladder()
		l.OriginalContextLength = info.OriginalContextLength
		out, r := convert(t, in, l, Options{})
		factors := filepath.Join(t.TempDir(), "factors.json")
		w, err := os.Create(factors)
		require.NoError(t, err)
		require.NoError(t, r.Ladder.WriteFactors(w))
		require.NoError(t, w.Close())
		b, err := exec.Command(python, filepath.Join("testdata", "check.py"), in, out,
			factors).CombinedOutput()
		require.NoError(t, err, "%s: %s", name, b)
		t.Logf("%s: %s", name, bytes.TrimSpace(b))
	}
}

// BenchmarkConvert compares with cp. CONVERT_BENCH_MB sets the size (2048 for the figure in the
// issue; the default is small). Each round runs both, the other one first, on a warm page cache;
// both end with the data on disk, or neither: sync/cp is cp and sync of the file, nosync/… leaves
// the fsync out.
func BenchmarkConvert(b *testing.B) {
	mb := 64
	if s := os.Getenv("CONVERT_BENCH_MB"); s != "" {
		var err error
		mb, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	dir := b.TempDir()
	in := gguftest.Large(b, dir, int64(mb)<<20, true)
	out, copied := filepath.Join(dir, "out.gguf"), filepath.Join(dir, "copy.gguf")
	f, err := gguf.Open(in)
	require.NoError(b, err)
	defer f.Close()
	j, err := prepare(f, nil, ladder(), Options{})
	require.NoError(b, err)
	p, err := j.e.Lay()
	require.NoError(b, err)
	run := func(name string, args ...string) {
		if o, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			b.Fatalf("%s: %v: %s", name, err, o)
		}
	}
	timed := func(total *time.Duration, do func()) {
		os.Remove(out)
		os.Remove(copied)
		run("sync", dir)
		start := time.Now()
		do()
		*total += time.Since(start)
	}
	for _, c := range []struct {
		name     string
		cp, ours func()
	}{
		{"sync", func() { run("cp", in, copied); run("sync", copied) }, func() {
			_, err := Convert(context.Background(), in, out, ladder(), Options{})
			require.NoError(b, err)
		}},
		{"nosync", func() { run("cp", in, copied) }, func() {
			w, err := os.Create(out)
			require.NoError(b, err)
			require.NoError(b, p.Write(context.Background(), w, nil))
			require.NoError(b, w.Close())
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(mb) << 20)
			var cp, ours time.Duration
			for i := range b.N {
				if i%2 == 0 {
					timed(&cp, c.cp)
					timed(&ours, c.ours)
				} else {
					timed(&ours, c.ours)
					timed(&cp, c.cp)
				}
			}
			b.ReportMetric(float64(cp)/float64(ours), "throughput/cp")
			b.ReportMetric(float64(int64(b.N)*int64(mb)<<20)/ours.Seconds()/1e6, "convert-MB/s")
			b.ReportMetric(float64(int64(b.N)*int64(mb)<<20)/cp.Seconds()/1e6, "cp-MB/s")
		})
	}
}
