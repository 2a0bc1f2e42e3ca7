//go:build cgo

package longrope

import (
	"cmp"

	"github.com/longrope/longrope/plugin/engine"
)

// machineMemory is the memory of the machine and of the GPUs that the server would use.
func machineMemory() []deviceMemory {
	findGPUs()
	free, total := engine.SystemMemory()
	all := []deviceMemory{{Name: "this machine", Free: free, Total: total}}
	for _, d := range devices {
		all = append(all, deviceMemory{
			Name: d.Library + " " + cmp.Or(d.Description, d.Name), Free: d.FreeMemory,
			Total: d.TotalMemory,
		})
	}
	return all
}

func longestThatFits(path string, lengths []int, kind string) int {
	return engine.LongestThatFits(path, lengths, kind, devices)
}
