"""Runs inside vLLM's worker, which imports it by name: hence a file of its own."""


def list_linears(model):
    """{linear: ["BF16" or the class that computes with it, its weight's dtype]}; where a kernel
    packs the weight for itself, None."""
    from vllm.model_executor.layers.linear import LinearBase

    found = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, LinearBase):
            continue
        how = type(getattr(layer, "scheme", None) or layer.quant_method).__name__
        weight = getattr(layer, "weight", getattr(layer, "weight_packed", None))
        found[name] = ["BF16" if "Unquantized" in how else how,
                       None if weight is None else str(weight.dtype)]
    return found


def list_caches(model):
    """{text layer's attention: what its key/value cache is kept in, and its two scales}."""
    return {name: [layer.kv_cache_dtype, float(layer._k_scale_float), float(layer._v_scale_float)]
            for name, layer in model.named_modules() if hasattr(layer, "_k_scale_float")}
