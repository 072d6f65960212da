/* The one symbol of libquern_gpu.so. */
#include "lib/gpu/model.h"

__attribute__((visibility("default"))) const struct gpu_api quern_gpu = {
	.usable = device_usable,
	.model_open = device_model_open,
	.model_close = device_model_close,
	.weight_amaxes = device_weight_amaxes,
	.quantise = device_quantise,
	.take_arena = device_take_arena,
	.used_bytes = device_used_bytes,
	.batch_fits = device_batch_fits,
	.submit = device_submit,
	.collect = device_collect,
	.compare = device_compare,
};
