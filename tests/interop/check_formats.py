"""transformers with compressed-tensors on checkpoints in every number format, alone and
mixed (tests/support/every_format.json).

For each: no missing or unexpected keys; exactly the manifest's linears are quantised, in
the scheme that the config says; the weights that compressed-tensors' own decompressors make
of the files' tensors are those of quern's BF16 twin, bit for bit; and in float32 the loaded
model gives quern's distributions, within a tenth of the scheme's damage or twice its noise.

Rounding is a step function, as check_transformers.py says, and an input that lies on a step
is noise. Two measures of it, of which the lesser counts: what transformers differs from
itself between float32 and float64, on images or on texts, since 16 samples of one kind may
have next to no such input; and, on the same kind, what a jitter of the embeddings costs. The
jitter is of the size that moves a twin, which has no steps, as far as quern is from
transformers.
"""

import json
from contextlib import contextmanager

import torch
from safetensors import safe_open

import hf
import quern

BOTH = ("image", "text")
# A token's scale is found over all but the first two axes of an input, and the vision tower's
# have two: compressed-tensors 0.17 gives a whole image one scale there.
SCHEMES = {"fp8_rows": ("text",), "int8": BOTH, "int4": BOTH, "nvfp4": BOTH,
           "awq": BOTH, "mixed_7_bits": BOTH, "fp8_nvfp4_7_bits": BOTH,
           "awq_fp8_7_bits": BOTH}
SMALL_SHARE = 0.1  # of the damage
CHAOS = 2.0  # times the noise
JITTER = 1e-6  # relative, standard deviation
JITTERS = 4
FLOAT32_FLOOR = 1e-9


def tensors_of(folder):
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found.update({name: file.get_tensor(name) for name in file.keys()})
    return found


def in_memory(module):
    return module if module == "lm_head" else "model." + module


def decompressed(tensors, hub, scheme):
    """The weight of a linear by the code that transformers has for its format."""
    from compressed_tensors.compressors import BaseCompressor

    state = {name.removeprefix(hub + "."): t for name, t in tensors.items()
             if name.startswith(hub + ".") and not name.endswith(".bias")}
    compressor = BaseCompressor.get_value_from_registry(scheme.format)
    return compressor.decompress(state, scheme)["weight"]


def check_weights(report, model, folder, twin):
    tensors, decoded = tensors_of(folder), tensors_of(twin)
    top = json.loads((folder / "config.json").read_text())["quantization_config"]["format"]
    wanted = quern.complete_decisions(folder)
    wrong, formats = [], {}
    for module, quantised in wanted.items():
        layer = model.get_submodule(in_memory(module))
        scheme = getattr(layer, "quantization_scheme", None)
        if quantised != (scheme is not None):
            wrong.append(module)
        if not quantised or scheme is None:
            continue
        scheme.format = scheme.format or top
        kind = getattr(scheme.format, "value", scheme.format)
        formats[kind] = formats.get(kind, 0) + 1
        hub = quern.hub_name(module)
        weight = decompressed(tensors, hub, scheme).to(torch.bfloat16)
        if not torch.equal(weight, decoded[hub + ".weight"]):
            wrong.append(module)
    said = ", ".join(f"{n} {f}" for f, n in sorted(formats.items()))
    report.check(not wrong, f"{sum(wanted.values())} of {len(wanted)} linears quantised as in the "
                            f"manifest ({said}), weights those of the BF16 twin bit for bit "
                            f"{wrong[:3] or ''}")


@contextmanager
def wide_nvfp4(dtype):
    """compressed-tensors decodes NVFP4 to bfloat16 whatever dtype the model has; with wider
    arithmetic that is told otherwise."""
    from compressed_tensors.compressors.nvfp4 import base

    unpack = base.unpack_fp4_from_uint8
    base.unpack_fp4_from_uint8 = lambda a, m, n: unpack(a, m, n, dtype=dtype)
    try:
        yield
    finally:
        base.unpack_fp4_from_uint8 = unpack


def run_wide(folder, samples, dtype):
    with wide_nvfp4(dtype):
        model = hf.widen(hf.load(folder)[0], dtype)
        return model, hf.logits(model, samples)


def jittered_logits(model, samples, seed):
    random = torch.Generator().manual_seed(seed)

    def jitter(layer, inputs, output):
        return output * (1 + JITTER * torch.randn(output.shape, generator=random))

    hooks = [layer.register_forward_hook(jitter)
             for layer in (model.get_input_embeddings(), model.model.visual.patch_embed)]
    found = hf.logits(model, samples)
    for hook in hooks:
        hook.remove()
    return found


def check_numbers(report, folder, base, kinds):
    samples = quern.logits(folder, quern.graded_cases())
    ours = {name: s.logits for name, s in samples.items()}
    model, theirs = run_wide(folder, samples, torch.float32)
    jittered = [jittered_logits(model, samples, seed) for seed in range(JITTERS)]
    widest = run_wide(folder, samples, torch.float64)[1]

    def distance(p, q, kind):
        return quern.mean_divergence(p, q, samples, kind)

    precision = max(distance(theirs, widest, kind) for kind in BOTH)
    for kind in kinds:
        damage, exact = distance(base, ours, kind), distance(ours, theirs, kind)
        jitter = sum(distance(theirs, other, kind) for other in jittered) / JITTERS
        bound = max(SMALL_SHARE * damage, CHAOS * min(precision, jitter), FLOAT32_FLOOR)
        report.check(exact <= bound, f"{kind}: damage {damage:.2e}, quern to transformers in "
                     f"float32 {exact:.2e} (bound {bound:.2e}; a jitter {jitter:.2e}, "
                     f"transformers' float32 to its float64 {precision:.2e})")


def main():
    report = quern.Report()
    base = {name: s.logits
            for name, s in quern.logits(quern.BASE, quern.graded_cases()).items()}
    published = quern.FORMATS / "models/tiny/quantized"
    for name, kinds in SCHEMES.items():
        folder = published / name
        print("==", name)
        model, complaints = hf.load(folder)
        report.check(not complaints, f"loads without missing or unexpected keys {complaints or ''}")
        check_weights(report, model, folder, published / f"{name}_bf16")
        check_numbers(report, folder, base, kinds)
    report.finish()


if __name__ == "__main__":
    main()
