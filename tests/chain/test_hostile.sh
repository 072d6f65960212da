#!/bin/sh
# Command lines, names, catalogs and folders that nobody meant, or somebody did.
. tests/support/scenario.sh

make_tree "$work/tree"
copy_tools "$work/bin"
cd "$work/tree" || exit 1
few="--set calibrations.coco2017_captions.calib_samples=4
	--set calibrations.coco2017_captions.score_samples=4"
scheme=fp8_autoquant_top50_coco2017

# ---- command lines ----

all_help() {
	for program in "$work"/bin/*; do
		case $program in *.digest) continue ;; esac
		"$program" --help >help.txt 2>help.err
		grep -q "^usage: ${program##*/}" help.txt
		[ ! -s help.err ]
	done
}

no_options() {
	for name in decode calibrate score merge rank quantize slice export verify diversity scan \
		sources generate; do
		fails 1 'expected|required|missing|needs|see --help' "$work/bin/$name"
	done
}

unknown_options() {
	for program in "$work"/bin/*; do
		case $program in *.digest) continue ;; esac
		fails 1 'unknown option --nonsense' "$program" --nonsense
		fails 1 'unknown option' "$program" --nonsense=3
	done
}

# usage PATTERN OPTIONS...: configure refuses its options and writes nothing.
usage() {
	pattern=$1
	shift
	cp build.ninja before.ninja
	fails 1 "$pattern" "$work/bin/configure" --out "$out" "$@"
	cmp build.ninja before.ninja
}

bad_numbers() {
	usage '--workers: expected 1 to 4096, found 0' --workers 0
	usage '--workers: expected a whole number.*"-1"' --workers -1
	usage '--workers: expected a whole number.*"many"' --workers many
	usage '--workers: expected .*99999999999999999999' --workers 99999999999999999999
	usage '--model: expected DIR' --model
	usage '--model: expected .*""' --model ''
	usage '--model: expected .*"/"' --model /
	usage 'unexpected "stranger"' stranger
	usage '--cpu and --cuda' --cpu --cuda
	fails 1 '--part: expected I/N.*"2/2"' "$work/bin/calibrate" \
		--model demo/tiny-qwen2_5-vl --captions demo/demo_captions.txt --tree "$out" --out c.json --part 2/2
	fails 1 '--numerics: expected .*"fp64"' "$work/bin/quantize" \
		--model demo/tiny-qwen2_5-vl --tree "$out" --out q.json --numerics fp64
	fails 1 '--top-percent: expected .*"0"' "$work/bin/slice" --baseline x \
		--baseline-folder x --scheme x --file-name x --out x --top-percent 0
	(
		export CUDA_HOME="$work/none"
		fails 3 '--cuda: expected the CUDA toolkit' "$work/bin/configure" --cuda
	)
}

bad_sets() {
	usage '--set: expected PATH=VALUE, found "nonsense"' --set nonsense
	usage '--set: expected PATH=VALUE, found "=3"' --set =3
	usage '--set a.b.c=3: the catalog has no such field' --set a.b.c=3
	usage '--set schemes.nope.percent=4: ' --set schemes.nope.percent=4
	for value in '' -1 0 1.5 many '[1]' 1e30 null.; do
		fails 2 'score_samples: expected an integer from 1' "$work/bin/configure" \
			--set "calibrations.coco2017_vlm.score_samples=$value"
	done
	fails 2 'scores: unknown field' "$work/bin/configure" \
		--set calibrations.coco2017_vlm.scores=4
	fails 2 'percent: expected .*found 400' "$work/bin/configure" \
		--set "schemes.$scheme.percent=400"
	fails 2 'no model "tiny_qwen2_5_vl"' "$work/bin/configure" --set 'models={}'
}

# ---- catalogs ----

# catalog PATTERN SED...: the catalog so changed is refused.
catalog() {
	pattern=$1
	shift
	sed "$@" schemes.json >changed.json
	cp build.ninja before.ninja
	fails 2 "^configure: changed.json.*$pattern" "$work/bin/configure" --out "$out" \
		--catalog changed.json
	cmp build.ninja before.ninja
}

new_scheme() {
	fields="\"baseline\": \"${2-fp8_autoquant_full_coco2017}\", \"percent\": 5"
	echo "s|^  \"schemes\": {\$|  \"schemes\": {\"$1\": {$fields},|"
}

names_of_targets() {
	for name in all test help tools always diversity_tiny_qwen2_5_vl; do
		catalog ":[0-9]*:[0-9]*: .*$name" -e "$(new_scheme "$name")"
	done
	catalog 'there is already a scheme' -e "$(new_scheme $scheme)"
	catalog 'file_name' -e "$(new_scheme fp8_autoquant_all_layers_fp8 \
		fp8_autoquant_all_layers_fp8_coco2017)"
}

bad_names() {
	for name in '' 'a b' '..' '../x' a/b a.b '-a' 'a$b' 'a:b' "$(printf '%0151d' 0)"; do
		catalog 'expected a name of letters' -e "$(new_scheme "$name")"
	done
	catalog 'expected a name of letters' -e 's/top{percent}_coco/to p{percent}_coco/'
	catalog 'expected a name of letters' -e 's/top{percent}_coco/top{percent}{percent}_coco/'
	catalog 'expected "{percent}"' -e 's/top{percent}_coco/topX_coco/'
	catalog 'expected a name of letters' -e \
		's/"file_name": "[^"]*"/"file_name": "..\/..\/x"/'
	catalog 'control characters' -e 's/rendered demo scenes/a\\nb/'
	catalog 'control characters' -e 's/demo_captions.txt/a\\tb/'
}

bad_catalogs() {
	catalog 'is there twice' -e \
		's/"fp8_autoquant_full_coco2017": {/"fp8_autoquant_all_layers_fp8_coco2017": {/'
	catalog 'there is already a scheme' -e 's/\[10, 20/[10, 10/'
	catalog 'percentage above 0' -e 's/\[10, 20/[0, 20/'
	catalog 'unknown field, did you mean "stand_in"' -e 's/"stand_in": true,/"standin": 1,/'
	catalog 'lm_head cannot be exported' -e 's/\["lm_head"\]/[]/'
	catalog 'excludes every linear' -e 's/\["lm_head"\]/["*"]/'
	catalog 'no calibration "nope"' -e 's/"calibration": "[^"]*"/"calibration": "nope"/'
	catalog 'either "captions" or "calib_db", found both' -e \
		's/"calib_db"/"captions": "x", "calib_db"/'
	catalog 'captions have no images' -e 's/"prompt_form": "text"/"prompt_form": "answer"/'
	catalog ':[0-9]*:[0-9]*: expected' -e '$d'
	catalog '1:1: expected a value' -e '1,$d'
}

empty_sections() {
	echo '{"models": {}, "calibrations": {}, "formats": {}, "baselines": {},
		"families": {}, "schemes": {}}' >empty.json
	mkdir empty
	cp empty.json build.ninja.in empty/
	(
		cd empty
		"$work/bin/configure" --catalog empty.json >configured.txt
		grep -q '^quern: 0 schemes from 0 baselines' configured.txt
	)
	sed -e 's/\[10, 20.*\]/[]/' schemes.json >few.json
	"$out/bin/configure" --out "$out" --catalog few.json >configured.txt
	grep -q '^quern: 5 schemes from 3 baselines' configured.txt
	ninja -n all >/dev/null
	"$out/bin/configure" --out "$out" >/dev/null
}

# ---- folders ----

# works NAME OPTIONS...: a scheme builds and verifies under out/models/NAME.
works() {
	name=$1
	shift
	"$out/bin/configure" --out "$out" $few "$@" >configured.txt
	build $scheme
	grep -q '"verified": true' "$out/work/$name/schemes/$scheme/verify.json"
	[ -f "$out/models/$name/quantized/$scheme/scales.safetensors" ]
	build $scheme
	nothing_done
}

odd_names() {
	mkdir "a b\$c" "it's"
	cp -r demo/tiny-qwen2_5-vl "a b\$c/M \"x\" (1)|:&;\$HOME"
	cp demo/demo_captions.txt "it's/captions #1.txt"
	works m__x___1______home --model "a b\$c/M \"x\" (1)|:&;\$HOME" \
		--captions "it's/captions #1.txt"
	grep -q '"data": "captions #1.txt"' \
		"$out"/models/m_*/quantized/$scheme/layer-sensitivity/fp8_autoquant_full*manifest.json
	fails 2 'control characters' "$work/bin/configure" --out "$out" \
		--captions "$(printf 'a\tb')"
}

# As the hub's cache lays a model out: the folder holds links to files elsewhere.
linked_files() {
	mkdir -p cache/snapshot cache/blobs
	for file in demo/tiny-qwen2_5-vl/*; do
		cp "$file" "cache/blobs/${file##*/}.blob"
		ln -s "../blobs/${file##*/}.blob" "cache/snapshot/${file##*/}"
	done
	works snapshot --model cache/snapshot/
	ls "$out/models/snapshot/quantized/$scheme" | grep -q '^tokenizer.json$'
}

linked_folder() {
	ln -s demo/tiny-qwen2_5-vl linked
	works linked --model linked
	is "results computed by score" "$(computed score)" 0
}

absolute_paths() {
	works tiny_qwen2_5_vl --model "$repo/demo/tiny-qwen2_5-vl" \
		--captions "$repo/demo/demo_captions.txt"
	is "results computed by score" "$(computed score)" 0
}

# Folders and files that are not what a program wants.
wrong_operands() {
	model=demo/tiny-qwen2_5-vl
	fails 2 'gone/config.json: cannot open' "$work/bin/generate" --prompt 'A big' gone
	fails 2 'expected a JPEG or PNG' "$work/bin/generate" --image schemes.json $model
	fails 1 'one checkpoint folder, found 2' "$work/bin/generate" --prompt 'A big' $model $model
	fails 2 'layer-sensitivity: cannot open' "$work/bin/verify" --model $model $model
	fails 1 'expected a list of files' "$work/bin/diversity" --out x.json schemes.json
	fails 2 'schemes.json:1:1: lacks the field "blocks"' "$work/bin/merge" --out x.json \
		schemes.json
	mkdir sliced
	echo '{}' >sliced/slice.json
	echo '{}' >sliced/manifest.json
	echo '{"formats": {}}' >sliced/selection.json
	fails 2 'gone/selection.json: cannot open' "$work/bin/export" --model $model --scheme s \
		--file-name f --baseline schemes.json --slice gone --amax gone --quantized gone \
		--tree "$out" --out x
	fails 2 'schemes.json:1:1: lacks the field' "$work/bin/export" --model $model --scheme s \
		--file-name f --baseline schemes.json --slice sliced --amax schemes.json \
		--quantized schemes.json --tree "$out" --out x
	fails 2 'gone/slice.json: cannot open' "$work/bin/describe" --model $model --scheme s \
		--file-name f --baseline schemes.json --slice gone --tree "$out" \
		--out x/layer-sensitivity/f_files.json
	fails 1 'x/f_files.json: expected a list of files, CHECKPOINT/layer-sensitivity/f_files' \
		"$work/bin/describe" --model $model --scheme s --file-name f \
		--baseline schemes.json --slice sliced --tree "$out" --out x/f_files.json
	fails 2 'gone: cannot open' "$work/bin/rank" --model $model --amax gone --out x \
		--baseline b --file-name f --model-name m --data-name d --prompt text part
	[ ! -e x.json ]
	[ ! -e x ]
}

# What a build made is no model to build from.
quantised_model() {
	"$out/bin/configure" --out "$out" $few >configured.txt
	build $scheme
	fails 2 'expected BF16, F16 or F32, found F8_E4M3' "$work/bin/configure" --out "$out" \
		--model "$out/models/tiny_qwen2_5_vl/quantized/$scheme"
}

# Two models in one catalog have their own folders and comparisons; --model takes the
# place of both.
two_models() {
	mkdir twin
	cp demo/tiny-qwen2_5-vl/* twin/
	sed -e 's/"models": {/&"twin": {"path": "twin", "kind": "qwen2_5_vl"},/' -e \
		'/"fp8_autoquant_full_coco2017": {/,/}/s/"model": "[^"]*"/"model": "twin"/' -e \
		's/\[10, 20, .*\]/[50]/' schemes.json >two.json
	"$out/bin/configure" --out "$out" --catalog two.json $few >configured.txt
	build $scheme diversity_twin
	grep -q '"verified": true' "$out/work/twin/schemes/$scheme/verify.json"
	is schemes "$(grep -c 'coco2017": [0-9]' \
		"$out/models/twin/quantized/scheme-diversity.json")" 2
	"$out/bin/configure" --out "$out" --catalog two.json $few --model twin >configured.txt
	is models "$(grep -c 'model  *twin (twin)' configured.txt)" 3
	ninja -n all >/dev/null
}

check every_program_has_help all_help
check missing_options no_options
check unknown_options unknown_options
check numbers_and_words bad_numbers
check wrong_operands wrong_operands
check sets_that_make_no_sense bad_sets
check schemes_named_like_targets names_of_targets
check names_that_cannot_be bad_names
check catalogs_that_cannot_be bad_catalogs
check empty_sections empty_sections
check paths_with_spaces_and_quotes odd_names
check model_of_links linked_files
check linked_model_folder linked_folder
check absolute_paths absolute_paths
check quantised_checkpoint_as_model quantised_model
check two_models two_models

# out on another file system than the sources.
if [ -d /dev/shm ] && other=$(mktemp -d /dev/shm/quern-scenario.XXXXXX 2>/dev/null); then
	other_file_system() {
		mkdir far
		cp -r schemes.json build.ninja.in configure.c lib kernels tools tests demo far/
		cp -a "$out" "$other/$out"
		ln -s "$other/$out" "far/$out"
		cd far
		rm -rf "$out"/models "$out"/work "$out"/store
		works tiny_qwen2_5_vl
	}
	check out_on_another_file_system other_file_system
	chmod -R u+w "$other"
	rm -rf "$other"
else
	skipped out_on_another_file_system "/dev/shm cannot be written"
fi
finish
