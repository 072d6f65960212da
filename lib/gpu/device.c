/* Opening a device and its products through cublasLt; see device.h. */
#include "lib/gpu/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE_BYTES = 64 << 20, CANDIDATES = 8 };

/* ---- the device ---- */

/* What a device that was lost says of everything from then on. */
static bool fail_lost(const struct device *d, cudaError_t status, error *err)
{
	return fail(err, EXIT_ENVIRONMENT, "CUDA: %s: %s (finished blocks are kept: run again, or "
	            "with --cpu)", d->name, cudaGetErrorString(status));
}

static bool fail_cuda(error *err, cudaError_t status, const char *what)
{
	return fail(err, EXIT_ENVIRONMENT, "CUDA: %s: %s", what, cudaGetErrorString(status));
}

static bool describe_device(struct device *d, error *err)
{
	struct cudaDeviceProp properties;
	cudaError_t status = cudaGetDeviceProperties(&properties, d->index);
	if (status != cudaSuccess)
		return fail_cuda(err, status, "cannot read the device's properties");
	snprintf(d->name, sizeof d->name, "%.120s", properties.name);
	d->major = properties.major;
	d->minor = properties.minor;
	d->fp8 = d->major > 8 || (d->major == 8 && d->minor >= 9);
	d->total_bytes = properties.totalGlobalMem;
	return d->major >= 8 ||
	       fail(err, EXIT_ENVIRONMENT, "CUDA: %s: expected compute capability 8.0 or newer "
	            "(BF16), found %d.%d", d->name, d->major, d->minor);
}

bool device_open(struct device *d, error *err)
{
	*d = (struct device){ .index = 0 };
	int count = 0;
	cudaError_t status = cudaGetDeviceCount(&count);
	if (status != cudaSuccess || count == 0)
		return fail(err, EXIT_ENVIRONMENT, "CUDA: expected a device, found none (%s)",
		            cudaGetErrorString(status));
	if ((status = cudaSetDevice(d->index)) != cudaSuccess)
		return fail_cuda(err, status, "cannot use the device");
	if (!describe_device(d, err))
		return false;
	if ((status = cudaStreamCreate(&d->stream)) != cudaSuccess)
		return fail_cuda(err, status, "cannot make a queue");
	d->plans = calloc(MOST_PRODUCTS, sizeof *d->plans);
	if (!d->plans) {
		device_close(d);
		return fail_memory(err, "product plans", MOST_PRODUCTS * sizeof *d->plans);
	}
	if (cublasLtCreate(&d->blas) != CUBLAS_STATUS_SUCCESS) {
		device_close(d);
		return fail(err, EXIT_ENVIRONMENT, "cuBLASLt: cannot start");
	}
	d->workspace = device_alloc(d, WORKSPACE_BYTES, "the products' workspace", err);
	if (!d->workspace)
		device_close(d);
	return d->workspace != NULL;
}

void device_close(struct device *d)
{
	cudaFree(d->workspace);
	if (d->blas)
		cublasLtDestroy(d->blas);
	if (d->stream)
		cudaStreamDestroy(d->stream);
	free(d->plans);
	*d = (struct device){ 0 };
}

void *device_alloc(struct device *d, size_t bytes, const char *what, error *err)
{
	void *memory = NULL;
	cudaError_t status = cudaMalloc(&memory, bytes ? bytes : 1);
	if (status == cudaSuccess)
		return memory;
	if (status != cudaErrorMemoryAllocation) {
		fail_lost(d, status, err);
		return NULL;
	}
	cudaGetLastError(); /* an allocation that failed is no lasting error */
	fail(err, EXIT_ENVIRONMENT, "%s: out of device memory: %zu bytes for %s (%zu free)",
	     d->name, bytes, what, device_free_bytes());
	return NULL;
}

void *host_alloc(size_t bytes, const char *what, error *err)
{
	void *memory = NULL;
	cudaError_t status = cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
	if (status == cudaSuccess)
		return memory;
	if (status == cudaErrorMemoryAllocation) {
		cudaGetLastError();
		fail_memory(err, what, bytes);
	} else {
		fail_cuda(err, status, what);
	}
	return NULL;
}

size_t device_free_bytes(void)
{
	size_t free_bytes = 0, total = 0;
	cudaMemGetInfo(&free_bytes, &total);
	return free_bytes;
}

bool device_wait(struct device *d, error *err)
{
	return device_check(d, cudaStreamSynchronize(d->stream), err);
}

bool device_check(struct device *d, cudaError_t status, error *err)
{
	cudaError_t last = cudaGetLastError();
	if (d->blas_trouble != CUBLAS_STATUS_SUCCESS)
		return fail(err, EXIT_ENVIRONMENT, "%s: cuBLASLt: status %d", d->name,
		            (int)d->blas_trouble);
	if (status == cudaSuccess)
		status = last;
	return status == cudaSuccess || fail_lost(d, status, err);
}

/* ---- products ----
 *
 * cublasLt thinks in columns: a row-major x[rows][in] is its in x rows matrix. So y = x W^T
 * is Y' (out x rows) = W' (in x out) transposed, times X' (in x rows). */

/* What a product is made of; also tells plans apart. */
enum product_kind {
	KIND_PLAIN, KIND_PLAIN_BIAS, KIND_SUM, KIND_SUM_BIAS, KIND_FLOAT, KIND_FLOAT_BIAS,
	KIND_BACKWARD, KIND_CODES_WIDE, KIND_CODES_WIDE_BIAS,
	KIND_CODES_NARROW, KIND_CODES_NARROW_BIAS, KIND_FP8_WIDE, KIND_FP8_WIDE_BIAS,
	KIND_FP8_NARROW, KIND_FP8_NARROW_BIAS
};

struct product {
	enum product_kind kind;
	cublasOperation_t weight_op;
	cudaDataType_t in_type, out_type;
	int m, n, k; /* cublas' rows, columns, inner: out, rows, in */
	int weight_ld, in_ld, out_ld;
	const void *weight, *x, *before, *bias;
	void *y;
	float alpha, beta;
};

struct layouts {
	cublasLtMatmulDesc_t operation;
	cublasLtMatrixLayout_t a, b, c;
};

static void note(struct device *d, cublasStatus_t status)
{
	if (status != CUBLAS_STATUS_SUCCESS && d->blas_trouble == CUBLAS_STATUS_SUCCESS)
		d->blas_trouble = status;
}

/* n columns: the rows of this call, or those that the plan is made for. */
static void make_layouts(struct device *d, const struct product *p, int n, struct layouts *l)
{
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
	/* As wide as the result, but for FP8, which adds BF16 to float32. */
	bool widened = p->in_type == CUDA_R_8F_E4M3 && p->out_type == CUDA_R_32F;
	cudaDataType_t bias_type = widened ? CUDA_R_16BF : p->out_type;
	int8_t slow = 0;
	note(d, cublasLtMatmulDescCreate(&l->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
	note(d, cublasLtMatmulDescSetAttribute(l->operation, CUBLASLT_MATMUL_DESC_TRANSA,
	                                       &p->weight_op, sizeof p->weight_op));
	if (p->in_type == CUDA_R_8F_E4M3)
		note(d, cublasLtMatmulDescSetAttribute(l->operation,
		                                       CUBLASLT_MATMUL_DESC_FAST_ACCUM, &slow,
		                                       sizeof slow));
	if (p->bias) {
		note(d, cublasLtMatmulDescSetAttribute(l->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
		                                       &epilogue, sizeof epilogue));
		note(d, cublasLtMatmulDescSetAttribute(l->operation,
		                                       CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
		                                       sizeof p->bias));
		note(d, cublasLtMatmulDescSetAttribute(l->operation,
		                                       CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
		                                       &bias_type, sizeof bias_type));
	}
	bool transposed = p->weight_op == CUBLAS_OP_T;
	note(d, cublasLtMatrixLayoutCreate(&l->a, p->in_type,
	                                   (uint64_t)(transposed ? p->k : p->m),
	                                   (uint64_t)(transposed ? p->m : p->k), p->weight_ld));
	note(d, cublasLtMatrixLayoutCreate(&l->b, p->in_type, (uint64_t)p->k, (uint64_t)n,
	                                   p->in_ld));
	note(d, cublasLtMatrixLayoutCreate(&l->c, p->out_type, (uint64_t)p->m, (uint64_t)n,
	                                   p->out_ld));
}

static void free_layouts(struct layouts *l)
{
	cublasLtMatmulDescDestroy(l->operation);
	cublasLtMatrixLayoutDestroy(l->a);
	cublasLtMatrixLayoutDestroy(l->b);
	cublasLtMatrixLayoutDestroy(l->c);
}

/* The library's first choice for the most rows there will be, without splitting the inner
 * dimension: split sums would depend on the number of rows. */
static void choose_algorithm(struct device *d, const struct product *p,
                             struct product_plan *plan)
{
	cublasLtMatmulPreference_t wish;
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	size_t bytes = WORKSPACE_BYTES;
	uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
	int count = 0;
	struct layouts l = { 0 };
	make_layouts(d, p, d->most_rows > p->n ? d->most_rows : p->n, &l);
	note(d, cublasLtMatmulPreferenceCreate(&wish));
	note(d, cublasLtMatmulPreferenceSetAttribute(
		wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes));
	note(d, cublasLtMatmulPreferenceSetAttribute(
		wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_reduction,
		sizeof no_reduction));
	note(d, cublasLtMatmulAlgoGetHeuristic(d->blas, l.operation, l.a, l.b, l.c, l.c, wish,
	                                       CANDIDATES, found, &count));
	if (count > 0)
		plan->algo = found[0].algo;
	else
		note(d, CUBLAS_STATUS_NOT_SUPPORTED);
	cublasLtMatmulPreferenceDestroy(wish);
	free_layouts(&l);
}

static const struct product_plan *find_plan(struct device *d, const struct product *p)
{
	for (int i = 0; i < d->plan_count; i++)
		if (d->plans[i].out == p->m && d->plans[i].in == p->k &&
		    d->plans[i].kind == (int)p->kind)
			return &d->plans[i];
	if (d->plan_count == MOST_PRODUCTS)
		d->plan_count = 0; /* no model has so many shapes; start over rather than grow */
	struct product_plan *plan = &d->plans[d->plan_count++];
	*plan = (struct product_plan){ .out = p->m, .in = p->k, .kind = (int)p->kind };
	choose_algorithm(d, p, plan);
	return plan;
}

static void run_product(struct device *d, const struct product *p)
{
	if (p->n == 0)
		return;
	const struct product_plan *plan = find_plan(d, p);
	struct layouts l = { 0 };
	if (d->blas_trouble != CUBLAS_STATUS_SUCCESS)
		return;
	make_layouts(d, p, p->n, &l);
	note(d, cublasLtMatmul(d->blas, l.operation, &p->alpha, p->weight, l.a, p->x, l.b,
	                       &p->beta, p->before ? p->before : p->y, l.c, p->y, l.c,
	                       &plan->algo, d->workspace, WORKSPACE_BYTES, d->stream));
	free_layouts(&l);
}

/* The 16-bit type of this device's numbers. */
static cudaDataType_t type16(const struct device *d)
{
	return d->number == GPU_FP16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* y = alpha * x weight^T + beta * before */
static struct product describe(const struct device *d, enum product_kind kind,
                               const void *x, const void *weight, void *y, int rows,
                               int out, int in)
{
	return (struct product){ .kind = kind, .weight_op = CUBLAS_OP_T,
		.in_type = type16(d), .out_type = CUDA_R_32F, .m = out, .n = rows, .k = in,
		.weight_ld = in, .in_ld = in, .out_ld = out, .weight = weight, .x = x, .y = y,
		.alpha = 1 };
}

void product_forward(struct device *d, bits16 *y, int y_stride, const bits16 *x,
                     const bits16 *weight, const bits16 *bias, int rows, int out,
                     int in)
{
	struct product p = describe(d, bias ? KIND_PLAIN_BIAS : KIND_PLAIN, x, weight, y, rows, out,
	                            in);
	p.out_type = type16(d);
	p.out_ld = y_stride;
	p.bias = bias;
	run_product(d, &p);
}

void product_add(struct device *d, float *sum, const float *before, const bits16 *x,
                 const bits16 *weight, const float *bias, int rows, int out, int in)
{
	struct product p = describe(d, bias ? KIND_SUM_BIAS : KIND_SUM, x, weight, sum, rows, out,
	                            in);
	p.before = before;
	p.beta = 1;
	p.bias = bias;
	run_product(d, &p);
}

void product_float(struct device *d, float *y, const bits16 *x, const bits16 *weight,
                   const float *bias, int rows, int out, int in)
{
	struct product p = describe(d, bias ? KIND_FLOAT_BIAS : KIND_FLOAT, x, weight, y, rows, out,
	                            in);
	p.bias = bias;
	run_product(d, &p);
}

void product_backward(struct device *d, bits16 *dx, const bits16 *dy, const bits16 *weight,
                      int rows, int out, int in)
{
	struct product p = describe(d, KIND_BACKWARD, dy, weight, dx, rows, in, out);
	p.weight_op = CUBLAS_OP_N;
	p.weight_ld = in;
	p.out_type = type16(d);
	run_product(d, &p);
}

static void run_codes(struct device *d, const struct codes_product *q, struct product *p,
                      bool fp8, float scale)
{
	static const enum product_kind kinds[2][2][2] = {
		{ { KIND_CODES_WIDE, KIND_CODES_WIDE_BIAS },
		  { KIND_CODES_NARROW, KIND_CODES_NARROW_BIAS } },
		{ { KIND_FP8_WIDE, KIND_FP8_WIDE_BIAS },
		  { KIND_FP8_NARROW, KIND_FP8_NARROW_BIAS } },
	};
	bool narrow = q->narrow != NULL;
	p->kind = kinds[fp8][narrow][q->bias != NULL];
	p->in_type = fp8 ? CUDA_R_8F_E4M3 : type16(d);
	p->out_type = narrow ? type16(d) : CUDA_R_32F;
	p->y = narrow ? (void *)q->narrow : (void *)q->wide;
	p->before = narrow ? (const void *)q->narrow_before : (const void *)q->wide_before;
	p->bias = q->bias;
	p->out_ld = q->stride;
	p->alpha = scale;
	p->beta = q->beta;
	run_product(d, p);
}

void product_fp8(struct device *d, const struct codes_product *q, const uint8_t *codes,
                 const uint8_t *weight_codes, float scale, int rows, int out, int in)
{
	struct product p = describe(d, KIND_PLAIN, codes, weight_codes, NULL, rows, out, in);
	run_codes(d, q, &p, true, scale);
}

void product_codes(struct device *d, const struct codes_product *q, const bits16 *codes,
                   const bits16 *weight_codes, float scale, int rows, int out, int in)
{
	struct product p = describe(d, KIND_PLAIN, codes, weight_codes, NULL, rows, out, in);
	run_codes(d, q, &p, false, scale);
}
