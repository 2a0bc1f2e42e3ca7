package evals

import (
	"fmt"
	"strings"
)

// Template is a retrieval prompt as data: Intro, filler with needles in it, Question. {key} stands
// for the digits to be found, {name} for the word they belong to, of which each trial draws others.
type Template struct {
	Name string `json:"name"`
	// Intro comes first; a newline at its end is the author's to put.
	Intro string `json:"intro"`
	// Filler is repeated without end, unless another text is given as haystack.
	Filler string `json:"filler"`
	// Needle ends with a newline if it is a line of its own, with a space if it is a sentence among
	// others; what comes before and after it is separated in the same way.
	Needle string `json:"needle"`
	// Question ends the prompt; the answer follows it after a space.
	Question string `json:"question"`
	// Distractors are needles with other names and other keys, at random depths; more than 0 needs
	// {name}.
	Distractors int `json:"distractors"`
}

// Templates are the prompts that come with the package. The first is the default: the passkey
// prompt of Mohtashami and Jaggi (arXiv 2305.16300), which LongRoPE uses; the second is the same
// without line breaks, which small models can depend on. The others make the question depend on a
// name and then add keys of other names, as RULER's (arXiv 2404.06654) single and multi-key needles
// do: a model that only copies the digits it saw fails the last one.
func Templates() []Template {
	const grass = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and " +
		"back again.\n"
	passkey := Template{
		Name: "passkey",
		Intro: "There is an important info hidden inside a lot of irrelevant text. Find it " +
			"and memorize them. I will quiz you about the important information there.\n",
		Filler:   grass,
		Needle:   "The pass key is {key}. Remember it. {key} is the pass key.\n",
		Question: "What is the pass key? The pass key is",
	}
	inline := passkey
	inline.Name = "passkey-inline"
	for _, part := range []*string{&inline.Intro, &inline.Filler, &inline.Needle} {
		*part = strings.TrimSuffix(*part, "\n") + " "
	}
	number := Template{
		Name: "number",
		Intro: "Numbers that belong to words are hidden in the text below. Keep them in mind, " +
			"one of them will be asked for.\n",
		Filler:   grass,
		Needle:   "The number of {name} is {key}.\n",
		Question: "Which number belongs to {name}? The number of {name} is",
	}
	numbers := number
	numbers.Name, numbers.Distractors = "numbers", 3
	return []Template{passkey, inline, number, numbers}
}

// TemplateByName returns one of Templates.
func TemplateByName(name string) (Template, error) {
	for _, t := range Templates() {
		if t.Name == name {
			return t, nil
		}
	}
	return Template{}, fmt.Errorf("no template %q: want one of %s", name,
		strings.Join(templateNames(), ", "))
}

func templateNames() (names []string) {
	for _, t := range Templates() {
		names = append(names, t.Name)
	}
	return names
}

// Validate says what keeps a template from working.
func (t Template) Validate() error {
	fail := func(problem string) error { return fmt.Errorf("template %q: %s", t.Name, problem) }
	switch {
	case !strings.Contains(t.Needle, "{key}"):
		return fail("needle lacks {key}, the digits to be found")
	case strings.Contains(t.Question, "{key}") || strings.Contains(t.Intro, "{key}"):
		return fail("{key} outside the needle gives the answer away")
	case strings.Contains(t.Filler, "{key}") || strings.Contains(t.Filler, "{name}"):
		return fail("filler is repeated as it is and cannot hold {key} or {name}")
	case strings.TrimSpace(t.Filler) == "":
		return fail("filler is empty")
	case strings.TrimRight(t.Question, " \n") != t.Question || t.Question == "":
		return fail("question must end without a space, which comes with the answer")
	case t.Distractors < 0:
		return fail("distractors is negative")
	case t.Distractors > 0 && !(strings.Contains(t.Needle, "{name}") &&
		strings.Contains(t.Question, "{name}")):
		return fail("distractors need {name} in needle and question to tell the keys apart")
	case t.Distractors >= len(nameWords):
		return fail(fmt.Sprintf("distractors is %d, at most %d names are known", t.Distractors,
			len(nameWords)-1))
	}
	return nil
}

// separator is what stands between filler, needles and question.
func (t Template) separator() string {
	if strings.HasSuffix(t.Needle, " ") {
		return " "
	}
	return "\n"
}

func fill(pattern, name, key string) string {
	return strings.NewReplacer("{name}", name, "{key}", key).Replace(pattern)
}

// nameWords are what {name} becomes: plain nouns that no filler here is about.
var nameWords = []string{
	"amber", "anchor", "apple", "basket", "bell", "bridge", "candle", "carpet", "castle", "clock",
	"copper", "cotton",
	"drum", "engine", "feather", "fiddle", "garden", "hammer", "harbour", "honey", "island",
	"jacket", "kettle", "ladder",
	"lantern", "letter", "marble", "market", "mirror", "needle", "oyster", "paper", "pepper",
	"pillow", "saddle", "silver",
	"spoon", "table", "thimble", "timber", "trumpet", "valley", "violin", "wagon", "window", "wool",
}
