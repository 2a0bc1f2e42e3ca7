package longppl

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/tasktest"
)

func TestTask(t *testing.T) {
	task, err := evals.TaskByName(name)
	require.NoError(t, err)
	tasktest.Check(t, task)
}

// copier is a model that knows a capital letter once it has seen it: it loses less the longer ago
// that was within its reach, so that a cut context costs something.
type copier struct {
	*tasktest.Engine
	calls [][2]int // tokens, ladder's last length
}

// loss of token i in a context.
func loss(tokens []int, i, reach int) float64 {
	if i >= reach {
		return 7.5
	}
	for k := i - 1; k >= 0; k-- {
		if tokens[k] == tokens[i] {
			return 0.5 + float64(tokens[i]%7)/3
		}
	}
	return 3 + float64(tokens[i]%5)
}

func (c *copier) reach() int {
	if c.Ladder == nil {
		return c.Original
	}
	return c.Ladder.Rungs[len(c.Ladder.Rungs)-1].Length
}

func (c *copier) NLL(_ context.Context, tokens []int, from int) (values []float64, err error) {
	c.calls = append(c.calls, [2]int{len(tokens), c.reach()})
	for i := from; i < len(tokens); i++ {
		values = append(values, loss(tokens, i, c.reach()))
	}
	return values, nil
}

// oracle is the definition, token by token: the cut context of token i begins where its group does.
// A token is a key token where it is one for a method of any reach; measured is the reach of one.
func oracle(body, bos []int, o options, reaches []int, measured int) (
	keys int, long, plain float64,
) {
	whole := append(append([]int(nil), bos...), body...)
	n := 0
	for i := range body {
		if len(bos)+i == 0 {
			continue
		}
		l := loss(whole, len(bos)+i, measured)
		plain, n = plain+l, n+1
		if i < o.Truncation {
			continue
		}
		start := (i - o.Truncation) / o.Sliding * o.Sliding
		cut := append(append([]int(nil), bos...), body[start:i+1]...)
		for _, reach := range reaches {
			full := loss(whole, len(bos)+i, reach)
			if loss(cut, len(cut)-1, math.MaxInt)-full > o.Alpha && -full > o.Beta {
				keys++
				long += l
				break
			}
		}
	}
	return keys, math.Exp(long / float64(keys)), math.Exp(plain / float64(n))
}

func TestAgainstTheDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	for range 200 {
		b.WriteByte(byte('A' + rng.IntN(50)))
	}
	text := evals.Text{Name: "t", Body: b.String()}
	for _, hasBOS := range []bool{false, true} {
		tok := tasktest.Bytes{BOS: hasBOS}
		e := &copier{Engine: tasktest.New(tok)}
		job := &options{
			Texts: []evals.Text{text}, Alpha: 2.5, Beta: -2.2, Truncation: 40, Sliding: 10,
		}
		reaches := []int{64, 130, 200}
		c, err := evals.Compare(context.Background(), e, []evals.Method{
			{Name: "stock"},
			{Name: "some", Ladder: tasktest.LadderTo(130)},
			{Name: "long", Ladder: tasktest.LadderTo(200)},
		}, evals.CompareOptions{Jobs: []evals.Job{job}, Lengths: []int{150, 190}})
		require.NoError(t, err)
		results := evals.ResultsOf[*Result](c)
		require.Len(t, results, len(reaches))
		bos := tok.Encode("", true)
		for i, reach := range reaches {
			for k, length := range []int{150, 190} {
				body := tok.Encode(text.Body, false)[:length-len(bos)]
				keys, long, plain := oracle(body, bos, *job, reaches, reach)
				got := results[i].Lengths[k]
				require.Greater(t, keys, 10)
				assert.Equal(t, keys, got.KeyTokens, "the same tokens for every method")
				assert.InDelta(t, long, *got.LongPPL, 1e-9*long)
				assert.InDelta(t, plain, got.Perplexity, 1e-9*plain)
			}
		}
		cuts := 0
		for _, call := range e.calls {
			if call[0] < 100 {
				cuts++
				assert.LessOrEqual(t, call[0], 64, "cut contexts get the model's own RoPE")
			}
		}
		assert.Less(t, cuts, len(e.calls)-5, "they are read once for all methods")
	}
}

func TestNoKeyTokens(t *testing.T) {
	e := tasktest.New(tasktest.Bytes{})
	job := tasktest.Job(t, mustTask(t), "--alpha", "50")
	c, err := evals.Compare(context.Background(), e, []evals.Method{{Name: "stock"}},
		evals.CompareOptions{
			Jobs: []evals.Job{job}, Lengths: []int{300},
			Books: func(int) ([]evals.Text, error) { return []evals.Text{tasktest.Book(900)}, nil },
		})
	require.NoError(t, err)
	r := evals.ResultsOf[*Result](c)[0]
	assert.Nil(t, r.Lengths[0].LongPPL)
	assert.Contains(t, r.Note(), "0 key tokens at 300 tokens")
	assert.Positive(t, r.Lengths[0].Perplexity)
}

func mustTask(t *testing.T) evals.Task {
	task, err := evals.TaskByName(name)
	require.NoError(t, err)
	return task
}

func TestBadSettings(t *testing.T) {
	for flags, want := range map[string]string{
		"--alpha=0": "--alpha is 0", "--beta=1": "--beta is 1",
		"--truncation=-1": "--truncation is -1", "--windows=-2": "--windows is -2",
	} {
		_, err := tasktest.TryJob(t, mustTask(t), flags)
		assert.ErrorContains(t, err, want)
	}
	e := tasktest.New(tasktest.Bytes{})
	prepare := func(o options, length int) error {
		o.Texts = []evals.Text{tasktest.Book(1000)}
		_, err := o.Prepare(evals.Setup{Engine: e, Lengths: []int{length}})
		return err
	}
	assert.ErrorContains(t, prepare(options{Truncation: 64}, 200), "must fit the original context")
	assert.ErrorContains(t, prepare(options{}, 48), "ask for a longer one")
	assert.ErrorContains(t, prepare(options{}, 4000), "give a longer text")
	assert.Empty(t, e.Calls)
}
