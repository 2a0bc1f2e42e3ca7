// Package arch makes a tiny model of each architecture that the host knows and finds out what a
// ladder does to it.
//
// Models have random weights and are made when they are needed, by asking the loader: discover
// writes metadata, tries to load, adds the key, the tensor or the shape that the loader says it
// misses, until it loads. Hints has the rest: counts of experts, patterns of layers, tensors that
// only the graph needs. A new version of the host that has new architectures shows them as failures
// of TestMatrix with the loader's or the graph's own words: add a hint.
//
// Both engines are watched node by node: the Go engine through its scheduler, whose models have the
// same weights and what the Go engine wants in addition (Hint.Go, Hint.GoAdd).
//
// The oracle is independent of the patches. Which layers are local is read from the attention
// masks; what a RoPE node should have made of its argument is computed in float64; uniform factors
// are what the host's rope_freq_scale does.
package arch
