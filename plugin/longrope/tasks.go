package longrope

// The tasks of eval are those of package evals and of the packages listed here, which register
// theirs.
import (
	_ "github.com/longrope/longrope/evals/choice"
)
