"""transformers' side: a checkpoint loaded by its own code, run on quern's samples."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)  # tiny matrices: more threads only wait for each other


def load(folder):
    """The model as from_pretrained gives it, and what that says about keys."""
    model, said = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        str(folder), dtype="auto", output_loading_info=True)
    return model.eval(), {kind: sorted(keys) for kind, keys in said.items() if keys}


def widen(model, dtype):
    """The same model with wider arithmetic: casts what was loaded, codes and scales
    included, before the first forward pass decompresses it. transformers forbids
    model.float() for a quantised model, since it is no use in earnest."""
    return torch.nn.Module.to(model, dtype)


def image_inputs(model, grid, patches, ids):
    return {"pixel_values": patches.to(model.lm_head.weight.dtype),
            "image_grid_thw": torch.tensor([[1] + [int(n) for n in grid]]),
            "mm_token_type_ids": (ids == model.config.image_token_id).long()}


def logits(model, samples):
    """{name: logits [ids][vocab]} for quern's ids and quern's patches."""
    found = {}
    for name, s in samples.items():
        ids = torch.tensor([[int(i) for i in s.ids]])
        images = {} if s.patches is None else image_inputs(model, s.grid, s.patches, ids)
        with torch.no_grad():
            found[name] = model(input_ids=ids, **images).logits[0]
    return found


def prompt_inputs(processor, case):
    """What transformers makes of a prompt by itself: template, tokens, pixels."""
    if not case.get("image"):
        return processor.tokenizer(case["text"], return_tensors="pt")
    from PIL import Image

    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": case["text"]}]}
    prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
    picture = Image.open(case["image"]).convert("RGB")
    return processor(text=[prompt], images=[picture], return_tensors="pt")


def generate(model, processor, inputs, most_new):
    """Greedy text. The repetition penalty is generation_config.json's."""
    new = model.generate(**inputs, do_sample=False, max_new_tokens=most_new)
    start = inputs["input_ids"].shape[1]
    return processor.tokenizer.decode(new[0, start:], skip_special_tokens=True)
