#!/bin/sh
# Schemes with an FP8 key/value cache: unlisted ones for whoever names them, listed ones
# built and measured with all others; what verify makes of their scales.
. tests/support/scenario.sh

scheme=fp8_autoquant_all_layers_top50_coco2017
cached=${scheme}_kv8
published=$out/models/tiny_qwen2_5_vl/quantized
baseline=$out/work/tiny_qwen2_5_vl/fp8_autoquant_all_layers_fp8_coco2017
state=layer-sensitivity/fp8_autoquant_all_layers_fp8_autoquant_state.json

few="--set calibrations.coco2017_vlm.calib_samples=4
	--set calibrations.coco2017_vlm.score_samples=4 --set evaluations.image_text.samples=2
	--set families.fp8_autoquant_all_layers_top{percent}_coco2017.percent=[50]"
# shellcheck disable=SC2086
make_tree "$work/tree" $few
cd "$work/tree" || exit 1

# What is there already is calibrated: no block is measured for the cache.
an_unlisted_scheme_is_a_target() {
	build "$scheme"
	is "schemes published" "$(ls "$published")" "$scheme"
	build "$cached"
	is "results computed" "$(computed)" 0
	is exports "$(edges export)" 1
	build "$cached"
	nothing_done
	is verified "$(grep -c '"kv_cache_scales": 12' "$published"/../../../work/*/schemes/"$cached"/verify.json)" 1
	grep -q "^and as NAME_kv8 with the key/value cache in fp8_e4m3 per tensor" "$out/help.txt"
	"$out/bin/release" prune >prune.txt
	grep -qx 'every checkpoint is a scheme of the catalog' prune.txt
}

# Weights are the same files; the scales are those of amax.json.
it_differs_in_the_cache_alone() {
	for file in "$published/$scheme"/*.fp8.safetensors \
		"$published/$scheme"/*.plain.safetensors; do
		is "inode of $file" "$(stat -c %i "$published/$cached/${file##*/}")" \
			"$(stat -c %i "$file")"
	done
	is "parts of the cache" "$(grep -c '_cache": [0-9]' "$baseline/amax.json")" 12
	grep '_cache": [0-9]' "$baseline/amax.json" >calibrated.txt
	grep '_cache": [0-9]' "$published/$cached/$state" >carried.txt
	cmp calibrated.txt carried.txt
	is "scales in the index" "$(grep -c '[kv]_scale"' \
		"$published/$cached/model.safetensors.index.json")" 12
	is "scales of the other" "$(grep -c '[kv]_scale"' \
		"$published/$scheme/model.safetensors.index.json")" 0
	for file in quant_manifest coverage_from_baseline; do
		is "$file" "$(grep -c '"format": "kv8"' \
			"$published/$cached/layer-sensitivity/${cached}_$file.json")" 1
	done
	grep -q 'Key/value cache: FP8' "$published/$cached/README.md"
	is "cards without" "$(grep -c 'Key/value cache' "$published/$scheme/README.md")" 0
}

# ---- verify ----

copy_checkpoint() {
	spoiled_copy "$published/$cached"
}

verify_fails() { # SAYS
	fails 2 "$1" "$out/bin/verify" --model demo/tiny-qwen2_5-vl spoilt
}

# The last tensor is the scale of the last layer's values, in BF16; bytes in octal.
put_last_scale() {
	size=$(stat -c %s spoilt/scales.safetensors)
	# shellcheck disable=SC2059
	printf "$1" | dd of=spoilt/scales.safetensors bs=1 seek=$((size - 2)) conv=notrunc \
		2>/dev/null
	relist scales.safetensors
}

verify_takes_a_copy() {
	copy_checkpoint
	relist scales.safetensors
	"$out/bin/verify" --model demo/tiny-qwen2_5-vl spoilt
}

verify_finds_a_changed_scale() {
	copy_checkpoint
	put_last_scale '\001\075'
	verify_fails 'layers.5.self_attn.v_scale: expected the scale [0-9.]* of the calibration'
	put_last_scale '\300\177'
	verify_fails 'layers.5.self_attn.v_scale: expected a finite scale above 0, found nan'
	put_last_scale '\000\000'
	verify_fails 'layers.5.self_attn.v_scale: expected a finite scale above 0, found 0'
}

verify_finds_a_dropped_scale() {
	copy_checkpoint
	sed -i 's/layers\.3\.self_attn\.k_scale/layers.3.self_attn.q_scale/' \
		spoilt/scales.safetensors spoilt/model.safetensors.index.json
	relist scales.safetensors
	relist model.safetensors.index.json
	verify_fails 'layers.3.self_attn.[kq]_scale'
}

verify_finds_scales_that_nobody_announced() {
	copy_checkpoint
	sed -i 's/"kv_cache":/"no_cache":/' "spoilt/layer-sensitivity/${cached}_quant_manifest.json"
	relist "layer-sensitivity/${cached}_quant_manifest.json"
	verify_fails 'self_attn.[kv]_scale: a scale of what is not quantised, or a stranger'
}

verify_wants_both_configs_to_say_it() {
	copy_checkpoint
	sed -i 's/"kv_cache_quant_algo": "FP8"/"kv_cache_quant_algo": null/' \
		spoilt/hf_quant_config.json
	relist hf_quant_config.json
	verify_fails 'hf_quant_config.json.*kv_cache_quant_algo: the manifest says'
	copy_checkpoint
	sed -i '/"kv_cache_scheme"/,/}/ s/"num_bits": 8/"num_bits": 4/' spoilt/config.json
	relist config.json
	verify_fails 'config.json.*kv_cache_scheme: the manifest says'
}

# ---- listed ones ----

# Its mean KL per graded token.
damage_of() {
	awk -v scheme="\"$1\"" '
		index($0, scheme) { found = 1 }
		found && /"kl":/ { in_kl = 1 }
		in_kl && /"mean":/ { sub(/.*: /, ""); sub(/,$/, ""); print; exit }
	' "$baseline/damage.image_text.json"
}

# A family, and one scheme under the name it has anyway; both in ModelOpt's form too.
listed_schemes_are_built_and_measured() {
	# shellcheck disable=SC2086
	"$out/bin/configure" --out "$out" $few \
		--set "schemes.$cached={\"baseline\": \"fp8_autoquant_all_layers_fp8_coco2017\", \"percent\": 50, \"kv_cache\": \"kv8\"}" \
		>configured.txt
	grep -q '17 schemes' configured.txt
	build "${cached}_modelopt" "$baseline/damage.image_text.json"
	is "blocks calibrated" "$(computed calibrate)" 0
	modelopt=$published/${cached}_modelopt
	is "scales in the index" "$(grep -c 'self_attn.[kv]_proj.[kv]_scale"' \
		"$modelopt/model.safetensors.index.json")" 12
	sed -n '/"kv_cache_scheme"/,/}/p' "$modelopt/config.json" | grep -q '"num_bits": 8'
	grep -q '"kv_cache_quant_algo": "FP8"' "$modelopt/hf_quant_config.json"
	"$out/bin/verify" --model demo/tiny-qwen2_5-vl "$modelopt"
	fails 1 'unknown target' ninja "${cached}_bf16"
}

the_cache_does_a_little_damage() {
	plain=$(damage_of "$scheme")
	cache=$(damage_of "$cached")
	awk -v a="$plain" -v b="$cache" 'BEGIN { exit !(a > 0 && b > 0 && a != b && b < 0.05) }' || {
		echo "KL of $scheme: $plain, of $cached: $cache"
		return 1
	}
}

# As a server would: through the cache, in both forms of the scales.
it_speaks() {
	said=$("$out/bin/generate" --image demo/images/scene_071.png "$published/$cached")
	[ -n "$said" ]
	is modelopt "$("$out/bin/generate" --image demo/images/scene_071.png \
		"$published/${cached}_modelopt")" "$said"
	no_leftovers "$out"
}

check an_unlisted_scheme_is_a_target an_unlisted_scheme_is_a_target
check it_differs_in_the_cache_alone it_differs_in_the_cache_alone
check verify_takes_a_copy verify_takes_a_copy
check verify_finds_a_changed_scale verify_finds_a_changed_scale
check verify_finds_a_dropped_scale verify_finds_a_dropped_scale
check verify_finds_scales_that_nobody_announced verify_finds_scales_that_nobody_announced
check verify_wants_both_configs_to_say_it verify_wants_both_configs_to_say_it
check listed_schemes_are_built_and_measured listed_schemes_are_built_and_measured
check the_cache_does_a_little_damage the_cache_does_a_little_damage
check it_speaks it_speaks
finish
