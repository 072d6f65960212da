#!/bin/sh
# What each kind of change makes a build do, and no more: a tool's source, the compiler, a
# row of the calibration DB, a baseline's manifest, another branch.
. tests/support/scenario.sh

tree=$work/tree
catalog=$work/catalog.json
sed 's/"schemes": {.*/"schemes": {\
  "few": { "baseline": "every", "percent": 10 },\
  "most": { "baseline": "every", "percent": 90 } }/' tests/faults/catalog.json >"$catalog"
make_tree "$tree"
own_demo "$tree"
for part in tools lib; do
	rm "$tree/$part"
	cp -a "$repo/$part" "$tree/$part"
done
cd "$tree" || exit 1
build || exit 1
manifest=$out/work/tiny/every/every_quant_manifest.json

# ran EDGE=COUNT...: how often these edges ran in the last build.
ran() {
	for pair in "$@"; do
		is "$pair" "$(edges "${pair%=*}")" "${pair#*=}" || {
			cat build.txt
			return 1
		}
	done
}
computes_nothing() {
	is "computed" "$(grep -c '"hit":false' "$out/log/edges.jsonl" || true)" 0
}
settles() {
	build
	nothing_done
}

# A comment: the tool's edges run, write what is there already, and nothing follows.
tool_with_the_same_output() {
	echo '/* Another line. */' >>tools/slice.c
	build
	ran slice=3 export=0 describe=0 verify=0 compare=0
	computes_nothing
	settles
}
# Another output: what reads it follows.
tool_with_another_output() {
	sed 's/# %s/# The %s/' lib/quant/model_card.c >card.c
	if cmp -s card.c lib/quant/model_card.c; then return 1; fi
	mv card.c lib/quant/model_card.c
	build
	ran calibrate=0 score=0 rank=0 slice=0 export=3 describe=3 verify=3 compare=1
	computes_nothing
	settles
}
another_compiler() {
	command -v clang >other.txt || {
		echo "no clang"
		return 77
	}
	cp -p "$out/bin/slice" before
	sed -i 's|^build $o/obj/tools/slice.o: cc .*|&\n  cc = clang|' build.ninja
	build
	ran compile=1 link=1 slice=0 export=0
	if cmp -s before "$out/bin/slice"; then return 1; fi
	settles
}
# A caption of one row; the DB keeps its size.
changed_row() {
	cp -p demo/demo_vlm_calib.db kept.db
	word=$(strings -n 40 demo/demo_vlm_calib.db | grep -m 1 -o 'A big [a-z]*')
	size=$(wc -c <demo/demo_vlm_calib.db)
	LC_ALL=C sed -i "s/$word/A BIG${word#A big}/" demo/demo_vlm_calib.db
	is "size" "$(wc -c <demo/demo_vlm_calib.db)" "$size"
	build
	[ "$(edges calibrate)" = 1 ]
	is "quantised" "$(computed quantize)" 0
	cp -p kept.db demo/demo_vlm_calib.db
	build
	computes_nothing
	settles
}
# A baseline whose scores are those of a file, at first of "every": for the two below.
imported_manifest() {
	cp "$manifest" imported.json
	sed 's/"baselines": {/&\
	"imported": { "model": "tiny", "calibration": "scenes", "import": "imported.json",\
	  "formats": ["FP8_ALL_LAYERS_CFG"] },/; s/"baseline": "every"/"baseline": "imported"/' \
		"$catalog" >schemes.json
	build
	sed -n '/"sensitivity_ranking"/,$s/.*"importance": \([^,]*\).*/\1/p' "$manifest" >scores
	settles
}
# The most sensitive group is more so: all manifests say so, and every group
# keeps its format, so no checkpoint is exported.
rescored_manifest() {
	cards_of few most >cards.before
	files_of few most >files.before
	worst=$(tail -n 1 scores)
	sed "s/$worst/123.25/" "$manifest" >imported.json
	build
	ran calibrate=0 quantize=0 rank=1 slice=3 export=0 describe=3 verify=3 compare=1
	computes_nothing
	for scheme in few most; do
		for file in "${scheme}" imported; do
			grep -q '"importance": 123.25,' \
				"$published/$scheme/layer-sensitivity/${file}_quant_manifest.json"
		done
	done
	if cards_of few most | cmp -s - cards.before; then return 1; fi
	files_of few most | cmp - files.before
	settles
}
# Two groups on both sides of the least sensitive tenth change places: only one scheme has
# another selection.
replaced_manifest() {
	files_of most >most.before
	weights_of few >few.before
	one=$(sed -n 5p scores) other=$(sed -n 6p scores)
	sed "s/$one/@/; s/$other/$one/; s/@/$other/" "$manifest" >imported.json
	build
	ran calibrate=0 quantize=0 rank=1 slice=3 export=1 describe=3 verify=3 compare=1
	is "export of few" "$(edges 'export few')" 1
	computes_nothing
	if weights_of few | cmp -s - few.before; then return 1; fi
	files_of most | cmp - most.before
	settles
}
published=$out/models/tiny/quantized
cards_of() {
	for scheme; do cat "$published/$scheme/README.md"; done
}
# What is not said but is: with inode and date.
files_of() {
	for scheme; do
		find "$published/$scheme" -maxdepth 1 -type f ! -name README.md -exec stat -c '%n %i %Y' {} + |
			sort
	done
}
weights_of() {
	(cd "$published/$1" && ls ./*.safetensors | grep -v scales | xargs sha256sum)
}
# Another branch and back: all of it is in the store.
another_branch() {
	command -v git >other.txt || {
		echo "no git"
		return 77
	}
	digests "$out/models" >"$work/expected"
	git init -q . && git add demo schemes.json
	git -c user.name=a -c user.email=a@b commit -q -m one
	git checkout -q -b other
	rm demo/tiny-qwen2_5-vl/generation_config.json
	cp demo/images/scene_009.jpg demo/images/scene_000.jpg
	git -c user.name=a -c user.email=a@b commit -q -a -m two
	build
	[ "$(computed calibrate)" -gt 0 ]
	git checkout -q -
	build
	computes_nothing
	digests "$out/models" | cmp - "$work/expected"
	git checkout -q other
	build
	computes_nothing
}

check tool_with_the_same_output tool_with_the_same_output
check tool_with_another_output tool_with_another_output
check another_compiler another_compiler
check changed_row changed_row
check imported_manifest imported_manifest
check rescored_manifest rescored_manifest
check replaced_manifest replaced_manifest
check another_branch another_branch
finish
