package longrope

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/atomicfile"
)

// stage is one piece of the schedule. Its output exists or not; there is nothing between.
type stage struct {
	Name   string          `json:"name"`
	Output string          `json:"output"` // in the folder
	Took   float64         `json:"seconds,omitempty"`
	Result json.RawMessage `json:"result,omitempty"` // what the command of the stage said, or the last line of training

	do func(ctx context.Context, path string) (json.RawMessage, error)
}

// schedule is what state.json holds: what was asked for, and the stages that are done.
type schedule struct {
	Version  int               `json:"version"`
	Settings map[string]string `json:"settings"`
	Stages   []*stage          `json:"stages"`

	app *app
	f   extendFlags
	m   *model
}

func (s *schedule) path(name string) string { return filepath.Join(s.f.out, name) }

// plan lays out the stages, which name each other's outputs. Searches run on a GGUF that carries the ladder so far, since
// they go on from its last rung; training goes on from weights of the kind that MODEL has.
func (s *schedule) plan() []*stage {
	f, suffix := s.f, ".gguf"
	var plan []*stage
	if s.m.checkpoint() {
		suffix = ""
	} else {
		plan = append(plan, &stage{Name: "tokenize the training text", Output: "text.jsonl", do: s.tokenize})
	}
	model, weights, factors := s.m.path, s.m.path, ""
	for i := range f.train.steps {
		at := size(f.targets[i])
		factors = fmt.Sprintf("search-%s.json", at)
		tuned, laddered := "tuned-"+at+suffix, "model-"+at+".gguf"
		plan = append(plan,
			s.search("search factors for "+at, factors, model, f.targets[i:i+1], i == 0),
			s.train(i, weights, factors, tuned),
			s.convert("write the factors for "+at, laddered, s.path(tuned), factors))
		model, weights = s.path(laddered), s.path(tuned)
	}
	var names []string
	rest := slices.Concat(f.readjust, f.targets[len(f.train.steps):])
	if beyond := f.targets[len(f.train.steps):]; len(beyond) > 0 {
		names = append(names, "search factors for "+beyond.String())
	}
	if len(f.readjust) > 0 {
		names = append(names, "readjust "+f.readjust.String())
	}
	if len(rest) > 0 {
		factors = "rungs.json"
		plan = append(plan, s.search(strings.Join(names, ", "), factors, model, rest, false))
	}
	name := fmt.Sprintf("%s-%s", strings.NewReplacer("/", "-", ":", "-").Replace(strings.TrimSuffix(filepath.Base(s.m.name), ".gguf")), size(f.targets[len(f.targets)-1]))
	if s.m.checkpoint() {
		plan = append(plan, s.convert("write the ladder into a checkpoint", name, weights, factors))
	}
	return append(plan, s.convert("write the ladder into a GGUF", name+".gguf", weights, factors))
}

// search is a stage that runs "longrope search" on a model.
func (s *schedule) search(name, out, model string, targets sizesFlag, first bool) *stage {
	return &stage{Name: name, Output: out, do: func(ctx context.Context, path string) (json.RawMessage, error) {
		f := s.f
		if first && f.first != "" {
			return nil, s.given(path, targets[0])
		}
		args := []string{model, "--target", targets.String(), "-o", path, "--seed", fmt.Sprint(f.seed), "--fitness", f.fitness, "--json"}
		if f.budget.tokens > 0 || f.budget.time > 0 {
			args = append(args, "--budget", f.budget.String())
		}
		if f.windows > 0 {
			args = append(args, "--windows", fmt.Sprint(f.windows))
		}
		for _, t := range f.searchText {
			args = append(args, "--text", t)
		}
		for _, t := range f.heldOut {
			args = append(args, "--held-out", t)
		}
		return s.app.run(ctx, searchCommand(s.app.open), append(args, s.app.engineArgs()...)...)
	}}
}

// given takes the factors of --factors in place of a search.
func (s *schedule) given(path string, target int) error {
	l, err := ladderFrom(s.m.info, []string{s.f.first}, factorsOptions{lengths: csvLength(s.f.first, target)})
	if err == nil {
		err = fits(s.m.info, l)
	}
	if err == nil && l.Rungs[len(l.Rungs)-1].Length != target {
		err = fmt.Errorf("%s: its last rung is for %s tokens, the first target is %s", s.f.first, size(l.Rungs[len(l.Rungs)-1].Length), size(target))
	}
	if err != nil {
		return fmt.Errorf("--factors: %w", err)
	}
	return atomicfile.Write(path, l.WriteFactors)
}

// csvLength is what a csv file does not say.
func csvLength(path string, target int) []int {
	if strings.EqualFold(filepath.Ext(path), ".csv") {
		return []int{target}
	}
	return nil
}

// convert is a stage that runs "longrope convert" on a model.
func (s *schedule) convert(name, out, model, factors string) *stage {
	return &stage{Name: name, Output: out, do: func(ctx context.Context, path string) (json.RawMessage, error) {
		return s.app.run(ctx, convertCommand(s.app.open), model, "--factors", s.path(factors), "-o", path, "--json")
	}}
}

// settings are what makes two schedules the same; with others, what is in the folder does not count.
func (f *extendFlags) settings(m *model) (map[string]string, error) {
	set := map[string]string{
		"model": fmt.Sprintf("%s, %d bytes", m.name, m.info.Size), "targets": f.targets.String(), "readjust": f.readjust.String(), "seed": fmt.Sprint(f.seed), "fitness": f.fitness,
		"windows": fmt.Sprint(f.windows), "budget": f.budget.String(), "training": strings.Join(f.train.arguments(), " "), "steps": f.train.stepsList(),
	}
	for flag, paths := range map[string][]string{"text": f.texts, "search-text": f.searchText, "held-out": f.heldOut, "factors": {f.first}} {
		for _, path := range paths {
			if path == "" {
				continue
			}
			sum, err := convert.FileDigest(path)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", flag, err)
			}
			set[flag] = strings.TrimSpace(set[flag] + " " + sum[:len("sha256:")+12])
		}
	}
	return set, nil
}

// open reads state.json, refuses one of another schedule, and begins one where there is none. From then on an output in
// the folder is this schedule's, since it appears by rename.
func (s *schedule) open() error {
	if s.f.fresh {
		if err := s.discard(); err != nil {
			return fmt.Errorf("--fresh: %w", err)
		}
	}
	b, err := os.ReadFile(s.path("state.json"))
	if errors.Is(err, os.ErrNotExist) {
		for _, st := range s.plan() {
			if _, err := os.Lstat(s.path(st.Output)); err == nil {
				return fmt.Errorf("--output: %s exists, and no state.json says of which run; give another folder, or --fresh to discard it", s.path(st.Output))
			}
		}
		return s.save()
	}
	if err != nil {
		return err
	}
	var before schedule
	if err := json.Unmarshal(b, &before); err != nil {
		return fmt.Errorf("%s: %w; --fresh begins anew", s.path("state.json"), err)
	}
	for _, key := range slices.Sorted(maps.Keys(s.Settings)) {
		if value := s.Settings[key]; before.Settings[key] != value {
			return fmt.Errorf("%s is of a run with %s %q, this one has %q; give that, another --output, or --fresh to begin anew",
				s.path("state.json"), key, cut(before.Settings[key], 60), cut(value, 60))
		}
	}
	s.Stages = before.Stages
	return nil
}

// discard removes what a run makes in its folder, and nothing else.
func (s *schedule) discard() error {
	remove := []string{s.path("state.json")}
	for _, st := range s.plan() {
		out := s.path(st.Output)
		journals, err := filepath.Glob(out + "*.study*")
		if err != nil {
			return err
		}
		remove = slices.Concat(remove, journals, []string{out, out + ".states", out + ".tmp", out + ".log"})
	}
	for _, path := range remove {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// done says whether a stage has its output, and records it if the run was killed before it could.
func (s *schedule) done(st *stage) bool {
	if _, err := os.Stat(s.path(st.Output)); err != nil {
		return false
	}
	if !slices.ContainsFunc(s.Stages, func(d *stage) bool { return d.Output == st.Output }) {
		s.Stages = append(s.Stages, st)
	}
	return true
}

func (s *schedule) save() error {
	return atomicfile.Write(s.path("state.json"), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(s)
	})
}

// note is what a stage came to, in a few words.
func (st *stage) note() string {
	var r struct {
		Trials, Steps, Tokens int
		Loss                  float64
	}
	if json.Unmarshal(st.Result, &r) != nil {
		return ""
	}
	switch {
	case r.Trials > 0:
		return fmt.Sprintf("%d trials, %s tokens", r.Trials, count(r.Tokens))
	case r.Steps > 0:
		return fmt.Sprintf("%d steps, %s tokens, loss %.3f", r.Steps, count(r.Tokens), r.Loss)
	}
	return ""
}
