package longrope

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

// rising has factors from 1 to top, like those of a search.
func rising(length, window int, top, attention float64) ropescale.Rung {
	g := ropescale.Rung{Length: length, StartWindow: window, AttentionFactor: attention}
	for i := range 8 {
		g.Factors = append(g.Factors, math.Pow(top, float64(i)/7))
	}
	return g
}

// extended is the model of fake_test.go with a ladder for 256 and 1k tokens; with a base it has scaling of its own.
func extended(base *ropescale.Rung) *convert.ModelInfo {
	m := &convert.ModelInfo{OriginalContextLength: 128, RopeDimensionCount: 16, FreqBase: 10000, Base: base}
	m.Ladder, _ = ropescale.NewLadder(m.Rope(), base, rising(256, 4, 2, 1.02).Over(base), rising(1024, 16, 8, 1.1).Over(base))
	return m
}

func TestPlan(t *testing.T) {
	plain := &convert.ModelInfo{OriginalContextLength: 128, RopeDimensionCount: 16, FreqBase: 10000}
	for _, s := range plan(plain, []int{256, 1024}) {
		assert.Equal(t, plain.Rope(), s.rope)
		assert.Nil(t, s.base)
		assert.Zero(t, s.stretch)
		assert.Empty(t, s.starts)
	}

	base := rising(128, 0, 3, 1.2)
	for name, base := range map[string]*ropescale.Rung{"plain": nil, "scaled": &base} {
		t.Run(name, func(t *testing.T) {
			m := extended(base)
			steps := plan(m, []int{64, 256, 512, 1024, 4096})
			for _, s := range steps[:4] {
				assert.Equal(t, m.Rope(), s.rope, "a readjustment is relative to the own RoPE")
				assert.Equal(t, base, s.base)
				assert.InDelta(t, 8, s.stretch, 1e-9, "up to the last rung's factors")
				for i, g := range s.starts[:4] {
					power := 1 - 0.25*float64(i)
					assert.InDelta(t, math.Pow(8, power), g.Rung.Factors[7], 1e-9)
					assert.InDelta(t, math.Pow(1.1, power), g.Rung.AttentionFactor, 1e-9)
					assert.Less(t, g.Rung.StartWindow, s.target)
				}
			}
			assert.Len(t, steps[0].starts, 4)
			assert.Len(t, steps[1].starts, 5, "a rung that was readjusted before is a start")
			assert.InDelta(t, 2, steps[1].starts[4].Rung.Factors[7], 1e-9)
			on := steps[4]
			assert.Equal(t, 1024, on.rope.OriginalContextLength, "stretched from the last rung")
			assert.Equal(t, &m.Ladder.Rungs[1], on.base)
			assert.Zero(t, on.stretch)
			assert.Equal(t, "the model's rung for 1k tokens", on.relative)

			// Whatever the search finds, the ladder has it and the other rungs, with the model's own RoPE as row 0.
			l, err := ladderWith(m, rising(64, 0, 1.5, 1), rising(1024, 0, 9, 1), rising(4096, 0, 32, 1))
			require.NoError(t, err)
			var lengths []int
			for _, g := range l.Rungs {
				lengths = append(lengths, g.Length)
			}
			assert.Equal(t, []int{64, 256, 1024, 4096}, lengths)
			assert.InDelta(t, 9, l.Rungs[2].Factors[7], 1e-9, "found anew")
			assert.Equal(t, base, l.Base)
		})
	}
}

// The starts of a rung are what the one below found, stretched the rest of the way; composed with the base they are as long as
// the target asks, and monotone.
func TestAbove(t *testing.T) {
	base := rising(128, 0, 3, 1.2)
	m := extended(&base)
	s := plan(&convert.ModelInfo{OriginalContextLength: 128, RopeDimensionCount: 16, FreqBase: 10000, Base: &base}, []int{1024})[0]
	below := rising(256, 8, 2, 1.03).Over(&base)
	starts := s.above(below)
	require.Len(t, starts, 3)
	for i, name := range seedOrder {
		g := starts[i].Rung.Over(s.base)
		assert.Equal(t, "256+"+name, starts[i].Origin)
		assert.InDelta(t, 3*8, g.Factors[7], 1e-9, "%s: the slowest pair is stretched by 8 in all", name)
		assert.True(t, slices.IsSorted(g.Factors), name)
		assert.Equal(t, 8, g.StartWindow)
		assert.Equal(t, 1024, g.Length)
	}
	assert.InDelta(t, 1.03, starts[1].Rung.AttentionFactor, 1e-9, "NTK adds none")
	assert.InDelta(t, 1.03*ropescale.YaRNAttentionFactor(4), starts[2].Rung.AttentionFactor, 1e-9)

	again := plan(m, []int{64, 128})[1]
	starts = again.above(rising(64, 8, 1.5, 1).Over(&base))
	require.Len(t, starts, 1, "a readjusted rung is tried as it is")
	assert.InDelta(t, 1.5, starts[0].Rung.Factors[7], 1e-9)
	assert.Equal(t, 128, starts[0].Rung.Length)
}

// A start from elsewhere is the rung that serves the target, relative to what is stretched, whatever length its model was trained
// for.
func TestStartFromElsewhere(t *testing.T) {
	dir := t.TempDir()
	base := rising(128, 0, 3, 1.2)
	relative := ropescale.Rope{Dims: 16, FreqBase: 500000, OriginalContextLength: 200}
	l, err := ropescale.NewLadder(relative, nil, rising(400, 4, 6, 1.05), rising(2000, 600, 30, 1.3))
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, l.WriteFactors(&b))
	file := filepath.Join(dir, "relative.json")
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
	csv := filepath.Join(dir, "published.csv")
	require.NoError(t, os.WriteFile(csv, []byte("1\n1\n1\n2\n2\n3\n3\n4\n"), 0o644))

	m := &convert.ModelInfo{OriginalContextLength: 128, RopeDimensionCount: 16, FreqBase: 10000, Base: &base}
	steps := plan(m, []int{256, 512, 4096})
	for i, top := range []float64{6, 30, 30} {
		s := &steps[i]
		require.NoError(t, s.from(m.Rope(), []string{file, csv}))
		require.Len(t, s.given, 2)
		g := s.given[0]
		assert.Equal(t, "relative.json", g.Origin)
		assert.Equal(t, s.target, g.Rung.Length)
		assert.InDelta(t, top, g.Rung.Over(&base).Factors[7], 1e-9, "what the model would be given is what the file says")
		assert.Equal(t, map[int]int{256: 4, 512: 0, 4096: 600}[s.target], g.Rung.StartWindow, "one that does not fit is none")
		assert.InDelta(t, 4, s.given[1].Rung.Over(&base).Factors[7], 1e-9)
	}

	for allowed, want := range map[int]int{0: 0, 4: 4, 16: 4} {
		s := plan(m, []int{256})[0]
		require.NoError(t, s.from(m.Rope(), []string{file}))
		s.allow(slices.Compact([]int{0, min(allowed, 4), allowed}))
		assert.Equal(t, want, s.given[0].Rung.StartWindow)
	}

	wide := &convert.ModelInfo{OriginalContextLength: 128, RopeDimensionCount: 32, FreqBase: 10000}
	for _, path := range []string{file, csv} {
		s := plan(wide, []int{512})[0]
		assert.ErrorContains(t, s.from(wide.Rope(), []string{path}), path)
	}
	short := plan(m, []int{256})[0]
	short.target = 100
	assert.ErrorContains(t, short.from(m.Rope(), []string{file}), "it has no rung for 100 tokens")
}

func TestShares(t *testing.T) {
	assert.Equal(t, []int{100}, shares(100, []int{7}, []int{50}))
	assert.Equal(t, []int{20, 40, 80}, shares(140, []int{10, 20, 30}, []int{20, 40, 80}), "what is usual")
	assert.Equal(t, []int{15, 30, 56}, shares(101, []int{10, 20, 30}, []int{20, 40, 80}), "nothing is lost")
	assert.Equal(t, []int{256, 512, 1000}, doublings(128, 1000))
	assert.Equal(t, []int{200}, doublings(128, 200))
}

// FuzzHeldOut: no file of losses makes the reader panic, and what it takes in is in the part of the file that it names.
func FuzzHeldOut(f *testing.F) {
	dir := f.TempDir()
	h := &heldOut{ids: []string{"a"}, length: 8, windows: [][]int{{1}, {2}}, losses: map[int]map[int]float64{}}
	study := filepath.Join(dir, "study")
	require.NoError(f, h.open(study, 1000))
	require.NoError(f, h.write(heldOutLine{3, 1, ropescale.Losses{2.5}}))
	require.NoError(f, h.write(heldOutLine{3, 0, ropescale.Losses{math.Inf(1)}}))
	h.close()
	b, err := os.ReadFile(heldOutFile(study))
	require.NoError(f, err)
	header, losses, whole := parseHeldOut(b)
	require.NotNil(f, header)
	require.Equal(f, len(b), whole)
	require.Equal(f, map[int]map[int]float64{3: {1: 2.5, 0: math.Inf(1)}}, losses)
	f.Add(b)
	f.Add(b[:len(b)-4])
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"longrope_held_out":1,"length":1,"windows":1}` + "\n" + `{"candidate":-1,"loss":["inf"]}` + "\n"))
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

// What was read is not read again, and a file of other texts is begun anew.
func TestHeldOutGoesOn(t *testing.T) {
	study := filepath.Join(t.TempDir(), "s")
	reader := &fake{info: evals.Info{OriginalContextLength: 128}}
	open := func(id string) *heldOut {
		h := &heldOut{ids: []string{id}, length: 8, windows: [][]int{{1, 2}, {3, 4}}, losses: map[int]map[int]float64{}}
		require.NoError(t, h.open(study, 1600))
		return h
	}
	h := open("a")
	assert.Equal(t, []int{0}, h.live)
	assert.True(t, h.may())
	require.NoError(t, h.read(t.Context(), reader, 0, true))
	assert.Equal(t, 16, h.spent)
	p, ok := h.perplexity(0, true)
	require.True(t, ok)
	h.close()

	f, err := os.OpenFile(heldOutFile(study), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"candidate":5,"win`) // a kill
	require.NoError(t, err)
	f.Close()
	h = open("a")
	assert.Equal(t, 16, h.spent)
	again, ok := h.perplexity(0, true)
	assert.True(t, ok)
	assert.Equal(t, p, again)
	require.NoError(t, h.read(t.Context(), nil, 0, true), "there is nothing left to read")
	for c := 1; h.may(); c++ {
		require.Less(t, c, 20)
		require.NoError(t, h.read(t.Context(), reader, c, false))
	}
	assert.Equal(t, 80, h.spent, "a twentieth of 1600")
	h.close()

	h = open("b")
	assert.Zero(t, h.spent)
	assert.Empty(t, h.losses)
	h.close()
}

// What a fitness is made of is told apart, also of a candidate that was read in parts; what failed or is not all read is left out.
func TestScoresOf(t *testing.T) {
	rope := ropescale.Rope{Dims: 16, FreqBase: 10000, OriginalContextLength: 128}
	s, err := ropescale.NewStudy(ropescale.Options{Rope: rope, Target: 512, Budget: 400, Readings: []ropescale.Reading{
		{Name: "window 1", Kind: "text", Tokens: 4, Weight: 0.5}, {Name: "window 2", Kind: "text", Tokens: 4, Weight: 0.5}, {Name: "key 1", Kind: "key", Tokens: 2, Weight: 0.1}}})
	require.NoError(t, err)
	all := map[int][]float64{} // losses of a candidate
	for !s.Done() {
		for _, trial := range s.Ask() {
			var losses []float64
			for _, r := range trial.Readings {
				losses = append(losses, []float64{2, 3, 0.5}[r])
			}
			if trial.ID == 1 {
				losses[2] = math.Inf(1)
			}
			require.NoError(t, s.Tell(trial.ID, losses, 1))
			all[trial.Candidate] = append(all[trial.Candidate], losses...)
		}
	}
	got, parts := scoresOf(s), 0
	for id, losses := range all {
		switch {
		case id == 1:
			assert.Nil(t, got[id].keys)
		case len(losses) == 3:
			require.NotNil(t, got[id].text)
			require.NotNil(t, got[id].keys)
			assert.InDelta(t, math.Exp(2.5), *got[id].text, 1e-9)
			assert.InDelta(t, 0.5, *got[id].keys, 1e-9)
		default:
			parts++
			assert.Nil(t, got[id].text)
		}
	}
	assert.Positive(t, parts, "the default algorithm reads in parts")
}
