"""vLLM's engine, on the CPU, serves quern's checkpoints and says what quern says.

`modelopt` checkpoints load in vLLM as it is; `universal` ones with plugin/fp8_on_cpu.py,
since vLLM's compressed-tensors path calls an operation that its CPU build only declares.
Where the cache is in FP8, plugin/nearest_cache.py rounds what goes into it, which the CPU
kernel cuts off. For each: exactly the manifest's linears are FP8 in the engine; prompts become the
same tokens; greedy text and captions are quern's; the first token's log probability is
within 0.05 of quern's; keys and values go to an FP8 cache with the files' scales where
there are some, and to none where there are not.

Loading proves little: vLLM takes a checkpoint whose scales are wrong or absent without a
word. So two controls, spoilt copies, must fail the very same comparison.
"""

import json
import os
import shutil
import subprocess
import sys
import time

import torch
from safetensors.torch import load_file, save_file

import matching
import quern

CASES = [("fp8_autoquant_all_layers_top50_coco2017", "modelopt"),
         ("fp8_autoquant_all_layers_top100_coco2017", "modelopt"),
         ("fp8_autoquant_all_layers_top50_coco2017", "universal"),
         ("fp8_autoquant_top50_coco2017", "universal"),
         ("fp8_autoquant_all_layers_top50_coco2017_kv8", "modelopt"),
         ("fp8_autoquant_all_layers_top50_coco2017_kv8", "universal")]
CACHED = "_kv8"
FP8 = "torch.float8_e4m3fn"
SPOILT = ("fp8_autoquant_all_layers_top50_coco2017", "modelopt")
MOST_APART = 0.05  # nats, first token


def plugins_for(name, profile):
    chosen = ["fp8_on_cpu"] * (profile == "universal") + ["nearest_cache"] * name.endswith(CACHED)
    return ",".join(chosen) or "none"


def answers_of(folder, plugins):
    """What the engine said, or None and the end of its log."""
    out, log = quern.WORK / "vllm.json", quern.WORK / "vllm.log"
    out.unlink(missing_ok=True)
    settings = dict(os.environ, PYTHONPATH="tests/interop",
                    VLLM_PLUGINS=plugins)
    started = time.monotonic()
    with open(log, "w") as file:
        subprocess.run([sys.executable, "-W", "ignore", "tests/interop/vllm_answers.py", folder, out],
                       env=settings, stdout=file, stderr=subprocess.STDOUT, timeout=900)
    seconds = time.monotonic() - started
    if not out.exists():
        errors = [line for line in log.read_text().splitlines() if "Error" in line]
        return None, f"{seconds:.0f} s; {errors[-1][:400] if errors else 'no error in ' + str(log)}"
    return json.loads(out.read_text()), f"{seconds:.0f} s"


def check_linears(report, folder, linears):
    names = matching.VllmNames()
    expected = matching.built_modules(folder, names.rename)
    expected.pop("visual.patch_embed.proj", None)
    expected.pop("language_model.lm_head", None)  # tied: no linear
    wrong = []
    for name, quantised in expected.items():
        how, weight = linears.get(name, (None, None))
        if how is None or (how != "BF16") != quantised or (quantised and weight != FP8):
            wrong.append(f"{name}: {how} {weight}")
    others = sorted(set(linears) - set(expected))
    report.check(not wrong and not others,
                 f"the engine has {len(expected)} linears, {sum(expected.values())} in FP8, as "
                 f"decided {wrong[:3] or ''} {others[:3] or ''}")


def check_caches(report, folder, caches):
    """Each layer's cache is in FP8 with the scales of the files, or no cache is."""
    scales = load_file(folder / "scales.safetensors")
    wrong = []
    for name, (dtype, *held) in caches.items():
        stem = name.removeprefix("language_model.").removesuffix(".attn")
        stored = [scales.get(f"{stem}.{part}_scale", scales.get(f"{stem}.{part}_proj.{part}_scale"))
                  for part in "kv"]
        expected = [1.0 if scale is None else scale.float().item() for scale in stored]
        if dtype.startswith("fp8") != (stored[0] is not None) or held != expected:
            wrong.append(f"{name}: {dtype} {held}, in the files {expected}")
    report.check(caches and not wrong, f"{len(caches)} layers keep keys and values in "
                 f"{caches[min(caches)][0]}, scales as in the files {wrong[:3] or ''}")


def check_cache_kernel(report):
    """That the CPU kernel still does what plugin/nearest_cache.py is there for."""
    from vllm import _custom_ops as ops

    block, size = 32, 32
    values = torch.randn(block, 1, size, generator=torch.Generator().manual_seed(0))
    values = (3 * values).bfloat16()
    caches = torch.zeros(1, 1, 2 * block, size, dtype=torch.uint8)
    keys, stored = caches.chunk(2, dim=2)
    ops.cpu_attn_reshape_and_cache(values, values, keys, stored, torch.arange(block), "vec",
                                   kv_cache_dtype="fp8")
    stored = stored.reshape(values.shape)
    nearest = values.to(torch.float8_e4m3fn)
    cut_off = nearest.view(torch.uint8) - (nearest.float().abs() > values.float().abs()).byte()
    below = (stored != nearest.view(torch.uint8)).sum()
    report.check(below and torch.equal(stored, cut_off), f"the CPU kernel cuts values off on their "
                 f"way into the cache: {below} of {values.numel()} not to the nearest code")


def check_answers(report, answers, reference, most_apart=MOST_APART, near_tie=quern.NEAR_TIE):
    """The same checks for good checkpoints and spoilt ones; `reference` is what quern makes
    of the good one."""
    cases = quern.greedy_cases()
    samples = quern.logits(reference, cases)
    apart = []
    for case in cases:
        said, sample = answers[case["name"]], samples[case["name"]]
        if said["ids"] != [int(i) for i in sample.ids]:
            report.check(False, f"{case['name']}: other prompt tokens than quern's")
        quern.check_text(report, reference, case, said["text"], near_tie)
        own = sample.logits[-1].log_softmax(-1)[said["first"]].item()
        apart.append(abs(own - said["first_logprob"]))
    report.check(max(apart) <= most_apart, "first tokens' log probabilities at most "
                 f"{max(apart):.4f} from quern's: " + " ".join(f"{a:.4f}" for a in apart))


def spoil(name, change, good):
    """A copy of a checkpoint with change(scales) made to its file of scales."""
    folder = quern.WORK / "spoilt" / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    scales = load_file(folder / "scales.safetensors")
    removed = change(scales)
    os.chmod(folder / "scales.safetensors", 0o644)
    save_file(scales, folder / "scales.safetensors", {"format": "pt"})
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"].pop(removed, None)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def drop_input_scale(scales):
    name = next(n for n in sorted(scales) if n.endswith("o_proj.input_scale"))
    del scales[name]
    return name


def shrink_input_scale(scales):
    name = next(n for n in sorted(scales) if n.startswith("visual") and n.endswith("input_scale"))
    scales[name] = scales[name] / 200


def check_control(report, name, change, good, **bounds):
    print("== control:", name)
    folder = spoil(name.replace(" ", "_"), change, good)
    said, how = answers_of(folder, "none")
    if said is None:
        report.check(False, f"expected vLLM to load it in silence, as it does: {how}")
        return
    inner = quern.Report(control=True)
    check_answers(inner, said["answers"], good, **bounds)
    report.check(inner.failed > 0, f"loads in silence, and {inner.failed} checks fail as they must")


def main():
    report = quern.Report()
    print("== FP8 cache")
    check_cache_kernel(report)
    for name, profile in CASES:
        folder = quern.scheme(name, profile)
        print("==", name, profile)
        said, how = answers_of(folder, plugins_for(name, profile))
        report.check(said is not None, f"loads and answers in {how}")
        if said:
            check_linears(report, folder, said["linears"])
            check_caches(report, folder, said["caches"])
            check_answers(report, said["answers"], folder)
    check_control(report, "input scale removed", drop_input_scale, quern.scheme(*SPOILT))
    check_control(report, "input scale wrong", shrink_input_scale, quern.scheme(*SPOILT))
    report.finish()


if __name__ == "__main__":
    main()
