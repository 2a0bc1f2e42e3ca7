package arch

import (
	"fmt"
	"math"

	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/session"
)

// Layer is what was computed for one attention: the RoPE of its queries and keys, none if it knows
// positions in another way, and the attention itself.
type Layer struct {
	Ropes []session.Node
	session.Node
	// Local says that the attention does not see the start of the sequence: it has a sliding
	// window.
	Local bool
}

// Layers sorts the nodes of one batch. Whether a layer is local shows if the batch is a sequence
// from its start.
func Layers(nodes []session.Node) (layers []Layer, err error) {
	var ropes []session.Node
	for _, n := range nodes {
		if n.Rope {
			ropes = append(ropes, n)
			continue
		}
		last := 0
		for q, seen := range n.Mask { // rows beyond the queries are padding, and see nothing
			for _, s := range seen {
				if s {
					last = q
				}
			}
		}
		layers = append(layers, Layer{ropes, n, n.Mask != nil && !n.Mask[last][0]})
		ropes = nil
	}
	if len(ropes) > 0 {
		return nil, fmt.Errorf("RoPE node %s is followed by no attention", ropes[0].Name)
	}
	return layers, nil
}

// textAt is the position of a text's token in each plane of M-RoPE: the same in all but the fourth,
// which has 0.
func textAt(pos int) [4]int { return [4]int{pos, pos, pos, 0} }

// rotate turns one head by the op's definition, in float64: what RoPE node n does at a position
// with the factors of g. at is the position in each plane of M-RoPE; other modes take the first.
func rotate(n session.Node, head []float32, at [4]int, g ropescale.Rung) []float64 {
	y := make([]float64, len(head))
	for i, x := range head {
		y[i] = float64(x)
	}
	half := n.Dims / 2
	for i := range half {
		angle := float64(at[plane(n, i)]) * math.Pow(float64(n.FreqBase),
			-2*float64(i)/float64(n.Dims)) / g.Factors[i]
		sin, cos := math.Sincos(angle)
		a, b := 2*i, 2*i+1
		if n.Mode != 0 {
			a, b = i, i+half
		}
		y[a], y[b] = g.AttentionFactor*(y[a]*cos-y[b]*sin), g.AttentionFactor*(y[a]*sin+y[b]*cos)
	}
	return y
}

// plane is the plane of positions that pair i of a RoPE node turns by.
func plane(n session.Node, i int) int {
	s := n.Sections
	if n.Mode&8 == 0 {
		return 0
	}
	k := i % (s[0] + s[1] + s[2] + s[3])
	if n.Mode == 40 {
		// interleaved: time, height and width in turn, as long as each has pairs left; what is left
		// is time's
		if j := k % 3; j > 0 && k < 3*s[j] {
			return j
		}
		return 0
	}
	switch {
	case k < s[0]:
		return 0
	case k < s[0]+s[1]:
		return 1
	case k < s[0]+s[1]+s[2]:
		return 2
	}
	return 3
}

// own is what a RoPE node does by itself, without a ladder, as a row.
func own(n session.Node) (ropescale.Rung, error) {
	g := ropescale.Rung{AttentionFactor: float64(n.AttnFactor), Factors: make([]float64, n.Dims/2)}
	for i := range g.Factors {
		g.Factors[i] = 1 / float64(n.FreqScale)
		if len(n.Factors) == 1 {
			g.Factors[i] *= float64(n.Factors[0][i])
		}
	}
	if n.ExtFactor != 0 && n.FreqScale != 1 || len(n.Factors) > 1 { // of scale 1 YaRN does nothing
		return g, fmt.Errorf("RoPE node %s scales in a way that the oracle does not know", n.Name)
	}
	return g, nil
}

// bound is how far a float32 may be off: angles of positions up to 128, of a series of frequencies
// that is multiplied up, are right to 128 * 3 * 16 * 2^-24 = 4e-4 rad in the worst case and a tenth
// of that in fact, magnitudes are near 1.
const bound = 1e-4

// Deviation is the largest difference of a RoPE node's output from the oracle's, each token turned
// by the row that row names for its place in the batch, its position being that place.
func Deviation(n session.Node, row func(pos int) ropescale.Rung) float64 {
	return deviationAt(n, textAt, row)
}

// deviationAt is the same for tokens at other positions than their places: at has those of each
// plane. Rows are named by the first.
func deviationAt(
	n session.Node,
	at func(token int) [4]int,
	row func(pos int) ropescale.Rung,
) float64 {
	var worst float64
	for t := range n.Tokens {
		g := row(at(t)[0])
		for h := range n.Heads {
			i := (t*n.Heads + h) * n.HeadDim
			for j, want := range rotate(n, n.In[i:i+n.HeadDim], at(t), g) {
				worst = max(worst, math.Abs(float64(n.Out[i+j])-want)/(1+math.Abs(want)))
			}
		}
	}
	return worst
}

// cached finds where the keys that an attention reads from the cache have what a RoPE node made: at
// element off of each head. ok is false if no node's result is in the cache as it was: if keys are
// normalised after they are rotated, say.
func (l Layer) cached() (n session.Node, off int, ok bool) {
	const token = 7
	for _, n := range l.Ropes {
		for off := 0; off+n.HeadDim <= l.KeyDim && len(l.Keys) > token; off++ {
			same := true
			for h := range len(l.Keys[token]) / l.KeyDim {
				out := n.Out[(token*n.Heads+h%n.Heads)*n.HeadDim:][:n.HeadDim]
				for i, x := range l.Keys[token][h*l.KeyDim+off:][:n.HeadDim] {
					same = same && x == out[i]
				}
			}
			if same {
				return n, off, true
			}
		}
	}
	return n, 0, false
}

// Shifted is the largest difference between the keys that an attention reads after a context shift
// and what they should be: of each token that moved, the key as it was before RoPE, turned by row
// of its new position; all else as it was. l is from a batch of tokens 0, 1, 2, … of which token t
// is in cell t, after from one later token; moved gives new positions, -1 for tokens that are gone.
func (l Layer) Shifted(
	after Layer,
	moved []int,
	row func(pos int) ropescale.Rung,
) (worst float64, err error) {
	n, off, ok := l.cached()
	if !ok && len(l.Ropes) > 0 {
		return 0, fmt.Errorf("keys are changed after RoPE, where no context shift is exact")
	}
	query := after.Mask[0]
	for cell, pos := range moved {
		if pos < 0 || !query[cell] || l.Local && cell < len(moved)-6 {
			// others may have been overwritten
			continue
		}
		want := make([]float64, len(l.Keys[cell]))
		for i, x := range l.Keys[cell] {
			want[i] = float64(x)
		}
		for h := range len(want) / l.KeyDim {
			if ok && pos != cell {
				at := (cell*n.Heads + h%n.Heads) * n.HeadDim
				copy(want[h*l.KeyDim+off:], rotate(n, n.In[at:at+n.HeadDim], textAt(pos), row(pos)))
			}
		}
		for i, x := range after.Keys[cell] {
			worst = max(worst, math.Abs(float64(x)-want[i])/(1+math.Abs(want[i])))
		}
	}
	return worst, nil
}
