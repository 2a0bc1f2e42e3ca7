package arch

import (
	"github.com/longrope/longrope/ropescale"
)

// The ladder of the tests, for models with an original context length of Original.
const (
	Original = 32 // L
	Long     = 48 // tokens of a sequence beyond it
	Short    = 24
)

// Ladder has two rungs whose rows, start windows and attention factors differ, with factors that
// are not monotone.
func Ladder(pairs int) []ropescale.Rung {
	rung := func(length, window int, attn, grow float64) ropescale.Rung {
		g := ropescale.Rung{Length: length, StartWindow: window, AttentionFactor: attn}
		for i := range pairs {
			f := 1 + grow*float64(i+1)/float64(pairs)
			if i%3 == 1 {
				f *= 0.875
			}
			g.Factors = append(g.Factors, f)
		}
		return g
	}
	return []ropescale.Rung{rung(40, 3, 1.0625, 0.5), rung(128, 5, 1.1875, 3)}
}

// uniform has one rung that divides all frequencies by lambda and does nothing else.
func uniform(pairs int, lambda float64) []ropescale.Rung {
	g := ropescale.Rung{Length: 128, AttentionFactor: 1}
	for range pairs {
		g.Factors = append(g.Factors, lambda)
	}
	return []ropescale.Rung{g}
}

// Row 0 of a ladder for a model that was trained with plain RoPE.
func Plain(pairs int) ropescale.Rung {
	g := uniform(pairs, 1)[0]
	g.Length = Original
	return g
}

// WithLadder is the model with a ladder in its metadata, whatever the architecture.
func (m *Model) WithLadder(arch string, row0 ropescale.Rung, rungs []ropescale.Rung) *Model {
	out := &Model{KV: map[string]any{}, Tensors: m.Tensors}
	for k, v := range m.KV {
		out.KV[k] = v
	}
	var lengths, windows []uint32
	var attn, factors []float32
	for _, g := range append([]ropescale.Rung{row0}, rungs...) {
		lengths = append(lengths, uint32(g.Length))
		windows = append(windows, uint32(g.StartWindow))
		attn = append(attn, float32(g.AttentionFactor))
		for _, f := range g.Factors {
			factors = append(factors, float32(f))
		}
	}
	key := arch + ".rope.longrope."
	out.KV[key+"version"] = uint32(1)
	out.KV[key+"lengths"] = lengths
	out.KV[key+"start_windows"] = windows
	out.KV[key+"attention_factors"] = attn
	out.KV[key+"factors"] = factors
	return out
}
