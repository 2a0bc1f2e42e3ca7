// Package evals measures what a set of RoPE factors does to a model: perplexity at a length and by
// position, and whether a passkey hidden in a long text is found. It knows no model runtime:
// everything goes through Engine, six methods that work in token ids, so the same code drives the
// patched llama.cpp engine, a server, and the fakes of the tests. It imports ropescale for the
// Ladder and gonum/plot for the pictures.
//
// # Tasks
//
// Perplexity slides a window of exactly Length tokens over each text and scores each token once
// (Windows draws the windows). Tokens are weighted alike: the figure is exp of the mean NLL over
// all scored tokens, never a mean of window perplexities. Beside it stand bits per byte, which
// compares models with different tokenizers, the standard error over documents, and the curve: mean
// NLL by position in the window, where a method that breaks past the original context length L
// shows it.
//
// Passkey hides a number at a depth of a filler text and asks for it (prompt of Mohtashami and
// Jaggi, arXiv 2305.16300, as used by LongRoPE, arXiv 2402.13753, section 4.2). Prompt and answer
// together take exactly Length tokens of the model under test. The grid is depth x length; each
// cell has several trials with keys drawn from the seed; the answer counts when the first integer
// in it is the key. Proportions carry Wilson 95 % intervals, since ten trials say less than they
// seem to. NeedleNLL, the NLL of the true key, is a smoother signal from the same prompt. Other
// prompts are rows of parameters (Template), and any text can be the filler.
//
// Choice asks the questions of ARC, HellaSwag, MMLU and TruthfulQA by log-likelihood, from the
// files that their authors or the Hugging Face hub publish, with the prompts, the split into tokens
// and the normalisation of lm-evaluation-harness. What is left to differ: the examples of few-shot
// prompts, which come in the order of their file, and BOS, which the model's tokenizer decides.
// Short questions get a model's own RoPE whatever the ladder; ChoiceOptions.Length measures what
// the factors for long texts do to them.
//
// Compare runs perplexity and passkey for several ladders on one loaded model and gives one row per
// method and length. Methods see the same windows, so their perplexities are compared window by
// window: the error of the difference is far below that of either.
//
// Score and Sample.Score are the same measurements for a search: windows prepared once
// (SampleWindows, HideKeys), scored for each candidate.
//
// Forked (HideForks) is a cheap form of them. A candidate changes how keys and queries are rotated,
// so most of a window need not be evaluated for each: an engine that is a Forker keeps the keys and
// values that a prefix had under a base rung, rotates the keys to the candidate's rows, and
// evaluates short forks behind it. The hidden states of the prefix stay the base's. So scores are
// approximate: they rank candidates near the base, and they flatter those far from it. Package
// cheap says how a search keeps them honest.
//
// # Results
//
// Every result embeds Provenance: schema and task version, engine Info (model digest, host and
// patch series, backend), ladder digest, arguments as given and as in effect, seed, start, duration
// and tokens. The version of a task goes up when its figures are no longer comparable with before.
// With the same seed and engine a result has the same bytes but for the fields started and
// duration_s.
//
// What cannot be compared: perplexities of models with different tokenizers (use bits per byte), of
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
