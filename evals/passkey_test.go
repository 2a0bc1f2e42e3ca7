package evals_test

import (
	"context"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/tasktest"
)

// book is a haystack with lines, sentences and runes of several bytes.
func book(n int) *Text {
	rng := rand.New(rand.NewPCG(3, 4))
	words := strings.Fields("the sea was grey and naïve men sailed — for days on end, until an " +
		"island came in sight green 12 34 there")
	var s strings.Builder
	for s.Len() < n {
		for range 3 + rng.IntN(9) {
			s.WriteString(words[rng.IntN(len(words))] + " ")
		}
		s.WriteString("again. ")
		if rng.IntN(4) == 0 {
			s.WriteString("\n")
		}
	}
	return &Text{"book.txt", s.String()}
}

func TestPromptsHaveExactlyTheLength(t *testing.T) {
	tokenizers := map[string]tasktest.Tokenizer{
		"bytes": tasktest.Bytes{},
		"bos":   tasktest.Bytes{BOS: true}, "merges": tasktest.NewMerges(),
		"pairs": tasktest.Pairs{},
	}
	for name, tok := range tokenizers {
		for _, template := range Templates() {
			for _, hay := range []*Text{nil, book(8000)} {
				e := tasktest.New(tok)
				joined := 0
				for length := 1400; length < 1420; length++ {
					o := PasskeyOptions{
						Template: template, Haystack: hay, AnswerTokens: 16,
						Seed: uint64(length),
					}
					depth := float64(length%5) / 4
					p, err := PasskeyPrompt(e, o, length, depth, 0)
					require.NoError(t, err, "%s %s %d", name, template.Name, length)
					require.Len(t, p.Tokens, length-16, "%s %s", name, template.Name)
					if p.Retokenizes {
						require.Equal(t, tok.Encode(p.Text, true), p.Tokens)
					} else {
						joined++
					}
					text := tok.Decode(p.Tokens)
					require.Contains(t, text, p.Key)
					require.Contains(t, text, template.Intro)
					require.Regexp(t, " is$", text, "the question comes last")
					require.Len(t, tasktest.Hidden.FindAllString(text, -1), 1+template.Distractors)
					s := p.Sample()
					key := s.Scored[0][0]
					require.Len(t, s.Tokens, length)
					require.Equal(t, " "+p.Key, tok.Decode(s.Tokens[key.From:key.To]))
					require.Equal(t, p.Tokens, s.Tokens[:key.From])
				}
				switch name {
				case "pairs":
					require.Equal(t, 10, joined, "odd lengths cannot be had from text")
				case "bytes", "bos":
					require.Zero(t, joined)
				default:
					require.Less(t, joined, 4, "text is found nearly always")
				}
			}
		}
	}
}

func TestNeedleStandsAtItsDepth(t *testing.T) {
	for _, hay := range []*Text{nil, book(20000)} {
		e := tasktest.New(tasktest.Bytes{})
		for _, depth := range []float64{0, 0.1, 0.25, 0.5, 0.75, 0.9, 1} {
			p, err := PasskeyPrompt(e, PasskeyOptions{Haystack: hay}, 4000, depth, 0)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(p.Text[p.NeedleStart:], "The pass key is "+p.Key),
				"at its token")
			require.Equal(t, byte('\n'), p.Text[p.NeedleStart-1], "on a line of its own")
			intro := len(Templates()[0].Intro)
			filler := len(p.Text) - intro - len(Templates()[0].Question) - 58
			require.InDelta(t, float64(intro)+depth*float64(filler), p.NeedleStart, 60,
				"to the nearest sentence")
		}
	}
}

// Distractors stand at depths of their own, all over the text and whatever the needle's: a model
// that answers with the number at a certain place must not be right.
func TestDistractorsAreEverywhere(t *testing.T) {
	numbers, err := TemplateByName("numbers")
	require.NoError(t, err)
	e := tasktest.New(tasktest.Bytes{})
	for _, depth := range []float64{0, 0.5, 1} {
		var quarters [4]int
		before, all := 0, 0
		names := map[string]bool{}
		for trial := range 40 {
			p, err := PasskeyPrompt(e, PasskeyOptions{Template: numbers}, 6000, depth, trial)
			require.NoError(t, err)
			asked := regexp.MustCompile(`belongs to (\w+)\?`).FindStringSubmatch(p.Text)[1]
			keys := map[string]bool{}
			for _, at := range tasktest.Hidden.FindAllStringSubmatchIndex(p.Text, -1) {
				line := p.Text[at[0]:at[1]]
				keys[p.Text[at[2]:at[3]]] = true
				if strings.Contains(line, " "+asked+" ") {
					require.Contains(t, line, p.Key)
					continue
				}
				require.NotContains(t, line, p.Key)
				names[strings.Fields(line)[3]] = true
				share := float64(at[0]) / float64(len(p.Text))
				quarters[min(int(4*share), 3)]++
				all++
				if at[0] < p.NeedleStart {
					before++
				}
			}
			require.Len(t, keys, 1+numbers.Distractors, "no two keys are the same")
		}
		require.Equal(t, 40*numbers.Distractors, all)
		for q, n := range quarters {
			require.Greater(t, n, all/8, "quarter %d of the text, needle at %v", q, depth)
		}
		require.InDelta(t, depth, float64(before)/float64(all), 0.12, "before the needle")
		require.Greater(t, len(names), 30)
	}
}

func TestInlineTemplateHasNoLines(t *testing.T) {
	inline, err := TemplateByName("passkey-inline")
	require.NoError(t, err)
	for trial := range 20 {
		p, err := PasskeyPrompt(tasktest.New(tasktest.NewMerges()),
			PasskeyOptions{Template: inline}, 500, float64(trial)/19, trial)
		require.NoError(t, err)
		require.NotContains(t, p.Text, "\n")
		require.Contains(t, p.Text, " Remember it. "+p.Key+" is the pass key. ")
		require.Contains(t, p.Text, " The pass key is "+p.Key+". ")
		require.True(t, strings.HasSuffix(p.Text, " What is the pass key? The pass key is"))
	}
}

func TestPasskeyScoresExactly(t *testing.T) {
	for name, tok := range map[string]tasktest.Tokenizer{
		"bytes":  tasktest.Bytes{BOS: true},
		"merges": tasktest.NewMerges(),
	} {
		for _, template := range Templates()[:3] {
			e := tasktest.New(tok)
			r, err := Passkey(ctx, e, Method{"long", tasktest.LadderTo(640)}, PasskeyOptions{
				Lengths: []int{500, 640, 641}, Depths: []float64{0, 0.5, 1}, Trials: 3,
				Template: template, NeedleNLL: true,
			})
			require.NoError(t, err)
			require.Len(t, r.Details, 27)
			require.Equal(t, 18, r.Correct, name)
			require.InDelta(t, 18.0/27, r.Rate, 1e-15)
			low, high := Wilson(18, 27)
			require.Equal(t, [2]float64{low, high}, [2]float64{r.Low, r.High})
			for _, c := range r.Cells {
				require.Equal(t, c.Length <= 640, c.Correct == 3, "%+v", c)
				require.NotNil(t, c.NLL)
			}
			require.Equal(t, []int{9, 9, 0}, []int{
				r.Lengths[0].Correct, r.Lengths[1].Correct,
				r.Lengths[2].Correct,
			})
			for _, n := range e.Calls {
				require.Contains(t, []int{500, 640, 641}, n,
					"prompt and answer have the length asked for, in both passes")
			}
			keys := map[string]bool{}
			for _, d := range r.Details {
				require.Regexp(t, `^[1-9][0-9]{4}$`, d.Key)
				require.Equal(t, d.Length-8, d.PromptTokens)
				keys[d.Key] = true
			}
			require.Greater(t, len(keys), 24, "keys differ")
		}
	}
}

// Only the first integer counts, whole: neither a longer number nor a later one is the key.
func TestAnswerIsTheFirstInteger(t *testing.T) {
	for answer, want := range map[string]bool{
		" 12345.": true, " 12345 12346": true, "\n12345": true, " the key is 12345": true,
		" 123456": false, " 1 12345": false, " 1234": false, "": false, " none": false,
		" 12,345": false,
	} {
		e := &answering{tasktest.New(tasktest.Bytes{}), answer}
		got, err := AskPasskey(ctx, e, &Prompt{Tokens: []int{1}, Key: "12345"},
			PasskeyOptions{AnswerTokens: 32})
		require.NoError(t, err)
		require.Equal(t, want, got.Correct, "%q", answer)
		require.Equal(t, answer, got.Answer)
	}
}

// A trial does not depend on what else is in the grid.
func TestTrialsAreThemselves(t *testing.T) {
	all, err := Passkey(ctx, tasktest.New(tasktest.NewMerges()), Method{},
		PasskeyOptions{Lengths: []int{300, 700}, Trials: 2, Haystack: book(4000)})
	require.NoError(t, err)
	some, err := Passkey(ctx, tasktest.New(tasktest.NewMerges()), Method{},
		PasskeyOptions{
			Lengths: []int{700}, Depths: []float64{0.75, 0.5}, Trials: 2,
			Haystack: book(4000),
		})
	require.NoError(t, err)
	for _, d := range some.Details {
		require.True(t, slices.Contains(all.Details, d), "%+v", d)
	}
}

// TestHideKeys: a window of text with keys in it says how well the text is predicted, but for what
// was added, and each key, of which a first token is given where there are others.
func TestHideKeys(t *testing.T) {
	for _, tokenizer := range []tasktest.Tokenizer{
		tasktest.Bytes{BOS: true},
		tasktest.NewMerges(),
	} {
		for keys, length := range map[int]int{1: 800, 3: 1600} {
			e := tasktest.New(tokenizer)
			windows, err := SampleWindows(e, []Text{*book(9000)}, length, 3)
			require.NoError(t, err)
			samples, err := HideKeys(e, windows, keys, PasskeyOptions{Seed: 1})
			require.NoError(t, err)
			require.Len(t, samples, 3)
			drawn := map[string]bool{}
			for i, s := range samples {
				require.NoError(t, s.Check())
				require.Len(t, s.Tokens, length)
				require.Len(t, s.Scored, 1+keys)
				read := func(spans ...Span) (text string) {
					for _, p := range spans {
						part, err := e.Detokenize(s.Tokens[p.From:p.To])
						require.NoError(t, err)
						text += part
					}
					return text
				}
				all := read(Span{0, length})
				firsts := map[string]bool{}
				for k, spans := range s.Scored[1:] {
					require.Len(t, spans, 1)
					got := read(spans...)
					if keys == 1 {
						require.Regexp(t, "^ ?[1-9][0-9]{4}$", got)
						got = strings.TrimSpace(got)
					} else {
						require.Regexp(t, "^[0-9]{1,4}$", got, "the first digit is given")
						before := read(Span{0, spans[0].From})
						given := before[strings.LastIndex(before, " is ")+len(" is "):]
						firsts[given[:1]] = true
						got = given + got
					}
					require.Regexp(t, "^[1-9][0-9]{4}$", got)
					drawn[got] = true
					needle := strings.Index(all, "The pass key is "+got+". Remember it.")
					require.Positive(t, needle)
					require.InDelta(t, (float64(k)+float64(i)/3)/float64(keys),
						float64(needle)/float64(len(all)), 0.22,
						"evenly apart, intro and questions aside")
				}
				require.True(t, keys == 1 || len(firsts) == keys, "no two begin alike")
				require.Equal(t, keys, strings.Count(all, "What is the pass key?"))
				text := read(s.Scored[0]...)
				for _, added := range []string{"important info", "pass key", "[0-9]{5}"} {
					require.NotRegexp(t, added, text)
				}
				window, err := e.Detokenize(windows[i])
				require.NoError(t, err)
				for _, span := range s.Scored[0] {
					require.Contains(t, window,
						strings.TrimSpace(read(Span{span.From, min(span.From+40, span.To)})),
						"the window's own text")
				}
				want := keys + 1
				if i == 0 {
					want-- // a key at the beginning has no text before it
				}
				require.Len(t, s.Scored[0], want)
			}
			require.Len(t, drawn, 3*keys)
			_, err = HideKeys(e, [][]int{windows[0][:300]}, keys, PasskeyOptions{})
			require.Error(t, err, "the prompt is longer than half of it")
		}
	}
	e := tasktest.New(tasktest.Bytes{BOS: true})
	windows, err := SampleWindows(e, []Text{*book(9000)}, 1600, 1)
	require.NoError(t, err)
	_, err = HideKeys(e, windows, 10, PasskeyOptions{})
	require.ErrorContains(t, err, "ask for 1 to 9")
	_, err = HideKeys(e, windows, 2, PasskeyOptions{Digits: 1})
	require.ErrorContains(t, err,
		"keys of 1 digits are single tokens in this model: ask for more digits")
}

func TestPasskeyBadInput(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	e.Most = 3000
	hay := Text{"tiny.txt", "Too short.\n"}
	numbers, err := TemplateByName("numbers")
	require.NoError(t, err)
	for want, o := range map[string]PasskeyOptions{
		"length 200 is too small for the prompt \"passkey\": without filler it takes 245 tokens " +
			"and 8 are kept for the answer, so ask for at least 253": {Lengths: []int{200}},
		"beyond the 3000 tokens":               {Lengths: []int{3001}},
		"length 500":                           {Lengths: []int{500, 500}},
		"depth 1.5":                            {Depths: []float64{1.5}},
		"trials -1":                            {Trials: -1},
		"digits 19":                            {Digits: 19},
		"answer tokens 2 are fewer than":       {AnswerTokens: 2},
		"haystack \"tiny.txt\" gives a prompt": {Haystack: &hay, Lengths: []int{1000}},
		"haystack \"none\" is empty":           {Haystack: &Text{Name: "none"}},
		"needle lacks {key}": {Template: Template{
			Name: "t", Filler: "x",
			Needle: "y", Question: "z",
		}},
		"without a space": {Template: Template{
			Name: "t", Filler: "x",
			Needle: "{key}", Question: "z ",
		}},
		"gives the answer away": {Template: Template{
			Name: "t", Filler: "x",
			Needle: "{key}", Question: "{key}",
		}},
		"filler is empty": {Template: Template{
			Name: "t", Needle: "{key}",
			Question: "z",
		}},
		"distractors need {name}": {Template: Template{
			Name: "t", Filler: "x",
			Needle: "{key}", Question: "z", Distractors: 1,
		}},
		"at most": {Template: Template{
			Name: "t", Filler: "x",
			Needle: "{key}{name}", Question: "{name}", Distractors: 99,
		}},
		"fewer than the distractors": {Template: Template{
			Name: "t", Filler: "x",
			Needle: "{key}{name}", Question: "{name}", Distractors: 9,
		}, Digits: 1},
	} {
		_, err := Passkey(ctx, e, Method{}, o)
		require.ErrorContains(t, err, want)
	}
	require.Empty(t, e.Calls)
	_, err = TemplateByName("niah")
	require.ErrorContains(t, err, "passkey, passkey-inline, number, numbers")
	require.Equal(t, 3, numbers.Distractors)

	p, err := PasskeyPrompt(e, PasskeyOptions{}, 253, 0.5, 0)
	require.NoError(t, err, "the least length that the error names works")
	require.Len(t, p.Tokens, 245)

	// A tokenizer that never grows must end in an error, not in a loop.
	for _, f := range []func(n int) int{
		func(int) int { return 1 },
		func(n int) int { return min(n, 300) },
	} {
		_, err = PasskeyPrompt(tasktest.New(stuck{f}), PasskeyOptions{AnswerTokens: 400}, 1000, 0.5,
			0)
		require.Error(t, err)
	}
}

// answering says the same whatever it is asked.
type answering struct {
	*tasktest.Engine
	answer string
}

func (a *answering) Generate(context.Context, []int, int) ([]int, error) {
	return a.Encode(a.answer, false), nil
}

// stuck gives a number of tokens that does not grow as text does.
type stuck struct{ count func(bytes int) int }

func (s stuck) Encode(text string, _ bool) []int { return make([]int, s.count(len(text))) }
func (stuck) Decode([]int) string                { return "" }
