/* Loading the device half; see gpu.h. */
#include "lib/gpu/gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/file.h"

/* <folder of the running program>/libquern_gpu.so */
static bool library_path(char path[PATH_BYTES])
{
	static const char name[] = "libquern_gpu.so";
	ssize_t length = readlink("/proc/self/exe", path, PATH_BYTES);
	if (length <= 0 || length >= PATH_BYTES)
		return false;
	path[length] = '\0';
	char *slash = strrchr(path, '/');
	if (!slash || (size_t)(slash + 1 - path) + sizeof name > PATH_BYTES)
		return false;
	memcpy(slash + 1, name, sizeof name);
	return true;
}

bool gpu_built(void)
{
	char path[PATH_BYTES];
	return library_path(path) && file_exists(path);
}

/* The library stays loaded until the program ends: what it started cannot be undone. */
static const struct gpu_api *load(error *err)
{
	char path[PATH_BYTES];
	if (!gpu_built() || !library_path(path)) {
		fail(err, EXIT_ENVIRONMENT, "CUDA: this build has none (no toolkit was found when it "
		     "was configured)");
		return NULL;
	}
	void *driver = dlopen("libcuda.so.1", RTLD_LAZY);
	if (!driver) {
		fail(err, EXIT_ENVIRONMENT, "CUDA: expected an NVIDIA driver, found none");
		return NULL;
	}
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct gpu_api *api = library ? dlsym(library, "quern_gpu") : NULL;
	if (!api)
		fail(err, EXIT_ENVIRONMENT, "CUDA: %s", dlerror());
	return api;
}

bool gpu_usable(char name[128], error *err)
{
	const struct gpu_api *api = load(err);
	return api && api->usable(name, err);
}

bool gpu_model_open(struct gpu_model **out, const struct model *m, enum gpu_number number,
                    bool native_fp8, error *err)
{
	const struct gpu_api *api = load(err);
	*out = NULL;
	return api && api->model_open(out, m, number, native_fp8, err);
}

void gpu_model_close(struct gpu_model *g)
{
	if (g)
		g->api->model_close(g);
}

bool gpu_weight_amaxes(struct gpu_model *g, float *amax, error *err)
{
	return g->api->weight_amaxes(g, amax, err);
}

bool gpu_quantise(struct gpu_model *g, const struct gpu_quantisation *quantisation,
                  error *err)
{
	return g->api->quantise(g, quantisation, err);
}

bool gpu_take_arena(struct gpu_model *g, size_t memory_limit, error *err)
{
	return g->api->take_arena(g, memory_limit, err);
}

size_t gpu_used_bytes(const struct gpu_model *g)
{
	return g->api->used_bytes(g);
}

int gpu_batch_fits(const struct gpu_model *g, const struct sample *const *samples, int count,
                   enum gpu_work work)
{
	return g->api->batch_fits(g, samples, count, work);
}

bool gpu_submit(struct gpu_model *g, int slot, enum gpu_work work,
                const struct sample *const *samples, int count, error *err)
{
	return g->api->submit(g, slot, work, samples, count, err);
}

bool gpu_collect(struct gpu_model *g, int slot, double *values, double *loss, error *err)
{
	return g->api->collect(g, slot, values, loss, err);
}

bool gpu_compare(struct gpu_model *g, const struct sample *const *samples, int count,
                 const struct gpu_choice *choices, int choice_count, struct row_change *rows,
                 error *err)
{
	return g->api->compare(g, samples, count, choices, choice_count, rows, err);
}
