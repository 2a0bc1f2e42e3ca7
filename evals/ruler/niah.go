package ruler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/longrope/longrope/evals/recall"
)

// niahParams are a task of needles in a haystack; zero values are one of each, words and numbers.
type niahParams struct {
	hay                   haystack
	key, value            string // kinds: "words", "numbers", "uuids"
	keys, values, queries int
}

type haystack int

const (
	essay  haystack = iota // sentences of a text, whose units are words
	noise                  // one sentence, repeated
	others                 // needles of other keys
)

const (
	grass = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back " +
		"again."
	niahNeedle = "One of the special magic {kind} for {key} is: {value}."
	niahIntro  = "Some special magic {kind} are hidden within the following text. Make sure to " +
		"memorize it. I will quiz you about the {kind} afterwards.\n"
	niahQuestion = "\nWhat are all the special magic {kind} for {query} mentioned in the " +
		"provided text?"
	niahPrefix = " The special magic {kind} for {query} mentioned in the provided text are"
)

// inOne are the words that the original replaces in prompts that ask for one thing, in this order.
var inOne = strings.NewReplacer("Some", "A", "are all", "is", "are", "is")

func niah(name, help string, p niahParams) recall.Kind {
	if p.key == "" {
		p.key = "words"
	}
	if p.value == "" {
		p.value = "numbers"
	}
	p.keys, p.values, p.queries = max(p.keys, 1), max(p.values, 1), max(p.queries, 1)
	k := recall.Kind{
		Name: name, Help: help, Answer: 128, Essay: p.hay == essay, Draw: p.draw,
		Score: recall.All, Questions: p.keys,
	}
	if p.hay == others {
		k.Questions = 8
	}
	return ruler(k)
}

// pair is a key with its values.
type pair struct {
	key    string
	values []string
}

// draw hides the needles in units of haystack.
func (p niahParams) draw(r recall.Request) (recall.Sample, error) {
	asked := make([]pair, p.keys)
	var needles []string
	for i := range asked {
		asked[i].key = draw(r.Rand, p.key)
		for range p.values {
			v := draw(r.Rand, p.value)
			asked[i].values = append(asked[i].values, v)
			needles = append(needles, p.needle(asked[i].key, v))
		}
	}
	r.Rand.Shuffle(len(needles), func(i, j int) { needles[i], needles[j] = needles[j], needles[i] })
	order := make([][]int, r.Questions)
	for i := range order {
		order[i] = r.Rand.Perm(p.keys)[:p.queries]
		if i > 0 && p.queries == 1 { // another key each time
			order[i] = []int{(order[0][0] + i) % p.keys}
		}
	}
	var text string
	if p.hay == essay {
		text = atDepths(r.Rand, sentences(r.Words, r.Units), needles)
	} else {
		var more []pair
		text, more = p.lines(r, needles)
		for i := 1; i < len(order) && p.hay == others && i <= len(more); i++ {
			asked, order[i] = append(asked, more[i-1]), []int{len(asked)}
		}
	}
	s := recall.Sample{Context: p.word(niahIntro, "") + text}
	for _, which := range order {
		var keys []string
		var q recall.Question
		for _, i := range which {
			keys = append(keys, asked[i].key)
			q.References = append(q.References, asked[i].values...)
		}
		query := keys[0]
		if last := len(keys) - 1; last > 0 {
			query = strings.Join(keys[:last], ", ") + ", and " + keys[last]
		}
		q.Text, q.Prefix = p.word(niahQuestion, query), p.word(niahPrefix, query)
		s.Questions = append(s.Questions, q)
	}
	return s, nil
}

// word fills a part of the prompt, in the singular where one thing is asked for.
func (p niahParams) word(part, query string) string {
	kind := p.value
	if p.queries*p.values == 1 {
		part, kind = inOne.Replace(part), strings.TrimSuffix(kind, "s")
	}
	return strings.NewReplacer("{kind}", kind, "{query}", query).Replace(part)
}

func (p niahParams) needle(key, value string) string {
	return strings.NewReplacer("{kind}", p.value, "{key}", key, "{value}", value).
		Replace(niahNeedle)
}

// lines are units of noise, or other needles, with the needles among them. more are some of the
// other needles, evenly apart, to be asked for too.
func (p niahParams) lines(r recall.Request, needles []string) (text string, more []pair) {
	places := make([]float64, len(needles))
	for i := range places {
		places[i] = r.Rand.Float64()
	}
	slices.Sort(places)
	var all []string
	for i := range r.Units {
		for len(places) > 0 && int(places[0]*float64(r.Units)) <= i {
			all = append(all, needles[0])
			places, needles = places[1:], needles[1:]
		}
		line := grass
		if p.hay == others {
			x := pair{draw(r.Rand, p.key), []string{draw(r.Rand, p.value)}}
			line = p.needle(x.key, x.values[0])
			if r.Units >= r.Questions && i == (2*len(more)+1)*r.Units/(2*r.Questions) {
				more = append(more, x)
			}
		}
		all = append(all, line)
	}
	return strings.Join(append(all, needles...), "\n"), more
}

// atDepths puts needles between sentences at depths of 40 from 0 to 100 %, each its own. As in the
// original there is a blank where a needle comes first, and one more where it follows another.
func atDepths(rng *rand.Rand, sentences, needles []string) string {
	const depths = 40
	chosen := rng.Perm(depths)[:len(needles)]
	slices.Sort(chosen)
	var parts []string
	at := 0
	for i, needle := range needles {
		percent := (100*chosen[i]*2 + depths - 1) / (2 * (depths - 1)) // rounded
		to := len(sentences) * percent / 100
		parts = append(parts, strings.Join(sentences[at:to], " "), needle)
		at = to
	}
	return strings.Join(append(parts, strings.Join(sentences[at:], " ")), " ")
}

// sentences are n words as sentences; words are repeated where there are fewer.
func sentences(words []string, n int) (all []string) {
	for len(words) < n {
		words = append(words[:len(words):len(words)], words...)
	}
	from := 0
	for i, w := range words[:n] {
		end := strings.TrimRight(w, `"')]`)
		if i == n-1 || end != "" && strings.IndexByte(".!?", end[len(end)-1]) >= 0 {
			all = append(all, strings.Join(words[from:i+1], " "))
			from = i + 1
		}
	}
	return all
}

// draw makes a key or a value.
func draw(rng *rand.Rand, kind string) string {
	switch kind {
	case "numbers":
		return fmt.Sprint(1_000_000 + rng.IntN(9_000_000))
	case "uuids":
		return uuid(rng)
	}
	return twoWords(rng)
}

// twoWords are an adjective and a noun.
func twoWords(rng *rand.Rand) string {
	a, n := adjectives(), nouns()
	return a[rng.IntN(len(a))] + "-" + n[rng.IntN(len(n))]
}

// uuid is a random UUID (RFC 4122, version 4).
func uuid(rng *rand.Rand) string {
	a, b := rng.Uint64(), rng.Uint64()
	a = a&^0xf000 | 0x4000
	b = b&^(3<<62) | 2<<62
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48,
		b&0xffffffffffff)
}
