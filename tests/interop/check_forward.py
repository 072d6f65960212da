"""quern's forward pass against transformers', both in float32, on the demo model and on a
random one with the traits of the 7B (head of its own, grouped queries, other heads and
windows, three shards): every logit and every loss within 1e-4. And quern's pixels against
those of transformers' image processor.
"""

import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import AutoImageProcessor, Qwen2_5_VLForConditionalGeneration

import hf
import quern

CLOSE = 1e-4
PIXELS_CLOSE = 1e-6  # normalised pixels, from a file that everybody decodes alike


def check_model(report, folder):
    print("==", folder)
    samples = quern.logits(folder, quern.graded_cases())
    model, complaints = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        str(folder), dtype=torch.float32, output_loading_info=True)
    report.check(not any(complaints.values()), "loads without missing or unexpected keys")
    theirs = hf.logits(model.eval(), samples)
    apart = max((s.logits - theirs[name]).abs().max().item() for name, s in samples.items())
    losses = []
    for name, s in samples.items():
        targets = torch.tensor([int(s.ids[row + 1]) for row in s.rows])
        losses.append(abs(cross_entropy(theirs[name][s.rows], targets).item() - s.loss))
    tokens = sum(len(s.ids) for s in samples.values())
    scale = max(s.logits.abs().max().item() for s in samples.values())
    report.check(apart <= CLOSE, f"{tokens} tokens of {len(samples)} samples: logits at most "
                                 f"{apart:.1e} apart (the largest is {scale:.1f})")
    report.check(max(losses) <= CLOSE, f"losses at most {max(losses):.1e} apart")


def check_pixels(report):
    print("== pixels")
    cases = quern.graded_cases(images=16, texts=1)
    samples = quern.logits(quern.BASE, cases)
    for backend in ("pil", "torchvision"):
        processor = AutoImageProcessor.from_pretrained(quern.BASE, backend=backend)
        apart = {}
        for case in cases:
            if case.get("image"):
                picture = Image.open(case["image"]).convert("RGB")
                pixels = processor(images=[picture], return_tensors="pt")["pixel_values"]
                kind = case["image"].rsplit(".", 1)[1]
                difference = (pixels - samples[case["name"]].patches).abs().max().item()
                apart[kind] = max(apart.get(kind, 0), difference)
        text = f"{backend} processor: normalised pixels at most " + \
            ", ".join(f"{a:.1e} ({kind})" for kind, a in sorted(apart.items())) + " apart"
        if backend == "pil":
            report.check(apart["png"] <= PIXELS_CLOSE, text)
        else:
            report.note(text)


def main():
    report = quern.Report()
    check_model(report, quern.BASE)
    check_model(report, quern.WORK / "traits")
    check_pixels(report)
    report.finish()


if __name__ == "__main__":
    main()
