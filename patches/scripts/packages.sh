#!/bin/sh
# Makes sure that what the build needs is there: checks for the things
# themselves, not for package names, so any system that has them passes,
# offline too; installs Debian packages for those missing when it may.
#
#   patches/scripts/packages.sh          with HOST_SRC set, the host's clone brings its own headers
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

header() { # is there such a header on the compiler's own path?
	has g++ && printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | g++ -E -x c++ - >/dev/null 2>&1
}

# missing sets $missing to the Debian packages of what is not there.
find_missing() {
	missing=
	has gcc || missing="$missing gcc"
	has g++ || missing="$missing g++"
	has cmake || missing="$missing cmake"
	has ninja || missing="$missing ninja-build"
	if [ -z "${HOST_SRC:-}" ]; then
		header nlohmann/json.hpp || missing="$missing nlohmann-json3-dev"
		header stb/stb_image.h || missing="$missing libstb-dev"
	fi
}

if ! has go; then
	echo "packages: no go command: install Go 1.24 or later (https://go.dev/dl, or Debian's golang)" >&2
	exit 1
fi
find_missing
if [ -z "$missing" ]; then
	echo "packages: all there"
	has ccache || echo "packages: ccache is not installed; with it, a changed patch series builds faster"
	exit 0
fi

root=
if ! has apt-get; then
	echo "packages: missing, by their Debian names:$missing" >&2
	echo "packages: install them with your system's package manager, then run make again" >&2
	echo "packages: (a git clone of the host brings nlohmann-json and stb: make HOST_SRC=DIR build)" >&2
	exit 1
elif [ "$(id -u)" != 0 ]; then
	if has sudo && sudo -n true 2>/dev/null; then
		root=sudo
	else
		echo "packages: missing:$missing" >&2
		echo "packages: as root, run: apt-get install$missing" >&2
		exit 1
	fi
fi
has ccache || missing="$missing ccache"
echo "packages: installing$missing"
# shellcheck disable=SC2086 # a list of words
install() { DEBIAN_FRONTEND=noninteractive $root apt-get install -y -q --no-install-recommends $missing >/dev/null; }
install || { $root apt-get update -q >/dev/null && install; } || {
	echo "packages: apt-get could not install$missing: see above, then run make again" >&2
	exit 1
}
find_missing
if [ -n "$missing" ]; then
	echo "packages: installed, but still not found:$missing" >&2
	exit 1
fi
