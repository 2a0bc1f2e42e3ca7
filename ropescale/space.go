package ropescale

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Params are the settings of the search algorithms. The zero value is the paper's values for "longrope" (arXiv
// 2402.13753, section 3.3 and appendix A.1), which are those of the released algorithms too, and Hansen's for "cma"; with a
// budget (Options.Budget) that is smaller than the default, the zero values of longrope's sizes shrink with it. A field
// of another algorithm is ignored.
type Params struct {
	// MaxScale bounds every lambda by MaxScale*s; 0 means 1.25.
	MaxScale float64 `json:"max_scale"`
	// StartWindows are the values that n-hat may take; nil means 0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256.
	// Values at or above the target are dropped.
	StartWindows []int `json:"start_windows"`
	// Attention is "fixed" (every candidate has AttentionFactor) or "search"; "" means fixed for longrope, search for cma.
	Attention string `json:"attention"`
	// AttentionFactor is the fixed one; 0 means LongRoPEAttentionFactor's.
	AttentionFactor float64 `json:"attention_factor"`

	// Step is the grid of lambda in longrope; 0 means 0.01.
	Step float64 `json:"step"`
	// Population is the size of the first generation of longrope (0: 64) and of every generation of cma (0: 8).
	Population int `json:"population"`
	// Mutations and Crossovers are longrope's new candidates per generation; 0 means 16 of each.
	Mutations  int `json:"mutations"`
	Crossovers int `json:"crossovers"`
	// Parents is how many of the best survive a generation of longrope; 0 means 32.
	Parents int `json:"parents"`
	// Iterations is the number of generations of longrope after the first; 0 means 40, or what the budget allows.
	Iterations int `json:"iterations"`
	// MutationProbability is longrope's p of each gene; 0 means 0.3.
	MutationProbability float64 `json:"mutation_probability"`

	// Knots is the number of increments of log lambda in cma; 0 means 8 (never more than d/2).
	Knots int `json:"knots"`
	// Retries is how often cma begins anew, at the start that won, where no mean is as good as a start at the final readings.
	Retries int `json:"retries,omitempty"`
	// Sigma is cma's first step size: of the square root of an increment over an even rise of ln s; 0 means 0.2.
	Sigma float64 `json:"sigma"`
}

// paperTrials is what the paper's settings evaluate: three seeds, 64 candidates, 40 generations of 32.
const paperTrials = 3 + 64 + 40*(16+16)

// CMAGenerations is what the default budget of cma is made for, beside the starts and four scores of the mean on all readings, on
// the way and at the end.
const CMAGenerations = 18

// space is what an algorithm searches in: the problem, the resolved parameters, the budget and the random numbers.
type space struct {
	Params
	rope      Rope
	target    int
	stretch   float64 // s, or what is given in its place
	readings  []Reading
	least     int // tokens of the starts
	full      int // tokens of what the fitness is made of
	final     int // tokens of what finalists read; 0 where the budget has no room for them
	retry     int // tokens of a retry
	budget    int // tokens
	starts    []Candidate
	maxFactor float64
	rng       *rand.Rand
}

// newSpace checks opts and fills in the defaults; the returned options are what the journal's header records.
func newSpace(opts Options) (*space, Options, error) {
	fail := func(format string, a ...any) (*space, Options, error) {
		return nil, opts, fmt.Errorf("study: "+format, a...)
	}
	if err := opts.Rope.Validate(); err != nil {
		return fail("%w", err)
	}
	if opts.Stretch != 0 && (!usable(opts.Stretch) || opts.Stretch <= 1) {
		return fail("stretch is %g, want a finite number above 1, or 0 (the target over the original context length)", opts.Stretch)
	}
	if opts.Target < 2 || opts.Target <= opts.Rope.OriginalContextLength && opts.Stretch == 0 || opts.Target > maxLength {
		return fail("target length is %d, want more than the original context length %d and at most %d",
			opts.Target, opts.Rope.OriginalContextLength, maxLength)
	}
	if opts.Rope.Dims < 4 {
		return fail("rope_dimension_count is %d, want at least 4", opts.Rope.Dims)
	}
	if opts.Base != nil {
		if err := opts.Base.check(opts.Rope.Pairs()); err != nil {
			return fail("base: %w", err)
		}
	}
	if opts.Readings == nil {
		opts.Readings = []Reading{{Tokens: 1, Weight: 1}}
	}
	full, final := 0, 0
	for i, r := range opts.Readings {
		if r.Tokens < 0 || r.Tokens > maxLength || r.Tokens+i == 0 || !usable(r.Weight) {
			return fail("reading %d, %q, has %d tokens and weight %g, want positive numbers (0 tokens only with the reading before it)", i, r.Name, r.Tokens, r.Weight)
		}
		switch r.Use {
		case "":
			full += r.Tokens
		case ForFinalists:
			final += r.Tokens
		case ForGenerations:
		default:
			return fail("reading %d, %q, is for %q, want nothing, %q or %q", i, r.Name, r.Use, ForGenerations, ForFinalists)
		}
	}
	least := (len(SeedNames(opts.Rope, opts.Target)) + len(opts.Starts)) * full
	if opts.Budget < 0 || opts.Budget > 0 && opts.Budget < least {
		return fail("the budget is %d tokens, want at least %d (PI, NTK, YaRN and the starts are always evaluated)", opts.Budget, least)
	}
	if opts.Algorithm == "" {
		opts.Algorithm = "cma"
	}
	if _, ok := algorithms[opts.Algorithm]; !ok {
		return fail("unknown algorithm %q; known: %s", opts.Algorithm, strings.Join(Algorithms(), ", "))
	}
	p := &opts.Params
	if err := p.check(); err != nil {
		return fail("%w", err)
	}
	s := orDefault(opts.Stretch, opts.Rope.Scale(opts.Target))
	p.MaxScale = orDefault(p.MaxScale, 1.25)
	p.StartWindows = windowsBelow(p.StartWindows, opts.Target)
	p.AttentionFactor = orDefault(p.AttentionFactor, LongRoPEAttentionFactor(opts.Target, opts.Rope.OriginalContextLength))
	if final == 0 { // nothing to be refused by
		p.Retries = 0
	}
	if opts.Algorithm == "cma" {
		p.cmaDefaults(opts.Rope.Pairs())
	} else {
		opts.Budget = cmp.Or(opts.Budget, p.longropeDefaults(opts.Budget/full)*full)
	}
	opts.Starts = slices.Clone(opts.Starts)
	for i, c := range opts.Starts {
		if err := c.Rung.check(opts.Rope.Pairs()); err != nil {
			return fail("start %d: %w", i, err)
		}
		opts.Starts[i].Rung.Length = opts.Target
	}
	if strings.HasPrefix(opts.Algorithm, "dim-") {
		if len(opts.Starts) > 0 {
			return fail("%s starts from YaRN: it takes no other start", opts.Algorithm)
		}
		if p.Attention == "search" {
			return fail("%s has a fixed attention factor: it cannot search one", opts.Algorithm)
		}
		p.StartWindows = []int{0}
	}
	if p.Parents > p.Population && opts.Algorithm != "cma" {
		return fail("%d parents exceed the population of %d", p.Parents, p.Population)
	}
	sp := &space{
		Params:    *p,
		rope:      opts.Rope,
		target:    opts.Target,
		stretch:   s,
		readings:  opts.Readings,
		least:     least,
		full:      full,
		final:     final,
		budget:    opts.Budget,
		starts:    opts.Starts,
		maxFactor: max(1, p.MaxScale*s),
		rng:       rand.New(rand.NewPCG(opts.Seed, 0x6c6f6e67726f7065)), // the stream spells longrope
	}
	once := 4*full + CMAGenerations*sp.generationTokens()
	sp.retry = once + finalMeans*final
	finals := (finalStarts + finalMeans) * final
	if sp.budget == 0 {
		sp.budget = least + once + finals + p.Retries*sp.retry
		opts.Budget = sp.budget
	}
	if sp.budget < least+full+sp.generationTokens()+finals+p.Retries*sp.retry {
		sp.final, sp.Retries = 0, 0
	}
	return sp, opts, nil
}

// check refuses what no default can mend.
func (p *Params) check() error {
	for name, v := range map[string]int{"population": p.Population, "mutations": p.Mutations, "crossovers": p.Crossovers,
		"parents": p.Parents, "iterations": p.Iterations, "knots": p.Knots, "retries": p.Retries} {
		if v < 0 || v > 1<<20 {
			return fmt.Errorf("%s is %d, want 0 (the default) to %d", name, v, 1<<20)
		}
	}
	for name, v := range map[string]float64{"max_scale": p.MaxScale, "attention_factor": p.AttentionFactor, "step": p.Step,
		"mutation_probability": p.MutationProbability, "sigma": p.Sigma} {
		if v != 0 && !usable(v) {
			return fmt.Errorf("%s is %g, want a positive finite number or 0 (the default)", name, v)
		}
	}
	switch {
	case p.MutationProbability > 1:
		return fmt.Errorf("mutation_probability is %g, want at most 1", p.MutationProbability)
	case p.Step != 0 && p.Step < 1e-6:
		return fmt.Errorf("step is %g, want at least 1e-6", p.Step)
	case p.Attention != "" && p.Attention != "fixed" && p.Attention != "search":
		return fmt.Errorf("attention is %q, want fixed or search", p.Attention)
	}
	for _, w := range p.StartWindows {
		if w < 0 {
			return fmt.Errorf("start window %d is negative", w)
		}
	}
	return nil
}

// windowsBelow drops the windows that do not fit the target; the paper's set when ws is nil.
func windowsBelow(ws []int, target int) []int {
	if ws == nil {
		ws = []int{0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256}
	}
	var fit []int
	for _, w := range ws {
		if w < target {
			fit = append(fit, w)
		}
	}
	if fit == nil {
		fit = []int{0}
	}
	return fit
}

// longropeDefaults fills in the paper's sizes. Under a budget of B evaluations the sizes left at 0 shrink by sqrt(B/1347),
// so that the number of generations shrinks likewise, and what remains of B after the first generation sets Iterations. It
// returns how many evaluations these settings take.
func (p *Params) longropeDefaults(budget int) int {
	f := 1.0
	if budget > 0 {
		f = math.Sqrt(min(1, float64(budget)/paperTrials))
	}
	size := func(v *int, paper, least int) {
		if *v == 0 {
			*v = max(least, int(math.Round(f*float64(paper))))
		}
	}
	size(&p.Population, 64, 8)
	size(&p.Mutations, 16, 2)
	size(&p.Crossovers, 16, 2)
	if p.Parents == 0 {
		p.Parents = min(max(4, int(math.Round(f*32))), p.Population)
	}
	first, each := len(MethodNames(Seed))+p.Population, p.Mutations+p.Crossovers
	if p.Iterations == 0 {
		p.Iterations = 40
		if budget > 0 {
			p.Iterations = (max(0, budget-first) + each - 1) / each
		}
	}
	p.Step = orDefault(p.Step, 0.01)
	p.MutationProbability = orDefault(p.MutationProbability, 0.3)
	if p.Attention == "" {
		p.Attention = "fixed"
	}
	p.Knots, p.Sigma, p.Retries = 0, 0, 0
	return first + p.Iterations*each
}

func (p *Params) cmaDefaults(pairs int) {
	if p.Knots == 0 {
		p.Knots = 8
	}
	p.Knots = min(p.Knots, pairs)
	if p.Attention == "" {
		p.Attention = "search"
	}
	p.Sigma = orDefault(p.Sigma, 0.2)
	if p.Population == 0 {
		p.Population = 8
	}
	p.Population = max(p.Population, 2)
	*p = Params{MaxScale: p.MaxScale, StartWindows: p.StartWindows, Attention: p.Attention, AttentionFactor: p.AttentionFactor,
		Population: p.Population, Knots: p.Knots, Sigma: p.Sigma, Retries: p.Retries}
}

// two draws the places of two parents in a population of n that is sorted, the better first; twice 0 where n is 1.
func (sp *space) two(n int) (i, j int) {
	i = sp.rng.IntN(n)
	if n == 1 {
		return 0, 0
	}
	j = sp.rng.IntN(n - 1)
	if j >= i {
		j++
	}
	return min(i, j), max(i, j)
}

// attentionUnit is the log of LongRoPE's attention factor for the stretch.
func (sp *space) attentionUnit() float64 {
	return 0.5 * math.Log1p(math.Log(sp.stretch)/math.Log(float64(sp.rope.OriginalContextLength)))
}

// seeds returns the rungs of those methods, whose origin is the method's name, and the further starts.
func (sp *space) seeds() []Candidate {
	var c []Candidate
	for _, name := range SeedNames(sp.rope, sp.target) {
		m, err := MethodByName(name)
		if err != nil {
			panic("ropescale: " + err.Error())
		}
		g, err := m.Rung(sp.rope, sp.target, MethodOptions{})
		if err != nil {
			panic("ropescale: " + err.Error()) // newSpace checked all that a method checks
		}
		c = append(c, Candidate{Rung: g, Origin: name})
	}
	return append(c, sp.starts...)
}

// rung is a candidate's rung in this space.
func (sp *space) rung(factors []float64, window int, attention float64) Rung {
	return Rung{Length: sp.target, StartWindow: window, AttentionFactor: attention, Factors: factors}
}
