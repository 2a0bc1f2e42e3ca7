package convert

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf/gguftest"
)

// onReadOnly names, for a process of TestReadOnlyStore, the store that is on a read-only disk.
const onReadOnly = "LONGROPE_TEST_READ_ONLY"

// TestReadOnlyStore: a store on a disk that is mounted read-only can be read, ladders of layers
// too. All that writes there is an error that says where, for root as well.
func TestReadOnlyStore(t *testing.T) {
	if dir := os.Getenv(onReadOnly); dir != "" {
		readOnlyStore(t, dir)
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("SKIP: the disk of this test is mounted on Linux alone")
	}
	s := testStore(t, gguftest.Tiny("llama"), "")
	src, err := Resolve("tiny")
	require.NoError(t, err)
	_, err = ConvertToLayer(src, "long", ladder(), Options{})
	require.NoError(t, err)
	before := stored(t, s)

	const mount = `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 9
exec "$2" -test.run '^TestReadOnlyStore$' -test.v`
	cmd := exec.Command("unshare", "-rm", "sh", "-c", mount, "sh", s.Dir, os.Args[0])
	cmd.Env = append(os.Environ(), onReadOnly+"="+s.Dir)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "TestReadOnlyStore") {
		t.Skipf("SKIP: no disk can be mounted here: %v: %s", err, out)
	}
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestReadOnlyStore")
	assert.Equal(t, before, stored(t, s))
}

// readOnlyStore is what the process does that has the read-only disk.
func readOnlyStore(t *testing.T, dir string) {
	require.Error(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0o644), "the control")
	t.Setenv("OLLAMA_MODELS", dir)
	src, err := Resolve("long")
	require.NoError(t, err)
	info, err := src.Inspect()
	require.NoError(t, err)
	assert.Len(t, info.Ladder.Rungs, 2)
	_, layered := ConvertToLayer(src, "other", ladder(), Options{})
	_, baked := ConvertToStore(context.Background(), src, "other", ladder(), Options{})
	_, stripped := StripLayer(src, "other")
	for i, err := range []error{layered, baked, stripped} {
		require.ErrorContains(t, err, "read-only file system")
		require.Regexp(t, "^cannot write to the (folder of|store in) "+dir, err.Error(), i)
	}
	// the disk of the store is read, another one is written
	file := filepath.Join(t.TempDir(), "stripped.gguf")
	_, err = StripSource(context.Background(), src, file, Options{})
	require.NoError(t, err)
	digest, err := FileDigest(file)
	require.NoError(t, err)
	assert.Equal(t, src.Digest, digest)
}
