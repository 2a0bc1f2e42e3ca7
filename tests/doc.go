// Package tests holds tests that cross packages: kernels on every backend against a float64 oracle,
// the engine against an independent reference and against Hugging Face transformers, the patched
// host against the unpatched one.
//
// cgo cannot be used in test files, so the tests reach the engine through small packages, and
// through plugin/kernel, ggml's RoPE op, one case at a time, on any device:
//
//	reference  a llama forward pass in float64, written to be read
//	metalshim  the host's Metal backend, its shader compiled for the CPU
//	cudashim   a backend of the CUDA kernels, compiled for the CPU
//	session    a model and its KV cache through the engine's C interface
//	gosession  the same on the host's Go engine, in process
//	arch       a tiny model of every architecture, on both engines
//	probe      a program on what both hosts have, built against both and compared
//	strict     a skip that is a failure in continuous integration
//	sanitize   C++ of the patches in small programs, with sanitizers
//	house      the repository's own text: widths, words, functions; needs neither cgo nor a host
//
// # What each test needs
//
// All but house and strict need the patched host: `make build`. They are run with
//
//	OLLAMA_LIBRARY_PATH=$PWD/build/lib/ollama go test ./tests/...
//
// Without that variable they use the slow backend that is compiled in. In addition:
//
//	make stock            TestNoHarm, TestGoNoHarm, TestStockRungs, TestNaiveFactors, TestSee,
//	                      TestStateOfStockHost, TestContextShiftAttentionFactor, BenchmarkCost,
//	                      TestCUDAKernelsAsStock, TestForeignBackends: the unpatched host
//	build/bin/ollama      TestServer, TestServerGo, TestSee, TestEvalFindsGPU, TestReadme,
//	                      TestSoak
//	a C++ compiler, make  TestCUDAShim, TestCUDAGraphs, TestFusedRope, TestOffload, TestMetalShim,
//	                      and the shims' devices in TestConformance
//	make vulkan           TestVulkan, TestOffloadVulkan, the device Vulkan of TestConformance:
//	                      the backend, and lavapipe where there is no GPU
//	make nvcc             TestCUDACompiles, TestCUDAKernelsAsStock
//	make hipcc            TestHIPCompiles
//	make smollm2          TestSmolLM2Short, TestSmolLM2Long, a part of TestNoHarm, BenchmarkCost
//	make dist             release: debootstrap, root's rights and a Debian mirror too
//	make venv             TestMetalShim's check of address spaces: libclang; PYTHON names the
//	                      interpreter
//	make venv TORCH=1     TestCheckpoint, TestExtend, TestExtendLogits, TestTransformers, and a
//	                      part of TestFamilies: transformers, in the interpreter PYTHON names
//	a GPU                 nothing; TestConformance runs on one that the host finds, and
//	                      LONGROPE_TEST_BACKENDS names libraries of further devices
//
// A test whose need is missing skips and says which target makes it. Under LONGROPE_STRICT=1, which
// .ci/run sets, a test fails that lacks the hosts, the binary or their folders of libraries. A
// device that does not support an op is no failure: the scheduler gives such an op to the CPU.
//
// Tolerances are bounds derived from the number formats in play, not figures that happened to pass.
// Each is explained where it is computed, and each test prints the worst deviation next to its
// bound.
package tests
