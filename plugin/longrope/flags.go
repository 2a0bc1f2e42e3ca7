package longrope

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/units"
)

// sizeFlag is a number of tokens as a flag.
type sizeFlag int

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return label.Size(int(*f))
}
func (f *sizeFlag) Type() string { return "tokens" }
func (f *sizeFlag) Set(s string) error {
	n, err := label.ParseSize(s)
	*f = sizeFlag(n)
	return err
}

// naturalFlag is a number that is not negative; 0 is the default.
type naturalFlag int

func (f *naturalFlag) Type() string { return "int" } // as pflag calls it
func (f *naturalFlag) String() string {
	return strconv.Itoa(int(*f))
}

func (f *naturalFlag) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return fmt.Errorf("%q is no such number; want 0 or more", s)
	}
	*f = naturalFlag(n)
	return nil
}

// engines are those of the host.
var engines = []string{evals.LlamaEngine, evals.GoEngine}

// engineFlag is one of them, or empty.
type engineFlag string

func (f *engineFlag) Type() string   { return "name" }
func (f *engineFlag) String() string { return string(*f) }
func (f *engineFlag) Set(s string) error {
	if !slices.Contains(engines, s) {
		return fmt.Errorf("%q is no engine; want %s%s", s, strings.Join(engines, " or "),
			suggest(s, engines))
	}
	*f = engineFlag(s)
	return nil
}

// sizesFlag is several of them, separated by commas.
type sizesFlag []int

func (f *sizesFlag) Type() string { return "tokens,..." }
func (f *sizesFlag) String() string {
	return units.Sizes(*f)
}

func (f *sizesFlag) Set(s string) error {
	for _, field := range strings.Split(s, ",") {
		n, err := label.ParseSize(field)
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
		return label.Size(f.tokens)
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
	if n, err := label.ParseSize(s); err == nil {
		f.tokens = n
		return nil
	}
	return fmt.Errorf(
		"%q is neither a time (90s, 10m, 2h) nor a number of tokens (600000, 600k)",
		s,
	)
}
