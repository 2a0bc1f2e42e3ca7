// Package gguf reads, changes and writes GGUF files, and knows how they say a model's RoPE.
//
// # How a file is rewritten
//
// A GGUF's header is metadata, key by key, and one entry for each tensor; the tensors' data follow,
// each at a multiple of the file's alignment. Open reads the header with distrust: every count,
// length, offset and dimension is compared with the bytes that are left in the file before anything
// is allocated, and each way of being malformed has an error of its own (ErrNotGGUF, ErrCount, …),
// wrapped in a *FormatError that names the file, the key and the byte. Values keep their encoded
// bytes; large ones stay in the file. An Edit is a changed copy of that header. It is laid out as a
// Plan, a list of runs of bytes: of the source, or new. Runs that touch are one, so a model of a
// thousand tensors is a handful of long copies, which the kernel does by itself where it can.
// Memory therefore does not grow with the model (a test of package convert holds it to 64 MiB).
//
// # The keys of a ladder
//
// ARCH is the model's general.architecture; row 0, the model's own RoPE, comes first in every
// array:
//
//	ARCH.rope.longrope.version             uint32    1
//	ARCH.rope.longrope.lengths             []uint32  tokens that a row serves; that of row 0 is L
//	ARCH.rope.longrope.start_windows       []uint32  n-hat; that of row 0 is 0
//	ARCH.rope.longrope.attention_factors   []float32
//	ARCH.rope.longrope.factors             []float32 rows x d/2: divide the plain theta_i
//	ARCH.rope.longrope.crossing            string    recompute or rerotate; optional
//	ARCH.rope.longrope.source              string    JSON, where the factors came from; optional
//	ARCH.rope.longrope.replaced            string    JSON, what Undo needs to go back
//	ARCH.context_length                              raised to the last rung's length
//	ARCH.rope.scaling.original_context_length        L
//
// A patched host reads these and nothing else. Row 0 alone is no ladder: it is the model's own RoPE
// where other keys cannot say it, and source names the scaling. An unpatched host ignores unknown
// keys, but refuses unknown tensors, so it gets one rung in the form that it honours for the
// architecture, if there is one (StockFor); it has no start window. A file that carries a ladder
// gets another in its place, and Undo removes it.
//
// # Files
//
//	gguf.go decode.go tensor.go value.go split.go   the reader
//	edit.go write.go writeback_*.go                 changing a header, writing a file
//	rope.go local.go                                a model's own RoPE
//	ladder.go stock.go replaced.go                  a ladder in the file, and the way back
//	wants.go tensors.txt                            the tensors that a loader asks for
package gguf
