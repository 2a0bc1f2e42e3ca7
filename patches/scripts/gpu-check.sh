#!/bin/bash
# What a machine with a GPU can show, in one report: conformance of RoPE with
# rows, perplexity and passkeys of two models on the GPU, speed next to the
# unpatched host. It takes what lies in build/ and needs no network and no
# compiler, so build/, evals/ and patches/ may be carried to such a machine.
#
#   patches/scripts/gpu-check.sh prepare   build what it runs (make gpu-check does)
#   patches/scripts/gpu-check.sh run       run it; SECONDS_MAX=600
#
# DRY=1 runs on the CUDA kernels compiled for the CPU, DRY=vulkan the Vulkan
# backend on Mesa's lavapipe: that shows that the check works, and no speed.
set -eu -o pipefail

dir=build/gpu-check
limit=${SECONDS_MAX:-570}
dry=${DRY:-}

if [ "${1:-}" = prepare ]; then
	mkdir -p $dir
	go test -c -o $dir/tests.test ./tests
	go build -o $dir/probe-patched ./tests/probe
	GOWORK=$PWD/build/host-stock.work go build -tags stock -o $dir/probe-stock ./tests/probe
	git rev-parse --short HEAD >$dir/commit 2>/dev/null || echo unknown >$dir/commit
	exit 0
fi
say() { echo "gpu-check: $*" >&2; }
for f in build/bin/ollama $dir/tests.test $dir/probe-patched $dir/probe-stock; do
	[ -x "$f" ] || { say "no $f: run make gpu-check where Go is, and carry build/, evals/ and patches/ here"; exit 1; }
done

# a test binary runs where its package lies; this one needs only the folder
run_tests() { mkdir -p tests && (cd tests && "$OLDPWD/$dir/tests.test" "$@"); }
root=$PWD
libs=$root/build/lib/ollama
devices() { OLLAMA_LIBRARY_PATH=$1 run_tests -test.run '^TestDevices$' -test.v 2>/dev/null | sed -n 's/.*: device \(.*\)/\1/p'; }

# The first folder of backends in which a GPU is found, a vendor's own before Vulkan; on a Mac the
# program has its backend in itself.
gpu='' path='' folder=''
# shellcheck disable=SC2086 # patterns of names
case $dry in
'') folders="$( (cd "$libs" && for f in 'cuda*' 'rocm*' vulkan; do ls -dr $f; done) 2>/dev/null || true) none" ;;
vulkan)
	folders=vulkan
	# shellcheck disable=SC2012 # sorted, and no odd names
	driver=$(ls /usr/share/vulkan/icd.d/lvp_icd*.json 2>/dev/null | head -n 1 || true)
	[ -n "$driver" ] || { say "no lavapipe for DRY=vulkan: make vulkan gets it"; exit 1; }
	export VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver GGML_VK_VISIBLE_DEVICES=0 GGML_VK_DISABLE_F16=1 # see tests/vulkan_test.go
	;;
*) folders=dry ;;
esac
for folder in $folders; do
	case $folder in
	dry)
		run_tests -test.run '^TestCUDAShim$' >/dev/null # makes it
		path=$libs:$root/build/cudashim/lib/ollama
		;;
	none) path=$libs ;;
	*) path=$libs:$libs/$folder ;;
	esac
	gpu=$(devices "$path" | grep -E "^[^,]*\.[0-9]+, GPU: " | head -n 1 || true)
	[ -z "$gpu" ] || break
done
if [ -z "$gpu" ]; then
	say "no GPU that a backend in $libs can use. make cuda builds that for NVIDIA's, make vulkan that for others'; DRY=1 make gpu-check tries the check itself"
	exit 1
fi
name=${gpu%%.*}
# what would build the unpatched host's backend, where it is missing
no_stock=
case $folder in
cuda* | rocm*) [ -d "build/stock/lib/ollama/$folder" ] || no_stock="make cuda" ;;
vulkan) [ -d build/stock/lib/ollama/vulkan ] || no_stock="patches/scripts/vulkan.sh build/host-stock build/stock" ;;
esac
export OLLAMA_LIBRARY_PATH=$path
say "on $gpu${dry:+ (a dry run)}"

report=$dir/report.md
left() { echo $((limit - SECONDS)); }
# as_code COMMAND... puts what it says into the report, at most until the limit
as_code() {
	local status=0
	printf '```\n$ %s\n' "${*//$root\//}" >>$report
	if [ "$(left)" -lt 5 ]; then
		echo "(not run: $limit s are over)" >>$report
		status=124
	else
		timeout "$(left)" "$@" >$dir/out 2>$dir/err || status=$?
		cat $dir/out >>$report
		grep -E 'tokens evaluated on|rror|failed' $dir/err >>$report || true
		[ $status = 0 ] || echo "(ended with status $status$([ $status != 124 ] || echo ', the time was over'))" >>$report
	fi
	printf '```\n\n' >>$report
	return $status
}

{
	echo "# GPU check: ${gpu#*GPU: }"
	echo
	[ -z "$dry" ] || printf '**A dry run, on a CPU.** It shows that the check works; its figures of speed mean nothing.\n\n'
	echo "$(date -u +%FT%TZ), commit $(cat $dir/commit), $(build/bin/ollama --version 2>/dev/null | grep -o 'version.*' | head -n 1)"
	echo
	if nvidia-smi >/dev/null 2>&1; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | sed 's/^/- /'; fi
	OLLAMA_LIBRARY_PATH=$path devices "$path" | sed 's/^/- /'
	printf '\n## Conformance against the float64 oracle\n\n'
} >$report

failed=
tests='TestConformance|TestRowsOfOneVector|TestBackward|TestTokensTakeTheirRow|TestNormedRope|TestFusedRope'
[ "$dry" != vulkan ] || tests='TestConformance)$/^Vulkan.*/(normal|neox)$/^f32$|^(TestNormedRope' # all of them are in TestVulkan
run_tests -test.v -test.timeout $((limit / 2))s -test.run "^($tests)\$/^$name\\." >$dir/conformance.log 2>&1 || failed=1
{
	echo "| modes and types | what was measured |"
	echo "|---|---|"
	awk '/^=== RUN/ { name = $3 } /cases, worst deviation|not supported by|of the cases with a cache/ { sub(/^ *[a-z_]*test.go:[0-9]*: /, ""); print "| " name " | " $0 " |" }' $dir/conformance.log
	echo
	if [ -n "$failed" ]; then
		echo "**FAILED**; the whole output is in $dir/conformance.log:"
		printf '```\n'
		grep -E -A12 '^ *--- FAIL|Error:|panic|GGML_ASSERT' $dir/conformance.log | head -n 60
		printf '```\n'
	else
		echo "All passed: $(grep -c '^ *--- PASS' $dir/conformance.log) tests and groups."
	fi
} >>$report
say "conformance: ${failed:-passed}" "after $SECONDS s"

default=evals/default/model.gguf
# shellcheck disable=SC2012 # sorted, and no odd names
smollm2=$(ls build/smollm2/*.gguf 2>/dev/null | head -n 1 || true)

# quality NAME MODEL METHODS LENGTH...: one length after the other, until one does not fit
quality() {
	local label=$1 model=$2 methods=$3
	shift 3
	printf '## Perplexity and passkeys: %s\n\n' "$label" >>$report
	if [ -z "$model" ]; then
		printf 'Not there: make smollm2 fetches it.\n\n' >>$report
		return
	fi
	for length in "$@"; do
		# shellcheck disable=SC2086 # depths are a flag and its value, or nothing
		as_code build/bin/ollama longrope eval all "$model" --lengths "$length" --methods "$methods" --target "$length" --windows 1 --trials 1 $depths \
			--csv "$dir/$label-$length.csv" || break
		say "$label at $length after $SECONDS s"
	done
}
found=stock,ntk,yarn
[ ! -e build/run/factors.json ] || found=stock,yarn,build/run/factors.json
depths=
case $dry in
vulkan) depths="--depths 0.5" found=yarn ;; # lavapipe evaluates some ten tokens a second
?*) found=stock,yarn ;;
esac
if [ -n "$dry" ]; then
	quality default $default $found 512
	quality SmolLM2 "$smollm2" yarn 256
else
	quality default $default "$found" 256 512 1k 2k
	quality SmolLM2 "$smollm2" stock,ntk,yarn 4k 8k 16k 32k 64k
fi

# speed NAME MODEL PREFILL DECODE: the unpatched host, the patched one, the patched one with rows,
# in turn
speed() {
	local label=$1 model=$2 prefill=$3 decode=$4 rows=$dir/$1-rows.gguf round side
	[ -n "$model" ] || return 0
	build/bin/ollama longrope convert "$model" --method yarn --target $((prefill + decode)) --start-window 16 -o "$rows" >/dev/null 2>$dir/err ||
		{ printf 'speed of %s: %s\n\n' "$label" "$(cat $dir/err)" >>$report; return 0; }
	: >$dir/speed
	for round in 1 2 3 4; do # the first one warms up
		for side in stock patched rows; do
			[ "$(left)" -ge 5 ] || break 2
			local lib=$path file=$model host=$side
			case $side in
			stock) lib=${path//$root\/build\/lib/$root/build/stock/lib} ;;
			rows) file=$rows host=patched ;;
			esac
			if [ $side = stock ] && [ -n "$no_stock" ]; then continue; fi
			OLLAMA_LIBRARY_PATH=$lib timeout "$(left)" $dir/probe-$host speed "$file" "$prefill" "$decode" 2>>$dir/err |
				sed "s/^/$round $side /" >>$dir/speed || echo "speed of $label, $side: $(tail -n 1 $dir/err)" >>$report
		done
	done
	rm -f "$rows"
	awk -v label="$label" -v prefill="$prefill" -v decode="$decode" '
		function field(key) { if (match($0, "\"" key "\":[0-9.e+]*")) return substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) + 0 }
		$1 > 1 { n[$2]++; p[$2, n[$2]] = field("prefill"); d[$2, n[$2]] = field("decode") }
		function median(x, s,   i, j, t, v) { for (i = 1; i <= n[s]; i++) { v[i] = x[s, i]; for (j = i; j > 1 && v[j] < v[j-1]; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t } } return v[int((n[s] + 1) / 2)] }
		END {
			base = n["stock"] ? "stock" : "patched"
			for (k = split("stock patched rows", side, " "); k >= 1; k--) order[k] = side[k]
			for (k = 1; k <= 3; k++) { s = order[k]; if (n[s]) printf "| %s, %d + %d tokens | %s | %.0f | %.3f | %.1f | %.3f |\n", label, prefill, decode, s, median(p, s), median(p, s) / median(p, base), median(d, s), median(d, s) / median(d, base) }
		}' $dir/speed >>$report
	say "speed of $label after $SECONDS s"
}
{
	printf '## Speed\n\nTokens per second, medians of three rounds in turn, and their ratio to the unpatched host'
	[ -z "$no_stock" ] || printf ' (whose backend is not there, %s builds it: ratio to the patched host without rows)' "$no_stock"
	printf '.\n\n| model | host | prefill/s | ratio | decode/s | ratio |\n|---|---|---|---|---|---|\n'
} >>$report
if [ -n "$dry" ]; then
	speed default $default 256 16
else
	speed default $default 2048 256
	speed SmolLM2 "$smollm2" 4096 128
fi
printf '\n%s s in all.\n' "$SECONDS" >>$report
rm -f $dir/out $dir/err $dir/speed
say "report in $report"
[ -z "$failed" ]
