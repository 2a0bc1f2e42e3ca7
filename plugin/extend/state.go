package extend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/units"
	"github.com/longrope/longrope/ropescale/jsontext"
)

// State is what state.json holds: the settings, and the stages that are done.
type State struct {
	Version  int               `json:"version"`
	Settings map[string]string `json:"settings"`
	Stages   []*Stage          `json:"stages"`
}

// put adds a stage that is done, in place of an older one.
func (s *State) put(st *Stage) {
	s.Stages = slices.DeleteFunc(s.Stages, func(d *Stage) bool { return d.Output == st.Output })
	s.Stages = append(s.Stages, st)
}

// settings are what makes two extensions the same; with others, the contents of the folder do not
// count.
func (o *Options) settings() (map[string]string, error) {
	budget := ""
	switch {
	case o.Search.Time > 0:
		budget = o.Search.Time.String()
	case o.Search.Tokens > 0:
		budget = label.Size(o.Search.Tokens)
	}
	set := map[string]string{
		"model":    fmt.Sprintf("%s, %d bytes", o.Model.Name, o.Model.Info.Size),
		"targets":  units.Sizes(o.Targets),
		"readjust": units.Sizes(o.Readjust),
		"seed":     strconv.FormatUint(o.Search.Seed, 10),
		"fitness":  o.Search.Fitness,
		"windows":  strconv.Itoa(o.Search.Windows),
		"budget":   budget,
		"training": strings.Join(o.Training.arguments(), " "),
		"steps":    o.Training.stepsList(),
	}
	files := []struct {
		key, field string
		paths      []string
	}{
		{"text", "Texts", o.Texts},
		{"search-text", "SearchFiles", o.SearchFiles},
		{"held-out", "HeldOutFiles", o.HeldOutFiles},
		{"factors", "FirstFile", []string{o.FirstFile}},
	}
	for _, f := range files {
		for _, path := range f.paths {
			if path == "" {
				continue
			}
			sum, err := convert.FileDigest(path)
			if err != nil {
				return nil, o.Called.Wrong(f.field, ": %w", err)
			}
			set[f.key] = strings.TrimSpace(set[f.key] + " " + sum[:len("sha256:")+12])
		}
	}
	return set, nil
}

// openState reads state.json, refuses one of other settings, and begins one where there is none.
// From then on an output in the folder is this extension's, since it appears by rename.
func (x *extension) openState(settings map[string]string, stages []*Stage) (*State, error) {
	state := &State{Version: stateVersion, Settings: settings}
	dir, fresh := x.o.Called.Of("Dir"), x.o.Called.Of("Fresh")
	if x.o.Fresh {
		if err := x.discard(stages); err != nil {
			return nil, fmt.Errorf("%s: %w", fresh, err)
		}
	}
	path := x.path("state.json")
	b, err := atomicfile.Read(path)
	if errors.Is(err, os.ErrNotExist) {
		for _, st := range stages {
			if _, err := os.Lstat(x.path(st.Output)); err == nil {
				return nil, fmt.Errorf("%s: %s exists, and no state.json says of which run; give "+
					"another folder, or %s to discard it", dir, x.path(st.Output), fresh)
			}
		}
		x.state = state
		return state, x.save()
	}
	if err != nil {
		return nil, err
	}
	before, err := parseState(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; %s restarts", path, err, fresh)
	}
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if value := settings[key]; before.Settings[key] != value {
			return nil, fmt.Errorf(
				"%s is of a run with %s %q, this one has %q; give that, another %s, "+
					"or %s to restart",
				path,
				key,
				head(before.Settings[key]),
				head(value),
				dir,
				fresh,
			)
		}
	}
	state.Stages = before.Stages
	return state, nil
}

// stateVersion is the version of state.json.
const stateVersion = 1

// parseState reads a state.json.
func parseState(b []byte) (*State, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, jsontext.Plain(err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("version is %d, this program reads version %d", s.Version,
			stateVersion)
	}
	for i, st := range s.Stages {
		if st == nil || st.Output == "" || filepath.Base(st.Output) != st.Output {
			return nil, fmt.Errorf("stage %d has no output in the folder", i+1)
		}
	}
	return &s, nil
}

// head is the beginning of a setting, for a message.
func head(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// discard removes the outputs of a run in its folder, and nothing else.
func (x *extension) discard(stages []*Stage) error {
	remove := []string{x.path("state.json")}
	for _, st := range stages {
		out := x.path(st.Output)
		journals, err := filepath.Glob(out + "*.study*")
		if err != nil {
			return err
		}
		remove = slices.Concat(remove, journals,
			[]string{out, out + ".states", out + ".tmp", out + ".log"})
	}
	for _, path := range remove {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// isDone reports whether a stage has its output, and records it if the run was killed before it
// could.
func (x *extension) isDone(st *Stage) bool {
	if _, err := os.Stat(x.path(st.Output)); err != nil {
		return false
	}
	known := slices.ContainsFunc(x.state.Stages,
		func(d *Stage) bool { return d.Output == st.Output })
	if !known {
		x.state.Stages = append(x.state.Stages, st)
	}
	return true
}

func (x *extension) save() error {
	return atomicfile.Write(x.path("state.json"), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(x.state)
	})
}
