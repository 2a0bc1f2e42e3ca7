package ruler

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/recall"
)

const (
	qaText = "Answer the question based on the given documents. Only give me the answer and do " +
		"not output any other words.\n\nThe following are given documents.\n\n"
	qaQuestion = "\n\nAnswer the question based on the given documents. Only give me the answer " +
		"and do not output any other words.\n\nQuestion: "
	qaPrefix = " Answer:"
)

// documents are a data set of questions to paragraphs.
type documents struct {
	texts     []string // sorted, each once
	questions []docQuestion
}

type docQuestion struct {
	text    string
	answers []string
	docs    []int // that hold the answer
	near    []int // of the same article
}

// squad and hotpot are the files that the original fetches.
var (
	squad = &recall.File{
		Flag:  "squad",
		Usage: "SQuAD 2.0 `FILE`, dev-v2.0.json",
		Example: evals.ExampleFile{Flag: "squad", Name: "dev-v2.0.json", Text: `{"data": [` +
			`{"title": "Sky", "paragraphs": [{"context": "The sky is blue.", "qas": [` +
			`{"question": "What is the sky?", "is_impossible": false, "answers": [` +
			`{"text": "blue"}, {"text": "is blue"}]}]}, {"context": "It rains.", "qas": [` +
			`{"question": "What is red?", "is_impossible": true, "answers": []}, ` +
			`{"question": "Does it rain?", "is_impossible": false, "answers": [` +
			`{"text": "rains"}]}]}]}]}`},
		Read: readSQuAD,
	}
	hotpot = &recall.File{
		Flag:  "hotpotqa",
		Usage: "HotpotQA `FILE`, hotpot_dev_distractor_v1.json",
		Example: evals.ExampleFile{
			Flag: "hotpotqa", Name: "hotpot_dev_distractor_v1.json",
			Text: `[{"question": "What is wet?", "answer": "water", "context": ` +
				`[["Water", ["Water is wet.", " It flows."]], ["Sand", ["Sand is dry."]]]}, ` +
				`{"question": "What is dry?", "answer": "sand", "context": ` +
				`[["Sand", ["Sand is dry."]]]}]`,
		},
		Read: readHotpotQA,
	}
)

// qa asks questions of a data set to the paragraphs that hold the answer among others. A unit of
// haystack is a paragraph.
func qa(name, help string, f *recall.File) recall.Kind {
	return ruler(recall.Kind{
		Name: name, Help: help, Answer: 32, Draw: drawQA, Score: recall.Any, File: f,
		Write: func(references []string) string { return " " + references[0] },
	})
}

func drawQA(r recall.Request) (recall.Sample, error) {
	d := r.Data.(*documents)
	q := d.questions[r.Index]
	chosen := slices.Clone(q.docs)
	// The article's own paragraphs come first, in an order that their number does not change.
	for _, i := range r.Rand.Perm(len(q.near)) {
		chosen = append(chosen, q.near[i])
	}
	taken := map[int]bool{}
	for _, i := range chosen {
		taken[i] = true
	}
	for _, i := range r.Rand.Perm(len(d.texts)) {
		if !taken[i] {
			chosen = append(chosen, i)
		}
	}
	n := len(q.docs) + r.Units
	for all := chosen; len(chosen) < n; { // repeated, as the original does
		chosen = append(chosen, all...)
	}
	chosen = chosen[:n]
	r.Rand.Shuffle(n, func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	parts := make([]string, n)
	for i, doc := range chosen {
		parts[i] = fmt.Sprintf("Document %d:\n%s", i+1, d.texts[doc])
	}
	return recall.Sample{
		Context: qaText + strings.Join(parts, "\n\n"),
		Questions: []recall.Question{{
			Text: qaQuestion + q.text, Prefix: qaPrefix, References: q.answers,
		}},
	}, nil
}

// readSQuAD reads the authors' file. Questions without an answer are left out, as the original
// does.
func readSQuAD(path string) (any, int, error) {
	var file struct {
		Data []struct {
			Paragraphs []struct {
				Context string `json:"context"`
				QAs     []struct {
					Question   string `json:"question"`
					Impossible bool   `json:"is_impossible"`
					Answers    []struct {
						Text string `json:"text"`
					} `json:"answers"`
				} `json:"qas"`
			} `json:"paragraphs"`
		} `json:"data"`
	}
	if err := readJSON(path, &file); err != nil {
		return nil, 0, err
	}
	d := &documents{}
	for _, article := range file.Data {
		for _, p := range article.Paragraphs {
			d.texts = append(d.texts, p.Context)
		}
	}
	at := d.index()
	for _, article := range file.Data {
		for _, p := range article.Paragraphs {
			own := at[p.Context]
			var near []int
			for _, other := range article.Paragraphs {
				if i := at[other.Context]; i != own && !slices.Contains(near, i) {
					near = append(near, i)
				}
			}
			for _, q := range p.QAs {
				x := docQuestion{text: q.Question, docs: []int{own}, near: near}
				for _, a := range q.Answers {
					x.answers = append(x.answers, a.Text)
				}
				if !q.Impossible {
					d.questions = append(d.questions, x)
				}
			}
		}
	}
	return d.checked(path, "SQuAD 2.0")
}

// readHotpotQA reads the authors' file of the setting with distractors.
func readHotpotQA(path string) (any, int, error) {
	var items []struct {
		Question string  `json:"question"`
		Answer   string  `json:"answer"`
		Context  [][]any `json:"context"`
	}
	if err := readJSON(path, &items); err != nil {
		return nil, 0, err
	}
	paragraph := func(c []any) string {
		if len(c) != 2 {
			return ""
		}
		title, _ := c[0].(string)
		parts, _ := c[1].([]any)
		text := title + "\n"
		for _, p := range parts {
			s, _ := p.(string)
			text += s
		}
		return text
	}
	d := &documents{}
	for _, item := range items {
		for _, c := range item.Context {
			d.texts = append(d.texts, paragraph(c))
		}
	}
	at := d.index()
	for _, item := range items {
		q := docQuestion{text: item.Question, answers: []string{item.Answer}}
		for _, c := range item.Context {
			if i := at[paragraph(c)]; !slices.Contains(q.docs, i) {
				q.docs = append(q.docs, i)
			}
		}
		d.questions = append(d.questions, q)
	}
	return d.checked(path, "HotpotQA")
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := evals.UnmarshalJSON(evals.TrimBOM(b), v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// index sorts the paragraphs and says where each is.
func (d *documents) index() map[string]int {
	slices.Sort(d.texts)
	d.texts = slices.Compact(d.texts)
	at := map[string]int{}
	for i, t := range d.texts {
		at[t] = i
	}
	return at
}

func (d *documents) checked(path, name string) (any, int, error) {
	err := errors.New("it has no questions with answers")
	if len(d.questions) > 0 {
		err = nil
	}
	for i, q := range d.questions {
		if q.text == "" || len(q.docs) == 0 || len(q.answers) == 0 ||
			slices.Contains(q.answers, "") {
			err = fmt.Errorf("question %d has no text, no paragraph or no answer", i+1)
			break
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w: want %s as its authors publish it", path, err, name)
	}
	return d, len(d.questions), nil
}
