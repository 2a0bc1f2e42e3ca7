package tests

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/reference"
	"github.com/longrope/longrope/tests/session"
)

// keyDeviation is how far cached keys of layer 0 are from the token's keys rotated afresh to the
// position where they are now, worst over all pairs as a multiple of the bound; and the same for
// what has moved only.
//
// A pair of norm r is rounded when it is stored, and at each shift again. In float16 each rounding
// moves it by at most 2^-11 r; where the row changes, a key is float32 between the two rotations
// (back with the old row, forth with the new one), and without a ladder there is one. In q8_0 a
// block of 32 has steps of amax/127 with a float16 scale: an element is off by half a step and
// 2^-11 of itself, so a pair by sqrt(2) * (0.5/127 + 2^-11) times the block's largest pair. The
// engine's own keys are float32, and each rotation is computed in it: 2^-17 of the head's norm.
func keyDeviation(
	m *reference.Llama,
	l *ropescale.Ladder,
	rung int,
	tokens map[int]int,
	keys map[int][]float32,
	typ string,
	shifts int,
) (ratio float64, where string) {
	d := m.HeadDim()
	return keysOff(d, keys, typ, shifts, 0, func(p int) []float64 {
		want := m.Keys(tokens[p])
		for h := 0; h < len(want); h += d {
			l.Rotate(m.Rope, want[h:h+d], rung, p, ropescale.Normal)
		}
		return want
	})
}

// keysOff is keyDeviation for keys that want gives by position, with heads of d elements; loss is
// the share of a pair that the functions of a device lose more than float32 does.
func keysOff(
	d int,
	keys map[int][]float32,
	typ string,
	shifts int,
	loss float64,
	want func(p int) []float64,
) (ratio float64, where string) {
	for p, got := range keys {
		want := want(p)
		for h := 0; h < len(want); h += d {
			head := want[h : h+d]
			size := norm(head...)
			for i := 0; i < d; i += 2 {
				float := float64(1+2*shifts)*size/(1<<17) + loss*norm(head[i], head[i+1])
				bound := float64(1+shifts)*(norm(head[i], head[i+1])*unit16+tiny16) + float
				switch typ {
				case "f32":
					bound = float
				case "q8_0":
					most := 0.0
					for j := i / 32 * 32; j < min(i/32*32+32, d); j += 2 {
						most = math.Max(most, norm(head[j], head[j+1]))
					}
					bound = float64(1+shifts)*math.Sqrt2*(0.5/127+unit16)*most + float
				}
				e := norm(float64(got[h+i])-head[i], float64(got[h+i+1])-head[i+1])
				if r := e / bound; r > ratio || math.IsNaN(r) {
					ratio, where = r, fmt.Sprintf(
						"position %d head %d pair %d: off by %.3g, bound %.3g", p, h/d, i/2, e,
						bound)
				}
			}
		}
	}
	return ratio, where
}

func norm(x ...float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

// After context shifts with an attention factor in the model and no ladder, the patched host's keys
// are those rotated afresh. The unpatched host applies the factor again at each shift: its keys
// grow.
func TestContextShiftAttentionFactor(t *testing.T) {
	const attn, shifts = 1.25, 4
	path := writeDefault(t, map[string]any{"llama.rope.scaling.attn_factor": float32(attn)})
	m := defaultLlama(t)
	g := m.Rope.Identity(4 * m.Rope.OriginalContextLength)
	g.AttentionFactor = attn
	l := someLadder(t, m.Rope, g)

	for _, typ := range []string{"f16", "q8_0"} {
		t.Run(typ, func(t *testing.T) {
			var report struct {
				Tokens map[int]int
				Keys   map[int][]float32
			}
			probe(t, "patched", &report, "keys", path, typ, fmt.Sprint(shifts))
			require.NotEmpty(t, report.Keys)
			ratio, where := keyDeviation(m, l, 1, report.Tokens, report.Keys, typ, shifts)
			t.Logf("worst of its bound %.2f at %s", ratio, where)
			assert.LessOrEqual(t, ratio, 1.0, where)

			probe(t, "stock", &report, "keys", path, typ, fmt.Sprint(shifts))
			ratio, where = keyDeviation(m, l, 1, report.Tokens, report.Keys, typ, shifts)
			assert.Greater(t, ratio, 1.0, "the test passes on the unpatched host: it shows nothing")
			moved := m.Keys(report.Tokens[20]) // there from the start, and moved by every shift
			got := make([]float64, len(moved))
			for i, v := range report.Keys[20] {
				got[i] = float64(v)
			}
			growth := norm(got...) / (attn * norm(moved...))
			t.Logf("unpatched: keys grew %.3f times in %d shifts, attention factor^%d is %.3f",
				growth, shifts, shifts, math.Pow(attn, shifts))
			assert.InEpsilon(t, math.Pow(attn, shifts), growth, 0.02)
		})
	}
}

// shiftCases are the rungs whose keys are shifted, on both engines, with 8 tokens kept.
var shiftCases = []struct {
	name        string
	startWindow int
	attn        float64
}{
	{"attention factor", 0, 1.2},
	{"start window", 32, 1},
	{"start window and attention factor", 32, 1.2},
	{"start window below what is kept", 4, 1.2},
}

// The same with a ladder, on the patched host: keys that cross the start window change rows, and
// with that rotation and attention factor; keys that do not move stay what they are bit for bit.
func TestContextShift(t *testing.T) {
	path := writeDefault(t, nil)
	m := defaultLlama(t)
	L := m.Rope.OriginalContextLength
	const prompt, keep, discard, shifts = 120, 8, 7, 5
	for _, c := range shiftCases {
		for _, typ := range []string{"f16", "q8_0"} {
			t.Run(c.name+"/"+typ, func(t *testing.T) {
				l := someLadder(t, m.Rope, someRung(m.Rope, 8*L, c.startWindow, c.attn))
				s := open(t, path, session.Options{Context: 256, Keys: typ})
				require.NoError(t, s.SetLadder(l))
				require.NoError(t, s.SetRung(0, 1))
				tokens := someTokens(prompt, s.Vocab(), 3)
				_, err := s.Prefill(tokens, 0, 0, 512)
				require.NoError(t, err)
				before, err := s.Keys(0)
				require.NoError(t, err)

				for i := range shifts {
					require.NoError(t, s.Shift(0, keep, discard, len(tokens)))
					tokens = append(append(tokens[:keep:keep], tokens[keep+discard:]...), i+1)
					require.NoError(t,
						s.Decode(session.Token{ID: i + 1, Pos: len(tokens) - 1, Logits: true}))
				}
				keys, err := s.Keys(0)
				require.NoError(t, err)
				require.Len(t, keys, len(tokens))
				at := map[int]int{}
				for p, id := range tokens {
					at[p] = id
				}
				ratio, where := keyDeviation(m, l, 1, at, keys, typ, shifts)
				t.Logf("worst of its bound %.2f at %s", ratio, where)
				assert.LessOrEqual(t, ratio, 1.0, where)
				for p := range keep {
					assert.Equal(t, before[p], keys[p], "position %d did not move", p)
				}

				// it would notice keys left in the row that they had
				still := l.Rungs[0]
				still.StartWindow = keep
				if c.startWindow > keep {
					ratio, _ = keyDeviation(m, someLadder(t, m.Rope, still), 1, at, keys, typ,
						shifts)
					assert.Greater(t, ratio, 1.0, "the case cannot tell a changed row")
				}
			})
		}
	}
}
