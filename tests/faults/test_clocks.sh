#!/bin/sh
# Dates and clocks that lie: nothing is skipped that changed, nothing rebuilt for ever.
. tests/support/scenario.sh

tree=$work/tree
${CC:-cc} -std=c11 -D_GNU_SOURCE -shared -fPIC -o "$work/clock.so" tests/faults/clock.c
make_tree "$tree" --catalog tests/faults/catalog.json
own_demo "$tree"
cd "$tree" || exit 1
build || exit 1
text=demo/tiny-qwen2_5-vl/generation_config.json
image=demo/images/scene_000.jpg

# No edge but the scan ran, and nothing was computed.
quiet() {
	build
	nothing_done
}
with_clock() {
	QUERN_CLOCK=$1
	export QUERN_CLOCK
	shift
	LD_PRELOAD=$work/clock.so "$@"
}
# Changes a file's content, not its size, and gives it a date.
change() {
	sed 's/1/2/' "$1" >changed.tmp
	cat changed.tmp >"$1"
	touch -d "$2" "$1"
}
exported_again() {
	build
	is "exports" "$(edges export)" 2
	quiet
}

dates_of_inputs() {
	for date in '2099-01-01' '1970-01-01' '2001-01-01' '1960-01-01'; do
		find demo -type f -exec touch -d "$date" {} +
		quiet
		quiet
	done
}
changed_with_any_date() {
	touch -d '2001-01-01' "$text"
	quiet
	for date in '2099-01-01' '1970-01-01' '2001-01-01'; do
		cp "$repo/$text" "$text"
		build
		change "$text" "$date"
		exported_again
	done
	cp "$repo/$text" "$text"
	exported_again
}
older_file_moved_in() {
	cp "$text" other.json
	sed 's/1/3/' "$text" >other.json
	touch -d '1999-01-01' other.json
	mv other.json "$text"
	exported_again
	tar -C "$repo" -cf old.tar "$text"
	tar -xf old.tar
	exported_again
	cp "$image" kept.jpg
	cp -p "$repo/demo/images/scene_001.jpg" "$image"
	build
	is "images calibrated again" "$(computed calibrate)" 1
	mv kept.jpg "$image"
	build
	is "scored again" "$(computed score)" 0
	quiet
}
clock_set_back() {
	for offset in -86400 -31536000 -1700000000 86400; do
		with_clock "$offset" build
		nothing_done
		sed 's/1/4/' "$repo/$text" >"$text"
		with_clock "$offset" build
		is "exports with $offset" "$(edges export)" 2
		with_clock "$offset" build
		nothing_done
		quiet
		cp "$repo/$text" "$text"
		build
	done
}
built_under_a_wrong_clock() {
	digests "$out/models" >"$work/expected"
	for offset in -31536000 31536000; do
		rm -rf "$out/models" "$out/work" "$out/store" "$out/state" "$out/stamps"
		with_clock "$offset" build
		digests "$out/models" >"$work/found"
		cmp "$work/expected" "$work/found"
		quiet
	done
	"$out/bin/store" verify
}
published_dates() {
	for date in '2099-01-01' '1970-01-01'; do
		find "$out/models" -type f -exec touch -d "$date" {} +
		build
		build
		quiet
	done
	digests "$out/models" >"$work/found"
	cmp "$work/expected" "$work/found"
}

check dates_of_inputs dates_of_inputs
check changed_with_any_date changed_with_any_date
check older_file_moved_in older_file_moved_in
check clock_set_back clock_set_back
check built_under_a_wrong_clock built_under_a_wrong_clock
check published_dates published_dates
finish
