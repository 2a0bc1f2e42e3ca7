package longrope

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/evals/label"
)

// parseSize reads a number of tokens; size writes it so.
func parseSize(s string) (int, error) { return label.ParseSize(s) }

func size(n int) string { return label.Size(n) }

// sizeFlag is a number of tokens as a flag.
type sizeFlag int

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return size(int(*f))
}
func (f *sizeFlag) Type() string { return "tokens" }
func (f *sizeFlag) Set(s string) error {
	n, err := parseSize(s)
	*f = sizeFlag(n)
	return err
}

// sizesFlag is several of them, separated by commas.
type sizesFlag []int

func (f *sizesFlag) Type() string { return "tokens,..." }
func (f *sizesFlag) String() string {
	var s []string
	for _, n := range *f {
		s = append(s, size(n))
	}
	return strings.Join(s, ",")
}
func (f *sizesFlag) Set(s string) error {
	for _, field := range strings.Split(s, ",") {
		n, err := parseSize(field)
		if err != nil {
			return err
		}
		*f = append(*f, n)
	}
	return nil
}

// ascending are the sizes in order, each once.
func (f sizesFlag) ascending() []int {
	return slices.Compact(slices.Sorted(slices.Values(f)))
}

// budgetFlag is what a search may spend: time (90s, 10m, 2h) or evaluated tokens (600000, 600k).
type budgetFlag struct {
	tokens int
	time   time.Duration
}

func (f *budgetFlag) Type() string { return "tokens|time" }
func (f *budgetFlag) String() string {
	switch {
	case f.time > 0:
		return f.time.String()
	case f.tokens > 0:
		return size(f.tokens)
	}
	return ""
}
func (f *budgetFlag) Set(s string) error {
	*f = budgetFlag{}
	// "10m" is ten minutes: a search of ten million tokens is written 10240k.
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		f.time = d
		return nil
	}
	if n, err := parseSize(s); err == nil {
		f.tokens = n
		return nil
	}
	return fmt.Errorf("%q is neither a time (90s, 10m, 2h) nor a number of tokens (600000, 600k)", s)
}

// readTexts reads the files of a flag.
func readTexts(flag string, paths []string) ([]evals.Text, error) {
	var texts []evals.Text
	for _, path := range paths {
		t, err := evals.ReadText(path)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		texts = append(texts, t)
	}
	return texts, nil
}

// books are texts that come with the program, for who gives none: short ones, and a long one for lengths that they do not reach.
type books struct {
	short func() []defaultmodel.Text
	long  func() defaultmodel.Text
}

var (
	searchBooks = books{defaultmodel.SearchTexts, defaultmodel.LongSearchText}
	testBooks   = books{defaultmodel.TestTexts, defaultmodel.LongTestText}
)

// choices are what can be read of the books, the best first: each for itself, the short ones as one text, the long one.
func (b books) choices() [][]evals.Text {
	var each []evals.Text
	var names, bodies []string
	for _, t := range b.short() {
		each = append(each, evals.Text(t))
		names, bodies = append(names, t.Name), append(bodies, t.Body)
	}
	return [][]evals.Text{each, {{Name: strings.Join(names, "+"), Body: strings.Join(bodies, "\n")}}, {evals.Text(b.long())}}
}

// textsFor returns texts, or bundled ones where texts is empty, such that they hold so many windows of length tokens, shared
// evenly.
func textsFor(e evals.Engine, texts []evals.Text, bundled books, length, windows int) ([]evals.Text, error) {
	if len(texts) > 0 {
		return texts, nil // evals says which one is too short
	}
	bytes := 0.0 // of a token
	for _, texts := range bundled.choices() {
		each := (windows + len(texts) - 1) / len(texts)
		enough := true
		for _, t := range texts {
			tokens, err := e.Tokenize(t.Body, false)
			if err != nil {
				return nil, fmt.Errorf("cannot tokenize the bundled text %s: %w", t.Name, err)
			}
			enough = enough && len(tokens) >= each*length
			bytes = float64(len(t.Body)) / float64(max(1, len(tokens)))
		}
		if enough {
			return texts, nil
		}
	}
	return nil, fmt.Errorf("%w for %d windows of %s tokens, which are some %.1f MB of text", errBundled, windows, size(length), bytes*float64(windows)*float64(length)/1e6)
}

var errBundled = errors.New("the bundled texts are too short")
