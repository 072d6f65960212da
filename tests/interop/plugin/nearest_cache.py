"""A vLLM plugin: keys and values are rounded to the nearest FP8 number on their way into the
cache, as vLLM's CPU kernel does not do.

That kernel cuts off what does not fit: 7.9 becomes 7.5. So values are rounded here before it
sees them, and handed over as what their codes stand for, with no scale left to apply: there
is nothing to cut off, and the codes in the cache are the nearest ones. All else, reading the
scales of the files and decoding the cache with them, stays vLLM's.
"""

import torch

LARGEST = torch.finfo(torch.float8_e4m3fn).max


def nearest(values, scale):
    """What the codes of the values stand for before scaling; bfloat16 holds them exactly."""
    codes = (values.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return codes.to(values.dtype)


def register():
    import vllm._custom_ops

    store = vllm._custom_ops.cpu_attn_reshape_and_cache

    def store_nearest(key, value, key_cache, value_cache, slot_mapping, isa, k_scale=1.0,
                      v_scale=1.0, kv_cache_dtype="auto"):
        if kv_cache_dtype.startswith("fp8"):
            key, value = nearest(key, k_scale), nearest(value, v_scale)
            k_scale = v_scale = 1.0
        store(key, value, key_cache, value_cache, slot_mapping, isa, k_scale=k_scale,
              v_scale=v_scale, kv_cache_dtype=kv_cache_dtype)

    vllm._custom_ops.cpu_attn_reshape_and_cache = store_nearest
