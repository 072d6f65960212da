"""transformers loads `universal` checkpoints, with compressed-tensors, and `bf16` ones, and
computes what quern says they compute.

For each: no missing or unexpected keys; exactly the manifest's linears are FP8 (of the twin,
none), with the codes and scales of the files, also where these are shards; prompts become the same tokens; greedy text and captions
are those of out/bin/generate; and KL(quern, transformers) is small against the scheme's own
damage KL(base, scheme).

Two arithmetics are compared. As loaded, transformers computes in bfloat16, whose own noise
is of the order of a mild scheme's damage: reported, and bounded by noise and damage. In
float32 the same loaded codes and scales must give quern's distributions. FP8 rounding is a
step function, so even there an input that lies on a step falls either way, and what that
costs depends on the model: the bound is a tenth of the damage, or what transformers differs
from itself between float32 and float64, whichever is more. The twin rounds no inputs, and is
held to the tenth.
"""

from importlib.metadata import version

import torch

import hf
import quern

CASES = [(f"fp8_autoquant_all_layers_top{percent}_coco2017", profile)
         for profile in ("universal", "bf16") for percent in (10, 50, 100)]
CASES += [("fp8_autoquant_top50_coco2017", "universal"),
          ("fp8_autoquant_all_layers_top50_coco2017", "packed")]
CACHED = "fp8_autoquant_all_layers_top50_coco2017_kv8"
CACHES_SINCE = (0, 20)  # compressed-tensors; before, it looks for the heads of a language
                        # model in the configuration of the whole, and gives up
SMALL_SHARE = 0.1  # of the damage
CHAOS = 2.0  # times the distance between float32 and float64
BF16_NOISE = 3.0  # times the base's own distance between float32 and bfloat16
FLOAT32_FLOOR = 1e-9


def in_memory(module):
    """quern's name -> the name in transformers' tree."""
    return module if module == "lm_head" else "model." + module


def check_weights(report, model, folder, coded):
    """Which linears are FP8, and that codes and scales are those of the files. Of the twin
    none is, and all are those of the files."""
    from safetensors import safe_open

    wanted = quern.complete_decisions(folder)
    wrong = []
    tensors = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    for module, quantised in wanted.items():
        layer = model.get_submodule(in_memory(module))
        hub = quern.hub_name(module)
        same = torch.equal(layer.weight.view(torch.uint8), tensors[hub + ".weight"].view(torch.uint8))
        if quantised and coded:
            same = same and layer.weight.dtype == torch.float8_e4m3fn and all(
                torch.equal(getattr(layer, scale), tensors[f"{hub}.{scale}"])
                for scale in ("weight_scale", "input_scale"))
        elif hasattr(layer, "weight_scale"):
            same = False
        if not same:
            wrong.append(module)
    report.check(not wrong, f"{coded * sum(wanted.values())} of {len(wanted)} linears in FP8 as "
                            f"they should be, weights and scales as in the files {wrong[:3] or ''}")


def check_texts(report, model, folder):
    processor = hf.AutoProcessor.from_pretrained(str(folder))
    cases = quern.greedy_cases()
    samples = quern.logits(folder, cases)
    for case in cases:
        inputs = hf.prompt_inputs(processor, case)
        if inputs["input_ids"][0].tolist() != [int(i) for i in samples[case["name"]].ids]:
            report.check(False, f"{case}: other prompt tokens than quern's")
        found = hf.generate(model, processor, inputs, quern.MOST_NEW)
        quern.check_text(report, folder, case, found)


def check_numbers(report, folder, as_loaded, base, coded):
    cases = quern.graded_cases()
    samples = quern.logits(folder, cases)
    ours = {name: s.logits for name, s in samples.items()}
    theirs = {"bfloat16": hf.logits(as_loaded, samples)}
    for dtype in (torch.float32, torch.float64):
        wide = hf.widen(hf.load(folder)[0], dtype)
        theirs[str(dtype).removeprefix("torch.")] = hf.logits(wide, samples)
    for kind in ("image", "text"):
        def distance(p, q):
            return quern.mean_divergence(p, q, samples, kind)

        damage = distance(base["ours"], ours)
        exact = distance(ours, theirs["float32"])
        chaos = distance(theirs["float32"], theirs["float64"])
        bound = max(SMALL_SHARE * damage, CHAOS * chaos if coded else 0, FLOAT32_FLOOR)
        report.check(exact <= bound, f"{kind}: damage {damage:.2e}, quern to transformers in "
                     f"float32 {exact:.2e} (bound {bound:.2e}; transformers' float32 to its "
                     f"float64 {chaos:.2e})")
        loose = distance(ours, theirs["bfloat16"])
        noise = distance(base["ours"], base["bfloat16"])
        report.check(loose <= damage + BF16_NOISE * noise,
                     f"{kind}: quern to transformers as loaded {loose:.2e}, base to transformers "
                     f"as loaded {distance(base['ours'], theirs['bfloat16']):.2e} (bfloat16 noise "
                     f"of the base {noise:.2e})")


def measure_base():
    samples = quern.logits(quern.BASE, quern.graded_cases())
    model, _ = hf.load(quern.BASE)
    return {"ours": {name: s.logits for name, s in samples.items()},
            "bfloat16": hf.logits(model, samples)}


def check_refusal(report, name):
    """A checkpoint with an FP8 cache, in a compressed-tensors that cannot load it."""
    print("==", name)
    try:
        hf.load(quern.scheme(name))
        report.check(False, "loads, though its compressed-tensors was thought not to")
    except ValueError as error:
        said = str(error).split(" {")[0]
        report.check("num_attention_heads" in said, f"refused: {said[:90]}...")


def main():
    report = quern.Report()
    base = measure_base()
    caches = tuple(int(n) for n in version("compressed-tensors").split(".")[:2]) >= CACHES_SINCE
    if not caches:
        check_refusal(report, CACHED)
    for name, profile in CASES + [(CACHED, "universal")] * caches:
        folder = quern.scheme(name, profile)
        coded = profile != "bf16"
        print("==", name, profile)
        model, complaints = hf.load(folder)
        report.check(not complaints, f"loads without missing or unexpected keys {complaints or ''}")
        check_weights(report, model, folder, coded)
        check_texts(report, model, folder)
        if profile != "packed":  # the same tensors as universal
            check_numbers(report, folder, model, base, coded)
    report.finish()


if __name__ == "__main__":
    main()
