package evals_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	. "github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/choice"
	"github.com/longrope/longrope/evals/tasktest"
	"github.com/longrope/longrope/ropescale"
)

var ctx = context.Background()

// alphabet is n bytes of which each follows the one before in order, but for the step from z to a:
// 25 of 26 tokens cost ln 2, one ln 2 + ln 511.
func alphabet(name string, n int) Text {
	return Text{Name: name, Body: strings.Repeat("abcdefghijklmnopqrstuvwxyz", n/26+1)[:n]}
}

func TestWindowsAreDisjointAndCover(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		length := 2 + rng.IntN(40)
		stride := 1 + rng.IntN(length-1)
		n := length + rng.IntN(200)
		windows, err := Windows(n, length, stride)
		require.NoError(t, err)
		next := 1
		for i, w := range windows {
			require.Equal(t, length, w.End-w.Start, "%d %d %d: window %d", n, length, stride, i)
			require.Equal(t, next, w.From, "disjoint, without a gap")
			require.Greater(t, w.From, w.Start)
			require.Greater(t, w.End, w.From)
			if i > 0 {
				require.GreaterOrEqual(t, w.From-w.Start, length-stride, "context")
			}
			next = w.End
		}
		require.Equal(t, n, next)
	}
}

func TestWindowsAsDrawn(t *testing.T) {
	windows, err := Windows(12, 6, 3)
	require.NoError(t, err)
	require.Equal(t, []Window{{0, 1, 6}, {3, 6, 9}, {6, 9, 12}}, windows)
	windows, err = Windows(11, 6, 5)
	require.NoError(t, err)
	require.Equal(t, []Window{{0, 1, 6}, {5, 6, 11}}, windows)
	for _, bad := range [][3]int{{12, 1, 1}, {12, 6, 0}, {12, 6, 6}, {5, 6, 3}} {
		_, err := Windows(bad[0], bad[1], bad[2])
		require.Error(t, err, "%v", bad)
	}
}

func TestPerplexityIsExact(t *testing.T) {
	for _, bos := range []bool{false, true} {
		for _, stride := range []int{0, 1, 7, 31, 32} {
			e := tasktest.New(tasktest.Bytes{BOS: bos})
			text := alphabet("abc", 200)
			r, err := Perplexity(ctx, e, Method{Name: "stock"}, []Text{text},
				PerplexityOptions{Length: 32, Stride: stride})
			require.NoError(t, err)
			var want float64
			for i := 1; i < 200; i++ {
				want += tasktest.Bigram(int(text.Body[i-1]), int(text.Body[i]))
			}
			require.Equal(t, 199, r.Tokens)
			require.Equal(t, 199, r.Bytes)
			require.InDelta(t, want/199, r.NLL, 1e-12, "bos %v stride %d", bos, stride)
			require.InDelta(t, math.Exp(want/199), r.Perplexity, 1e-9)
			require.InDelta(t, want/199/math.Ln2, r.BitsPerByte, 1e-12)
			for _, n := range e.Calls {
				require.Equal(t, 32, n, "every window has the length asked for")
			}
			require.Equal(t, 32*len(e.Calls), r.EvaluatedTokens)
			covered, sum := 0, 0.0
			for _, b := range r.Curve {
				covered += b.Tokens
				sum += b.NLL * float64(b.Tokens)
			}
			require.Equal(t, 199, covered, "every scored token is in one bucket")
			require.InDelta(t, want, sum, 1e-9)
		}
	}
}

// A mean of window means would weigh the last window's few tokens like a whole window.
func TestPerplexityWeighsTokens(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	// 32 tokens in the first window, 1 in the second
	body := strings.Repeat("abcdefgh", 4)[:31] + "zz"
	r, err := Perplexity(ctx, e, Method{}, []Text{{"t", body}}, PerplexityOptions{Length: 32})
	require.NoError(t, err)
	require.Equal(t, 2, r.Windows)
	var want float64
	for i := 1; i < len(body); i++ {
		want += tasktest.Bigram(int(body[i-1]), int(body[i]))
	}
	require.InDelta(t, want/float64(len(body)-1), r.NLL, 1e-12)
}

func TestPerplexityCurveShowsWhereTheModelBreaks(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	// 15 windows of 257 that begin with an a.
	text := Text{"rising", strings.Repeat("ab", 2000)[:257+14*256]}
	r, err := Perplexity(ctx, e, Method{}, []Text{text}, PerplexityOptions{Length: 257})
	require.NoError(t, err)
	require.Greater(t, len(r.Curve), 20)
	for _, b := range r.Curve {
		want := 0.0
		for i := b.From; i < b.To; i++ {
			want += tasktest.Bigram(int(text.Body[i-1]), int(text.Body[i])) / float64(b.To-b.From)
			if i >= 64 {
				want += tasktest.Penalty / float64(b.To-b.From)
			}
		}
		require.InDelta(t, want, b.NLL, 1e-12, "positions %d to %d", b.From, b.To)
		require.Equal(t, 15*(b.To-b.From), b.Tokens)
	}
	mean := (tasktest.Bigram('a', 'b') + tasktest.Bigram('b', 'a')) / 2
	r, err = Perplexity(ctx, e, Method{"long", tasktest.LadderTo(512)}, []Text{text},
		PerplexityOptions{Length: 257})
	require.NoError(t, err)
	require.InDelta(t, mean, r.NLL, 0.01, "the ladder is in effect")
	require.Equal(t, LadderDigest(tasktest.LadderTo(512)), r.LadderDigest)
}

func TestPerplexityOverTexts(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{BOS: true})
	texts := []Text{alphabet("a", 100), {"b", strings.Repeat("ba", 150)}}
	r, err := Perplexity(ctx, e, Method{}, texts,
		PerplexityOptions{Length: 40, Documents: DocumentsTexts})
	require.NoError(t, err)
	require.Len(t, r.Texts, 2)
	a, b := r.Texts[0], r.Texts[1]
	require.Equal(t, 99, a.Tokens)
	require.Equal(t, 299, b.Tokens)
	require.Equal(t, 300, b.TextTokens)
	mean := (99*a.NLL + 299*b.NLL) / 398
	require.InDelta(t, mean, r.NLL, 1e-12)
	// Two documents: sqrt(2/1 (w1² d1² + w2² d2²)) / (w1 + w2).
	require.InDelta(t,
		math.Sqrt(2*(math.Pow(99*(a.NLL-mean), 2)+math.Pow(299*(b.NLL-mean), 2)))/398, r.NLLStderr,
		1e-12)
	pooled, err := Perplexity(ctx, e, Method{}, texts, PerplexityOptions{Length: 40})
	require.NoError(t, err)
	require.InDelta(t, r.NLL, pooled.NLL, 1e-12)
	require.Less(t, pooled.NLLStderr, r.NLLStderr, "windows are many, texts are two")
	require.Len(t, pooled.Details, pooled.Windows)
	require.Equal(t, a.Windows+b.Windows, r.Windows)

	few, err := Perplexity(ctx, e, Method{}, texts, PerplexityOptions{Length: 40, MaxWindows: 2})
	require.NoError(t, err)
	require.Equal(t, 4, few.Windows)
}

func TestPerplexityBadInput(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{BOS: true})
	e.Most = 512
	long := []Text{alphabet("long.txt", 5000)}
	for _, tt := range []struct {
		texts []Text
		o     PerplexityOptions
		want  string
	}{
		{
			[]Text{alphabet("short.txt", 100)},
			PerplexityOptions{Length: 256},
			`text "short.txt" has 100 tokens and needs at least 255`,
		},
		{nil, PerplexityOptions{Length: 32}, "no text"},
		{long, PerplexityOptions{Length: 513}, "beyond the 512 tokens"},
		{long, PerplexityOptions{Length: 2}, "too small"},
		{long, PerplexityOptions{Length: 32, Stride: 33}, "stride 33"},
		{long, PerplexityOptions{Length: 32, Stride: -1}, "stride -1"},
		{long, PerplexityOptions{Length: 32, MaxWindows: -1}, "max windows -1"},
		{long, PerplexityOptions{Length: 32, Documents: "files"}, `documents "files"`},
	} {
		_, err := Perplexity(ctx, e, Method{}, tt.texts, tt.o)
		require.ErrorContains(t, err, tt.want)
	}
	_, err := Perplexity(ctx, e, Method{"empty", &ropescale.Ladder{}}, long,
		PerplexityOptions{Length: 32})
	require.ErrorContains(t, err, `method "empty": ladder has no rungs`)

	e.Bad = math.NaN()
	_, err = Perplexity(ctx, e, Method{}, long, PerplexityOptions{Length: 32})
	require.ErrorIs(t, err, ErrNotFinite)
	require.ErrorContains(t, err, `text "long.txt"`)
	_, _, err = Score(ctx, e, [][]int{{1, 2, 3}}, 1)
	require.ErrorIs(t, err, ErrNotFinite)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = Perplexity(cancelled, tasktest.New(tasktest.Bytes{}), Method{}, long,
		PerplexityOptions{Length: 32})
	require.ErrorIs(t, err, context.Canceled)
}

func TestScore(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{BOS: true})
	windows, err := SampleWindows(e, []Text{alphabet("a", 400), alphabet("b", 130)}, 64, 5)
	require.NoError(t, err)
	require.Len(t, windows, 5)
	var want float64
	n := 0
	for _, w := range windows {
		require.Len(t, w, 64)
		require.Equal(t, 256, w[0])
		for i := 32; i < 64; i++ {
			want += tasktest.Bigram(w[i-1], w[i])
			n++
		}
	}
	mean, tokens, err := Score(ctx, e, windows, 32)
	require.NoError(t, err)
	require.Equal(t, n, tokens)
	require.InDelta(t, want/float64(n), mean, 1e-12)

	// The stretches of one text do not overlap: with a text of distinct windows' worth of tokens
	// they tile it.
	windows, err = SampleWindows(e,
		[]Text{{"tile", strings.Repeat("0", 63) + strings.Repeat("1", 63) +
			strings.Repeat("2", 63)}}, 64, 3)
	require.NoError(t, err)
	for i, w := range windows {
		require.Equal(t, int('0')+i, w[1])
		require.Equal(t, int('0')+i, w[63])
	}

	_, err = SampleWindows(e, []Text{alphabet("c.txt", 130)}, 64, 3)
	require.ErrorContains(t, err, `text "c.txt" has 130 tokens and needs 189`)
	_, _, err = Score(ctx, e, nil, 1)
	require.Error(t, err)
	_, _, err = Score(ctx, e, [][]int{{1, 2}}, 2)
	require.ErrorContains(t, err, "from")
}

func TestSampleScore(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	for _, bad := range [][][]Span{nil, {{}}, {{{1, 4}}}, {{{0, 2}}}, {{{2, 2}}}} {
		_, err := Sample{Tokens: []int{1, 2, 9}, Scored: bad}.Score(ctx, e)
		require.Error(t, err)
	}
	// One pass, several scores: each is the mean over its own spans.
	tokens := []int{1, 2, 9, 4, 5, 6}
	all, err := e.NLL(ctx, tokens, 1)
	require.NoError(t, err)
	got, err := Sample{Tokens: tokens, Scored: [][]Span{{{2, 4}, {5, 6}}, {{4, 5}}}}.Score(ctx, e)
	require.NoError(t, err)
	require.InDelta(t, (all[1]+all[2]+all[4])/3, got[0], 1e-15)
	require.InDelta(t, all[3], got[1], 1e-15)
}

func TestBucketEdges(t *testing.T) {
	for _, length := range []int{2, 3, 10, 257, 2048, 131072} {
		for _, count := range []int{1, 7, 32} {
			edges := BucketEdges(length, count)
			require.Equal(t, 1, edges[0])
			require.Equal(t, length, edges[len(edges)-1])
			require.IsIncreasing(t, edges)
			require.LessOrEqual(t, len(edges), count+1)
		}
	}
	require.Equal(t, []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}, BucketEdges(1024, 10))
}

// The first four are of Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3; n of n
// mirrors 0 of n.
func TestWilson(t *testing.T) {
	for _, tt := range []struct {
		correct, trials int
		low, high       float64
	}{
		{81, 263, 0.2553, 0.3662},
		{15, 148, 0.0624, 0.1605},
		{0, 20, 0, 0.1611},
		{1, 29, 0.0061, 0.1718},
		{20, 20, 0.8389, 1},
		{0, 0, 0, 1},
	} {
		low, high := Wilson(tt.correct, tt.trials)
		require.InDelta(t, tt.low, low, 5e-5, "%d of %d", tt.correct, tt.trials)
		require.InDelta(t, tt.high, high, 5e-5, "%d of %d", tt.correct, tt.trials)
	}
}

func TestMeanStderr(t *testing.T) {
	mean, stderr := MeanStderr([]float64{2, 4, 4, 4, 5, 5, 7, 9})
	require.InDelta(t, 5, mean, 1e-15)
	require.InDelta(t, math.Sqrt(32.0/7/8), stderr, 1e-15)
	mean, stderr = WeightedMeanStderr([]float64{1, 5, 1e9}, []float64{3, 1, 0})
	require.InDelta(t, 2, mean, 1e-15)
	require.InDelta(t, math.Sqrt(2*(9+9))/4, stderr, 1e-15)
	mean, stderr = MeanStderr(nil)
	require.Zero(t, mean)
	require.Zero(t, stderr)
}

func TestLadderDigest(t *testing.T) {
	require.Empty(t, LadderDigest(nil))
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, LadderDigest(tasktest.LadderTo(128)))
	require.NotEqual(t, LadderDigest(tasktest.LadderTo(128)), LadderDigest(tasktest.LadderTo(129)))
}

// jobs are a job of each of the two tasks, as most tests run them.
func jobs(text Text, o PasskeyOptions) []Job {
	return []Job{&PerplexityOptions{Texts: []Text{text}}, &o}
}

func compareFake(t *testing.T, seed uint64) *Comparison {
	e := tasktest.New(tasktest.Bytes{BOS: true})
	c, err := Compare(ctx, e, []Method{{"stock", nil}, {"long", tasktest.LadderTo(400)}},
		CompareOptions{
			Lengths: []int{300, 420},
			Jobs: jobs(alphabet("abc.txt", 900),
				PasskeyOptions{Depths: []float64{0, 1}, Trials: 2, NeedleNLL: true, Seed: seed}),
		})
	require.NoError(t, err)
	return c
}

func TestCompare(t *testing.T) {
	c := compareFake(t, 1)
	require.Len(t, c.Rows, 4)
	for i, want := range []struct {
		method  string
		length  int
		passkey float64
	}{{"stock", 300, 0}, {"stock", 420, 0}, {"long", 300, 1}, {"long", 420, 0}} {
		r := c.Rows[i]
		require.Equal(t, want.method, r.Method)
		require.Equal(t, want.length, r.Length)
		require.Equal(t, want.passkey, *r.Figure("passkey"))
	}
	// Of 899 scored tokens, 3 windows have 236 beyond the fake's original 64 and the last one's 5
	// are all beyond.
	require.InDelta(t, *c.Rows[2].Figure("perplexity")*math.Exp(tasktest.Penalty*(3*236+5)/899),
		*c.Rows[0].Figure("perplexity"), 1e-9)
	require.InDelta(t, -tasktest.Penalty*(3*236+5)/899, *c.Rows[2].Figure("nll_change"), 1e-12)
	// Window by window the change is -1.5 · 236/298 or 237/299 three times and -1.5 once, weighed
	// by tokens.
	require.Less(t, *c.Rows[2].Figure("nll_change_stderr"), 0.01)
	require.Positive(t, *c.Rows[2].Figure("nll_change_stderr"))
	require.Nil(t, c.Rows[0].Figure("nll_change"))
	require.NotNil(t, c.Rows[0].Figure("passkey_nll"))
	require.Nil(t, c.Rows[0].Figure("no such"))
	var tokens int
	for _, task := range c.Tasks {
		for _, r := range task.Results {
			tokens += r.About().EvaluatedTokens
		}
	}
	require.Equal(t, tokens, c.EvaluatedTokens)

	var calls int
	last := -1
	methods := []Method{{"a", nil}, {"b", tasktest.LadderTo(400)}}
	_, err := Compare(ctx, tasktest.New(tasktest.Bytes{}), methods, CompareOptions{
		Lengths: []int{300, 310}, Jobs: jobs(alphabet("abc.txt", 900), PasskeyOptions{Trials: 1}),
		Progress: func(done, total int, _ string) {
			require.GreaterOrEqual(t, done, last, "progress never goes back")
			require.Equal(t, 2*(2*4-1+2*5), total, "windows and trials of both methods")
			last = done
			calls++
		},
	})
	require.NoError(t, err)
	require.Positive(t, calls)
	require.Equal(t, 2*(2*4-1+2*5), last)
}

// benchmark is a job that sets ladders of its own.
func benchmark() Job {
	q := choice.Question{
		ID: "1", Prompt: "Q:", Choices: []string{"abc", "xyz"}, Correct: []bool{true, false},
	}
	return &choice.Options{Benchmark: "mmlu", Questions: []choice.Question{q}}
}

// Afterwards the engine has the file's own factors, whether it went well or not.
func TestCompareRestoresTheFactors(t *testing.T) {
	own := tasktest.LadderTo(300) // what somebody had set
	methods := []Method{{"long", tasktest.LadderTo(400)}}
	for name, o := range map[string]CompareOptions{
		"measured":    {Jobs: []Job{&PasskeyOptions{Trials: 1}}, Lengths: []int{400}},
		"interrupted": {Jobs: []Job{&PasskeyOptions{Trials: 1}}, Lengths: []int{400}},
		"a benchmark": {Jobs: []Job{benchmark()}, Lengths: []int{200}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &restored{Engine: tasktest.New(tasktest.Bytes{})}
			e.Ladder = own
			run, cancel := context.WithCancel(ctx)
			defer cancel()
			o.Progress = func(done, _ int, _ string) {
				require.NotNil(t, e.Ladder, "the method's factors are set")
				if name == "interrupted" {
					cancel()
				}
			}
			_, err := Compare(run, e, methods, o)
			if name == "interrupted" {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				require.NoError(t, err)
			}
			require.Nil(t, e.Ladder)
			require.Nil(t, e.set[len(e.set)-1], "set to the file's own at the end")
			require.NotNil(t, e.set[0])
		})
	}
	e := &restored{Engine: tasktest.New(tasktest.Bytes{}), refuse: true}
	_, err := Compare(ctx, e, methods,
		CompareOptions{Jobs: []Job{&PasskeyOptions{Trials: 1}}, Lengths: []int{400}})
	require.ErrorContains(t, err, "the factors stay", "that they could not be restored is an error")
}

// restored remembers what ladders were set, and can refuse to take the last away.
type restored struct {
	*tasktest.Engine
	set    []*ropescale.Ladder
	refuse bool
}

func (r *restored) SetLadder(l *ropescale.Ladder) error {
	r.set = append(r.set, l)
	if l == nil && r.refuse {
		return errors.New("the factors stay")
	}
	return r.Engine.SetLadder(l)
}

func TestCompareBadInput(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	passkey := []Job{&PasskeyOptions{}}
	for _, tt := range []struct {
		methods []Method
		o       CompareOptions
		want    string
	}{
		{nil, CompareOptions{Jobs: passkey}, "no method"},
		{[]Method{{"a", nil}, {"a", nil}}, CompareOptions{Jobs: passkey}, `"a"`},
		{[]Method{{"a", nil}}, CompareOptions{}, "nothing to measure"},
		{
			[]Method{{"a", nil}},
			CompareOptions{
				Lengths: []int{300, 2000},
				Jobs:    jobs(alphabet("x.txt", 500), PasskeyOptions{}),
			},
			`text "x.txt" has 500 tokens and needs at least 2000`,
		},
		{[]Method{{"a", nil}}, CompareOptions{
			Lengths: []int{300},
			Jobs:    []Job{&PerplexityOptions{}},
		}, "no text"},
		{
			[]Method{{"a", nil}},
			CompareOptions{Lengths: []int{100, 1000}, Jobs: passkey},
			"length 100 is too small",
		},
		{
			[]Method{{"a", nil}},
			CompareOptions{Jobs: []Job{&choice.Options{Benchmark: "riddles"}}},
			`no task "riddles": want one of perplexity, passkey, `,
		},
	} {
		_, err := Compare(ctx, e, tt.methods, tt.o)
		require.ErrorContains(t, err, tt.want)
		require.Empty(t, e.Calls, "refused before the model is called")
	}
}

// timeless is the result's JSON without the two fields that may differ.
func timeless(t *testing.T, c *Comparison) string {
	strip := func(p *Provenance) { p.Started, p.Duration = time.Time{}, 0 }
	strip(&c.Provenance)
	for _, task := range c.Tasks {
		for _, r := range task.Results {
			strip(r.About())
		}
	}
	var b bytes.Buffer
	require.NoError(t, WriteJSON(&b, c))
	return b.String()
}

func TestSameSeedSameBytes(t *testing.T) {
	one, two, other := timeless(t, compareFake(t, 7)), timeless(t, compareFake(t, 7)), timeless(t,
		compareFake(t, 8))
	require.Equal(t, one, two)
	require.NotEqual(t, one, other)

	var back Comparison
	require.NoError(t, json.Unmarshal([]byte(one), &back))
	require.Equal(t, "abc.txt", ResultsOf[*PerplexityResult](&back)[0].Texts[0].Text.Name)
	require.JSONEq(t, one, timeless(t, &back), "read and written again")
}

// Files of version 1 of the schema can be read still.
func TestSchema1(t *testing.T) {
	b, err := os.ReadFile("testdata/compare-1.json")
	require.NoError(t, err)
	var c Comparison
	require.NoError(t, json.Unmarshal(b, &c))
	require.Equal(t, 1, c.SchemaVersion)
	now := compareFake(t, 1)
	require.Len(t, c.Rows, len(now.Rows))
	for i, r := range c.Rows {
		for _, task := range now.Tasks {
			for _, name := range task.Task.Columns {
				want := now.Rows[i].Figure(name)
				if want == nil {
					require.Nil(t, r.Figure(name), name)
					continue
				}
				require.InDelta(t, *want, *r.Figure(name), 1e-9, name)
			}
		}
	}
	require.Len(t, ResultsOf[*PerplexityResult](&c), 4)
	require.Len(t, ResultsOf[*PasskeyResult](&c), 2)
}

// rounded cuts numbers to nine digits: processors that fuse multiply and add differ in the last
// ones.
func rounded(s string) string {
	return regexp.MustCompile(`[0-9]+\.[0-9]{6,}(e-?[0-9]+)?`).ReplaceAllStringFunc(s,
		func(n string) string {
			v, err := strconv.ParseFloat(n, 64)
			if err != nil || v < 1e-12 {
				return "0"
			}
			return strconv.FormatFloat(v, 'g', 9, 64)
		})
}

// The golden files are the format: a change here is a change of SchemaVersion. UPDATE_GOLDEN=1 go
// test rewrites them.
func TestGolden(t *testing.T) {
	golden := func(name, got string) {
		path := filepath.Join("testdata", name)
		if os.Getenv("UPDATE_GOLDEN") != "" {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, rounded(string(want)), rounded(got),
			"%s: if meant, raise SchemaVersion and run UPDATE_GOLDEN=1 go test ./evals", name)
	}
	c := compareFake(t, 1)
	golden("compare.json", timeless(t, c))
	var b bytes.Buffer
	require.NoError(t, c.WriteCSV(&b))
	golden("compare.csv", b.String())
	for _, task := range c.Tasks {
		for _, sheet := range task.Task.Sheets {
			name := task.Task.Name
			if sheet.Name != "" {
				name += "-" + sheet.Name
			}
			var b bytes.Buffer
			require.NoError(t, task.WriteCSV(&b, sheet))
			golden(name+".csv", b.String())
			_, err := csv.NewReader(&b).ReadAll()
			require.NoError(t, err, "every row has as many cells as the header")
		}
	}
}
