#!/bin/sh
# The store as its owner sees it: damage is noticed and mended, `store` tells what there
# is and why, and gc takes nothing that is needed.
. tests/support/scenario.sh

tree=$work/tree
published=$out/models/tiny/quantized/half
make_tree "$tree" --catalog tests/faults/catalog.json
cd "$tree" || exit 1
build || exit 1
digests "$out/models" >"$work/expected"

as_published() {
	digests "$out/models" >"$work/found"
	diff "$work/expected" "$work/found"
}
a_piece() {
	find "$published" -name '*.fp8.safetensors' | sort | head -n 1
}
# Changes a byte of a file, whatever its mode.
damage() {
	chmod u+w "$1"
	printf 'X' | dd of="$1" bs=1 seek=2000 conv=notrunc 2>/dev/null
	chmod u-w "$1"
}
settles() {
	build
	nothing_done
}

# ---- damage ----

edit_through_a_link() {
	object=$(sha256sum "$(a_piece)" | cut -c 1-64)
	damage "$(a_piece)"
	build
	grep -q 'is not what its name says' build.txt
	as_published
	[ -f "$out/store/damaged/$object" ]
	is "pieces made again" "$(computed quantize)" 1
	is "scores" "$(computed score)" 0
	settles
}
object_gone() {
	object=$(sha256sum "$(a_piece)" | cut -c 1-64)
	rm -f "$out"/store/objects/*/"$object"
	build
	is "pieces made again" "$(computed quantize)" 1
	[ -f "$(echo "$out"/store/objects/*/"$object")" ]
	as_published
	settles
}
touched_only() {
	touch "$(a_piece)"
	build
	is "pieces made again" "$(computed quantize)" 0
	as_published
	settles
}
file_of_a_checkpoint() {
	for change in 'rm -f' 'truncate -s 10' damage; do
		chmod u+w "$published/config.json"
		$change "$published/config.json"
		build
		as_published
		settles
	done
}
# A byte that changes with no date telling of it.
rot() {
	object=$(echo "$out"/store/objects/*/"$(sha256sum "$(a_piece)" | cut -c 1-64)")
	chmod u+w "$object"
	touch -r "$object" "$work/time"
	printf 'X' | dd of="$object" bs=1 seek=2000 conv=notrunc 2>/dev/null
	touch -r "$work/time" "$object"
	chmod u-w "$object"
}
rot_found_by_the_store() {
	rot
	fails 2 'objects and results are damaged' "$out/bin/store" verify
	build
	is "pieces made again" "$(computed quantize)" 1
	as_published
	"$out/bin/store" verify
	settles
}
rot_found_by_verify() {
	rot
	rm "$out/work/tiny/schemes/half/verify.json"
	! build || return 1
	grep -q 'expected SHA-256' build.txt
	build
	is "pieces made again" "$(computed quantize)" 1
	as_published
	"$out/bin/store" verify
	settles
}
# The one byte of a checkpoint that no digest covers and no reader misses.
cut_list() {
	cp -rL "$published" "$work/copy"
	chmod -R u+w "$work/copy"
	"$out/bin/verify" --model demo/tiny-qwen2_5-vl "$work/copy"
	truncate -s -1 "$work"/copy/layer-sensitivity/*_files.json
	fails 2 'it was cut' "$out/bin/verify" --model demo/tiny-qwen2_5-vl "$work/copy"
	rm -r "$work/copy"
}
damaged_result() {
	result=$(ls "$out"/store/results/*/*/result.txt | head -n 1)
	truncate -s 20 "$result"
	fails 2 'are damaged' "$out/bin/store" verify
	rm -rf "$out/models" "$out/work"
	build
	is "computed" "$(grep -c '"hit":false' "$out/log/edges.jsonl")" 1
	as_published
	"$out/bin/store" verify
}

# ---- what there is, and why ----

lists() {
	"$out/bin/store" list >"$work/list"
	is "results listed" "$(grep -c ' \(decode\|quantize\|score\|calibrate\) ' "$work/list")" \
		"$(find "$out/store/results" -name result.txt | wc -l)"
}
tells_why() {
	sed 's/"percent": 50/"percent": 60/' "$repo/tests/faults/catalog.json" >schemes.json
	"$out/bin/configure" --out "$out" >/dev/null
	ninja >build.txt 2>&1 # build() would begin a new log
	"$out/bin/store" why half >"$work/why"
	grep -q 'top_percent changed: was 50, is 60' "$work/why"
	grep -q 'input selection changed: was' "$work/why"
	fails 2 'has no run of it' "$out/bin/store" why nothing-of-that-name
}
dry_run_tells() {
	sed 's/"percent": 50/"percent": 70/' "$repo/tests/faults/catalog.json" >schemes.json
	ninja dry-run >"$work/dry" 2>&1
	grep -q '^slice .* s  .*/schemes/half$' "$work/dry"
	grep -q '^export .* s  .*/quantized/half$' "$work/dry"
	grep -q '^describe .* s  .*/quantized/half/layer-sensitivity/half_files.json$' "$work/dry"
	! grep -q '^score' "$work/dry" || return 1
	grep -q '^5 edges, about [0-9.]* s' "$work/dry"
	build
}
statistics() {
	rm -rf "$out/models" "$out/work" "$out/store"
	build
	ninja stats >"$work/stats" 2>&1
	for tool in scan calibrate merge score rank quantize slice export describe verify \
		diversity; do
		grep -q "^$tool  *[1-9]" "$work/stats"
	done
	grep -q '^decode  *1  *2  *0 ' "$work/stats"
}

# ---- gc ----

gc_takes_what_nothing_needs() {
	kept=$(find "$out/store/results" -name result.txt | wc -l)
	# Another number of samples leaves blocks behind that the catalog does not need.
	"$out/bin/configure" --out "$out" --set calibrations.scenes.max_pixels=12544 >/dev/null
	build
	grown=$(find "$out/store/results" -name result.txt | wc -l)
	[ "$grown" -gt "$kept" ]
	"$out/bin/configure" --out "$out" >/dev/null
	build
	digests "$out/models" >"$work/expected"
	"$out/bin/store" gc >"$work/gc"
	is "results while young" "$(find "$out/store/results" -name result.txt | wc -l)" "$grown"
	sleep 1.1
	"$out/bin/store" --days 0 gc >"$work/gc"
	is "results" "$(find "$out/store/results" -name result.txt | wc -l)" "$kept"
	as_published
	"$out/bin/store" verify
	rm -rf "$out/models" "$out/work"
	build
	is "computed after gc" "$(grep -c '"hit":false' "$out/log/edges.jsonl" || true)" 0
	as_published
}
gc_keeps_published_ones_of_no_scheme() {
	sha256sum "$published"/*.fp8.safetensors "$published"/*.plain.safetensors \
		"$published/rest.safetensors" | cut -c 1-64 >"$work/used"
	cp schemes.json "$work/schemes.json"
	sed 's/"half": {[^}]*}//' "$work/schemes.json" >schemes.json
	"$out/bin/configure" --out "$out" >/dev/null
	build
	"$out/bin/store" --days 0 gc >"$work/gc"
	while read -r object; do
		ls "$out"/store/objects/*/"$object" >/dev/null
	done <"$work/used"
	cp "$work/schemes.json" schemes.json
	"$out/bin/configure" --out "$out" >/dev/null
	build
	is "computed" "$(grep -c '"hit":false' "$out/log/edges.jsonl" || true)" 0
}
gc_sweeps_leftovers() {
	boot=$(cut -c 1-8 /proc/sys/kernel/random/boot_id)
	mkdir -p "$out/models/.half.$boot.7.tmp"
	: >"$out/models/.half.$boot.7.tmp/file"
	: >"$out/store/tmp/.object.$boot.3.tmp"
	: >"$out/store/tmp/.object.00000000.3.tmp" # another host's, or an earlier boot's
	: >"$out/store/locks/0.lock"
	touch -d '3 days ago' "$out/store/tmp/.object.00000000.3.tmp"
	: >"$out/store/tmp/.object.00000000.4.tmp"
	"$out/bin/store" gc >"$work/gc"
	grep -q '3 temporaries and 1 lock files' "$work/gc"
	[ -f "$out/store/tmp/.object.00000000.4.tmp" ]
	rm "$out/store/tmp/.object.00000000.4.tmp"
	no_leftovers "$out"
}

check edit_through_a_link edit_through_a_link
check object_gone object_gone
check touched_only touched_only
check file_of_a_checkpoint file_of_a_checkpoint
check rot_found_by_the_store rot_found_by_the_store
check rot_found_by_verify rot_found_by_verify
check cut_list cut_list
check damaged_result damaged_result
check lists lists
check tells_why tells_why
check dry_run_tells dry_run_tells
check statistics statistics
check gc_takes_what_nothing_needs gc_takes_what_nothing_needs
check gc_keeps_published_ones_of_no_scheme gc_keeps_published_ones_of_no_scheme
check gc_sweeps_leftovers gc_sweeps_leftovers
finish
