#!/bin/sh
# Model folders that are wrong: every program that meets one says in one line which file,
# where and what, answers 2, and leaves nothing behind.
. tests/support/scenario.sh

copy_tools "$work/bin"
mkdir -p "$work/tree"
cd "$work/tree" || exit 1
ln -s "$repo"/build.ninja.in "$repo"/lib "$repo"/kernels "$repo"/tools "$repo"/tests \
	"$repo"/demo "$repo"/schemes.json .
first=model-00001-of-00002.safetensors
second=model-00002-of-00002.safetensors
index=model.safetensors.index.json

# Changes a header in place; it keeps its length.
edit_header() {
	sed -i "1s/$2/$3/" "m/$1"
}

# poke FILE TENSOR ELEMENT BYTES: writes a BF16 element.
poke() {
	header=$(($(od -An -tu8 -N8 "m/$1")))
	start=$(head -c $((8 + header)) "m/$1" | grep -ao "\"$2\":{[^}]*}" |
		sed 's/.*offsets":\[\([0-9]*\),.*/\1/')
	printf "$4" | dd of="m/$1" bs=1 seek=$((8 + header + start + 2 * $3)) conv=notrunc \
		2>/dev/null
}

run_configure() {
	fails 2 "$1" "$work/bin/configure" --model m
	[ ! -e build.ninja ] || { echo "build.ninja was written"; return 1; }
}

run_calibrate() {
	fails 2 "$1" "$work/bin/calibrate" --model m --captions demo/demo_captions.txt \
		--prompt text --samples 2 --tree out --out out/calibrate.json
}

run_images() {
	fails 2 "$1" "$work/bin/calibrate" --model m --calib-db demo/demo_vlm_calib.db \
		--image-root demo --samples 2 --tree out --out out/calibrate.json
}

run_quantize() {
	fails 2 "$1" "$work/bin/quantize" --model m --tree out --out out/quantize.json
}

# refused PATTERN PROGRAMS MUTATION...: a copy of the demo's model, changed, is refused by
# all these programs.
refused() {
	pattern=$1 programs=$2
	shift 2
	rm -rf m out build.ninja
	cp -r "$repo/demo/tiny-qwen2_5-vl" m
	chmod -R u+w m
	mkdir out
	"$@"
	for program in $programs; do "run_$program" "$pattern"; done
	[ -z "$(find out -name '*.json')" ] || { find out -name '*.json'; return 1; }
	no_leftovers out
}

all="configure calibrate quantize"

# ---- files ----

no_folder() { rm -r m; }
a_file() { rm -r m; echo hello >m; }
no_shard() { rm "m/$second"; }
empty_shard() { : >"m/$second"; }
short_shard() { truncate -s -100 "m/$second"; }
long_shard() { echo more >>"m/$second"; }
no_weights() { rm "m/$index" m/*.safetensors; }

check no_folder refused '^[a-z]*: m(/config.json)?: cannot open.*: No such file' \
	"$all" no_folder
check a_file_for_a_folder refused '^[a-z]*: m(/config.json)?: cannot open' "$all" a_file
check no_weights refused \
	'm: expected model.safetensors.index.json or model.safetensors, found' \
	"$all" no_weights
check no_shard refused "m/$index:[0-9]*:[0-9]*: .*the shard m/$second is absent" \
	"$all" no_shard
check empty_shard refused "m/$second: expected .*found" "$all" empty_shard
check short_shard refused "m/$second:1:[0-9]*: expected .*found 6963840" \
	"$all" short_shard
check long_shard refused "m/$second: expected .*found" "$all" long_shard

# ---- headers ----

cut_header() { truncate -s 2000 "m/$first"; }
cut_length() { truncate -s 5 "m/$first"; }
huge_length() {
	printf '\377\377\377\377\377\377\377\177' | dd of="m/$first" conv=notrunc 2>/dev/null
}
zero_length() {
	printf '\0\0\0\0\0\0\0\0' | dd of="m/$first" conv=notrunc 2>/dev/null
}
no_json() { edit_header "$first" '{"__meta' '["__meta'; }
overlap() { edit_header "$first" '\[2162688,2163200\]' '[2162680,2163200]'; }
past_the_end() { edit_header "$first" '\[2162688,2163200\]' '[2162688,9163200]'; }
negative_offset() { edit_header "$first" '\[2162688,2163200\]' '[-162688,2163200]'; }
other_bytes() { edit_header "$first" '\[688,256\]' '[688,257]'; }
huge_shape() {
	edit_header "$first" '"BF16","shape":\[688,256\]' '"I8","shape":[4e9,4e9999]'
}
overflowing_shape() {
	edit_header "$first" '"format":"pt"\(},"model.embed_tokens.weight":{.*\)\[4224,256\]' \
		'"f":""\1[4294967296,4294967296]'
	header=$(($(od -An -tu8 -N8 "$repo/demo/tiny-qwen2_5-vl/$first")))
	old=$(stat -c %s "$repo/demo/tiny-qwen2_5-vl/$first")
	header=$((header + $(stat -c %s "m/$first") - old))
	printf "$(printf '\\%03o\\%03o' $((header % 256)) $((header / 256)))" |
		dd of="m/$first" conv=notrunc 2>/dev/null
}
unknown_dtype() {
	edit_header "$first" 'up_proj.weight":{"dtype":"BF16"' 'up_proj.weight":{"dtype":"BF17"'
}
twice() {
	edit_header "$first" 'layers.0.mlp.up_proj.weight' 'layers.1.mlp.up_proj.weight'
}

check cut_header refused "m/$first: header length.*found 4384, expected .*1992" \
	"$all" cut_header
check cut_length refused "m/$first: expected .*found" "$all" cut_length
check huge_header_length refused \
	"m/$first: header length.*found 9223372036854775807, expected" "$all" huge_length
check zero_header_length refused "m/$first: .*expected .*" "$all" zero_length
check header_is_no_object refused "m/$first: byte 8: expected" "$all" no_json
check tensors_overlap refused \
	"m/$first:1:[0-9]*: .*input_layernorm.*expected 512 .*found 520" "$all" overlap
check tensor_past_the_end refused "m/$first:1:[0-9]*: expected .*found 9163200" \
	"$all" past_the_end
check negative_offset refused "m/$first:1:[0-9]*: .*expected" "$all" negative_offset
check shape_and_bytes_disagree refused "m/$first:1:[0-9]*: .*expected .*found" \
	"$all" other_bytes
check huge_shape refused "m/$first:1:[0-9]*: .*expected" "$all" huge_shape
check overflowing_shape refused "m/$first:1:[0-9]*: .*embed_tokens" \
	"$all" overflowing_shape
check unknown_dtype refused "m/$first:1:[0-9]*: .*BF17" "$all" unknown_dtype
check tensor_twice refused "m/$first.*layers.1.mlp.up_proj.weight" "$all" twice

# ---- the index ----

index_of_absent_file() { sed -i "s/00002-of-00002.saf/00003-of-00002.saf/" "m/$index"; }
index_of_other_folder() { sed -i "s/\"model-00002-of/\"..\/model-00002-of/" "m/$index"; }
index_lacks_tensor() { sed -i '/"model.norm.weight"/d' "m/$index"; }
index_has_more() { sed -i 's/^.*"model.norm.weight": \(.*\)/    "model.morn": \1\n&/' "m/$index"; }
index_in_other_file() { sed -i "/\"model.norm.weight\"/s/00002-of/00001-of/" "m/$index"; }
index_broken() { sed -i '3s/{/[/' "m/$index"; sed -i 2q "m/$index"; }
index_empty() { echo '{"weight_map": {}}' >"m/$index"; }

check index_names_absent_file refused \
	"m/$index:[0-9]*:[0-9]*: .*the shard m/model-00003-of-00002.safetensors is absent" \
	"$all" index_of_absent_file
check index_leaves_the_folder refused "m/$index:[0-9]*:[0-9]*: .*\.\./model-00002" \
	"$all" index_of_other_folder
check index_lacks_a_tensor refused 'm/.*model.norm.weight' "$all" index_lacks_tensor
check index_has_another_tensor refused 'm/.*model.morn' "$all" index_has_more
check index_names_the_wrong_shard refused 'm/.*model.norm.weight' \
	"$all" index_in_other_file
check index_is_cut refused "m/$index:[0-9]*:[0-9]*: expected" "$all" index_broken
check index_is_empty refused "m/$index:1:[0-9]*: weight_map: names no tensor" \
	"$all" index_empty

# ---- tensors ----

# The same in header and index, which agree.
rename_tensor() { sed -i "s/$1/$2/" "m/$index" "m/$first" "m/$second"; }
no_linear() { rename_tensor 'layers.0.mlp.up_proj' 'layers.0.mlp.up_porj'; }
no_norm() { rename_tensor 'model.norm.weight' 'model.morn.weight'; }
turned_shape() {
	edit_header "$first" '\(up_proj.weight":{"dtype":"BF16","shape":\)\[688,256\]' \
		'\1[256,688]'
}
whole_numbers() {
	edit_header "$first" '\(layers.0.mlp.up_proj.weight":{"dtype":\)"BF16"' '\1"I16" '
}

check linear_missing refused 'm: .*model.layers.0.mlp.up_proj.weight' "$all" no_linear
check norm_missing refused 'm: .*model.norm.weight' calibrate no_norm
check linear_turned refused \
	"m/$first: .*model.layers.0.mlp.up_proj.weight: expected .*688.*256.*found .*256" \
	"$all" turned_shape
check dtype_without_meaning refused \
	"m/$first: .*model.layers.0.mlp.up_proj.weight: expected .*BF16.*found I16" \
	"$all" whole_numbers

poke_nan() { poke "$first" model.layers.0.mlp.up_proj.weight 1000 '\300\177'; }
poke_infinity() { poke "$second" visual.blocks.0.attn.qkv.weight 7 '\200\377'; }
poke_norm() { poke "$second" model.norm.weight 3 '\300\177'; }
poke_embedding() { poke "$first" model.embed_tokens.weight 77 '\200\177'; }
poke_bias() { poke "$first" model.layers.0.self_attn.k_proj.bias 0 '\300\377'; }

check nan_in_a_linear refused \
	"m/$first: .*model.layers.0.mlp.up_proj.weight: .*expected .*finite.*found -?(NaN|nan)" \
	"calibrate quantize" poke_nan
check nan_is_named_by_index refused 'up_proj.weight: .*NaN at element 1000' \
	calibrate poke_nan
check infinity_in_a_linear refused \
	"m/$second: .*visual.blocks.0.attn.qkv.weight: .*expected .*finite.*found -?inf" \
	"calibrate quantize" poke_infinity
check nan_in_a_norm refused 'model.norm.weight: .*NaN at element 3' calibrate poke_norm
check infinity_in_the_embedding refused \
	'model.embed_tokens.weight: .*infinity at element 77' calibrate poke_embedding
check nan_in_a_bias refused 'k_proj.bias: .*NaN at element 0' calibrate poke_bias

# ---- config.json and the rest ----

set_config() { sed -i "s/^\( *\"$1\": \)[^,]*/\1$2/" m/config.json; }
drop_config() { sed -i "/^  \"$1\":/d" m/config.json; }
no_config() { rm m/config.json; }
cut_config() { truncate -s 300 m/config.json; }
no_section() { sed -i 's/"vision_config"/"vision_comfig"/' m/config.json; }
latin1() { printf '{"a": "\351"}' >m/config.json; }
deep() { printf '%02000d' 0 | tr 0 '[' >m/config.json; }

check config_missing refused 'm/config.json: cannot open' "$all" no_config
check config_cut refused 'm/config.json:[0-9]*:[0-9]*: a string without an end' \
	"$all" cut_config
check config_without_vision refused \
	'm/config.json:[0-9]*:[0-9]*: lacks the field "vision_config"' "$all" no_section
check config_without_hidden_size refused \
	'm/config.json:[0-9]*:[0-9]*: lacks the field "hidden_size"' \
	"$all" drop_config hidden_size
check config_not_utf8 refused 'm/config.json:1:[0-9]*: .*UTF-8' "$all" latin1
check config_too_deep refused 'm/config.json:1:[0-9]*: ' "$all" deep
for change in 'num_hidden_layers 0' 'num_hidden_layers -6' 'num_hidden_layers 1000000000' \
	'num_hidden_layers 6.5' 'num_hidden_layers "6"' 'hidden_size 1e300' 'hidden_size 255' \
	'num_attention_heads 3' 'num_key_value_heads 0' 'rms_norm_eps -1' 'rope_theta 0' \
	'vocab_size null' 'hidden_act "relu"' 'use_sliding_window true' 'patch_size 0' \
	'spatial_merge_size 3' 'window_size 3' 'tie_word_embeddings 1'; do
	check "config_$(echo "$change" | tr ' ".' ___)" refused \
		"m/config.json:[0-9]*:[0-9]*: .*${change%% *}" "$all" set_config $change
done
check config_of_more_layers refused 'm: expected tensor model.layers.6' \
	configure set_config num_hidden_layers 7
check config_of_another_width refused 'm/.*model.*expected' \
	"$all" set_config intermediate_size 704

no_tokenizer() { rm m/tokenizer.json m/vocab.json; }
cut_tokenizer() { truncate -s 5000 m/tokenizer.json; }
no_processor() { rm m/preprocessor_config.json; }
other_patches() { sed -i 's/"patch_size": 14/"patch_size": 16/' m/preprocessor_config.json; }

check tokenizer_missing refused 'm/.*cannot open' calibrate no_tokenizer
check tokenizer_cut refused 'm/tokenizer.json:[0-9]*:[0-9]*: ' calibrate cut_tokenizer
check processor_missing refused 'm/preprocessor_config.json: cannot open' \
	images no_processor
check processor_of_other_patches refused 'preprocessor_config.json.*16' \
	images other_patches
finish
