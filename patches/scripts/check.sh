#!/bin/bash
# staticcheck and govulncheck on the Go packages, shellcheck on the scripts.
# govulncheck needs the database at vuln.go.dev, or a copy in GOVULNDB: where
# that is out of reach it is left out, and says so.
set -eu -o pipefail

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
pure="./ropescale/... ./convert/... ./evals/... ./patches/... ./tests/house"
export GOWORK=off CGO_ENABLED=0

# shellcheck disable=SC2086 # a list of words
go run $staticcheck $pure ./plugin/...
echo "check: staticcheck finds nothing"

mkdir -p build
# shellcheck disable=SC2086 # a list of words
if GOFLAGS="" go run $govulncheck ${GOVULNDB:+-db "$GOVULNDB"} $pure ./plugin/... >build/govulncheck.log 2>&1; then
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
