/* A GPU that is not as one would like it, by LD_PRELOAD: what the device half asks of the
 * CUDA runtime goes through here. The environment says what is wrong with it:
 *
 *   QUERN_CUDA_COUNT=FILE       nothing; FILE gets the number of calls counted below
 *   QUERN_CUDA_LOSE=N           at the N-th of them a kernel traps, which ends the context
 *                               as a device that is lost does: all later calls fail
 *   QUERN_CUDA_FILL=BYTE        memory comes filled with it
 *   QUERN_CUDA_MEMORY=MB        there is no more memory than this
 *   QUERN_CUDA_CAPABILITY=86    the device says that it is of 8.6
 *   QUERN_CUDA_STATUS=N         no device answers, with this error
 *
 * Counted are launches, copies, allocations and waits. */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long calls;
static size_t taken;

static long wish(const char *name, long otherwise)
{
	const char *value = getenv(name);
	return value ? atol(value) : otherwise;
}

/* The runtime is loaded by the device half, for itself alone. */
static void *real(const char *name)
{
	static const char *const libraries[] = { "libcudart.so.13", "libcudart.so.12" };
	for (int i = 0; i < 2; i++) {
		void *library = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
		void *function = library ? dlsym(library, name) : NULL;
		if (function)
			return function;
	}
	fprintf(stderr, "trouble: %s: the CUDA runtime is not loaded\n", name);
	abort();
}

#define REAL(name) ((__typeof__(&name))real(#name))

/* ---- losing the device ---- */

static const char TRAP[] = ".version 7.0\n.target sm_80\n.address_size 64\n"
                           ".visible .entry lost() { trap; }\n";

static void *driver(const char *name)
{
	void *library = dlopen("libcuda.so.1", RTLD_LAZY);
	void *function = library ? dlsym(library, name) : NULL;
	if (!function)
		abort();
	return function;
}

static void lose_device(void)
{
	int (*load)(void **, const void *) = (int (*)(void **, const void *))
		driver("cuModuleLoadData");
	int (*find)(void **, void *, const char *) = (int (*)(void **, void *, const char *))
		driver("cuModuleGetFunction");
	int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
	              unsigned, void *, void **, void **) =
		(int (*)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
	                 unsigned, void *, void **, void **))driver("cuLaunchKernel");
	int (*wait)(void) = (int (*)(void))driver("cuCtxSynchronize");
	void *module, *kernel;
	if (load(&module, TRAP) != 0 || find(&kernel, module, "lost") != 0 ||
	    launch(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) != 0 || wait() == 0) {
		fprintf(stderr, "trouble: the device would not be lost\n");
		abort();
	}
}

static void count_call(void)
{
	if (++calls == wish("QUERN_CUDA_LOSE", -1))
		lose_device();
}

__attribute__((destructor)) static void tell_calls(void)
{
	const char *path = getenv("QUERN_CUDA_COUNT");
	FILE *file = path ? fopen(path, "w") : NULL;
	if (file) {
		fprintf(file, "%ld\n", calls);
		fclose(file);
	}
}

/* ---- the runtime's functions ---- */

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments,
                             size_t shared, cudaStream_t stream)
{
	count_call();
	return REAL(cudaLaunchKernel)(kernel, grid, block, arguments, shared, stream);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                            enum cudaMemcpyKind kind, cudaStream_t stream)
{
	count_call();
	return REAL(cudaMemcpyAsync)(to, from, bytes, kind, stream);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	count_call();
	return REAL(cudaStreamSynchronize)(stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	count_call();
	return REAL(cudaEventSynchronize)(event);
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
	size_t most = (size_t)wish("QUERN_CUDA_MEMORY", 0) << 20;
	long fill = wish("QUERN_CUDA_FILL", -1);
	count_call();
	if (most && (bytes > most || taken > most - bytes))
		return cudaErrorMemoryAllocation;
	cudaError_t status = REAL(cudaMalloc)(out, bytes);
	taken += status == cudaSuccess ? bytes : 0;
	if (status == cudaSuccess && fill >= 0)
		status = REAL(cudaMemset)(*out, (int)fill, bytes);
	return status;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
	size_t most = (size_t)wish("QUERN_CUDA_MEMORY", 0) << 20;
	cudaError_t status = REAL(cudaMemGetInfo)(available, total);
	if (most)
		*available = most > taken ? most - taken : 0;
	return status;
}

cudaError_t cudaGetDeviceCount(int *count)
{
	long status = wish("QUERN_CUDA_STATUS", 0);
	*count = 0;
	return status ? (cudaError_t)status : REAL(cudaGetDeviceCount)(count);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
	cudaError_t (*get)(struct cudaDeviceProp *, int) =
		(cudaError_t (*)(struct cudaDeviceProp *, int))real(
#if CUDART_VERSION < 13000
			"cudaGetDeviceProperties_v2"
#else
			"cudaGetDeviceProperties"
#endif
		);
	long capability = wish("QUERN_CUDA_CAPABILITY", 0);
	cudaError_t status = get(properties, device);
	if (capability) {
		properties->major = (int)(capability / 10);
		properties->minor = (int)(capability % 10);
	}
	return status;
}
