#!/bin/bash
# Builds the host's CUDA backend with the host's own preset for the toolkit
# that is there (CUDA 11, 12 or 13) and installs it in PREFIX/lib/ollama/cuda_v*,
# where ollama looks for it. Where there is a GPU it is built for that one, else
# for all that the preset names, which takes hours: CUDA_ARCHITECTURES="80;90"
# says which.
#
#   patches/scripts/cuda.sh TREE PREFIX
#   patches/scripts/cuda.sh TREE PREFIX BUDGET
#
# With a BUDGET, as 600, 10m or 6h, it is for a release: for the usual
# generations of GPUs, as PTX, by the compiler of make nvcc if there is no other.
# When the time is over no other file is begun, and the next call resumes.
# PREFIX/cuda.txt says "made", or why not; that is no failure.
set -eu -o pipefail

tree=$1
mkdir -p "$2"
prefix=$(cd "$2" && pwd)
root=$(pwd)
budget=${3:-}
usual="75-virtual;80-virtual;86-virtual;89-virtual;90-virtual;120-virtual"

# left_out REASON ends a release's build without a backend.
left_out() {
	echo "left out: $1" >"$prefix/cuda.txt"
	echo "cuda: $1: left out" >&2
	exit 0
}

nvcc=${CUDACXX:-$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)}
if [ -n "$budget" ]; then
	case "$budget" in
	*[!0-9smh]* | [smh]* | *[smh]?*) echo "cuda: the time budget is $budget: give seconds, or 10m, or 6h" >&2; exit 1 ;;
	*h) seconds=$((${budget%h} * 3600)) ;;
	*m) seconds=$((${budget%m} * 60)) ;;
	*) seconds=${budget%s} ;;
	esac
	[ "$seconds" -gt 0 ] || left_out "the time budget was 0"
	if [ -z "$nvcc" ] && [ -x build/nvcc/bin/nvcc ]; then
		patches/scripts/nvcc.sh toolkit || left_out "NVIDIA's libraries could not be fetched"
		nvcc=$root/build/nvcc/bin/nvcc
	fi
	[ -n "$nvcc" ] || left_out "no nvcc: make nvcc gets one"
fi
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
if [ -z "$archs" ] && [ -n "$budget" ]; then
	archs=$usual
	if [ "$major" = 11 ]; then archs=${archs%;120-virtual}; fi
elif [ -z "$archs" ] && nvidia-smi -L >/dev/null 2>&1; then
	archs=native
fi

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
failed() {
	sed -n '/^FAILED/,$p' build-cuda/ninja.log | head -n 40 >&2
	echo "cuda: failed; the whole log is in $tree/build-cuda/ninja.log" >&2
	exit 1
}

# Some files at a time, until the budget is spent, and some in any case: what is compiled is not
# compiled again.
if [ -n "$budget" ]; then
	all=$(ninja -C build-cuda -t targets all | grep -c '\.cu\.o: ')
	mapfile -t todo < <(ninja -C build-cuda -n ggml-cuda | sed -n 's/^.*Building CUDA object //p')
	jobs=$(nproc) at=0
	echo "cuda: $((all - ${#todo[@]})) of $all files are compiled, for ${archs//-virtual/}"
	while [ $at -lt ${#todo[@]} ]; do
		if [ $at -gt 0 ] && [ "$SECONDS" -ge "$seconds" ]; then
			left_out "$((all - ${#todo[@]} + at)) of $all files were compiled when the time budget of $budget was over; make dist resumes, CUDA_BUDGET=6h gives more"
		fi
		ninja -C build-cuda "${todo[@]:$at:$jobs}" >build-cuda/ninja.log 2>&1 || failed
		at=$((at + jobs))
	done
fi
echo "cuda: building $tree"
ninja -C build-cuda ggml-cuda 2>&1 | tee build-cuda/ninja.log |
	awk -F'[][/]' '/^\[/ { p = int($2 * 10 / $3); if (p > last) { last = p; print "cuda: " p "0 %"; fflush() } }' || failed
cmake --install build-cuda --component CUDA >build-cuda/install.log
# NVIDIA's libraries lie next to the backend, and so does their licence.
for f in LICENSE EULA.txt; do
	f=$(dirname "$(dirname "$nvcc")")/$f
	if [ -e "$f" ]; then cp "$f" "$prefix/lib/ollama/cuda_v$major/LICENSE"; fi
done
echo "made: for ${archs:-all architectures of the preset}, by $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/nvcc \1/p')" >"$prefix/cuda.txt"
echo "cuda: installed $prefix/lib/ollama/cuda_v$major"
