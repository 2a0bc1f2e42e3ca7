package ruler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals/recall"
)

// vtParams are a task of variable tracking: so many chains, each of an assignment and hops.
type vtParams struct{ chains, hops int }

const (
	vtText = "Memorize and track the chain(s) of variable assignment hidden in the following " +
		"text.\n\n"
	vtQuestion = "\nQuestion: Find all variables that are assigned the value {query} in the text " +
		"above."
	vtPrefix = " Answer: According to the chain(s) of variable assignment in the text above, {n} " +
		"variables are assigned the value {query}, they are: "
	// The worked example takes at most exampleTokens, and has at least exampleNoise lines of noise.
	exampleTokens, exampleNoise = 500, 5
)

func vt(name, help string, p vtParams) recall.Kind {
	return ruler(recall.Kind{
		Name: name, Help: help, Answer: 30, Draw: p.draw, Once: p.example, Score: recall.All,
		Write: func(references []string) string { return " " + strings.Join(references, " ") },
	})
}

// draw is the worked example with names and value of its own, then the question.
func (p vtParams) draw(r recall.Request) (recall.Sample, error) {
	text, question, prefix, names := p.prompt(r.Rand, r.Once, 3)
	example := text + question + prefix + " " + strings.Join(names, " ") + "\n\n"
	text, question, prefix, names = p.prompt(r.Rand, r.Units, 5)
	return recall.Sample{Context: example + text, Questions: []recall.Question{{
		Text: question, Prefix: prefix, References: names,
	}}}, nil
}

// prompt has lines of noise with the chains among them; names are the variables of the first one,
// of so many letters.
func (p vtParams) prompt(rng *rand.Rand, noise, letters int) (
	text, question, prefix string, names []string,
) {
	n := (p.hops + 1) * p.chains
	var all []string
	for len(all) < n {
		name := make([]byte, letters)
		for i := range name {
			name[i] = byte('A' + rng.IntN(26))
		}
		if !slices.Contains(all, string(name)) {
			all = append(all, string(name))
		}
	}
	value := fmt.Sprint(10_000 + rng.IntN(89_999))
	places := make([][]float64, p.chains)
	values := make([]string, p.chains)
	for c := range places {
		values[c] = value
		if c > 0 {
			values[c] = fmt.Sprint(10_000 + rng.IntN(89_999))
		}
		for range p.hops + 1 {
			places[c] = append(places[c], rng.Float64())
		}
		slices.Sort(places[c])
	}
	lines := make([]string, noise)
	for i := range lines {
		lines[i] = grass
	}
	for c, at := range places {
		chain, size := all[c*(p.hops+1):], len(lines)
		for i, place := range at {
			line := fmt.Sprintf("VAR %s = %s", chain[0], values[c])
			if i > 0 {
				line = fmt.Sprintf("VAR %s = VAR %s ", chain[i], chain[i-1])
			}
			lines = slices.Insert(lines, int(place*float64(size))+i, line)
		}
	}
	fill := strings.NewReplacer("{query}", value, "{n}", fmt.Sprint(p.hops+1))
	return vtText + strings.Join(lines, "\n"), fill.Replace(vtQuestion), fill.Replace(vtPrefix),
		all[:p.hops+1]
}

// example is how many lines of noise the worked example has.
func (p vtParams) example(count func(string) (int, error)) (int, error) {
	n := exampleNoise
	for {
		text, question, prefix, _ := p.prompt(rand.New(rand.NewPCG(0, 0)), n+1, 3)
		tokens, err := count(text + question + prefix)
		if err != nil || tokens > exampleTokens || n > exampleTokens {
			return n, err
		}
		n++
	}
}
