package search

import (
	"errors"
	"fmt"
	"time"

	"github.com/longrope/longrope/ropescale"
)

// Reporter is shown what happens. Say may be called by several goroutines at once, the others by
// one.
type Reporter interface {
	// Say passes on a message for the user: whole lines, without an end of line.
	Say(format string, args ...any)
	// Progress is called after each trial, and for each row of held-out text at the end.
	Progress(Progress)
	// ToBeat is called once per rung, when the methods that need no search are evaluated.
	ToBeat(methods []Score)
}

// Events is how a search reports to its caller.
type Events interface {
	Reporter
	// Found is given the ladder as soon as the search has it, before the held-out text is
	// evaluated in full: the caller writes it to disk. An error ends the search.
	Found(*ropescale.Ladder) error
}

// Progress is how far a search is.
type Progress struct {
	Started     time.Time
	Label       string
	Done, Total float64
	Note        string    // tokens, their rate, and the workers
	Standing    *Standing // nil: no candidate is evaluated yet
}

// Standing is the best candidate against the best of the methods that need no search.
type Standing struct {
	Best  Score
	Rival *Score // nil: none is evaluated yet
}

// Score is a candidate's fitness and what is known about it. Text, the perplexity of the search
// text, is nil where it is the fitness itself or unknown; HeldOut is nil where it was not measured.
type Score struct {
	Candidate     int
	Origin        string // a method's name, or how the candidate was made
	Fitness       float64
	Text, HeldOut *float64
}

// Interrupted is the error of a search whose context ended while trials were evaluated. The same
// options resume it.
type Interrupted struct {
	Trials  int
	Journal string
	cause   error
}

func (e *Interrupted) Error() string {
	return fmt.Sprintf("interrupted after %d trials, which %s keeps", e.Trials, e.Journal)
}

// Unwrap is the error of the context.
func (e *Interrupted) Unwrap() error { return e.cause }

// errTime ends the search for a rung whose time is up.
var errTime = errors.New("the time is up")
