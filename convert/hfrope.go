package convert

import (
	"fmt"
	"math"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// hfRope is the RoPE that a config.json describes, as transformers 5 computes it.
type hfRope struct {
	// kind is rope_type, with "su" read as longrope; "default" without one.
	kind string
	// known says that base is the model's RoPE. Of the others (sections of mrope, a type that is newer than this program)
	// a GGUF file says what the host makes of them.
	known   bool
	rope    ropescale.Rope // L is original_max_position_embeddings for longrope, max_position_embeddings for the others
	context int            // max_position_embeddings
	base    ropescale.Rung // row 0
	long    *ropescale.Rung
	// attention is the one attention factor that transformers has for a longrope model, at every length.
	attention float64
	// perLength says that the factor follows the length nevertheless, as in Phi-3.5 MoE.
	perLength bool
	// local says that layers without a window have no RoPE.
	local bool
	// theta and partial say that the file has rope_theta and partial_rotary_factor, at the top or in rope_parameters.
	theta, partial bool
}

// hfParams are the fields of rope_scaling and rope_parameters.
type hfParams struct {
	RopeType        string    `json:"rope_type"`
	Type            string    `json:"type"`
	Theta           *float64  `json:"rope_theta"`
	Partial         *float64  `json:"partial_rotary_factor"`
	Factor          *float64  `json:"factor"`
	Original        *int      `json:"original_max_position_embeddings"`
	AttentionFactor *float64  `json:"attention_factor"`
	ShortMscale     *float64  `json:"short_mscale"`
	LongMscale      *float64  `json:"long_mscale"`
	ShortFactor     []float64 `json:"short_factor"`
	LongFactor      []float64 `json:"long_factor"`
	BetaFast        float64   `json:"beta_fast"`
	BetaSlow        float64   `json:"beta_slow"`
	LowFreqFactor   float64   `json:"low_freq_factor"`
	HighFreqFactor  float64   `json:"high_freq_factor"`
	Mscale          float64   `json:"mscale"`
	MscaleAllDim    float64   `json:"mscale_all_dim"`
	Truncate        *bool     `json:"truncate"`
	MropeSection    []int     `json:"mrope_section"`
}

// withoutRoPEModels are the model_types of transformers, among those that the host converts, that have no RoPE.
var withoutRoPEModels = []string{"bert", "nemotron_h"}

// readHFRope reads a config.json the way transformers does: rope_scaling, the name of its version 4, wins over
// rope_parameters, that of version 5 (RotaryEmbeddingConfigMixin); rope_parameters may be given for each type of layer,
// of which the full ones are those that a ladder reaches.
func readHFRope(d *jsonDoc, inside string) (*hfRope, error) {
	members := d.top
	if inside != "" {
		var err error
		if members, err = d.sub(d.top, inside); err != nil {
			return nil, err
		}
	}
	fail := func(format string, args ...any) (*hfRope, error) {
		return nil, fmt.Errorf("%s: %s", d.path, fmt.Sprintf(format, args...))
	}
	var top struct {
		kind                                string
		context, original                   int
		hidden, heads, headDim, qkRope      int
		theta, partial, rotaryPct, rotaryLB float64
	}
	for key, v := range map[string]any{
		"model_type": &top.kind, "max_position_embeddings": &top.context, "original_max_position_embeddings": &top.original,
		"hidden_size": &top.hidden, "num_attention_heads": &top.heads, "head_dim": &top.headDim, "qk_rope_head_dim": &top.qkRope,
		"rope_theta": &top.theta, "partial_rotary_factor": &top.partial, "rotary_emb_fraction": &top.rotaryPct, "rotary_emb_base": &top.rotaryLB,
	} {
		if _, err := d.decode(members, key, v); err != nil {
			return nil, err
		}
	}
	if slices.Contains(withoutRoPEModels, top.kind) {
		return nil, fmt.Errorf("%s: %w: %s tells positions in another way", d.path, ErrNoRoPE, top.kind)
	}
	if top.context < 1 {
		return fail("max_position_embeddings is missing or not positive; set it to the length that the model was trained for")
	}

	p, err := readHFParams(d, members)
	if err != nil {
		return nil, err
	}
	r := &hfRope{kind: p.RopeType, known: true, context: top.context, perLength: top.kind == "phimoe", local: slices.Contains(localRoPEModels, top.kind)}
	if r.kind == "" {
		r.kind = p.Type
	}
	switch r.kind {
	case "":
		r.kind = "default"
	case "su":
		r.kind = "longrope"
	case "mrope":
		r.kind = "default"
		r.known = false
	}
	if p.MropeSection != nil {
		r.known = false
	}

	theta, partial := top.theta, top.partial
	if theta == 0 {
		theta = top.rotaryLB
	}
	if p.Theta != nil {
		theta = *p.Theta
	}
	if r.theta = theta != 0; !r.theta {
		theta = 10000 // RotaryEmbeddingConfigMixin.default_theta
	}
	if partial == 0 {
		partial = top.rotaryPct
	}
	if p.Partial != nil {
		partial = *p.Partial
	}
	if r.partial = partial != 0; !r.partial {
		partial = 1
	}
	dims := top.qkRope
	if dims == 0 {
		head := top.headDim
		if head == 0 {
			if top.heads < 1 || top.hidden < 1 {
				return fail("no head_dim, and no hidden_size and num_attention_heads to compute it from")
			}
			head = top.hidden / top.heads
		}
		dims = int(float64(head) * partial)
	}
	r.rope = ropescale.Rope{Dims: dims, FreqBase: theta, OriginalContextLength: top.context}
	if err := r.rope.Validate(); err != nil {
		return fail("%v", err)
	}
	if r.kind == "longrope" {
		if p.Original != nil {
			r.rope.OriginalContextLength = *p.Original
		}
		if top.original != 0 { // standardize_rope_params: Phi-3's place has priority
			r.rope.OriginalContextLength = top.original
		}
		if err := r.rope.Validate(); err != nil {
			return fail("original_max_position_embeddings: %v", err)
		}
	}
	if err := r.scale(p); err != nil {
		return fail("%s: %v", r.kind, err)
	}
	return r, nil
}

// readHFParams finds the scaling's parameters; all zero without any.
func readHFParams(d *jsonDoc, members []member) (p hfParams, err error) {
	scaling, err := d.sub(members, "rope_scaling")
	if err != nil {
		return p, err
	}
	if len(scaling) > 0 {
		if _, err := d.decode(members, "rope_scaling", &p); err != nil {
			return p, err
		}
	}
	parameters, err := d.sub(members, "rope_parameters")
	if err != nil || len(parameters) == 0 {
		return p, err
	}
	var q hfParams
	if _, nested := find(parameters, "full_attention"); nested {
		_, err = d.decode(parameters, "full_attention", &q)
	} else {
		_, err = d.decode(members, "rope_parameters", &q)
	}
	if len(scaling) == 0 {
		return q, err
	}
	// Base and width stand in rope_parameters alone once version 5 has saved the model.
	if p.Theta == nil {
		p.Theta = q.Theta
	}
	if p.Partial == nil {
		p.Partial = q.Partial
	}
	return p, err
}

// scale computes row 0, and for longrope the rung beyond L (transformers, modeling_rope_utils.py).
func (r *hfRope) scale(p hfParams) (err error) {
	L := r.rope.OriginalContextLength
	r.base = r.rope.Identity(L)
	factor := 1.0
	if p.Factor != nil {
		factor = *p.Factor
	}
	if !(factor > 0) || math.IsInf(factor, 0) {
		return fmt.Errorf("factor is %g, want a positive number", factor)
	}
	orig := r.rope
	if p.Original != nil {
		orig.OriginalContextLength = *p.Original
	}
	switch r.kind {
	case "default", "dynamic": // dynamic does nothing up to max_position_embeddings, which is L
	case "linear":
		for i := range r.base.Factors {
			r.base.Factors[i] = factor
		}
	case "llama3":
		r.base, err = ropescale.Llama3(r.rope, ropescale.Llama3Params{Factor: factor, LowFreqFactor: p.LowFreqFactor,
			HighFreqFactor: p.HighFreqFactor, OriginalContextLength: orig.OriginalContextLength})
	case "yarn":
		o := ropescale.MethodOptions{BetaFast: p.BetaFast, BetaSlow: p.BetaSlow, ExactRamp: p.Truncate != nil && !*p.Truncate}
		switch {
		case p.AttentionFactor != nil:
			o.AttentionFactor = *p.AttentionFactor
		case p.Mscale != 0 && p.MscaleAllDim != 0 && factor > 1:
			o.AttentionFactor = (0.1*p.Mscale*math.Log(factor) + 1) / (0.1*p.MscaleAllDim*math.Log(factor) + 1)
		}
		if r.base, err = ropescale.YaRN(orig, int(math.Round(factor*float64(orig.OriginalContextLength))), o); err == nil {
			r.base.Length = L
		}
	case "longrope":
		return r.longrope(p)
	default:
		r.known = false
	}
	return err
}

// longrope reads short_factor and long_factor (_compute_longrope_parameters). short_mscale and long_mscale are Phi-3.5
// MoE's own and vLLM's; the others have one attention factor for all lengths.
func (r *hfRope) longrope(p hfParams) error {
	L := r.rope.OriginalContextLength
	switch {
	case L > r.context:
		return fmt.Errorf("original_max_position_embeddings is %d, max_position_embeddings %d; the latter is the longer one", L, r.context)
	case len(p.ShortFactor) != r.rope.Pairs() || len(p.LongFactor) != r.rope.Pairs():
		return fmt.Errorf("%d numbers in short_factor and %d in long_factor, the model rotates %d pairs", len(p.ShortFactor), len(p.LongFactor), r.rope.Pairs())
	}
	r.attention = ropescale.LongRoPEAttentionFactor(r.context, L)
	if p.Factor != nil && *p.Factor > 0 {
		r.attention = 1
		if *p.Factor > 1 {
			r.attention = math.Sqrt(1 + math.Log(*p.Factor)/math.Log(float64(L)))
		}
	}
	if p.AttentionFactor != nil {
		r.attention = *p.AttentionFactor
	}
	r.base = ropescale.Rung{Length: L, AttentionFactor: r.attention, Factors: p.ShortFactor}
	long := ropescale.Rung{Length: r.context, AttentionFactor: r.attention, Factors: p.LongFactor}
	if p.ShortMscale != nil && p.LongMscale != nil {
		r.base.AttentionFactor, long.AttentionFactor = *p.ShortMscale, *p.LongMscale
	}
	if _, err := ropescale.NewLadder(r.rope, &r.base, long); err != nil {
		return err
	}
	if r.context > L {
		r.long = &long
	}
	return nil
}

// scaling is the name that a GGUF of the same model gets.
func (r *hfRope) scaling() string {
	switch {
	case r.kind == "default":
		return ""
	case r.kind == "llama3":
		return "rope_freqs"
	}
	return r.kind
}

// asRun is what transformers computes for a longrope config: no start window, one long rung, and one attention factor
// for every length. nil for the others, whose RoPE is row 0 alone.
func (r *hfRope) asRun() *ropescale.Ladder {
	if r.long == nil {
		return nil
	}
	short, long := r.base, *r.long
	if !r.perLength {
		short.AttentionFactor, long.AttentionFactor = r.attention, r.attention
	}
	l, err := ropescale.NewLadder(r.rope, nil, short, long)
	if err != nil {
		return nil // short and long were checked when they were read
	}
	return l
}
