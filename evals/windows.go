package evals

import (
	"context"
	"fmt"
)

// window is a stretch [Start, End) of a text's tokens of which [From, End) are scored; From >
// Start, so that every scored token has something before it.
type window struct {
	Start, From, End int
}

// splitWindows lays windows of exactly length tokens over n tokens. Each moves on by stride and
// scores what the one before did not, with at least length-stride tokens of context:
//
//	n = 12, length = 6, stride = 3            . not seen   c context   S scored
//
//	token     0 1 2 3 4 5 6 7 8 9 10 11
//	window 0  c S S S S S . . . . .  .       Start 0  From 1  End 6
//	window 1  . . . c c c S S S . .  .       Start 3  From 6  End 9
//	window 2  . . . . . . c c c S S  S       Start 6  From 9  End 12
//
// The scored stretches are disjoint and cover tokens 1 to n-1. When stride does not divide, the
// last window ends at n, keeps its length and scores fewer. A large stride is cheap and scores many
// tokens with little context; the largest is length-1, where windows share only the token that the
// next one's first scored token needs:
//
//	n = 11, length = 6, stride = 5
//
//	token     0 1 2 3 4 5 6 7 8 9 10
//	window 0  c S S S S S . . . . .
//	window 1  . . . . . c S S S S S
func splitWindows(n, length, stride int) ([]window, error) {
	if length < 2 {
		return nil, fmt.Errorf("length %d is too small: a window needs 2 tokens, one of context "+
			"and one to score", length)
	}
	if stride < 1 || stride > length-1 {
		return nil, fmt.Errorf("stride %d is outside 1 to %d: larger ones leave tokens of a "+
			"window of %d without a score", stride, length-1, length)
	}
	if n < length {
		return nil, fmt.Errorf("%d tokens are fewer than one window of %d", n, length)
	}
	windows := []window{{0, 1, length}}
	for end := length; end < n; {
		next := min(end+stride, n)
		windows = append(windows, window{next - length, end, next})
		end = next
	}
	return windows, nil
}

// spread picks at most count windows, evenly from first to last; 0 is all of them.
func spread(windows []window, count int) []window {
	if count <= 0 || count >= len(windows) {
		return windows
	}
	if count == 1 {
		return windows[:1]
	}
	picked := make([]window, count)
	for i := range picked {
		picked[i] = windows[i*(len(windows)-1)/(count-1)]
	}
	return picked
}

// document is a text in tokens, without BOS.
type document struct {
	text   Text
	tokens []int
}

// BOS returns what the model wants before any text: its BOS token, or nothing.
func BOS(e Engine) ([]int, error) {
	tokens, err := e.Tokenize("", true)
	if err != nil {
		return nil, fmt.Errorf("cannot tokenize an empty text: %w", err)
	}
	return tokens, nil
}

// tokenize turns texts into documents, none shorter than need tokens.
func tokenize(e Engine, texts []Text, need int) ([]document, error) {
	if len(texts) == 0 {
		return nil, fmt.Errorf("no text to score: give at least one")
	}
	documents := make([]document, len(texts))
	for i, t := range texts {
		tokens, err := e.Tokenize(t.Body, false)
		if err != nil {
			return nil, fmt.Errorf("cannot tokenize text %q: %w", t.Name, err)
		}
		documents[i] = document{t, tokens}
	}
	return documents, long(documents, need)
}

func long(documents []document, need int) error {
	for _, d := range documents {
		if len(d.tokens) < need {
			return fmt.Errorf("text %q has %d tokens and needs at least %d for this length: give "+
				"a longer text or a shorter length",
				d.text.Name, len(d.tokens), need)
		}
	}
	return nil
}

// Sample is a sequence of token ids and what of it is scored: for each score the stretches of
// tokens that it is the mean of. Tokens after the last one only make the length, and so the rung,
// right.
type Sample struct {
	Tokens []int
	Scored [][]Span
}

// Span is a stretch of tokens, [From, To) with From at least 1.
type Span struct{ From, To int }

// Check finds spans that cannot be scored.
func (s Sample) Check() error {
	if len(s.Scored) == 0 {
		return fmt.Errorf("nothing of %d tokens is to be scored", len(s.Tokens))
	}
	for _, spans := range s.Scored {
		if len(spans) == 0 {
			return fmt.Errorf("a score of %d tokens has no span", len(s.Tokens))
		}
		for _, p := range spans {
			if p.From < 1 || p.To <= p.From || p.To > len(s.Tokens) {
				return fmt.Errorf("cannot score tokens %d to %d of %d", p.From, p.To, len(s.Tokens))
			}
		}
	}
	return nil
}

// Score reads the sequence once and returns the mean NLL of each score, in nats. Non-finite values
// are ErrNotFinite.
func (s Sample) Score(ctx context.Context, e Engine) ([]float64, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	from := len(s.Tokens)
	for _, spans := range s.Scored {
		for _, p := range spans {
			from = min(from, p.From)
		}
	}
	values, err := CheckedNLL(ctx, e, s.Tokens, from)
	if err != nil {
		return nil, err
	}
	means := make([]float64, len(s.Scored))
	for i, spans := range s.Scored {
		n := 0
		for _, p := range spans {
			for _, v := range values[p.From-from : p.To-from] {
				means[i] += v
			}
			n += p.To - p.From
		}
		means[i] /= float64(n)
	}
	return means, nil
}

// Score returns the mean NLL, in nats, of tokens[from:] over all windows, each token weighing the
// same, and how many tokens were scored; exp(nll) is the perplexity. It is the fitness of a search:
// windows are prepared once (SampleWindows) and scored for each ladder that the engine is given.
// Non-finite values are ErrNotFinite.
func Score(ctx context.Context, e Engine, windows [][]int, from int) (mean float64, tokens int,
	err error,
) {
	var sum float64
	for _, w := range windows {
		values, err := CheckedNLL(ctx, e, w, from)
		if err != nil {
			return 0, tokens, err
		}
		for _, v := range values {
			sum += v
		}
		tokens += len(values)
	}
	if tokens == 0 {
		return 0, 0, fmt.Errorf("no windows to score: give at least one")
	}
	return sum / float64(tokens), tokens, nil
}

// TextWindows cuts windows of exactly length tokens (the model's BOS included) out of a text: as
// many as it holds, and most at most; 0 is all.
func TextWindows(e Engine, t Text, length, most int) ([][]int, error) {
	bos, err := BOS(e)
	if err != nil {
		return nil, err
	}
	tokens, err := e.Tokenize(t.Body, false)
	if err != nil {
		return nil, fmt.Errorf("cannot tokenize text %q: %w", t.Name, err)
	}
	count := max(1, len(tokens)/max(1, length-len(bos)))
	if most > 0 {
		count = min(count, most)
	}
	return SampleWindows(e, []Text{t}, length, count)
}

// SampleWindows cuts count windows of exactly length tokens (the model's BOS included) out of the
// texts: disjoint, evenly spread, from each text in turn. It asks for no more windows than the
// texts hold.
func SampleWindows(e Engine, texts []Text, length, count int) ([][]int, error) {
	if count < 1 {
		return nil, fmt.Errorf("cannot sample %d windows: ask for at least 1", count)
	}
	if err := CheckLength(e, length); err != nil {
		return nil, err
	}
	bos, err := BOS(e)
	if err != nil {
		return nil, err
	}
	body := length - len(bos)
	if body < 2 {
		return nil, fmt.Errorf("length %d is too small: %d tokens go before every text and 2 "+
			"more are needed", length, len(bos))
	}
	documents, err := tokenize(e, texts, body)
	if err != nil {
		return nil, err
	}
	var windows [][]int
	for i, d := range documents {
		// Texts share the count; the first ones take what does not divide.
		want := count / len(documents)
		if i < count%len(documents) {
			want++
		}
		if has := len(d.tokens) / body; want > has {
			return nil,
				fmt.Errorf("text %q has %d tokens and needs %d for %d windows of %d: give a "+
					"longer text or ask for fewer windows",
					d.text.Name, len(d.tokens), want*body, want, length)
		}
		for k := range want {
			start := 0
			if want > 1 {
				// The gaps between windows are equal but for rounding, and never negative since
				// want windows fit.
				start = k * (len(d.tokens) - body) / (want - 1)
			}
			windows = append(windows, append(append([]int(nil), bos...),
				d.tokens[start:start+body]...))
		}
	}
	return windows, nil
}
