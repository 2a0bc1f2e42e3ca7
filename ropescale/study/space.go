package study

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// space is what an algorithm searches in: the problem, the resolved parameters and settings, the
// budget and the random numbers.
type space struct {
	Params
	settings
	algorithm string
	rope      ropescale.Rope
	target    int
	stretch   float64 // s, or what is given in its place
	readings  []Reading
	least     int  // tokens of the starts
	full      int  // tokens of what the fitness is made of
	final     int  // tokens that a finalist takes; 0 where the fitness' sequences give its readings
	finalized bool // there are finalists: the budget has room for them
	retry     int  // tokens of a retry
	budget    int  // tokens
	starts    []Candidate
	maxFactor float64
	rng       *rand.Rand
}

// newSpace checks opts and fills in the defaults; the returned options are the journal's header.
func newSpace(opts Options) (*space, Options, error) {
	fail := func(err error) (*space, Options, error) {
		return nil, opts, fmt.Errorf("study: %w", err)
	}
	opts.Algorithm = cmp.Or(opts.Algorithm, "cma")
	if opts.Readings == nil {
		opts.Readings = []Reading{{Tokens: 1, Weight: 1}}
	}
	for _, check := range []func() error{opts.checkProblem, opts.checkReadings, opts.checkSearch} {
		if err := check(); err != nil {
			return fail(err)
		}
	}
	full, final := tokensOf(opts.Readings, ""), tokensOf(opts.Readings, ForFinalists)
	seeds := ropescale.SeedNames(opts.Algorithm, opts.Rope, opts.Target)
	least := (len(seeds) + len(opts.Starts)) * full
	if opts.Budget < 0 || opts.Budget > 0 && opts.Budget < least {
		return fail(fmt.Errorf("the budget is %d tokens, want at least %d "+
			"(the methods that a study begins with and the starts are always evaluated)",
			opts.Budget, least))
	}
	p, set := &opts.Params, opts.settings
	p.StartWindows = windowsBelow(p.StartWindows, opts.Target)
	finalized := places(opts.Readings, ForFinalists) != nil
	if !finalized { // nothing to be refused by
		p.Retries = 0
	}
	set.attentionFactor = cmp.Or(set.attentionFactor,
		ropescale.LongRoPEAttentionFactor(opts.Target, opts.Rope.OriginalContextLength))
	if opts.Algorithm == "cma" {
		p.cmaDefaults(opts.Rope.Pairs())
		set.sigma = cmp.Or(set.sigma, 0.2)
	} else {
		opts.Budget = cmp.Or(opts.Budget, set.evolutionDefaults(p, opts.Budget/full)*full)
		if set.parents > p.Population {
			return fail(fmt.Errorf("%d parents exceed the population of %d", set.parents,
				p.Population))
		}
	}
	set.maxScale = cmp.Or(set.maxScale, opts.maxScale())
	if opts.released() {
		p.StartWindows = []int{0}
	}
	opts.Starts = slices.Clone(opts.Starts)
	for i := range opts.Starts {
		opts.Starts[i].Rung.Length = opts.Target
	}
	s := cmp.Or(opts.Stretch, opts.Rope.Scale(opts.Target))
	sp := &space{
		Params:    *p,
		settings:  set,
		algorithm: opts.Algorithm,
		rope:      opts.Rope,
		target:    opts.Target,
		stretch:   s,
		readings:  opts.Readings,
		least:     least,
		full:      full,
		final:     final,
		finalized: finalized,
		starts:    opts.Starts,
		maxFactor: max(1, set.maxScale*s),
		// the stream spells longrope
		rng: rand.New(rand.NewPCG(opts.Seed, 0x6c6f6e67726f7065)),
	}
	opts.Budget = sp.divide(opts.Budget)
	return sp, opts, nil
}

// divide gives retries and finals their part of the budget, where it has room for them, and returns
// it; 0 is what cma needs.
func (sp *space) divide(budget int) int {
	once := 4*sp.full + CMAGenerations*sp.generationTokens() +
		foreseenRenewals*newBases(sp.readings, newDecks(sp.readings)).tokens()
	sp.retry = once + finalMeans*sp.final
	finals := (finalStarts + finalMeans) * sp.final
	sp.budget = cmp.Or(budget, sp.least+once+finals+sp.Retries*sp.retry)
	if sp.budget < sp.least+sp.full+sp.generationTokens()+finals+sp.Retries*sp.retry {
		sp.finalized, sp.final, sp.Retries = sp.final == 0 && sp.finalized, 0, 0
	}
	return sp.budget
}

// checkProblem refuses a model or a target that nothing can be searched for.
func (o *Options) checkProblem() error {
	r := o.Rope
	if err := r.Validate(); err != nil {
		return err
	}
	switch {
	case o.Stretch != 0 && (!ropescale.Usable(o.Stretch) || o.Stretch <= 1):
		return fmt.Errorf("stretch is %g, want a finite number above 1, "+
			"or 0 (the target over the original context length)", o.Stretch)
	case o.Target < 2 || o.Target > ropescale.MaxLength, o.Target <= r.OriginalContextLength &&
		o.Stretch == 0:
		return fmt.Errorf("target length is %d, want more than the original context length %d "+
			"and at most %d", o.Target, r.OriginalContextLength, ropescale.MaxLength)
	case r.Dims < 4:
		return fmt.Errorf("rope_dimension_count is %d, want at least 4", r.Dims)
	}
	if o.Base != nil {
		if err := o.Base.Check(r.Pairs()); err != nil {
			return fmt.Errorf("base: %w", err)
		}
	}
	for i, c := range o.Starts {
		if err := c.Rung.Check(r.Pairs()); err != nil {
			return fmt.Errorf("start %d: %w", i, err)
		}
	}
	return nil
}

func (o *Options) checkReadings() error {
	for i, r := range o.Readings {
		if r.Tokens < 0 || r.Tokens > ropescale.MaxLength || r.Tokens+i == 0 ||
			!ropescale.Usable(r.Weight) {
			return fmt.Errorf("reading %d, %q, has %d tokens and weight %g, want positive numbers "+
				"(0 tokens only with the reading before it)", i, r.Name, r.Tokens, r.Weight)
		}
		if !slices.Contains([]Use{"", ForFinalists, ForGenerations, ForBases}, r.Use) {
			return fmt.Errorf("reading %d, %q, is for %q, want nothing, %q, %q or %q",
				i, r.Name, r.Use, ForGenerations, ForFinalists, ForBases)
		}
	}
	cheap, exact := places(o.Readings, ForGenerations), places(o.Readings, ForBases)
	same := func(a, b int) bool {
		x, y := o.Readings[a], o.Readings[b]
		return x.Kind == y.Kind && (x.Tokens > 0) == (y.Tokens > 0)
	}
	if exact != nil && !slices.EqualFunc(cheap, exact, same) {
		return fmt.Errorf("%d readings are for %q and %d for %q, want the same ones in one order",
			len(cheap), ForGenerations, len(exact), ForBases)
	}
	return nil
}

// checkSearch refuses an algorithm or settings of it that no default can mend.
func (o *Options) checkSearch() error {
	if _, ok := algorithms[o.Algorithm]; !ok {
		return fmt.Errorf("unknown algorithm %q; known: %s", o.Algorithm,
			strings.Join(algorithmNames(), ", "))
	}
	if err := o.Params.check(); err != nil {
		return err
	}
	if err := o.settings.check(); err != nil {
		return err
	}
	switch {
	case o.released() && len(o.Starts) > 0:
		return fmt.Errorf("%s starts from YaRN: it takes no other start", o.Algorithm)
	case o.released() && o.Params.Attention == "search":
		return fmt.Errorf("%s has a fixed attention factor: it cannot search one", o.Algorithm)
	}
	return nil
}

// maxScale is the bound of lambda in s: LongRoPE's, but for a curve that leads through its start.
// With a given stretch, s is the most that the model knows.
func (o *Options) maxScale() float64 {
	if o.Algorithm == "cma" && o.Stretch == 0 && byTurns(o.Rope, o.Params.Knots) {
		return 2
	}
	return 1.25
}

// released says whether the algorithm is one of those that LongRoPE's authors released.
func (o *Options) released() bool { return strings.HasPrefix(o.Algorithm, "dim-") }

// tokensOf are the tokens of the readings for a use.
func tokensOf(readings []Reading, use Use) (tokens int) {
	for _, i := range places(readings, use) {
		tokens += readings[i].Tokens
	}
	return tokens
}

func (p *Params) check() error {
	for _, v := range []struct {
		name  string
		value int
	}{{"population", p.Population}, {"knots", p.Knots}, {"retries", p.Retries}} {
		if v.value < 0 || v.value > 1<<20 {
			return fmt.Errorf("%s is %d, want 0 (the default) to %d", v.name, v.value, 1<<20)
		}
	}
	if p.Attention != "" && p.Attention != "fixed" && p.Attention != "search" {
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

// cmaDefaults fills in what is 0, and clears what cma has no use for.
func (p *Params) cmaDefaults(pairs int) {
	p.Knots = min(cmp.Or(p.Knots, 8), pairs)
	p.Attention = cmp.Or(p.Attention, "search")
	p.Population = max(cmp.Or(p.Population, 8), 2)
}

// two draws the places of two parents in a population of n that is sorted, the better first; twice
// 0 where n is 1.
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

// seeds returns the rungs of the methods that every study begins with, whose origin is the method's
// name, and the further starts.
func (sp *space) seeds() []Candidate {
	var c []Candidate
	for _, name := range ropescale.SeedNames(sp.algorithm, sp.rope, sp.target) {
		m, err := ropescale.MethodByName(name)
		var g ropescale.Rung
		if err == nil {
			g, err = m.Rung(sp.rope, sp.target, ropescale.MethodOptions{})
		}
		if err != nil {
			panic("ropescale: " + err.Error()) // newSpace checked all that a method checks
		}
		c = append(c, Candidate{Rung: g, Origin: name})
	}
	return append(c, sp.starts...)
}

// rung is a candidate's rung in this space.
func (sp *space) rung(factors []float64, window int, attention float64) ropescale.Rung {
	return ropescale.Rung{
		Length: sp.target, StartWindow: window, AttentionFactor: attention,
		Factors: factors,
	}
}

// settings are the algorithms' own numbers. The zero value is the published ones: LongRoPE's (arXiv
// 2402.13753, section 3.3 and appendix A.1), which are those of the released algorithms too, and
// Hansen's for cma.
type settings struct {
	maxScale        float64 // bounds every lambda by maxScale*s; 0: see Options.maxScale
	attentionFactor float64 // the fixed one; 0: LongRoPEAttentionFactor's
	sigma           float64 // cma's first step size, in variables; 0: 0.2

	step                  float64 // the grid of lambda; 0: 0.01
	mutationProbability   float64 // of each gene; 0: 0.3
	mutations, crossovers int     // new candidates per generation; 0: 16 of each
	parents               int     // how many of the best survive a generation; 0: 32
	iterations            int     // generations after the first; 0: 40, or what the budget allows
}

func (s *settings) check() error {
	for _, v := range []float64{
		s.maxScale, s.attentionFactor, s.sigma, s.step,
		s.mutationProbability,
	} {
		if v != 0 && !ropescale.Usable(v) {
			return fmt.Errorf("a setting is %g, want a positive finite number or 0 (the default)",
				v)
		}
	}
	if s.mutationProbability > 1 || s.step != 0 && s.step < 1e-6 {
		return errors.New("want a probability of at most 1 and a step of at least 1e-6")
	}
	return nil
}

// paperTrials is what the paper's settings evaluate: three seeds, 64 candidates, 40 generations of
// 32.
const paperTrials = 3 + 64 + 40*(16+16)

// CMAGenerations is what the default budget of cma is made for, in addition to the starts and four
// scores of the mean on all readings, on the way and at the end.
const CMAGenerations = 18

// evolutionDefaults fills in the paper's sizes. Under a budget of B evaluations the sizes left at 0
// shrink by sqrt(B/1347), so that the number of generations shrinks likewise, and what remains of B
// after the first generation sets iterations. It returns how many evaluations these settings take.
func (s *settings) evolutionDefaults(p *Params, budget int) int {
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
	size(&s.mutations, 16, 2)
	size(&s.crossovers, 16, 2)
	if s.parents == 0 {
		s.parents = min(max(4, int(math.Round(f*32))), p.Population)
	}
	first, each := len(ropescale.MethodNames(ropescale.Seed))+p.Population, s.mutations+s.crossovers
	if s.iterations == 0 {
		s.iterations = 40
		if budget > 0 {
			s.iterations = (max(0, budget-first) + each - 1) / each
		}
	}
	s.step = cmp.Or(s.step, 0.01)
	s.mutationProbability = cmp.Or(s.mutationProbability, 0.3)
	p.Attention = cmp.Or(p.Attention, "fixed")
	p.Knots, p.Retries = 0, 0
	return first + s.iterations*each
}
