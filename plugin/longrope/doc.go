// Package longrope is "ollama longrope": commands around a search for RoPE factors.
//
//	search   finds lambda_i and the start window for a model and lengths
//	worker   takes part in a search that runs elsewhere
//	convert  writes a ladder of factors into a model: a GGUF, a checkpoint folder, the store
//	eval     measures perplexity, passkeys, benchmarks, methods side by side
//	show     shows the factors of a model or a file as a table and a plot
//	extend   fine-tunes between two searches, and readjusts short lengths
//
// The commands are thin: the mathematics and the study are package ropescale's, the search is
// package search's, progressive extension package extend's, model files package convert's,
// measurements and pictures package evals', the model that runs is package engine's. Decided here
// is what a user sees: flags and their defaults, the order of events, messages, tables. tui.go
// begins with the rules of output; help.go lays out the flags in help.
//
// A command is a function that defines its flags and a method of app that runs it. Flags that are
// options of a package are bound to its Options directly; search.Names maps the fields back to
// flags in errors. An opener has the parts of the machine that tests replace: how a model is
// loaded, and the clock. Without cgo there is no engine (open_nocgo.go): the commands that run no
// model work, and so do the tests, with the fake of package searchtest.
//
// # Checkpoints
//
// MODEL may be a Hugging Face folder. show and convert read it as it is; search and eval run a
// temporary GGUF that is made of it. transformers runs a folder with factors with one rung and
// without a start window. That is a method of eval alongside the whole ladder, so that the loss can
// be measured.
//
// # One ladder for each name
//
// A request cannot name another ladder of the model that is loaded. It would not cost little: a
// runner has one matrix of rows, sequences of several requests share a batch, and keys that a slot
// keeps for the next prompt are good for the ladder alone that they were rotated with, as are the
// bound of num_ctx and the cache that was reserved for it. A second ladder is a second name, which
// takes a few kilobytes in the store, and a runner of its own, whose weights come from the same
// file in the page cache. An engine that searches, with one request at a time, does set one ladder
// after another without loading again.
//
// # Stock
//
// In every comparison "stock" is the model's own RoPE with the context length raised: without that,
// the host would cut the prompt, and any rival would look good.
package longrope
