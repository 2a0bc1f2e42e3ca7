#!/bin/bash
# go test, with its usual lines and, alongside what fails, what was skipped and
# why: go test alone says nothing of skipped tests, go test -v says too much.
# The whole output is in the log.
#
#   patches/scripts/gotest.sh LOG arguments of go test
set -eu -o pipefail

log=$1
shift
mkdir -p "$(dirname "$log")"
go test -v "$@" 2>&1 | tee "$log" | awk '
	function flush_test() { printf "%s", text; text = "" }
	/^=== RUN/ && $3 !~ "/"          { text = ""; next }  # a test begins
	/^=== (RUN|PAUSE|CONT|NAME)/     { next }
	/^--- PASS/                      { next }             # its subtests follow
	/^ *--- (FAIL|SKIP)/             { flush_test(); print; next }
	/^ +--- PASS/                    { next }
	/^(ok|FAIL|\?|PASS$|panic:|# )/  { if ($1 != "PASS") { if ($1 != "ok" && $1 != "?") flush_test(); text = ""; print; fflush() } next }
	                                 { text = text $0 "\n" }
	END                              { if (text ~ /panic|fatal|cannot|undefined|error/) flush_test() }
' || { echo "$(basename "$0"): failed; the whole output is in $log" >&2; exit 1; }
