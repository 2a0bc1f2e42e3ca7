package ropescale

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// LadderVersion is the version of the ladder's meaning and of factors.json that this package reads
// and writes.
const LadderVersion = 1

// Rung is one set of RoPE factors and the lengths it serves.
type Rung struct {
	// Length is the longest sequence, in tokens, that this rung serves.
	Length int `json:"length"`
	// StartWindow is n-hat: positions below it keep row 0 (the model's own RoPE).
	StartWindow int `json:"start_window"`
	// AttentionFactor multiplies cos and sin of query and key, so attention logits by its square.
	AttentionFactor float64 `json:"attention_factor"`
	// Factors are lambda_0 … lambda_{d/2-1}, absolute: theta_i is divided by Factors[i].
	Factors []float64 `json:"factors"`
	// Extra holds the fields of factors.json that this version does not know, so that writing keeps
	// them.
	Extra map[string]json.RawMessage `json:"-"`
}

// Ladder is a model's rungs, ascending by Length. Base is row 0: the model's own RoPE as it was
// trained.
type Ladder struct {
	Version               int `json:"version"`
	OriginalContextLength int `json:"original_context_length"`
	RopeDimensionCount    int `json:"rope_dimension_count"`
	// nil: identity (all ones, attention factor 1)
	Base  *Rung  `json:"base,omitempty"`
	Rungs []Rung `json:"rungs"`
	// Source says where the factors came from; nil when nobody said.
	Source *Source `json:"source,omitempty"`
	// Extra holds the top-level fields of factors.json that this version does not know.
	Extra map[string]json.RawMessage `json:"-"`
}

// Source is the provenance of a ladder.
type Source struct {
	ModelDigest string   `json:"model_digest,omitempty"` // of the model, sha256:…
	Method      string   `json:"method,omitempty"`       // linear, ntk, dynamic, yarn, longrope
	Algorithm   string   `json:"algorithm,omitempty"`    // of the search, see Options
	Seed        uint64   `json:"seed,omitempty"`
	Texts       []string `json:"texts,omitempty"`
	Measure     string   `json:"measure,omitempty"` // what fitness is, e.g. "perplexity"
	Fitness     float64  `json:"fitness,omitempty"`
	Trials      int      `json:"trials,omitempty"`
	Tokens      int      `json:"tokens,omitempty"` // evaluated by all trials
	// Extra holds the fields of source that this version does not know.
	Extra map[string]json.RawMessage `json:"-"`
}

// NewLadder makes a ladder for r from rungs in ascending order of length. base nil means that the
// model was trained with plain RoPE. The error is Validate's.
func NewLadder(r Rope, base *Rung, rungs ...Rung) (*Ladder, error) {
	l := &Ladder{
		Version:               LadderVersion,
		OriginalContextLength: r.OriginalContextLength,
		RopeDimensionCount:    r.Dims,
		Base:                  base,
		Rungs:                 rungs,
	}
	return l, l.Validate()
}

// Validate reports the first thing that makes the ladder unusable, naming the rung (counted from 1,
// as rows are) and the field. Factors need not be monotone: the authors' ft_mis_128k is not. A
// ladder without rungs is valid and is the model's own RoPE at every length.
func (l *Ladder) Validate() error {
	if l.Version != LadderVersion {
		return fmt.Errorf("ladder: version is %d, this program reads version %d", l.Version,
			LadderVersion)
	}
	r := Rope{
		Dims: l.RopeDimensionCount, FreqBase: 10000,
		OriginalContextLength: l.OriginalContextLength,
	}
	if err := r.Validate(); err != nil {
		return fmt.Errorf("ladder: %w", err)
	}
	if len(l.Rungs) >= MaxRows {
		return fmt.Errorf("ladder: %d rungs, %d is the most", len(l.Rungs), MaxRows-1)
	}
	if b := l.Base; b != nil {
		if b.StartWindow != 0 {
			return fmt.Errorf("ladder: base: start_window is %d, row 0 has none", b.StartWindow)
		}
		if err := b.Check(r.Pairs()); err != nil {
			return fmt.Errorf("ladder: base: %w", err)
		}
	}
	for i, g := range l.Rungs {
		if err := g.Check(r.Pairs()); err != nil {
			return fmt.Errorf("ladder: rung %d: %w", i+1, err)
		}
		if g.Length < 1 || g.Length > MaxLength {
			return fmt.Errorf("ladder: rung %d: length is %d, want 1 to %d", i+1, g.Length,
				MaxLength)
		}
		if g.StartWindow < 0 || g.StartWindow >= g.Length {
			return fmt.Errorf("ladder: rung %d: start_window is %d, want 0 to below the length %d",
				i+1, g.StartWindow, g.Length)
		}
		if i > 0 && g.Length <= l.Rungs[i-1].Length {
			return fmt.Errorf("ladder: rung %d: length %d does not exceed rung %d's %d; order "+
				"the rungs by length",
				i+1, g.Length, i, l.Rungs[i-1].Length)
		}
	}
	return nil
}

// Check finds what neither row 0 nor a rung can have, for a model of so many pairs.
func (g *Rung) Check(pairs int) error {
	if len(g.Factors) != pairs {
		return fmt.Errorf("%d factors, want %d (half of rope_dimension_count)", len(g.Factors),
			pairs)
	}
	for i, f := range g.Factors {
		if !Usable(f) {
			return fmt.Errorf("factor %d is %g, want %g to %g", i, f, minFactor, maxFactor)
		}
	}
	if a := g.AttentionFactor; !within(a, minAttention, maxAttention) {
		return fmt.Errorf("attention_factor is %g, want %g to %g", a, minAttention, maxAttention)
	}
	return nil
}

// MaxRows is how many rows a ladder can have, row 0 among them: far above every real one. The
// host's readers have the same bounds (llama-longrope.cpp).
const MaxRows = 256

// Bounds of factors and attention factors. The engine computes in float32, up to 3.4e38: a position
// over a smaller factor, or a logit times the square of a larger attention factor, can be infinite,
// and what comes of it no number.
const (
	minFactor, maxFactor       = 1e-20, 1e20
	minAttention, maxAttention = 1e-9, 1e9
)

// Usable says whether the engine can compute with f as a factor. The bounds are compared as the
// engine has them: a factor that was written can be read.
func Usable(f float64) bool { return within(f, minFactor, maxFactor) }

func within(f float64, least, most float32) bool {
	return float32(f) >= least && float32(f) <= most
}

// RungFor returns the row index of the rung for a sequence of n tokens: 0 is the model's own RoPE,
// r is Rungs[r-1]. It is the smallest rung with Length >= n; but up to the original context length
// the model's own RoPE serves, unless a rung of at most that length does (a short_factor). Longer
// than the last rung gets the last.
func (l *Ladder) RungFor(n int) int {
	for i, g := range l.Rungs {
		if g.Length >= n {
			if n <= l.OriginalContextLength && g.Length > l.OriginalContextLength {
				return 0
			}
			return i + 1
		}
	}
	if n <= l.OriginalContextLength {
		return 0
	}
	return len(l.Rungs)
}

// Serves returns the lengths of the sequences that RungFor puts on a row, in tokens: first > last
// if there are none. Sequences longer than the last rung are on it, too.
func (l *Ladder) Serves(row int) (first, last int) {
	ends := []int{0, l.OriginalContextLength}
	for _, g := range l.Rungs {
		ends = append(ends, g.Length)
	}
	slices.Sort(ends)
	first = 1
	for i := 1; i < len(ends); i++ { // between two ends all lengths are on one row
		if ends[i] == ends[i-1] || l.RungFor(ends[i]) != row {
			continue
		}
		if last == 0 {
			first = ends[i-1] + 1
		}
		last = ends[i]
	}
	return first, last
}

// Row returns the row for the token at position pos of a sequence on the given rung: 0 below the
// rung's start window, the rung from there on. It panics when rung is not 0 to len(Rungs).
func (l *Ladder) Row(rung, pos int) int {
	if rung == 0 || pos < l.Rungs[rung-1].StartWindow {
		return 0
	}
	return rung
}

// At returns the factors of a row: the model's own RoPE for 0, Rungs[row-1] otherwise. It panics
// when row is not 0 to len(Rungs).
func (l *Ladder) At(row int) Rung {
	switch {
	case row > 0:
		return l.Rungs[row-1]
	case l.Base != nil:
		return *l.Base
	}
	return Rope{Dims: l.RopeDimensionCount}.Identity(l.OriginalContextLength)
}

// Rows returns what the engine gets: a matrix with one row per rung and row 0 first, each of d/2
// factors and then the attention factor, and the rungs' start windows in tokens (0 for row 0).
func (l *Ladder) Rows() (rows [][]float32, startWindows []int32) {
	rows = make([][]float32, len(l.Rungs)+1)
	startWindows = make([]int32, len(rows))
	for i := range rows {
		g := l.At(i)
		row := make([]float32, 0, len(g.Factors)+1)
		for _, f := range g.Factors {
			row = append(row, float32(f))
		}
		rows[i] = append(row, float32(g.AttentionFactor))
		startWindows[i] = int32(g.StartWindow)
	}
	return rows, startWindows
}

// Digest identifies what the ladder does, sha256:… of its JSON without provenance and unknown
// fields. Results carry it.
func (l *Ladder) Digest() string {
	bare := Ladder{
		Version: l.Version, OriginalContextLength: l.OriginalContextLength,
		RopeDimensionCount: l.RopeDimensionCount,
	}
	for i := range len(l.Rungs) + 1 {
		g := l.At(i)
		g.Extra = nil
		if i == 0 {
			g.Length = 0
			bare.Base = &g
			continue
		}
		bare.Rungs = append(bare.Rungs, g)
	}
	b, err := json.Marshal(bare)
	if err != nil { // only for a ladder that Validate refuses: NaN or Inf
		b = fmt.Append(nil, bare)
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Over returns rung g as it acts on a model whose own RoPE is base: factors and attention factors
// multiply. Methods scale the angles that the model was trained with, so a model with scaling of
// its own (Llama 3 rope_freqs, linear, YaRN) gets Over(base), which is absolute. base nil returns
// g.
func (g Rung) Over(base *Rung) Rung {
	if base == nil {
		return g
	}
	f := make([]float64, len(g.Factors))
	for i := range f {
		f[i] = g.Factors[i] * base.Factors[i]
	}
	g.Factors = f
	g.AttentionFactor *= base.AttentionFactor
	return g
}

// Relative is the inverse of Over: rung g, which is absolute, as it acts on top of base. base nil
// returns g.
func (g Rung) Relative(base *Rung) Rung {
	if base == nil {
		return g
	}
	f := make([]float64, len(g.Factors))
	for i := range f {
		f[i] = g.Factors[i] / base.Factors[i]
	}
	g.Factors = f
	g.AttentionFactor /= base.AttentionFactor
	return g
}

// Key identifies what a rung does, to the last bit: two rungs with one key give every token one
// rotation. It is not text.
func (g Rung) Key() string {
	b := binary.LittleEndian.AppendUint64(nil, uint64(g.Length))
	b = binary.LittleEndian.AppendUint64(b, uint64(g.StartWindow))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(g.AttentionFactor))
	for _, f := range g.Factors {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
	}
	return string(b)
}
