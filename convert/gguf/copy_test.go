package gguf

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
	"github.com/longrope/longrope/convert/gguf/gguftest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plainWriter hides that a file is one, so that the copy goes through memory, as it does into the
// store.
type plainWriter struct{ io.Writer }

// TestHostileHeaderMemory: a header at the caps is held in bounded memory.
func TestHostileHeaderMemory(t *testing.T) {
	fx := gguftest.Tiny("llama")
	for i := range 3000 { // 48 MiB of values just small enough to be held, and 3000 keys
		fx.KVs = append(fx.KVs, gguftest.KV{
			Key:   fmt.Sprintf("foreign.%d", i),
			Value: string(make([]byte, maxInlineValue-8)),
		})
	}
	b := fx.Bytes()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := DecodeBytes(b)
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
	assert.True(t, bytes.Equal(b, encode(t, NewEdit(f))))
}

// TestLargeTensor: data of many blocks arrive unchanged, by each way of copying and wherever the
// pages fall.
func TestLargeTensor(t *testing.T) {
	dir := t.TempDir()
	in := gguftest.Large(t, dir, 5<<20+7*1024, true)
	want, err := os.ReadFile(in)
	require.NoError(t, err)
	f, err := Open(in)
	require.NoError(t, err)
	defer f.Close()
	for shift := range 3 { // 0: the header keeps its length, and the kernel copies
		e := NewEdit(f)
		if shift > 0 {
			e.Set("shift", string(make([]byte, shift*1500)))
		}
		p, err := e.Lay()
		require.NoError(t, err)
		for _, fast := range []bool{true, false} {
			out := filepath.Join(dir, "out")
			require.NoError(t, atomicfile.Write(out, func(w io.Writer) error {
				if fast {
					return p.Write(context.Background(), w, nil)
				}
				return p.Write(context.Background(), plainWriter{w}, nil)
			}))
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			require.Equal(t, p.Size, int64(len(got)))
			data := want[f.parts[0].data:]
			require.True(t, bytes.Equal(data, got[len(got)-len(data):]), "shift %d, fast %v", shift,
				fast)
			if shift == 0 {
				require.True(t, bytes.Equal(want, got))
			}
		}
	}
}

// TestSourceShrinks: a source that is cut while it is copied is an error, not a short output.
func TestSourceShrinks(t *testing.T) {
	dir := t.TempDir()
	in := gguftest.Large(t, dir, 64<<20, false)
	for _, fast := range []bool{true, false} {
		f, err := Open(in)
		require.NoError(t, err)
		p, err := NewEdit(f).Lay()
		require.NoError(t, err)
		fi, err := os.Stat(in)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(in, fi.Size()/2))
		w, err := os.Create(filepath.Join(dir, "out"))
		require.NoError(t, err)
		if fast {
			err = p.Write(context.Background(), w, nil)
		} else {
			err = p.Write(context.Background(), plainWriter{w}, nil)
		}
		require.ErrorContains(t, err, "became shorter")
		require.NoError(t, w.Close())
		require.NoError(t, f.Close())
		require.NoError(t, os.Truncate(in, fi.Size()))
	}
}
