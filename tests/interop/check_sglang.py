"""SGLang's own loader builds the model of a checkpoint and fills it with the tensors.

There is no GPU here, so the engine does not run. But all that decides whether a checkpoint
loads right does: SGLang reads the configs, names its modules, chooses a method for each
linear, and its load_weights sorts the tensors in, passing over names it does not know
without a word. Afterwards every linear must be built as the manifest says, and hold exactly
the codes, weights and scales of the files.
"""

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from safetensors.torch import load_file

torch.cuda.get_device_capability = lambda device=None: (9, 0)  # it asks; nothing runs there

from sglang.srt.configs.load_config import LoadConfig
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.distributed import init_distributed_environment, initialize_model_parallel
from sglang.srt.model_loader.loader import _get_quantization_config, _initialize_model
from sglang.srt.runtime_context import SpawnRanks, publish
from sglang.srt.server_args import ServerArgs

import matching
import quern

CASES = [("fp8_autoquant_all_layers_top10_coco2017", "universal"),
         ("fp8_autoquant_all_layers_top50_coco2017", "universal"),
         ("fp8_autoquant_all_layers_top100_coco2017", "universal"),
         ("fp8_autoquant_top50_coco2017", "universal"),
         ("fp8_autoquant_all_layers_top50_coco2017", "modelopt"),
         ("fp8_autoquant_all_layers_top100_coco2017", "modelopt"),
         ("fp8_autoquant_all_layers_top50_coco2017_kv8", "universal")]
CACHED = "fp8_autoquant_all_layers_top50_coco2017_kv8"


def configure(folder):
    arguments = ServerArgs(model_path=str(folder), device="cpu")
    publish(arguments, role="scheduler", ranks=SpawnRanks(world_rank=0, dp_rank=None, gpu_id=0))
    return ModelConfig.from_server_args(arguments)


def start_alone():
    """A world of one process."""
    store = f"file://{(quern.WORK / 'sglang.store').resolve()}"
    (quern.WORK / "sglang.store").unlink(missing_ok=True)
    init_distributed_environment(world_size=1, rank=0, local_rank=0, backend="gloo",
                                 distributed_init_method=store)
    initialize_model_parallel()


def build(model_config, tensors):
    chosen = _get_quantization_config(model_config, LoadConfig())
    model = _initialize_model(model_config, LoadConfig(), chosen)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.view(torch.uint8).fill_(0x7F)  # nonsense, to show what stays unfilled
    model.load_weights(iter(tensors.items()))
    return model, model_config.quantization


def padded(weight, shape, shards):
    """SGLang makes the vision MLP a multiple of 8 wide, and fills up with zeros."""
    rows, columns = shape[0] // shards, shape[1]
    if shards == 3:  # q, k and v need no padding, and are not alike
        rows = weight.shape[0]
    codes = weight.view(torch.uint8).reshape(weight.shape[0], -1)
    full = torch.zeros(rows, columns * weight.element_size(), dtype=torch.uint8)
    full[:codes.shape[0], :codes.shape[1]] = codes
    return full.view(weight.dtype)


def check_linear(layer, quantised, shards, tensors):
    """'' or what is wrong with a linear made of these modules of the files."""
    stored = torch.cat([padded(tensors[f"{shard}.weight"], layer.weight.shape, len(shards))
                        for shard in shards])
    if layer.weight.dtype != stored.dtype or (stored.dtype == torch.float8_e4m3fn) != quantised:
        return f"weight is {layer.weight.dtype}"
    if not torch.equal(layer.weight.view(torch.uint8), stored.view(torch.uint8)):
        return "other weights"
    if not quantised:
        return "has scales" if hasattr(layer, "weight_scale") else ""
    for scale in ("weight_scale", "input_scale"):
        held = getattr(layer, scale).float()
        wanted = torch.stack([tensors[f"{shard}.{scale}"].float().reshape(()) for shard in shards])
        filled = held.flatten()[:len(shards)]  # a qkv fused in the files fills one slot of three
        if not torch.equal(filled, wanted) or held.max() != wanted.max():  # it takes the largest
            return f"{scale} is {held.tolist()}, in the files {wanted.tolist()}"
    return ""


def check_checkpoint(report, name, profile, started):
    folder = quern.scheme(name, profile)
    print("==", name, profile)
    model_config = configure(folder)
    if not started:
        start_alone()
        torch.set_default_dtype(torch.bfloat16)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    model, method = build(model_config, tensors)
    names = matching.SglangNames()
    shards = {}
    for module in quern.complete_decisions(folder):
        if module not in ("visual.patch_embed.proj", "lm_head"):
            shards.setdefault(names.rename(matching.fused_name(module)), []).append(quern.hub_name(module))
    expected = matching.built_modules(folder, names.rename)
    wrong = []
    for module, parts in shards.items():
        complaint = check_linear(model.get_submodule(module), expected[module], parts, tensors)
        if complaint:
            wrong.append(f"{module}: {complaint}")
    report.check(not wrong, f"as {method}: {len(shards) - len(wrong)} of {len(shards)} linears built as "
                            f"decided and filled from the files {wrong[:3] or ''}")


def check_caches(report):
    """Its loader of this model knows no names for the scales of a cache: it passes over
    those at the attention, and trips over those at the projections."""
    folder = quern.scheme(CACHED, "modelopt")
    print("==", CACHED, "modelopt")
    model_config = configure(folder)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    try:
        build(model_config, tensors)
        report.check(False, "loads, though it was thought not to")
    except KeyError as error:
        report.check("qkv_proj.k_scale" in str(error), f"does not load: KeyError {error}")


def main():
    report = quern.Report()
    for number, (name, profile) in enumerate(CASES):
        check_checkpoint(report, name, profile, number > 0)
    check_caches(report)
    sys.stdout.flush()
    os._exit(1 if report.failed else 0)  # its threads outlive a plain exit


if __name__ == "__main__":
    main()
