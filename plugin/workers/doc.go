// Package workers spreads the evaluations of a search over processes, on one machine or many, by
// way of a NATS server with JetStream.
//
// # Who does what
//
// The coordinator is the search: it alone asks the study for trials, gives it the losses and writes
// its journal. Workers have nothing but a model's file and compute readings. Between them are, on
// the server, for a search named NAME:
//
//	longrope.NAME.job.KEY      a work queue: readings of one candidate until acknowledged
//	longrope.NAME.answer.KEY   a stream: losses, with the worker's id
//	longrope-NAME-specs        an object store: sequences of tokens, and the model's digest
//	longrope.NAME.hello        a request: a worker asks for the specification
//	longrope.NAME.beat         a message: each second a worker says its job
//	longrope.NAME.control      a message: the coordinator calls off a job, or ends the workers
//
// KEY is a digest of what is to be computed: specification, rung, readings. So it does not matter
// who asked, when, and how often an answer comes: the first one counts, later ones must have the
// same bits, and one that does not is pointed out. An answer carries the id of the worker's
// process: names are for people, and two workers may have the same.
//
// # What is promised
//
// Same seed, same factors, whatever the number of workers, their order and their deaths: a study
// takes the losses of a batch in any order, every reading is one call of the engine wherever it is
// computed, and a loss travels to the last bit. That holds for engines that compute the same bits.
// Workers say with which engine, backend and number of threads they compute, and a fingerprint of
// the bits of a short reading; the coordinator says when it is not its own.
//
// A worker that dies leaves a job that it has not acknowledged. A local one is missed at once, any
// other one when it is silent for five seconds; the coordinator then refuses the job in its name
// and the server hands it out again. Should the coordinator be away, the server does so by itself
// after half a minute without a sign from the worker. A worker that is slow, or whose engine hangs
// while the process lives, is overtaken: when others have nothing to do, its job goes to one of
// them too, the first answer counts, and the other one is called off.
//
// A coordinator that dies loses nothing that it had told its study. Local workers hold a pipe to it
// and end with it. Others work through the queue and then wait; their answers are in the stream
// when the coordinator is back. It takes jobs that its study does not ask for out of the queue, and
// puts in those that are missing.
//
// # How work is cut
//
// A trial may be several jobs: a round is cut into four jobs a worker, down to one reading a job,
// so that all workers end at about the same time. The number of readings in a batch bounds the gain
// from more workers (TestScaling).
//
// # Who is let in
//
// Without a server of the user's own, one runs in the coordinator, on the loopback only, with a
// random token that the local workers are told through their pipe. On a cluster, whoever may use
// the subjects above can take part: they need to publish to longrope.> and subscribe to it, and
// JetStream's API for streams that begin with "longrope-" and their object store's
// (OBJ_longrope-…). A worker parses with care everything that it receives; the results of a worker
// that is let in are trusted.
package workers
