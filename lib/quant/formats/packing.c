/* Scales in tensors; see packing.h. */
#include "lib/quant/formats/packing.h"

#include <math.h>
#include <string.h>

#include "kernels/amax.h"

static enum dtype dtype_of(enum profile p)
{
	return p == PROFILE_UNIVERSAL ? DTYPE_BF16 : DTYPE_F32;
}

struct packed_tensor scale_tensor(enum profile p, int out, int columns)
{
	bool flat = p == PROFILE_MODELOPT && columns == 1;
	return (struct packed_tensor){ .suffix = "weight_scale", .dtype = dtype_of(p),
		.rank = flat ? 1 : 2, .shape = { out, columns } };
}

void fill_scales(const struct packed_tensor *t, enum numerics n, const float *w,
                 size_t count, int width, scale_rule *rule, void *bytes)
{
	size_t size = dtype_bytes(t->dtype);
	for (size_t i = 0; i < count; i++) {
		float scale = rule(n, amax(w + i * (size_t)width, (size_t)width));
		/* BF16 is the upper half of a little-endian float32. */
		memcpy((char *)bytes + i * size, (const char *)&scale + sizeof scale - size, size);
	}
}

float packed_scale(enum profile p, const void *data, size_t index)
{
	float scale = 0;
	size_t size = dtype_bytes(dtype_of(p));
	memcpy((char *)&scale + sizeof scale - size, (const char *)data + index * size, size);
	return scale;
}

bool is_scale(float scale)
{
	return isfinite(scale) && scale > 0;
}
