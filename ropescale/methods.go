package ropescale

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Method computes the rung that takes a model to a longer context. The table below is the only
// list of them: what names, labels, orders or offers methods reads it.
type Method struct {
	// Name is the method's name in flags, files and results.
	Name string
	// Label is its name in tables and pictures.
	Label string
	// Rung computes the rung that takes a model with RoPE r to target tokens. Its factors act on
	// the frequencies that the model was trained with; use Rung.Over for a model with scaling of
	// its own. The error names the argument that does not fit.
	Rung func(r Rope, target int, o MethodOptions) (Rung, error)
	// Laws are those that its rungs obey with the zero MethodOptions.
	Laws Laws
	// Use says what it is for.
	Use Uses
}

// Laws of a method's rungs; a test holds each method to its own.
type Laws uint

const (
	// Monotone factors never fall from one pair to the next, slower one.
	Monotone Laws = 1 << iota
	// IdentityToL is the identity up to L tokens (s <= 1), and tends to it as s tends to 1.
	IdentityToL
	// EndsAtScale has factors from 1 to s, and s at the slowest pair.
	EndsAtScale
)

// Uses of a method.
type Uses uint

const (
	// ClosedForm needs nothing but the RoPE and the target: a model can be converted with it.
	ClosedForm Uses = 1 << iota
	// Seed is evaluated first by every study.
	Seed
	// Start is evaluated first by cma, too: the search may begin at it.
	Start
	// EachLength has other factors for each length: a ladder has a rung for each doubling.
	EachLength
)

// Has says whether all of uses are among u.
func (u Uses) Has(uses Uses) bool { return u&uses == uses }

// methods have Hugging Face's names (modeling_rope_utils.py, ROPE_INIT_FUNCTIONS) where they have
// one. Their order is that of tables and legends, and that in which a study evaluates its seeds.
var methods = []Method{
	{"linear", "PI", linear, Monotone | IdentityToL | EndsAtScale, ClosedForm | Seed},
	{"ntk", "NTK", NTK, Monotone | IdentityToL | EndsAtScale, ClosedForm | Seed},
	{
		"dynamic", "dynamic NTK", dynamicNTK, Monotone | IdentityToL | EndsAtScale,
		ClosedForm | EachLength,
	},
	{"yarn", "YaRN", YaRN, Monotone | IdentityToL | EndsAtScale, ClosedForm | Seed},
	{
		"mrrope-uni", "MrRoPE-Uni", mrRoPEUni, Monotone | IdentityToL | EndsAtScale, ClosedForm,
	},
	{
		"mrrope-pro", "MrRoPE-Pro", mrRoPEPro, Monotone | IdentityToL | EndsAtScale,
		ClosedForm | Start,
	},
	{
		"tailspline", "TailSpline", tailSpline, Monotone | IdentityToL | EndsAtScale,
		ClosedForm | Start,
	},
	{"longrope", "searched", LongRoPE, 0, 0},
	{"own", "own RoPE", ownRope, Monotone | IdentityToL, 0},
}

// Methods returns all methods, in order.
func Methods() []Method { return slices.Clone(methods) }

// MethodNames lists the names of the methods that have all of uses, in order; 0 lists all.
func MethodNames(uses Uses) (names []string) {
	for _, m := range methods {
		if m.Use.Has(uses) {
			names = append(names, m.Name)
		}
	}
	return names
}

// SeedNames are the names of the methods that a study for target tokens evaluates first, with an
// algorithm as Options.Algorithm names it. Up to L these are all the own RoPE, which is then the
// only one.
func SeedNames(algorithm string, r Rope, target int) (names []string) {
	if target <= r.OriginalContextLength {
		return []string{ownMethod}
	}
	for _, m := range methods {
		if m.Use.Has(Seed) || m.Use.Has(Start) && (algorithm == "cma" || algorithm == "") {
			names = append(names, m.Name)
		}
	}
	return names
}

// ownMethod is the name of the method that changes nothing.
const ownMethod = "own"

// MethodByName returns the method of that name; the error lists the names there are.
func MethodByName(name string) (Method, error) {
	i := slices.IndexFunc(methods, func(m Method) bool { return m.Name == name })
	if i < 0 {
		known := strings.Join(MethodNames(0), ", ")
		return Method{}, fmt.Errorf("unknown method %q; known: %s", name, known)
	}
	return methods[i], nil
}

// MethodLabel is a method's name in tables and pictures; a name that is no method's is its own
// label.
func MethodLabel(name string) string {
	if m, err := MethodByName(name); err == nil {
		return m.Label
	}
	return name
}

// MethodOptions are the parameters of the methods; the zero value is each method's published
// default.
type MethodOptions struct {
	// AttentionFactor replaces the method's own; 0 keeps it.
	AttentionFactor float64
	// Factors are LongRoPE's rescale factors, d/2 of them. The other methods ignore them.
	Factors []float64
	// StartWindow is n-hat in tokens, below the target.
	StartWindow int
	// BetaFast and BetaSlow are YaRN's ramp in rotations within L: pairs that turn more than
	// BetaFast times are kept, those that turn less than BetaSlow times are interpolated. 0 means
	// 32 and 1.
	BetaFast, BetaSlow float64
	// Scale is s in place of target/L, which has it to a whole number of tokens; 0 keeps that. Of
	// YaRN alone.
	Scale float64
	// ExactRamp leaves the ends of YaRN's ramp where the formula puts them, instead of rounding
	// them outwards to whole pairs as the reference code does (Hugging Face truncate=false).
	ExactRamp bool
}

// begin checks the arguments that all methods share and returns the identity rung for target, and
// s.
func begin(r Rope, target int, o MethodOptions) (g Rung, s float64, err error) {
	if err := r.Validate(); err != nil {
		return Rung{}, 0, err
	}
	if target < 1 || target > MaxLength {
		return Rung{}, 0, fmt.Errorf("target length is %d, want 1 to %d", target, MaxLength)
	}
	if o.StartWindow < 0 || o.StartWindow >= target {
		return Rung{}, 0, fmt.Errorf("start window is %d, want 0 to below the target length %d",
			o.StartWindow, target)
	}
	if o.AttentionFactor != 0 && !Usable(o.AttentionFactor) {
		return Rung{}, 0, fmt.Errorf("attention factor is %g, want a positive finite number",
			o.AttentionFactor)
	}
	g = r.Identity(target)
	g.StartWindow = o.StartWindow
	if o.AttentionFactor != 0 {
		g.AttentionFactor = o.AttentionFactor
	}
	return g, r.Scale(target), nil
}

// linear is position interpolation (PI, arXiv 2306.15595, eq. 4): lambda_i = s, attention factor 1.
// (eq. 4)
func linear(r Rope, target int, o MethodOptions) (Rung, error) {
	g, s, err := begin(r, target, o)
	if err != nil || s <= 1 {
		return g, err
	}
	for i := range g.Factors {
		g.Factors[i] = s
	}
	return g, nil
}

// NTK is NTK-aware interpolation (YaRN, arXiv 2309.00071, section 3.1): the base becomes
// b*s^(d/(d-2)), so pair 0 keeps its frequency, the last pair is interpolated by exactly s, and
// lambda_i = s^(2i/(d-2)) between. Attention factor 1. It needs two pairs at least. (eq. 5)
func NTK(r Rope, target int, o MethodOptions) (Rung, error) {
	g, s, err := begin(r, target, o)
	if err != nil || s <= 1 {
		return g, err
	}
	if r.Dims < 4 {
		return g, fmt.Errorf("ntk: rope_dimension_count is %d, want at least 4", r.Dims)
	}
	for i := range g.Factors {
		g.Factors[i] = math.Pow(s, 2*float64(i)/float64(r.Dims-2))
	}
	return g, nil
}

// dynamicNTK is NTK whose base follows the length, so it gives another rung for every target
// (transformers, "dynamic"). The rung at n tokens is NTK's for n. Attention factor 1. (eq. 6)
func dynamicNTK(r Rope, target int, o MethodOptions) (Rung, error) { return NTK(r, target, o) }

// YaRN interpolates by parts (arXiv 2309.00071, section 3.2): omega_i/lambda_i = omega_i*(gamma_i +
// (1-gamma_i)/s), gamma_i falling from 1 to 0 over the pairs that turn between BetaFast and
// BetaSlow times in L tokens; attention factor YaRNAttentionFactor (section 3.3). The ramp is the
// reference code's, linear in the pair's index. (eq. 7, 8)
func YaRN(r Rope, target int, o MethodOptions) (Rung, error) {
	g, s, err := begin(r, target, o)
	if o.Scale != 0 {
		s = o.Scale
	}
	if err != nil || s <= 1 {
		return g, err
	}
	fast, slow := orDefault(o.BetaFast, 32), orDefault(o.BetaSlow, 1)
	if !Usable(fast) || !Usable(slow) || fast < slow {
		return Rung{}, fmt.Errorf("yarn: beta_fast is %g and beta_slow is %g, want beta_fast >= "+
			"beta_slow > 0", fast, slow)
	}
	low, high := r.PairTurning(fast), r.PairTurning(slow)
	if !o.ExactRamp {
		low, high = math.Floor(low), math.Ceil(high)
	}
	// d-1 and not d/2-1: so in the reference code
	low, high = max(low, 0), min(high, float64(r.Dims-1))
	if low == high {
		high += 0.001 // a step instead of a division by zero, also theirs
	}
	for i := range g.Factors {
		gamma := 1 - min(max((float64(i)-low)/(high-low), 0), 1)
		g.Factors[i] = 1 / (gamma + (1-gamma)/s)
	}
	if o.AttentionFactor == 0 {
		g.AttentionFactor = YaRNAttentionFactor(s)
	}
	return g, nil
}

// PairTurning returns the fractional index of the pair that turns n times within L tokens:
// d*ln(L/(2*pi*n)) / (2*ln b). (eq. 8)
func (r Rope) PairTurning(n float64) float64 {
	turns := float64(r.OriginalContextLength) / (2 * math.Pi * n)
	return float64(r.Dims) * math.Log(turns) / (2 * math.Log(r.FreqBase))
}

// ownRope is the model's own RoPE at any length, with the options' start window and attention
// factor.
func ownRope(r Rope, target int, o MethodOptions) (Rung, error) {
	g, _, err := begin(r, target, o)
	return g, err
}

// LongRoPE takes factors that were found by search or published with a model (arXiv 2402.13753);
// they also count at or below L, where they are a short_factor. The attention factor is
// LongRoPEAttentionFactor's. (eq. 2, 9)
func LongRoPE(r Rope, target int, o MethodOptions) (Rung, error) {
	g, _, err := begin(r, target, o)
	if err != nil {
		return g, err
	}
	g.Factors = slices.Clone(o.Factors)
	if o.AttentionFactor == 0 {
		g.AttentionFactor = LongRoPEAttentionFactor(target, r.OriginalContextLength)
	}
	if err := g.Check(r.Pairs()); err != nil {
		return Rung{}, fmt.Errorf("longrope: %w", err)
	}
	return g, nil
}

// LongRoPEAttentionFactor is sqrt(1 + ln s/ln L) for s = length/L > 1, and 1 up to L: the authors'
// "su" scaling, and what Hugging Face takes for a longrope model without attention_factor. (eq. 9)
func LongRoPEAttentionFactor(length, originalContextLength int) float64 {
	if length <= originalContextLength {
		return 1
	}
	l := float64(originalContextLength)
	return math.Sqrt(1 + math.Log(float64(length)/l)/math.Log(l))
}

// YaRNAttentionFactor is 0.1*ln s + 1 for s > 1, and 1 otherwise (arXiv 2309.00071, section 3.3,
// where it is written sqrt(1/t)). (eq. 10)
func YaRNAttentionFactor(s float64) float64 {
	if s <= 1 {
		return 1
	}
	return 0.1*math.Log(s) + 1
}

func orDefault(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return v
}
