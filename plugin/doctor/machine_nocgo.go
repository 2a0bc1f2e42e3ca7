//go:build !cgo

package doctor

import "errors"

var errNoEngine = errors.New("this program was built without cgo and has no backends to look at; " +
	"build it with CGO_ENABLED=1")

// here: see machine.go.
func here() (machine, error) { return machine{}, errNoEngine }

// examineBackends: see rows.go.
func examineBackends() backend { return backend{Error: errNoEngine.Error()} }
