package checkpoints

// layouts are the tensors of an architecture: a name, where %d is a layer and %e an expert, and its
// sizes. V is the vocabulary, H the width, D that of a head, Q and K those of all heads of queries
// and of keys, F that of the feed-forward network; the others are at sizes.
var layouts = map[string]string{
	"llama": `
model.embed_tokens.weight V H
model.norm.weight H
lm_head.weight V H
model.layers.%d.input_layernorm.weight H
model.layers.%d.post_attention_layernorm.weight H
model.layers.%d.self_attn.q_proj.weight Q H
model.layers.%d.self_attn.k_proj.weight K H
model.layers.%d.self_attn.v_proj.weight K H
model.layers.%d.self_attn.o_proj.weight H Q
model.layers.%d.mlp.gate_proj.weight F H
model.layers.%d.mlp.up_proj.weight F H
model.layers.%d.mlp.down_proj.weight H F`,
	"qwen2": `
= llama
model.layers.%d.self_attn.q_proj.bias Q
model.layers.%d.self_attn.k_proj.bias K
model.layers.%d.self_attn.v_proj.bias K`,
	"qwen3": `
= llama
model.layers.%d.self_attn.q_norm.weight D
model.layers.%d.self_attn.k_norm.weight D`,
	"qwen3moe": `
= qwen3
- model.layers.%d.mlp.gate_proj.weight
- model.layers.%d.mlp.up_proj.weight
- model.layers.%d.mlp.down_proj.weight
model.layers.%d.mlp.gate.weight E H
model.layers.%d.mlp.experts.%e.gate_proj.weight F H
model.layers.%d.mlp.experts.%e.up_proj.weight F H
model.layers.%d.mlp.experts.%e.down_proj.weight H F`,
	"olmo3": `
model.embed_tokens.weight V H
model.norm.weight H
lm_head.weight V H
model.layers.%d.post_attention_layernorm.weight H
model.layers.%d.post_feedforward_layernorm.weight H
model.layers.%d.self_attn.q_proj.weight Q H
model.layers.%d.self_attn.k_proj.weight K H
model.layers.%d.self_attn.v_proj.weight K H
model.layers.%d.self_attn.o_proj.weight H Q
model.layers.%d.self_attn.q_norm.weight Q
model.layers.%d.self_attn.k_norm.weight K
model.layers.%d.mlp.gate_proj.weight F H
model.layers.%d.mlp.up_proj.weight F H
model.layers.%d.mlp.down_proj.weight H F`,
	"gemma": `
= llama
- lm_head.weight`,
	"gemma2": `
= gemma
model.layers.%d.pre_feedforward_layernorm.weight H
model.layers.%d.post_feedforward_layernorm.weight H`,
	"gemma3": `
= gemma2
model.layers.%d.self_attn.q_norm.weight D
model.layers.%d.self_attn.k_norm.weight D`,
	"cohere": `
= gemma
- model.layers.%d.post_attention_layernorm.weight`,
	"phi3": `
model.embed_tokens.weight V H
model.norm.weight H
lm_head.weight V H
model.layers.%d.input_layernorm.weight H
model.layers.%d.post_attention_layernorm.weight H
model.layers.%d.self_attn.qkv_proj.weight QKV H
model.layers.%d.self_attn.o_proj.weight H Q
model.layers.%d.mlp.gate_up_proj.weight 2F H
model.layers.%d.mlp.down_proj.weight H F`,
	"mixtral": `
= llama
- model.layers.%d.mlp.gate_proj.weight
- model.layers.%d.mlp.up_proj.weight
- model.layers.%d.mlp.down_proj.weight
model.layers.%d.block_sparse_moe.gate.weight E H
model.layers.%d.block_sparse_moe.experts.%e.w1.weight F H
model.layers.%d.block_sparse_moe.experts.%e.w2.weight H F
model.layers.%d.block_sparse_moe.experts.%e.w3.weight F H`,
	"gpt_oss": `
= qwen2
- model.layers.%d.mlp.gate_proj.weight
- model.layers.%d.mlp.up_proj.weight
- model.layers.%d.mlp.down_proj.weight
model.layers.%d.self_attn.o_proj.bias H
model.layers.%d.self_attn.sinks A
model.layers.%d.mlp.router.weight E H
model.layers.%d.mlp.router.bias E
model.layers.%d.mlp.experts.gate_up_proj E H 2F
model.layers.%d.mlp.experts.gate_up_proj_bias E 2F
model.layers.%d.mlp.experts.down_proj E F H
model.layers.%d.mlp.experts.down_proj_bias E H`,
	"gpt_oss mxfp4": `
= gpt_oss
- model.layers.%d.mlp.experts.gate_up_proj
- model.layers.%d.mlp.experts.down_proj
model.layers.%d.mlp.experts.gate_up_proj_blocks E 2F H/32 16
model.layers.%d.mlp.experts.gate_up_proj_scales E 2F H/32
model.layers.%d.mlp.experts.down_proj_blocks E H F/32 16
model.layers.%d.mlp.experts.down_proj_scales E H F/32`,
	"deepseek": `
model.embed_tokens.weight V H
model.norm.weight H
lm_head.weight V H
model.layers.%d.input_layernorm.weight H
model.layers.%d.post_attention_layernorm.weight H
model.layers.%d.self_attn.q_a_proj.weight R H
model.layers.%d.self_attn.q_a_layernorm.weight R
model.layers.%d.self_attn.q_b_proj.weight QB R
model.layers.%d.self_attn.kv_a_proj_with_mqa.weight CP H
model.layers.%d.self_attn.kv_a_layernorm.weight C
model.layers.%d.self_attn.kv_b_proj.weight KVB C
model.layers.%d.self_attn.o_proj.weight H AW
model.layers.%d.mlp.gate_proj.weight F H
model.layers.%d.mlp.up_proj.weight F H
model.layers.%d.mlp.down_proj.weight H F`,
	"deepseek lite": `
= deepseek
- model.layers.%d.self_attn.q_a_proj.weight
- model.layers.%d.self_attn.q_a_layernorm.weight
- model.layers.%d.self_attn.q_b_proj.weight
model.layers.%d.self_attn.q_proj.weight QB H`,
	"gpt_neox": `
gpt_neox.embed_in.weight V H
gpt_neox.final_layer_norm.weight H
gpt_neox.final_layer_norm.bias H
embed_out.weight V H
gpt_neox.layers.%d.input_layernorm.weight H
gpt_neox.layers.%d.input_layernorm.bias H
gpt_neox.layers.%d.post_attention_layernorm.weight H
gpt_neox.layers.%d.post_attention_layernorm.bias H
gpt_neox.layers.%d.attention.query_key_value.weight 3H H
gpt_neox.layers.%d.attention.query_key_value.bias 3H
gpt_neox.layers.%d.attention.dense.weight H H
gpt_neox.layers.%d.attention.dense.bias H
gpt_neox.layers.%d.mlp.dense_h_to_4h.weight F H
gpt_neox.layers.%d.mlp.dense_h_to_4h.bias F
gpt_neox.layers.%d.mlp.dense_4h_to_h.weight H F
gpt_neox.layers.%d.mlp.dense_4h_to_h.bias H`,
	"stablelm": `
= llama
model.norm.bias H
model.layers.%d.input_layernorm.bias H
model.layers.%d.post_attention_layernorm.bias H`,
	"glm4": `
model.embed_tokens.weight V H
model.norm.weight H
lm_head.weight V H
model.layers.%d.input_layernorm.weight H
model.layers.%d.post_attention_layernorm.weight H
model.layers.%d.post_self_attn_layernorm.weight H
model.layers.%d.post_mlp_layernorm.weight H
model.layers.%d.self_attn.q_proj.bias Q
model.layers.%d.self_attn.k_proj.bias K
model.layers.%d.self_attn.v_proj.bias K
model.layers.%d.self_attn.q_proj.weight Q H
model.layers.%d.self_attn.k_proj.weight K H
model.layers.%d.self_attn.v_proj.weight K H
model.layers.%d.self_attn.o_proj.weight H Q
model.layers.%d.mlp.gate_up_proj.weight 2F H
model.layers.%d.mlp.down_proj.weight H F`,
	"phi": `
model.embed_tokens.weight V H
model.final_layernorm.weight H
model.final_layernorm.bias H
lm_head.weight V H
lm_head.bias V
model.layers.%d.input_layernorm.weight H
model.layers.%d.input_layernorm.bias H
model.layers.%d.self_attn.q_proj.weight Q H
model.layers.%d.self_attn.q_proj.bias Q
model.layers.%d.self_attn.k_proj.weight K H
model.layers.%d.self_attn.k_proj.bias K
model.layers.%d.self_attn.v_proj.weight K H
model.layers.%d.self_attn.v_proj.bias K
model.layers.%d.self_attn.dense.weight H Q
model.layers.%d.self_attn.dense.bias H
model.layers.%d.mlp.fc1.weight F H
model.layers.%d.mlp.fc1.bias F
model.layers.%d.mlp.fc2.weight H F
model.layers.%d.mlp.fc2.bias H`,
	"nemotron": `
= stablelm
- model.layers.%d.mlp.gate_proj.weight`,
	"none": "\nmodel.embed_tokens.weight V H",
}
