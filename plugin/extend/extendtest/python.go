// Package extendtest finds what tests of the training recipe run on.
package extendtest

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// Python is a Python that has the packages that the recipe needs (extend.Needs); without one the
// test skips, or fails under TORCH=1, with which make gets them.
func Python(t *testing.T, needs []string) string {
	t.Helper()
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	script := "import importlib.util as u, sys\n" +
		"sys.exit(' '.join(n for n in sys.argv[1:] if not u.find_spec(n)) or 0)"
	args := append([]string{"-c", script}, needs...)
	if lacks, err := exec.Command(python, args...).CombinedOutput(); err != nil {
		end := t.Skipf
		if os.Getenv("TORCH") != "" {
			end = t.Fatalf
		}
		end(
			"%s lacks %s (%v): training is not tested; run `make venv TORCH=1` and set PYTHON to "+
				"build/venv/bin/python",
			python,
			bytes.TrimSpace(lacks),
			err,
		)
	}
	return python
}
