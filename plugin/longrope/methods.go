package longrope

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// factorsOptions say what a factors file leaves open.
type factorsOptions struct {
	lengths         []int   // of csv files, in their order
	startWindow     int     // of csv files and methods
	attentionFactor float64 // of csv files and methods; 0: the method's own
}

// ladderFrom makes one ladder of factors files: their rungs together, ascending.
func ladderFrom(m *convert.ModelInfo, paths []string, o factorsOptions) (*ropescale.Ladder, error) {
	var l *ropescale.Ladder
	lengths := slices.Clone(o.lengths)
	from := map[int]string{}
	for _, path := range paths {
		f, err := readFactors(path)
		if err != nil {
			return nil, err
		}
		part := f.ladder
		if f.factors != nil {
			if len(lengths) == 0 {
				return nil, fmt.Errorf("%s: a csv file does not say for which length it is; give "+
					"--length, e.g. --length 128k", path)
			}
			g, err := ropescale.LongRoPE(m.Rope(), lengths[0],
				ropescale.MethodOptions{
					Factors: f.factors, StartWindow: o.startWindow,
					AttentionFactor: o.attentionFactor,
				})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			lengths = lengths[1:]
			if part, err = ropescale.NewLadder(m.Rope(), nil, g); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			part.Source = &ropescale.Source{Method: "longrope"}
		}
		for _, g := range part.Rungs {
			if other, ok := from[g.Length]; ok {
				return nil, fmt.Errorf("%s: it has a rung for %s tokens, and so has %s; leave "+
					"one out", path, label.Size(g.Length), other)
			}
			from[g.Length] = path
		}
		if l == nil {
			l = part
			continue
		}
		if l, err = merge(l, part); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if len(lengths) > 0 {
		return nil, fmt.Errorf("--length: %d more than there are csv files; factors.json says "+
			"its lengths itself", len(lengths))
	}
	return l, l.Validate()
}

// merge puts the rungs of b between those of a. They must be for the same model.
func merge(a, b *ropescale.Ladder) (*ropescale.Ladder, error) {
	switch {
	case a.OriginalContextLength != b.OriginalContextLength:
		return nil, fmt.Errorf("original_context_length is %d, the file before has %d; they are "+
			"for different models", b.OriginalContextLength, a.OriginalContextLength)
	case a.RopeDimensionCount != b.RopeDimensionCount:
		return nil, fmt.Errorf("rope_dimension_count is %d, the file before has %d; they are for "+
			"different models", b.RopeDimensionCount, a.RopeDimensionCount)
	}
	m := *a
	if m.Base == nil {
		m.Base = b.Base
	}
	m.Rungs = slices.SortedFunc(slices.Values(append(slices.Clone(a.Rungs), b.Rungs...)),
		func(x, y ropescale.Rung) int { return x.Length - y.Length })
	// One source cannot speak for several files: what they agree on stays.
	if a.Source != nil && b.Source != nil {
		s := *a.Source
		if s.ModelDigest != b.Source.ModelDigest {
			s.ModelDigest = ""
		}
		if s.Method != b.Source.Method {
			s.Method = ""
		}
		if s.Algorithm != b.Source.Algorithm || s.Seed != b.Source.Seed {
			s.Algorithm, s.Seed = "", 0
		}
		s.Trials, s.Tokens = s.Trials+b.Source.Trials, s.Tokens+b.Source.Tokens
		s.Fitness, s.Measure = 0, ""
		m.Source = &s
	} else {
		m.Source = nil
	}
	return &m, nil
}

// resonance is what a method's name may end in: then the wavelengths of its rungs, or those of the
// model's own scaling with them, are rounded to whole tokens.
const resonance = "+resonance"

// ladderBy makes the ladder of a method that needs no search. A dynamic method has a rung for each
// length.
func ladderBy(m *convert.ModelInfo, name string, lengths []int,
	o factorsOptions,
) (*ropescale.Ladder, error) {
	plain, whole := strings.CutSuffix(name, resonance)
	method, err := ropescale.MethodByName(plain)
	if err != nil || !method.Use.Has(ropescale.ClosedForm) {
		known := ropescale.MethodNames(ropescale.ClosedForm)
		return nil, fmt.Errorf("unknown method %q; known: %s, each also with %s%s", plain,
			closedForms(), resonance, suggest(plain, known))
	}
	var rungs []ropescale.Rung
	for _, n := range lengths {
		if n <= m.OriginalContextLength {
			continue
		}
		g, err := method.Rung(m.Rope(), n, ropescale.MethodOptions{
			StartWindow:     o.startWindow,
			AttentionFactor: o.attentionFactor,
		})
		if err != nil {
			return nil, err
		}
		g = g.Over(m.Base)
		if whole {
			g = g.Resonance(m.Rope())
		}
		rungs = append(rungs, g)
	}
	l, err := ropescale.NewLadder(m.Rope(), m.Base, rungs...)
	if err != nil {
		return nil, err
	}
	l.Source = &ropescale.Source{Method: name}
	return l, nil
}

// ladderFor makes the ladder of --method and --target: a rung for each target, ascending. A method
// that has other factors for each length has one for each doubling up to a single target.
func ladderFor(m *model, name string, targets []int, o factorsOptions) (*ropescale.Ladder, error) {
	l := m.info.OriginalContextLength
	if targets[0] <= l {
		return nil, fmt.Errorf("--target %s: %s was trained for %s tokens already; give a longer "+
			"target",
			label.Size(targets[0]), m.name, label.Size(l))
	}
	if len(targets) == 1 && eachLength(name) {
		for n := 2 * l; n < targets[len(targets)-1]; n *= 2 {
			targets = slices.Insert(targets, len(targets)-1, n)
		}
	}
	ladder, err := ladderBy(m.info, name, targets, o)
	if err != nil {
		return nil, fmt.Errorf("--method: %w", err)
	}
	return ladder, nil
}

// closedForms are the methods that need no search, for help and errors.
func closedForms() string {
	return strings.Join(ropescale.MethodNames(ropescale.ClosedForm), ", ")
}

// seedLabels are the methods that the default search evaluates first, for help.
func seedLabels() string {
	var labels []string
	for _, m := range ropescale.Methods() {
		if m.Use.Has(ropescale.Seed) || m.Use.Has(ropescale.Start) {
			labels = append(labels, m.Label)
		}
	}
	last := len(labels) - 1
	return strings.Join(labels[:last], ", ") + " and " + labels[last]
}

// eachLength says whether a method has other factors for each length.
func eachLength(name string) bool {
	m, err := ropescale.MethodByName(strings.TrimSuffix(name, resonance))
	return err == nil && m.Use.Has(ropescale.EachLength)
}

// stockLadder is the model's own RoPE at every length.
func stockLadder(m *convert.ModelInfo) *ropescale.Ladder {
	return &ropescale.Ladder{
		Version:               ropescale.LadderVersion,
		OriginalContextLength: m.OriginalContextLength, RopeDimensionCount: m.RopeDimensionCount,
		Base: m.Base,
	}
}

// carried is the name of what the model file itself carries among the methods.
const carried = "model"

// asRun is the name of what transformers makes of a checkpoint: one long rung, no start window.
const asRun = "transformers"

// methodsFor makes the methods of --methods, for sequences of up to target tokens. Rungs for
// lengths in between are made for dynamic NTK only: the others are what somebody gets who sets a
// factor.
func methodsFor(m *model, names []string, target int, lengths []int) ([]evals.Method, error) {
	if len(names) == 0 {
		names = append([]string{"stock"}, ropescale.MethodNames(ropescale.Seed)...)
		if m.info.Ladder != nil {
			names = []string{"stock", carried}
			if m.info.Transformers != nil {
				names = append(names, asRun)
			}
		}
	}
	files := 0 // what counts as longrope: one goes by that, several by their names
	for _, name := range names {
		if name == carried || isFactors(name) {
			files++
		}
	}
	var methods []evals.Method
	for _, name := range names {
		method := evals.Method{Name: name}
		var err error
		switch {
		case name == "stock":
			// Without a ladder in the file nil is the same, and does not even touch the engine.
			if m.info.Ladder != nil {
				method.Ladder = stockLadder(m.info)
			}
		case name == carried:
			if m.info.Ladder == nil {
				return nil, fmt.Errorf("--methods %s: %s carries no factors; stock is what it is",
					carried, m.name)
			}
			method.Name = "longrope"
		case name == asRun:
			if m.info.Lost != "" {
				return nil, fmt.Errorf("--methods %s: %s: %s", asRun, m.name, m.info.Lost)
			}
			if m.info.Transformers == nil {
				return nil, fmt.Errorf("--methods %s: %s is no checkpoint folder with factors",
					asRun, m.name)
			}
			method.Ladder = m.info.Transformers
		case isFactors(name):
			if strings.EqualFold(filepath.Ext(name), ".csv") {
				method.Ladder, err = ladderFrom(m.info, []string{name},
					factorsOptions{lengths: []int{target}})
			} else {
				method.Ladder, err = ladderFrom(m.info, []string{name}, factorsOptions{})
			}
			if err == nil {
				err = fits(m.info, method.Ladder)
			}
			if err != nil {
				return nil, fmt.Errorf("--methods: %w", err)
			}
			method.Name = "longrope"
			if files > 1 {
				method.Name = strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
			}
		default:
			ends := []int{target}
			if eachLength(name) {
				ends = lengths
			}
			method.Ladder, err = ladderBy(m.info, name, ends, factorsOptions{})
		}
		if err != nil {
			return nil, fmt.Errorf("--methods: %w; stock, %s and factors files (.json, .csv) too",
				err, carried)
		}
		for _, other := range methods {
			if other.Name == method.Name {
				return nil, fmt.Errorf("--methods: two would be called %q in the results; rename "+
					"a file or leave one out", method.Name)
			}
		}
		methods = append(methods, method)
	}
	return methods, nil
}

// fits says whether factors can be used with a model, before it is loaded.
func fits(m *convert.ModelInfo, l *ropescale.Ladder) error {
	if l.RopeDimensionCount != m.RopeDimensionCount {
		return fmt.Errorf("the factors are for %d rotary dimensions, the model has %d",
			l.RopeDimensionCount, m.RopeDimensionCount)
	}
	if l.OriginalContextLength != m.OriginalContextLength {
		return fmt.Errorf("the factors are for a model trained for %d tokens, this one was for %d",
			l.OriginalContextLength, m.OriginalContextLength)
	}
	return nil
}
