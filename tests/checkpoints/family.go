package checkpoints

import (
	"fmt"
	"slices"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// Ignored as Family.OldFolder says that factors have no effect.
const Ignored = "ignored"

// Family is a shape of checkpoints that people publish, and what transformers makes of it.
type Family struct {
	Name     string
	Spelling string // "4" or "5": the version of transformers whose names of fields it has
	Layout   string
	Class    string // architectures[0]
	Model    string // model_type
	Sizes    string // members of config.json, of this fixture
	Fields   string // members of config.json, as published
	Head     int    // head_dim, where the model's class has one that is not in the file

	Dims  int     // rotated dimensions of a head
	Theta float64 // base
	L     int     // tokens it was trained for
	Own   scaling // nil: plain RoPE
	// Long has the factors beyond L of a model that was published with longrope.
	Long *ropescale.Rung

	// Refused is a part of the error with which any conversion is refused; GGUF of that to a GGUF
	// alone.
	Refused, GGUF string
	// Within is the largest distance of the engine's logits from those of transformers, as a share
	// of the largest logit; 0: 1e-2. The engine multiplies MXFP4 with activations of eight bits.
	Within float64
	// Unrun is why transformers does not run the family as published.
	Unrun string
	// Old is why transformers 4.57 does not run the family at all; "": it does.
	Old string
	// OldFolder is a part of the error with which transformers 4.57 refuses the folder with a
	// ladder, or Ignored, if it runs it without the factors.
	OldFolder string
}

// JSON is the family's config.json.
func (f *Family) JSON() string {
	text := fmt.Sprintf(`{
  "architectures": [
    %q
  ],
  "model_type": %q,
  "torch_dtype": "float32",
  "bos_token_id": 1,
  "eos_token_id": 2,
  "pad_token_id": 0,
`, f.Class, f.Model)
	return text + "  " + f.Sizes + ",\n  " + f.Fields + "\n}\n"
}

// Find is the first family of a name.
func Find(name string) *Family {
	i := slices.IndexFunc(Families, func(f Family) bool { return f.Name == name })
	return &Families[i]
}

// ID is the name of a family as a subtest.
func (f *Family) ID() string { return strings.ReplaceAll(f.Name, " ", "-") + "/" + f.Spelling }

// Ladder is a rung at twice the family's length with factors that no method gives.
func (f *Family) Ladder() *ropescale.Ladder {
	top := f.L
	if f.Long != nil {
		top = f.Long.Length
	}
	g := ropescale.Rung{Length: 2 * top, AttentionFactor: 1.0625}
	if f.Model == "phi3" { // of which transformers 4 takes this one only
		g.AttentionFactor = ropescale.LongRoPEAttentionFactor(g.Length, f.L)
	}
	for i := range f.Dims / 2 {
		g.Factors = append(g.Factors, 1+float64(i%7)/4+float64(i)/16)
	}
	l, err := ropescale.NewLadder(f.Rope(), nil, g)
	if err != nil {
		panic(err) // of a row of Families
	}
	return l
}

// Rope is the family's RoPE without scaling.
func (f *Family) Rope() ropescale.Rope {
	return ropescale.Rope{Dims: f.Dims, FreqBase: f.Theta, OriginalContextLength: f.L}
}

// Base is row 0, worked out from the row.
func (f *Family) Base() (ropescale.Rung, error) {
	if f.Own == nil {
		return f.Rope().Identity(f.L), nil
	}
	g, err := f.Own(f.Rope())
	g.Length = f.L
	return g, err
}

// scaling is what a model was trained with.
type scaling func(ropescale.Rope) (ropescale.Rung, error)

func linear(factor float64) scaling {
	return func(r ropescale.Rope) (ropescale.Rung, error) {
		g := r.Identity(r.OriginalContextLength)
		for i := range g.Factors {
			g.Factors[i] = factor
		}
		return g, nil
	}
}

func llama3(factor float64, original int) scaling {
	return func(r ropescale.Rope) (ropescale.Rung, error) {
		return ropescale.Llama3(r, ropescale.Llama3Params{
			Factor: factor, LowFreqFactor: 1,
			HighFreqFactor:        4,
			OriginalContextLength: original,
		})
	}
}

// yarn has beta_fast 32 and beta_slow 1; attention 0 is 0.1 ln factor + 1.
func yarn(factor, original int, attention float64) scaling {
	return func(r ropescale.Rope) (ropescale.Rung, error) {
		r.OriginalContextLength = original
		return ropescale.YaRN(r, factor*original,
			ropescale.MethodOptions{AttentionFactor: attention})
	}
}

func exactYarn(factor, original int) scaling {
	return func(r ropescale.Rope) (ropescale.Rung, error) {
		r.OriginalContextLength = original
		return ropescale.YaRN(r, factor*original, ropescale.MethodOptions{ExactRamp: true})
	}
}

// published has the same factor for all pairs below L, as its Long has beyond.
func published(short, attention float64) scaling {
	return func(r ropescale.Rope) (ropescale.Rung, error) {
		return ropescale.Rung{
			AttentionFactor: attention,
			Factors:         slices.Repeat([]float64{short}, r.Pairs()),
		}, nil
	}
}

func list(x string, n int) string {
	s := "["
	for i := range n {
		if i > 0 {
			s += ", "
		}
		s += x
	}
	return s + "]"
}
