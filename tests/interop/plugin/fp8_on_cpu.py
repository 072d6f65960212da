"""A vLLM plugin: the one operation that vLLM's CPU build declares and does not have.

vLLM quantises activations (and weights of fused layers, when it sees fit) with its own
compiled scaled_fp8_quant, a stub on the CPU. This puts a few lines of torch in its place:
static per-tensor FP8, which is all that quern's checkpoints ask for. Everything else, from
reading the config to the matrix product, stays vLLM's.
"""

import torch

LARGEST = torch.finfo(torch.float8_e4m3fn).max


def scaled_fp8_quant(input, scale=None, num_token_padding=None, scale_ub=None,
                     use_per_token_if_dynamic=False, output=None, group_shape=None):
    if scale is None or scale.numel() != 1 or num_token_padding:
        raise NotImplementedError("fp8_on_cpu: only static per-tensor scales")
    codes = (input.float() / scale.float()).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    if output is not None:
        codes = output.copy_(codes)
    return codes, scale


def register():
    import vllm._custom_ops
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        vllm._custom_ops.scaled_fp8_quant = scaled_fp8_quant
