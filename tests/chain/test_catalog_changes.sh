#!/bin/sh
# What a change of the catalog or the data costs: what depends on it, and nothing else.
. tests/support/scenario.sh

few="--set calibrations.coco2017_vlm.calib_samples=8
	--set calibrations.coco2017_vlm.score_samples=6
	--set calibrations.coco2017_vlm.block_samples=2
	--set calibrations.coco2017_captions.calib_samples=8
	--set calibrations.coco2017_captions.score_samples=8
	--set calibrations.coco2017_captions.block_samples=2"
published=$out/models/tiny_qwen2_5_vl/quantized

# Eight schemes instead of twenty-two.
catalog=$work/catalog.json
sed 's/\[10, 20, .*\]/[10, 30, 50]/' schemes.json >"$catalog"
make_tree "$work/tree" $few
own_demo "$work/tree"
cd "$work/tree" || exit 1
build all >/dev/null || failed first_build build.txt

# did EDGE=COUNT...: these edges ran in the last build, each so often, and no others but
# the scan and configure.
did() {
	total=$(($(edges scan) + $(edges configure)))
	for pair in "$@"; do
		is "$pair" "$(edges "${pair%=*}")" "${pair#*=}" || {
			cat build.txt
			return 1
		}
		total=$((total + ${pair#*=}))
	done
	is "edges in all" "$(grep -c '^\[[0-9]*/[0-9]*\] ' build.txt)" $total || {
		cat build.txt
		return 1
	}
}

# The slice, export, description and verification of one scheme, and the comparison of all.
one_percentage() {
	"$out/bin/configure" --out "$out" $few \
		--set schemes.fp8_autoquant_all_layers_top30_coco2017.percent=35 >configured.txt
	build
	did slice=1 export=1 describe=1 verify=1 compare=1
	build
	nothing_done
	grep -q '"top_percent": 35,' \
		"$published"/fp8_autoquant_all_layers_top30_coco2017/layer-sensitivity/*coverage*
	"$out/bin/configure" --out "$out" $few >configured.txt
	build
	did slice=1 export=1 describe=1 verify=1 compare=1
}

# By an edit of the file, as a person does it: ninja sees it by itself.
new_scheme() {
	sed 's/^  "schemes": {$/  "schemes": {"half_of_the_text": {"baseline":\
		"fp8_autoquant_full_coco2017", "percent": 50},/' schemes.json >edited.json
	mv edited.json schemes.json
	build half_of_the_text
	did slice=1 export=1 describe=1 verify=1
	[ -f "$published/half_of_the_text/config.json" ]
	build
	did compare=1
	grep -q half_of_the_text "$published/scheme-diversity.json"
	ninja help | grep -q half_of_the_text
}

removed_scheme() {
	cp "$catalog" schemes.json
	build
	did compare=1
	if grep -q half_of_the_text "$published/scheme-diversity.json"; then return 1; fi
	if ninja half_of_the_text 2>/dev/null >/dev/null; then return 1; fi
}

# rewritten: a catalog that says the same makes build.ninja anew, and nothing else.
rewritten() {
	if cmp edited.json schemes.json; then return 1; fi
	mv edited.json schemes.json
	build
	did
	build
	nothing_done
}

white_space() {
	sed 's/^ */\t/; s/: /:   /' schemes.json | tr -d '\n' >edited.json
	rewritten
}

# A section, and the fields of an entry, in another place.
order() {
	{
		echo '{'
		sed -n '/^  "formats"/,/^  },/p' "$catalog"
		sed -e 1d -e '/^  "formats"/,/^  },/d' "$catalog" |
			sed '/"kind": /d; s/"stand_in": true$/&, "kind": "qwen2_5_vl"/'
	} >edited.json
	rewritten
}

# Three blocks of two samples are there: two more cost two.
more_score_samples() {
	"$out/bin/configure" --out "$out" $few \
		--set calibrations.coco2017_vlm.score_samples=10 >configured.txt
	build
	is "blocks calibrated" "$(computed calibrate)" 0
	is "blocks scored" "$(computed score)" 2
	is "groups quantised" "$(computed quantize)" 0
	"$out/bin/configure" --out "$out" $few >configured.txt
	build
	is "blocks scored" "$(computed score)" 0
}

# The calibration grows by a block; the scores follow only if an amax moved.
more_calib_samples() {
	cp "$out"/work/tiny_qwen2_5_vl/fp8_autoquant_full_coco2017/amax.json before.json
	"$out/bin/configure" --out "$out" $few \
		--set calibrations.coco2017_captions.calib_samples=10 >configured.txt
	build
	is "blocks calibrated" "$(computed calibrate)" 1
	"$out/bin/configure" --out "$out" $few >configured.txt
	build
	cmp "$out"/work/tiny_qwen2_5_vl/fp8_autoquant_full_coco2017/amax.json before.json
	is "blocks calibrated" "$(computed calibrate)" 0
	is "blocks scored" "$(computed score)" 0
}

# Line 7 is in the fourth block of both; what was measured with the old amax stays
# valid unless that moved, so at most the blocks of the scores are measured again.
changed_caption() {
	sed -i '7s/.*/Seven small green stars on a very red background./' demo/demo_captions.txt
	build
	is "blocks calibrated" "$(computed calibrate)" 1
	[ "$(computed score)" -ge 1 ]
	[ "$(computed score)" -le 4 ]
	is "groups quantised" "$(computed quantize)" 0
	cp "$repo/demo/demo_captions.txt" demo/
	build
	is "blocks calibrated" "$(computed calibrate)" 0
	is "blocks scored" "$(computed score)" 0
}

# The same number of bytes and the old date, as cp -p and archives leave them.
changed_in_disguise() {
	cp -p demo/demo_captions.txt original.txt
	sed '7s/.$/!/' original.txt >demo/demo_captions.txt
	touch -r original.txt demo/demo_captions.txt
	is size "$(stat -c '%s %y' demo/demo_captions.txt)" "$(stat -c '%s %y' original.txt)"
	build
	is "blocks calibrated" "$(computed calibrate)" 1
	cp -p original.txt demo/demo_captions.txt
	build
	is "blocks calibrated" "$(computed calibrate)" 0
}

# Dates of years ago and of years to come mean nothing.
odd_dates() {
	find demo -type f -exec touch -d 2001-01-01 {} +
	build
	nothing_done
	find demo -type f -exec touch -d 2101-01-01 {} +
	build
	nothing_done
	find demo -type f -exec touch {} +
}

# A caption behind those in use is another file, but no other sample.
unused_caption() {
	sed -i '500s/.*/Something else./' demo/demo_captions.txt
	build
	is "blocks calibrated" "$(computed calibrate)" 0
	is "blocks scored" "$(computed score)" 0
	is exports "$(edges export)" 0
}

changed_image() {
	cp demo/images/scene_040.jpg demo/images/scene_003.jpg
	build
	is "blocks calibrated" "$(computed calibrate)" 1
	[ "$(computed score)" -ge 1 ]
	is "groups quantised" "$(computed quantize)" 0
}

# A weight: everything that depends on it, and of the groups only that of its file.
changed_weight() {
	file=demo/tiny-qwen2_5-vl/model-00002-of-00002.safetensors
	printf '\200\077' | dd of=$file bs=1 seek=12000 conv=notrunc 2>/dev/null
	build
	is "blocks calibrated" "$(computed calibrate)" 8
	[ "$(computed quantize)" -gt 0 ]
	grep -q '"verified": true' \
		"$out"/work/tiny_qwen2_5_vl/schemes/fp8_autoquant_full_coco2017/verify.json
}

changed_text() {
	echo 'A licence.' >demo/tiny-qwen2_5-vl/LICENSE
	build
	is "blocks calibrated" "$(computed calibrate)" 0
	is "blocks scored" "$(computed score)" 0
	is exports "$(edges export)" 11
	[ -f "$published/fp8_autoquant_full_coco2017/LICENSE" ]
	build
	nothing_done
}

check changed_percentage one_percentage
check new_scheme new_scheme
check removed_scheme removed_scheme
check white_space_of_the_catalog white_space
check order_of_the_catalog order
check more_score_samples more_score_samples
check more_calibration_samples more_calib_samples
check changed_caption changed_caption
check changed_with_size_and_date_kept changed_in_disguise
check odd_dates odd_dates
check unused_caption unused_caption
check changed_image changed_image
check changed_text_file changed_text
check changed_weight changed_weight
finish
