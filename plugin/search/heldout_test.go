package search

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/plugin/search/searchtest"
	"github.com/longrope/longrope/ropescale/study"
)

// FuzzHeldOut: no file of losses makes the reader panic, and the losses that it takes in are in the
// part of the file that it names.
func FuzzHeldOut(f *testing.F) {
	dir := f.TempDir()
	h := &heldOut{ids: []string{"a"}, length: 8, windows: [][]int{{1}, {2}}, losses: Losses{}}
	journal := filepath.Join(dir, "study")
	require.NoError(f, h.open(journal, nil, 1000))
	require.NoError(f, h.write(heldOutLine{3, 1, study.Losses{2.5}}))
	require.NoError(f, h.write(heldOutLine{3, 0, study.Losses{math.Inf(1)}}))
	h.close()
	b, err := os.ReadFile(heldOutFile(journal))
	require.NoError(f, err)
	header, losses, whole := parseHeldOut(b)
	require.NotNil(f, header)
	require.Equal(f, len(b), whole)
	require.Equal(f, Losses{3: {1: 2.5, 0: math.Inf(1)}}, losses)
	f.Add(b)
	f.Add(b[:len(b)-4])
	f.Add([]byte("{}\n"))
	f.Add(
		[]byte(
			`{"longrope_held_out":2,"length":1,"windows":1}` + "\n" +
				`{"candidate":-1,"loss":["inf"]}` + "\n",
		),
	)
	f.Fuzz(func(t *testing.T, b []byte) {
		header, losses, whole := parseHeldOut(b)
		if whole > len(b) || whole > 0 && b[whole-1] != '\n' || (header == nil) != (whole == 0) {
			t.Fatalf("%d of %d bytes, header %v", whole, len(b), header)
		}
		for _, l := range losses {
			for w := range l {
				if w < 0 || w >= header.Windows {
					t.Fatalf("window %d of %d", w, header.Windows)
				}
			}
		}
		again, same, _ := parseHeldOut(b[:whole])
		require.Equal(t, header, again)
		require.Equal(t, losses, same)
	})
}

// heldOutTest opens the losses next to a journal, for a study that knows the candidates 0 to 19.
func heldOutTest(t *testing.T, journal, text string) *heldOut {
	t.Helper()
	known := map[int]bool{}
	for i := range 20 {
		known[i] = true
	}
	h := &heldOut{
		ids: []string{text}, length: 8, windows: [][]int{{1, 2}, {3, 4}}, losses: Losses{},
	}
	require.NoError(t, h.open(journal, known, 1600))
	return h
}

// A loss is not evaluated again, and a file of other texts is restarted.
func TestHeldOutResumes(t *testing.T) {
	journal := filepath.Join(t.TempDir(), "s")
	reader := searchtest.New(evals.Info{OriginalContextLength: 128})
	h := heldOutTest(t, journal, "a")
	assert.Equal(t, []int{0}, h.live)
	assert.True(t, h.may(false))
	require.NoError(t, h.measure(t.Context(), reader, 0, true))
	assert.Equal(t, 16, h.spent)
	p := h.perplexity(0, true)
	require.NotNil(t, p)
	h.close()

	f, err := os.OpenFile(heldOutFile(journal), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"candidate":5,"win`) // a kill
	require.NoError(t, err)
	f.Close()
	h = heldOutTest(t, journal, "a")
	assert.Equal(t, 16, h.spent)
	assert.Equal(t, p, h.perplexity(0, true))
	require.NoError(t, h.measure(t.Context(), nil, 0, true), "there is nothing left to evaluate")
	for c := 1; h.may(false); c++ {
		require.Less(t, c, 20)
		require.NoError(t, h.measure(t.Context(), reader, c, false))
	}
	assert.Equal(t, 80, h.spent, "a twentieth of 1600")
	for c := 1; h.may(true); c++ {
		require.Less(t, c, 20)
		require.NoError(t, h.measure(t.Context(), reader, c, true))
	}
	assert.Equal(t, 160, h.spent, "and once more at the end")
	h.close()

	h = heldOutTest(t, journal, "b")
	assert.Zero(t, h.spent)
	assert.Empty(t, h.losses)
	h.close()
}

// The best start is measured in any case, and so is the first candidate that is better.
func TestHeldOutInAnyCase(t *testing.T) {
	const starts = 6
	h := &heldOut{losses: Losses{0: {}, 1: {}}}
	assert.False(t, h.must(1, starts), "it was measured")
	assert.True(t, h.must(4, starts))
	assert.True(t, h.must(6, starts))
	h.losses[6] = nil
	assert.False(t, h.must(9, starts), "an earlier one was better, too")
}

// Losses belong to one study: with another header of the journal, or for candidates that the study
// does not know, the file is restarted, and nobody is shown them.
func TestHeldOutOfAnotherStudy(t *testing.T) {
	journal := filepath.Join(t.TempDir(), "s")
	reader := searchtest.New(evals.Info{OriginalContextLength: 128})
	write := func(header string) {
		require.NoError(t, os.WriteFile(journal, []byte(header+"\n{}\n"), 0o644))
	}
	measured := func() {
		h := heldOutTest(t, journal, "a")
		require.NoError(t, h.measure(t.Context(), reader, 3, true))
		h.close()
	}
	write(`{"longrope_study":7,"seed":1}`)
	measured()
	h := heldOutTest(t, journal, "a")
	assert.Equal(t, 16, h.spent, "the same study")
	h.close()
	shown, err := ReadHeldOut(journal)
	require.NoError(t, err)
	assert.Len(t, shown.Losses, 1)

	write(`{"longrope_study":7,"seed":2}`)
	shown, err = ReadHeldOut(journal)
	require.NoError(t, err)
	assert.Empty(t, shown.Losses)
	h = heldOutTest(t, journal, "a")
	assert.Zero(t, h.spent)
	assert.Nil(t, h.perplexity(3, true), "candidate 3 of seed 2 is another one")
	h.close()

	measured()
	h = &heldOut{ids: []string{"a"}, length: 8, windows: [][]int{{1, 2}, {3, 4}}, losses: Losses{}}
	require.NoError(t, h.open(journal, map[int]bool{0: true}, 1600))
	assert.Zero(t, h.spent, "the journal was removed and begun again: it has no candidate 3")
	h.close()
}

// Discarding a search removes its losses on held-out text with or without the journal.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	journal, other := filepath.Join(dir, "x.study"), filepath.Join(dir, "book.txt")
	for _, path := range []string{journal + ".held-out", other, other + ".held-out"} {
		require.NoError(t, os.WriteFile(path, []byte("text\n"), 0o644))
	}
	require.NoError(t, discard(journal))
	assert.NoFileExists(t, journal+".held-out")
	require.NoError(t, discard(other))
	assert.FileExists(t, other, "it is no journal")
	assert.FileExists(t, other+".held-out")
	for _, path := range []string{journal, journal + ".held-out"} {
		require.NoError(t, os.WriteFile(path, []byte(`{"longrope_study":7}`+"\n"), 0o644))
	}
	require.NoError(t, discard(journal))
	assert.NoFileExists(t, journal)
	assert.NoFileExists(t, journal+".held-out")
}
