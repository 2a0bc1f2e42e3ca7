// Package longrope is "ollama longrope": five commands around a search for RoPE factors.
//
//	search   finds lambda_i and the start window for a model and lengths     factors.json, a page about it
//	worker   takes part in a search that runs elsewhere
//	convert  writes a ladder of factors into a model                         GGUF file, checkpoint folder, or a model of the store
//	eval     measures perplexity, passkeys, benchmarks, methods side by side tables, CSV, JSON, pictures
//	show     says what a model or a factors file carries                     a table and a plot
//	extend   fine-tunes between two searches, and readjusts short lengths    a folder with each step's output and one laddered GGUF
//
// The commands are thin: the mathematics and the study are package ropescale's, model files package convert's,
// measurements package evals', the model that runs is package engine's. What is decided here is what a user sees:
// defaults, the order of events, and what is said. tui.go begins with the rules of output.
//
// # Search
//
// One model is loaded, for sequences of the longest target; the factors of a candidate are set on it (SetLadder) and a
// few windows of text are read, all from their first token on. Their perplexity is the candidate's fitness. PI, NTK and
// YaRN are the first three candidates of every study, so a search says from its beginning what it has to beat; the default
// algorithm tries YaRN without its attention factor too. Every result is on disk, in the study's journal beside the output,
// before the next candidate is tried: a search that is interrupted, or killed, goes on where it was when the same command is
// given again.
//
// Held-out text, which no candidate is chosen by, is read by the three methods and whenever there is a new best, for a
// twentieth of the tokens, and in full at the end (heldout.go). What it was worth is kept beside the journal.
//
// A budget in tokens is a part of the study. A budget in time is not: it only says when to end, with time left to score what was
// found and for finals, and the same command goes on from there. Either is shared by the rungs of a ladder by what a candidate reads.
//
// # Ladders
//
// A ladder is one study a rung, the shortest first. What a rung's candidates stretch, and what they start from, is said in
// rungs.go: the own RoPE, the last rung that the model carries, or for a readjustment anything between the two. Once a
// rung has begun, the one below is closed, also where a budget in time cut it short: its best is among the starts of the
// next, and a search that goes on must find them as they were.
//
// # Progressive extension
//
// extend runs search and convert as a user would type them, and between them package extend's recipe in the user's Python: search
// for the first target, fine-tune with what was found, write it into the fine-tuned weights, and go on from there. The last
// search is for the targets that are reached by interpolation alone and for the short lengths together, on a GGUF that
// carries the rung it was trained with. Each stage has one output, which appears by rename, and a line in state.json; a stage
// in which it was stopped goes on by its own means, a search from its journals and training from its last state. A GGUF's text
// is tokenised by the engine, so that Python trains on what is run.
//
// # Workers
//
// With --workers or --nats a search evaluates nothing itself (package workers does the rest): a trial's readings go to
// processes of this machine or others, which have the model's file and are told what to read. The engine of the search's own
// process reads the held-out text, and a fingerprint of its bits is what those of the workers are compared with. The number
// of threads does not change bits on the CPU, so processes share the cores, each with its part of them.
//
// # Checkpoints
//
// MODEL may be a Hugging Face folder. show and convert read it as it is; search and eval run a temporary GGUF that is made
// of it. What transformers makes of a folder with factors, one rung without a start window, is a method of eval beside the
// whole ladder, so that the loss can be measured.
//
// # Stock
//
// In every comparison "stock" is the model's own RoPE with the context length raised: without that, the host would cut
// the prompt, and any rival would look good.
package longrope
