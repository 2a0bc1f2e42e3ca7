#!/bin/sh
# Gets NVIDIA's CUDA compiler from PyPI into build/nvcc, with which a test
# compiles the patched CUDA source for several GPUs. It needs no GPU and no
# driver. Optional: without Python or a network that test skips, and says so.
# To build the backend itself takes a whole toolkit: see make cuda.
set -eu

want="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
dir=build/nvcc
if [ -x $dir/bin/nvcc ] && [ "$(cat $dir/.packages 2>/dev/null)" = "$want" ]; then
	echo "nvcc: $dir has nvcc"
	exit 0
fi
skip() {
	echo "nvcc: $1; the test that compiles CUDA will skip" >&2
	exit 0
}
case "$(uname -s)-$(uname -m)" in
Linux-x86_64 | Linux-aarch64) ;;
*) skip "PyPI has no nvcc for $(uname -s) on $(uname -m)" ;;
esac
python=build/venv/bin/python
[ -x $python ] || python=$(command -v python3) || skip "no python3"
$python -m pip --version >/dev/null 2>&1 || skip "no pip (Debian: apt-get install python3-pip)"

mkdir -p build
rm -rf $dir
tmp=$(mktemp -d build/nvcc.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
echo "nvcc: downloading nvcc 13.0 (100 MB)"
# shellcheck disable=SC2086 # a list of words
$python -m pip install -q --disable-pip-version-check --no-deps --no-compile --retries 1 --timeout 15 --target "$tmp" $want >build/nvcc.log 2>&1 ||
	skip "pip could not fetch it, see build/nvcc.log"
chmod +x "$tmp"/nvidia/cu13/bin/* "$tmp"/nvidia/cu13/nvvm/bin/*
mv "$tmp/nvidia/cu13" $dir
echo "$want" >$dir/.packages
rm -f build/nvcc.log
echo "nvcc: made $dir with $($dir/bin/nvcc --version | sed -n 's/.*release \([0-9.]*\).*/nvcc \1/p')"
