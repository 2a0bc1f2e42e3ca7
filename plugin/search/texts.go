package search

import (
	"errors"
	"fmt"
	"strings"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/evals/label"
)

// Books are texts that come with the program, for users who give none: short ones, and a long one
// for lengths that they do not reach.
type Books struct {
	short func() []defaultmodel.Text
	long  func() defaultmodel.Text
}

// searchBooks are to search on, TestBooks to measure on.
var (
	searchBooks = Books{defaultmodel.SearchTexts, defaultmodel.LongSearchText}
	TestBooks   = Books{defaultmodel.TestTexts, defaultmodel.LongTestText}
)

// choices are the ways to use the books, the best first: each by itself, the short ones as one
// text, the long one.
func (b Books) choices() [][]evals.Text {
	var each []evals.Text
	var names, bodies []string
	for _, t := range b.short() {
		each = append(each, evals.Text(t))
		names, bodies = append(names, t.Name), append(bodies, t.Body)
	}
	joined := evals.Text{Name: strings.Join(names, "+"), Body: strings.Join(bodies, "\n")}
	return [][]evals.Text{each, {joined}, {evals.Text(b.long())}}
}

// TextsFor returns texts, or bundled ones where texts is empty, such that they hold so many windows
// of length tokens, shared evenly. Where the bundled ones are too short it is an error of
// errBundled.
func TextsFor(
	e evals.Engine, texts []evals.Text, bundled Books, length, windows int,
) ([]evals.Text, error) {
	if len(texts) > 0 {
		return texts, nil // evals names the one that is too short
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
	megabytes := bytes * float64(windows) * float64(length) / 1e6
	return nil, fmt.Errorf("%w for %d windows of %s tokens, which are some %.1f MB of text",
		errBundled, windows, label.Size(length), megabytes)
}

// errBundled is the error of TextsFor for lengths that no book reaches.
var errBundled = errors.New("the bundled texts are too short")
