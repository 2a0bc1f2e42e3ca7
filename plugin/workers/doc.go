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
// (OBJ_longrope-…).
//
// The token, or whatever the server asks for, keeps out who does not have it. It encrypts nothing:
// tls:// does. It does not distinguish those who have it. Each of them can see the texts that are
// searched on, take another worker's name, keep jobs to himself and end the search. What none of
// them can do is to have wrong factors written in silence:
//
//   - An answer that cannot be (a negative loss, other tokens than the reading takes) is left
//     aside, and a worker that gives three of them is put out.
//   - A sample of every worker's answers is computed again by the coordinator's own engine: the
//     first ones before any of its losses is told to the study, later ones at random. A worker
//     that differs is put out and its answers are recomputed. Where some were told, the search ends
//     with an error that names the worker, and its journal is taken back to before them. A lie in
//     one answer of many may be missed, and losses that differ by less than engines do (0.001 nats
//     where they say that they compute the same bits, otherwise 0.02) count as the same.
//   - A job that is acknowledged or ended without an answer is handed out again, and after eight
//     times is an error.
//
// A worker in turn bounds the length, the batch and the size of what it is asked to compute.
// Workers that a coordinator starts itself, on a server of its own, are not checked: nobody else
// has their token.
//
// A server older than 2.9.0 is refused. 2.9.10 (Debian 12's) may lose jobs when it is killed; the
// coordinator finds that out and queues them again.
package workers
