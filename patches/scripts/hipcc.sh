#!/bin/bash
# Gets AMD's HIP compiler from Debian (110 MB), with which a test compiles the
# patched CUDA source for AMD's GPUs. It needs no GPU and no driver. Optional:
# where it cannot be had that test skips, and says so. To build the backend
# itself takes ROCm 6.1 or newer, which Debian 12 does not have.
set -eu -o pipefail

if command -v hipcc >/dev/null; then
	echo "hipcc: $(hipcc --version 2>/dev/null | head -n 1) is there"
	exit 0
fi
skip() {
	echo "hipcc: $1; the test that compiles HIP will skip" >&2
	exit 0
}
command -v apt-get >/dev/null || skip "no hipcc, and no apt-get to install it"
root=
if [ "$(id -u)" != 0 ]; then
	sudo -n true 2>/dev/null || skip "missing: as root, run: apt-get install --no-install-recommends hipcc"
	root=sudo
fi
echo "hipcc: installing hipcc (110 MB)"
install() { DEBIAN_FRONTEND=noninteractive $root apt-get install -y -q --no-install-recommends hipcc libamdhip64-dev >/dev/null; }
install || { $root apt-get update -q >/dev/null && install; } || skip "apt-get could not install hipcc"
echo "hipcc: installed $(hipcc --version 2>/dev/null | head -n 1)"
