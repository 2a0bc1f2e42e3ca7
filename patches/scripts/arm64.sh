#!/bin/bash
# Cross-compiles a release for Linux on arm64 into PREFIX/arm64: the CPU
# backends, one for each instruction set that the compiler knows, and the
# program. PREFIX/arm64.txt says "made", or why not; that a machine has no cross
# compiler is no failure. There is no Vulkan backend in it.
#
#   patches/scripts/arm64.sh TREE PREFIX LDFLAGS
set -eu -o pipefail

tree=$1 ldflags=$3
mkdir -p "$2"
prefix=$(cd "$2" && pwd)
cc=aarch64-linux-gnu-gcc cxx=aarch64-linux-gnu-g++
left_out() {
	echo "left out: $1" >"$prefix/arm64.txt"
	echo "arm64: $1: left out" >&2
	exit 0
}
[ "$(uname -s)-$(uname -m)" != Linux-aarch64 ] || left_out "it is the machine's own"
command -v $cxx >/dev/null || left_out "no cross compiler (Debian: g++-aarch64-linux-gnu)"
CCACHE_BASEDIR=$(pwd)
export CC=$cc CXX=$cxx CCACHE_BASEDIR CCACHE_NOHASHDIR=1
top=$(pwd)

# The host's cmake has one CPU backend on arm64; ggml's own can have one for each instruction set.
# cmake cannot install what is cross-compiled as the host says it, nor has to.
cd "$tree"
mkdir -p build-arm64
echo 'set(CMAKE_CROSSCOMPILING FALSE)' >build-arm64/install.cmake
set -- --preset CPU -G Ninja -B build-arm64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DGGML_NATIVE=OFF \
	"-DCMAKE_PROJECT_INCLUDE=$PWD/build-arm64/install.cmake" \
	-DGGML_CPU_ALL_VARIANTS=ON -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=\$ORIGIN" \
	-DCMAKE_CUDA_COMPILER=NOTFOUND -DCMAKE_HIP_COMPILER=NOTFOUND -DCMAKE_DISABLE_FIND_PACKAGE_Vulkan=ON
if [ ! -e build-arm64/build.ninja ] || [ "$(cat build-arm64/longrope-args 2>/dev/null)" != "$*" ]; then
	echo "arm64: configuring $tree"
	rm -f build-arm64/CMakeCache.txt build-arm64/longrope-args
	cmake "$@" >build-arm64/configure.log 2>&1 || { tail -n 30 build-arm64/configure.log >&2; exit 1; }
	printf '%s' "$*" >build-arm64/longrope-args
fi
mapfile -t variants < <(ninja -C build-arm64 -t targets all | sed -n 's/^\(ggml-cpu-armv[0-9._]*\): phony$/\1/p')
if ! $cxx -march=armv9.2-a+sme -E -x c++ /dev/null >/dev/null 2>&1; then
	for i in "${!variants[@]}"; do case ${variants[$i]} in *armv9.2*) unset "variants[$i]" ;; esac; done
fi
echo "arm64: building ${#variants[@]} CPU backends (some minutes the first time)"
ninja -C build-arm64 "${variants[@]}" >build-arm64/ninja.log 2>&1 || {
	sed -n '/^FAILED/,$p' build-arm64/ninja.log | head -n 40 >&2
	echo "arm64: failed; the whole log is in $tree/build-arm64/ninja.log" >&2
	exit 1
}
lib=$prefix/arm64/lib/ollama
rm -rf "$prefix/arm64/lib"
mkdir -p "$lib"
cp -P build-arm64/lib/ollama/libggml-base.so* "$lib"
for v in "${variants[@]}"; do cp -P "build-arm64/lib/ollama/lib$v.so" "$lib"; done

cd "$top"
echo "arm64: building the program (ten minutes the first time)"
CGO_ENABLED=1 GOARCH=arm64 go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$prefix/arm64/bin/ollama" ./plugin/ollama
ln -sfn "$(cd "$tree" && pwd)" "$prefix/arm64/host"
echo "made: by $($cxx --version | head -n 1)" >"$prefix/arm64.txt"
echo "arm64: made $prefix/arm64"
