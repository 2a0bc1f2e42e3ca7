// Package longrope is "ollama longrope": four commands around a search for RoPE factors.
//
//	search   finds lambda_i and the start window for a model and a length    factors.json
//	convert  writes a ladder of factors into a model                         GGUF file, checkpoint folder, or a model of the store
//	eval     measures perplexity, passkeys, benchmarks, methods side by side tables, CSV, JSON, pictures
//	show     says what a model or a factors file carries                     a table and a plot
//
// The commands are thin: the mathematics and the study are package ropescale's, model files package convert's,
// measurements package evals', the model that runs is package engine's. What is decided here is what a user sees:
// defaults, the order of events, and what is said. tui.go begins with the rules of output.
//
// # Search
//
// One model is loaded, for sequences of the target length; the factors of a candidate are set on it (SetLadder) and a
// few windows of text are read, all from their first token on. Their perplexity is the candidate's fitness. PI, NTK and
// YaRN are the first three candidates of every study, so a search says from its beginning what it has to beat. Every
// result is on disk, in the study's journal beside the output, before the next candidate is tried: a search that is
// interrupted, or killed, goes on where it was when the same command is given again. At the end the best factors and
// the three methods read other texts, which the search has not seen.
//
// A budget in tokens becomes a number of trials, so it is part of the study. A budget in time is not: it only says
// when to stop, and the same command goes on from there.
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
