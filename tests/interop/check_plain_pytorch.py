"""docs/load_modelopt.py loads a `modelopt` checkpoint with no quantisation library, and it
computes what quern computes."""

import sys

import torch

import hf
import quern

sys.path.insert(0, "docs")
import load_modelopt

SCHEMES = ["fp8_autoquant_all_layers_top50_coco2017", "fp8_autoquant_all_layers_top100_coco2017"]
SMALL_SHARE = 0.1
CHAOS = 2.0  # see check_transformers.py


def main():
    report = quern.Report()
    base = quern.logits(quern.BASE, quern.graded_cases())
    for name in SCHEMES:
        print("==", name)
        folder = quern.scheme(name, "modelopt")
        samples = quern.logits(folder, quern.graded_cases())
        ours = {sample: s.logits for sample, s in samples.items()}
        plain = hf.logits(load_modelopt.load(folder), samples)
        wide = hf.logits(load_modelopt.load(folder, torch.float64), samples)
        for kind in ("image", "text"):
            damage = quern.mean_divergence({n: s.logits for n, s in base.items()}, ours, samples, kind)
            apart = quern.mean_divergence(ours, plain, samples, kind)
            chaos = quern.mean_divergence(plain, wide, samples, kind)
            bound = max(SMALL_SHARE * damage, CHAOS * chaos)
            report.check(apart <= bound, f"{kind}: quern to plain PyTorch {apart:.2e} (bound {bound:.2e}; "
                                         f"the scheme's damage {damage:.2e})")
        model = load_modelopt.load(folder)
        processor = hf.AutoProcessor.from_pretrained(str(folder))
        for case in quern.greedy_cases():
            inputs = hf.prompt_inputs(processor, case)
            quern.check_text(report, folder, case, hf.generate(model, processor, inputs, quern.MOST_NEW))
    report.finish()


if __name__ == "__main__":
    main()
