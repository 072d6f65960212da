"""vLLM's engine, on the CPU, on checkpoints in the other number formats, alone and mixed
(tests/support/every_format.json): as it is, without a plugin.

For each that it loads: exactly the manifest's linears are quantised, each by the class that
vLLM has for its format; prompts become the same tokens; greedy text is quern's, and the
first token's log probability is within 0.1 of it. These formats do up to twenty times the
damage of the FP8 of check_vllm.py, so what bfloat16 turns over weighs more, and the bounds
are wider; a control, a spoilt copy of the one that does most, must fail them. The ones that
vLLM refuses must be refused in the words that docs/interop.md has.
"""

import json

import check_vllm
import matching
import quern

CASES = [("int8", ""), ("int4", ""), ("fp8_rows", ""), ("mixed_7_bits", ""),
         ("fp8_rows", "_modelopt")]
NO_KERNEL = "Failed to find a kernel that can implement the NVFP4 linear layer"
ONLY_SUPPORTS = "ModelOpt currently only supports: ['FP8', 'FP8_PER_CHANNEL_PER_TOKEN'"
REFUSED = [("nvfp4", "", NO_KERNEL), ("fp8_nvfp4_7_bits", "", NO_KERNEL),
           ("nvfp4", "_modelopt", NO_KERNEL), ("fp8_nvfp4_7_bits", "_modelopt", NO_KERNEL),
           ("int8", "_modelopt", ONLY_SUPPORTS), ("int4", "_modelopt", ONLY_SUPPORTS),
           ("mixed_7_bits", "_modelopt", "object has no attribute 'data'")]
BOUNDS = {"most_apart": 0.1, "near_tie": 0.35}  # nats
SPOILT = "int8"

# How vLLM calls what computes with a format.
CLASSES = {("fp8_e4m3", "compressed-tensors"): "CompressedTensorsW8A8Fp8",
           ("int8", "compressed-tensors"): "CompressedTensorsW8A8Int8",
           ("int4", "compressed-tensors"): "CompressedTensorsWNA16",
           ("fp8_e4m3", "modelopt"): "ModelOptLinearMethod"}


def folder_of(name, profile):
    return quern.FORMATS / "models/tiny/quantized" / (name + profile)


def elements_of(folder):
    """{quern's name of a quantised linear: the element of its format}."""
    manifest = json.loads(quern.manifest_of(folder).read_text())
    formats = manifest["provenance"]["formats"]
    return {name: formats[layer["format"]]["element"]
            for name, layer in manifest["layers"].items() if layer["quantized"]}


def check_linears(report, folder, linears):
    method = json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"]
    names, elements = matching.VllmNames(), elements_of(folder)
    expected = {}
    for module in quern.complete_decisions(folder):
        if module in ("visual.patch_embed.proj", "lm_head"):
            continue
        name = names.rename(matching.fused_name(module))
        how = CLASSES[elements[module], method] if module in elements else "BF16"
        assert expected.setdefault(name, how) == how, f"{module}: a split fused layer"
    wrong = [f"{name}: {linears.get(name)}" for name, how in expected.items()
             if linears.get(name, [None])[0] != how]
    others = sorted(set(linears) - set(expected))
    kinds = sorted(set(expected.values()))
    report.check(not wrong and not others, f"the engine has {len(expected)} linears, as decided: "
                 + ", ".join(f"{list(expected.values()).count(k)} {k}" for k in kinds)
                 + f" {wrong[:3] or ''} {others[:3] or ''}")


def check_refusal(report, folder, words):
    said, how = check_vllm.answers_of(folder, "none")
    log = (quern.WORK / "vllm.log").read_text()
    report.check(said is None and words in log, f"does not load: {words!r}"
                 if said is None and words in log else f"expected {words!r}, found: {how}")


def main():
    report = quern.Report()
    for name, profile in CASES:
        folder = folder_of(name, profile)
        print("==", folder.name)
        said, how = check_vllm.answers_of(folder, "none")
        report.check(said is not None, f"loads and answers in {how}")
        if said:
            check_linears(report, folder, said["linears"])
            check_vllm.check_answers(report, said["answers"], folder, **BOUNDS)
    check_vllm.check_control(report, "input scale of INT8 wrong", check_vllm.shrink_input_scale,
                             folder_of(SPOILT, ""), **BOUNDS)
    for name, profile, words in REFUSED:
        folder = folder_of(name, profile)
        print("==", folder.name)
        check_refusal(report, folder, words)
    report.finish()


if __name__ == "__main__":
    main()
