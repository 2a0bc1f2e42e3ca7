// Package search searches RoPE factors for a model that runs: one study (study.Study) for each
// rung of a ladder, on an engine or on a pool of workers.
//
//	Search   the whole search: Options in, a Result out, Events on the way
//	Options  the model, the targets, the texts, the budget; Check finds errors early
//	Books    texts that come with the program
//
// It knows neither flags nor a terminal. The caller's names of options come in with Options.Called,
// so that an error names the flag that the user typed; messages, progress and standings go out
// through Events.
//
// # One rung
//
// A goal says for which length a rung is, and what its candidates stretch: the own RoPE, the last
// rung that the model carries, or for a readjustment anything between the two (goal.go). A judge
// prepares windows of text with keys hidden in them, once, and scores every candidate on them
// (judge.go). The factors of a candidate are set on the engine (SetLadder), and the mean NLL of
// each window and key goes to the study, whose journal has it on disk before the next candidate is
// tried. A search that is interrupted, or killed, is resumed by the same options (rung.go).
//
// PI, NTK and YaRN are the first candidates of every study, so that a search says from its
// beginning what it has to beat; the default algorithm tries MrRoPE-Pro, TailSpline and YaRN
// without its attention factor too.
//
// # Held-out text
//
// Text that no candidate is chosen by is evaluated for these methods and for each new best, for a
// twentieth of the tokens, and at the end for the result, the best method, and as far as another
// twentieth goes for the others (heldout.go). The losses are in a file next to
// the journal, which names the study by the digest of the journal's header: losses of another seed,
// model or text are never taken for this search's.
//
// # Ladders
//
// Several targets are one study each, the shortest first, and the factors of a rung are starts of
// the next. Once a rung has begun, the one below is closed, also where a budget in time cut it
// short: its best is among the starts of the next, and a search that is resumed must find them as
// they were. A budget in tokens is a part of the study, and rungs share it by the cost of a
// candidate. A budget in time only ends the search, with time left to score the finalists; the same
// options resume it.
//
// # Workers
//
// With Options.Workers the search evaluates nothing itself (package workers does the rest): the
// judge goes to processes of this machine or others as JSON, which have the model's file. The
// engine of the search's own process evaluates the held-out text, and a fingerprint of its bits is
// compared with the workers'. The number of threads does not change bits on the CPU, so processes
// share the cores, each with its part of them.
package search
