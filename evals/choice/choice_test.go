package choice_test

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	. "github.com/longrope/longrope/evals/choice"
	"github.com/longrope/longrope/evals/tasktest"
)

// published are items as the benchmarks are published, with the prompts that lm-evaluation-harness
// 0.4 makes of them.
var publishedItems = []struct {
	name, benchmark, file, text string
	want                        Question
}{
	{
		"arc of its authors", "arc_challenge", "ARC-Challenge-Test.jsonl",
		`{"id":"M_1","question":{"stem":"What is wet?","choices":[{"text":"water","label":"A"},{"text":"sand","label":"B"},{"text":"iron","label":"C"}]},"answerKey":"B"}` + "\n",
		Question{
			"M_1", "", "Question: What is wet?\nAnswer:",
			[]string{"water", "sand", "iron"},
			[]bool{false, true, false},
		},
	},
	{
		"ai2_arc", "arc_easy", "test.jsonl",
		`{"id":"M_2","question":"What is wet?","choices":{"text":["water","sand"],"label":["1","2"]},"answerKey":"1"}`,
		Question{
			"M_2", "", "Question: What is wet?\nAnswer:",
			[]string{"water", "sand"},
			[]bool{true, false},
		},
	},
	{
		"hellaswag", "hellaswag", "hellaswag_val.jsonl",
		`{"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting [step] on a roof.", "ctx_b": "HE [title] waits", "endings": ["is using wrap.", " [substeps] starts  pulling."], "label": 1}`,
		Question{
			"1", "", "Roof shingle removal: A man is sitting on a roof. He. waits",
			[]string{"is using wrap.", " starts pulling."},
			[]bool{false, true},
		},
	},
	{
		"hellaswag of the data set", "hellaswag", "x.json",
		`[{"activity_label": "A", "ctx_a": "b", "ctx_b": "", "endings": ["c", "d"], "label": "0"}]`,
		Question{"1", "", "A: b", []string{"c", "d"}, []bool{true, false}},
	},
	{
		"mmlu csv", "mmlu", "data/test/abstract_algebra_test.csv",
		"\"Find the degree, of this.\",0,4,2,6,B\n",
		Question{
			"1", "abstract_algebra",
			"Find the degree, of this.\nA. 0\nB. 4\nC. 2\nD. 6\nAnswer:",
			[]string{"A", "B", "C", "D"},
			[]bool{false, true, false, false},
		},
	},
	{
		"cais/mmlu", "mmlu", "x.jsonl",
		`{"question": " Find it. ", "subject": "abstract_algebra", "choices": ["0", "4", "2", "6"], "answer": 3}`,
		Question{
			"1", "abstract_algebra", "Find it.\nA. 0\nB. 4\nC. 2\nD. 6\nAnswer:",
			[]string{"A", "B", "C", "D"},
			[]bool{false, false, false, true},
		},
	},
	{
		"truthfulqa of its authors", "truthfulqa_mc1", "mc_task.json",
		`[{"question": "Is it?", "mc1_targets": {"No.": 0, "Yes.": 1}, "mc2_targets": {"No.": 0, "Yes.": 1, "Aye.": 1}}]`,
		Question{"1", "", "Q: Is it?\nA:", []string{"No.", "Yes."}, []bool{false, true}},
	},
	{
		"truthful_qa", "truthfulqa_mc2", "validation.jsonl",
		`{"question": "Is it?", "mc1_targets": {"choices": ["Yes."], "labels": [1]}, "mc2_targets": {"choices": ["Yes.", "Aye.", "No."], "labels": [1, 1, 0]}}`,
		Question{
			"1", "", "Q: Is it?\nA:",
			[]string{"Yes.", "Aye.", "No."},
			[]bool{true, true, false},
		},
	},
}

func init() {
	const prompt = "Please read the following text and answer the question below.\n\n<text>\n" +
		"Mars is red.\n</text>\n\nWhat is the correct answer to this question: What is red?\n" +
		"Choices:\n(A) Io\n(B) Mars\n(C) Sun\n(D) Moon\n\nAnswer:"
	letters, second := []string{"A", "B", "C", "D"}, []bool{false, true, false, false}
	want := Question{"x", "", prompt, letters, second}
	for _, text := range []string{
		`[{"_id": "x", "context": "Mars is red.", "question": " What is red?\n", "choice_A": "Io", ` +
			`"choice_B": "Mars", "choice_C": "Sun", "choice_D": "Moon", "answer": "B"}]`,
		`{"_id": "x", "context": "Mars is red.", "question": "What is red?", ` +
			`"choices": ["Io", "Mars", "Sun", "Moon"], "answer": 1}`,
	} {
		item := publishedItems[0]
		item.name, item.benchmark, item.file = "longbench v2", "longbench2", "data.json"
		item.text, item.want = text, want
		publishedItems = append(publishedItems, item)
	}
}

func TestReadQuestions(t *testing.T) {
	for _, c := range publishedItems {
		got, err := ReadQuestions(c.benchmark, strings.NewReader(c.text), c.file)
		require.NoError(t, err, c.name)
		require.Equal(t, []Question{c.want}, got, c.name)
	}
	for text, want := range map[string]string{
		"":                      "x.jsonl: empty",
		"PAR1\xff\x00":          "parquet",
		"id,question":           "neither JSON lines nor",
		`{"question": 1}`:       "item 1",
		`{}`:                    "item 1",
		"{\"id\":\"a\"}\n{nope": "item 1",
		`{"question":"q","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"C"}`: "no choice is the correct one",
		`{"question":"q","choices":{"text":["a"],"label":["A"]},"answerKey":"A"}`:         "1 choices",
		`{"question":"q","choices":{"text":["a",""],"label":["A","B"]},"answerKey":"A"}`:  "a choice is empty",
		`[]`: "no questions",
	} {
		_, err := ReadQuestions("arc_easy", strings.NewReader(text), "x.jsonl")
		assert.ErrorContains(t, err, want, text)
	}
	_, err := ReadQuestions("mmlu", strings.NewReader("a,b,c\n"), "x.csv")
	assert.ErrorContains(t, err, "3 fields")
	_, err = ReadQuestions("hellaswag",
		strings.NewReader(`{"activity_label": "A", "ctx_a": "b", "ctx_b": "", "endings": ["c", "d"], "label": ""}`), "x")
	assert.ErrorContains(t, err, "take the validation set")
	_, err = ReadQuestions("winogrande", nil, "x")
	assert.ErrorContains(t, err, "known: arc_challenge")
}

func TestEveryBenchmark(t *testing.T) {
	for _, name := range BenchmarkNames() {
		task, err := evals.TaskByName(name)
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) { tasktest.Check(t, task) })
	}
}

func FuzzReadQuestions(f *testing.F) {
	for i, c := range publishedItems {
		f.Add(i%len(BenchmarkNames()), c.text)
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		names := BenchmarkNames()
		questions, err := ReadQuestions(names[(i%len(names)+len(names))%len(names)],
			strings.NewReader(text), "x.csv")
		if err == nil && len(questions) == 0 {
			t.Fatal("no questions and no error")
		}
		for _, q := range questions {
			if err := q.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// questions that the bigram model answers in a known way: a blank and a letter cost two surprises,
// each further letter in order of the alphabet a half.
var bigramQuestions = []Question{
	{ID: "norm", Prompt: "Q:", Choices: []string{"z", "abcdef"}, Correct: []bool{false, true}},
	{ID: "both", Prompt: "Q:", Choices: []string{"xyz", "cba"}, Correct: []bool{true, false}},
	{ID: "neither", Prompt: "Q:", Choices: []string{"ace", "abc"}, Correct: []bool{true, false}},
}

func TestChoice(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	e.Original = 1 << 20
	r, err := Choice(context.Background(), e, evals.Method{Name: "stock"}, bigramQuestions, nil,
		Options{Benchmark: "arc_easy"})
	require.NoError(t, err)
	half, surprise := math.Ln2, math.Ln2+math.Log(511)
	assert.InDeltaSlice(t, []float64{2 * surprise, 2*surprise + 5*half}, r.Details[0].NLL, 1e-9)
	assert.Equal(t, 0, r.Details[0].Choice)
	assert.Equal(t, 1, r.Details[0].ChoiceNorm)
	assert.Equal(t, []int{1, 2}, []int{r.Accuracy.Correct, r.AccuracyNorm.Correct})
	assert.Equal(t, 3, r.Accuracy.Trials)
	assert.InDelta(t, 1.0/33, r.Details[0].Mass, 1e-9) // 2^-5 of what the other has
	assert.InDelta(t, 1/(1+1.0/511/511), r.Details[1].Mass, 1e-9)
	assert.InDelta(t, (r.Details[0].Mass+r.Details[1].Mass+r.Details[2].Mass)/3, r.Mass, 1e-12)

	stock := evals.Method{Name: "stock"}
	limited, err := Choice(context.Background(), e, stock, bigramQuestions, nil,
		Options{Benchmark: "arc_easy", Limit: 1})
	require.NoError(t, err)
	assert.Len(t, limited.Details, 1)
	assert.NotEqual(t, r.Questions, limited.Questions)
	task, err := evals.TaskByName("arc_easy")
	require.NoError(t, err)
	var csv bytes.Buffer
	results := evals.TaskResults{Task: task, Results: []evals.Result{r}}
	require.NoError(t, results.WriteCSV(&csv, task.Sheets[1]))
	assert.Equal(t, 4, strings.Count(csv.String(), "\n"))

	// A likelihood of nothing is an error, not an answer.
	e.Bad = math.NaN()
	_, err = Choice(context.Background(), e, evals.Method{Name: "stock"}, bigramQuestions, nil,
		Options{Benchmark: "arc_easy"})
	assert.ErrorIs(t, err, evals.ErrNotFinite)
}

func TestChoicePrompt(t *testing.T) {
	shots := []Question{
		{Subject: "a_b", Prompt: "one", Choices: []string{"A", "B"}, Correct: []bool{false, true}},
		{Subject: "c", Prompt: "two", Choices: []string{"A", "B"}, Correct: []bool{true, false}},
		{
			Subject: "a_b", Prompt: "three", Choices: []string{"A", "B"},
			Correct: []bool{true, false},
		},
	}
	got, err := PromptOf("mmlu", Question{Subject: "a_b", Prompt: "four"}, shots, 2)
	require.NoError(t, err)
	assert.Equal(t,
		"The following are multiple choice questions (with answers) about a b.\n\none B\n\nthree "+
			"A\n\nfour", got)
	got, err = PromptOf("mmlu", shots[0], shots, 1)
	require.NoError(t, err)
	assert.NotContains(t, got, "one B", "a question must not be its own example")
	_, err = PromptOf("mmlu", Question{Subject: "c", Prompt: "four"}, shots, 2)
	assert.ErrorContains(t, err, "1 more examples")
	got, err = PromptOf("truthfulqa_mc1", Question{Prompt: "Q: Is it?\nA:"}, nil, 0)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(got, "Q: What is human life expectancy"), got)
	assert.True(t, strings.HasSuffix(got, "held in Barcelona, Spain.\n\nQ: Is it?\nA:"), got)
}

// A question that does not fit is left out and costs nothing else.
func TestChoiceThatDoesNotFit(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	e.Most = 40
	long := Question{
		ID: "long", Prompt: strings.Repeat("Why? ", 10), Choices: []string{"a", "b"},
		Correct: []bool{true, false},
	}
	stock := evals.Method{Name: "stock"}
	questions := append([]Question{long}, bigramQuestions...)
	r, err := Choice(context.Background(), e, stock, questions, nil,
		Options{Benchmark: "arc_easy"})
	require.NoError(t, err)
	assert.Equal(t, 3, r.Accuracy.Trials)
	assert.Equal(t, "does not fit: 52 tokens, of 40", r.Details[0].Note)
	assert.Contains(t, r.Note(), "1 of 4 questions were not asked, the first of them: does not fit")
	o := &Options{Benchmark: "arc_easy", Questions: questions}
	n, err := o.Longest(e, 40)
	require.NoError(t, err)
	assert.Equal(t, 52, n)

	r, err = Choice(context.Background(), e, stock, questions[:1], nil,
		Options{Benchmark: "arc_easy"})
	require.NoError(t, err)
	assert.Nil(t, r.Figures(nil)[0].Values[0], "none was asked: not 0 %")
}

// Length gives short questions the factors of a long text.
func TestChoiceLength(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	m := evals.Method{Name: "longrope", Ladder: tasktest.LadderTo(1024)}
	// the last rung's length
	for length, want := range map[int]int{0: 1024, 512: 64, 1024: 64, 4096: 64} {
		_, err := Choice(context.Background(), e, m, bigramQuestions, nil,
			Options{Benchmark: "arc_easy", Length: length})
		require.NoError(t, err)
		assert.Equal(t, want, e.Ladder.Rungs[0].Length, length)
		assert.Equal(t, m.Ladder.Rungs[0].Factors, e.Ladder.Rungs[0].Factors)
		if length > 0 {
			assert.Equal(t, 1, e.Ladder.RungFor(10), "short texts must get the rung")
		}
	}
	own, err := Always(m.Ladder, 64)
	require.NoError(t, err)
	assert.Empty(t, own.Rungs)
	m.Ladder.Rungs[0].StartWindow = 64
	_, err = Always(m.Ladder, 512)
	assert.ErrorContains(t, err, "start window")
}

// A method without a ladder runs with the model's own, of which a length asks for a rung.
func TestChoiceTakesTheCarriedLadder(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	j := &Options{Benchmark: "arc_easy", Questions: bigramQuestions}
	var lengths []int
	methods := []evals.Method{{Name: "stock"}, {Name: "longrope"}}
	c, err := evals.Compare(context.Background(), e, methods,
		evals.CompareOptions{
			Jobs: []evals.Job{j}, Lengths: []int{0, 512}, Carried: tasktest.LadderTo(1024),
			Progress: func(int, int, string) {
				lengths = append(lengths, e.Ladder.Rungs[0].Length)
			},
		})
	require.NoError(t, err)
	assert.Equal(t, []int{0, 0, 512}, []int{c.Rows[0].Length, c.Rows[1].Length, c.Rows[2].Length},
		"stock is the same at every length")
	assert.Contains(t, lengths, 1024, "the ladder as it is")
	assert.Equal(t, 64, lengths[len(lengths)-1], "its rung for 512 tokens, for every length")
}
