package arch

import (
	"fmt"
	"maps"
	"os"
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
