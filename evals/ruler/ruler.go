// Package ruler has the tasks of RULER (Hsieh et al., arXiv 2404.06654) and key-value retrieval, in
// a file for each kind and one table. Prompts, answer budgets and metrics are those of the original
// (github.com/NVIDIA/RULER, commit c3f5e3b; Apache-2.0). To add a task, add a row to the table.
//
// What differs from the original:
//
//   - The text to hide in is a book, or the user's, in place of essays that are fetched. Its
//     sentences end at ".", "!" or "?"; the original splits with nltk.
//   - Chance is Go's, so samples are not the original's. A needle among lines is at a place of its
//     own for each sample; there the original shuffles needles, words and documents alike in all
//     samples.
//   - The amount of haystack is as large as fits, to a unit. The original gives up 10 to 500 units
//     where a sample is too long.
//   - cwe has pairs of words where the lists of words end, at some 100,000 tokens; the original
//     then takes a larger list.
//   - vt has the worked example of the original, with at least 5 lines of noise where 500 tokens of
//     the model do not hold as many.
//   - A context can be asked several questions (Options.Each of package recall). 1 is the
//     original.
//
// lm-evaluation-harness 0.4.13 has another port. Its prompt of vt spells "assgined" and joins the
// noise with blanks, and its metric of qa differs: see recall.Any.
package ruler

import (
	_ "embed"
	"slices"
	"strings"
	"sync"

	"github.com/longrope/longrope/evals/recall"
)

// version goes up when figures are no longer comparable with those before.
const version = 1

// The tasks. Those of suite "ruler" make its average.
var _ = recall.Register(
	niah("niah_single_1", "RULER: a number in a repeated sentence", niahParams{hay: noise}),
	niah("niah_single_2", "RULER: a number in a text", niahParams{}),
	niah("niah_single_3", "RULER: a UUID in a text", niahParams{value: "uuids"}),
	niah("niah_multikey_1", "RULER: a number among three others in a text", niahParams{keys: 4}),
	niah("niah_multikey_2", "RULER: a number among nothing but such", niahParams{hay: others}),
	niah("niah_multikey_3", "RULER: a UUID of a UUID among nothing but such",
		niahParams{hay: others, key: "uuids", value: "uuids"}),
	niah("niah_multivalue", "RULER: four numbers of one word in a text", niahParams{values: 4}),
	niah("niah_multiquery", "RULER: the numbers of four words in a text",
		niahParams{keys: 4, queries: 4}),
	vt("vt", "RULER: the variables that a chain of assignments gives a value", vtParams{
		chains: 1, hops: 4,
	}),
	cwe("cwe", "RULER: the ten most frequent words of a list"),
	fwe("fwe", "RULER: the three most frequent words of a coded text"),
	qa("qa_1", "RULER: questions of SQuAD to many paragraphs", squad),
	qa("qa_2", "RULER: questions of HotpotQA to many paragraphs", hotpot),
	keyValue("keyvalue", "the value of a key in a JSON object of UUIDs", 64, uuid),
	keyValue("keyvalue_digits", "the value of a key in a JSON object of numbers", 16, fiveDigits),
)

// ruler is a kind of the suite.
func ruler(k recall.Kind) recall.Kind {
	k.Group, k.Suite, k.Version = "ruler", "ruler", version
	return k
}

//go:embed words/nounlist.txt
var nounList string

//go:embed words/adjectivelist.txt
var adjectiveList string

//go:embed words/verblist.txt
var verbList string

// Words of wonderwords; see words/NOTICE.
var (
	nouns      = sync.OnceValue(func() []string { return lines(nounList) })
	adjectives = sync.OnceValue(func() []string { return lines(adjectiveList) })
	allWords   = sync.OnceValue(func() []string {
		all := slices.Concat(nouns(), adjectives(), lines(verbList))
		slices.Sort(all)
		return slices.Compact(all)
	})
)

func lines(list string) (words []string) {
	for _, w := range strings.Split(list, "\n") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}
