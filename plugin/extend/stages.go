package extend

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/plugin/search"
	"github.com/longrope/longrope/plugin/units"
	"github.com/longrope/longrope/ropescale"
)

// Stage is one piece of an extension. Its output exists or not; there is nothing between.
type Stage struct {
	Name   string  `json:"name"`
	Output string  `json:"output"` // in the folder
	Took   float64 `json:"seconds,omitempty"`
	// Result is the result of a search or a conversion, or the last line of training.
	Result json.RawMessage `json:"result,omitempty"`

	do func(ctx context.Context, path string) (json.RawMessage, error)
}

// Note is the result of a stage in a few words.
func (st *Stage) Note() string {
	var r struct {
		Trials, Steps, Tokens int
		Loss                  float64
	}
	if json.Unmarshal(st.Result, &r) != nil {
		return ""
	}
	switch {
	case r.Trials > 0:
		return fmt.Sprintf("%d trials, %s tokens", r.Trials, label.Count(r.Tokens))
	case r.Steps > 0:
		return fmt.Sprintf("%d steps, %s tokens, loss %.3f", r.Steps, label.Count(r.Tokens), r.Loss)
	}
	return ""
}

// extension is one run of the stages.
type extension struct {
	o      Options
	report search.Reporter
	state  *State
}

func (x *extension) path(name string) string { return filepath.Join(x.o.Dir, name) }

// stages lays out the stages, which name each other's outputs. Searches run on a GGUF that carries
// the ladder so far, since they continue from its last rung; training continues from weights of the
// kind that the model has.
func (x *extension) stages() []*Stage {
	o, suffix := x.o, ".gguf"
	var stages []*Stage
	if o.Model.Checkpoint {
		suffix = ""
	} else {
		stages = append(stages, &Stage{
			Name: "tokenize the training text", Output: "text.jsonl", do: x.tokenize,
		})
	}
	model, weights, factors := o.Model.Path, o.Model.Path, ""
	for i := range o.Training.Steps {
		at := label.Size(o.Targets[i])
		factors = fmt.Sprintf("search-%s.json", at)
		tuned, laddered := "tuned-"+at+suffix, "model-"+at+".gguf"
		stages = append(stages,
			x.searchStage("search factors for "+at, factors, model, o.Targets[i:i+1], i == 0),
			x.trainStage(i, weights, factors, tuned),
			x.convertStage("write the factors for "+at, laddered, x.path(tuned), factors))
		model, weights = x.path(laddered), x.path(tuned)
	}
	var names []string
	beyond := o.Targets[len(o.Training.Steps):]
	if len(beyond) > 0 {
		names = append(names, "search factors for "+units.Sizes(beyond))
	}
	if len(o.Readjust) > 0 {
		names = append(names, "readjust "+units.Sizes(o.Readjust))
	}
	if rest := slices.Concat(o.Readjust, beyond); len(rest) > 0 {
		factors = "rungs.json"
		name := strings.Join(names, ", ")
		stages = append(stages, x.searchStage(name, factors, model, rest, false))
	}
	name := x.finalName()
	if o.Model.Checkpoint {
		stages = append(stages,
			x.convertStage("write the ladder into a checkpoint", name, weights, factors))
	}
	return append(stages,
		x.convertStage("write the ladder into a GGUF", name+".gguf", weights, factors))
}

// finalName is that of the model with all rungs.
func (x *extension) finalName() string {
	model := strings.TrimSuffix(filepath.Base(x.o.Model.Name), ".gguf")
	longest := x.o.Targets[len(x.o.Targets)-1]
	return strings.NewReplacer("/", "-", ":", "-").Replace(model) + "-" + label.Size(longest)
}

// searchStage searches factors on a model.
func (x *extension) searchStage(name, out, model string, targets []int, first bool) *Stage {
	return &Stage{Name: name, Output: out, do: func(
		ctx context.Context, path string,
	) (json.RawMessage, error) {
		if first && x.o.First != nil {
			return nil, atomicfile.Write(path, x.o.First.WriteFactors)
		}
		l, err := x.o.Load(ctx, model, slices.Max(targets))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		o := x.o.Search
		o.Model, o.Info, o.Targets, o.Journal = l.Name, l.Info, targets, path+".study"
		o.Now = x.o.Now
		r, err := search.Search(ctx, l.Engine, o, stageEvents{x.report, path})
		if err != nil {
			return nil, err
		}
		if x.o.Page != nil {
			if err := x.o.Page(path, r, l); err != nil {
				return nil, err
			}
		}
		return json.Marshal(r)
	}}
}

// stageEvents passes on the reports of a search, and writes its factors.
type stageEvents struct {
	search.Reporter
	path string
}

func (s stageEvents) Found(l *ropescale.Ladder) error {
	return atomicfile.Write(s.path, l.WriteFactors)
}

// convertStage writes factors into a model.
func (x *extension) convertStage(name, out, model, factors string) *Stage {
	return &Stage{Name: name, Output: out, do: func(
		ctx context.Context, path string,
	) (json.RawMessage, error) {
		l, err := readLadder(x.path(factors))
		if err != nil {
			return nil, err
		}
		started := x.o.Now()
		r, err := convert.Convert(ctx, model, path, l, convert.Options{
			Progress: func(done, total int64) {
				x.report.Progress(search.Progress{
					Started: started, Label: "writing", Done: float64(done), Total: float64(total),
					Note: fmt.Sprintf("%.1f of %.1f GB", float64(done)/1e9, float64(total)/1e9),
				})
			},
		})
		if err != nil {
			return nil, err
		}
		return json.Marshal(r)
	}}
}

// readLadder reads a factors file that an earlier stage wrote.
func readLadder(path string) (*ropescale.Ladder, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := ropescale.ReadFactors(f)
	if err == nil {
		err = l.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}
