#!/bin/sh
# Images are decoded once, ahead of everything that looks at them: only what changed is
# decoded again, damage is found and mended, and the results are those of the images.
. tests/support/scenario.sh
. tests/faults/small.sh

make_small_model "$work/small"
sed 's/"calib_samples": 2/"calib_samples": 4/; s/"score_samples": 2/"score_samples": 6/
	s/"block_samples": 1/"block_samples": 2/' tests/faults/catalog.json >"$work/catalog.json"
settings="--catalog $work/catalog.json --model $work/small"
make_tree "$work/tree" $settings
own_demo "$work/tree"
cd "$work/tree" || exit 1
model=$out/work/small
list=$model/pixels.scenes.json

settles() {
	build
	nothing_done
}
# The objects of the list.
objects() {
	sed -n 's/.*"object": "\([0-9a-f]*\)".*/\1/p' "$list"
}
# Samples of other tokens, so that all are measured again from the images as they are.
measure_again() {
	"$out/bin/configure" --out "$out" $settings \
		--set "calibrations.scenes.max_tokens=$1" >configured.txt
	build
	is "blocks calibrated" "$(computed calibrate)" 2
	is "blocks scored" "$(computed score)" 3
}

decoded_once() {
	build
	is "edges of decode" "$(edges decode)" 1
	is "images decoded" "$(computed decode)" 6
	is "images listed" "$(objects | wc -l)" 6
	head -c 2 "$(echo "$out"/store/objects/*/"$(objects | head -n 1)")" | grep -qx P6
	settles
}
# The commands of the graph without the list decode for themselves.
same_without() {
	for part in calibrate.0 score.FP8_ALL_LAYERS_CFG.0; do
		command=$(ninja -t commands "$model/every/$part.json" | tail -n 1)
		case $command in *" --pixels $list "*) ;; *) return 1 ;; esac
		echo "$command" | sed "s| --pixels $list | |; s|--out .*|--out alone.json|" >alone.sh
		sh alone.sh
		grep -v '"key"' alone.json >alone.txt
		grep -v '"key"' "$model/every/$part.json" | cmp - alone.txt
	done
}
changed_image() {
	cp -p demo/images/scene_003.jpg kept.jpg
	cp demo/images/scene_009.jpg demo/images/scene_003.jpg
	rm "$list"
	build
	cp demo/images/scene_010.jpg demo/images/scene_003.jpg
	ninja >build.txt # build would begin a new log
	"$out/bin/store" why pixels >why.txt
	grep -q 'key .* is new' why.txt
	grep -q 'input image changed: was' why.txt
	cp -p kept.jpg demo/images/scene_003.jpg
	build
	is "computed when it is back" "$(grep -c '"hit":false' "$out/log/edges.jsonl" || true)" 0
	cp demo/images/scene_011.jpg demo/images/scene_003.jpg
	build
	is "images decoded" "$(computed decode)" 1
	is "images from the store" "$(grep -c '"decode".*"hit":true' "$out/log/edges.jsonl")" 5
	is "blocks calibrated" "$(computed calibrate)" 1
	cp -p kept.jpg demo/images/scene_003.jpg
	build
	settles
}
# A new date, and other bytes of the same pixels.
same_pixels() {
	printf X >>demo/images/scene_002.jpg
	build
	is "images decoded" "$(computed decode)" 1
	is "blocks calibrated" "$(computed calibrate)" 0
	is "blocks scored" "$(computed score)" 0
	cp "$repo/demo/images/scene_002.jpg" demo/images/scene_002.jpg
	chmod u+w demo/images/scene_002.jpg
	build
}
cleaned() {
	ninja -t clean -r decode calibrate merge score rank >cleaned.txt
	[ ! -e "$list" ]
	build
	is "computed" "$(grep -c '"hit":false' "$out/log/edges.jsonl" || true)" 0
	settles
}
# A bit that flips with no date telling of it.
rot() {
	object=$(echo "$out"/store/objects/*/"$(objects | sed -n 2p)")
	chmod u+w "$object"
	touch -r "$object" time
	printf '\001' | dd of="$object" bs=1 seek=3000 conv=notrunc 2>/dev/null
	touch -r time "$object"
	chmod u-w "$object"
}
rot_found_by_readers() {
	rot
	measure_again 1000
	is "images decoded again" "$(grep -c '"tool":"decode","target":"'"$list"'","seconds"' \
		"$out/log/edges.jsonl")" 1
	[ -f "$out/store/damaged/$(objects | sed -n 2p)" ]
	"$out/bin/store" verify
	settles
}
rot_found_by_the_store() {
	rot
	fails 2 'objects and results are damaged' "$out/bin/store" verify
	measure_again 1001
	"$out/bin/store" verify
}
lost_objects() {
	for object in $(objects); do rm -f "$out"/store/objects/*/"$object"; done
	measure_again 1002
	for object in $(objects); do ls "$out"/store/objects/*/"$object" >/dev/null; done
}
gc_keeps_them() {
	sleep 1.1
	"$out/bin/store" --days 0 gc >gc.txt
	for object in $(objects); do ls "$out"/store/objects/*/"$object" >/dev/null; done
	build
	nothing_done
}

check decoded_once decoded_once
check same_results_without same_without
check changed_image_is_decoded_alone changed_image
check same_pixels_measure_nothing same_pixels
check cleaned_lists_come_from_the_store cleaned
check rot_found_by_readers rot_found_by_readers
check rot_found_by_the_store rot_found_by_the_store
check lost_objects_are_made_again lost_objects
check gc_keeps_them gc_keeps_them
finish
