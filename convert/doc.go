// Package convert puts ladders of RoPE factors into model files, and takes them out again.
//
// A model file is a GGUF (version 2 or 3, either byte order, one file or split into parts). Its header is metadata,
// key by key, and one entry for each tensor; the tensors' data follow, each at a multiple of the file's alignment. A
// conversion changes a few keys and adds at most two small tensors. All else must come out as it went in, bit for bit:
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
//	ARCH.rope.longrope.source              string    JSON, where the factors came from; optional
//	ARCH.rope.longrope.replaced            string    JSON, what Strip needs to give the original back
//	ARCH.context_length                              raised to the last rung's length
//	ARCH.rope.scaling.original_context_length        L
//
// A patched host reads these and nothing else. An unpatched host ignores unknown keys, but refuses unknown tensors, so
// it gets one rung in the form that it honours for the architecture, if there is one (see StockFor); it has no start
// window. Convert of a file that carries a ladder replaces the ladder, and Strip removes it.
//
// MODEL, as a user gives it, is a path or a name in the local Ollama store; Resolve tells which.
package convert
