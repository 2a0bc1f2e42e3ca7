package strict

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// ended records how a test ended.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Helper()               {}
func (e *ended) Fatalf(string, ...any) { e.how = "failed" }
func (e *ended) Skipf(string, ...any) {
	if e.how == "" { // Fatalf would not have returned
		e.how = "skipped"
	}
}

func TestSkipf(t *testing.T) {
	for value, want := range map[string]string{"": "skipped", "0": "skipped", "1": "failed"} {
		t.Setenv(Env, value)
		e := &ended{TB: t}
		Skipf(e, "no unpatched host in %s: run make stock first", "build/stock")
		assert.Equal(t, want, e.how, "%s=%q", Env, value)
	}
}
