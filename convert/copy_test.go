package convert

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHostileHeaderMemory: a header at the caps is held in bounded memory.
func TestHostileHeaderMemory(t *testing.T) {
	fx := tiny("llama")
	for i := range 3000 { // 48 MiB of values just small enough to be held, and 3000 keys
		fx.kvs = append(fx.kvs, fixtureKV{fmt.Sprintf("foreign.%d", i), string(make([]byte, maxInlineValue-8))})
	}
	b := fx.bytes()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := decodeBytes(b)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
	assert.True(t, bytes.Equal(b, encode(t, newEdit(f))))
}

// TestLargeTensor: data of many blocks arrive unchanged, by each way of copying and wherever the pages fall.
func TestLargeTensor(t *testing.T) {
	dir := t.TempDir()
	in := largeModel(t, dir, 5<<20+7*1024, true)
	want, err := os.ReadFile(in)
	require.NoError(t, err)
	f, err := Open(in)
	require.NoError(t, err)
	defer f.Close()
	for shift := range 3 { // 0: the header keeps its length, and the kernel copies
		e := newEdit(f)
		if shift > 0 {
			e.set("shift", string(make([]byte, shift*1500)))
		}
		p, err := e.lay()
		require.NoError(t, err)
		for _, fast := range []bool{true, false} {
			out := filepath.Join(dir, "out")
			require.NoError(t, atomicfile.Write(out, func(w io.Writer) error {
				if fast {
					return p.write(context.Background(), w, nil)
				}
				return p.write(context.Background(), plainWriter{w}, nil)
			}))
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			require.Equal(t, p.size, int64(len(got)))
			data := want[f.parts[0].data:]
			require.True(t, bytes.Equal(data, got[len(got)-len(data):]), "shift %d, fast %v", shift, fast)
			if shift == 0 {
				require.True(t, bytes.Equal(want, got))
			}
		}
	}
}

// TestSourceShrinks: a source that is cut while it is copied is an error, not a short output.
func TestSourceShrinks(t *testing.T) {
	dir := t.TempDir()
	in := largeModel(t, dir, 64<<20, false)
	for _, fast := range []bool{true, false} {
		f, err := Open(in)
		require.NoError(t, err)
		p, err := newEdit(f).lay()
		require.NoError(t, err)
		fi, err := os.Stat(in)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(in, fi.Size()/2))
		w, err := os.Create(filepath.Join(dir, "out"))
		require.NoError(t, err)
		if fast {
			err = p.write(context.Background(), w, nil)
		} else {
			err = p.write(context.Background(), plainWriter{w}, nil)
		}
		require.ErrorContains(t, err, "became shorter")
		require.NoError(t, w.Close())
		require.NoError(t, f.Close())
		require.NoError(t, os.Truncate(in, fi.Size()))
	}
}
