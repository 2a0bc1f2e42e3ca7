// Package patches carries what this project changes inside its host, Ollama,
// as a numbered series of patches, and makes a source tree of the two.
//
// The host is never vendored. Its module is copied out of Go's module cache
// (a git clone of the pinned tag serves as well) into a git-ignored folder,
// the series is applied to the copy, and a git-ignored go.work makes the go
// command build with the copy:
//
//	module cache ──verify──▶ build/host ──series──▶ build/host (patched)
//	                                                 ▲ go.work: replace
//
// Three rules keep that honest.
//
// Strict. A hunk applies where it says, to the lines that it says, or not at
// all: there is no fuzz, no three-way merge, and no git, so nobody's git
// configuration can change the result. All hunks of all patches are tried
// before anything is written, and every one that fails is reported, because
// that list is what a person needs who moves the series to the next host.
//
// Checked. What was copied must have the sum that go.sum pins; what was
// written is recorded in a stamp (host version, series hash, the hash of every
// file), so that a second run does nothing and a tree edited by hand is
// noticed instead of overwritten.
//
// Gentle. A changed series rewrites the files whose bytes differ and leaves
// the rest alone, modification times included, so that the caches of go, ninja
// and ccache keep their worth: a full build of the host takes minutes.
//
// The series itself is linted (see [Series.Lint]): each patch says what was
// wrong, why, and what it does about it, where it stands upstream, and who
// signed it off. README.md next to this file has the table of patches, made
// from those headers, the reasons for a series instead of a fork, and the
// steps to adopt the next version of the host.
package patches
