"""Which linears a server would build in FP8, by the server's own code.

    matching.py vllm|sglang|transformers

Asked about: every built scheme, the modelopt profile, the names of the 3B and the 7B in
picked and random decisions (write_configs), and ModelOpt's own exports of the demo. No
weights are read and no engine runs: the program's config class is made from the files, and
asked about every module of the model by the name that the program gives it. (That it gives
these names, check_vllm.py and check_sglang.py see in the models that are built.)
"""

import json
import re
import shutil
import sys
from pathlib import Path

import torch

import quern

# The linears that a program keeps as one matrix, and its name.
FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj",
         "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}


def fused_name(module):
    parent, leaf = module.rsplit(".", 1) if "." in module else ("", module)
    return f"{parent}.{FUSED.get(leaf, leaf)}" if parent else module


def built_modules(folder, rename):
    """{the program's module: in FP8}, and quern's decisions are no half ones."""
    modules = {}
    for module, quantised in quern.complete_decisions(folder).items():
        name = rename(fused_name(module))
        assert modules.setdefault(name, quantised) == quantised, f"{module}: a split fused layer"
    return modules


def readable_configs(folder, wanted=("modelopt", "compressed-tensors")):
    """Every form in which the folder states its quantisation: (where, config)."""
    block = json.loads((folder / "config.json").read_text())["quantization_config"]
    other = json.loads((folder / "hf_quant_config.json").read_text())
    found = [("config.json", block["quant_method"], block),
             ("hf_quant_config.json", "modelopt", dict(other, quant_method="modelopt"))]
    return [(f"{where} ({method})", config) for where, method, config in found if method in wanted]


class VllmNames:
    def rename(self, module):
        if module == "lm_head":
            return "language_model.lm_head"
        return module.replace("language_model.layers.", "language_model.model.layers.", 1)


class Vllm(VllmNames):
    def __init__(self):
        from types import SimpleNamespace

        from vllm.config import VllmConfig, set_current_vllm_config
        from vllm.model_executor.layers.linear import RowParallelLinear
        from vllm.model_executor.layers.quantization import get_quantization_config
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
        from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

        self.model, self.find = Qwen2_5_VLForConditionalGeneration, get_quantization_config
        self.linear, self.head = bare(RowParallelLinear), bare(ParallelLMHead)
        settings = VllmConfig()
        settings.model_config = SimpleNamespace(dtype=torch.bfloat16)
        self.context = set_current_vllm_config(settings)
        self.context.__enter__()  # until the process ends

    def deciders(self, folder):
        for where, config in readable_configs(folder):
            quant = self.find(config["quant_method"]).from_config(config)
            quant.packed_modules_mapping = self.model.packed_modules_mapping
            quant.apply_vllm_mapper(self.model.hf_to_vllm_mapper)
            yield where, lambda module, quant=quant: self.decide(quant, module)

    def decide(self, quant, module):
        if module == "visual.patch_embed.proj":
            return False  # built without a quantization config
        layer = self.head if module.endswith("lm_head") else self.linear
        method = quant.get_quant_method(layer, module)
        return method is not None and "Unquantized" not in type(method).__name__


class SglangNames:
    def rename(self, module):
        module = re.sub(r"^(visual\..*\.attn\.)qkv$", r"\1qkv_proj", module)
        return module.replace("language_model.layers.", "model.layers.", 1)


class Sglang(SglangNames):
    def __init__(self):
        from sglang.srt.layers.linear import RowParallelLinear
        from sglang.srt.layers.quantization import get_quantization_config
        from sglang.srt.layers.vocab_parallel_embedding import ParallelLMHead
        from sglang.srt.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

        self.model, self.find = Qwen2_5_VLForConditionalGeneration, get_quantization_config
        self.linear, self.head = bare(RowParallelLinear), bare(ParallelLMHead)
        # What it decides, it holds against the GPU's abilities at once.
        torch.cuda.get_device_capability = lambda device=None: (9, 0)

    def deciders(self, folder):
        for where, config in readable_configs(folder):
            method = {"modelopt": "modelopt_fp8"}.get(config["quant_method"], config["quant_method"])
            quant = self.find(method).from_config(
                dict(config, packed_modules_mapping=self.model.packed_modules_mapping))
            quant.apply_weight_name_mapper(self.model.hf_to_sglang_mapper)
            yield where, lambda module, quant=quant: self.decide(quant, module)

    def decide(self, quant, module):
        if module == "visual.patch_embed.proj":
            return False  # a convolution
        layer = self.head if module == "lm_head" else self.linear
        method = quant.get_quant_method(layer, module)
        return method is not None and "Unquantized" not in type(method).__name__


class Transformers:
    """Asks compressed-tensors about a skeleton of the model without weights."""

    def rename(self, module):
        return module if module == "lm_head" else "model." + module

    def deciders(self, folder):
        from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config

        for where, config in readable_configs(folder, ("compressed-tensors",)):
            skeleton = self.skeleton(folder)
            apply_quantization_config(skeleton, QuantizationConfig.model_validate(config))
            chosen = {name for name, layer in skeleton.named_modules()
                      if getattr(layer, "quantization_scheme", None) is not None}
            yield where, lambda module, chosen=chosen: module in chosen

    def skeleton(self, folder):
        root = torch.nn.Module()
        for name in quern.complete_decisions(folder):
            parent = root
            *path, leaf = self.rename(name).split(".")
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, torch.nn.Module())
                parent = getattr(parent, part)
            convolution = name == "visual.patch_embed.proj"
            with torch.device("meta"):
                parent.add_module(leaf, torch.nn.Conv3d(1, 1, 1) if convolution
                                  else torch.nn.Linear(16, 16))
        return root


def bare(layer_class):
    """A layer that has a class and nothing else: all that config classes look at."""
    layer = layer_class.__new__(layer_class)
    torch.nn.Module.__init__(layer)
    return layer


def check_folder(report, program, folder):
    """Reports lists that the program reads otherwise than decided. Returns how many lists
    and modules it was asked about."""
    rename = program.rename
    if isinstance(program, Transformers):  # fuses nothing
        modules = {rename(name): q for name, q in quern.complete_decisions(folder).items()}
    else:
        modules = built_modules(folder, rename)
    lists = 0
    for where, decide in program.deciders(folder):
        lists += 1
        wrong = []
        for module, expected in modules.items():
            try:
                found = decide(module)
            except Exception as error:  # a refusal to load is the program's answer
                found = f"{type(error).__name__}: {error}"
            if found is not expected:
                wrong.append(f"{module}: expected {expected}, found {found}")
        if wrong:
            report.check(False, f"{folder} {where}: {len(wrong)} of {len(modules)} modules not as "
                                f"decided, such as {wrong[0]}")
    return lists, lists * len(modules)


def check_folders(report, program, what, folders):
    failed = report.failed
    asked = [check_folder(report, program, Path(folder)) for folder in folders]
    lists, modules = (sum(numbers) for numbers in zip(*asked))
    if not lists:
        report.note(f"{what}: nothing that this program reads")
        return
    report.check(report.failed == failed, f"{what}: {len(asked)} folders, {lists} lists, {modules} "
                                          "decisions on modules as quern's")


def lay_out_golden():
    """ModelOpt's own exports of the demo, as folders like the others."""
    linears = quern.complete_decisions(quern.scheme("fp8_autoquant_all_layers_top100_coco2017"))
    for path in sorted(Path("tests/golden/demo").glob("export.*.json")):
        export = json.loads(path.read_text())
        folder = quern.WORK / "golden" / path.name.split(".")[1]
        folder.mkdir(parents=True, exist_ok=True)
        said = {name: quern.hub_name(name) + ".weight_scale" in export["tensors"] for name in linears}
        for file, content in (("config.json", {"quantization_config": export["quantization_config"]}),
                              ("hf_quant_config.json", export["hf_quant_config"]),
                              ("decisions.json", said)):
            (folder / file).write_text(json.dumps(content))
        yield folder


# Ways to word a list that one of the programs takes for something else: (program, method,
# what quern writes, what it must not write).
PITFALLS = [
    ("vllm", "modelopt", "model.layers.1.mlp.down_proj", "model.layers.1*"),
    ("sglang", "modelopt", "model.layers.1.mlp.down_proj", "model.layers.1*"),
    ("sglang", "compressed-tensors", r"\.self_attn\.(q|k|v|qkv)_proj$",
     r"\.self_attn\.(q|k|v)_proj$"),
    ("transformers", "compressed-tensors", r"re:.*layers\.(1)\.mlp\.down_proj$",
     "model.layers.1.mlp.down_proj"),
]


def check_controls(report, program, name):
    """Each pitfall of this program, put into a list that is right, must be noticed."""
    good = quern.WORK / "configs/7b_all_but_one_0"
    for whose, method, wording, mistake in PITFALLS:
        if whose != name:
            continue
        profile = "modelopt" if method == "modelopt" else "universal"
        spoilt = quern.WORK / "spoilt/config" / profile
        shutil.rmtree(spoilt, ignore_errors=True)
        shutil.copytree(good / profile, spoilt)
        before = (spoilt / "config.json").read_text()
        written, wrong = json.dumps(wording)[1:-1], json.dumps(mistake)[1:-1]
        (spoilt / "config.json").write_text(before.replace(written, wrong))
        inner = quern.Report(control=True)
        check_folder(inner, program, spoilt)
        report.check(written in before and inner.failed > 0,
                     f"control: {mistake!r} in the list of {method} is noticed")


def main():
    report = quern.Report()
    program = {"vllm": Vllm, "sglang": Sglang, "transformers": Transformers}[sys.argv[1]]()
    check_folders(report, program, "built schemes", quern.all_schemes())
    check_folders(report, program, "modelopt profile",
                  quern.all_schemes("modelopt") + sorted((quern.WORK / "modelopt").iterdir()))
    check_folders(report, program, "3B and 7B names", (quern.WORK / "configs").glob("*/*"))
    check_folders(report, program, "ModelOpt's own exports", lay_out_golden())
    check_controls(report, program, sys.argv[1])
    report.finish()


if __name__ == "__main__":
    main()
