#!/bin/sh
# Evaluation, report and page: what is computed, what is not, what is missing, and what
# a browser makes of the page.
set -u
. tests/support/scenario.sh

tree=$work/tree
report=$out/models/tiny_qwen2_5_vl/report-fp8-autoquant-schemes
stores=$out/work/tiny_qwen2_5_vl

reported_schemes() {
	sed -n 's/^  \(fp8_[a-z0-9_]*\) .*/\1/p' "$out/help.txt"
}

# Few schemes and samples: every path, in seconds.
small_tree() {
	make_tree "$tree" \
		--set 'families.fp8_autoquant_all_layers_top{percent}_coco2017.percent=[20,50]' \
		--set 'families.fp8_autoquant_top{percent}_coco2017.percent=[50]' \
		--set calibrations.coco2017_vlm.calib_samples=16 \
		--set calibrations.coco2017_vlm.score_samples=8 \
		--set calibrations.coco2017_vlm.block_samples=4 \
		--set calibrations.coco2017_captions.calib_samples=16 \
		--set calibrations.coco2017_captions.score_samples=16 \
		--set calibrations.coco2017_captions.block_samples=8 \
		--set evaluations.text.samples=4 --set evaluations.image_text.samples=3
}

all_is_reported() {
	cd "$tree"
	build report
	is 'computed evaluations' "$(computed evaluate)" 16
	for scheme in $(reported_schemes); do
		grep -q "^|$scheme|" "$report.md" || { echo "$scheme is not in $report.md"; return 1; }
	done
	[ "$(reported_schemes | wc -l)" -eq 8 ]
	is 'missing numbers' "$(grep -c '|missing|' "$report.md")" 0
}

# The card gets its table from the artifacts that the report is made of, and the sealed
# files stay what they were.
cards_have_the_damage() {
	cd "$tree"
	scheme=fp8_autoquant_all_layers_top50_coco2017
	card=$out/models/tiny_qwen2_5_vl/quantized/$scheme/README.md
	is 'sets in the card' "$(grep -c '^| [a-z_]*: rendered demo scenes (a stand-in) | [34] |' \
		"$card")" 2
	kl=$(sed -n "s/^|$scheme|.*|\([0-9.e-]*\) ± .*|.*|.*|.*|.*|.*|\$/\1/p" "$report.md" | head -n 1)
	[ -n "$kl" ]
	grep -q " | $kl ± " "$card" || { echo "no KL of $kl in the card"; return 1; }
	"$out/bin/verify" --model demo/tiny-qwen2_5-vl "${card%/*}"
	printf 'no card\n' >"$card"
	fails 2 'README.md: expected "SHA-256 of all lines above: .*" as its last line' \
		"$out/bin/verify" --model demo/tiny-qwen2_5-vl "${card%/*}"
	rm "$card"
	build report
	is exports "$(edges export)" 1
	is cards "$(edges 'complete the card')" 1
	grep -q " | $kl ± " "$card"
}

second_run_does_nothing() {
	cd "$tree"
	build report
	nothing_done
}

# From the store: after the work folder is gone nothing is measured again.
nothing_is_measured_twice() {
	cd "$tree"
	cp "$report.md" before.md
	rm -r "$stores"
	build report
	is 'computed evaluations' "$(computed evaluate)" 0
	is 'computed qualities' "$(computed quality)" 0
	cmp before.md "$report.md"
}

nonsense_is_refused() {
	cd "$tree"
	command=$(ninja -t commands "$stores/fp8_autoquant_full_coco2017/damage.text.json" |
		tail -n 1 | sed 's/--out [^ ]*/--out nothing.json/')
	eval "set -- $command"
	for slice; do :; done
	fails 1 'each scheme once' "$@" "$slice"
	fails 1 'in one piece' "$@" --part 1/2
	fails 2 'after the first 99999' "$@" --first 99999
	[ ! -e nothing.json ]
}

# More captions cost their blocks of every choice, and no image.
more_samples_cost_their_blocks() {
	cd "$tree"
	command=$(ninja -t commands build.ninja | tail -n 1)
	sh -c "$command '--set' 'evaluations.text.samples=20' \
		'--set' 'evaluations.text.block_samples=4'" >configured.txt
	build evaluate
	is 'computed evaluations' "$(computed evaluate)" 32
	sh -c "$command" >configured.txt
	build evaluate
	is 'computed evaluations' "$(computed evaluate)" 0
}

# What has no artifact says so, and no number takes its place.
missing_is_missing() {
	cd "$tree"
	mv "$stores/fp8_autoquant_full_coco2017/damage.text.json" kept.json
	mv "$out/models/tiny_qwen2_5_vl/quantized/fp8_autoquant_top50_coco2017" kept
	build report_only
	grep '^|fp8_autoquant_top50_coco2017|' "$report.md" >rows
	is 'sizes that are missing' "$(grep -c '|missing|yes|$' rows)" 1
	is 'damages that are missing' "$(grep -c '|missing|missing|missing|missing|' rows)" 1
	mv kept "$out/models/tiny_qwen2_5_vl/quantized/fp8_autoquant_top50_coco2017"
	mv kept.json "$stores/fp8_autoquant_full_coco2017/damage.text.json"
	rm -rf nothing && mkdir nothing
	sed "s#$out/work#nothing#g; s#$out/models#nothing#g" "$out/report.json" >nothing.json
	"$out/bin/report" --plan nothing.json --model tiny_qwen2_5_vl nothing.md nothing.html
	is 'numbers made of nothing' "$(grep '^|fp8_.*|' nothing.md | grep -c '|[-+0-9]')" 0
	grep -q '^|fp8_autoquant_top50_coco2017|missing|missing|' nothing.md
}

broken_artifacts_are_named() {
	cd "$tree"
	cp "$stores/fp8_autoquant_full_coco2017/damage.text.json" kept.json
	printf '{"schemes": 7}' >"$stores/fp8_autoquant_full_coco2017/damage.text.json"
	fails 2 'damage.text.json.*schemes' "$out/bin/report" --plan "$out/report.json" \
		--model tiny_qwen2_5_vl a.md a.html
	fails 2 'no model "other"' "$out/bin/report" --plan "$out/report.json" \
		--model other a.md a.html
	fails 1 'two files' "$out/bin/report" --plan "$out/report.json" \
		--model tiny_qwen2_5_vl a.md
	fails 1 'a.md twice' "$out/bin/report" --plan "$out/report.json" \
		--model tiny_qwen2_5_vl a.md a.md
	mv kept.json "$stores/fp8_autoquant_full_coco2017/damage.text.json"
}

a_report_is_quick() {
	cd "$tree"
	begun=$(date +%s%N)
	"$out/bin/report" --plan "$out/report.json" --model tiny_qwen2_5_vl a.md a.html
	took=$((($(date +%s%N) - begun) / 1000000))
	echo "took $took ms"
	[ "$took" -le 2000 ]
}

differences_are_told() {
	cd "$tree"
	"$out/bin/diff" --plan "$out/report.json" fp8_autoquant_all_layers_top20_coco2017 \
		fp8_autoquant_all_layers_top50_coco2017 >diff.txt
	is 'groups added' "$(grep -c '^  + ' diff.txt)" 13
	is 'groups taken away' "$(grep -c '^  - ' diff.txt)" 0
	grep -q '^groups quantised *9 *22 *13$' diff.txt
	is 'paired damages' "$(grep -c 'two standard errors$' diff.txt)" 4
	"$out/bin/diff" --plan "$out/report.json" fp8_autoquant_all_layers_fp8_coco2017 \
		fp8_autoquant_full_coco2017 >diff.txt
	grep -q '^ranks that moved' diff.txt
	"$out/bin/diff" --plan "$out/report.json" fp8_autoquant_full_coco2017 \
		fp8_autoquant_full_coco2017 >diff.txt
	grep -qx '  the same' diff.txt
	fails 1 'no scheme "nobody"' "$out/bin/diff" --plan "$out/report.json" \
		fp8_autoquant_full_coco2017 nobody
	fails 1 'two schemes' "$out/bin/diff" --plan "$out/report.json" nobody
}

sweeps_end_in_a_table() {
	cd "$tree"
	build all_layers_sweep
	is 'rows of the whole sweep' "$(grep -c '^fp8_autoquant_all_layers_top.* yes ' build.txt)" 2
	rm -r "$out/models/tiny_qwen2_5_vl/quantized/fp8_autoquant_all_layers_top20_coco2017" \
		"$out/models/tiny_qwen2_5_vl/quantized/fp8_autoquant_all_layers_top50_coco2017"
	"$out/bin/sweep" --plan "$out/report.json" --only top50 --dry-run all_layers_sweep >dry.txt
	is 'folders a dry run made' "$(find "$out/models" -name 'fp8_*_all_layers_top*_coco2017' -type d | wc -l)" 0
	"$out/bin/sweep" --plan "$out/report.json" --only top50 all_layers_sweep >sweep.txt
	is 'rows of one scheme' "$(grep -c '^fp8_autoquant_all_layers_top.* yes ' sweep.txt)" 1
	[ -d "$out/models/tiny_qwen2_5_vl/quantized/fp8_autoquant_all_layers_top50_coco2017" ]
	[ ! -d "$out/models/tiny_qwen2_5_vl/quantized/fp8_autoquant_all_layers_top20_coco2017" ]
	fails 1 'no sweep "other"' "$out/bin/sweep" --plan "$out/report.json" other
	fails 1 'none of the schemes top7' "$out/bin/sweep" --plan "$out/report.json" \
		--only top7 all_layers_sweep
	fails 1 'no scheme "top7"' "$out/bin/sweep" --plan "$out/report.json" \
		--only top50,top7 all_layers_sweep
	fails 1 'no --dry-run' "$out/bin/sweep" --plan "$out/report.json" --table --dry-run \
		all_layers_sweep
}

schemes_are_asked() {
	cd "$tree"
	build sanity
	is 'answers of the base' "$(grep -c '^tiny-qwen2_5-vl ' build.txt)" 4
	is 'answers of each scheme' "$(grep -c '^fp8_autoquant_top50_coco2017 ' build.txt)" 4
	grep -q '[0-9] of 8 answers are the model.s own$' build.txt
}

# Whatever the verdict, it is that of the numbers.
quality_is_judged() {
	cd "$tree"
	verdict=0
	ninja check_quality >build.txt 2>&1 || verdict=1
	is 'judgements' "$(grep -cE '^  (holds|FAILS) ' build.txt)" 12
	is 'verdict' "$verdict" "$(grep -q '^  FAILS' build.txt && echo 1 || echo 0)"
	printf '{"baseline":"b","set":"s","cuts":[{"percent":25,"least_sensitive_kl":1,"random_median_kl":1.5,"ratio":{"mean":0.7,"standard_error":null},"holds":false}],"reversed":{"kl":9,"ratio":{"mean":0.1,"standard_error":0.01},"holds":true},"alone":{"rank_correlation":0.9}}' >bad.json
	fails 2 'not good enough' "$out/bin/check_quality" bad.json
	sed 's/false/true/' bad.json >good.json
	"$out/bin/check_quality" good.json >judged.txt
	fails 2 'nothing.json' "$out/bin/check_quality" "$tree/no/nothing.json"
}

# The page with a probe in it, which counts errors and what was loaded, presses a title
# and writes what it saw where --dump-dom shows it.
probe_page() {
	sed -e 's#<head>#<head><script>window.faults=0;addEventListener("error",()=>faults++,true);</script>#' \
		-e 's#</body>#<script>addEventListener("load",()=>{const t=document.querySelectorAll("table.sortable")[0],h=t.querySelectorAll("th button")[5];h.click();const v=[...t.tBodies[0].rows].map(r=>Number(r.cells[5].dataset.v));const d=document.body.dataset;d.sorted=v.every((x,i)=>!i||x>=v[i-1]);d.faults=faults;d.loaded=performance.getEntriesByType("resource").filter(r=>!r.name.startsWith("data:")).length;d.wide=document.documentElement.scrollWidth<=innerWidth;d.plots=document.querySelectorAll("svg[role=img]").length});</script></body>#' \
		"$report.html" >probed.html
}

in_a_browser() {
	cd "$tree"
	browser=$(command -v chromium || command -v chromium-browser ||
		command -v google-chrome) || {
		echo 'no chromium is installed'
		return 77
	}
	probe_page
	for width in 1280 390; do
		timeout 60 "$browser" --headless=new --no-sandbox --disable-gpu --user-data-dir="$work/profile" \
			--disable-background-networking --no-first-run --enable-logging=stderr \
			--window-size=$width,900 --virtual-time-budget=2000 \
			--dump-dom "file://$tree/probed.html" >dom.html 2>console.txt
		for scheme in $(reported_schemes); do
			sed 's/<[^>]*>//g' dom.html | grep -q "$scheme" || {
				echo "$scheme is not on the page"
				return 1
			}
		done
		for fact in data-sorted=\"true\" data-faults=\"0\" data-loaded=\"0\" \
			data-wide=\"true\" data-plots=\"11\"; do
			grep -q "$fact" dom.html || {
				grep -o '<body[^>]*>' dom.html
				echo "$width: expected $fact"
				return 1
			}
		done
		if grep CONSOLE console.txt; then return 1; fi
	done
}

# Packages that answer like vLLM, as far as the probe asks.
fake_vllm() {
	mkdir -p fake/vllm fake/transformers fake/PIL
	cat >fake/vllm/__init__.py <<-'TEXT'
		import os
		from types import SimpleNamespace as made
		__version__ = "7"
		class SamplingParams:
		    def __init__(self, **settings): pass
		class LLM:
		    def __init__(self, folder, **settings):
		        open("loads.txt", "a").write(folder + "\n")
		        if "_full" in folder:
		            raise RuntimeError("no such operation | here")
		        if "top25" in folder:
		            os._exit(9)
		        self.said = " is red" if "top50" not in folder else " is blue"
		    def generate(self, prompts, settings, use_tqdm):
		        return [made(outputs=[made(text=prompts[0]["prompt"][:3] + self.said)])]
	TEXT
	echo 'from types import SimpleNamespace
current_platform = SimpleNamespace(device_type="fake")' >fake/vllm/platforms.py
	cat >fake/transformers/__init__.py <<-'TEXT'
		class AutoConfig:
		    max_position_embeddings = 64
		    from_pretrained = classmethod(lambda self, folder: self)
		    get_text_config = classmethod(lambda self: self)
		class AutoProcessor:
		    from_pretrained = classmethod(lambda self, folder: self)
		    apply_chat_template = staticmethod(lambda turns, **more: "?")
	TEXT
	cat >fake/PIL/__init__.py <<-'TEXT'
		class Image:
		    open = classmethod(lambda self, path: self)
		    convert = classmethod(lambda self, mode: self)
	TEXT
}

programs_are_probed() {
	cd "$tree"
	command -v python3 >/dev/null || { echo "no python3"; return 77; }
	QUERN_PYTHON=/nonexistent build_fails probe_vllm
	is 'messages' "$(grep -c '^probe: found no Python that has vllm' build.txt)" 1
	fake_vllm
	PYTHONPATH=fake QUERN_PYTHON=python3 build probe_vllm
	loads=$(wc -l <loads.txt)
	is 'loads' "$loads" $(($(find "$out"/models/*/quantized/* -maxdepth 0 -type d | wc -l) + 1))
	PYTHONPATH=fake QUERN_PYTHON=python3 build probe_vllm
	is 'loads of a second run' "$(wc -l <loads.txt)" "$loads"
	build report_only
	grep -q '^### vllm unknown, .*on fake$' "$report.md" || grep -q '^### vllm unknown, on fake$' \
		"$report.md"
	grep -q '^|fp8_autoquant_full_coco2017|FAILS|RuntimeError: no such operation   here|$' \
		"$report.md"
	grep -q "^|fp8_autoquant_top25|FAILS|it ended without a word|\$" "$report.md"
	grep -q '^|fp8_autoquant_all_layers_top50_coco2017|answers, otherwise than the base|' \
		"$report.md"
	grep -q '^|fp8_autoquant_all_layers_fp8_coco2017|answers, as the base|"[^"]* is red" / ' \
		"$report.md"
	grep -q '^missing (`ninja probe_transformers`)$' "$report.md"
	grep -q '<td>FAILS</td><td>RuntimeError: no such operation   here</td>' "$report.html"
	printf '\n' >>"$out/models/tiny_qwen2_5_vl/quantized/fp8_autoquant_top50/layer-sensitivity/fp8_autoquant_top50_files.json"
	build report_only
	grep -q '^|fp8_autoquant_top50|of an earlier export|' "$report.md"
	build report
}

no_address_is_on_the_page() {
	cd "$tree"
	if grep -Eo '(src|href)="?[^ >]*|https?://[^ "<]*|@import|url\(|fetch\(' "$report.html" |
		grep -v '^href="data:,"'; then
		return 1
	fi
}

check small_tree small_tree
check all_is_reported all_is_reported
check cards_have_the_damage cards_have_the_damage
check second_run_does_nothing second_run_does_nothing
check nothing_is_measured_twice nothing_is_measured_twice
check nonsense_is_refused nonsense_is_refused
check more_samples_cost_their_blocks more_samples_cost_their_blocks
check missing_is_missing missing_is_missing
check broken_artifacts_are_named broken_artifacts_are_named
check a_report_is_quick a_report_is_quick
check differences_are_told differences_are_told
check sweeps_end_in_a_table sweeps_end_in_a_table
check schemes_are_asked schemes_are_asked
check quality_is_judged quality_is_judged
check programs_are_probed programs_are_probed
check no_address_is_on_the_page no_address_is_on_the_page
check in_a_browser in_a_browser
finish
