package checkpoints

import (
	"fmt"
	"math"
	"slices"

	"github.com/longrope/longrope/ropescale"
)

// sized are the members of config.json that say a fixture's sizes.
func sized(hidden, heads, kv, layers int) string {
	return fmt.Sprintf(`"hidden_size": %d, "num_attention_heads": %d, "num_key_value_heads": %d,
  "intermediate_size": 64, "num_hidden_layers": %d, "vocab_size": %d`,
		hidden, heads, kv, layers, Vocab)
}

var (
	heads2 = sized(128, 2, 1, 2)
	wide   = sized(256, 2, 1, 2) // heads of 128 without a head_dim
	phi96  = sized(192, 2, 2, 2)
	phi80  = sized(160, 2, 2, 2)
	gemma6 = sized(64, 2, 1, 6)
	olmo4  = sized(256, 2, 1, 4)
	mla    = sized(128, 2, 2, 2) + `, "q_lora_rank": 48, "kv_lora_rank": 32,
  "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 2,
  "n_shared_experts": 1, "num_experts_per_tok": 1, "moe_intermediate_size": 32, "n_group": 1,
  "topk_group": 1, "first_k_dense_replace": 2, "norm_topk_prob": true,
  "routed_scaling_factor": 2.5, "scoring_func": "sigmoid"`
)

const (
	norm = `, "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": false`
	gelu = `, "rms_norm_eps": 1e-06, "hidden_activation": "gelu_pytorch_tanh",
  "tie_word_embeddings": true`
	moe  = `, "num_local_experts": 2, "num_experts_per_tok": 1`
	moe2 = `, "num_local_experts": 2, "num_experts_per_tok": 2`
)

// NoConverter is the way out for an architecture that the host's converter does not know.
const NoConverter = "convert_hf_to_gguf.py"

var phi3Long = ropescale.Rung{
	Length:          131072,
	AttentionFactor: math.Sqrt(1 + math.Log(32)/math.Log(4096)),
	Factors:         slices.Repeat([]float64{2.5}, 48),
}

// Families are the shapes. Names are those of the models that have them.
var Families = []Family{
	{
		Name: "Llama-2-7B", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 4096, "rope_scaling": null`,
		Dims:   128, Theta: 10000, L: 4096,
	},
	{
		Name: "Llama-3.1-8B", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 131072, "rope_theta": 500000.0,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}`,
		Dims: 128, Theta: 500000, L: 131072, Own: llama3(8, 8192),
	},
	{
		Name: "Llama-3.2-1B", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: heads2 + norm,
		Fields: `"head_dim": 64, "max_position_embeddings": 131072, "rope_theta": 500000.0,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}`,
		Dims: 64, Theta: 500000, L: 131072, Own: llama3(32, 8192),
	},
	{
		Name: "Llama-3.2-1B", Spelling: "5", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: heads2 + norm,
		Fields: `"head_dim": 64, "max_position_embeddings": 131072,
    "rope_parameters": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3", "rope_theta": 500000.0}`,
		Dims: 64, Theta: 500000, L: 131072, Own: llama3(32, 8192), Old: "reads no rope_parameters",
	},
	{
		Name: "Minitron-4B-Width", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: heads2 + norm,
		Fields: `"head_dim": 128, "max_position_embeddings": 131072, "rope_theta": 500000.0,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}`,
		Dims: 128, Theta: 500000, L: 131072, Own: llama3(8, 8192),
	},
	{
		Name: "Yarn-Llama-2-7b-64k", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 65536, "rope_scaling": {"factor": 16.0,
    "finetuned": true, "original_max_position_embeddings": 4096, "type": "yarn"}`,
		Dims: 128, Theta: 10000, L: 65536, Own: yarn(16, 4096, 0),
	},
	{
		Name: "vicuna-7b-v1.5-16k", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 4096, "rope_scaling": {"factor": 4.0,
    "type": "linear"}`,
		Dims: 128, Theta: 10000, L: 4096, Own: linear(4),
	},
	{
		Name: "deepseek-coder-6.7b", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 16384, "rope_theta": 100000,
    "rope_scaling": {"factor": 4.0, "type": "linear"}`,
		Dims: 128, Theta: 100000, L: 16384, Own: linear(4),
	},
	{
		Name: "Nous-Hermes dynamic", Spelling: "4", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 4096, "rope_theta": 10000.0,
    "rope_scaling": {"factor": 2.0, "type": "dynamic"}`,
		Dims: 128, Theta: 10000, L: 4096,
	},
	{
		Name: "SmolLM2-135M", Spelling: "5", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: heads2 + norm,
		Fields: `"head_dim": 64, "max_position_embeddings": 8192,
    "rope_parameters": {"rope_theta": 100000, "rope_type": "default"}`,
		Dims: 64, Theta: 100000, L: 8192, Old: "reads no rope_parameters",
	},
	{
		Name: "unknown rope type", Spelling: "5", Layout: "llama", Class: "LlamaForCausalLM",
		Model: "llama", Sizes: heads2 + norm,
		Fields: `"max_position_embeddings": 8192, "rope_parameters": {"rope_theta": 10000.0,
    "rope_type": "spiral", "factor": 4.0}`,
		Dims: 64, Theta: 10000, L: 8192, Refused: `rope type "spiral"`,
		Old: "reads no rope_parameters",
	},

	{
		Name: "Mistral-7B-v0.1", Spelling: "4", Layout: "llama", Class: "MistralForCausalLM",
		Model: "mistral", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 32768, "rope_theta": 10000.0, "sliding_window": null`,
		Dims:   128, Theta: 10000, L: 32768,
	},
	{
		Name: "Mistral-7B-v0.3", Spelling: "4", Layout: "llama", Class: "MistralForCausalLM",
		Model: "mistral", Sizes: wide + norm,
		Fields: `"head_dim": null, "max_position_embeddings": 32768, "rope_theta": 1000000.0,
    "sliding_window": null`,
		Dims: 128, Theta: 1000000, L: 32768,
	},
	{
		Name: "Mistral-Nemo", Spelling: "4", Layout: "llama", Class: "MistralForCausalLM",
		Model: "mistral", Sizes: heads2 + norm,
		Fields: `"head_dim": 128, "max_position_embeddings": 131072, "rope_theta": 1000000.0,
    "sliding_window": null`,
		Dims: 128, Theta: 1000000, L: 131072,
	},
	{
		Name: "Mixtral-8x7B", Spelling: "4", Layout: "mixtral", Class: "MixtralForCausalLM",
		Model: "mixtral", Sizes: wide + norm + moe,
		Fields: `"max_position_embeddings": 32768, "rope_theta": 1000000.0,
    "sliding_window": null`,
		Dims: 128, Theta: 1000000, L: 32768,
	},
	{
		Name: "Mixtral, class defaults", Spelling: "4", Layout: "mixtral",
		Class: "MixtralForCausalLM", Model: "mixtral", Sizes: wide + norm + moe,
		Fields: `"max_position_embeddings": 32768, "sliding_window": null`,
		Dims:   128, Theta: 1000000, L: 32768,
	},

	{
		Name: "Qwen2.5-7B", Spelling: "4", Layout: "qwen2", Class: "Qwen2ForCausalLM",
		Model: "qwen2", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 32768, "rope_theta": 1000000.0`,
		Dims:   128, Theta: 1000000, L: 32768,
	},
	{
		Name: "Qwen2.5-7B YaRN", Spelling: "4", Layout: "qwen2", Class: "Qwen2ForCausalLM",
		Model: "qwen2", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 32768, "rope_theta": 1000000.0,
    "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}`,
		Dims: 128, Theta: 1000000, L: 32768, Own: yarn(4, 32768, 0),
	},
	{
		Name: "Qwen2.5-7B YaRN", Spelling: "5", Layout: "qwen2", Class: "Qwen2ForCausalLM",
		Model: "qwen2", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 131072, "rope_parameters": {"factor": 4.0,
    "original_max_position_embeddings": 32768, "rope_type": "yarn", "rope_theta": 1000000.0}`,
		Dims: 128, Theta: 1000000, L: 131072, Own: yarn(4, 32768, 0),
		Old: "reads no rope_parameters",
	},
	{
		Name: "Qwen3-8B YaRN", Spelling: "4", Layout: "qwen3", Class: "Qwen3ForCausalLM",
		Model: "qwen3", Sizes: heads2 + norm,
		Fields: `"head_dim": 128, "max_position_embeddings": 131072, "rope_theta": 1000000,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
    "original_max_position_embeddings": 32768}`,
		Dims: 128, Theta: 1000000, L: 131072, Own: yarn(4, 32768, 0),
	},
	{
		Name: "SmolLM3, class default", Spelling: "4", Layout: "llama", Class: "SmolLM3ForCausalLM",
		Model: "smollm3", Sizes: olmo4 + norm, // one of the four has no RoPE
		Fields: `"max_position_embeddings": 65536`,
		Dims:   128, Theta: 2000000, L: 65536,
	},
	{
		Name: "Qwen3-0.6B", Spelling: "5", Layout: "qwen3", Class: "Qwen3ForCausalLM",
		Model: "qwen3", Sizes: heads2 + norm,
		Fields: `"head_dim": 128, "max_position_embeddings": 40960,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"}`,
		Dims: 128, Theta: 1000000, L: 40960, Old: "reads no rope_parameters",
	},
	{
		Name: "Qwen3-30B-A3B", Spelling: "4", Layout: "qwen3moe", Class: "Qwen3MoeForCausalLM",
		Model: "qwen3_moe", Sizes: heads2 + norm + `, "num_experts": 2, "num_local_experts": 2,
  "num_experts_per_tok": 1, "moe_intermediate_size": 64, "norm_topk_prob": true,
  "decoder_sparse_step": 1, "mlp_only_layers": []`,
		Fields: `"head_dim": 128, "max_position_embeddings": 40960, "rope_theta": 1000000.0`,
		Dims:   128, Theta: 1000000, L: 40960,
	},
	{
		Name: "OLMo-2-7B", Spelling: "4", Layout: "olmo3", Class: "Olmo2ForCausalLM",
		Model: "olmo2", Sizes: wide + norm,
		Fields: `"max_position_embeddings": 4096, "rope_theta": 500000`,
		Dims:   128, Theta: 500000, L: 4096, OldFolder: "with two fields, `type` and `factor`",
	},
	{
		Name: "Granite-3.1-2b", Spelling: "4", Layout: "llama", Class: "GraniteForCausalLM",
		Model: "granite", Sizes: heads2 + norm,
		Fields: `"max_position_embeddings": 131072, "rope_theta": 5000000.0,
    "attention_multiplier": 0.015625, "embedding_multiplier": 12.0, "logits_scaling": 8.0,
    "residual_multiplier": 0.22`,
		Dims: 64, Theta: 5000000, L: 131072,
	},

	{
		Name: "Phi-3-mini-4k", Spelling: "4", Layout: "phi3", Class: "Phi3ForCausalLM",
		Model: "phi3", Sizes: phi96 + norm,
		Fields: `"max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0, "rope_scaling": null, "sliding_window": 2047`,
		Dims: 96, Theta: 10000, L: 4096,
	},
	{
		Name: "Phi-3-mini-128k", Spelling: "4", Layout: "phi3", Class: "Phi3ForCausalLM",
		Model: "phi3", Sizes: phi96 + norm,
		Fields: `"max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0, "sliding_window": 262144, "rope_scaling": {"type": "longrope",
    "short_factor": ` + list("1.05", 48) + `, "long_factor": ` + list("2.5", 48) + `}`,
		Dims: 96, Theta: 10000, L: 4096, Own: published(1.05, phi3Long.AttentionFactor),
		Long: &phi3Long,
	},
	{
		Name: "Phi-4-mini", Spelling: "4", Layout: "phi3", Class: "Phi3ForCausalLM", Model: "phi3",
		Sizes: wide + norm,
		Fields: `"max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0, "partial_rotary_factor": 0.75, "sliding_window": 262144,
    "rope_scaling": {"type": "longrope", "short_factor": ` + list("1.0", 48) + `, "long_factor": ` + list("2.5", 48) + `
    }`,
		Dims: 96, Theta: 10000, L: 4096, Own: published(1, phi3Long.AttentionFactor),
		Long: &phi3Long,
	},
	{
		Name: "Phi-3 YaRN", Spelling: "5", Layout: "phi3", Class: "Phi3ForCausalLM", Model: "phi3",
		Sizes: phi96 + norm,
		Fields: `"max_position_embeddings": 32768, "original_max_position_embeddings": 4096,
    "sliding_window": 262144, "rope_parameters": {"rope_type": "yarn", "factor": 8.0,
    "original_max_position_embeddings": 4096, "rope_theta": 10000.0,
    "partial_rotary_factor": 1.0}`,
		Dims: 96, Theta: 10000, L: 32768, Own: yarn(8, 4096, 0),
		Unrun: "takes it for longrope, and misses the factors",
	},

	{
		Name: "gemma-2b", Spelling: "4", Layout: "gemma", Class: "GemmaForCausalLM", Model: "gemma",
		Sizes: heads2 + gelu,
		Fields: `"head_dim": 256, "max_position_embeddings": 8192, "rope_theta": 10000.0,
    "hidden_act": "gelu"`,
		Dims: 256, Theta: 10000, L: 8192,
	},
	{
		Name: "gemma-2-2b", Spelling: "4", Layout: "gemma2", Class: "Gemma2ForCausalLM",
		Model: "gemma2", Sizes: heads2 + gelu,
		Fields: `"head_dim": 256, "max_position_embeddings": 8192, "rope_theta": 10000.0,
    "sliding_window": 4096, "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0`,
		Dims: 256, Theta: 10000, L: 8192,
	},
	{
		Name: "gemma-3-1b", Spelling: "4", Layout: "gemma3", Class: "Gemma3ForCausalLM",
		Model: "gemma3_text", Sizes: gemma6 + gelu,
		Fields: `"head_dim": 256, "max_position_embeddings": 32768, "rope_theta": 1000000,
    "rope_local_base_freq": 10000, "rope_scaling": null, "sliding_window": 512,
    "sliding_window_pattern": 6, "query_pre_attn_scalar": 256`,
		Dims: 256, Theta: 1000000, L: 32768,
	},
	{
		Name: "gemma-3 text, linear, class defaults", Spelling: "4", Layout: "gemma3",
		Class: "Gemma3ForCausalLM", Model: "gemma3_text", Sizes: gemma6 + gelu, Head: 256,
		Fields: `"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    "sliding_window_pattern": 6, "query_pre_attn_scalar": 256`,
		Dims: 256, Theta: 1000000, L: 131072, Own: linear(8),
	},
	{
		Name: "gemma-3-1b", Spelling: "5", Layout: "gemma3", Class: "Gemma3ForCausalLM",
		Model: "gemma3_text", Sizes: gemma6 + gelu,
		Fields: `"head_dim": 256, "max_position_embeddings": 32768, "sliding_window": 512,
    "query_pre_attn_scalar": 256, "layer_types": ["sliding_attention", "sliding_attention",
    "sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "rope_parameters": {"full_attention": {"rope_theta": 1000000, "rope_type": "default"},
    "sliding_attention": {"rope_theta": 10000, "rope_type": "default"}}`,
		Dims: 256, Theta: 1000000, L: 32768,
	},
	{
		Name: "Olmo-3-7B", Spelling: "4", Layout: "olmo3", Class: "Olmo3ForCausalLM",
		Model: "olmo3", Sizes: olmo4 + norm,
		Fields: `"max_position_embeddings": 65536, "rope_theta": 500000, "sliding_window": 4096,
    "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention",
    "full_attention"], "rope_scaling": {"attention_factor": 1.2079441541679836,
    "beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
    "original_max_position_embeddings": 8192, "rope_type": "yarn"}`,
		Dims: 128, Theta: 500000, L: 65536, Own: yarn(8, 8192, 1.2079441541679836),
	},
	{
		Name: "c4ai-command-r", Spelling: "4", Layout: "cohere", Class: "CohereForCausalLM",
		Model: "cohere", Sizes: wide,
		Fields: `"max_position_embeddings": 8192, "rope_theta": 8000000.0,
    "layer_norm_eps": 1e-05, "logit_scale": 0.0625, "hidden_act": "silu",
    "model_max_length": 131072`,
		Dims: 128, Theta: 8000000, L: 131072,
	},
	{
		Name: "gpt-oss-20b MXFP4", Spelling: "4", Layout: "gpt_oss mxfp4",
		Class: "GptOssForCausalLM", Model: "gpt_oss", Sizes: heads2 + norm + moe2,
		Fields: `"head_dim": 64, "max_position_embeddings": 131072, "rope_theta": 150000,
    "sliding_window": 128, "attention_bias": true, "layer_types": ["sliding_attention",
    "full_attention"], "experts_per_token": 2, "initial_context_length": 4096, "rope_scaling": {"beta_fast": 32.0,
    "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
    "rope_type": "yarn", "truncate": false}, "quantization_config": {"quant_method": "mxfp4",
    "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
    "model.embed_tokens", "lm_head"]}`,
		Dims: 64, Theta: 150000, L: 131072, Own: exactYarn(32, 4096), Within: 2e-2,
	},
	{
		Name: "gpt-oss-20b", Spelling: "4", Layout: "gpt_oss", Class: "GptOssForCausalLM",
		Model: "gpt_oss", Sizes: heads2 + norm + moe,
		Fields: `"head_dim": 64, "max_position_embeddings": 131072, "rope_theta": 150000,
    "sliding_window": 128, "attention_bias": true, "layer_types": ["sliding_attention",
    "full_attention"], "initial_context_length": 4096, "rope_scaling": {"beta_fast": 32.0,
    "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
    "rope_type": "yarn", "truncate": false}`,
		Dims: 64, Theta: 150000, L: 131072, Own: exactYarn(32, 4096),
		GGUF: "experts of gpt-oss in MXFP4",
	},
	{
		Name: "DeepSeek-V3", Spelling: "4", Layout: "deepseek", Class: "DeepseekV3ForCausalLM",
		Model: "deepseek_v3", Sizes: mla + norm,
		Fields: `"max_position_embeddings": 163840, "rope_theta": 10000,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
    "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"}`,
		Dims: 64, Theta: 10000, L: 163840, Own: yarn(40, 4096, 1),
	},
	{
		Name: "DeepSeek-V3", Spelling: "5", Layout: "deepseek", Class: "DeepseekV3ForCausalLM",
		Model: "deepseek_v3", Sizes: mla + norm,
		Fields: `"max_position_embeddings": 163840, "rope_parameters": {"beta_fast": 32,
    "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096, "rope_type": "yarn", "rope_theta": 10000}`,
		Dims: 64, Theta: 10000, L: 163840, Own: yarn(40, 4096, 1), Old: "reads no rope_parameters",
	},
	{
		Name: "DeepSeek-V3 without scaling", Spelling: "4", Layout: "deepseek",
		Class: "DeepseekV3ForCausalLM", Model: "deepseek_v3", Sizes: mla + norm,
		Fields: `"max_position_embeddings": 4096, "rope_theta": 10000, "rope_scaling": null`,
		Dims:   64, Theta: 10000, L: 4096,
	},
	{
		Name: "DeepSeek-V2", Spelling: "4", Layout: "deepseek", Class: "DeepseekV2ForCausalLM",
		Model: "deepseek_v2", Sizes: mla + norm,
		Fields: `"max_position_embeddings": 163840, "rope_theta": 10000,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
    "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096, "type": "yarn"}`,
		Dims: 64, Theta: 10000, L: 163840, Own: yarn(40, 4096, 1), GGUF: NoConverter,
	},

	{
		Name: "pythia-160m", Spelling: "4", Layout: "gpt_neox", Class: "GPTNeoXForCausalLM",
		Model: "gpt_neox", Sizes: heads2,
		Fields: `"max_position_embeddings": 2048, "rotary_emb_base": 10000, "rotary_pct": 0.25,
    "use_parallel_residual": true, "hidden_act": "gelu", "layer_norm_eps": 1e-05`,
		Dims: 16, Theta: 10000, L: 2048, GGUF: NoConverter,
	},
	{
		Name: "stablelm-2-1_6b", Spelling: "4", Layout: "stablelm", Class: "StableLmForCausalLM",
		Model: "stablelm", Sizes: heads2 + norm,
		Fields: `"max_position_embeddings": 4096, "partial_rotary_factor": 0.25,
    "rope_theta": 10000, "layer_norm_eps": 1e-05`,
		Dims: 16, Theta: 10000, L: 4096, GGUF: NoConverter,
	},
	{
		Name: "stablelm-3b-4e1t", Spelling: "4", Layout: "stablelm", Class: "StableLmForCausalLM",
		Model: "stablelm", Sizes: heads2 + norm,
		Fields: `"max_position_embeddings": 4096, "rope_pct": 0.25, "rope_theta": 10000,
    "layer_norm_eps": 1e-05`,
		Dims: 16, Theta: 10000, L: 4096, GGUF: NoConverter,
	},
	{
		Name: "StableLM, class defaults", Spelling: "4", Layout: "stablelm",
		Class: "StableLmForCausalLM", Model: "stablelm", Sizes: heads2 + norm,
		Fields: `"max_position_embeddings": 4096, "layer_norm_eps": 1e-05`,
		Dims:   16, Theta: 10000, L: 4096, GGUF: NoConverter,
	},
	{
		Name: "GLM-4-9B, class default", Spelling: "4", Layout: "glm4", Class: "Glm4ForCausalLM",
		Model: "glm4", Sizes: heads2 + norm,
		Fields: `"head_dim": 128, "max_position_embeddings": 32768, "rope_theta": 10000.0`,
		Dims:   64, Theta: 10000, L: 32768, GGUF: NoConverter,
	},
	{
		Name: "Nemotron-4-15B", Spelling: "4", Layout: "nemotron", Class: "NemotronForCausalLM",
		Model: "nemotron", Sizes: heads2,
		Fields: `"max_position_embeddings": 4096, "partial_rotary_factor": 0.5,
    "rope_theta": 10000.0, "norm_eps": 1e-05, "hidden_act": "relu2",
    "tie_word_embeddings": false`,
		Dims: 32, Theta: 10000, L: 4096, GGUF: NoConverter, OldFolder: Ignored,
	},
	{
		Name: "phi-2", Spelling: "4", Layout: "phi", Class: "PhiForCausalLM", Model: "phi",
		Sizes: phi80,
		Fields: `"max_position_embeddings": 2048, "partial_rotary_factor": 0.4,
    "rope_theta": 10000.0, "layer_norm_eps": 1e-05, "hidden_act": "gelu_new",
    "tie_word_embeddings": false`,
		Dims: 32, Theta: 10000, L: 2048, GGUF: NoConverter,
	},

	{
		Name: "opt-125m", Spelling: "4", Layout: "none", Class: "OPTForCausalLM", Model: "opt",
		Sizes:   heads2,
		Fields:  `"max_position_embeddings": 2048`,
		Refused: "has no RoPE",
	},
	{
		Name: "gpt2", Spelling: "4", Layout: "none", Class: "GPT2LMHeadModel", Model: "gpt2",
		Sizes:   heads2,
		Fields:  `"n_positions": 1024`,
		Refused: "has no RoPE",
	},
	{
		Name: "bloom-560m", Spelling: "4", Layout: "none", Class: "BloomForCausalLM",
		Model: "bloom", Sizes: heads2,
		Fields:  `"n_layer": 2`,
		Refused: "has no RoPE",
	},
	{
		Name: "mpt-7b", Spelling: "4", Layout: "none", Class: "MPTForCausalLM", Model: "mpt",
		Sizes:   heads2,
		Fields:  `"max_seq_len": 2048`,
		Refused: "has no RoPE",
	},
	{
		Name: "mamba-130m", Spelling: "4", Layout: "none", Class: "MambaForCausalLM",
		Model: "mamba", Sizes: heads2,
		Fields:  `"state_size": 16`,
		Refused: "has no RoPE",
	},
	{
		Name: "falcon-rw-1b", Spelling: "4", Layout: "none", Class: "FalconForCausalLM",
		Model: "falcon", Sizes: heads2,
		Fields:  `"alibi": true, "max_position_embeddings": 2048`,
		Refused: "has no RoPE",
	},
}
