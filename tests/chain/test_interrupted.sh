#!/bin/sh
# Builds that are killed and resumed, and builds that run at once in one tree: nothing is
# lost that was measured, nothing is left half-made, and the result is the same bytes.
. tests/support/scenario.sh

scheme=fp8_autoquant_all_layers_top50_coco2017
settings="--set calibrations.coco2017_vlm.calib_samples=16
	--set calibrations.coco2017_vlm.score_samples=24
	--set calibrations.coco2017_vlm.block_samples=2"

make_tree "$work/whole" $settings
cd "$work/whole" || exit 1
build "$scheme" || failed whole_build build.txt
digests "$out/models" >"$work/expected.txt"

# killed SIGNAL TOOL COUNT ALL: a build, killed with all it started when the tool has made
# COUNT results of the ALL it has to make; then resumed.
killed() {
	tree=$work/killed_$1_$2
	make_tree "$tree" $settings
	cd "$tree"
	setsid ninja "$scheme" >killed.txt 2>&1 &
	ninja=$!
	while [ "$(computed "$2")" -lt "$3" ]; do
		kill -0 $ninja || {
			cat killed.txt
			return 1
		}
		sleep 0.005
	done
	kill "-$1" -$ninja
	wait $ninja || true
	made=$(computed "$2")
	[ "$made" -lt "$4" ] || {
		echo "killed too late: all $4 results were there"
		return 1
	}
	[ ! -e "$out/models/tiny_qwen2_5_vl/quantized/$scheme" ]
	build "$scheme"
	# A kill between a result and its line in the log leaves one more than that says.
	[ "$(computed "$2")" -le $(($4 - made)) ] || {
		echo "$2: made $made of $4, then again $(computed "$2")"
		return 1
	}
	no_leftovers "$out"
	digests "$out/models" | cmp - "$work/expected.txt"
	build "$scheme"
	nothing_done
}

# Everything of ninja's own is gone: it starts from nothing, the store does not.
lost_log() {
	cd "$work/whole"
	rm "$out/.ninja_log" "$out/.ninja_deps"
	cp -a "$repo/$out/.ninja_log" "$repo/$out/.ninja_deps" "$out/"
	build "$scheme"
	for tool in decode calibrate score quantize; do
		is "results computed by $tool" "$(computed $tool)" 0
	done
	digests "$out/models" | cmp - "$work/expected.txt"
}

cleaned() {
	cd "$work/whole"
	ninja -t clean -r decode calibrate merge score rank quantize slice export verify >cleaned.txt
	[ ! -e "$out/work/tiny_qwen2_5_vl/schemes/$scheme/verify.json" ]
	build "$scheme"
	for tool in decode calibrate score quantize; do
		is "results computed by $tool" "$(computed $tool)" 0
	done
	digests "$out/models" | cmp - "$work/expected.txt"
}

two_at_once() {
	make_tree "$work/two" $settings
	cd "$work/two"
	ninja "$scheme" >first.txt 2>&1 &
	first=$!
	ninja "$scheme" >second.txt 2>&1 &
	second=$!
	status=0
	wait $first || status=$?
	wait $second || status=$?
	[ $status -eq 0 ] || { cat first.txt second.txt; return 1; }
	digests "$out/models" | cmp - "$work/expected.txt"
	is "blocks calibrated, though asked for twice" "$(computed calibrate)" "$1"
	no_leftovers "$out"
	build "$scheme"
	nothing_done
}

# A store object that is damaged, and with it what is linked to it, is made again.
damaged_object() {
	cd "$work/whole"
	folder=$out/models/tiny_qwen2_5_vl/quantized/$scheme
	file=$(ls -S "$folder"/*.fp8.safetensors | head -n 1)
	chmod u+w "$file"
	printf X | dd of="$file" bs=1 seek=9000 conv=notrunc 2>/dev/null
	build "$scheme"
	digests "$out/models" | cmp - "$work/expected.txt"
	build "$scheme"
	nothing_done
}

lost_store() {
	cd "$work/whole"
	chmod -R u+w "$out/store"
	rm -rf "$out/store" "$out/models/tiny_qwen2_5_vl/quantized/$scheme"
	build "$scheme"
	digests "$out/models" | cmp - "$work/expected.txt"
}

blocks=$(computed calibrate)
scores=$(computed score)
pieces=$(computed quantize)
check killed_while_calibrating killed KILL calibrate 2 "$blocks"
check killed_while_scoring killed KILL score 3 "$scores"
check interrupted_while_scoring killed INT score 3 "$scores"
check terminated_while_quantising killed TERM quantize 5 "$pieces"
check lost_ninja_log lost_log
check cleaned_outputs cleaned
check two_builds_at_once two_at_once "$blocks"
check damaged_store_object damaged_object
check lost_store lost_store
finish
