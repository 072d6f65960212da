#!/bin/sh
# The profiles and layouts of one scheme: the same model in other clothes.
. tests/support/scenario.sh

scheme=fp8_autoquant_all_layers_top50_coco2017
published=$out/models/tiny_qwen2_5_vl/quantized
work_of=$out/work/tiny_qwen2_5_vl/schemes/$scheme

make_tree "$work/tree" --set calibrations.coco2017_vlm.calib_samples=16 \
	--set calibrations.coco2017_vlm.score_samples=16
cd "$work/tree" || exit 1

answer() {
	"$out/bin/generate" --image demo/images/scene_071.png "$1"
}

each_profile_is_a_target() {
	build "$scheme"
	is "profiles nobody asked for" "$(ls "$published")" "$scheme"
	build "$scheme" "${scheme}_modelopt" "${scheme}_bf16"
	is exports "$(edges export)" 2
	is verified "$(cat "$work_of"/verify*.json | grep -c '"verified": true')" 3
	build "${scheme}_modelopt" "${scheme}_bf16"
	nothing_done
	ninja -t query "${scheme}_universal" >query.txt 2>&1 && return 1
	grep -q 'unknown target' query.txt
}

# Every file of codes and of plain weights is one file under several names.
profiles_share_their_pieces() {
	for file in "$published/$scheme"/*.fp8.safetensors \
		"$published/$scheme"/*.plain.safetensors "$published/$scheme/rest.safetensors"; do
		twin=$published/${scheme}_modelopt/${file##*/}
		is "inode of $twin" "$(stat -c %i "$twin")" "$(stat -c %i "$file")"
		case $file in *.fp8.*) continue ;; esac
		twin=$published/${scheme}_bf16/${file##*/}
		is "inode of $twin" "$(stat -c %i "$twin")" "$(stat -c %i "$file")"
	done
	is "files of scales" "$(find "$published" -name scales.safetensors | wc -l)" 2
	is "configs in the twin" \
		"$(grep -c quantization_config "$published/${scheme}_bf16/config.json")" 0
	[ ! -e "$published/${scheme}_bf16/hf_quant_config.json" ]
	cmp "$published/${scheme}_bf16/config.json" demo/tiny-qwen2_5-vl/config.json
}

they_say_the_same() {
	said=$(answer "$published/$scheme")
	is modelopt "$(answer "$published/${scheme}_modelopt")" "$said"
	is bf16 "$(answer "$published/${scheme}_bf16")" "$said"
}

# ---- verify ----

# A copy of the checkpoint to spoil.
copy_of() {
	spoiled_copy "$published/$1"
}

verify_says() {
	fails 2 "$1" "$out/bin/verify" --model demo/tiny-qwen2_5-vl spoilt
}

verify_knows_the_twins_weights() {
	copy_of "${scheme}_bf16"
	file=visual.blocks.0.attn.qkv.bf16.safetensors
	printf '\060' | dd of="spoilt/$file" bs=1 seek=$(($(stat -c %s "spoilt/$file") - 1)) \
		conv=notrunc 2>/dev/null
	verify_says "$file: expected SHA-256"
	relist "$file"
	verify_says 'visual.blocks.0.attn.qkv.weight\[.*expected what comes back of'
}

verify_wants_no_config_beside_the_twin() {
	copy_of "$scheme"
	cp "$published/${scheme}_bf16/config.json" spoilt
	relist config.json
	verify_says 'hf_quant_config.json: expected no such file'
}

# Codes under the other profile's scales.
verify_knows_the_profiles_scales() {
	copy_of "${scheme}_modelopt"
	cp "$published/$scheme/scales.safetensors" spoilt
	relist scales.safetensors
	verify_says 'expected 1 F32 of rank 0, found 1 BF16 of rank 1'
}

verify_knows_the_card() {
	copy_of "$scheme"
	cp "$published/${scheme}_modelopt/README.md" spoilt
	verify_says 'README.md: expected the SHA-256 of the list of files'
	cp "$published/$scheme/README.md" spoilt
	sed -i 's/universal/modelopt/' spoilt/README.md
	verify_says 'README.md: expected "SHA-256 of all lines above: .*" as its last line'
	rm spoilt/README.md
	verify_says 'README.md: cannot open'
}

# Of another checkpoint, of nothing, and none.
verify_knows_the_description() {
	copy_of "$scheme"
	cp "$published/${scheme}_modelopt/README.md" spoilt
	cp "$published/${scheme}_modelopt"/layer-sensitivity/* spoilt/layer-sensitivity
	verify_says 'spoilt/.*: expected (SHA-256|[0-9]* bytes)'
	rm spoilt/layer-sensitivity/*
	verify_says 'layer-sensitivity: expected one list of files .*, found 0'
	rmdir spoilt/layer-sensitivity
	verify_says 'layer-sensitivity: cannot open'
}

# What one program makes of the files, and why.
verify_explains_a_consumer() {
	"$out/bin/verify" --consumer vllm --layer model.layers.3.self_attn.q_proj \
		"$published/$scheme" >layer.txt
	grep -q '^vLLM (compressed-tensors), its choice by itself: language_model.layers.3' \
		layer.txt
	is modules "$(grep -c ' builds .*layers.3.self_attn.qkv_proj of q_proj, k_proj, v_proj$' \
		layer.txt)" 2
	is rules "$(grep -c '  rule     vllm/model_executor/.*py, [a-z_A-Z.]*$' layer.txt)" 2
	"$out/bin/verify" --consumer tensorrt-llm "$published/$scheme" >all.txt
	grep -q 'lost: [1-9][0-9]* that are quantised' all.txt
	for program in vllm sglang tensorrt-llm; do
		"$out/bin/verify" --consumer $program "$published/${scheme}_modelopt" >all.txt
		grep -q 'modeling_\|modelopt' all.txt
	done
	"$out/bin/verify" --consumer transformers "$published/${scheme}_bf16" >all.txt
	grep -q 'finds no quantization config' all.txt
	fails 2 'neither config says anything that transformers reads' \
		"$out/bin/verify" --consumer transformers "$published/${scheme}_modelopt"
	fails 1 'expected vllm, sglang' "$out/bin/verify" --consumer llama "$published/$scheme"
	fails 1 'has no linear "q_proj"' \
		"$out/bin/verify" --consumer vllm --layer q_proj "$published/$scheme"
}

# An entry more: three linears in FP8 that vLLM would build in BF16.
verify_names_what_a_consumer_gets_wrong() {
	copy_of "${scheme}_modelopt"
	sed -i 's/"ignore": \[/"ignore": [ "model.layers.1.self_attn.*",/' spoilt/config.json
	fails 2 'vLLM \(modelopt\) builds 4 linears otherwise.*layers.1.self_attn.q_proj' \
		"$out/bin/verify" --consumer vllm spoilt
	grep -q 'entry    "model.layers.1.self_attn.\*" as a wildcard covers it' "$work/fails.out"
}

# ---- copies ----

upload() {
	(cd "$1" && find -L . -type f) | while read -r file; do
		mkdir -p "$2/${file%/*}"
		cat "$1/$file" >"$2/$file"
	done
}
untar() {
	mkdir "$2"
	tar -C "$1" -cf - . | tar -C "$2" -xf -
}

# However it is copied, it is the same checkpoint and says the same.
copies_are_the_same() {
	command -v rsync >/dev/null || echo "without rsync"
	digests "$published/$scheme" >files.txt
	said=$(answer "$published/$scheme")
	for way in 'cp -r' 'cp -rL' untar upload 'rsync -a'; do
		[ "$way" != 'rsync -a' ] || command -v rsync >/dev/null || continue
		rm -rf copy
		case $way in
		rsync*) $way "$published/$scheme/" copy ;;
		*) $way "$published/$scheme" copy ;;
		esac
		digests copy | cmp - files.txt
		"$out/bin/verify" --model demo/tiny-qwen2_5-vl copy
		is "said after $way" "$(answer copy)" "$said"
		is "links after $way" "$(find copy -type l | wc -l)" 0
	done
}

# ---- the store ----

# Whoever may not write cannot; whoever may is found out, in every checkpoint that has the
# piece, and the next build makes it again.
edits_do_not_poison_the_store() {
	file=visual.blocks.0.attn.qkv.fp8.safetensors
	before=$(sha256sum <"$published/$scheme/$file")
	is writable "$(find "$published" "$out/store/objects" -type f -links +1 -perm /222 |
		wc -l)" 0
	chmod u+w "$published/$scheme/$file"
	printf x | dd of="$published/$scheme/$file" bs=1 seek=5000 conv=notrunc 2>/dev/null
	for folder in "$scheme" "${scheme}_modelopt"; do
		fails 2 "$folder/$file: expected SHA-256" \
			"$out/bin/verify" --model demo/tiny-qwen2_5-vl "$published/$folder"
	done
	"$out/bin/store" --tree "$out" verify >store.txt 2>&1 || true
	grep -q "${before%% *}" store.txt
	build "$scheme" "${scheme}_modelopt" "${scheme}_bf16"
	for folder in "$scheme" "${scheme}_modelopt"; do
		is "$folder" "$(sha256sum <"$published/$folder/$file")" "$before"
		"$out/bin/verify" --model demo/tiny-qwen2_5-vl "$published/$folder"
	done
	build "$scheme" "${scheme}_modelopt" "${scheme}_bf16"
	nothing_done
}

prune_knows_the_profiles() {
	"$out/bin/release" prune >prune.txt
	grep -qx 'every checkpoint is a scheme of the catalog' prune.txt
}

# Damage to what only the twin has is found, and made anew, like any other.
damaged_twins_come_back() {
	file=$published/${scheme}_bf16/visual.blocks.0.attn.qkv.bf16.safetensors
	before=$(sha256sum <"$file")
	chmod u+w "$file"
	printf x | dd of="$file" bs=1 seek=5000 conv=notrunc 2>/dev/null
	build "${scheme}_bf16" "${scheme}_modelopt"
	is exports "$(edges export)" 1
	is "the file" "$(sha256sum <"$file")" "$before"
}

a_scheme_may_not_have_a_profiles_name() {
	cp schemes.json kept.json
	sed -i "s/\"fp8_autoquant_top25\": {/\"${scheme}_bf16\": {/" schemes.json
	fails 2 "schemes.${scheme}_bf16: the name is that of another target" \
		"$out/bin/configure" --out "$out"
	mv kept.json schemes.json
}

packed_layout() {
	said=$(answer "$published/$scheme")
	"$out/bin/configure" --out "$out" --set calibrations.coco2017_vlm.calib_samples=16 \
		--set calibrations.coco2017_vlm.score_samples=16 \
		--set baselines.fp8_autoquant_all_layers_fp8_coco2017.layout=packed >/dev/null
	build "$scheme" "${scheme}_modelopt" "${scheme}_bf16"
	is "results computed" "$(computed quantize)" 0
	is verified "$(cat "$work_of"/verify*.json | grep -c '"layout": "packed"')" 3
	for folder in "$scheme" "${scheme}_modelopt" "${scheme}_bf16"; do
		is "weights of $folder" "$(cd "$published/$folder" && ls ./*.safetensors)" \
			./model-00001-of-00001.safetensors
		is "$folder" "$(answer "$published/$folder")" "$said"
	done
	no_leftovers "$out"
}

check each_profile_is_a_target each_profile_is_a_target
check profiles_share_their_pieces profiles_share_their_pieces
check they_say_the_same they_say_the_same
check verify_knows_the_twins_weights verify_knows_the_twins_weights
check verify_wants_no_config_beside_the_twin verify_wants_no_config_beside_the_twin
check verify_knows_the_profiles_scales verify_knows_the_profiles_scales
check verify_knows_the_card verify_knows_the_card
check verify_knows_the_description verify_knows_the_description
check verify_explains_a_consumer verify_explains_a_consumer
check verify_names_what_a_consumer_gets_wrong verify_names_what_a_consumer_gets_wrong
check prune_knows_the_profiles prune_knows_the_profiles
check copies_are_the_same copies_are_the_same
check edits_do_not_poison_the_store edits_do_not_poison_the_store
check damaged_twins_come_back damaged_twins_come_back
check a_scheme_may_not_have_a_profiles_name a_scheme_may_not_have_a_profiles_name
check packed_layout packed_layout
finish
