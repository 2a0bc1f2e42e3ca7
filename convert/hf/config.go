package hf

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
)

// configKeys are the keys of config.json that a conversion writes, in the order in which new ones
// are put behind max_position_embeddings. rope_theta and partial_rotary_factor are only brought to
// the top, for transformers 4, when version 5 has left them in rope_parameters alone.
var configKeys = []string{
	"max_position_embeddings", "original_max_position_embeddings", "head_dim", "rope_theta",
	"partial_rotary_factor", "rope_scaling", "rope_parameters",
}

// WithLadder gives the folder's texts with one rung of the ladder in config.json, and the whole in
// longrope.json.
//
// What reads which key (seen in transformers 4.48, 4.57 and 5.23; vLLM's
// Phi3LongRoPEScaledRotaryEmbedding): transformers 4 reads rope_scaling and, at the top, rope_theta
// and original_max_position_embeddings; its Phi-3 refuses a rope_scaling of any other keys than
// type, short_factor and long_factor. transformers 5 reads rope_scaling first when it is there,
// then rope_parameters. vLLM reads whichever transformers gives it, and short_mscale and
// long_mscale in place of attention_factor.
func (c *Checkpoint) WithLadder(m *ropescale.Ladder, row int) (*Written, error) {
	members, err := c.object(c.plain)
	if err != nil {
		return nil, err
	}
	e := &jsonEdit{d: c.plain, members: members, after: "max_position_embeddings"}
	values, err := c.values(e, m, row)
	if err != nil {
		return nil, err
	}
	old := &carried{Keys: make(map[string]*string), Inside: c.inside}
	for _, key := range configKeys {
		value, ok := values[key]
		if !ok {
			continue
		}
		old.Keys[key] = nil
		if m, there := find(members, key); there {
			raw := string(c.plain.raw(m))
			old.Keys[key] = &raw
		}
		e.set(key, value)
	}
	w := &Written{ladder: new(ropescale.Ladder)}
	if w.config, err = e.apply(); err != nil {
		return nil, err
	}
	*w.ladder = *m
	w.ladder.Extra = map[string]json.RawMessage{}
	maps.Copy(w.ladder.Extra, m.Extra)
	w.ladder.Extra[keyReplaced], err = json.Marshal(old)
	return w, err
}

// values are those of configKeys that are written.
func (c *Checkpoint) values(e *jsonEdit, m *ropescale.Ladder, row int) (map[string]string, error) {
	long, L := m.Rungs[row-1], m.OriginalContextLength
	if formula := ropescale.LongRoPEAttentionFactor(long.Length,
		L); closeTo([]float64{long.AttentionFactor}, []float64{formula}) {
		long.AttentionFactor = formula
	}
	values := map[string]string{
		"max_position_embeddings":          strconv.Itoa(long.Length),
		"original_max_position_embeddings": strconv.Itoa(L),
	}
	// Said at the top too, and not left to the model's class: the versions differ in what they take
	// there.
	for _, f := range []struct {
		key, value string
		wanted     bool
	}{
		{"rope_theta", number(c.Rope.Rope.FreqBase), true},
		{"head_dim", strconv.Itoa(c.Rope.headDim), c.Rope.headDim > 0},
		{"partial_rotary_factor", number(c.Rope.partial), c.Rope.partial != 1 &&
			c.Rope.headDim > 0},
	} {
		there, err := c.plain.decode(e.members, f.key, new(json.RawMessage))
		if err != nil {
			return nil, err
		}
		if f.wanted && !there {
			values[f.key] = f.value
		}
	}
	parameters, err := c.plain.sub(e.members, "rope_parameters")
	if err != nil {
		return nil, err
	}
	nested, err := c.plain.sub(parameters, "full_attention")
	if err != nil {
		return nil, err
	}
	body, factors := c.body(m, long), c.factors(m, long)
	indent, lines := e.indent()
	values["rope_scaling"] = object(c.scaling4(body, factors, m, long), indent, lines)

	all := slices.Concat([]field{{"rope_type", `"longrope"`}}, c.head(parameters, nested), body,
		factors)
	switch {
	case c.Rope.byLayerType && len(parameters) == 0:
		// Version 5 makes them of rope_scaling, for each type of layer; parameters for all layers
		// it does not take.
	case nested == nil:
		values["rope_parameters"] = object(all, indent, lines)
	default:
		var layers []field
		for _, layer := range parameters {
			raw := string(c.plain.raw(layer))
			if layer.key == "full_attention" {
				raw = object(all, indent+"  ", lines)
			}
			layers = append(layers, field{layer.key, raw})
		}
		values["rope_parameters"] = object(layers, indent, lines)
	}
	return values, nil
}

// head are the fields of rope_parameters that transformers 4 has at the top.
func (c *Checkpoint) head(parameters, nested []member) []field {
	var fields []field
	if c.Rope.headDim > 0 && (c.Rope.partial != 1 || hasKey(parameters, nested,
		"partial_rotary_factor")) {
		fields = append(fields, field{"partial_rotary_factor", number(c.Rope.partial)})
	}
	return append(fields, field{"rope_theta", number(c.Rope.Rope.FreqBase)})
}

// keepsScale says that the scale of the model's attention follows mscale_all_dim and factor, as
// DeepSeek's does.
func (r *Rope) keepsScale() bool { return r.mscaleAllDim != 0 && r.givenFactor != nil }

// body are the numbers of the rung, as both versions read them.
func (c *Checkpoint) body(m *ropescale.Ladder, long ropescale.Rung) []field {
	L := m.OriginalContextLength
	short := m.At(m.RungFor(L))
	var body []field
	factor := float64(long.Length) / float64(L)
	if c.Rope.keepsScale() {
		factor = *c.Rope.givenFactor // attention_factor, which is given, does not follow it
		body = append(body, field{"mscale_all_dim", number(c.Rope.mscaleAllDim)})
	}
	body = append(body, field{"factor", number(factor)},
		field{"original_max_position_embeddings", strconv.Itoa(L)},
		field{"attention_factor", number(long.AttentionFactor)})
	formula := ropescale.LongRoPEAttentionFactor(long.Length, L)
	published := short.AttentionFactor == formula && long.AttentionFactor == formula
	if !published && c.Arch != "Phi3ForCausalLM" || c.Rope.perLength {
		body = append(body, field{"short_mscale", number(short.AttentionFactor)},
			field{"long_mscale", number(long.AttentionFactor)})
	}
	return body
}

func (c *Checkpoint) factors(m *ropescale.Ladder, long ropescale.Rung) []field {
	short := m.At(m.RungFor(m.OriginalContextLength))
	return []field{{"short_factor", numbers(short.Factors)}, {"long_factor", numbers(long.Factors)}}
}

// scaling4 are the fields of rope_scaling. That of Phi-3 has three, or transformers 4 refuses it.
func (c *Checkpoint) scaling4(body, factors []field, m *ropescale.Ladder,
	long ropescale.Rung,
) []field {
	formula := ropescale.LongRoPEAttentionFactor(long.Length, m.OriginalContextLength)
	fields := []field{{"type", `"longrope"`}}
	if c.Arch == "Phi3ForCausalLM" && long.AttentionFactor == formula {
		return append(fields, factors...)
	}
	return slices.Concat(fields, []field{{"rope_type", `"longrope"`}}, body, factors)
}

type field struct{ key, value string }

// hasKey says that parameters, or those of one type of layer, have a key.
func hasKey(parameters, nested []member, key string) bool {
	_, a := find(parameters, key)
	_, b := find(nested, key)
	return a || b
}

// object writes fields as json.dump does with an indent of 2, but lists of numbers on one line.
func object(fields []field, indent string, lines bool) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, f := range fields {
		switch {
		case i > 0 && lines:
			b.WriteByte(',')
		case i > 0:
			b.WriteString(", ")
		}
		if lines {
			b.WriteString("\n" + indent + "  ")
		}
		b.WriteString(strconv.Quote(f.key) + ": " + f.value)
	}
	if lines {
		b.WriteString("\n" + indent)
	}
	b.WriteByte('}')
	return b.String()
}

// number writes a float such that Python reads a float: transformers 4 warns of integers.
func number(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func numbers(xs []float64) string {
	s := make([]string, len(xs))
	for i, x := range xs {
		s[i] = number(x)
	}
	return "[" + strings.Join(s, ", ") + "]"
}

// Lost says what the checkpoint cannot express of the ladder.
func (c *Checkpoint) Lost(m *ropescale.Ladder, row int) []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	g, below := m.Rungs[row-1], m.RungFor(m.OriginalContextLength)
	short := m.At(below)
	if g.StartWindow > 0 {
		note("transformers has no start window: the first %d tokens too get the factors of the "+
			"rung", g.StartWindow)
	}
	var others []string
	for i, r := range m.Rungs {
		if i+1 != row && i+1 != below {
			others = append(others, strconv.Itoa(r.Length))
		}
	}
	if len(others) > 0 {
		note("transformers has one set of factors beyond %d tokens, those for %d; the rungs for "+
			"%s tokens are in %s alone", m.OriginalContextLength, g.Length, strings.Join(others,
			", "), LadderFile)
	}
	if short.AttentionFactor != g.AttentionFactor && !c.Rope.perLength {
		note("transformers has one attention factor: texts of up to %d tokens get %.4g too, where "+
			"the ladder has %.4g",
			m.OriginalContextLength, g.AttentionFactor, short.AttentionFactor)
	}
	if formula := ropescale.LongRoPEAttentionFactor(g.Length,
		m.OriginalContextLength); c.Arch == "Phi3ForCausalLM" &&
		!closeTo([]float64{g.AttentionFactor}, []float64{formula}) {
		note("transformers 4 refuses an attention factor other than %.6g for this architecture; "+
			"version 5 reads it", formula)
	}
	switch c.Rope.model {
	case "olmo", "olmo2":
		note("transformers 4 (seen in 4.57) refuses longrope for this architecture; version 5 " +
			"reads it")
	case "nemotron":
		note("transformers 4 (seen in 4.57) reads no scaling for this architecture, and runs it " +
			"as it was trained; version 5 reads it")
	}
	if c.Rope.oneForAll {
		note("transformers has one rotation for all layers of this model: those with a sliding " +
			"window " +
			"get the factors too, where a ladder leaves them alone. eval --methods transformers, " +
			"which runs the GGUF, does not measure that")
	}
	note("an unpatched ollama create FROM this folder loses the factors; this one keeps them, " +
		"and so does ollama longrope convert")
	return notes
}

// Changes compares two states of config.json.
func (c *Checkpoint) Changes(w *Written) []gguf.Change {
	to := w.config
	var cs []gguf.Change
	before, err1 := c.object(c.config)
	after, err2 := c.object(to)
	if err1 != nil || err2 != nil {
		return nil
	}
	for _, key := range configKeys {
		var ch gguf.Change
		if m, ok := find(before, key); ok {
			ch.Old = compact(c.config.raw(m))
		}
		if m, ok := find(after, key); ok {
			ch.New = compact(to.raw(m))
		}
		if ch.Old != ch.New {
			ch.Key = key
			cs = append(cs, ch)
		}
	}
	return cs
}

// compact puts a value on one line.
func compact(raw []byte) string { return strings.Join(strings.Fields(string(raw)), " ") }
