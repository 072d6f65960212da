#!/bin/sh
# GPUs in trouble (tests/gpu/trouble.c): lost in the middle of a run, short of memory,
# without FP8, with a driver that is too old. Each is one line of error, or the same bytes
# by another way. Memory that nothing was written to decides nothing.
. tests/support/scenario.sh

cuda=${CUDA_HOME:-/usr/local/cuda}
bin=$out/bin
images="--model demo/tiny-qwen2_5-vl --calib-db demo/demo_vlm_calib.db --image-root demo \
--prompt answer"
amax=$work/amax.json

# Every run has a tree of its own, unless $tree is set: nothing comes from another's store.
run_tool() {
	tool=$1 result=$2
	shift 2
	"$bin/$tool" --cuda $images --tree "${tree:-$(mktemp -d "$work/tree.XXXXXX")}" \
		--out "$work/$result" "$@"
}
calibrate() {
	run_tool calibrate "$1" --samples 32
}
gradient() {
	run_tool score "$1" --exclude lm_head --samples 32 --amax "$amax"
}
divergence() {
	run_tool score "$1" --exclude lm_head --samples 4 --block-samples 4 --method kl_div \
		--amax "$amax"
}
same() {
	cmp "$work/$1" "$work/$2"
}

# The environment of a run, on one line in front of it.
with() {
	(
		while [ "$1" != -- ]; do
			export "${1?}"
			shift
		done
		shift
		LD_PRELOAD=$work/trouble.so
		export LD_PRELOAD
		"$@"
	)
}

# refuses PATTERN VARIABLE=VALUE -- COMMAND...: exit 3 and one line that matches.
refuses() {
	pattern=$1 found=0
	shift
	with "$@" 2>"$work/refused" || found=$?
	if [ "$found" -ne 3 ] || [ "$(wc -l <"$work/refused")" -ne 1 ] ||
		! grep -Eq "^(calibrate|score): .*$pattern" "$work/refused"; then
		echo "expected exit 3 and one line with /$pattern/, found exit $found and:"
		cat "$work/refused"
		return 1
	fi
}

memory_as_it_comes() {
	for what in calibrate gradient divergence; do
		with QUERN_CUDA_FILL=0 -- $what zeros
		with QUERN_CUDA_FILL=255 -- $what ones
		same zeros ones
		same zeros "$what.json"
	done
}

# Lost at calls spread over the whole run: exit 3, one line, nothing published; the next
# run goes on where blocks are missing, and ends with the same bytes.
lost() {
	with "QUERN_CUDA_COUNT=$work/calls" -- "$1" counted
	calls=$(cat "$work/calls")
	echo "$calls calls"
	[ "$calls" -gt 200 ]
	step=$((calls / 9))
	for at in 1 $step $((3 * step)) $((5 * step)) $((7 * step)) $((calls - 1)); do
		tree=$work/lost.$1.$at
		rm -f "$work/after"
		refuses 'CUDA: ' "QUERN_CUDA_LOSE=$at" -- "$1" after
		[ ! -e "$work/after" ]
		"$1" after
		same after "$1.json"
	done
}
short_of_memory() {
	for megabytes in 1200 780; do
		with QUERN_CUDA_MEMORY=$megabytes -- gradient short
		same short gradient.json
	done
	for megabytes in 300 40; do
		refuses 'out of device memory' QUERN_CUDA_MEMORY=$megabytes -- gradient short
	done
}

# Codes are then multiplied as 16-bit numbers, which --wide-codes asks for on any device.
without_fp8() {
	run_tool score wide --exclude lm_head --samples 32 --amax "$amax" --wide-codes
	with QUERN_CUDA_CAPABILITY=86 -- gradient old
	sed 's/ wide codes//' "$work/wide" | grep -v '"key"' >"$work/wide.values"
	grep -v '"key"' "$work/old" >"$work/old.values"
	same wide.values old.values
	if same wide gradient.json; then
		return 1
	fi
}
too_old() {
	refuses 'compute capability 8.0 or newer' QUERN_CUDA_CAPABILITY=75 -- calibrate old
}

# cudaErrorInsufficientDriver and cudaErrorNoDevice
no_device() {
	for status in 35 100; do
		refuses 'CUDA: expected a device' QUERN_CUDA_STATUS=$status -- calibrate none
		with QUERN_CUDA_STATUS=$status -- "$bin/calibrate" $images --samples 4 \
			--tree "$work/none.$status" --out "$work/none" >"$work/said"
		grep -q 'on the CPU' "$work/said"
	done
}

if [ ! -e "$bin/libquern_gpu.so" ] || ! calibrate calibrate.json 2>"$work/why"; then
	reason='no GPU answers, or this build has no CUDA'
	for name in memory_as_it_comes lost_while_calibrating lost_while_scoring \
		lost_while_comparing short_of_memory without_fp8 too_old no_device; do
		skipped $name "$reason"
	done
	finish
fi
${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -shared -fPIC -I"$cuda/include" \
	-o "$work/trouble.so" tests/gpu/trouble.c || exit 1
"$bin/merge" --out "$amax" "$work/calibrate.json" || exit 1
gradient gradient.json && divergence divergence.json || exit 1
check memory_as_it_comes memory_as_it_comes
check lost_while_calibrating lost calibrate
check lost_while_scoring lost gradient
check lost_while_comparing lost divergence
check short_of_memory short_of_memory
check without_fp8 without_fp8
check too_old too_old
check no_device no_device
finish
