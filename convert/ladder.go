package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/longrope/longrope/ropescale"
)

// KeyVersion is the version of the ladder's keys that is read and written. A patched host refuses any other.
const KeyVersion = 1

func ladderKey(arch, name string) string { return arch + ".rope.longrope." + name }

// readLadder reads the ladder that a file carries, nil when there is none, and its provenance.
// Row 0 alone is no ladder: it is the model's own RoPE, where a host's keys cannot say it (readRow0).
func readLadder(f *File, arch string) (*ropescale.Ladder, error) {
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
	key := func(name string) string { return ladderKey(arch, name) }
	version, ok, err := f.Int(key("version"))
	if err != nil || !ok {
		return nil, err
	}
	if version != KeyVersion {
		kv, _ := f.Lookup(key("version"))
		return nil, f.bad(kv, ErrValue, "version %d, this program reads version %d; a newer one may know it", version, KeyVersion)
	}
	fail := func(name, format string, args ...any) (*ropescale.Ladder, error) {
		return nil, fmt.Errorf("%s: %s: %s; convert the original model again", f.Path, key(name), fmt.Sprintf(format, args...))
	}
	lengths, ok, err := f.Ints(key("lengths"))
	if err == nil && (!ok || len(lengths) < 1) {
		return fail("lengths", "missing or empty")
	}
	if err != nil {
		return nil, err
	}
	rows := len(lengths)
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
	l := &ropescale.Ladder{Version: ropescale.LadderVersion, OriginalContextLength: lengths[0], RopeDimensionCount: 2 * pairs}
	for r := range rows {
		g := ropescale.Rung{Length: lengths[r], StartWindow: windows[r], AttentionFactor: attention[r], Factors: factors[r*pairs : (r+1)*pairs : (r+1)*pairs]}
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

// putLadder writes l, whose Base is set, as metadata.
func (e *edit) putLadder(arch string, l *ropescale.Ladder) error {
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
	key := func(name string) string { return ladderKey(arch, name) }
	e.set(key("version"), uint32(KeyVersion))
	e.set(key("lengths"), lengths)
	e.set(key("start_windows"), windows)
	e.set(key("attention_factors"), attention)
	e.set(key("factors"), factors)
	if l.Source != nil {
		b, err := json.Marshal(l.Source)
		if err != nil {
			return fmt.Errorf("ladder: source: %w", err)
		}
		e.set(key("source"), string(b))
	}
	return nil
}

// fit makes the ladder that goes into the file: l on top of the model's own RoPE. Everything that can be wrong
// between a ladder and a model is found here, before a byte is written.
func (o *own) fit(path string, l *ropescale.Ladder) (*ropescale.Ladder, []string, error) {
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
	case l.RopeDimensionCount != o.rope.Dims:
		return nil, nil, fmt.Errorf("%s: the model rotates %d dimensions, so a rung has %d factors; these are %d factors for rope_dimension_count %d",
			path, o.rope.Dims, o.rope.Pairs(), l.RopeDimensionCount/2, l.RopeDimensionCount)
	case L > o.context:
		return nil, nil, fmt.Errorf("%s: the model's context length is %d; the factors are for a model with original_context_length %d", path, o.context, L)
	case last.Length <= L:
		return nil, nil, fmt.Errorf("%s: the longest rung, %d tokens, is not longer than original_context_length %d", path, last.Length, L)
	case last.Length < o.context || last.Length == o.context && o.long == nil:
		return nil, nil, fmt.Errorf("%s: the model's context length is %d already; the longest rung is for %d tokens and extends nothing", path, o.context, last.Length)
	case last.Length > math.MaxInt32/2:
		return nil, nil, fmt.Errorf("%s: a rung for %d tokens is more than any host can address", path, last.Length)
	}
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if L != o.rope.OriginalContextLength {
		note("the factors take %d tokens for what the model was trained for; its file says %d", L, o.rope.OriginalContextLength)
	}
	if b := l.Base; b != nil {
		if err := o.sameBase(b); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	m := *l
	base := o.base
	base.Length = L
	m.Base = &base
	if g := o.long; g != nil && g.Length > L && l.Rungs[0].Length > g.Length {
		// What a model was trained with for longer texts serves them better than anything found for still longer ones.
		m.Rungs = append([]ropescale.Rung{*g}, l.Rungs...)
		note("the model's own long factors stay, as the rung for %d tokens", g.Length)
	}
	if err := m.Validate(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return &m, notes, nil
}

// sameBase compares the row 0 that a ladder was made with to the model's, to what float32 and a few printed digits
// leave of it.
func (o *own) sameBase(b *ropescale.Rung) error {
	const tolerance = 1e-3
	differ := func(x, y float64) bool { return math.Abs(x-y) > tolerance*math.Abs(y) }
	if differ(b.AttentionFactor, o.base.AttentionFactor) {
		return fmt.Errorf("the factors were made for a model whose own RoPE has attention factor %g; this one's is %g", b.AttentionFactor, o.base.AttentionFactor)
	}
	for i, x := range o.base.Factors {
		if differ(b.Factors[i], x) {
			return fmt.Errorf("the factors were made for a model whose own RoPE has factor %g for pair %d; this one's is %g", b.Factors[i], i, x)
		}
	}
	return nil
}

// keepsOriginal says that the file's original context length must stay, because the host uses it for something else
// than to choose long factors: for the ramp of YaRN, where that was not replaced by a stock rung, or for the
// temperature of attention that grows with the position, which mistral3 has on the host's Go engine as soon as the key is
// there. A patched host takes L from the ladder's lengths.
func keepsOriginal(f *File, o *own, stock bool, key string) bool {
	if o.arch == "mistral3" {
		return true
	}
	_, there := f.Lookup(key)
	_, temperature := f.Lookup(o.arch + ".attention.temperature_scale")
	replaced := stock && stockForms[o.arch] != StockNothing
	return temperature || there && !replaced && o.scaling != "longrope"
}
