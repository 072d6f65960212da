"""SGLang's own loader on checkpoints in the other number formats, alone and mixed
(tests/support/every_format.json), as check_sglang.py has it: no engine runs.

Every linear must be built with the class that SGLang has for its format, and hold exactly
the codes and scales of the files. INT8 with static inputs it does not load: it makes room
for one input scale of a fused layer and looks for the second. Of ModelOpt's form it knows
NVFP4 here, and says so of the others, but for mixtures, which trip it.
"""

import os
import sys

import torch
from safetensors.torch import load_file

import check_sglang
import matching
import quern
from check_vllm_formats import elements_of

CASES = ["int4", "fp8_rows", "nvfp4", "fp8_nvfp4_7_bits", "nvfp4_modelopt"]
NO_SLOT = "index 1 is out of bounds for dimension 0 with size 1"
ONLY_FP8 = "ModelOptFp8Config only supports regular FP8 quantization"
REFUSED = [("int8", IndexError, NO_SLOT), ("mixed_7_bits", IndexError, NO_SLOT),
           ("int8_modelopt", ValueError, ONLY_FP8), ("int4_modelopt", ValueError, ONLY_FP8),
           ("fp8_rows_modelopt", ValueError, ONLY_FP8),
           ("fp8_nvfp4_7_bits_modelopt", AssertionError, "")]

# For a GPU of compute capability 9.0, as check_sglang.py says it has.
CLASSES = {"fp8_e4m3": ["CompressedTensorsW8A8Fp8"], "int4": ["CompressedTensorsWNA16"],
           "nvfp4": ["CompressedTensorsW4A16Fp4", "ModelOptFp4LinearMethod"],
           None: ["UnquantizedLinearMethod"]}


def load(name, started):
    folder = quern.FORMATS / "models/tiny/quantized" / name
    print("==", name)
    model_config = check_sglang.configure(folder)
    if not started:
        check_sglang.start_alone()
        torch.set_default_dtype(torch.bfloat16)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    return folder, tensors, check_sglang.build(model_config, tensors)[0]


def same(held, parts):
    """Whether a parameter is these tensors of the files, one below the other; one number a
    part has a slot each, and there may be more slots."""
    parts = [part.to(held.dtype) for part in parts]
    if all(part.numel() == 1 for part in parts):
        return torch.equal(held.flatten()[:len(parts)], torch.cat([p.flatten() for p in parts]))
    stored = torch.cat([check_sglang.padded(part, held.shape, len(parts)) for part in parts])
    return torch.equal(held.data.view(torch.uint8), stored.view(torch.uint8))


def complaint(layer, element, shards, tensors):
    how = type(getattr(layer, "scheme", None) or layer.quant_method).__name__
    if how not in CLASSES[element]:
        return f"built as {how}"
    for name, held in layer.named_parameters(recurse=False):
        if name in ("bias", "weight_shape"):
            continue
        parts = [tensors.get(f"{shard}.{name}") for shard in shards]
        if any(part is None for part in parts):
            return f"wants {name}"
        if not same(held, parts):
            return f"{name} is not that of the files"
    return ""


def check_checkpoint(report, name, started):
    folder, tensors, model = load(name, started)
    names, elements = matching.SglangNames(), elements_of(folder)
    shards, wrong = {}, []
    for module in quern.complete_decisions(folder):
        if module not in ("visual.patch_embed.proj", "lm_head"):
            built = names.rename(matching.fused_name(module))
            shards.setdefault(built, (elements.get(module), []))[1].append(quern.hub_name(module))
    for built, (element, parts) in shards.items():
        said = complaint(model.get_submodule(built), element, parts, tensors)
        if said:
            wrong.append(f"{built}: {said}")
    count = sum(element is not None for element, _ in shards.values())
    report.check(not wrong, f"{len(shards) - len(wrong)} of {len(shards)} linears, {count} "
                            f"quantised, built as decided and filled from the files {wrong[:3] or ''}")


def check_refusal(report, name, kind, words):
    try:
        load(name, True)
        report.check(False, "loads, though it was thought not to")
    except kind as error:
        report.check(words in str(error), f"does not load: {kind.__name__} {error}")


def main():
    report = quern.Report()
    for number, name in enumerate(CASES):
        check_checkpoint(report, name, number > 0)
    for case in REFUSED:
        check_refusal(report, *case)
    sys.stdout.flush()
    os._exit(1 if report.failed else 0)  # its threads outlive a plain exit


if __name__ == "__main__":
    main()
