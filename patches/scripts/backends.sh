#!/bin/bash
# Builds the host's fast CPU backends (one library for each instruction set)
# with its own cmake preset and installs them in PREFIX/lib/ollama, where the
# binary in PREFIX/bin looks for them. What the go command compiles into the
# binary has no -march and is several times slower.
#
#   patches/scripts/backends.sh TREE PREFIX
set -eu -o pipefail

tree=$1
mkdir -p "$2"
prefix=$(cd "$2" && pwd)
root=$(pwd)

# Two trees that differ in a few files share the cache: paths are hashed
# relative to the tree's own build folder, which is the same in both.
export CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
# The host's cmake puts ccache before the compiler by itself.
for v in CC CXX; do
	if [[ ${!v:-} == "ccache "* ]]; then export $v="${!v#ccache }"; fi
done

cd "$tree"
# $ORIGIN: the libraries find libggml-base next to them, also where no server
# sets LD_LIBRARY_PATH (the search and the tests load them in process).
# No CUDA and no Vulkan: they have presets of their own.
set -- --preset CPU -G Ninja "-DCMAKE_INSTALL_PREFIX=$prefix" "-DCMAKE_INSTALL_RPATH=\$ORIGIN" \
	-DCMAKE_CUDA_COMPILER=NOTFOUND -DCMAKE_HIP_COMPILER=NOTFOUND -DCMAKE_DISABLE_FIND_PACKAGE_Vulkan=ON
if [ ! -e build/build.ninja ] || [ "$(cat build/longrope-args 2>/dev/null)" != "$*" ]; then
	echo "backends: configuring $tree"
	mkdir -p build
	rm -f build/CMakeCache.txt build/longrope-args
	cmake "$@" >build/configure.log 2>&1 || { tail -n 30 build/configure.log >&2; exit 1; }
	printf '%s' "$*" >build/longrope-args
fi
if ninja -C build -n ggml-cpu | grep -q 'no work to do' && [ -e "$prefix/lib/ollama/.backends" ]; then
	echo "backends: up to date in $prefix/lib/ollama"
	exit 0
fi
echo "backends: building $tree (a few minutes the first time)"
rm -f "$prefix/lib/ollama/.backends"
# The compilers' warnings are the host's business: they go to the log.
ninja -C build ggml-cpu 2>&1 | tee build/ninja.log |
	awk -F'[][/]' '/^\[/ { p = int($2 * 10 / $3); if (p > last) { last = p; print "backends: " p "0 %"; fflush() } }' ||
	{ sed -n '/^FAILED/,$p' build/ninja.log | head -n 40 >&2; echo "backends: failed; the whole log is in $tree/build/ninja.log" >&2; exit 1; }
cmake --install build --component CPU >build/install.log
touch "$prefix/lib/ollama/.backends"
echo "backends: installed $(find "$prefix/lib/ollama" -maxdepth 1 -name 'libggml-cpu*' | wc -l) in $prefix/lib/ollama"
