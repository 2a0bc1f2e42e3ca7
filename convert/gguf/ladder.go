package gguf

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/longrope/longrope/ropescale"
)

// keyVersion is the version of the ladder's keys that is read and written. A patched host refuses
// any other.
const keyVersion = 1

func LadderKey(arch, name string) string { return arch + ".rope.longrope." + name }

// ReadLadder reads the ladder that a file carries, nil when there is none, and its provenance. Row
// 0 alone is no ladder: it is the model's own RoPE, where a host's keys cannot say it (readRow0).
func ReadLadder(f *File, arch string) (*ropescale.Ladder, error) {
	l, err := readRows(f, arch)
	if err != nil || l == nil || len(l.Rungs) == 0 {
		return nil, err
	}
	return l, nil
}

// readRow0 reads the model's own RoPE of a file whose rows are no more than that, and the name of
// its scaling; nil when the file has rungs or no rows.
func readRow0(f *File, arch string) (*ropescale.Rung, string, error) {
	l, err := readRows(f, arch)
	if err != nil || l == nil || len(l.Rungs) > 0 {
		return nil, "", err
	}
	scaling := "rope_freqs" // factors of which nothing else is known
	if l.Source != nil && l.Source.Method != "" {
		scaling = l.Source.Method
	}
	return l.Base, scaling, nil
}

// readRows reads the rows of a file, row 0 as the ladder's Base; nil when there are none.
func readRows(f *File, arch string) (*ropescale.Ladder, error) {
	key := func(name string) string { return LadderKey(arch, name) }
	version, ok, err := f.Int(key("version"))
	if err != nil || !ok {
		return nil, err
	}
	if version != keyVersion {
		kv, _ := f.Lookup(key("version"))
		return nil, f.bad(kv, ErrValue,
			"version %d, this program reads version %d; a newer one may know "+
				"it", version, keyVersion)
	}
	fail := func(name, format string, args ...any) (*ropescale.Ladder, error) {
		return nil, fmt.Errorf("%s: %s: %s; convert the original model again", f.Path, key(name),
			fmt.Sprintf(format, args...))
	}
	lengths, ok, err := f.Ints(key("lengths"))
	if err == nil && (!ok || len(lengths) < 1) {
		return fail("lengths", "missing or empty")
	}
	if err != nil {
		return nil, err
	}
	rows := len(lengths)
	if rows > ropescale.MaxRows {
		return fail("lengths", "%d elements, %d is the most", rows, ropescale.MaxRows)
	}
	windows, ok, err := f.Ints(key("start_windows"))
	if err != nil {
		return nil, err
	}
	if !ok || len(windows) != rows {
		return fail("start_windows", "%d elements, %d rows", len(windows), rows)
	}
	attention, ok, err := f.Floats(key("attention_factors"))
	if err != nil {
		return nil, err
	}
	if !ok || len(attention) != rows {
		return fail("attention_factors", "%d elements, %d rows", len(attention), rows)
	}
	factors, ok, err := f.Floats(key("factors"))
	if err != nil {
		return nil, err
	}
	if !ok || len(factors) == 0 || len(factors)%rows != 0 {
		return fail("factors", "%d elements do not make %d rows", len(factors), rows)
	}
	pairs := len(factors) / rows
	l := &ropescale.Ladder{
		Version: ropescale.LadderVersion, OriginalContextLength: lengths[0],
		RopeDimensionCount: 2 * pairs,
	}
	for r := range rows {
		g := ropescale.Rung{
			Length: lengths[r], StartWindow: windows[r],
			AttentionFactor: attention[r], Factors: factors[r*pairs : (r+1)*pairs : (r+1)*pairs],
		}
		if r == 0 {
			l.Base = &g
		} else {
			l.Rungs = append(l.Rungs, g)
		}
	}
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %s*: %w", f.Path, key(""), err)
	}
	source, ok, err := f.String(key("source"))
	if err != nil {
		return nil, err
	}
	if ok {
		// Provenance that cannot be read is no reason to refuse a model that runs.
		if json.Unmarshal([]byte(source), &l.Source) != nil {
			l.Source = nil
		}
	}
	return l, nil
}

// PutLadder writes l, whose Base is set, as metadata.
func (e *Edit) PutLadder(arch string, l *ropescale.Ladder) error {
	var lengths, windows []uint32
	var attention, factors []float32
	for r := range len(l.Rungs) + 1 {
		g := l.At(r)
		if r == 0 {
			g.Length = l.OriginalContextLength
		}
		lengths = append(lengths, uint32(g.Length))
		windows = append(windows, uint32(g.StartWindow))
		attention = append(attention, float32(g.AttentionFactor))
		for _, x := range g.Factors {
			factors = append(factors, float32(x))
		}
	}
	key := func(name string) string { return LadderKey(arch, name) }
	e.Set(key("version"), uint32(keyVersion))
	e.Set(key("lengths"), lengths)
	e.Set(key("start_windows"), windows)
	e.Set(key("attention_factors"), attention)
	e.Set(key("factors"), factors)
	if l.Source != nil {
		b, err := json.Marshal(l.Source)
		if err != nil {
			return fmt.Errorf("ladder: source: %w", err)
		}
		e.Set(key("source"), string(b))
	} else {
		e.Remove(key("source")) // of rows that these replace
	}
	return nil
}

// Fit makes the ladder that goes into the file: l on top of the model's own RoPE. Everything that
// can be wrong between a ladder and a model is found here, before a byte is written.
func (o *Own) Fit(path string, l *ropescale.Ladder) (*ropescale.Ladder, []string, error) {
	if l == nil {
		return nil, nil, errors.New("convert: no ladder")
	}
	if err := l.Validate(); err != nil {
		return nil, nil, err
	}
	if len(l.Rungs) == 0 {
		return nil, nil, errors.New("ladder: no rungs; nothing to put into the model")
	}
	L, last := l.OriginalContextLength, l.Rungs[len(l.Rungs)-1]
	switch {
	case l.RopeDimensionCount != o.Rope.Dims:
		return nil, nil, fmt.Errorf("%s: the model rotates %d dimensions, so a rung has %d "+
			"factors; these are %d factors for rope_dimension_count %d",
			path, o.Rope.Dims, o.Rope.Pairs(), l.RopeDimensionCount/2, l.RopeDimensionCount)
	case L > o.Context:
		return nil, nil, fmt.Errorf("%s: the model's context length is %d; the factors are for a "+
			"model with original_context_length %d", path, o.Context, L)
	case last.Length <= L:
		return nil, nil, fmt.Errorf("%s: the longest rung, %d tokens, is not longer than "+
			"original_context_length %d", path, last.Length, L)
	case last.Length < o.Context || last.Length == o.Context && o.Long == nil:
		return nil, nil, fmt.Errorf("%s: the model's context length is %d already; the longest "+
			"rung is for %d tokens and extends nothing", path, o.Context, last.Length)
	case last.Length > math.MaxInt32/2:
		return nil, nil, fmt.Errorf("%s: a rung for %d tokens is more than any host can address",
			path, last.Length)
	}
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if L != o.Rope.OriginalContextLength {
		note("the factors take %d tokens for what the model was trained for; its file says %d", L,
			o.Rope.OriginalContextLength)
	}
	if b := l.Base; b != nil {
		if err := o.sameBase(b); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	m := *l
	base := o.Base
	base.Length = L
	m.Base = &base
	if g := o.Long; g != nil && g.Length > L && l.Rungs[0].Length > g.Length {
		// The factors that a model was trained with for longer texts serve them better than any
		// that were found for still longer ones.
		m.Rungs = append([]ropescale.Rung{*g}, l.Rungs...)
		note("the model's own long factors stay, as the rung for %d tokens", g.Length)
	}
	if err := m.Validate(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return &m, notes, nil
}

// sameBase compares the row 0 that a ladder was made with to the model's, to what float32 and a few
// printed digits leave of it.
func (o *Own) sameBase(b *ropescale.Rung) error {
	const tolerance = 1e-3
	differ := func(x, y float64) bool { return math.Abs(x-y) > tolerance*math.Abs(y) }
	if differ(b.AttentionFactor, o.Base.AttentionFactor) {
		return fmt.Errorf("the factors were made for a model whose own RoPE has attention factor "+
			"%g; this one's is %g", b.AttentionFactor, o.Base.AttentionFactor)
	}
	for i, x := range o.Base.Factors {
		if differ(b.Factors[i], x) {
			return fmt.Errorf("the factors were made for a model whose own RoPE has factor %g for "+
				"pair %d; this one's is %g", b.Factors[i], i, x)
		}
	}
	return nil
}

// KeepsOriginal says that the file's original context length must stay, because the host uses it
// for something else than to choose long factors: for the ramp of YaRN, where that was not replaced
// by a stock rung, or for the temperature of attention that grows with the position, which mistral3
// has on the host's Go engine as soon as the key is there. A patched host takes L from the ladder's
// lengths.
func KeepsOriginal(f *File, o *Own, stock bool, key string) bool {
	if o.Arch == "mistral3" {
		return true
	}
	_, there := f.Lookup(key)
	_, temperature := f.Lookup(o.Arch + ".attention.temperature_scale")
	replaced := stock && stockForms[o.Arch] != StockNothing
	return temperature || there && !replaced && o.Scaling != "longrope"
}
