package arch

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A loader's words for what it misses. The first group is the name.
var (
	missingKey    = regexp.MustCompile(`(?:array )?key not found in model: (\S+)`)
	missingTensor = regexp.MustCompile(`(?:missing tensor|tensor) '([^']+)'(?: not found|$)`)
	wrongShape    = regexp.MustCompile(`tensor '([^']+)' has wrong shape; expected ([\d, ]+), got`)
	layerOf       = regexp.MustCompile(`\.(\d+)\.`)
)

// discover makes a model of an architecture that a loader takes, by asking it: what it misses is
// added, until it loads. kv is what the model has to begin with, defaults what a missing key gets
// by the end of its name.
func discover(
	kv map[string]any,
	tensors map[string][]int,
	dir string,
	load func(path string) error,
) (*Model, error) {
	m := &Model{KV: kv, Tensors: tensors}
	path := filepath.Join(dir, "discover.gguf")
	defer os.Remove(path)
	var last error
	shapes := map[string][]int{} // by the name without the layer
	for range 2000 {
		if err := m.Save(path, false); err != nil {
			return nil, err
		}
		err := load(path)
		if err == nil {
			return m, nil
		}
		last = err
		if !m.add(shapes, err.Error()) {
			return nil, err
		}
		m.repeat(shapes)
	}
	return nil, fmt.Errorf("arch: the loader is never satisfied: %w", last)
}

// repeat gives every layer what the first has, in models of so many that all are alike and asking
// for each takes long.
func (m *Model) repeat(shapes map[string][]int) {
	arch := m.KV["general.architecture"].(string)
	layers := m.KV[arch+".block_count"].(uint32)
	if layers <= 8 {
		return
	}
	for name := range shapes {
		first := strings.Replace(name, ".N.", ".0.", 1)
		if shape := m.Tensors[first]; shape != nil && first != name {
			for i := range layers {
				m.Tensors[strings.Replace(name, ".N.", fmt.Sprintf(".%d.", i), 1)] = shape
			}
		}
	}
}

// add gives the model what the loader misses, if it is understood.
func (m *Model) add(shapes map[string][]int, words string) bool {
	if s := wrongShape.FindStringSubmatch(words); s != nil {
		var shape []int
		for _, d := range strings.Split(s[2], ",") {
			n, err := strconv.Atoi(strings.TrimSpace(d))
			if err != nil {
				return false
			}
			shape = append(shape, n)
		}
		m.Tensors[s[1]] = shape
		shapes[layerOf.ReplaceAllString(s[1], ".N.")] = shape
		return true
	}
	if s := missingKey.FindStringSubmatch(words); s != nil {
		for suffix, v := range defaults {
			if s[1] == suffix || strings.HasSuffix(s[1], "."+suffix) {
				m.KV[s[1]] = v
				return true
			}
		}
		return false
	}
	missing := strings.TrimSpace(firstLine(words, "missing tensor"))
	if s := missingTensor.FindStringSubmatch(missing); s != nil {
		shape, ok := shapes[layerOf.ReplaceAllString(s[1], ".N.")]
		if !ok {
			shape = []int{1}
		}
		m.Tensors[s[1]] = shape
		return true
	}
	return false
}

// firstLine of a text that has the words.
func firstLine(text, words string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, words) {
			return line
		}
	}
	return text
}
