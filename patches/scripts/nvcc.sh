#!/bin/sh
# Gets NVIDIA's CUDA compiler from PyPI into build/nvcc, with which a test
# compiles the patched CUDA source for several GPUs. It needs no GPU and no
# driver. Optional: without Python or a network that test skips, and says so.
#
#   patches/scripts/nvcc.sh            the compiler
#   patches/scripts/nvcc.sh toolkit    and what the backend is linked with, for
#                                      make dist: cuBLAS, 420 MB more
set -eu

want="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
libraries="nvidia-cublas==13.1.0.3"
dir=build/nvcc
toolkit=${1:-}

skip() {
	if [ -n "$toolkit" ]; then
		echo "nvcc: $1" >&2
		exit 1
	fi
	echo "nvcc: $1; the test that compiles CUDA will skip" >&2
	exit 0
}

# fetch NAME unpacks what pypi/NAME.txt lists, with its hashes, in $tmp
fetch() {
	python=build/venv/bin/python
	[ -x $python ] || python=$(command -v python3) || skip "no python3"
	$python -m pip --version >/dev/null 2>&1 || skip "no pip (Debian: apt-get install python3-pip)"
	mkdir -p build
	tmp=$(mktemp -d build/nvcc.XXXXXX)
	trap 'rm -rf "$tmp"' EXIT
	$python -m pip install -q --disable-pip-version-check --no-deps --no-compile --retries 1 --timeout 15 --require-hashes --target "$tmp" -r "patches/scripts/pypi/$1.txt" >build/nvcc.log 2>&1 ||
		skip "pip could not fetch it, see build/nvcc.log"
	rm -f build/nvcc.log
}

case "$(uname -s)-$(uname -m)" in
Linux-x86_64 | Linux-aarch64) ;;
*) skip "PyPI has no nvcc for $(uname -s) on $(uname -m)" ;;
esac
if [ -x $dir/bin/nvcc ] && [ "$(cat $dir/.packages 2>/dev/null)" = "$want" ]; then
	[ -n "$toolkit" ] || echo "nvcc: $dir has nvcc"
else
	echo "nvcc: downloading nvcc 13.0 (100 MB)"
	fetch nvcc
	chmod +x "$tmp"/nvidia/cu13/bin/* "$tmp"/nvidia/cu13/nvvm/bin/*
	rm -rf $dir
	mv "$tmp/nvidia/cu13" $dir
	rm -rf "$tmp"
	echo "$want" >$dir/.packages
	echo "nvcc: made $dir with $($dir/bin/nvcc --version | sed -n 's/.*release \([0-9.]*\).*/nvcc \1/p')"
fi

if [ -z "$toolkit" ] || [ "$(cat $dir/.libraries 2>/dev/null)" = "$libraries" ]; then
	exit 0
fi
echo "nvcc: downloading cuBLAS (420 MB)"
fetch cublas
cp -R "$tmp"/nvidia/cu13/include/. $dir/include
for f in "$tmp"/nvidia/cu13/lib/libcublas*.so.*; do mv "$f" $dir/lib; done
cat "$tmp"/nvidia_cublas-*/licenses/License.txt >$dir/LICENSE
# A toolkit has these names, a wheel has not.
ln -sfn lib $dir/lib64
for f in "$dir"/lib/libcu*.so.[0-9]*; do ln -sf "$(basename "$f")" "${f%.so.*}.so"; done
# The driver has libcuda, here is what it is linked by: names.
mkdir -p $dir/lib/stubs
gcc -E -P -I$dir/include -x c - <<-'DRIVER' | grep -o '\bcu[A-Z][A-Za-z0-9_]*(' | sort -u |
	#include <cuda.h>
DRIVER
	sed 's/\(.*\)(/void \1(void) {}/' >$dir/lib/stubs/libcuda.c
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o $dir/lib/stubs/libcuda.so $dir/lib/stubs/libcuda.c
echo "$libraries" >$dir/.libraries
echo "nvcc: $dir has cuBLAS too"
