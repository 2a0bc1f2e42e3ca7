#!/bin/sh
# Makes build/venv with the Python packages that a few tests read our files
# and Metal's shader with. Optional: without Python or a network those tests
# skip, and say so. TORCH=1 adds transformers, to load checkpoints with: 3 GB;
# accelerate is for those in MXFP4.
set -eu

# pypi/NAME.txt has each package that is fetched with its hashes. To change one:
# uv pip compile --universal --generate-hashes --no-annotate --no-header NAME.in -o NAME.txt
want="gguf==0.19.0 libclang==18.1.1"
pins=patches/scripts/pypi/venv.txt
if [ -n "${TORCH:-}" ]; then
	want="$want torch==2.15.0 transformers==5.23.0 accelerate==1.15.0"
	pins=patches/scripts/pypi/torch.txt
fi
venv=build/venv
case "$(cat $venv/.packages 2>/dev/null) " in
"$want "*) # or more
	if [ -x $venv/bin/python ]; then
		echo "venv: $venv has $want"
		exit 0
	fi
	;;
esac
skip() {
	rm -rf $venv
	echo "venv: $1; the tests that need $want will skip" >&2
	exit 0
}
command -v python3 >/dev/null || skip "no python3"
mkdir -p build
python3 -m venv $venv >build/venv.log 2>&1 || skip "python3 -m venv failed (Debian: apt-get install python3-venv), see build/venv.log"
$venv/bin/python -m pip install -q --disable-pip-version-check --retries 1 --timeout 15 --require-hashes -r $pins >build/venv.log 2>&1 ||
	skip "pip could not fetch $want, see build/venv.log"
echo "$want" >$venv/.packages
echo "venv: made $venv with $want"
