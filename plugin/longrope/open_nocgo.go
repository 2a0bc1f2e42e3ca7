//go:build !cgo

package longrope

import (
	"errors"

	"github.com/longrope/longrope/plugin/memory"
)

// openEngine has no engine without cgo. The commands that run no model work, and so do the tests
// with a fake one.
var openEngine = opener{load: loadEngine}

func loadEngine(string, openOptions) (runner, error) {
	return nil, errors.New(
		"this program was built without cgo and cannot run models; build it with " +
			"CGO_ENABLED=1",
	)
}

// deviceEnv: without an engine there are no devices to share out.
func deviceEnv(int) []string { return nil }

// machine: see open_cgo.go.
func machine(*model) memory.Machine { return memory.Machine{} }
