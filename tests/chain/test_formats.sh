#!/bin/sh
# Every number format as checkpoints, alone and mixed, text and vision: all profiles are
# verified, each says in its configurations what the others say, answers alike, and
# damage to any kind of tensor is noticed.
. tests/support/scenario.sh

tree=$work/tree
published=$out/models/tiny/quantized
work_of=$out/work/tiny/schemes

schemes="fp8_rows int8 int8_half int4 nvfp4 awq_half mixed_7_bits fp8_nvfp4_7_bits awq_fp8_7_bits"

builds_every_profile() {
	catalog=$repo/tests/support/every_format.json
	make_tree "$tree"
	cd "$tree"
	build all awq_bf16 $(for s in $schemes; do echo "${s}_modelopt ${s}_bf16"; done)
	for scheme in $schemes; do
		is "profiles of $scheme" \
			"$(cat $work_of/$scheme/verify*.json | grep -c '"verified": true')" 3
	done
	build all
	nothing_done
}

# words SCHEME FILE PATTERN...: the file has each.
words() {
	file=$published/$1/$2
	shift 2
	for pattern; do
		grep -q -e "$pattern" "$file" || {
			echo "$file: expected /$pattern/"
			return 1
		}
	done
}

names_formats() {
	cd "$tree"
	words fp8_rows config.json '"format": "float-quantized"' '"strategy": "token"'
	words int8 config.json '"format": "int-quantized"' '"strategy": "channel"'
	words int4 config.json '"format": "pack-quantized"' '"input_activations": null'
	words nvfp4 config.json '"format": "nvfp4-pack-quantized"' '"dynamic": "local"'
	words mixed_7_bits config.json '"format": "mixed-precision"' '"format": "pack-quantized"' \
		'"group_1"' '"re:.*layers'
	words fp8_nvfp4_7_bits config.json '"format": "mixed-precision"' \
		'"format": "float-quantized"' '"format": "nvfp4-pack-quantized"'
	# Their tensors are not ModelOpt's.
	for scheme in $schemes; do
		[ ! -e "$published/$scheme/hf_quant_config.json" ]
	done
	words fp8_rows_modelopt hf_quant_config.json '"FP8_PER_CHANNEL_PER_TOKEN"'
	words int8_modelopt hf_quant_config.json '"W8A8_SQ_PER_CHANNEL"'
	words int4_modelopt hf_quant_config.json '"W4A16_AWQ"' '"group_size": 128'
	words awq_half config.json '"format": "pack-quantized"' '"input_activations": null'
	words awq_half_modelopt hf_quant_config.json '"W4A16_AWQ"' '"group_size": 128' \
		'"pre_quant_scale": false'
	words awq_fp8_7_bits config.json '"format": "pack-quantized"' '"format": "float-quantized"'
	words nvfp4_modelopt hf_quant_config.json '"NVFP4"' '"group_size": 16'
	words fp8_nvfp4_7_bits_modelopt hf_quant_config.json '"MIXED_PRECISION"' \
		'"quantized_layers"'
	words fp8_nvfp4_7_bits_modelopt config.json '"MIXED_PRECISION"' '"quantized_layers"'
}

# The formats a scheme has, not all that its search could choose from.
cards_name_what_is_there() {
	cd "$tree"
	is 'formats of fp8_nvfp4' "$(sed -n 's/.*"\(.*\)(effective.*/\1/p' \
		"$work_of/fp8_nvfp4/slice.json" | sort -u)" TEXT_NVFP4
	words fp8_nvfp4 README.md '^- Groups in NVFP4: 24 of 24$' '^- nvfp4$'
	words fp8_nvfp4_7_bits README.md '^- Groups in NVFP4 and FP8: 20 of 24$'
}

# What the shape of the vision tower's down_proj does not allow stays as it is.
leaves_bad_shapes() {
	cd "$tree"
	[ -e "$published/nvfp4/visual.blocks.0.attn.qkv.nvfp4.safetensors" ]
	[ -e "$published/nvfp4/visual.blocks.0.mlp.down_proj.plain.safetensors" ]
	[ -e "$published/int4/language_model.layers.0.mlp.gate_proj.int4.safetensors" ]
	[ -e "$published/int4/language_model.layers.0.mlp.down_proj.plain.safetensors" ]
}

answer() {
	"$out/bin/generate" --image demo/images/scene_071.png "$published/$1"
}

profiles_answer_alike() {
	cd "$tree"
	for scheme in $schemes; do
		is "$scheme in ModelOpt's tensors" "$(answer "${scheme}_modelopt")" "$(answer "$scheme")"
		answer "${scheme}_bf16" | grep -q .
	done
}

# spoil SCHEME FILE AT: a copy of which one byte is another, and its list knows.
spoil() {
	spoiled_copy "$published/$1"
	size=$(stat -c %s "spoilt/$2")
	printf '\377' | dd of="spoilt/$2" bs=1 seek=$((size - $3)) conv=notrunc 2>/dev/null
	! cmp -s "spoilt/$2" "$published/$1/$2"
	relist "$2"
}

notices() {
	fails 2 "$1" "$out/bin/verify" --model demo/tiny-qwen2_5-vl spoilt
}

# The 17th byte from the end of a piece is the upper one of a scale, of a row, group or
# block (after int4's are the 16 bytes of its shape); long before it are codes.
notices_damage() {
	cd "$tree"
	piece=language_model.layers.0.self_attn.q_proj
	for scheme in fp8_rows int8 int4 nvfp4; do
		element=${scheme%_rows}
		for profile in "" _modelopt; do
			spoil $scheme$profile $piece.$element.safetensors 17
			notices 'v_proj\.weight(_packed)?\[[0-9]+, [0-9]+\]: expected what comes back'
			spoil $scheme$profile $piece.$element.safetensors 9000
			notices 'proj\.weight(_packed)?\[[0-9]+, [0-9]+\]: expected what comes back'
		done
		spoil ${scheme}_bf16 $piece.bf16.safetensors 1
		notices "v_proj.weight\[[0-9]+\]: expected what comes back of .* in"
	done
	for scheme in int8 nvfp4; do
		spoil $scheme scales.safetensors 1
		notices 'a finite scale above 0|expected what comes back'
	done
}

# Where a group has channel scales its norm has them too, in every profile and layout; the
# others are the base's, and a checkpoint of no such format has none apart.
folds_norms() {
	cd "$tree"
	norms=norms.safetensors
	for scheme in awq_half awq_fp8_7_bits; do
		for profile in _modelopt _bf16; do
			cmp "$published/$scheme/$norms" "$published/$scheme$profile/$norms"
		done
		! cmp -s "$published/awq/$norms" "$published/$scheme/$norms"
	done
	[ ! -e "$published/int4/$norms" ]
	grep -q 'channel scales (AWQ) folded in' "$published/awq_half/README.md"
	! grep -q AWQ "$published/int4/README.md"
	is "tensors of awq_half" \
		"$(grep -c 'norm.*weight": "norms.safetensors"' "$published/awq_half/model.safetensors.index.json")" 20
	grep -q '"error_without"' "$out/work/tiny/awq/fold.AWQ.json"
	command=$(ninja -t commands awq_half | grep 'bin/export .*--scheme awq_half ' |
		sed 's|--layout [a-z]*|--layout packed|; s|--out .*|--out packed|')
	sh -c "$command"
	[ ! -e "packed/$norms" ]
	"$out/bin/verify" --model demo/tiny-qwen2_5-vl packed
}

# The least bits of a channel, its sign, and a norm that nobody folded.
notices_other_norms() {
	cd "$tree"
	for scheme in awq awq_bf16; do
		spoil $scheme norms.safetensors 2
		notices 'expected what comes back'
		spoil $scheme norms.safetensors 1
		notices 'post_attention_layernorm.weight\[255\]: expected the base.* positive scale'
		spoil $scheme norms.safetensors 8704
		notices 'norm1.weight: expected the base.s bytes'
	done
}

# Another checkpoint's configuration over the same tensors.
notices_other_words() {
	cd "$tree"
	spoiled_copy "$published/int8"
	sed -i 's/"strategy": "channel"/"strategy": "tensor"/' spoilt/config.json
	relist config.json
	notices 'expected INT8 by channel, found INT8 by'
}

check builds_every_profile builds_every_profile
check names_formats names_formats
check cards_name_what_is_there cards_name_what_is_there
check leaves_bad_shapes leaves_bad_shapes
check profiles_answer_alike profiles_answer_alike
check notices_damage notices_damage
check folds_norms folds_norms
check notices_other_norms notices_other_norms
check notices_other_words notices_other_words
finish
