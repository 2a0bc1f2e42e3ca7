package gguf

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/longrope/longrope/ropescale"
)

// ErrNoRoPE: the model has no rotary position embedding, so there is nothing to rescale.
var ErrNoRoPE = errors.New("model has no RoPE")

// The tensors that hosts read factors from, each a vector of d/2 F32.
const (
	TensorRopeFreqs = "rope_freqs.weight"
	TensorRopeLong  = "rope_factors_long.weight"
	TensorRopeShort = "rope_factors_short.weight"
)

// withoutRoPE are the architectures for which llama_model_rope_type says NONE (llama-model.cpp of
// ollama v0.17.4).
var withoutRoPE = []string{
	"clip", "gpt2", "gptj", "mpt", "refact", "bloom", "mamba", "mamba2", "jamba", "jina-bert-v2",
	"t5", "t5encoder",
	"jais", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7", "wavtokenizer-dec", "nemotron_h",
	"nemotron_h_moe",
}

// Own is a model's RoPE as it was trained, read from its file.
type Own struct {
	Arch    string
	Rope    ropescale.Rope // d, b, L
	Context int            // ARCH.context_length
	Scaling string         // "", rope_freqs, linear, yarn, longrope
	Base    ropescale.Rung // row 0, of length L
	// host is row 0 as the keys and tensors alone say it that an unpatched host reads. It differs
	// from base where the file has a row 0 of its own.
	Host ropescale.Rung
	// long is the rung of a file that came with long factors, as Phi-3 128k does.
	Long *ropescale.Rung
}

// ReadOwn reads what llama.cpp's load_hparams and llama_context's constructor read (ollama
// v0.17.4), except a ladder.
func ReadOwn(f *File) (*Own, error) {
	o := new(Own)
	var err error
	if o.Arch, _, err = f.String("general.architecture"); err != nil {
		return nil, err
	}
	if o.Arch == "" {
		return nil, fmt.Errorf("%s: no key general.architecture: not a model file", f.Path)
	}
	if kind, _, err := f.String("general.type"); err != nil || (kind != "" && kind != "model") {
		if err == nil {
			err = fmt.Errorf("%s: general.type is %q, a ladder goes into the model itself", f.Path,
				kind)
		}
		return nil, err
	}
	if err := o.readDims(f); err != nil {
		return nil, err
	}
	if o.Context, err = f.Need(o.Arch + ".context_length"); err != nil {
		return nil, err
	}
	if o.Rope.FreqBase, err = f.floatOr(o.Arch+".rope.freq_base", 10000); err != nil {
		return nil, err
	}
	if err := o.readScaling(f); err != nil {
		return nil, err
	}
	o.Host = o.Base
	row, scaling, err := readRow0(f, o.Arch)
	if err != nil || row == nil {
		return o, err
	}
	if len(row.Factors) != o.Rope.Pairs() {
		return nil, fmt.Errorf("%s: %s: %d factors, the model rotates %d pairs", f.Path,
			LadderKey(o.Arch, "factors"), len(row.Factors), o.Rope.Pairs())
	}
	o.Base, o.Scaling = *row, scaling
	o.Base.Length = o.Rope.OriginalContextLength
	return o, nil
}

func (o *Own) readDims(f *File) error {
	key := func(name string) string { return o.Arch + "." + name }
	_, learned := f.Tensor("position_embd.weight")
	if learned || slices.Contains(withoutRoPE, o.Arch) {
		return fmt.Errorf("%s: %w: architecture %s gives tokens positions in another way, or none",
			f.Path,
			ErrNoRoPE, o.Arch)
	}
	hasRope := slices.ContainsFunc(f.KVs, func(kv KV) bool {
		return strings.HasPrefix(kv.Key,
			key("rope."))
	})
	if !hasRope && o.Arch != "falcon" { // falcon files have none of the keys
		return fmt.Errorf("%s: %w: no key %s", f.Path, ErrNoRoPE, key("rope.*"))
	}
	dims, ok, err := f.Int(key("rope.dimension_count"))
	if err != nil {
		return err
	}
	if !ok {
		if dims, ok, err = f.Int(key("attention.key_length")); err != nil {
			return err
		}
	}
	if !ok {
		width, err := f.Need(key("embedding_length"))
		if err != nil {
			return err
		}
		heads, err := f.Most(key("attention.head_count"))
		if err != nil {
			return err
		}
		if heads == 0 {
			return fmt.Errorf("%s: %w: %s is missing or 0", f.Path, ErrNoRoPE,
				key("attention.head_count"))
		}
		dims = width / heads
	}
	if dims < 2 || dims%2 != 0 {
		return fmt.Errorf("%s: %w: it rotates %d dimensions of a head (%s)", f.Path, ErrNoRoPE,
			dims, key("rope.dimension_count"))
	}
	o.Rope.Dims = dims
	return nil
}

// fileScaling is what the keys of a file say about scaling.
type fileScaling struct {
	kind     string
	factor   float64 // 0: none
	attn     float64 // rope.scaling.attn_factor
	original int     // 0: the file does not say
}

func (o *Own) scalingKeys(f *File) (s fileScaling, err error) {
	key := func(name string) string { return o.Arch + ".rope." + name }
	if s.kind, _, err = f.String(key("scaling.type")); err != nil {
		return s, err
	}
	var found bool
	if s.factor, found, err = f.Float(key("scaling.factor")); err == nil && !found {
		s.factor, _, err = f.Float(key("scale_linear"))
	}
	if err != nil {
		return s, err
	}
	if o.Arch == "gemma3" && s.factor == 0 {
		if s.factor, err = f.gemma3Factor(); err != nil {
			return s, err
		}
	}
	if s.factor < 0 {
		return s, fmt.Errorf("%s: %s is %g, want a positive number", f.Path,
			key("scaling.factor"), s.factor)
	}
	if s.attn, err = f.floatOr(key("scaling.attn_factor"), 1); err != nil {
		return s, err
	}
	if s.original, _, err = f.Int(key("scaling.original_context_length")); err != nil {
		return s, err
	}
	if s.kind == "" && (o.Arch == "gptoss" || o.Arch == "gpt-oss") {
		// the host's engine for it knows nothing else, and its converter writes no type
		s.kind = "yarn"
	}
	return s, nil
}

// readScaling finds L and row 0.
func (o *Own) readScaling(f *File) error {
	s, err := o.scalingKeys(f)
	if err != nil {
		return err
	}
	// A model that was extended in training was trained for the extended length. Only a model with
	// a short and a long set of factors has an L below its context length: its short set serves up
	// to there.
	o.Rope.OriginalContextLength = o.Context
	p := ropescale.OpParams{FreqScale: 1, AttnFactor: s.attn, OriginalContextLength: o.Context}
	if s.original > 0 {
		p.OriginalContextLength = s.original
	}
	switch s.kind {
	case "none":
	// the names after linear are Hugging Face's
	case "", "linear", "longrope", "default", "mrope", "llama3", "su":
		if s.factor != 0 {
			p.FreqScale = 1 / s.factor
		}
		if p.FreqScale != 1 {
			o.Scaling = "linear"
		}
	case "yarn":
		o.Scaling = "yarn"
		if s.factor != 0 {
			p.FreqScale = 1 / s.factor
		}
		if err := o.readYaRN(f, &p, s.attn); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s: %s is %q; none, linear, yarn and longrope are known", f.Path,
			o.Arch+".rope.scaling.type", s.kind)
	}
	return o.readFactors(f, p, s.original)
}

// readFactors takes the tensors of factors into row 0, and into a long rung where there are two.
func (o *Own) readFactors(f *File, p ropescale.OpParams, original int) error {
	var sets [3][]float32
	for i, name := range []string{TensorRopeFreqs, TensorRopeShort, TensorRopeLong} {
		var err error
		if sets[i], err = f.Factors(name, o.Rope.Pairs()); err != nil {
			return err
		}
	}
	freqs, short, long := sets[0], sets[1], sets[2]
	switch {
	case freqs != nil: // get_rope_factors: they win over short and long ones
		p.FreqFactors = freqs
		if o.Scaling == "" {
			o.Scaling = "rope_freqs"
		}
	case short != nil || long != nil:
		o.Scaling = "longrope"
		if original > 0 && original < o.Context {
			o.Rope.OriginalContextLength = original
		}
		p.FreqFactors = short
	}
	var err error
	if o.Base, err = ropescale.Own(o.Rope, p); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if o.Scaling == "longrope" && long != nil && o.Context > o.Rope.OriginalContextLength {
		p.FreqFactors = long
		g, err := ropescale.Own(o.Rope, p)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		g.Length = o.Context
		o.Long = &g
	}
	return nil
}

// gemma3Factor is the linear factor of Gemma 3 models whose files say nothing of it: those of 4, 12
// and 27 billion parameters were trained with 8 in their global layers, and the host's Go engine
// knows them by their number of blocks.
func (f *File) gemma3Factor() (float64, error) {
	blocks, _, err := f.Int("gemma3.block_count")
	if err != nil {
		return 0, err
	}
	window, _, err := f.Int("gemma3.attention.sliding_window")
	if err != nil {
		return 0, err
	}
	context, _, err := f.Int("gemma3.context_length")
	if err != nil {
		return 0, err
	}
	if window < context && (blocks == 34 || blocks == 48 || blocks == 62) {
		return 8, nil
	}
	return 0, nil
}

// cancelled are architectures whose YaRN has no attention factor in the host's Go engine, which
// alone runs them.
var cancelled = []string{
	"gemma3", "lfm2", "lfm2moe", "qwen3", "qwen3moe", "qwen3next", "qwen35",
	"qwen35moe",
}

func (o *Own) readYaRN(f *File, p *ropescale.OpParams, attn float64) (err error) {
	// the host's converter for mistral3 and gemma3 leaves yarn_ out
	number := func(name string, def float64) float64 {
		for _, key := range []string{name, "yarn_" + name} {
			if err == nil {
				def, err = f.floatOr(o.Arch+".rope.scaling."+key, def)
			}
		}
		return def
	}
	p.ExtFactor = number("ext_factor", number("extrapolation_factor", 1))
	p.BetaFast = number("beta_fast", map[bool]float64{true: 64, false: 32}[o.Arch == "gemma3"])
	p.BetaSlow = number("beta_slow", 1)
	logMul := number("log_multiplier", 0)
	if number("mscale", 0) != 0 && number("mscale_all_dim", 0) != 0 ||
		slices.Contains(cancelled, o.Arch) {
		logMul = 1 // of mistral3: numerator and denominator are taken to be the same, as below
	}
	if o.Arch == "deepseek2" && logMul != 0 {
		// whatever it is: for this architecture the host takes the numerator to be the same
		logMul = 1
	}
	p.AttnFactor = ropescale.HostAttnFactor(attn, p.FreqScale, p.ExtFactor, logMul)
	return err
}

// rowTolerance is what float32 arithmetic leaves of a factor, as a share of it.
const rowTolerance = 1e-5

// RowsClose says that two forms of row 0 are the same.
func RowsClose(a, b ropescale.Rung) bool {
	same := func(x, y float64) bool { return math.Abs(x-y) <= rowTolerance*math.Abs(y) }
	return same(a.AttentionFactor, b.AttentionFactor) &&
		slices.EqualFunc(a.Factors, b.Factors, same)
}

// Identity says that row 0 is plain RoPE.
func (o *Own) Identity() bool {
	return o.Base.AttentionFactor == 1 &&
		!slices.ContainsFunc(o.Base.Factors, func(x float64) bool { return x != 1 })
}

// Factors reads a tensor of factors; nil when there is none.
func (f *File) Factors(name string, pairs int) ([]float32, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, nil
	}
	if n := t.Elements(); n != uint64(pairs) {
		return nil, fmt.Errorf("%s: tensor %q has %d factors, the model rotates %d pairs", f.Path,
			name, n, pairs)
	}
	xs, err := f.tensorFloats(t)
	if err != nil {
		return nil, err
	}
	ys := make([]float32, len(xs))
	for i, x := range xs {
		if !(x > 0) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("%s: tensor %q: factor %d is %g, want a positive finite number",
				f.Path, name, i, x)
		}
		ys[i] = float32(x)
	}
	return ys, nil
}

// Need reads an integer that must be there and positive.
func (f *File) Need(key string) (int, error) {
	n, ok, err := f.Int(key)
	if err == nil && (!ok || n == 0) {
		err = fmt.Errorf("%s: %w %s, or it is 0: not a complete model file", f.Path, errNoKey, key)
	}
	return n, err
}

func (f *File) floatOr(key string, def float64) (float64, error) {
	x, ok, err := f.Float(key)
	if !ok {
		return def, err
	}
	return x, nil
}

// Most reads an integer or, where layers differ, the largest of an array of them; 0 when the key is
// missing.
func (f *File) Most(key string) (int, error) {
	kv, ok := f.Lookup(key)
	if !ok || kv.Type != TypeArray {
		n, _, err := f.Int(key)
		return n, err
	}
	xs, _, err := f.Ints(key)
	if err != nil || len(xs) == 0 {
		return 0, err
	}
	return slices.Max(xs), nil
}
