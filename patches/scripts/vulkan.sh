#!/bin/bash
# Builds the host's Vulkan backend with its own cmake preset and installs it in
# PREFIX/lib/ollama/vulkan, where the host looks for it if OLLAMA_VULKAN=1. Gets
# Mesa's lavapipe, a Vulkan device made of the processor, so that tests run the
# shaders on any machine; nothing but a test that asks for it ever takes it.
# Without the packages, and no right to install them, it says so and builds
# nothing: the tests that need it skip.
#
#   patches/scripts/vulkan.sh TREE PREFIX
set -eu -o pipefail

tree=$1
mkdir -p "$2"
prefix=$(cd "$2" && pwd)
build=$tree/build/vulkan
lib=$prefix/lib/ollama/vulkan/libggml-vulkan.so

skip() {
	echo "vulkan: $1; the tests that need it will skip" >&2
	exit 0
}

[ "$(uname -s)" = Linux ] || skip "only built on Linux"

# missing sets $missing to the Debian packages of what is not there.
find_missing() {
	missing=
	command -v glslc >/dev/null || missing="$missing glslc"
	printf '#include <vulkan/vulkan.hpp>\n' | g++ -E -x c++ - >/dev/null 2>&1 || missing="$missing libvulkan-dev"
	compgen -G '/usr/share/vulkan/icd.d/lvp_icd*' >/dev/null || missing="$missing mesa-vulkan-drivers"
}
find_missing
if [ -n "$missing" ]; then
	root=
	if ! command -v apt-get >/dev/null; then
		skip "missing, by their Debian names:$missing"
	elif [ "$(id -u)" != 0 ]; then
		sudo -n true 2>/dev/null || skip "missing: as root, run: apt-get install$missing"
		root=sudo
	fi
	echo "vulkan: installing$missing"
	# shellcheck disable=SC2086 # a list of words
	install() { DEBIAN_FRONTEND=noninteractive $root apt-get install -y -q --no-install-recommends $missing >/dev/null; }
	install || { $root apt-get update -q >/dev/null && install; } || skip "apt-get could not install$missing"
	find_missing
	[ -z "$missing" ] || skip "installed, but still not found:$missing"
fi

# As backends.sh does: ccache with relative paths, and put before the compiler
# by the host's cmake.
CCACHE_BASEDIR=$(pwd)
export CCACHE_BASEDIR CCACHE_NOHASHDIR=1
for v in CC CXX; do
	if [[ ${!v:-} == "ccache "* ]]; then export $v="${!v#ccache }"; fi
done

set -- --preset Vulkan -G Ninja "-DCMAKE_INSTALL_PREFIX=$prefix" "-DCMAKE_INSTALL_RPATH=\$ORIGIN:\$ORIGIN/.." \
	-DCMAKE_CUDA_COMPILER=NOTFOUND -DCMAKE_HIP_COMPILER=NOTFOUND
if [ ! -e "$build/build.ninja" ] || [ "$(cat "$build/longrope-args" 2>/dev/null)" != "$*" ]; then
	echo "vulkan: configuring $tree"
	mkdir -p "$build"
	rm -f "$build/CMakeCache.txt" "$build/longrope-args"
	cmake -S "$tree" -B "$build" "$@" >"$build/configure.log" 2>&1 || { tail -n 30 "$build/configure.log" >&2; exit 1; }
	printf '%s' "$*" >"$build/longrope-args"
fi
# The generator of shaders is a project of its own, which ninja builds always:
# so it cannot say whether there is work to do. The sources can.
sum=$(cd "$tree" && find ml/backend/ggml/ggml/src/ggml-vulkan ml/backend/ggml/ggml/include ml/backend/ggml/ggml/src/ggml*.[ch]* -type f -exec sha256sum {} + | sort -k2 | sha256sum)
if [ -e "$lib" ] && [ "$(cat "$build/longrope-built" 2>/dev/null)" = "$sum" ]; then
	echo "vulkan: up to date in $prefix/lib/ollama/vulkan"
	exit 0
fi
echo "vulkan: building $tree: a thousand shaders, some minutes the first time"
rm -f "$build/longrope-built"
ninja -C "$build" ggml-vulkan 2>&1 | tee "$build/ninja.log" |
	awk -F'[][/]' '/^\[/ { p = int($2 * 10 / $3); if (p > last) { last = p; print "vulkan: " p "0 %"; fflush() } }' ||
	{ sed -n '/^FAILED/,$p' "$build/ninja.log" | head -n 40 >&2; echo "vulkan: failed; the whole log is in $build/ninja.log" >&2; exit 1; }
cmake --install "$build" --component Vulkan >"$build/install.log"
printf '%s' "$sum" >"$build/longrope-built"
echo "vulkan: installed in $prefix/lib/ollama/vulkan"
