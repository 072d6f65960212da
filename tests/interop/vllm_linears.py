"""Runs inside vLLM's worker, which imports it by name: hence a file of its own."""


def list_linears(model):
    """{linear: "BF16", or the dtype of the weight that a quantised one holds}."""
    found = {}
    for name, layer in model.named_modules():
        method = getattr(layer, "quant_method", None)
        if method is None or not hasattr(layer, "weight") or "Embedding" in type(method).__name__:
            continue
        found[name] = "BF16" if "Unquantized" in type(method).__name__ else str(layer.weight.dtype)
    return found


def list_caches(model):
    """{text layer's attention: what its key/value cache is kept in, and its two scales}."""
    return {name: [layer.kv_cache_dtype, float(layer._k_scale_float), float(layer._v_scale_float)]
            for name, layer in model.named_modules() if hasattr(layer, "_k_scale_float")}
