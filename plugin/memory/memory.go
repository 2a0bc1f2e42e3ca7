// Package memory says what the caches of a model's rungs need, next to the memory that there is.
package memory

import (
	"fmt"
	"strings"

	"github.com/ollama/ollama/format"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// Use is what the rungs of a model need next to what there is. Sizes are in bytes.
type Use struct {
	Weights uint64   `json:"weights"`
	Rungs   []Rung   `json:"rungs"`
	Devices []Device `json:"devices,omitempty"`
	// Fits is the length of the longest rung that fits on the GPUs, or if there are none into the
	// memory of the machine, by the type of the cache; without those of which none fits.
	Fits map[string]int `json:"fits,omitempty"`
}

// Rung is the cache of a rung at its full length, by the type of the cache.
type Rung struct {
	Length int               `json:"length"`
	Cache  map[string]uint64 `json:"cache"`
}

// Device is a GPU, or the machine.
type Device struct {
	Name  string `json:"name"`
	Free  uint64 `json:"free"`
	Total uint64 `json:"total"`
}

// Machine is what there is: the machine first, then its GPUs, and the longest of some lengths of
// which the model fits with caches of a kind, 0 for none. The zero value says nothing.
type Machine struct {
	Devices []Device
	Longest func(lengths []int, kind string) int
}

// Of is what the rungs of ladder l need for the model m; nil when its file does not say, or is a
// checkpoint folder.
func Of(m *convert.ModelInfo, l *ropescale.Ladder, machine Machine) *Use {
	if l == nil || m.Format != convert.FormatGGUF || m.CacheBytes(1, "f16") == 0 {
		return nil
	}
	u := &Use{Devices: machine.Devices, Fits: map[string]int{}}
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
		r := Rung{Length: n, Cache: map[string]uint64{}}
		for _, kind := range convert.CacheKinds {
			r.Cache[kind] = m.CacheBytes(n, kind)
		}
		u.Rungs = append(u.Rungs, r)
	}
	for _, kind := range convert.CacheKinds {
		if machine.Longest == nil {
			break
		}
		if n := machine.Longest(lengths, kind); n > 0 {
			u.Fits[kind] = n
		}
	}
	return u
}

// Text is what is needed and what there is, by a function that lays out a table whose first columns
// are left-aligned.
func (u *Use) Text(table func(header []string, rows [][]string, left int) string) string {
	if u == nil {
		return ""
	}
	var rows [][]string
	for _, r := range u.Rungs {
		row := []string{label.Count(r.Length)}
		for _, kind := range convert.CacheKinds {
			row = append(row, format.HumanBytes2(r.Cache[kind]))
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	b.WriteString("\n")
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
