#!/bin/sh
# The bench of tests/bench/gpu, small and on the CPU: that its table has all stages and
# columns, and what it says of stages that did not run. The figures are nobody's business.
. tests/support/scenario.sh

stages="scan_inputs decode_image calibrate_image calibrate_text gradient_image gradient_text kl_image
quantize catalog_cold catalog_warm export evaluate_image"

# The cells of a stage in the table of the last bench.
cells() {
	sed -n "s/^$1 *//p" "$work/table.txt"
}

bench() {
	QUERN_TREE=$out tests/bench/gpu --shape tiny --cpu --samples 8 "$@" \
		--json "$work/bench.json" >"$work/table.txt" 2>"$work/bench.err" || {
		cat "$work/bench.err" "$work/table.txt"
		return 1
	}
}

all_stages_have_all_columns() {
	bench
	for stage in $stages; do
		is "the columns of $stage" "$(cells "$stage" | wc -w)" 11
		grep -q "\"$stage\": {\"run\": true" "$work/bench.json"
	done
	for stage in calibrate_image calibrate_text gradient_image gradient_text; do
		is "samples of $stage" "$(cells $stage | awk '{ print $1 }')" 8
		cells $stage | awk '{ exit !($2 > 0 && $6 > 0 && $11 > 0) }'
	done
}

stages_can_be_chosen() {
	bench --stages quantize
	is "the columns of quantize" "$(cells quantize | wc -w)" 11
	is "gradient_text" "$(cells gradient_text)" "not run: not asked for"
	grep -q '"gradient_text": {"run": false, "reason": "not asked for", "samples": null' \
		"$work/bench.json"
}

check all_stages_have_all_columns all_stages_have_all_columns
check stages_can_be_chosen stages_can_be_chosen
finish
