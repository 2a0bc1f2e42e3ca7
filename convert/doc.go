// Package convert puts ladders of RoPE factors into model files, and takes them out again.
//
// A model is a GGUF file (version 2 or 3, either byte order, one file or split into parts) or a
// Hugging Face checkpoint, a folder. Three packages share the work, and imports run one way:
//
//	convert        Convert, Strip, Inspect; MODEL; the Ollama store; a folder to a GGUF
//	convert/hf     a checkpoint folder: RoPE, a ladder in config.json, the host's converter
//	convert/gguf   a GGUF file: reading, changing, writing it; a ladder and RoPE in it
//
// A conversion changes a few keys and adds at most two small tensors. All else comes out as it went
// in, bit for bit: keys of other programs, types that this package does not know, quantised blocks,
// padding. The output appears by rename, whole or not at all (package atomicfile).
//
// # From a folder to a GGUF
//
// Convert of a folder to a name in .gguf goes through the host's converter in one step, and mends
// the fields of RoPE that this gets wrong (fromfolder.go). The model's own RoPE is config.json's,
// as transformers computes it. Where the keys that the host's converter writes do not say it, as
// YaRN for most architectures, the file gets it as row 0, ladder or not: a patched host applies it
// at every length, an unpatched one where it has a form for it (gguf.StockFor), and Report.Stock
// says so where it has none. A rope type that this program does not know is refused. A model whose
// authors published short_factor and long_factor (Phi-3 and later) gets them as row 0 and the rung
// beyond L.
//
// # From a folder to a folder
//
// Convert to another name makes another folder, see package hf. transformers has one long rung, no
// start window, and (but for Phi-3.5 MoE) one attention factor at every length: short texts get the
// long one's too. Options.StockRung chooses the rung, Report.Notes say what is lost, and Inspect
// reports what transformers makes of it (ModelInfo.Transformers), to be measured next to the
// ladder.
//
// # Files
//
//	convert.go inspect.go       Convert, Strip, Inspect
//	folder.go fromfolder.go     from folder to folder, and from folder to GGUF
//	source.go                   MODEL, as a user gives it: a path or a name in the local store
//	store.go storeout.go        the Ollama store, in and out
package convert
