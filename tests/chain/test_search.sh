#!/bin/sh
# The search beyond one format: several candidate formats in one baseline, KL scores,
# budgets, pins, patterns, lists, coverage manifests as rules, every budget at once; and
# that formats, samples and rules added later cost only themselves.
. tests/support/scenario.sh

# write_catalog FORMATS SCORE_SAMPLES [MORE SCHEMES]
write_catalog() {
	cat >"$tree/schemes.json" <<-TEXT
	{
	  "models": { "tiny": { "path": "demo/tiny-qwen2_5-vl", "kind": "qwen2_5_vl",
	    "stand_in": true } },
	  "calibrations": { "text": { "captions": "demo/demo_captions.txt",
	    "data": "rendered demo scenes", "stand_in": true, "prompt_form": "text",
	    "calib_samples": 8, "score_samples": $2, "block_samples": 4 } },
	  "formats": {
	    "FP8": { "element": "fp8_e4m3", "granularity": "tensor",
	      "exclude": ["lm_head", "visual.*"] },
	    "MY_MLP_ONLY": { "element": "nvfp4", "granularity": "block16",
	      "include": ["language_model.*.mlp.*"] },
	    "INT8": { "element": "int8", "granularity": "channel",
	      "exclude": ["lm_head", "visual.*"] },
	    "INT4": { "element": "int4", "granularity": "group128_weight_only",
	      "exclude": ["lm_head", "visual.*"], "on_bad_shape": "bf16" },
	    "INT4_STRICT": { "element": "int4", "granularity": "group128_weight_only",
	      "exclude": ["lm_head", "visual.*"] }
	  },
	  "baselines": {
	    "mixed": { "model": "tiny", "calibration": "text", "formats": [$1] },
	    "by_kl": { "model": "tiny", "calibration": "text", "formats": ["FP8"],
	      "method": "kl_div", "score_samples": 4 }
	  },
	  "families": {},
	  "schemes": {
	    "mixed_6_bits": { "baseline": "mixed", "effective_bits": 6 },
	    "half_by_kl": { "baseline": "by_kl", "percent": 50 },
	    "attention_only": { "baseline": "by_kl",
	      "groups": ["language_model.*.self_attn.*"] },
	    "ends_kept": { "baseline": "by_kl", "effective_bits": 12,
	      "pin_bf16": ["language_model.layers.0.*", "language_model.layers.5.*"] }
	    ${3-}
	  }
	}
	TEXT
}

slice_of() {
	echo "$tree/$out/work/tiny/schemes/$1/slice.json"
}

# How many groups of a scheme's slice have a format whose name begins so.
in_format() {
	sed -n '/"formats": {/,/}/p' "$(slice_of "$1")" | grep -c "\": \"$2(" || true
}

# field FILE NAME: the number of a field.
field() {
	sed -n "s/^ *\"$2\": \([0-9.e+-]*\),*\$/\1/p" "$1" | head -n 1
}

at_most() {
	awk -v a="$2" -v b="$3" 'BEGIN { exit !(a <= b) }' || {
		echo "$1: expected at most $3, found $2"
		return 1
	}
}

builds_everything() {
	make_tree "$tree"
	write_catalog '"FP8", "MY_MLP_ONLY"' 8
	cd "$tree"
	build
	is "computed score blocks" "$(computed score)" 5
	is "published checkpoints" "$(ls "$out/models/tiny/quantized" | grep -vc json)" 6
	is "verified schemes" "$(find "$out/work" -name verify.json | wc -l)" 6
	build
	nothing_done
}

mixes_formats() {
	at_most "bits of mixed_6_bits" "$(field "$(slice_of mixed_6_bits)" delivered_bits)" 6
	is "attention in NVFP4" \
		"$(sed -n '/"formats": {/,/}/p' "$(slice_of mixed_6_bits)" |
			grep self_attn | grep -c MY_MLP_ONLY)" 0
	test "$(in_format mixed_6_bits MY_MLP_ONLY)" -gt 0
	test "$(in_format mixed_6_bits FP8)" -gt 0
}

keeps_patterns() {
	is "attention_only" "$(field "$(slice_of attention_only)" num_layers_selected)" 12
	selected=$(sed -n '/"selected_layers"/,/]/p' "$(slice_of attention_only)")
	is "MLP groups in attention_only" "$(echo "$selected" | grep -c mlp)" 0
	selected=$(sed -n '/"selected_layers"/,/]/p' "$(slice_of ends_kept)")
	is "pinned groups in ends_kept" "$(echo "$selected" | grep -c 'layers\.[05]\.')" 0
	at_most "bits of ends_kept" "$(field "$(slice_of ends_kept)" delivered_bits)" 12
	is "half_by_kl" "$(field "$(slice_of half_by_kl)" num_layers_selected)" 12
}

names_the_method() {
	grep -q '"auto_quantize_method": "kl_div"' \
		"$tree/$out/models/tiny/quantized/half_by_kl/layer-sensitivity/half_by_kl_quant_manifest.json"
}

# A format, samples or a rule more: only what is new runs.
extends() {
	cd "$tree"
	write_catalog '"FP8", "MY_MLP_ONLY", "INT4"' 8
	build
	is "score blocks of a new format" "$(computed score)" 2
	is "calibrated blocks" "$(computed calibrate)" 0
	write_catalog '"FP8", "MY_MLP_ONLY", "INT4"' 12
	build
	is "score blocks of four more samples" "$(computed score)" 3
	write_catalog '"FP8", "MY_MLP_ONLY", "INT4"' 12 \
		', "mixed_8_bits": { "baseline": "mixed", "effective_bits": 8 }'
	build
	is "score blocks of another budget" "$(computed score)" 0
	at_most "bits of mixed_8_bits" "$(field "$(slice_of mixed_8_bits)" delivered_bits)" 8
}

takes_coverage_manifests() {
	cd "$tree"
	cp "$(slice_of half_by_kl)" theirs.json
	write_catalog '"FP8"' 8 ', "as_theirs": { "baseline": "by_kl",
	  "coverage_manifest": "theirs.json" }'
	build as_theirs
	is "selected" "$(field "$(slice_of as_theirs)" num_layers_selected)" 12
	sed 's/layers.0.self_attn.q_proj/layers.9.self_attn.q_proj/' theirs.json >changed.json
	mv changed.json theirs.json
	if ninja as_theirs >build.txt 2>&1; then
		echo "a manifest of another model was taken"
		return 1
	fi
	grep -q 'theirs.json:.*layers.9.self_attn.q_proj' build.txt
}

# Another run's manifest in place of scores: the same slices, and nothing scored.
imports() {
	cd "$tree"
	theirs=$out/models/tiny/quantized/by_kl/layer-sensitivity/by_kl_quant_manifest.json
	cp "$theirs" imported.json
	write_catalog '"FP8"' 8 ', "half_imported": { "baseline": "imported", "percent": 50 }'
	sed 's/^    "by_kl":/    "imported": { "model": "tiny", "calibration": "text",\
	      "formats": ["FP8"], "import": "imported.json" },\
	    "by_kl":/' schemes.json >changed.json && mv changed.json schemes.json
	build half_imported
	is "computed score blocks" "$(computed score)" 0
	for list in selected_layers dropped_layers; do
		for scheme in half_by_kl half_imported; do
			sed -n "/\"$list\"/,/]/p" "$(slice_of $scheme)" >"$scheme.txt"
		done
		cmp half_by_kl.txt half_imported.txt
	done
	# The costs tell a manifest of another format or model.
	sed 's/32768/32769/' imported.json >changed.json && mv changed.json imported.json
	if ninja half_imported >build.txt 2>&1; then
		echo "a manifest of another model was taken"
		return 1
	fi
	grep -q '^rank: imported.json: .*expected a cost of 32768 ' build.txt
}

# Half a second in FP8, one as it is: 24 groups in 18 seconds are 12 in FP8.
spends_measured_costs() {
	cd "$tree"
	sed -n 's/^    "\(language_model.*quant_recipe\)": {$/\1/p' \
		"$out/models/tiny/quantized/by_kl/layer-sensitivity/by_kl_quant_manifest.json" |
		awk 'BEGIN { printf "{ \"unit\": \"seconds\", \"groups\": {" }
			{ printf "%s\n\"%s\": {\"FP8\": 0.5, \"NONE\": 1}", (NR > 1 ? "," : ""), $1 }
			END { print "}}" }' >costs.json
	write_catalog '"FP8"' 8 ', "in_18_seconds": { "baseline": "by_kl",
	  "costs": "costs.json", "budget": 18 }'
	build in_18_seconds
	is "selected" "$(field "$(slice_of in_18_seconds)" num_layers_selected)" 12
	is "cost" "$(field "$(slice_of in_18_seconds)" cost)" 18
}

solves_every_budget() {
	cd "$tree"
	write_catalog '"FP8", "MY_MLP_ONLY", "INT4"' 8
	build pareto
	csv=$out/work/tiny/mixed/pareto.csv
	is "last budget" "$(tail -n 1 "$csv" | cut -d, -f1,3)" "16,0"
	awk -F, 'NR > 2 && $3 > before { exit 1 } { before = $3 }' "$csv"
	is "unproven" "$(awk -F, 'NR > 1 && $4 != 0' "$csv" | wc -l)" 0
}

refuses_budgets() {
	cd "$tree"
	write_catalog '"FP8"' 8 ', "too_few": { "baseline": "mixed", "effective_bits": 7 }'
	if ninja too_few >build.txt 2>&1; then
		echo "7 bits out of 8-bit formats were found"
		return 1
	fi
	grep -q '^slice: too_few: .*effective_bits 7 cannot be reached.* 8\.0000$' build.txt
}

refuses_catalogs() {
	cd "$tree"
	write_catalog '"INT4_STRICT"' 8
	fails 2 'INT4_STRICT: .*down_proj has 688 columns.*128' "$out/bin/configure" --out "$out"
	write_catalog '"FP9"' 8
	fails 2 'schemes.json:[0-9]+:.*FP9' "$out/bin/configure" --out "$out"
	write_catalog '"FP8", "FP8"' 8
	fails 2 'named twice' "$out/bin/configure" --out "$out"
	write_catalog '"FP8"' 8 ', "both": { "baseline": "mixed", "percent": 5, "groups": ["*"] }'
	fails 2 'at most one of' "$out/bin/configure" --out "$out"
	write_catalog '"FP8"' 8 ', "none": { "baseline": "mixed", "effective_bits": 0 }'
	fails 2 'effective_bits: expected a number above 0' "$out/bin/configure" --out "$out"
	write_catalog '"FP8"' 8
	sed 's/"channel"/"chanel"/' schemes.json >changed.json && mv changed.json schemes.json
	fails 2 'INT8.granularity: .*"int8" "channel".*found "int8" "chanel"' "$out/bin/configure" \
		--out "$out"
}

# What would only be noticed after hours of scoring.
refuses_what_names_nothing() {
	cd "$tree"
	for rule in '"groups": ["*.mpl.*"]' '"pin_quantized": ["visual.*"]' \
		'"pin_bf16": ["*.q_proj", "*.k_proj"]' '"cost_exclude": ["*.mlp"]'; do
		field=$(echo "$rule" | cut -d'"' -f2)
		write_catalog '"FP8"' 8 ", \"odd\": { \"baseline\": \"by_kl\", $rule }"
		fails 2 "schemes.odd.$field: no group of (by_kl|tiny) matches" "$out/bin/configure" \
			--out "$out"
	done
	write_catalog '"FP8"' 8 ', "odd": { "baseline": "by_kl", "groups": [] }'
	fails 2 'schemes.odd.groups: expected at least one glob' "$out/bin/configure" --out "$out"
	# What the baseline leaves as it is anyway, it may be told to.
	write_catalog '"FP8"' 8 ', "whole": { "baseline": "by_kl", "pin_bf16": ["visual.*"] }'
	"$out/bin/configure" --out "$out" >configured.txt
	write_catalog '"FP8"' 8 ', "odd": { "baseline": "by_kl", "coverage_manifest": "gone.json" }'
	fails 2 'gone.json: the coverage manifest of scheme odd is missing' "$out/bin/configure" \
		--out "$out"
	write_catalog '"FP8"' 8 ', "odd": { "baseline": "by_kl", "costs": "gone.json", "budget": 1 }'
	fails 2 'gone.json: the file of costs of scheme odd is missing' "$out/bin/configure" \
		--out "$out"
}

tree=$work/tree
check builds_everything builds_everything
check mixes_formats mixes_formats
check keeps_patterns keeps_patterns
check names_the_method names_the_method
check extends extends
check takes_coverage_manifests takes_coverage_manifests
check imports imports
check spends_measured_costs spends_measured_costs
check solves_every_budget solves_every_budget
check refuses_budgets refuses_budgets
check refuses_catalogs refuses_catalogs
check refuses_what_names_nothing refuses_what_names_nothing
finish
