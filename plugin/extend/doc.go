// Package extend is progressive extension (LongRoPE, section 3): search factors for the first
// target, fine-tune with them, write them into the fine-tuned weights, and continue from there. The
// last search is for the targets that are reached by interpolation alone and for the short lengths
// together, on a GGUF that carries the rung it was trained with. It ends with one laddered GGUF.
//
//	Run      the whole extension: Options in, a State out, Reporter on the way
//	Options  the model, the targets, the texts, the training; Check finds errors before it begins
//	Write    writes the training recipe alone
//
// # Stages
//
// The extension is a list of stages (stages.go): tokenize, search, fine-tune, convert. Each has one
// output in the folder, which appears by rename, and a line in state.json (state.go). A stage whose
// output is there is done. A stage that was stopped resumes by its own means, a search from its
// journals and training from its last saved state. Searches and conversions are calls of packages
// search and convert; engines are loaded by the caller (Options.Load).
//
// # Training
//
// Training belongs to PyTorch. The program carries a recipe of Python files, writes it out and runs
// it with the user's Python (training.go, recipe.go):
//
//	train.py  the run: FSDP2 on one process or many, resumable, JSON lines on standard output
//	rope.py   the rotation by rows in transformers' models: rungs, start windows
//	data.py   documents and how they are packed without being mixed
//	model.py  checkpoint folders and GGUF files in and out
//
// Rows have the target's length, or (Training.Positions, train.py --positions) the original one,
// with tokens that stand apart in a text of the target's length: PoSE (arXiv 2309.10400) and what
// EndPrompt's abstract (arXiv 2605.14589) says. The rotation gets those places, with the start
// window and the rung that they would have there; attention sees the row without a gap. Mixed
// windows (LongRoPE2, arXiv 2502.20082) compose with it: half of the windows then stay as they are,
// on row 0. Whether a model that is trained so is as good as one trained at the full length has not
// been measured here yet.
//
// Python does not have a GGUF's own tokenizer: the engine tokenizes the text (text.go), so that the
// model is trained on the tokens that it is run with.
package extend
