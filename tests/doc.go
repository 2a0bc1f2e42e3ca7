// Package tests holds what crosses packages: kernels on every backend against a float64 oracle, the engine against an
// independent reference and against Hugging Face transformers, the patched host against the unpatched one.
//
// cgo cannot be used in test files, so the tests reach the engine through small packages below this one:
//
//	kernel     ggml's RoPE op, one case at a time, on any device
//	reference  a llama forward pass in float64, written for reading
//	metalshim  the host's Metal backend, its shader compiled for the CPU
//	cudashim   a backend of the CUDA kernels, compiled for the CPU
//	session    a model and its KV cache through the engine's C interface
//	gosession  the same on the host's Go engine, in process
//	arch       a tiny model of every architecture, on both engines
//	probe      a program on what the unpatched host has too, built against both hosts and compared
//
// A test that needs a file, a tool or a device that is not there skips and says what to do. A device that does not
// support an op is no failure: the scheduler gives such an op to the CPU.
//
// Tolerances are bounds derived from the number formats in play, not figures that happened to pass; each is explained
// where it is computed, and each test prints the worst deviation beside its bound.
package tests
