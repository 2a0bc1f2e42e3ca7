// Package convert puts ladders of RoPE factors into model files, and takes them out again.
//
// A model is a GGUF file (version 2 or 3, either byte order, one file or split into parts) or a Hugging Face checkpoint,
// for which see below. A GGUF's header is metadata, key by key, and one entry for each tensor; the tensors' data follow,
// each at a multiple of the file's alignment. A conversion changes a few keys and adds at most two small tensors. All else must come out as it went in, bit for bit:
// keys of other programs, types this package has never heard of, quantised blocks, padding.
//
// # How a file is rewritten
//
// Open reads the header with distrust: every count, length, offset and dimension is compared with what is left of the
// file before anything is allocated, and each way of being malformed has an error of its own (ErrNotGGUF, ErrCount, …),
// wrapped in a *FormatError that names the file, the key and the byte. Values keep their encoded bytes; large ones stay
// in the file. An edit is a changed copy of that header. It is laid out as a plan, a list of runs of bytes: of the
// source, or new. Runs that touch are one, so a model of a thousand tensors is a handful of long copies, which the
// kernel does by itself where it can. Memory therefore does not grow with the model (a test holds it to 64 MiB), and
// the file appears under its name by rename, whole or not at all.
//
// # What a ladder becomes
//
// Metadata (ARCH is the model's general.architecture; row 0, the model's own RoPE, comes first in every array):
//
//	ARCH.rope.longrope.version             uint32    1
//	ARCH.rope.longrope.lengths             []uint32  tokens that a row serves; that of row 0 is L
//	ARCH.rope.longrope.start_windows       []uint32  n-hat; that of row 0 is 0
//	ARCH.rope.longrope.attention_factors   []float32
//	ARCH.rope.longrope.factors             []float32 rows x d/2, absolute: they divide the plain theta_i
//	ARCH.rope.longrope.crossing            string    recompute or rerotate, see Options.Crossing; optional
//	ARCH.rope.longrope.source              string    JSON, where the factors came from; optional
//	ARCH.rope.longrope.replaced            string    JSON, what Strip needs to give the original back
//	ARCH.context_length                              raised to the last rung's length
//	ARCH.rope.scaling.original_context_length        L
//
// A patched host reads these and nothing else. An unpatched host ignores unknown keys, but refuses unknown tensors, so
// it gets one rung in the form that it honours for the architecture, if there is one (see StockFor); it has no start
// window. Convert of a file that carries a ladder replaces the ladder, and Strip removes it.
//
// # Hugging Face checkpoints
//
// A checkpoint is a folder: config.json, safetensors (one file, or those that model.safetensors.index.json names), a
// tokenizer. Convert of one to a name in .gguf goes through the host's converter, in one step, and mends what that gets
// wrong about RoPE; row 0 is config.json's own RoPE as transformers computes it, and a model that its authors published
// with short_factor and long_factor (Phi-3 and later) gets them as row 0 and the rung beyond L. Convert to another name
// makes another folder:
//
//	config.json      max_position_embeddings, original_max_position_embeddings, rope_scaling, rope_parameters changed or
//	                 added where they belong (and rope_theta, partial_rotary_factor at the top, for transformers 4, if
//	                 version 5 left them in rope_parameters alone); every other byte as it was
//	longrope.json    the whole ladder as a factors.json, and under "replaced" what config.json said before
//	weights          hard links, or copies where the file system has none (Options.CopyWeights: always)
//	all else         copies; .git and .cache stay behind
//
// transformers has one long rung, no start window, and (but for Phi-3.5 MoE) one attention factor at every length: short
// texts get the long one's too. Options.StockRung chooses the rung, Report.Notes say what is lost, and Inspect has what
// transformers makes of it (ModelInfo.Transformers), to be measured beside the ladder. vLLM takes the attention factors
// from short_mscale and long_mscale, and the long factors at every length once its maximum length exceeds L.
// transformers warns of the two keys, which it does not know, and goes on. Its version 4.57 and 5 compute the same for
// every architecture tried (tests/testdata/golden.py check); 4.48 goes over to long_factor for Phi-3 only, and applies
// short_factor at every length to the others.
//
// The folder too appears by rename, whole or not at all; one that exists is not touched. Strip gives config.json back.
//
// # Files
//
//	gguf.go decode.go tensor.go value.go split.go   the reader of GGUF
//	edit.go write.go writeback_*.go diskfull_*.go   changing a header, writing a file
//	rope.go ladder.go stock.go replaced.go          what a ladder and a model's own RoPE are in GGUF, and the way back
//	convert.go inspect.go                           Convert, Strip, Inspect
//	source.go store.go storeout.go                  MODEL; the Ollama store in and out
//	jsondoc.go safetensors.go                       JSON that is edited in place; the reader of safetensors
//	checkpoint.go hfrope.go                         a checkpoint folder, and the RoPE that its config.json describes
//	hfconfig.go hfwrite.go hfgguf.go                a ladder in config.json; the folder; the way through the host
//
// MODEL, as a user gives it, is a path or a name in the local Ollama store; Resolve tells which.
package convert
