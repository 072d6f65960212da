#!/bin/sh
# One worker or several, this folder or another: the same bytes, and no path of the
# machine in any of them.
. tests/support/scenario.sh

settings="--set calibrations.coco2017_vlm.calib_samples=14
	--set calibrations.coco2017_vlm.score_samples=10
	--set calibrations.coco2017_vlm.block_samples=3"
scheme=fp8_autoquant_all_layers_top50_coco2017
ranked=$out/work/tiny_qwen2_5_vl/fp8_autoquant_all_layers_fp8_coco2017

# workers N: a tree in a folder of its own, built by N workers at once.
workers() {
	make_tree "$work/by_$1" $settings --workers "$1"
	cd "$work/by_$1"
	build $scheme
	is "calibrate edges" "$(edges 'calibrate ')" "$1"
	is "score edges" "$(edges 'score ')" "$1"
	is "blocks calibrated" "$(computed calibrate)" 5
	is "blocks scored" "$(computed score)" 4
	digests "$out/models" | cmp - "$work/models.txt"
	(cd "$ranked" && sha256sum amax.json quantize.json ./*manifest.json ./*state.json) |
		cmp - "$work/ranked.txt"
}

first_build() {
	make_tree "$work/first" $settings
	cd "$work/first"
	build $scheme
	digests "$out/models" >"$work/models.txt"
	(cd "$ranked" && sha256sum amax.json quantize.json ./*manifest.json ./*state.json) \
		>"$work/ranked.txt"
}

# Changing the number of workers of a tree measures nothing anew.
other_number() {
	cd "$work/first"
	"$out/bin/configure" --out "$out" $settings --workers 4 >configured.txt
	build $scheme
	is "blocks calibrated" "$(computed calibrate)" 0
	is "blocks scored" "$(computed score)" 0
	is exports "$(edges export)" 0
	digests "$out/models" | cmp - "$work/models.txt"
}

# More workers than blocks: an edge a block, none without work.
more_than_blocks() {
	cd "$work/first"
	"$out/bin/configure" --out "$out" $settings --workers 64 >configured.txt
	is "calibrate edges" "$(grep -c 'all_layers.*json: calibrate ' build.ninja)" 5
}

# The launch prefix stands in front of heavy commands only.
launch() {
	cd "$work/first"
	"$out/bin/configure" --out "$out" $settings --launch 'env LAUNCHED=yes' >configured.txt
	ninja -t commands $scheme >commands.txt
	is "launched commands" "$(grep -c '^env LAUNCHED=yes ' commands.txt)" 4
	grep -q '^env LAUNCHED=yes .*/bin/score ' commands.txt
}

# absolute NAME: model and data by absolute path, in a folder of that name.
absolute() {
	mkdir -p "$work/$1/data"
	cp -r "$repo/demo" "$work/$1/data/"
	make_tree "$work/$1/tree" $settings --model "$work/$1/data/demo/tiny-qwen2_5-vl" \
		--captions "$work/$1/data/demo/demo_captions.txt" \
		--calib-db "$work/$1/data/demo/demo_vlm_calib.db" --image-root "$work/$1/data/demo"
	cd "$work/$1/tree"
	build $scheme
	digests "$out/models" >"$work/$1.txt"
}

absolute_paths() {
	absolute here
	absolute some/where/else
	cmp "$work/here.txt" "$work/some/where/else.txt"
}

no_paths() {
	for tree in "$work/first" "$work/here/tree" "$work/some/where/else/tree"; do
		for path in "$work" "$repo" /home/ /root/; do
			if grep -rlFa -e "$path" "$tree/$out/models" "$tree/$out/store"; then
				echo "found $path"
				return 1
			fi
		done
	done
}

check first_build first_build
check one_worker_elsewhere workers 1
check two_workers workers 2
check three_workers workers 3
check another_number_of_workers_measures_nothing other_number
check never_more_edges_than_blocks more_than_blocks
check launch_prefix launch
check absolute_paths_change_nothing absolute_paths
check no_path_in_any_artifact no_paths
finish
