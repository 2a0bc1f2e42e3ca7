// Package published holds the sets of rescale factors that the authors of LongRoPE and LongRoPE2
// published, to start a search from or to convert a model with.
//
// The sets of LLaMA2-7B and Mistral-7B are from the history of github.com/microsoft/LongRoPE
// (dev/starmys:cube-new/longrope_scale; the first of their 32 equal rows), that of LLaMA3-8B is
// from the example of LongRoPE2 in github.com/microsoft/nnscaler (examples/longrope2, 1585c15d).
// Both are under the MIT licence, Copyright (c) Microsoft Corporation. The files in data are these
// numbers and nothing else: lambda_0 to lambda_63, absolute. They hold no attention factor and no
// start window.
package published

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// Set is one published set of factors.
type Set struct {
	// Name is the authors' file name, such as ft_la2_128k.
	Name string
	// Family is the model's name.
	Family string
	// Length is the longest sequence, in tokens, that the set serves.
	Length int
	// Tuned is the length in tokens that the model was fine-tuned for, with factors, before the set
	// was searched; 0 for a set that was searched on the model as it was published.
	Tuned int
	// Rope is the model's d and b, and the L that the set's scale counts from.
	Rope ropescale.Rope
	// Lengths are the original context lengths that models of the family state.
	Lengths []int
}

var (
	llama2  = ropescale.Rope{Dims: 128, FreqBase: 10000, OriginalContextLength: 4096}
	mistral = ropescale.Rope{Dims: 128, FreqBase: 10000, OriginalContextLength: 4096}
	llama3  = ropescale.Rope{Dims: 128, FreqBase: 500000, OriginalContextLength: 8192}
)

const k = 1 << 10

// allSets returns all sets: those searched on published models first, then those of fine-tuned
// ones, by family and length.
func allSets() []Set {
	var sets []Set
	add := func(name, family string, length, tuned int, r ropescale.Rope, lengths ...int) {
		sets = append(sets, Set{name, family, length, tuned, r, lengths})
	}
	families := []struct {
		tag, family string
		rope        ropescale.Rope
		lengths     []int
	}{
		{"la2", "LLaMA2-7B", llama2, []int{4 * k}},
		{"mis", "Mistral-7B", mistral, []int{4 * k, 8 * k, 32 * k}},
	}
	for _, f := range families {
		for _, n := range []int{128, 256} {
			add(fmt.Sprintf("ft_%s_%dk", f.tag, n), f.family, n*k, 0, f.rope, f.lengths...)
		}
	}
	add("longrope2_llama3_8b_128k", "LLaMA3-8B", 128*k, 0, llama3, 8*k)
	for _, f := range families {
		for _, tuned := range []int{128, 256} {
			for _, n := range []int{4, 8, 16, 32, 256, 512, 1024, 2048} {
				name := fmt.Sprintf("%dk_%s_%dk", n, f.tag, tuned)
				if _, err := data.Open("data/" + name + ".csv"); err == nil {
					add(name, f.family, n*k, tuned*k, f.rope, f.lengths...)
				}
			}
		}
	}
	return sets
}

//go:embed data/*.csv
var data embed.FS

// ByName returns the set of that name. The error lists the names there are.
func ByName(name string) (Set, error) {
	sets := allSets()
	if i := slices.IndexFunc(sets, func(s Set) bool { return s.Name == name }); i >= 0 {
		return sets[i], nil
	}
	var names []string
	for _, s := range sets {
		names = append(names, s.Name)
	}
	return Set{}, fmt.Errorf("there is no published set %q; there are %s", name,
		strings.Join(names, ", "))
}

// Fitting returns the sets for models with RoPE r as they were published, those for a length of at
// least target before shorter ones, the nearest first. name is the model's own, such as
// "Meta-Llama-3-8B", and leaves only sets of its family; "" leaves all.
func Fitting(r ropescale.Rope, name string, target int) []Set {
	var fit []Set
	for _, s := range allSets() {
		if s.Tuned == 0 && s.Fits(r) == nil && s.isFamily(name) {
			fit = append(fit, s)
		}
	}
	rank := func(s Set) int {
		if s.Length >= target {
			return s.Length - target
		}
		return 1<<30 + target - s.Length
	}
	slices.SortStableFunc(fit, func(a, b Set) int { return rank(a) - rank(b) })
	return fit
}

// isFamily says whether a model's name is of the set's family: LLaMA3-8B and
// Meta-Llama-3-8B-Instruct.
func (s Set) isFamily(model string) bool {
	plain := func(name string) string {
		return strings.NewReplacer("-", "", "_", "", " ", "", ".",
			"").Replace(strings.ToLower(name))
	}
	return model == "" || strings.Contains(plain(model), plain(s.Family))
}

// Fits is an error that says why the set is not for a model with RoPE r, nil if it is.
func (s Set) Fits(r ropescale.Rope) error {
	switch {
	case r.Dims != s.Rope.Dims:
		return fmt.Errorf("the set is for %d rotary dimensions, the model has %d", s.Rope.Dims,
			r.Dims)
	case r.FreqBase != s.Rope.FreqBase:
		return fmt.Errorf("the set is for a frequency base of %g, the model has %g",
			s.Rope.FreqBase,
			r.FreqBase)
	case !slices.Contains(s.Lengths, r.OriginalContextLength):
		return fmt.Errorf("the set is for a model trained for %d tokens, this one was for %d",
			s.Rope.OriginalContextLength, r.OriginalContextLength)
	}
	return nil
}

// Factors are lambda_0 to lambda_{d/2-1}, absolute.
func (s Set) Factors() []float64 {
	b, err := data.ReadFile("data/" + s.Name + ".csv")
	if err != nil {
		panic("published: " + err.Error()) // Sets names embedded files
	}
	factors, err := ropescale.ReadFactorsCSV(bytes.NewReader(b))
	if err != nil {
		panic("published: " + s.Name + ": " + err.Error())
	}
	return factors
}

// Rung is the set as a rung for target tokens of a model with RoPE r, with LongRoPE's attention
// factor for that length. It is absolute. The error says why the set does not fit.
func (s Set) Rung(r ropescale.Rope, target int) (ropescale.Rung, error) {
	if err := s.Fits(r); err != nil {
		return ropescale.Rung{}, err
	}
	return ropescale.LongRoPE(r, target, ropescale.MethodOptions{Factors: s.Factors()})
}
