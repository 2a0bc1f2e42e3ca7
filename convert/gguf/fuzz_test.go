package gguf

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf/gguftest"
)

// FuzzSplit: two files that claim to be the parts of one model. Nothing panics; what is taken in as
// one can be written as one file, which has the same tensors and says nothing of parts.
func FuzzSplit(f *testing.F) {
	fx := gguftest.Tiny("llama")
	half := len(fx.Tensors) / 2
	first, second := fx, gguftest.Fixture{Tensors: fx.Tensors[half:]}
	first.Tensors = fx.Tensors[:half]
	part := func(fx gguftest.Fixture, no uint16) []byte {
		return fx.With(keySplitNo, no).With(keySplitCount, uint16(2)).
			With(keySplitTensors, int32(len(first.Tensors)+len(second.Tensors))).Bytes()
	}
	f.Add(part(first, 0), part(second, 1))
	f.Add(part(first, 0), part(first, 1))
	f.Add(part(second, 0), part(first, 1))
	dir := f.TempDir()
	paths := [2]string{
		filepath.Join(dir, "m-00001-of-00002.gguf"), filepath.Join(dir, "m-00002-of-00002.gguf"),
	}
	_, err := Open(paths[0])
	require.ErrorIs(f, err, os.ErrNotExist)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		require.NoError(t, os.WriteFile(paths[0], a, 0o600))
		require.NoError(t, os.WriteFile(paths[1], b, 0o600))
		file, err := Open(paths[1])
		if err != nil {
			return
		}
		defer file.Close()
		again, err := DecodeBytes(encode(t, NewEdit(file)))
		require.NoError(t, err)
		if len(file.parts) > 1 {
			require.NotContains(t, again.KVs, keySplitCount)
		}
		require.Len(t, again.Tensors, len(file.Tensors))
		for i := range file.Tensors {
			x, err := file.TensorBytes(&file.Tensors[i])
			require.NoError(t, err)
			y, err := again.TensorBytes(&again.Tensors[i])
			require.NoError(t, err)
			require.True(t, bytes.Equal(x, y), file.Tensors[i].Name)
		}
	})
}
