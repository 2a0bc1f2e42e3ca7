#!/bin/bash
# Runs the tests that kill, tear, fill and crowd, round after round with other
# seeds, for so many hours, and prints one table. After each part of a round no
# process and no file of it is left, or that counts as a failure; the last
# column is the most memory that a part took in its first and its last round.
#
#   patches/scripts/soak.sh FOLDER HOURS
#
# A part that fails says its seed in FOLDER/failed-*.log. SOAK=REGEXP chooses
# parts, SEED the first seed. Tests that lack something skip.
set -eu -o pipefail

folder=$1
seconds=$(awk -v h="$2" 'BEGIN { printf "%d", h * 3600 }')
rm -rf "$folder/tmp"
mkdir -p "$folder/tmp"
folder=$(cd "$folder" && pwd)
table=$folder/soak.tsv # part, seed, result, seconds, kB of memory, and the figures that its log says
: >"$table"

# name, cgo, package, tests
parts="convert 0 convert/atomicfile TestKill|TestDiskFull|TestWritersToOnePath
disk 0 convert TestDiskFull|TestWriteFails|TestCancel
journal 0 ropescale/study TestDiskFull|TestKilled
search 0 plugin/longrope TestKilled|TestStopped|TestAlone
network 0 plugin/workers TestTornNetwork|TestKilledServer|TestServerForgets
rogues 0 plugin/workers TestRogues|TestPutOut|TestDisowned|TestQueueLost|TestLostWorkers
server 1 tests TestSoak|TestOrphans"
parts=$(grep -E "^(${SOAK:-.})" <<<"$parts")

while read -r name cgo package _; do
	[ "$cgo" = 0 ] || [ -x build/bin/ollama ] || continue
	work=off
	[ "$cgo" = 0 ] || work=$(go env GOWORK)
	CGO_ENABLED=$cgo GOWORK=$work go test -c -o "$folder/$name.test" "./$package"
done <<<"$parts"

failed=0
seed=${SEED:-1}
SECONDS=0
while [ $SECONDS -lt "$seconds" ]; do
	while read -r name cgo package tests; do
		[ -x "$folder/$name.test" ] || continue
		log=$folder/$name.log
		result=ok
		begin=$SECONDS
		rm -f "$folder/memory"
		(cd "$package" && TMPDIR=$folder/tmp LONGROPE_KILL_SEED=$seed LONGROPE_SOAK=${ROUND:-10m} \
			/usr/bin/time -f %M -o "$folder/memory" \
			"$folder/$name.test" -test.run "^($tests)\$" -test.v -test.timeout 2h) >"$log" 2>&1 </dev/null || result=FAIL
		sleep 1 # what was told to end does
		if pgrep -f "$folder/tmp" >>"$log"; then
			echo "soak: a process is left" >>"$log"
			result=FAIL
		fi
		if [ -n "$(ls -A "$folder/tmp")" ]; then
			ls -R "$folder/tmp" >>"$log"
			echo "soak: a file is left" >>"$log"
			result=FAIL
			rm -rf "$folder/tmp"
			mkdir "$folder/tmp"
		fi
		if [ $result = FAIL ]; then
			failed=1
			cp "$log" "$folder/failed-$name-$seed.log"
		fi
		# what a test logs: "20 kills", "3 cuts, 2 half-closed, …"
		figures=$(sed -n '/: round /d; s/^ *[a-z_]*_test\.go:[0-9]*: //p' "$log" | awk '
			{ gsub(/[,;]/, " ") }
			{ for (i = 1; i < NF; i++) if ($i ~ /^[0-9]+$/) {
				k = $(i + 1)
				if (k == "kills") kills += $i
				if (k ~ /^(cuts|half-closed|repeats)$/) torn += $i
				if (k == "times" && /disk was full/) full += $i
				if (k == "requests") requests += $i
				if (k == "of" && /ties/) ties += $i
			} }
			END { printf "%d\t%d\t%d\t%d\t%d", kills, torn, full, requests, ties }')
		printf '%s\t%d\t%s\t%d\t%s\t%s\n' "$name" "$seed" "$result" $((SECONDS - begin)) \
			"$(tail -n 1 "$folder/memory" 2>/dev/null || echo 0)" "$figures" >>"$table"
		echo "soak: $name, seed $seed: $result" >&2
	done <<<"$parts"
	seed=$((seed + 1))
done

awk -F '\t' -v hours="$(awk -v s=$SECONDS 'BEGIN { printf "%.1f", s / 3600 }')" '
	{
		rounds[$1]++; fails[$1] += $3 != "ok"; last[$1] = $5
		if (!($1 in first)) { first[$1] = $5; order[++n] = $1 }
		for (i = 6; i <= 10; i++) { sum[$1, i] += $i; all[i] += $i }
		total++; wrong += $3 != "ok"
	}
	END {
		form = "%-9s %7s %6s %7s %7s %7s %9s %6s  %s\n"
		printf form, "part", "rounds", "fails", "kills", "torn", "full", "requests", "ties", "MB, first and last"
		for (j = 1; j <= n; j++) {
			p = order[j]
			printf form, p, rounds[p], fails[p], sum[p, 6], sum[p, 7], sum[p, 8], sum[p, 9], sum[p, 10], int(first[p] / 1024) " " int(last[p] / 1024)
		}
		printf form, "all", total, wrong, all[6], all[7], all[8], all[9], all[10], "in " hours " hours"
	}' "$table"
exit $failed
