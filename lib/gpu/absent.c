/* gpu.h in a build without CUDA: says so, and that is all that is ever asked, since the
 * rest needs a model that cannot be opened. */
#include "lib/gpu/gpu.h"

static bool say_absent(error *err)
{
	return fail(err, EXIT_ENVIRONMENT, "CUDA: this build has none (no nvcc was found when it "
	            "was configured)");
}

bool gpu_built(void)
{
	return false;
}

bool gpu_usable(char name[128], error *err)
{
	name[0] = '\0';
	return say_absent(err);
}

bool gpu_model_open(struct gpu_model **out, const struct model *m, size_t memory_limit,
                    bool native_fp8, error *err)
{
	(void)m, (void)memory_limit, (void)native_fp8;
	*out = NULL;
	return say_absent(err);
}

void gpu_model_close(struct gpu_model *g)
{
	(void)g;
}

bool gpu_weight_amaxes(struct gpu_model *g, float *amax, error *err)
{
	(void)g, (void)amax;
	return say_absent(err);
}

bool gpu_quantise(struct gpu_model *g, const struct gpu_quantisation *quantisation,
                  error *err)
{
	(void)g, (void)quantisation;
	return say_absent(err);
}

bool gpu_take_arena(struct gpu_model *g, size_t memory_limit, error *err)
{
	(void)g, (void)memory_limit;
	return say_absent(err);
}

int gpu_batch_fits(const struct gpu_model *g, const struct sample *const *samples, int count,
                   bool gradient)
{
	(void)g, (void)samples, (void)count, (void)gradient;
	return 1;
}

bool gpu_submit(struct gpu_model *g, int slot, enum gpu_work work,
                const struct sample *const *samples, int count, error *err)
{
	(void)g, (void)slot, (void)work, (void)samples, (void)count;
	return say_absent(err);
}

bool gpu_collect(struct gpu_model *g, int slot, double *values, double *loss, error *err)
{
	(void)g, (void)slot, (void)values, (void)loss;
	return say_absent(err);
}
