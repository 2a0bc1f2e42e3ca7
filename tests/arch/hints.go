package arch

import (
	"fmt"
	"maps"
	"strings"
)

// defaults are values of metadata that a loader asks for, by the end of the key.
var defaults = map[string]any{
	"attention.layer_norm_rms_epsilon":       float32(1e-5),
	"attention.layer_norm_epsilon":           float32(1e-5),
	"attention.group_norm_epsilon":           float32(1e-5),
	"attention.group_norm_groups":            uint32(4),
	"attention.causal":                       false,
	"attention.sliding_window":               uint32(8),
	"attention.q_lora_rank":                  uint32(24),
	"attention.kv_lora_rank":                 uint32(24),
	"attention.clamp_kqv":                    float32(8),
	"attention.max_alibi_bias":               float32(8),
	"attention.relative_buckets_count":       uint32(8),
	"attention.decay_lora_rank":              uint32(8),
	"attention.iclr_lora_rank":               uint32(8),
	"attention.value_residual_mix_lora_rank": uint32(8),
	"pooling_type":                           uint32(0),
	"moe_every_n_layers":                     uint32(2),
	"rope.dimension_sections":                []int32{3, 3, 2, 0},
	"expert_count":                           uint32(4),
	"expert_used_count":                      uint32(2),
	"expert_shared_count":                    uint32(1),
	"expert_feed_forward_length":             uint32(32),
	"expert_shared_feed_forward_length":      uint32(32),
	"expert_chunk_feed_forward_length":       uint32(32),
	"expert_weights_scale":                   float32(1),
	"expert_weights_norm":                    true,
	"expert_gating_func":                     uint32(2),
	"expert_group_scale":                     float32(1),
	"experts_per_group":                      uint32(2),
	"leading_dense_block_count":              uint32(1),
	"interleave_moe_layer_step":              uint32(2),
	"use_parallel_residual":                  true,
	"logit_scale":                            float32(1),
	"residual_scale":                         float32(1),
	"embedding_scale":                        float32(1),
	"attention.scale":                        float32(0.25),
	"ssm.conv_kernel":                        uint32(4),
	"ssm.inner_size":                         uint32(128),
	"ssm.state_size":                         uint32(16),
	"ssm.time_step_rank":                     uint32(8),
	"ssm.group_count":                        uint32(1),
	"wkv.head_size":                          uint32(16),
	"time_mix_extra_dim":                     uint32(8),
	"time_decay_extra_dim":                   uint32(8),
	"shortconv.l_cache":                      uint32(3),
	"features_length":                        uint32(64),
	"posnet.embedding_length":                uint32(64),
	"posnet.block_count":                     uint32(6),
	"convnext.embedding_length":              uint32(64),
	"convnext.block_count":                   uint32(2),
	"swin_norm":                              false,
	"xielu.alpha_n":                          float32(0.8),
	"xielu.alpha_p":                          float32(0.8),
	"xielu.beta":                             float32(0.5),
	"xielu.eps":                              float32(-1e-6),
}

// Hint is what discovery cannot find out about an architecture.
type Hint struct {
	KV map[string]any // metadata, keys without the architecture
	// tensors that the loader can do without and the graph cannot; %d stands for each layer
	Add []string
	Go  map[string]any // metadata that the Go engine reads under another name
	// tensors that the Go engine wants in addition, %d stands for each layer; nil: it wants none of
	// that name
	GoAdd map[string][]int
	Alias string // a tensor that the Go engine reads with .weight at the end of its name
	// the architecture, of the llama.cpp engine, that one of the Go engine alone is like
	Like   string
	Hidden bool // it is an encoder: it gives hidden states and no logits
	// layers with RoPE are local, though the window, which the host sets, is too wide to be seen
	Wide  bool
	Scale bool // the host's frequency scale changes more than frequencies
	// row 0 is what the Go engine makes of the file, which is not what the other one does
	GoOwn  bool
	NoRoPE bool // by the host's own list; the model is loaded and not run
}

const freqBase = 50000

// Layers and other sizes that tiny models have unless a hint says otherwise. 6 layers let every
// pattern of local layers show itself.
func base(arch string) map[string]any {
	kv := map[string]any{"general.architecture": arch, "tokenizer.ggml.model": "none"}
	for key, v := range map[string]any{
		"vocab_size": uint32(128), "context_length": uint32(Original),
		"embedding_length": uint32(64), "block_count": uint32(6),
		"feed_forward_length": uint32(96), "attention.head_count": uint32(4),
		"attention.head_count_kv": uint32(2),
		"rope.freq_base":          float32(freqBase), "attention.sliding_window": uint32(8),
		"attention.layer_norm_rms_epsilon": float32(1e-5),
	} {
		kv[arch+"."+key] = v
	}
	kv["tokenizer.ggml.token_type_count"] = uint32(2)
	return kv
}

// Start is what a model of the architecture has before the loader was asked.
func (h Hint) Start(arch string) (map[string]any, map[string][]int) {
	kv := base(arch)
	set(kv, arch, h.KV)
	tensors := map[string][]int{}
	for _, name := range h.Add {
		for _, name := range perLayer(name, kv[arch+".block_count"].(uint32)) {
			tensors[name] = []int{1}
		}
	}
	return kv, tensors
}

// perLayer are the names that stand for a name with %d in place of the layer.
func perLayer(name string, layers uint32) (names []string) {
	if !strings.Contains(name, "%d") {
		return []string{name}
	}
	for i := range layers {
		names = append(names, fmt.Sprintf(name, i))
	}
	return names
}

// set adds metadata whose keys lack the architecture.
func set(all map[string]any, arch string, kv map[string]any) {
	for key, v := range kv {
		if !strings.HasPrefix(key, "tokenizer.") {
			key = arch + "." + key
		}
		all[key] = v
	}
}

type (
	kv     = map[string]any
	shapes = map[string][]int
)

// with is several sets, of metadata or of tensors, as one.
func with[V any](sets ...map[string]V) map[string]V {
	all := map[string]V{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}

var (
	moe = kv{
		"expert_count":               uint32(4),
		"expert_used_count":          uint32(2),
		"expert_feed_forward_length": uint32(32),
	}
	partial = kv{"rope.dimension_count": uint32(8)} // of 16
	heads   = kv{
		"attention.key_length":   uint32(16),
		"attention.value_length": uint32(16),
		"rope.dimension_count":   uint32(16),
	}
	yarn = kv{
		"rope.scaling.type":                    "yarn",
		"rope.scaling.factor":                  float32(3),
		"rope.scaling.original_context_length": uint32(512),
	}
	last    = kv{"pooling_type": uint32(3)}
	sigmoid = kv{"expert_gating_func": uint32(2)}
	mha     = kv{"attention.head_count_kv": uint32(4)}
	// two kinds of layers, distinguished by their key heads; the first has attention
	hybrid = kv{"attention.head_count_kv": []uint32{2, 0, 2, 0, 2, 0}}
	// keys of 16 elements as they are and 8 that are rotated
	mla = kv{
		"rope.dimension_count":    uint32(8),
		"attention.key_length":    uint32(24),
		"attention.value_length":  uint32(16),
		"attention.head_count_kv": uint32(4),
	}
	// linear attention: of the Go engine, with a tensor for each of what the llama.cpp engine has
	// in one; of qwen35
	delta = shapes{
		"blk.%d.attn_qkv.weight":  {64, 160},
		"blk.%d.attn_gate.weight": {64, 128},
		"blk.%d.ssm_dt":           {8},
	}
	delta35 = with(
		delta,
		shapes{
			"blk.%d.ssm_ba.weight":    nil,
			"blk.%d.ssm_beta.weight":  {64, 8},
			"blk.%d.ssm_alpha.weight": {64, 8},
		},
	)
	qwen35 = kv{
		"attention.head_count_kv": []uint32{0, 0, 0, 2, 0, 0, 0, 2},
		"rope.dimension_sections": []int32{2, 1, 1},
		"rope.mrope_interleaved":  true,
	}
	chunks = kv{
		"attention.head_dim":   uint32(16),
		"rope.dimension_count": uint32(16),
		"attention.chunk_size": uint32(8),
	}
	mamba = kv{
		"ssm.conv_kernel":    uint32(4),
		"ssm.inner_size":     uint32(128),
		"ssm.state_size":     uint32(16),
		"ssm.time_step_rank": uint32(8),
		"ssm.group_count":    uint32(1),
	}
	fused   = []string{"blk.%d.attn_qkv.weight"}
	biases  = []string{"blk.%d.attn_q.bias", "blk.%d.attn_k.bias", "blk.%d.attn_v.bias"}
	learned = kv{"context_length": uint32(128)} // positions are looked up in a table
)

// Hints by architecture, or architecture and variant: "exaone4, sliding windows".
var Hints = map[string]Hint{
	"llama4":     {KV: with(moe, kv{"block_count": uint32(8)}), Wide: true, Go: chunks},
	"grok":       {KV: moe},
	"gptneox":    {KV: partial},
	"stablelm":   {KV: partial},
	"phi2":       {KV: partial},
	"phi3":       {KV: partial, Add: fused},
	"phimoe":     {KV: with(moe, partial)},
	"qwen2moe":   {KV: moe},
	"qwen3moe":   {KV: moe},
	"qwen3vlmoe": {KV: moe, Go: with(heads, kv{"mrope_sections": []int32{3, 3, 2}})},
	"qwen3next": {
		KV: with(moe, partial,
			kv{"block_count": uint32(8), "expert_shared_feed_forward_length": uint32(32)}),
		Go:    kv{"attention.head_count_kv": []uint32{0, 0, 0, 2, 0, 0, 0, 2}},
		GoAdd: delta,
	},
	"dbrx":     {KV: moe},
	"olmoe":    {KV: with(moe, mha)},
	"arctic":   {KV: moe},
	"deepseek": {KV: moe},
	"deepseek2": {
		KV:    with(moe, mla, sigmoid),
		Scale: true,
		Go:    kv{"tokenizer.ggml.pre": "deepseek-v3", "rope.scaling.factor": float32(1)},
	},
	"chatglm":    {KV: partial},
	"glm4":       {KV: partial},
	"glm4moe":    {KV: with(moe, partial)},
	"granitemoe": {KV: moe},
	"granitehybrid": {
		KV:  hybrid,
		Add: []string{"blk.1.ssm_conv1d.bias", "blk.3.ssm_conv1d.bias", "blk.5.ssm_conv1d.bias"},
	},
	"bailingmoe":   {KV: moe},
	"bailingmoe2":  {KV: with(moe, partial)},
	"dots1":        {KV: with(moe, mha, sigmoid)},
	"afmoe":        {KV: moe},
	"ernie4_5-moe": {KV: moe},
	"hunyuan-moe":  {KV: moe},
	"gpt-oss": {
		KV: with(moe, heads),
		Go: kv{"rope.scaling.original_context_length": uint32(Original)},
	},
	"lfm2":         {KV: hybrid, Alias: "output_norm"},
	"lfm2moe":      {KV: with(moe, hybrid)},
	"smallthinker": {KV: with(moe, sigmoid), Wide: true},
	"llada-moe":    {KV: moe},
	"grovemoe":     {KV: moe},
	"minimax-m2":   {KV: with(moe, sigmoid)},
	"rnd1":         {KV: moe},
	"nemotron_h": {
		KV: with(
			hybrid,
			mamba,
			kv{
				"feed_forward_length":        []uint32{0, 0, 96, 0, 0, 96},
				"expert_feed_forward_length": uint32(32),
				"expert_used_count":          uint32(0),
			},
		),
		NoRoPE: true,
	},
	"nemotron_h_moe": {
		KV: with(
			moe,
			hybrid,
			mamba,
			kv{
				"feed_forward_length":               []uint32{0, 0, 96, 0, 0, 96},
				"expert_shared_feed_forward_length": uint32(32),
			},
		),
		NoRoPE: true,
	},
	"jamba":    {KV: hybrid},
	"plamo2":   {KV: with(hybrid, kv{"ssm.group_count": uint32(0)})},
	"minicpm3": {KV: mla},
	"plm":      {KV: mla},
	"bert": {
		KV:     with(learned, mha),
		Hidden: true,
		Add:    []string{"token_types.weight"},
		Go:     last,
	},
	"nomic-bert": {
		Hidden: true,
		KV:     mha,
		Add:    append(fused, "token_types.weight"),
		Go:     last,
	},
	"nomic-bert-moe": {
		Hidden: true,
		KV:     with(moe, mha, kv{"moe_every_n_layers": uint32(2)}),
		Add:    append(fused, "token_types.weight"),
		Go:     last,
	},
	"neo-bert":        {Hidden: true},
	"jina-bert-v2":    {Hidden: true},
	"jina-bert-v3":    {Hidden: true, Add: fused},
	"gemma-embedding": {Hidden: true},
	"t5":              {KV: mha, NoRoPE: true},
	"t5encoder":       {KV: mha, NoRoPE: true},
	"llama4, no windows": {
		KV: with(moe, kv{"attention.sliding_window": uint32(0)}),
		Go: chunks,
	},
	"gpt2":                     {KV: learned},
	"starcoder":                {KV: learned},
	"baichuan":                 {KV: kv{"block_count": uint32(32)}},
	"baichuan, 13B":            {KV: kv{"block_count": uint32(40)}},
	"exaone4, 32B":             {KV: kv{"block_count": uint32(64)}},
	"qwen2vl":                  {Add: biases},
	"dream":                    {Add: biases},
	"solar":                    {Add: []string{"output.weight"}},
	"falcon-h1":                {Add: []string{"blk.%d.ssm_conv1d.bias"}},
	"granite, without RoPE":    {KV: kv{"rope.scaling.finetuned": false}},
	"rwkv6":                    {Add: []string{"blk.%d.time_mix_lerp_fused.weight"}, NoRoPE: true},
	"rwkv6qwen2":               {NoRoPE: true},
	"rwkv7":                    {KV: kv{"attention.gate_lora_rank": uint32(8)}, NoRoPE: true},
	"arwkv7":                   {NoRoPE: true},
	"wavtokenizer-dec":         {NoRoPE: true},
	"smallthinker, no windows": {KV: with(moe, sigmoid, kv{"attention.sliding_window": uint32(0)})},
	"cogvlm":                   {KV: kv{"rope.freq_base": float32(10000)}}, // the only one it has
	"deepseek2, absorbed": {
		KV: with(
			moe,
			mla,
			sigmoid,
			kv{
				"attention.head_count_kv":    uint32(1),
				"attention.key_length":       uint32(32),
				"attention.value_length":     uint32(24),
				"attention.key_length_mla":   uint32(24),
				"attention.value_length_mla": uint32(16),
			},
		),
		Scale: true,
		Go:    kv{"tokenizer.ggml.pre": "deepseek-v3", "rope.scaling.factor": float32(1)},
	},
	"glm4, M-RoPE": {KV: with(partial, kv{"rope.dimension_sections": []int32{2, 1, 1, 0}})},
	"glm4moe, M-RoPE": {
		KV: with(moe, partial, kv{"rope.dimension_sections": []int32{2, 1, 1, 0}}),
	},
	"gemma3, no windows": {KV: with(heads, kv{"attention.sliding_window": uint32(0)})},
	"chameleon":          {KV: kv{"vocab_size": uint32(8200)}},
	"gemma2": {
		KV: with(heads,
			kv{"attn_logit_softcapping": float32(50), "final_logit_softcapping": float32(30)}),
	},
	"gemma3": {KV: heads},
	"gemma3n": {
		KV: heads,
		Go: kv{
			"embedding_length_per_layer_input": uint32(256),
			"altup.num_inputs":                 uint32(4),
			"attention.sliding_window_pattern": []bool{true, true, true, true, false, true},
			"activation_sparsity_scale": []float32{
				1.6448533,
				1.6448533,
				1.6448533,
				1.6448533,
				1.6448533,
				1.6448533,
			},
		},
	},
	"mistral3": {KV: heads},
	"qwen3vl":  {Go: with(heads, kv{"mrope_sections": []int32{3, 3, 2}})},
	"olmo3": {
		Like: "olmo2",
		KV:   heads,
		Go:   kv{"attention.sliding_window_pattern": []bool{true, true, true, false, true, true}},
	},
	"gptoss": {
		Like: "gpt-oss",
		KV:   with(moe, heads),
		Go:   kv{"rope.scaling.original_context_length": uint32(Original)},
	},
	"qwen25vl": {
		Like: "qwen2vl",
		KV:   heads,
		Add:  biases,
		Go:   kv{"rope.mrope_section": []int32{3, 3, 2}},
	},
	"glm4moelite": {
		Like: "deepseek2",
		Go: kv{
			"tokenizer.ggml.pre":     "glm4",
			"attention.key_length":   uint32(24),
			"attention.value_length": uint32(16),
		},
		KV: with(
			moe,
			mla,
			sigmoid,
			kv{
				"attention.head_count_kv":    uint32(1),
				"attention.key_length":       uint32(32),
				"attention.value_length":     uint32(24),
				"attention.key_length_mla":   uint32(24),
				"attention.value_length_mla": uint32(16),
			},
		),
	},
	"qwen35": {
		Like: "qwen3next",
		KV: with(moe, partial,
			kv{"block_count": uint32(8), "expert_shared_feed_forward_length": uint32(32)}),
		Go: with(qwen35, kv{"expert_count": uint32(0)}),
		GoAdd: with(
			delta35,
			shapes{
				"blk.%d.ffn_gate.weight": {64, 96},
				"blk.%d.ffn_up.weight":   {64, 96},
				"blk.%d.ffn_down.weight": {96, 64},
			},
		),
	},
	"qwen35moe": {
		Like: "qwen3next",
		KV: with(moe, partial,
			kv{"block_count": uint32(8), "expert_shared_feed_forward_length": uint32(32)}),
		Go:    qwen35,
		GoAdd: delta35,
	},
	"deepseekocr": {Like: "deepseek", KV: moe, GoAdd: shapes{"output.weight": {64, 128}}},
	"glmocr": {
		Like: "qwen2vl",
		KV:   heads,
		Add:  biases,
		Go:   kv{"rope.mrope_section": []int32{3, 3, 2}},
		GoAdd: shapes{
			"blk.%d.attn_out.weight":       {64, 64},
			"blk.%d.post_attn_norm.weight": {64},
			"blk.%d.post_ffn_norm.weight":  {64},
		},
	},
	"mllama": {
		Like:  "llama",
		KV:    heads,
		Go:    kv{"attention.cross_attention_layers": []int32{2}},
		GoAdd: shapes{"output.weight": {64, 128}},
	},
	"llama, YaRN": {KV: yarn, Scale: true},
	"olmo2, YaRN": {KV: yarn, Scale: true},
	"mistral3, YaRN": {
		KV:    with(heads, yarn, kv{"rope.scaling.yarn_log_multiplier": float32(1)}),
		Scale: true,
		Go:    kv{"rope.scaling.mscale": float32(1), "rope.scaling.mscale_all_dim": float32(1)},
	},
	"qwen3, YaRN":   {KV: with(heads, yarn), Scale: true, GoOwn: true},
	"lfm2, YaRN":    {KV: with(hybrid, yarn), Alias: "output_norm", Scale: true, GoOwn: true},
	"gpt-oss, YaRN": {KV: with(moe, heads, yarn), Scale: true},
	"deepseek2, YaRN": {
		KV: with(moe, mla, sigmoid, yarn,
			kv{"rope.scaling.yarn_log_multiplier": float32(0.0707)}),
		Scale: true,
		Go:    kv{"tokenizer.ggml.pre": "deepseek-v3"},
	},
	"gemma3, linear": {
		KV:    with(heads, kv{"rope.scaling.factor": float32(8), "rope.scaling.type": "linear"}),
		Scale: true,
	},
}
