#!/bin/bash
# staticcheck and govulncheck on the Go packages, shellcheck on the scripts.
# govulncheck needs the database at vuln.go.dev, or a copy in GOVULNDB: where
# that is out of reach it is left out, and says so.
#
#   patches/scripts/check.sh PACKAGES
set -eu -o pipefail

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
export GOWORK=off CGO_ENABLED=0

go run $staticcheck "$@"
echo "check: staticcheck finds nothing"

mkdir -p build
if GOFLAGS="" go run $govulncheck ${GOVULNDB:+-db "$GOVULNDB"} "$@" >build/govulncheck.log 2>&1; then
	echo "check: govulncheck finds nothing"
elif grep -q 'fetching vulnerabilities' build/govulncheck.log; then
	echo "check: govulncheck is left out: $(tail -n 1 build/govulncheck.log)" >&2
else
	cat build/govulncheck.log >&2
	exit 1
fi

python=build/venv/bin/python
if ! shellcheck=$(command -v shellcheck); then
	shellcheck=build/shellcheck/bin/shellcheck
	[ -x $python ] || python=python3
	[ -x $shellcheck ] || $python -m pip install -q --disable-pip-version-check --retries 1 --timeout 15 \
		--require-hashes --target build/shellcheck -r patches/scripts/pypi/shellcheck.txt ||
		{ echo "check: shellcheck is left out: it is neither here (Debian has it) nor did pip fetch it" >&2; exit 0; }
fi
git ls-files '*.sh' .ci/run | xargs "$shellcheck"
echo "check: shellcheck finds nothing"
