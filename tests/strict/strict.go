// Package strict is for tests that need something that `make` builds: the patched or the unpatched
// host, the binary, the folder of fast backends. Where it is missing the test skips, so that a part
// of the tests can run before everything is built. Under LONGROPE_STRICT=1, which continuous
// integration sets after a full build, the test fails instead: there a skip would hide it.
//
// Hardware, compilers, Python packages and models that a machine may lack are no such thing: tests
// that need those call t.Skip.
package strict

import (
	"os"
	"testing"
)

// Env is the variable that turns skips into failures.
const Env = "LONGROPE_STRICT"

// On says whether what make builds must be there.
func On() bool { return os.Getenv(Env) == "1" }

// Skipf ends a test for lack of something that make builds. The message says what is missing and
// which target makes it.
func Skipf(t testing.TB, format string, args ...any) {
	t.Helper()
	if On() {
		t.Fatalf(format+" ("+Env+"=1)", args...)
	}
	t.Skipf(format, args...)
}
