package longrope

import (
	"fmt"
	"strings"

	"github.com/ollama/ollama/format"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// memoryUse is what the rungs of a model need next to what there is. Sizes are in bytes.
type memoryUse struct {
	Weights uint64         `json:"weights"`
	Rungs   []rungMemory   `json:"rungs"`
	Devices []deviceMemory `json:"devices,omitempty"`
	// Fits is the length of the longest rung that fits on the GPUs, or if there are none into the
	// memory of the machine, by the type of the cache; without those of which none fits.
	Fits map[string]int `json:"fits,omitempty"`
}

// rungMemory is the cache of a rung at its full length, by the type of the cache.
type rungMemory struct {
	Length int               `json:"length"`
	Cache  map[string]uint64 `json:"cache"`
}

// deviceMemory is a GPU, or the machine.
type deviceMemory struct {
	Name  string `json:"name"`
	Free  uint64 `json:"free"`
	Total uint64 `json:"total"`
}

// memoryOf is what the rungs of ladder l need for the model m in the file at path; nil when the
// file does not say, or is a checkpoint folder.
func memoryOf(m *convert.ModelInfo, path string, l *ropescale.Ladder) *memoryUse {
	if l == nil || m.Format != convert.FormatGGUF || m.CacheBytes(1, "f16") == 0 {
		return nil
	}
	u := &memoryUse{Devices: machineMemory(), Fits: map[string]int{}}
	for _, t := range m.Tensors {
		u.Weights += t.Bytes
	}
	lengths := []int{l.OriginalContextLength}
	for _, g := range l.Rungs {
		if g.Length > l.OriginalContextLength {
			lengths = append(lengths, g.Length)
		}
	}
	for _, n := range lengths {
		r := rungMemory{Length: n, Cache: map[string]uint64{}}
		for _, kind := range convert.CacheKinds {
			r.Cache[kind] = m.CacheBytes(n, kind)
		}
		u.Rungs = append(u.Rungs, r)
	}
	for _, kind := range convert.CacheKinds {
		if n := longestThatFits(path, lengths, kind); n > 0 {
			u.Fits[kind] = n
		}
	}
	return u
}

// String is the table of what is needed, and what there is.
func (u *memoryUse) String() string {
	var rows [][]string
	for _, r := range u.Rungs {
		row := []string{label.Count(r.Length)}
		for _, kind := range convert.CacheKinds {
			row = append(row, format.HumanBytes2(r.Cache[kind]))
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	b.WriteString(table(append([]string{"cache for tokens"}, convert.CacheKinds...), rows, 1))
	there := []string{"weights " + format.HumanBytes2(u.Weights)}
	for _, d := range u.Devices {
		there = append(there, fmt.Sprintf("%s %s free of %s", d.Name, format.HumanBytes2(d.Free),
			format.HumanBytes2(d.Total)))
	}
	fmt.Fprintf(&b, "  %s\n", strings.Join(there, "; "))
	if len(u.Devices) == 0 {
		return b.String()
	}
	on := "in memory"
	if len(u.Devices) > 1 {
		on = "on the GPU"
	}
	var fits []string
	for _, kind := range convert.CacheKinds {
		if n := u.Fits[kind]; n > 0 {
			fits = append(fits, fmt.Sprintf("%s %s", kind, label.Count(n)))
		}
	}
	if len(fits) == 0 {
		fmt.Fprintf(&b, "  no rung fits %s\n", on)
	} else {
		fmt.Fprintf(&b, "  the longest rung that fits %s: %s\n", on, strings.Join(fits, ", "))
	}
	return b.String()
}
