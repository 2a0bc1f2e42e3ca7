package hf

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/longrope/longrope/convert/gguf"
	"github.com/longrope/longrope/ropescale"
)

// Rope is the RoPE that a config.json describes, as transformers 5 computes it.
type Rope struct {
	model string // model_type
	// kind is rope_type, with "su" read as longrope; "default" without one.
	Kind string
	// known says that base is all of the model's RoPE: not with sections of mrope, nor with a type
	// that this program does not know (unknown).
	Known, unknown bool
	// L is original_max_position_embeddings for longrope, max_position_embeddings for the others
	Rope    ropescale.Rope
	Context int            // max_position_embeddings
	Base    ropescale.Rung // row 0
	Long    *ropescale.Rung
	// attention is the one attention factor that transformers has for a longrope model, at every
	// length.
	attention float64
	// perLength says that the factor follows the length nevertheless, as in Phi-3.5 MoE.
	perLength bool
	// local says that layers without a window have no RoPE.
	Local bool
	// partial is the share of a head that rotates.
	partial float64
	// headDim is the width of a head, 0 for a model whose heads have parts (qk_rope_head_dim);
	// classHeadDim says that it is the model class's own. heads is their number.
	headDim, heads, Hidden int
	classHeadDim           bool
	// byLayerType says that transformers 5 wants rope_parameters by type of layer.
	byLayerType bool
	// softmax is what mscale_all_dim makes of the scale of attention, with the factor that the file
	// gives.
	softmax, mscaleAllDim float64
	givenFactor           *float64
	// factor and original are those of YaRN.
	Factor   float64
	Original int
	// oneForAll says that transformers has one rotation for all layers, some of which have a
	// window.
	oneForAll bool
}

// params are the fields of rope_scaling and rope_parameters.
type params struct {
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

// readRope reads a config.json the way transformers does: rope_scaling, the name of its version
// 4, wins over rope_parameters, that of version 5 (RotaryEmbeddingConfigMixin); rope_parameters may
// be given for each type of layer, of which the full ones are those that a ladder reaches. A field
// that is missing is that of the model's class.
func readRope(d *jsonDoc, inside string) (*Rope, error) {
	f, err := readFields(d, inside)
	if err != nil {
		return nil, err
	}
	fail := func(format string, args ...any) (*Rope, error) {
		return nil, fmt.Errorf("%s: %s", d.path, fmt.Sprintf(format, args...))
	}
	p := f.params
	r := &Rope{
		model: f.kind, Kind: p.RopeType, Known: true, Context: f.context,
		perLength: f.kind == "phimoe",
		Local: slices.Contains(localRoPEModels,
			f.kind), byLayerType: f.byLayerType, oneForAll: f.oneForAll, heads: f.heads,
		Hidden:  f.hidden,
		softmax: p.softmax(),
	}
	if r.Kind == "" {
		r.Kind = p.Type
	}
	switch r.Kind {
	case "":
		r.Kind = "default"
	case "su":
		r.Kind = "longrope"
	case "yarn":
		// Phi-3's first name for it; without factors transformers refuses the model, and others
		// take YaRN.
		if p.ShortFactor != nil && (f.kind == "phi3" || f.kind == "phimoe") {
			r.Kind = "longrope"
		}
	case "mrope":
		r.Kind = "default"
		r.Known = false
	}
	if p.MropeSection != nil {
		r.Known = false
	}
	if r.Kind != "default" {
		r.mscaleAllDim, r.givenFactor = p.MscaleAllDim, p.Factor
	}
	dims, err := f.dims(d)
	if err != nil {
		return nil, err
	}
	if f.qkRope == 0 {
		r.headDim, r.classHeadDim = f.headDim, f.classHeadDim
	}
	r.partial = f.partial
	r.Rope = ropescale.Rope{Dims: dims, FreqBase: f.theta, OriginalContextLength: f.context}
	if err := r.Rope.Validate(); err != nil {
		return fail("%v", err)
	}
	if f.original != 0 { // standardize_rope_params: Phi-3's place has priority
		p.Original = &f.original
	}
	if r.Kind == "longrope" && p.Original != nil {
		r.Rope.OriginalContextLength = *p.Original
		if err := r.Rope.Validate(); err != nil {
			return fail("original_max_position_embeddings: %v", err)
		}
	}
	if err := r.scale(p); err != nil {
		return fail("%s: %v", r.Kind, err)
	}
	return r, nil
}

// fields are the fields of a config.json that RoPE depends on, those of the model's class in place
// of those that are missing.
type fields struct {
	kind                           string // model_type
	context, original              int
	hidden, heads, headDim, qkRope int
	rotating                       int // rotary_dim
	theta, partial                 float64
	params                         params
	// head_dim is the class's own, and not hidden_size/num_attention_heads
	classHeadDim bool
	byLayerType  bool
	has          map[string]bool // keys that the file has
	oneForAll    bool            // see Rope
}

func readFields(d *jsonDoc, inside string) (*fields, error) {
	members := d.top
	f := &fields{has: make(map[string]bool)}
	if _, err := d.decode(members, "model_type", &f.kind); err != nil {
		return nil, err
	}
	if inside != "" {
		var err error
		if members, err = d.sub(d.top, inside); err != nil {
			return nil, err
		}
		if def := defaultsOf(f.kind); def != nil && def.Text != "" {
			f.kind = def.Text
		}
	}
	var partials [4]float64
	var base float64
	var maxLength int
	var alibi bool
	var layers []string
	for _, v := range []struct {
		key   string
		field any
	}{
		{"model_type", &f.kind},
		{"max_position_embeddings", &f.context},
		{"original_max_position_embeddings", &f.original},
		{"hidden_size", &f.hidden},
		{"num_attention_heads", &f.heads},
		{"head_dim", &f.headDim},
		{"qk_rope_head_dim", &f.qkRope},
		{"rope_theta", &f.theta},
		{"rotary_emb_base", &base},
		{"rotary_dim", &f.rotating},
		{"partial_rotary_factor", &partials[0]},
		{"rotary_pct", &partials[1]},
		{"rope_pct", &partials[2]},
		{"rotary_emb_fraction", &partials[3]},
		{"model_max_length", &maxLength},
		{"alibi", &alibi},
		{"layer_types", &layers},
	} {
		ok, err := d.decode(members, v.key, v.field)
		if err != nil {
			return nil, err
		}
		f.has[v.key] = ok
	}
	f.oneForAll = slices.Contains(layers, "sliding_attention") ||
		f.kind == "gemma2" || f.kind == "gpt_oss"
	if alibi {
		return nil, noRoPE(d, f.kind)
	}
	// Command-R: what it was trained for, where max_position_embeddings is 8192
	if f.kind == "cohere" {
		f.context = max(f.context, maxLength)
	}
	f.theta, f.partial = cmp.Or(f.theta, base), cmp.Or(partials[:]...)
	var given bool
	var err error
	if f.params, given, err = readParams(d, members); err != nil {
		return nil, err
	}
	return f, f.complete(d, defaultsOf(f.kind), given)
}

func noRoPE(d *jsonDoc, kind string) error {
	return fmt.Errorf("%s: %w: %s has another way to give tokens positions, or none", d.path,
		gguf.ErrNoRoPE, kind)
}

// complete takes what is missing from the model's class. given says that the file has parameters of
// RoPE.
func (f *fields) complete(d *jsonDoc, def *classDefaults, given bool) error {
	p := &f.params
	if def != nil {
		switch {
		case def.Rope == nil && def.Rotating > 0:
			return fmt.Errorf("%s: transformers rotates %s in a way of its own, which takes no "+
				"factors from %s", d.path, f.kind, ConfigFile)
		case def.Rope == nil:
			return noRoPE(d, f.kind)
		}
		if !given {
			theta, partial := p.Theta, p.Partial
			*p = *def.Rope
			p.Theta, p.Partial = theta, partial
		}
	}
	if p.Theta != nil {
		f.theta = *p.Theta
	}
	if p.Partial != nil {
		f.partial = *p.Partial
	}
	if (f.has["rope_theta"] || p.Theta != nil) && f.theta <= 0 {
		return fmt.Errorf("%s: rope_theta is %g, want a positive number", d.path, f.theta)
	}
	if def != nil {
		for key, v := range map[string]struct {
			field *int
			value int
		}{
			"max_position_embeddings": {&f.context, def.Context}, "hidden_size": {
				&f.hidden,
				def.Hidden,
			},
			"num_attention_heads": {&f.heads, def.Heads}, "qk_rope_head_dim": {
				&f.qkRope,
				def.QKRope,
			},
		} {
			if !f.has[key] {
				*v.field = v.value
			}
		}
		f.byLayerType = def.ByLayerType
		f.oneForAll = f.oneForAll && !def.ByLayerType
		if !f.has["head_dim"] && def.HeadDim != 0 {
			f.headDim, f.classHeadDim = def.HeadDim, true
		}
		if def.Rope.Theta != nil {
			f.theta = cmp.Or(f.theta, *def.Rope.Theta)
		}
		if def.Rope.Partial != nil && f.rotating == 0 {
			f.partial = cmp.Or(f.partial, *def.Rope.Partial)
		}
	}
	switch {
	case f.context < 1:
		return fmt.Errorf("%s: max_position_embeddings is missing or not positive; set it to the "+
			"length that the model was trained for", d.path)
	case f.theta == 0:
		return fmt.Errorf("%s: rope_theta is missing, and the default of model_type %q is not "+
			"known here; set it to the base that the model was trained with", d.path, f.kind)
	}
	return nil
}

// dims are the dimensions of a head that rotate.
func (f *fields) dims(d *jsonDoc) (int, error) {
	if f.headDim == 0 && f.heads > 0 {
		f.headDim = f.hidden / f.heads
	}
	switch {
	case f.qkRope != 0:
		return f.qkRope, nil
	case f.headDim == 0:
		return 0, fmt.Errorf("%s: no head_dim, and no hidden_size and num_attention_heads to "+
			"compute it from", d.path)
	case f.partial == 0 && f.rotating != 0:
		f.partial = float64(f.rotating) / float64(f.headDim)
		return f.rotating, nil
	}
	f.partial = cmp.Or(f.partial, 1)
	return int(float64(f.headDim) * f.partial), nil
}

// softmax is what DeepSeek's models multiply the scale of attention by (yarn_apply_mscale), of the
// parts of a head that do not rotate too: 1 for the others.
func (p *params) softmax() float64 {
	if p.Factor == nil || p.MscaleAllDim == 0 || *p.Factor <= 1 {
		return 1
	}
	m := 0.1*p.MscaleAllDim*math.Log(*p.Factor) + 1
	return m * m
}

// readHFParams finds the scaling's parameters; all zero and false without any.
func readParams(d *jsonDoc, members []member) (p params, given bool, err error) {
	scaling, err := d.sub(members, "rope_scaling")
	if err != nil {
		return p, false, err
	}
	if len(scaling) > 0 {
		if _, err := d.decode(members, "rope_scaling", &p); err != nil {
			return p, false, err
		}
	}
	parameters, err := d.sub(members, "rope_parameters")
	if err != nil || len(parameters) == 0 {
		return p, len(scaling) > 0, err
	}
	var q params
	if _, nested := find(parameters, "full_attention"); nested {
		_, err = d.decode(parameters, "full_attention", &q)
	} else {
		_, err = d.decode(members, "rope_parameters", &q)
	}
	if len(scaling) == 0 {
		return q, true, err
	}
	// Base and width stand in rope_parameters alone once version 5 has saved the model.
	if p.Theta == nil {
		p.Theta = q.Theta
	}
	if p.Partial == nil {
		p.Partial = q.Partial
	}
	return p, true, err
}

// scale computes row 0, and for longrope the rung beyond L (transformers, modeling_rope_utils.py).
func (r *Rope) scale(p params) (err error) {
	L := r.Rope.OriginalContextLength
	r.Base = r.Rope.Identity(L)
	factor := 1.0
	if p.Factor != nil {
		factor = *p.Factor
	}
	if !(factor > 0) || math.IsInf(factor, 0) {
		return fmt.Errorf("factor is %g, want a positive number", factor)
	}
	orig := r.Rope
	if p.Original != nil {
		orig.OriginalContextLength = *p.Original
	}
	switch r.Kind {
	case "default", "dynamic": // dynamic does nothing up to max_position_embeddings, which is L
	case "linear":
		for i := range r.Base.Factors {
			r.Base.Factors[i] = factor
		}
	case "llama3":
		r.Base, err = ropescale.Llama3(r.Rope, ropescale.Llama3Params{
			Factor: factor, LowFreqFactor: p.LowFreqFactor,
			HighFreqFactor: p.HighFreqFactor, OriginalContextLength: orig.OriginalContextLength,
		})
	case "yarn":
		if p.Factor == nil { // transformers: max_position_embeddings over the original length
			factor = float64(r.Context) / float64(orig.OriginalContextLength)
		}
		r.Factor, r.Original = factor, orig.OriginalContextLength
		o := ropescale.MethodOptions{
			BetaFast: p.BetaFast, BetaSlow: p.BetaSlow,
			ExactRamp: p.Truncate != nil && !*p.Truncate, Scale: factor,
		}
		switch {
		case p.AttentionFactor != nil:
			o.AttentionFactor = *p.AttentionFactor
		case p.Mscale != 0 && p.MscaleAllDim != 0 && factor > 1:
			ln := math.Log(factor)
			o.AttentionFactor = (0.1*p.Mscale*ln + 1) / (0.1*p.MscaleAllDim*ln + 1)
		}
		if r.Base, err = ropescale.YaRN(orig,
			int(math.Ceil(factor*float64(orig.OriginalContextLength))), o); err == nil {
			r.Base.Length = L
		}
	case "longrope":
		return r.longrope(p)
	default:
		r.Known, r.unknown = false, true
	}
	return err
}

// longrope reads short_factor and long_factor (_compute_longrope_parameters). short_mscale and
// long_mscale are Phi-3.5 MoE's own and vLLM's; the others have one attention factor for all
// lengths.
func (r *Rope) longrope(p params) error {
	L := r.Rope.OriginalContextLength
	switch {
	case L > r.Context:
		return fmt.Errorf("original_max_position_embeddings is %d, max_position_embeddings %d; "+
			"the latter is the longer one", L, r.Context)
	case len(p.ShortFactor) != r.Rope.Pairs() || len(p.LongFactor) != r.Rope.Pairs():
		return fmt.Errorf("%d numbers in short_factor and %d in long_factor, the model rotates %d "+
			"pairs", len(p.ShortFactor), len(p.LongFactor), r.Rope.Pairs())
	}
	r.attention = ropescale.LongRoPEAttentionFactor(r.Context, L)
	if p.Factor != nil && *p.Factor > 0 {
		r.attention = 1
		if *p.Factor > 1 {
			r.attention = math.Sqrt(1 + math.Log(*p.Factor)/math.Log(float64(L)))
		}
	}
	if p.AttentionFactor != nil {
		r.attention = *p.AttentionFactor
	}
	r.Base = ropescale.Rung{Length: L, AttentionFactor: r.attention, Factors: p.ShortFactor}
	long := ropescale.Rung{Length: r.Context, AttentionFactor: r.attention, Factors: p.LongFactor}
	if p.ShortMscale != nil && p.LongMscale != nil {
		r.Base.AttentionFactor, long.AttentionFactor = *p.ShortMscale, *p.LongMscale
	}
	if _, err := ropescale.NewLadder(r.Rope, &r.Base, long); err != nil {
		return err
	}
	if r.Context > L {
		r.Long = &long
	}
	return nil
}

// RefuseUnknown is an error for a rope type that this program does not know.
func (c *Checkpoint) RefuseUnknown() error {
	if !c.Rope.unknown {
		return nil
	}
	return fmt.Errorf("%s: rope type %q is not known to this program, so it cannot say what the "+
		"model was trained with; known are default, linear, dynamic, yarn, llama3 and longrope",
		c.config.path, c.Rope.Kind)
}

// Scaling is the name that a GGUF of the same model gets.
func (r *Rope) Scaling() string {
	switch {
	case r.Kind == "default":
		return ""
	case r.Kind == "llama3":
		return "rope_freqs"
	}
	return r.Kind
}

// asRun is what transformers computes for a longrope config: no start window, one long rung, and
// one attention factor for every length. nil for the others, whose RoPE is row 0 alone.
func (r *Rope) asRun() *ropescale.Ladder {
	if r.Long == nil {
		return nil
	}
	short, long := r.Base, *r.Long
	if !r.perLength {
		short.AttentionFactor, long.AttentionFactor = r.attention, r.attention
	}
	l, err := ropescale.NewLadder(r.Rope, nil, short, long)
	if err != nil {
		return nil // short and long were checked when they were read
	}
	return l
}

// localRoPEModels are the model_types of transformers of that kind, whatever their config.json
// says.
var localRoPEModels = []string{"cohere2", "llama4", "llama4_text"}
