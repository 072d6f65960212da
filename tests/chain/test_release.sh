#!/bin/sh
# The lock, `ninja ci` and `ninja prune`.
. tests/support/scenario.sh

tree=$work/tree
published=$out/models/tiny/quantized/half
make_tree "$tree"
cd "$tree" || exit 1
cp "$repo/tests/faults/catalog.json" schemes.json
chmod u+w schemes.json
"$out/bin/configure" --out "$out" >/dev/null || exit 1

ci() {
	ninja ci >ci.txt 2>&1
}
clean_again() {
	cp "$repo/tests/faults/catalog.json" schemes.json
	build
	ci
}
# finds KIND ARTIFACT [WHY]: ci says one thing, and nothing else.
finds() {
	! ci || return 1
	sed -n '/^\(stale\|missing\|foreign\|damaged\) /p' ci.txt >found.txt
	is "lines" "$(wc -l <found.txt)" 1 || {
		cat found.txt
		return 1
	}
	grep -q "^$1  *tiny/$2: .*${3-}" found.txt || {
		cat found.txt
		return 1
	}
}

lock_builds_and_records() {
	! ci || return 1
	grep -q 'schemes.lock.json' ci.txt
	[ ! -e "$out/models" ]
	ninja lock >build.txt 2>&1
	is "artifacts locked" "$(grep -c '"outputs"' schemes.lock.json)" 9
	! grep -q "$work\|$repo" schemes.lock.json || return 1
	ci
	cp schemes.lock.json first.lock
	ninja lock >build.txt 2>&1
	cmp schemes.lock.json first.lock
}
ci_builds_nothing() {
	chmod -R u+w "$published"
	rm -rf "$out/models/tiny/quantized/every" "$out/store"
	finds missing every/checkpoint
	[ ! -e "$out/models/tiny/quantized/every" ]
	clean_again
}
ci_needs_no_cache() {
	mv "$out/store" "$out/work" "$work/"
	rm -rf "$out/state"
	ci
	rm -rf "$out/store"
	mv "$work/store" "$work/work" "$out/"
	clean_again
}
stale_by_catalog() {
	sed 's/"percent": 50/"percent": 60/' "$repo/tests/faults/catalog.json" >schemes.json
	finds stale half/slice 'top_percent changed'
	clean_again
}
stale_by_input() {
	rm demo
	cp -r "$repo/demo" demo
	chmod -R u+w demo
	printf ' ' >>demo/tiny-qwen2_5-vl/chat_template.json
	! ci || return 1
	grep -q 'stale .*half/checkpoint: tiny.texts: chat_template.json changed' ci.txt
	! grep -q 'half/slice' ci.txt || return 1
	rm -rf demo
	ln -s "$repo/demo" demo
	clean_again
}
stale_by_sources() {
	cp -a "$out/bin/slice.digest" kept.digest
	tr '0-9a-f' '1-9a-f0' <kept.digest >"$out/bin/slice.digest"
	"$out/bin/release" --tree "$out" ci >ci.txt 2>ci.err && return 1
	is "stale" "$(grep -c '^stale .*/slice: the sources of slice changed' ci.txt)" 2
	is "lines" "$(wc -l <ci.txt)" 2
	mv kept.digest "$out/bin/slice.digest"
	clean_again
}
damaged() {
	chmod u+w "$published/config.json"
	printf 'x' >>"$published/config.json"
	finds damaged half/checkpoint config.json
	clean_again
	chmod u+w "$published/README.md"
	sed -i 's/Effective bits/effective bits/' "$published/README.md"
	finds damaged half/checkpoint README.md
	clean_again
}
gone() {
	rm -f "$published/README.md"
	finds missing half/checkpoint README.md
	clean_again
}
foreign_file() {
	echo x >"$published/extra.txt"
	finds foreign half/checkpoint extra.txt
	rm "$published/extra.txt"
	ci
}
# A whole checkpoint, verified once, but another than the locked one.
foreign_checkpoint() {
	sed 's/"percent": 50/"percent": 80/' "$repo/tests/faults/catalog.json" >schemes.json
	build
	cp -rL "$published" "$work/kept"
	clean_again
	rm -rf "$published"
	cp -rL "$work/kept" "$published"
	finds foreign half/checkpoint half_files.json
	rm -rf "$published"
	clean_again
}
same_answer_with_another_compiler() {
	command -v clang >/dev/null || return 77
	rm "$out"/obj/tools/slice.o "$out"/bin/slice
	cp -a "$out/bin/slice.digest" kept.digest
	CC=clang "$out/bin/configure" --out "$out" >/dev/null
	ninja "$out/bin/slice.digest" "$out/bin/score.digest" >build.txt 2>&1
	cmp "$out/bin/slice.digest" kept.digest
	ci
}
prune_removes_when_told() {
	sed 's/"half": {[^}]*}//' "$repo/tests/faults/catalog.json" >schemes.json
	build
	! ci || return 1
	grep -q '^foreign .*half/checkpoint: the catalog does not make it' ci.txt
	ninja prune </dev/null >prune.txt 2>&1
	grep -qx "$published" prune.txt
	grep -q 'nothing removed' prune.txt
	[ -d "$published" ]
	"$out/bin/release" --tree "$out" --yes prune >prune.txt
	[ ! -e "$published" ]
	[ -d "$out/models/tiny/quantized/every" ]
	ninja prune </dev/null >prune.txt 2>&1
	grep -q 'every checkpoint is a scheme' prune.txt
	clean_again
}

check lock_builds_and_records lock_builds_and_records
check ci_builds_nothing ci_builds_nothing
check ci_needs_no_cache ci_needs_no_cache
check stale_by_catalog stale_by_catalog
check stale_by_input stale_by_input
check stale_by_sources stale_by_sources
check damaged damaged
check gone gone
check foreign_file foreign_file
check foreign_checkpoint foreign_checkpoint
check prune_removes_when_told prune_removes_when_told
check same_answer_with_another_compiler same_answer_with_another_compiler
finish
