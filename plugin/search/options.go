package search

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/published"
)

// Options say what to search for, on which model and with how much. Info, Targets and Journal are
// needed; the zero value of every other field is its default.
type Options struct {
	// Model is the name of the model in messages, Info what the file says that the engine runs.
	Model string
	Info  *convert.ModelInfo
	// Targets are lengths in tokens, with a rung for each.
	Targets []int
	// Texts are searched on, HeldOut is text to measure on alongside; without any, books that come
	// with the program are used.
	Texts, HeldOut []evals.Text
	// Starts are factors to begin from in addition to the methods that need no search.
	Starts []Start
	// Algorithm is as in ropescale.Options; "" is "cma".
	Algorithm string
	Seed      uint64
	// Tokens is the budget in tokens over all rungs; 0 is the algorithm's own. It is a part of the
	// study.
	Tokens int
	// Time is the budget in time, which is no part of the study: the same options resume it. 0 is
	// none.
	Time time.Duration
	// Windows is how many windows of the target length a candidate is evaluated on. 0: 16k tokens
	// of them, but at least 3 where the text has as many.
	Windows int
	// Keys is how many keys are hidden in each window, 1 to 9. 0: 4, but no more than one for each
	// 512 tokens of the target.
	Keys int
	// Fitness is what to minimise: "perplexity" of the text, "needle" (of keys hidden in it), or
	// "both"; "" is both, or perplexity where no key fits.
	Fitness string
	// Exact has generations scored exactly too, where cheap readings would do.
	Exact bool
	// Memory is what the prefixes of cheap readings may take, in bytes; 0 is no bound. Where they
	// do not fit, generations are scored exactly.
	Memory int64
	// Attention and Knots are ropescale.Params'.
	Attention string
	Knots     int
	// StartWindows are those to choose from, in tokens; nil is the paper's.
	StartWindows []int
	// Journal is the file of the study. Of several rungs, each has its length in the name.
	Journal string
	// Fresh discards the journals of an earlier search, and the held-out losses next to them.
	Fresh bool
	// Threads and Batch are the engine's, for its fingerprint and the workers; 0 is its default.
	Threads, Batch int
	// Workers evaluate in place of the engine; nil is none.
	Workers *Workers
	// Called says what the user calls an option in errors and messages.
	Called Names
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Start is factors to begin from: a ladder, or the factors of one rung.
type Start struct {
	Name    string // its candidate's origin
	Path    string // in errors
	Ladder  *ropescale.Ladder
	Factors []float64
	// Published is a set of the authors', in place of Ladder and Factors.
	Published *published.Set
}

// released reports whether the algorithm is one of the authors' released ones, which start from
// YaRN alone and have no start window.
func (o *Options) released() bool { return strings.HasPrefix(o.Algorithm, "dim-") }

// Check finds errors that need no engine, and fills in defaults and puts lists in order.
func (o *Options) Check() error {
	if len(o.Targets) == 0 {
		return o.Called.Wrong("Targets", " is missing; give the length to search for, e.g. %s 16k",
			o.Called.Of("Targets"))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Algorithm == "" {
		o.Algorithm = "cma"
	}
	o.Targets = ascending(o.Targets)
	o.StartWindows = ascending(o.StartWindows)
	trained := o.Info.OriginalContextLength
	switch {
	case o.Targets[0] <= trained && Carried(o.Info) == nil:
		return o.Called.Wrong("Targets",
			" %s: %s was trained for %s tokens already; give a longer target",
			label.Size(o.Targets[0]), o.Model, label.Size(trained))
	case o.Windows < 0:
		return o.Called.Wrong("Windows", " is %d; give at least 1", o.Windows)
	case o.Keys < 0 || o.Keys > 9:
		return o.Called.Wrong("Keys", " is %d; give 1 to 9", o.Keys)
	case o.Keys > 0 && o.Fitness == "perplexity":
		return o.Called.Wrong("Keys", ": %s perplexity hides none; leave one of them out",
			o.Called.Of("Fitness"))
	case o.Journal == "":
		return o.Called.Wrong("Journal", " is missing; name a file")
	}
	if err := o.checkStarts(); err != nil {
		return err
	}
	if _, err := o.goals(); err != nil {
		return err
	}
	if _, ok := measures[o.Fitness]; !ok {
		return o.Called.Wrong("Fitness", ": unknown measure %q; known: perplexity, needle, both",
			o.Fitness)
	}
	return nil
}

func (o *Options) checkStarts() error {
	other := fmt.Sprintf("leave it out, or use %s cma or longrope", o.Called.Of("Algorithm"))
	windows := o.StartWindows
	switch {
	case len(o.Starts) > 0 && o.released():
		return o.Called.Wrong("Starts", ": %s starts from YaRN alone; %s", o.Algorithm, other)
	case len(windows) > 0 && o.released():
		return o.Called.Wrong("StartWindows", ": %s has no start window; %s", o.Algorithm, other)
	case len(windows) > 0 && (windows[0] < 0 || windows[0] >= o.Targets[0]):
		return o.Called.Wrong("StartWindows",
			": %d; give at least 0, and one that is less than the target", windows[0])
	}
	return nil
}

// goals makes a goal for each target, with the starts that were given.
func (o *Options) goals() ([]goal, error) {
	goals := goalsFor(o.Info, o.Targets)
	for i := range goals {
		g := &goals[i]
		if o.Algorithm == "cma" && o.Attention != "fixed" {
			if err := g.unscaled(); err != nil {
				return nil, err
			}
		}
		starts := o.Starts
		if o.Algorithm == "cma" {
			starts = append(starts[:len(starts):len(starts)], o.published(g.target)...)
		}
		if err := g.startFrom(o.Info.Rope(), starts); err != nil {
			return nil, o.Called.Wrong("Starts", ": %w", err)
		}
		g.allow(o.StartWindows)
	}
	return goals, nil
}

// published is the set that was published for the model's family, d, base and L, if there is one
// that was not given: that for the target, or else for the nearest length.
func (o *Options) published(target int) []Start {
	if o.Info.Name == "" || target <= o.Info.OriginalContextLength {
		return nil
	}
	sets := published.Fitting(o.Info.Rope(), o.Info.Name, target)
	if len(sets) == 0 {
		return nil
	}
	set := sets[0]
	given := func(s Start) bool { return s.Published != nil && s.Published.Name == set.Name }
	if slices.ContainsFunc(o.Starts, given) {
		return nil
	}
	return []Start{{Name: set.Name, Path: set.Name, Published: &set}}
}

// journal is the file of the study for a target.
func (o *Options) journal(target int) string {
	if len(o.Targets) == 1 {
		return o.Journal
	}
	ext := filepath.Ext(o.Journal)
	return strings.TrimSuffix(o.Journal, ext) + "-" + label.Size(target) + ext
}

// chooseWindows settles how many windows a candidate is evaluated on, and of which texts. On fewer
// than 16k tokens the default model found factors that were good for no other text
// (evals/RESULTS.md); for long targets, three windows are what time allows.
func (o *Options) chooseWindows(e evals.Engine, target int) ([]evals.Text, int, error) {
	windows, least := o.Windows, o.Windows
	if windows == 0 {
		windows, least = max(3, 16<<10/target, len(o.Texts)), 1
	}
	for ; ; windows-- {
		texts, err := TextsFor(e, o.Texts, searchBooks, target, windows)
		if err == nil {
			return texts, windows, nil
		}
		if !errors.Is(err, errBundled) || windows <= least {
			return nil, 0, fmt.Errorf("%w; give longer ones with %s, or fewer %s",
				err, o.Called.Of("Texts"), o.Called.Of("Windows"))
		}
	}
}

// ascending are numbers in order, each once.
func ascending(numbers []int) []int {
	return slices.Compact(slices.Sorted(slices.Values(numbers)))
}
