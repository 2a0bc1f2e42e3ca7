#!/bin/bash
# Runs every fuzz target of the packages for some time each, one after the
# other, and prints a table of their executions: of this run, and of all runs
# that are recorded in the folder. A target that fails does not stop the
# others: its input is in the package's testdata, and the exit status is 1.
#
#   patches/scripts/fuzz.sh FOLDER TIME PACKAGES
#
# TIME is what -fuzztime takes: 60s, 1000000x. Packages of another module are
# written DIR:PACKAGES. FUZZ=REGEXP chooses targets, PARALLEL their processes.
set -eu -o pipefail

folder=$1
time=$2
shift 2
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# none of the targets needs cgo
export GOWORK=off CGO_ENABLED=0
counts=$folder/counts.tsv # date, commit, target, executions, seconds, result
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
started=$(date -u +%FT%TZ)
failed=0

fuzz() { # PACKAGE
	local package=$1 target name log begin result execs
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' | grep -E "${FUZZ:-.}" || true); do
		name=${package#github.com/longrope/longrope/}
		name=${name#github.com/ollama/}:$target
		log=$folder/${name//\//-}.log
		begin=$SECONDS
		result=ok
		# the one input that a worker of go test was at when the time was up counts as a failure
		# of the context's deadline (golang/go issue 75804), and is none
		if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 200x -parallel "${PARALLEL:-1}" "$package" >"$log" 2>&1 &&
			! { grep -q '^ *context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; }; then
			result=FAIL
			failed=1
		fi
		execs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
		printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$started" "$commit" "$name" "${execs:-0}" $((SECONDS - begin)) $result >>"$counts"
		echo "fuzz: $name: ${execs:-0} executions, $result" >&2
	done
}
for packages in "$@"; do
	dir=.
	case $packages in
	*:*) dir=${packages%%:*} ;;
	esac
	[ -d "$dir" ] || continue
	pushd "$dir" >/dev/null
	for package in $(go list "${packages#*:}"); do
		fuzz "$package"
	done
	popd >/dev/null
done

awk -F '\t' -v now="$started" '
	{ all[$3] += $4; total += $4; fails[$3] += $6 != "ok" }
	$1 == now { this[$3] += $4; run += $4 }
	END {
		printf "%-56s %12s %14s %6s\n", "target", "this run", "recorded", "fails"
		for (t in all) printf "%-56s %12d %14d %6d\n", t, this[t], all[t], fails[t] | "sort"
		close("sort")
		printf "%-56s %12d %14d\n", "all", run, total
	}' "$counts"
exit $failed
