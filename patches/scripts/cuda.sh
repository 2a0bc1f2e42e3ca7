#!/bin/bash
# Builds the host's CUDA backend with the host's own preset for the toolkit
# that is there (CUDA 11, 12 or 13) and installs it in PREFIX/lib/ollama/cuda_v*,
# where ollama looks for it. Where there is a GPU it is built for that one, else
# for all that the preset names, which takes hours: CUDA_ARCHITECTURES="80;90"
# says which.
#
#   patches/scripts/cuda.sh TREE PREFIX
set -eu -o pipefail

tree=$1
mkdir -p "$2"
prefix=$(cd "$2" && pwd)
root=$(pwd)

nvcc=${CUDACXX:-$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)}
if [ -z "$nvcc" ]; then
	echo "cuda: no CUDA toolkit: no nvcc in the PATH or in /usr/local/cuda/bin. Install one (Debian: nvidia-cuda-toolkit," >&2
	echo "cuda: or https://developer.nvidia.com/cuda-downloads), or name its nvcc: CUDACXX=/path/to/nvcc make cuda" >&2
	exit 1
fi
major=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
case "$major" in
11 | 12 | 13) ;;
*)
	echo "cuda: $nvcc is of CUDA $major: the host has presets for 11, 12 and 13" >&2
	exit 1
	;;
esac

export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
for v in CC CXX; do
	if [[ ${!v:-} == "ccache "* ]]; then export $v="${!v#ccache }"; fi
done
archs=${CUDA_ARCHITECTURES:-}
if [ -z "$archs" ] && nvidia-smi -L >/dev/null 2>&1; then archs=native; fi

cd "$tree"
set -- --preset "CUDA $major" -G Ninja -B build-cuda "-DCMAKE_INSTALL_PREFIX=$prefix" "-DCMAKE_INSTALL_RPATH=\$ORIGIN;\$ORIGIN/.." \
	"-DCMAKE_CUDA_COMPILER=$nvcc" "-DCUDAToolkit_ROOT=$(dirname "$(dirname "$nvcc")")" -DCMAKE_HIP_COMPILER=NOTFOUND -DCMAKE_DISABLE_FIND_PACKAGE_Vulkan=ON
if [ -n "$archs" ]; then set -- "$@" "-DCMAKE_CUDA_ARCHITECTURES=$archs"; fi
if [ ! -e build-cuda/build.ninja ] || [ "$(cat build-cuda/longrope-args 2>/dev/null)" != "$*" ]; then
	echo "cuda: configuring $tree for CUDA $major, ${archs:-all architectures of the preset}"
	mkdir -p build-cuda
	rm -f build-cuda/CMakeCache.txt build-cuda/longrope-args
	cmake "$@" >build-cuda/configure.log 2>&1 || { tail -n 30 build-cuda/configure.log >&2; exit 1; }
	printf '%s' "$*" >build-cuda/longrope-args
fi
echo "cuda: building $tree"
ninja -C build-cuda ggml-cuda 2>&1 | tee build-cuda/ninja.log |
	awk -F'[][/]' '/^\[/ { p = int($2 * 10 / $3); if (p > last) { last = p; print "cuda: " p "0 %"; fflush() } }' ||
	{ sed -n '/^FAILED/,$p' build-cuda/ninja.log | head -n 40 >&2; echo "cuda: failed; the whole log is in $tree/build-cuda/ninja.log" >&2; exit 1; }
cmake --install build-cuda --component CUDA >build-cuda/install.log
echo "cuda: installed $prefix/lib/ollama/cuda_v$major"
