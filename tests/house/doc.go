// Package house holds tests of the repository's own text: the length of lines, words, the length of
// functions, and the measurements under evals/results, the direction of imports and the size of
// packages. They need neither cgo nor the patched host:
//
//	CGO_ENABLED=0 go test ./tests/house
//
// Files and functions that do not keep a rule yet are listed in testdata. A list must be exact:
// what keeps the rule has to leave it. `go test ./tests/house -update` removes such entries. It
// never adds one, so lists only shrink.
package house
