package arch

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var archName = regexp.MustCompile(`\{ LLM_ARCH_(\w+), +"([^"]+)"`)

// Variants are the names with those of Hints that are variants of them behind them.
func Variants(names []string) []string {
	var all []string
	for _, name := range names {
		all = append(all, name)
		for _, variant := range slices.Sorted(maps.Keys(Hints)) {
			if strings.HasPrefix(variant, name+", ") {
				all = append(all, variant)
			}
		}
	}
	return all
}

var goName = regexp.MustCompile(`model\.Register\("([^"]+)"`)

// goNames are the architectures that the Go engine knows, read from its source; those of its
// embedding models, which the host makes from the others, are not among them.
func goNames(host string) (names []string, err error) {
	files, err := filepath.Glob(host + "/model/models/*/*.go")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, m := range goName.FindAllStringSubmatch(string(src), -1) {
			if !strings.HasSuffix(m[1], "_embed") {
				names = append(names, m[1])
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), err
}

// Names are the architectures that the llama.cpp engine knows, in its order, read from its source.
func Names(host string) ([]string, error) {
	src, err := os.ReadFile(host + "/llama/llama.cpp/src/llama-arch.cpp")
	if err != nil {
		return nil, fmt.Errorf("no source of the host (run make host): %w", err)
	}
	var names []string
	for _, m := range archName.FindAllStringSubmatch(string(src), -1) {
		if m[1] != "UNKNOWN" {
			names = append(names, m[2])
		}
	}
	return names, nil
}
