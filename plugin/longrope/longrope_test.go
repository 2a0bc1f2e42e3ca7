package longrope

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search/searchtest"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

func TestSizesFlag(t *testing.T) {
	var f sizesFlag
	require.NoError(t, f.Set("8k,4k"))
	require.NoError(t, f.Set("4096"))
	assert.Equal(t, []int{4096, 8192}, f.ascending())
	assert.Equal(t, "8k,4k,4k", f.String())
}

func TestBudget(t *testing.T) {
	for in, want := range map[string]budgetFlag{
		"90s": {time: 90 * time.Second}, "10m": {time: 10 * time.Minute},
		"2h30m":  {time: 150 * time.Minute},
		"600000": {tokens: 600000}, "600k": {tokens: 600 << 10},
	} {
		var f budgetFlag
		require.NoError(t, f.Set(in), in)
		assert.Equal(t, want, f, in)
	}
	for _, in := range []string{"", "0", "-5m", "0s", "much"} {
		assert.Error(t, new(budgetFlag).Set(in), in)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"a.json": "a.json", "llama3.2:1b": "llama3.2:1b", "": "''", "my model": "'my model'",
		"it's": `'it'\''s'`, "$HOME": "'$HOME'", "ünï": "ünï",
	} {
		assert.Equal(t, want, quote(in))
	}
}

func TestNameFor(t *testing.T) {
	for in, want := range map[string]string{
		"models/Tiny.gguf": "tiny-128k", "llama3.2": "llama3.2-128k",
		"my models/Tiny 50% (new).gguf": "tiny-50---new--128k",
		"llama3.2:1b":                   "llama3.2-128k:1b",
		"host:11434/me/llama":           "host:11434/me/llama-128k",
	} {
		assert.Equal(t, want, nameFor(in, 128<<10))
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"llama3.2:latest", "mistral:7b", "tiny-128k"}
	assert.Equal(t, `; did you mean "llama3.2:latest"?`, suggest("lama3.2:latest", known))
	assert.Equal(t, `; did you mean "tiny-128k"?`, suggest("tiny", known))
	assert.Empty(t, suggest("gemma", known))
	assert.Empty(t, suggest("x", nil))
}

// TestProgress draws over one line on a terminal, and is a plain line now and then elsewhere.
func TestProgress(t *testing.T) {
	clock := time.Unix(0, 0)
	draw := func(tty bool) string {
		var out, err bytes.Buffer
		u := newUI(&out, &err, nil)
		require.False(t, u.tty, "a buffer is no terminal")
		u.tty, u.last = tty, clock
		u.now, u.width = func() time.Time { return clock }, func() int { return 40 }
		started := clock
		for i := range 100 {
			clock = clock.Add(time.Second)
			u.progress(started, "search", float64(i+1), 100, "best 3.21")
		}
		u.say("a line\nand another")
		u.done()
		assert.Empty(t, out.String())
		return err.String()
	}
	plain := draw(false)
	assert.NotContains(t, plain, "\x1b")
	assert.Equal(t, "longrope: search  30 %, best 3.21, 1 min 10 s left\n"+
		"longrope: search  60 %, best 3.21, 40 s left\n"+
		"longrope: search  90 %, best 3.21, 10 s left\n"+
		"longrope: a line\nlongrope: and another\n", plain)

	drawn := strings.Split(draw(true), "\r\x1b[K")
	assert.Len(t, drawn, 101, "a hundred drawings, each but the first over the one before")
	for _, line := range drawn[:100] {
		assert.LessOrEqual(t, len([]rune(line)), 39, "a line that wraps cannot be drawn over")
	}
	assert.Equal(t, "longrope: a line\nlongrope: and another\n", drawn[100])
}

// Two lines of progress are drawn over as one is: what stands on the terminal at the end is what
// was said.
func TestProgressOfTwoLines(t *testing.T) {
	var err bytes.Buffer
	u := newUI(io.Discard, &err, nil)
	clock := time.Unix(0, 0)
	u.tty, u.last, u.now = true, clock, func() time.Time { return clock }
	for range 3 {
		clock = clock.Add(time.Second)
		u.progress(clock, "search", 1, 2, "20 tokens/s", "best 3.21")
	}
	u.say("a line")
	assert.Equal(t, 3,
		strings.Count(err.String(), "longrope: search  50 %, 20 tokens/s\nlongrope:   best 3.21"))
	assert.Equal(t, 3, strings.Count(err.String(), "\r\x1b[K\x1b[A\r\x1b[K"),
		"both lines are taken away each time")
	assert.True(t, strings.HasSuffix(err.String(), "\x1b[Klongrope: a line\n"))
}

func TestTable(t *testing.T) {
	assert.Equal(t, "method   λ\nntk      1\nyarn    22\n",
		table([]string{"method", "λ"}, [][]string{{"ntk", "1"}, {"yarn", "22"}}, 1))
}

func TestMethods(t *testing.T) {
	m := tinyModel(t)
	methods, err := methodsFor(m, nil, 1024, []int{256, 1024})
	require.NoError(t, err)
	require.Len(t, methods, 4)
	assert.Nil(t, methods[0].Ladder, "stock is what the file says")
	for i, name := range []string{"stock", "linear", "ntk", "yarn"} {
		assert.Equal(t, name, methods[i].Name)
		if i > 0 {
			require.Len(t, methods[i].Ladder.Rungs, 1)
			assert.Equal(t, 1024, methods[i].Ladder.Rungs[0].Length)
		}
	}
	methods, err = methodsFor(m, []string{"dynamic"}, 1024, []int{64, 256, 1024})
	require.NoError(t, err)
	assert.Equal(t, 256, methods[0].Ladder.Rungs[0].Length, "a rung for each length beyond L")
	assert.InDelta(t, 2, methods[0].Ladder.Rungs[0].Factors[7], 1e-9)
	assert.InDelta(t, 8, methods[0].Ladder.Rungs[1].Factors[7], 1e-9)

	// A model with scaling of its own: methods multiply it, stock of a converted one is row 0
	// alone.
	base := m.info.Rope().Identity(128)
	for i := range base.Factors {
		base.Factors[i] = 3
	}
	scaled := *m.info
	scaled.Base = &base
	l, err := ladderBy(&scaled, "linear", []int{256}, factorsOptions{})
	require.NoError(t, err)
	assert.Equal(t, 6.0, l.Rungs[0].Factors[0])
	assert.Equal(t, &base, l.Base)
	scaled.Ladder = l
	methods, err = methodsFor(&model{info: &scaled}, nil, 256, nil)
	require.NoError(t, err)
	require.Len(t, methods, 2)
	assert.Empty(t, methods[0].Ladder.Rungs)
	assert.Equal(t, 3.0, methods[0].Ladder.At(methods[0].Ladder.RungFor(256)).Factors[0])
	assert.Equal(t, evals.Method{Name: "longrope"}, methods[1])
}

func TestMerge(t *testing.T) {
	ladder := func(length int, source *ropescale.Source) *ropescale.Ladder {
		l, err := ropescale.NewLadder(
			ropescale.Rope{Dims: 4, FreqBase: 10000, OriginalContextLength: 128}, nil,
			ropescale.Rung{Length: length, AttentionFactor: 1, Factors: []float64{1, 2}})
		require.NoError(t, err)
		l.Source = source
		return l
	}
	a := ladder(
		512,
		&ropescale.Source{
			Method:      "longrope",
			ModelDigest: "sha256:1",
			Seed:        1,
			Algorithm:   "cma",
			Trials:      3,
			Tokens:      10,
			Fitness:     2,
		},
	)
	m, err := merge(
		a,
		ladder(
			256,
			&ropescale.Source{
				Method:      "longrope",
				ModelDigest: "sha256:1",
				Seed:        2,
				Algorithm:   "cma",
				Trials:      4,
				Tokens:      20,
				Fitness:     3,
			},
		),
	)
	require.NoError(t, err)
	assert.Equal(t, 256, m.Rungs[0].Length)
	assert.Equal(t,
		&ropescale.Source{Method: "longrope", ModelDigest: "sha256:1", Trials: 7, Tokens: 30},
		m.Source, "what both say")
	assert.Len(t, a.Rungs, 1, "the arguments stay as they were")

	b := ladder(256, nil)
	b.OriginalContextLength = 64
	_, err = merge(a, b)
	assert.ErrorContains(t, err, "original_context_length is 64, the file before has 128")
}

// TestSearchFindsTheBest: the fake model's best factors are known, and the search comes near them
// from data alone, on search text and on others.
func TestSearchFindsTheBest(t *testing.T) {
	m := tinyModel(t)
	var out, stderr bytes.Buffer
	cmd := newCommand(openFake)
	cmd.SetOut(&out)
	cmd.SetErr(&stderr)
	file := filepath.Join(t.TempDir(), "factors.json")
	cmd.SetArgs(
		[]string{"search", m.path, "--target", "512", "--windows", "2", "-o", file, "--no-report"})
	require.NoError(t, cmd.ExecuteContext(context.Background()), stderr.String())

	f, err := readFactors(file)
	require.NoError(t, err)
	e, err := loadFake(m.path, openOptions{Length: 512})
	require.NoError(t, err)
	far := func(l *ropescale.Ladder) float64 {
		require.NoError(t, e.SetLadder(l))
		return e.(*searchtest.Fake).Error(512)
	}
	assert.Less(t, far(f.ladder), 0.05, "0 is the best there is")
	for _, name := range ropescale.MethodNames(ropescale.Seed) {
		l, err := ladderBy(m.info, name, []int{512}, factorsOptions{})
		require.NoError(t, err)
		assert.Greater(t, far(l), 3*far(f.ladder), name)
	}
	assert.InDelta(t, 1.05, f.ladder.Rungs[0].AttentionFactor, 0.02)
	assert.Equal(t, m.info.OriginalContextLength, f.ladder.OriginalContextLength)
	assert.Equal(t, uint64(1), f.ladder.Source.Seed)
	assert.Len(t, f.ladder.Source.Texts, 2)
	assert.Contains(t, f.ladder.Source.Texts[0], "(sha256:", "a text is recorded with its contents")
}

// A search that starts from the factors of another evaluates them, and ends no worse.
func TestSearchBeginsAtAnother(t *testing.T) {
	m := tinyModel(t)
	dir := t.TempDir()
	run := func(args ...string) (string, error) {
		var out, stderr bytes.Buffer
		cmd := newCommand(openFake)
		cmd.SetOut(&out)
		cmd.SetErr(&stderr)
		cmd.SetArgs(
			append(
				[]string{"search", m.path, "--target", "512", "--windows", "2", "--no-report"},
				args...),
		)
		err := cmd.ExecuteContext(context.Background())
		return out.String() + stderr.String(), err
	}
	first := filepath.Join(dir, "first.json")
	said, err := run("-o", first)
	require.NoError(t, err, said)
	again := filepath.Join(dir, "again.json")
	_, err = run("-o", again, "--start", first, "--budget", "9k", "--seed", "2")
	require.NoError(t, err)
	s, err := study.Read(again + ".study")
	require.NoError(t, err)
	unscaled, start := s.History()[5], s.History()[6]
	require.Equal(t, "yarn without its attention factor", unscaled.Origin, "after the methods")
	assert.Equal(t, s.Seeds()["yarn"].Rung.Factors, unscaled.Rung.Factors)
	assert.Equal(t, 1.0, unscaled.Rung.AttentionFactor)
	require.Equal(t, "first.json", start.Origin)
	best, _ := s.Best()
	assert.LessOrEqual(t, best.Fitness, start.Fitness)
	for _, method := range s.Seeds() {
		assert.Less(t, best.Fitness, method.Fitness)
	}

	_, err = run("-o", again, "--fresh", "--start", first, "--start-windows", "0")
	require.NoError(t, err)
	s, err = study.Read(again + ".study")
	require.NoError(t, err)
	for _, trial := range s.History() {
		require.Zero(t, trial.Rung.StartWindow, "none was allowed, not in a start either")
	}

	_, err = run("-o", again, "--fresh", "--start-windows", "-1")
	assert.ErrorContains(t, err, "--start-windows: -1")
	_, err = run("-o", again, "--fresh", "--start-windows", "512")
	assert.ErrorContains(t, err, "--start-windows: 512")
	_, err = run("-o", again, "--fresh", "--start-windows", "0", "--algorithm", "dim-mono")
	assert.ErrorContains(t, err, "--start-windows: dim-mono has no start window")
	_, err = run("-o", again, "--fresh", "--start", first, "--algorithm", "dim-mono")
	assert.ErrorContains(t, err, "--start: dim-mono starts from YaRN alone")
	_, err = run("-o", again, "--fresh", "--start", m.path)
	assert.ErrorContains(t, err, "--start: ")
	assert.ErrorContains(t, err, "carries no factors")
}

// A ladder's rungs are each at least as good as the methods and as what the rung below makes of it,
// and have factors that never fall from pair to pair.
func TestLadderClimbs(t *testing.T) {
	m := tinyModel(t)
	dir := t.TempDir()
	run := func(name string, args ...string) *ropescale.Ladder {
		var stderr bytes.Buffer
		cmd := newCommand(openFake)
		cmd.SetOut(io.Discard)
		cmd.SetErr(&stderr)
		file := filepath.Join(dir, name)
		cmd.SetArgs(
			append(
				[]string{"search", m.path, "--windows", "1", "--no-report", "-o", file},
				args...),
		)
		require.NoError(t, cmd.ExecuteContext(context.Background()), stderr.String())
		f, err := readFactors(file)
		require.NoError(t, err)
		return f.ladder
	}
	l := run("ladder.json", "--target", "256,512,1k", "--budget", "84k")
	require.Len(t, l.Rungs, 3)
	for i, g := range l.Rungs {
		assert.True(t, slices.IsSorted(g.Factors), "%v", g.Factors)
		path := filepath.Join(dir, "ladder.json-"+label.Size(g.Length)+".study")
		s, err := study.Read(path)
		require.NoError(t, err)
		best, ok := s.Best()
		require.True(t, ok)
		assert.Equal(t, best.Rung, g)
		starts := 6 // five methods, and YaRN without its attention factor
		if i > 0 {
			starts = 9
			assert.Equal(t, label.Size(l.Rungs[i-1].Length)+"+yarn", s.History()[8].Origin)
		}
		for _, t2 := range s.History()[:starts] {
			assert.LessOrEqual(t, best.Fitness, t2.Fitness, t2.Origin)
		}
	}
}

func TestStockNotes(t *testing.T) {
	assert.Equal(t, []string{"cannot load it", "why"},
		stockNotes(gguf.Stock{Notes: []string{"why"}}))
	assert.Equal(t, []string{"runs it as it was trained, with a context length of 128"},
		stockNotes(gguf.Stock{Loads: true, ContextLength: 128}))
}

func TestGPULayers(t *testing.T) {
	for flag, want := range map[string]int{
		"--threads=1": -1, "--gpu-layers=-1": -1, "--gpu-layers=0": 0, "--gpu-layers=7": 7,
	} {
		got := 99
		cmd := newCommand(opener{load: func(_ string, o openOptions) (runner, error) {
			got = o.GPULayers
			return nil, errors.New("seen enough")
		}})
		cmd.SetArgs([]string{"eval", "passkey", "../../evals/default/model.gguf", flag})
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		require.ErrorContains(t, cmd.Execute(), "seen enough")
		assert.Equal(t, want, got, flag)
	}
}
