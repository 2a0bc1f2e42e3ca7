package search

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/search/searchtest"
)

// openTiny is the model of searchtest, loaded.
func openTiny(t *testing.T, length int) (*searchtest.Fake, *convert.ModelInfo) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	require.NoError(t, os.WriteFile(path, searchtest.TinyGGUF("llama"), 0o644))
	info, err := convert.Inspect(path)
	require.NoError(t, err)
	e, err := searchtest.Open(path, "tiny", length)
	require.NoError(t, err)
	return e, info
}

func TestBundledTexts(t *testing.T) {
	e := searchtest.New(evals.Info{})
	texts, err := TextsFor(e, nil, searchBooks, 1000, 3)
	require.NoError(t, err)
	assert.Len(t, texts, 2)
	// One alone is too short for its share: together they are not.
	texts, err = TextsFor(e, nil, searchBooks, 110_000, 3)
	require.NoError(t, err)
	require.Len(t, texts, 1)
	assert.Equal(t, "ezekiel+opticks-3", texts[0].Name)
	// The long text reaches further.
	texts, err = TextsFor(e, nil, searchBooks, 200_000, 3)
	require.NoError(t, err)
	require.Len(t, texts, 1)
	assert.Equal(t, "old-testament", texts[0].Name)
	_, err = TextsFor(e, nil, searchBooks, 2_000_000, 3)
	assert.ErrorIs(t, err, errBundled)
	assert.ErrorContains(
		t,
		err,
		"the bundled texts are too short for 3 windows of 2000000 tokens, "+
			"which are some 6.0 MB of text",
	)
	given := []evals.Text{{Name: "short", Body: "x"}}
	texts, err = TextsFor(e, given, searchBooks, 1000, 3)
	require.NoError(t, err)
	assert.Equal(t, given, texts)
}

// TestChooseWindows: many windows where they are short, few where they are long, fewer where the
// books end; a number that was asked for is kept or refused.
func TestChooseWindows(t *testing.T) {
	e := searchtest.New(evals.Info{})
	given := []evals.Text{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}
	for _, c := range []struct{ target, asked, want, texts int }{
		{2048, 0, 8, 2},
		{512, 0, 32, 2},
		{64 << 10, 0, 3, 2},
		{128 << 10, 0, 3, 1},
		{1 << 20, 0, 2, 1},
		{2 << 20, 0, 1, 1},
		{2048, 2, 2, 2},
	} {
		o := Options{Windows: c.asked}
		texts, windows, err := o.chooseWindows(e, c.target)
		require.NoError(t, err, c)
		assert.Equal(t, c.want, windows, c)
		assert.Len(t, texts, c.texts, c)
	}
	several := Options{Texts: given}
	_, windows, err := several.chooseWindows(e, 16<<10)
	require.NoError(t, err)
	assert.Equal(t, 4, windows, "one of each text at least")
	for target, asked := range map[int]int{2_000_000: 2, 4_000_000: 0} {
		o := Options{Windows: asked}
		_, _, err = o.chooseWindows(e, target)
		assert.ErrorIs(t, err, errBundled)
	}
}
