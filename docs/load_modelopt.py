"""A `modelopt` checkpoint in PyTorch, without any quantisation library.

    python docs/load_modelopt.py FOLDER "Two dogs are"

Needs torch, safetensors and transformers (for the model's class and tokenizer). A weight is
its FP8 codes times weight_scale; what goes into such a layer is rounded to FP8 by
input_scale, as a server does it.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (AutoConfig, AutoTokenizer, GenerationConfig,
                          Qwen2_5_VLForConditionalGeneration)

FP8 = torch.float8_e4m3fn


def round_input(scale):
    def hook(layer, inputs):
        codes = (inputs[0].float() / scale).clamp(-448, 448).to(FP8)
        return ((codes.float() * scale).to(inputs[0].dtype),)
    return hook


def load(folder, dtype=torch.float32):
    index = json.loads((Path(folder) / "model.safetensors.index.json").read_text())
    stored = {}
    for file in sorted(set(index["weight_map"].values())):
        stored.update(load_file(Path(folder) / file))
    coded = [name.removesuffix(".weight") for name, t in stored.items() if t.dtype == FP8]
    weights = {name: t.to(dtype) for name, t in stored.items() if not name.endswith("_scale")}
    for module in coded:
        exact = stored[module + ".weight"].float() * stored[module + ".weight_scale"]
        weights[module + ".weight"] = exact.to(dtype)
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    for module in coded:
        layer = model.get_submodule("model." + module.replace("model.", "language_model.", 1))
        layer.register_forward_pre_hook(round_input(stored[module + ".input_scale"]))
    return model.eval()


if __name__ == "__main__":
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    prompt = tokenizer(sys.argv[2], return_tensors="pt")
    new = load(sys.argv[1]).generate(**prompt, do_sample=False, max_new_tokens=48)
    print(tokenizer.decode(new[0], skip_special_tokens=True))
