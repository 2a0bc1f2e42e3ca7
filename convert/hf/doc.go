// Package hf reads and writes Hugging Face checkpoints, as far as RoPE is concerned.
//
// A checkpoint is a folder: config.json, safetensors (one file, or those that
// model.safetensors.index.json names), a tokenizer. Its RoPE is what transformers computes of
// config.json (rope.go): in the spelling of version 4 or of version 5, with the defaults of the
// model's configuration class where a field is missing (defaults.json, made by defaults.py).
//
// # A folder with a ladder
//
//	config.json    max_position_embeddings, original_max_position_embeddings, rope_scaling and
//	               rope_parameters changed or added where they belong; rope_theta, head_dim and
//	               partial_rotary_factor at the top where they are missing there, since the
//	               versions of transformers differ in defaults; every other byte as it was
//	longrope.json  the whole ladder as a factors.json, and under "replaced" the values that
//	               config.json had
//	weights        hard links, or copies where the file system has none
//	all else       copies; .git and .cache stay behind
//
// The folder appears by rename, whole or not at all; one that exists is not touched. Original gives
// config.json back.
//
// transformers 4 reads rope_scaling; version 5 reads it too, and rope_parameters, by type of layer
// for some models (Gemma 3, Olmo 3): of these rope_parameters is not written where the original has
// none. vLLM takes the attention factors from short_mscale and long_mscale, and the long factors at
// every length once its maximum length exceeds L. transformers warns of the two keys, which it does
// not know, and continues. Its versions 4.57 and 5.23 compute the same for every family of
// tests/checkpoints; 4.48 changes to long_factor for Phi-3 only, and applies short_factor at every
// length to the others. The scale of DeepSeek's attention follows mscale_all_dim and factor, so
// both keep their values, and attention_factor is explicit.
//
// # Files
//
//	checkpoint.go safetensors.go jsondoc.go   a folder, its weights, JSON that is edited in place
//	whole.go                                  tensors that a folder lacks
//	rope.go defaults.go                       the RoPE that config.json describes
//	config.go write.go                        a ladder in config.json; the folder
//	host.go                                   the host's converter
package hf
