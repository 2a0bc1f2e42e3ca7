// Package evals measures how a set of RoPE factors changes a model. It knows no model runtime:
// everything goes through Engine, six methods that work in token ids, so the same code drives the
// patched llama.cpp engine, a server, and the engine of the tests. It draws nothing: package draw
// makes pictures and tables of its results.
//
// # Tasks
//
// A Task is one kind of measurement as a value: name, version, settings with their flags,
// preparation, run, figures and CSV files. A task calls Register; commands, help, Compare, JSON and
// the pictures find it in Tasks. To add one, copy the shape of passkey.go: a struct of settings
// that is a Job, a struct of results that is a Result, and the Task that names both. Package
// tasktest holds what is true of every task, for the new one too.
//
// Perplexity and passkeys are tasks of this package. Others have packages of their own, which
// import this one: choice has the benchmarks of multiple choice, longppl the perplexity of key
// tokens, ruler the tasks of RULER and key-value retrieval, on what recall has for all tasks with
// generated samples. A program lists in one place the packages whose tasks it has.
//
// Two packages are engines around something else, for every task: journal keeps finished calls in
// a file, so that a run that was interrupted computes none of them again; remote asks a server.
//
// A Job is a task with its settings. Prepare does all that can fail before the first model call and
// returns a Plan, whose Run measures one method at all lengths. Compare prepares every job once and
// runs it for each method on one loaded model, so methods see the same windows, keys and questions.
//
// Perplexity slides a window of exactly Length tokens over each text and scores each token once
// (Windows draws the windows). Tokens are weighted alike: the figure is exp of the mean NLL over
// all scored tokens, never a mean of window perplexities. Next to it stand bits per byte, which
// compares models with different tokenizers, the standard error over documents, and the curve: mean
// NLL by position in the window, where a method that breaks past the original context length L
// shows it. Two methods are compared window by window: the error of the difference is far below
// that of either.
//
// Passkey hides a number at a depth of a filler text and asks for it (prompt of Mohtashami and
// Jaggi, arXiv 2305.16300, as used by LongRoPE, arXiv 2402.13753, section 4.2). Prompt and answer
// together take exactly Length tokens of the model under test. The grid is depth x length; each
// cell has several trials with keys drawn from the seed; the answer counts when the first integer
// in it is the key. Proportions carry Wilson 95 % intervals. NeedleNLL, the NLL of the true key, is
// a smoother signal from the same prompt. Other prompts are rows of parameters (Template), and any
// text can be the filler.
//
// Score and Sample.Score are the same measurements for a search: windows prepared once
// (SampleWindows, HideKeys), scored for each candidate.
//
// Forked (HideForks) is a cheap form of them. A candidate changes how keys and queries are rotated,
// so most of a window need not be evaluated for each: an engine that is a Forker keeps the keys and
// values that a prefix had under a base rung, rotates the keys to the candidate's rows, and
// evaluates short forks behind it. The hidden states of the prefix stay the base's. So scores are
// approximate: they rank candidates near the base, and they flatter those far from it. A study
// keeps them honest (ropescale/study, bases.go). Forked.Exact evaluates all of a window in full.
//
// # Results
//
// Every result embeds Provenance: schema and task version, engine Info (model digest, host and
// patch series, backend), ladder digest, settings as given and as in effect, seed, start, duration
// and tokens. With the same seed and engine a result has the same bytes but for the fields started
// and duration_s.
//
// These do not compare: perplexities of models with different tokenizers (use bits per byte), of
// different lengths or strides (each token then has another amount of context), or of engines that
// differ in backend beyond some digits.
//
// # Known limits
//
// The first token of a text is not scored, since nothing precedes it. Bytes are counted by
// detokenizing the scored tokens, which for tokenizers that drop a leading space is off by a byte
// per window. The standard error over windows of one text takes them as independent, which
// neighbouring windows are not quite; give several texts for an honest one.
package evals
