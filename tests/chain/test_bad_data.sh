#!/bin/sh
# Captions, calibration DBs and images that are wrong; samples that are skipped because
# the catalog says so, and captions that are cut.
. tests/support/scenario.sh

copy_tools "$work/bin"
baseline=fp8_autoquant_all_layers_fp8

# ---- one program at a time ----

mkdir -p "$work/alone"
cd "$work/alone" || exit 1
ln -s "$repo"/build.ninja.in "$repo"/lib "$repo"/kernels "$repo"/tools "$repo"/tests \
	"$repo"/schemes.json .

fresh_data() {
	[ ! -e demo ] || chmod -R u+w demo
	rm -rf demo out build.ninja
	cp -r "$repo/demo" demo
	chmod -R u+w demo
	mkdir out
}

calibrate() {
	"$work/bin/calibrate" --model demo/tiny-qwen2_5-vl --samples 2 --tree out \
		--out out/calibrate.json "$@"
}

# refused PATTERN SOURCE MUTATION...: changed data are refused by configure and by
# calibrate; `later` for what configure does not open.
refused() {
	pattern=$1 source=$2
	shift 2
	fresh_data
	"$@"
	case $source in
	later) ;;
	*) fails 2 "$pattern" "$work/bin/configure" ;;
	esac
	case $source in
	captions) set -- --captions demo/demo_captions.txt --prompt text ;;
	*) set -- --calib-db demo/demo_vlm_calib.db --image-root demo ;;
	esac
	fails 2 "$pattern" "$work/bin/calibrate" --model demo/tiny-qwen2_5-vl --samples 2 \
		--tree out --out out/calibrate.json "$@"
	[ ! -e build.ninja ]
	[ ! -e out/calibrate.json ]
	no_leftovers out
}

captions=demo/demo_captions.txt
db=demo/demo_vlm_calib.db
image=demo/images/scene_001.jpg
picture=demo/images/scene_000.jpg

no_captions() { rm $captions; }
empty_captions() { : >$captions; }
blank_captions() { printf '\n\r\n\n' >$captions; }
zero_captions() { printf 'a caption\0\n' >$captions; }
check captions_missing refused "$captions: cannot open" captions no_captions
check captions_empty refused "$captions: expected .*found" captions empty_captions
check captions_blank refused "$captions: expected .*found" captions blank_captions
check captions_with_nul refused "$captions:1: " captions zero_captions

no_db() { rm $db; }
empty_db() { : >$db; }
text_db() { echo 'id,image,caption' >$db; }
cut_db() { truncate -s 9000 $db; }
open_db() { echo journal >$db-journal; }
other_table() { sed -i 's/vlm_calib_samples/vlm_calib_example/g' $db; }
other_column() { sed -i 's/image_relpath TEXT/image_absath_ TEXT/' $db; }
absolute_image() { sed -i 's/images.scene_000/\/mages\/scene_000/' $db; }
outside_image() { sed -i 's/images.scene_000/..\/..\/scene_000/' $db; }
no_root() { mv demo/images elsewhere; rm -rf elsewhere; }
check db_missing refused "$db: cannot open" db no_db
check db_empty refused "$db: " db empty_db
check db_is_text refused "$db: " db text_db
check db_cut refused "$db: " db cut_db
check db_with_open_journal refused "$db.*journal" db open_db
check db_without_table refused "$db: .*vlm_calib_samples" db other_table
check db_without_column refused "$db: .*image_relpath" db other_column
check image_path_absolute refused "$db: .*/mages/scene_000" db absolute_image
check image_path_outside refused "$db: .*\.\./\.\./scene_000" db outside_image

no_image() { rm $image; }
empty_image() { : >$image; }
text_image() { echo 'not an image' >$image; }
cut_image() { truncate -s 1000 $image; }
folder_image() { rm $image; mkdir $image; }
other_image() { cp demo/demo_captions.txt $image; }
damaged_png() {
	cp demo/images/scene_007.png $image
	printf X | dd of=$image bs=1 seek=400 conv=notrunc 2>/dev/null
}
# Width and height 2^31 - 1 in a PNG of a few bytes.
huge_png() {
	head -c 16 demo/images/scene_007.png >$image
	printf '\177\377\377\377\177\377\377\377\010\002\0\0\0\0\0\0\0' >>$image
}
check image_missing refused "$image: cannot open" later no_image
check image_empty refused "$image: " later empty_image
check image_is_text refused "$image: expected .*found" later text_image
check image_cut refused "$image: " later cut_image
check image_is_a_folder refused "$image: " later folder_image
check image_is_a_captions_file refused "$image: expected .*found" later other_image
check image_with_wrong_checksum refused "$image: " later damaged_png
check image_absurdly_large refused "$image: " later huge_png

# Neither the template nor the image may be cut, so 30 tokens are too few.
too_few_tokens() {
	fresh_data
	fails 2 "$db: sample 1: expected .* at most 30 tokens, found" "$work/bin/calibrate" \
		--model demo/tiny-qwen2_5-vl --samples 2 --tree out --out out/calibrate.json \
		--calib-db $db --image-root demo --max-tokens 30
}
check max_tokens_too_small too_few_tokens

# ---- a whole chain that skips ----

make_tree "$work/tree" --set calibrations.coco2017_vlm.calib_samples=16 \
	--set calibrations.coco2017_vlm.score_samples=16 \
	--set calibrations.coco2017_vlm.block_samples=4 \
	--set calibrations.coco2017_vlm.max_tokens=128
own_demo "$work/tree"
cd "$work/tree" || exit 1
scheme=${baseline}_coco2017
manifest=$out/models/tiny_qwen2_5_vl/quantized/$scheme/layer-sensitivity
manifest=$manifest/${baseline}_quant_manifest.json

stops_at_a_bad_image() {
	rm demo/images/scene_005.jpg
	build_fails $scheme
	[ "$(grep -c '^decode: ' build.txt)" = 1 ]
	grep -q '^decode: demo/images/scene_005.jpg: cannot open' build.txt
	# Weights are quantised meanwhile, whatever becomes of the samples.
	[ -z "$(find "$out/work" "$out/models" -type f ! -name quantize.json 2>/dev/null)" ]
	no_leftovers "$out"
}

# The list of skipped images under a name of the manifest, in one line.
list_of() {
	sed -n "/\"$1\": \[/,/\]/p" "$manifest" | tr -d ' \n' | sed 's/,$//'
}

skips_bad_images() {
	echo garbage >demo/images/scene_010.jpg
	"$out/bin/configure" --out "$out" --set calibrations.coco2017_vlm.calib_samples=16 \
		--set calibrations.coco2017_vlm.score_samples=16 \
		--set calibrations.coco2017_vlm.block_samples=4 \
		--set calibrations.coco2017_vlm.max_tokens=128 \
		--set calibrations.coco2017_vlm.on_bad_sample=skip >configured.txt
	build $scheme
	grep -q '"verified": true' "$out/work/tiny_qwen2_5_vl/schemes/$scheme/verify.json"
	names='["images/scene_005.jpg","images/scene_010.jpg"]'
	is "skipped in calibration" "$(list_of calib_skipped)" "\"calib_skipped\":$names"
	is "skipped in scoring" "$(list_of score_skipped)" "\"score_skipped\":$names"
	grep -q '"calib_samples": 14,' "$manifest"
	grep -q '"score_samples": 14,' "$manifest"
}

# The block of a sample that came back is measured again, the three others are not.
restored_image() {
	cp "$repo/demo/images/scene_005.jpg" demo/images/
	build $scheme
	is "blocks calibrated" "$(computed calibrate)" 1
	grep -q '"calib_samples": 15,' "$manifest"
	build $scheme
	nothing_done
}

cut_captions() {
	cut=$(sed -n 's/.*"score_samples_cut": \([0-9]*\).*/\1/p' "$manifest")
	[ "$cut" -gt 0 ] && [ "$cut" -lt 15 ] || {
		echo "captions cut: $cut"
		return 1
	}
}

nothing_left() {
	rm demo/images/*
	build_fails $scheme
	grep -Eq '^(merge|calibrate): .*expected .*(sample|found)' build.txt || {
		cat build.txt
		return 1
	}
}

check stops_at_a_bad_image stops_at_a_bad_image
check skips_bad_images_and_records_them skips_bad_images
check restored_image_costs_its_block restored_image
check captions_are_cut_and_counted cut_captions
check every_image_skipped_is_an_error nothing_left
finish
