/* Uploading weights and laying batches out in device memory; see model.h. */
#include "lib/gpu/model.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_ALIGNMENT = 256 };

static int round_16(int n)
{
	return (n + 15) / 16 * 16;
}

/* ---- memory that lives as long as the model ---- */

static void *take_owned(struct device_model *g, size_t bytes, const char *what, error *err)
{
	if (g->owned_count == g->owned_room) {
		int room = g->owned_room ? 2 * g->owned_room : 256;
		void **owned = realloc(g->owned, (size_t)room * sizeof *owned);
		if (!owned) {
			fail_memory(err, "device allocations", (size_t)room * sizeof *owned);
			return NULL;
		}
		g->owned = owned;
		g->owned_room = room;
	}
	void *memory = device_alloc(&g->device, bytes, what, err);
	g->owned[g->owned_count] = memory;
	g->owned_count += memory != NULL;
	g->weight_bytes += memory ? bytes : 0;
	return memory;
}

static bool upload_norm(struct device_model *g, bits16 **to, const float *from, int width,
                        error *err)
{
	*to = take_owned(g, (size_t)width * sizeof **to, "a norm", err);
	return *to && upload_floats(&g->uploader, *to, from, (size_t)width, g->device.number, err);
}

/* ---- matrices ---- */

/* A tensor's rows into the matrix, from row `first` on, spread where rows are padded. */
static bool upload_rows(struct device_model *g, struct matrix *x, int first,
                        const struct tensor *t, error *err)
{
	bits16 *to = x->weight + (size_t)first * (size_t)x->row;
	if (x->row == x->in)
		return upload_tensor(&g->uploader, to, t, err);
	size_t rows = (size_t)t->elements / (size_t)x->in;
	bits16 *packed = device_alloc(&g->device, (size_t)t->elements * sizeof *packed,
	                                 "a weight in transit", err);
	bool ok = packed && upload_tensor(&g->uploader, packed, t, err);
	if (ok) {
		cudaMemsetAsync(to, 0, rows * (size_t)x->row * sizeof *to, g->device.stream);
		cudaMemcpy2DAsync(to, (size_t)x->row * sizeof *to, packed,
		                  (size_t)x->in * sizeof *to, (size_t)x->in * sizeof *to, rows,
		                  cudaMemcpyDeviceToDevice, g->device.stream);
		ok = device_wait(&g->device, err);
	}
	cudaFree(packed);
	return ok;
}

static bool upload_bias(struct device_model *g, struct matrix *x, int first,
                        const struct linear *l, error *err)
{
	struct uploader *u = &g->uploader;
	size_t count = (size_t)l->out;
	return upload_floats(u, x->bias + first, l->bias, count, g->device.number, err) &&
	       upload_floats(u, x->bias_bf16 + first, l->bias, count, GPU_BF16, err) &&
	       upload_bytes(u, x->bias_float + first, l->bias, count * sizeof *l->bias, err);
}

static bool upload_matrix(struct device_model *g, struct matrix *x, const int *members,
                          int member_count, error *err)
{
	const struct linear *linears = g->model->linears;
	*x = (struct matrix){ .in = linears[members[0]].in, .member_count = member_count };
	bool bias = linears[members[0]].bias != NULL;
	for (int i = 0; i < member_count; i++) {
		x->members[i] = members[i];
		x->first[i] = x->out;
		x->width[i] = linears[members[i]].out;
		x->out += linears[members[i]].out;
	}
	x->row = (x->in + 7) / 8 * 8;
	x->padded_out = round_16(x->out);
	x->padded_in = round_16(x->in);
	x->weight = take_owned(g, (size_t)x->out * (size_t)x->row * sizeof *x->weight,
	                       linears[members[0]].name, err);
	if (x->weight && bias) {
		x->bias = take_owned(g, (size_t)x->out * sizeof *x->bias, "a bias", err);
		x->bias_bf16 = x->bias ? take_owned(g, (size_t)x->out * sizeof *x->bias_bf16,
		                                    "a bias", err) : NULL;
		x->bias_float = x->bias_bf16
		                        ? take_owned(g, (size_t)x->out * sizeof *x->bias_float,
		                                     "a bias", err) : NULL;
	}
	if (!x->weight || (bias && !x->bias_float))
		return false;
	for (int i = 0; i < member_count; i++) {
		const struct linear *l = &linears[members[i]];
		if (!upload_rows(g, x, x->first[i], l->tensor, err) ||
		    (bias && !upload_bias(g, x, x->first[i], l, err)))
			return false;
	}
	g->matrices[g->matrix_count++] = x;
	return true;
}

static bool upload_block(struct device_model *g, struct gpu_block *to, const struct block *b,
                         const struct tower *t, error *err)
{
	const int qkv[] = { b->q, b->k, b->v }, gate_up[] = { b->gate, b->up };
	to->full_attention = b->full_attention;
	return upload_norm(g, &to->norm1, b->norm1, t->hidden, err) &&
	       upload_norm(g, &to->norm2, b->norm2, t->hidden, err) &&
	       upload_matrix(g, &to->qkv, qkv, t->fused ? 1 : 3, err) &&
	       upload_matrix(g, &to->o, &b->o, 1, err) &&
	       upload_matrix(g, &to->gate_up, gate_up, 2, err) &&
	       upload_matrix(g, &to->down, &b->down, 1, err);
}

static bool upload_tower(struct device_model *g, struct gpu_tower *to, const struct tower *t,
                         error *err)
{
	to->tower = t;
	if (t->hidden % 8 || t->heads * t->head_dim % 8)
		return fail(err, EXIT_ENVIRONMENT, "CUDA: expected rows of a multiple of 8 numbers, "
		            "found %d (use --cpu)", t->hidden);
	if (t->head_dim % 16 || t->head_dim > 128)
		return fail(err, EXIT_ENVIRONMENT, "CUDA: expected heads of 16, 32 ... 128 numbers, "
		            "found %d (use --cpu)", t->head_dim);
	to->blocks = calloc((size_t)t->depth, sizeof *to->blocks);
	if (!to->blocks)
		return fail_memory(err, "blocks", (size_t)t->depth * sizeof *to->blocks);
	for (int i = 0; i < t->depth; i++)
		if (!upload_block(g, &to->blocks[i], &t->blocks[i], t, err))
			return false;
	return true;
}

static bool upload_all(struct device_model *g, error *err)
{
	const struct model_parts *p = g->model->parts;
	const struct text_config *t = &g->model->config.text;
	size_t matrices = 4 * (size_t)(p->vision.depth + p->text.depth) + 4;
	g->matrices = calloc(matrices, sizeof *g->matrices);
	if (!g->matrices)
		return fail_memory(err, "matrices", matrices * sizeof *g->matrices);
	g->embedding = take_owned(g, (size_t)t->vocab * (size_t)t->hidden * sizeof *g->embedding,
	                          "the embedding", err);
	if (!g->embedding || !upload_tensor(&g->uploader, g->embedding, p->embedding, err) ||
	    !upload_tower(g, &g->vision, &p->vision, err) ||
	    !upload_tower(g, &g->text, &p->text, err) ||
	    !upload_norm(g, &g->merger_norm, p->merger_norm, p->vision.hidden, err) ||
	    !upload_norm(g, &g->final_norm, p->final_norm, p->text.hidden, err) ||
	    !upload_matrix(g, &g->patch_embed, &p->patch_embed, 1, err) ||
	    !upload_matrix(g, &g->merger_in, &p->merger_in, 1, err) ||
	    !upload_matrix(g, &g->merger_out, &p->merger_out, 1, err))
		return false;
	if (g->patch_embed.row != g->patch_embed.in)
		return fail(err, EXIT_ENVIRONMENT, "CUDA: expected patches of a multiple of 8 "
		            "numbers, found %d (use --cpu)", g->patch_embed.in);
	if (!t->tied_head)
		return upload_matrix(g, &g->head, &p->head, 1, err);
	/* A tied head is the embedding; it is never scored. */
	g->head = (struct matrix){ .out = t->vocab, .in = t->hidden, .row = t->hidden, .weight = g->embedding,
		.member_count = 1, .members = { p->head }, .width = { t->vocab } };
	return true;
}

/* ---- opening ---- */

bool device_usable(char name[128], error *err)
{
	struct device d;
	if (!device_open(&d, err))
		return false;
	memcpy(name, d.name, 128);
	device_close(&d);
	return true;
}

bool device_take_arena(struct gpu_model *handle, size_t memory_limit, error *err)
{
	struct device_model *g = (struct device_model *)handle;
	static const size_t RESERVE = (size_t)512 << 20; /* for the driver and cublas */
	static const size_t LEAST = (size_t)10 << 30;    /* a few samples of a 7B model */
	if (g->arena)
		cudaFree(g->arena);
	g->arena = NULL;
	size_t free_bytes = device_free_bytes(), taken = g->weight_bytes + RESERVE;
	size_t room = free_bytes > RESERVE ? free_bytes - RESERVE : 0;
	size_t allowed = memory_limit > taken + LEAST ? memory_limit - taken : LEAST;
	if (memory_limit && allowed < room)
		room = allowed;
	/* Another process may take memory meanwhile: ask for less until it is there. */
	for (; room >= (size_t)64 << 20; room -= room / 8) {
		cudaError_t status = cudaMalloc((void **)&g->arena, room);
		if (status == cudaSuccess) {
			g->arena_bytes = room;
			return true;
		}
		if (status != cudaErrorMemoryAllocation)
			return device_check(&g->device, status, err);
		cudaGetLastError();
	}
	return fail(err, EXIT_ENVIRONMENT, "%s: out of device memory: %zu MB free after %zu MB of "
	            "weights", g->device.name, free_bytes >> 20, g->weight_bytes >> 20);
}

bool device_model_open(struct gpu_model **out, const struct model *m,
                       enum gpu_number number, bool native_fp8, error *err)
{
	struct device_model *g = calloc(1, sizeof *g);
	*out = NULL;
	if (!g)
		return fail_memory(err, "a model on the device", sizeof *g);
	g->public.api = &quern_gpu;
	g->model = m;
	bool ok = device_open(&g->device, err);
	g->device.number = number;
	ok = ok && uploader_open(&g->uploader, &g->device, err) && upload_all(g, err) &&
	     device_wait(&g->device, err);
	uploader_close(&g->uploader);
	g->native_fp8 = native_fp8 && g->device.fp8;
	if (!ok) {
		device_model_close(&g->public);
		return false;
	}
	*out = &g->public;
	return true;
}

void device_model_close(struct gpu_model *handle)
{
	struct device_model *g = (struct device_model *)handle;
	for (int i = 0; i < GPU_SLOTS; i++) {
		cudaFreeHost(g->slots[i].packed);
		cudaFreeHost(g->slots[i].results);
		if (g->slots[i].done)
			cudaEventDestroy(g->slots[i].done);
	}
	for (int i = 0; i < g->owned_count; i++)
		cudaFree(g->owned[i]);
	cudaFree(g->arena);
	free(g->owned);
	free(g->matrices);
	free(g->vision.blocks);
	free(g->text.blocks);
	device_close(&g->device);
	free(g);
}

/* ---- quantised weights ---- */

bool device_weight_amaxes(struct gpu_model *handle, float *amax, error *err)
{
	struct device_model *g = (struct device_model *)handle;
	enum { SCRATCH = 1024 };
	float *device = device_alloc(&g->device, (SCRATCH + (size_t)g->model->linear_count) *
	                             sizeof(float), "amax", err);
	if (!device)
		return false;
	memset(amax, 0, (size_t)g->model->linear_count * sizeof *amax);
	cudaMemsetAsync(device, 0, (SCRATCH + (size_t)g->model->linear_count) * sizeof(float),
	                g->device.stream);
	for (int i = 0; i < g->matrix_count; i++) {
		const struct matrix *x = g->matrices[i];
		for (int m = 0; m < x->member_count; m++)
			gpu_weight_amax(device + SCRATCH + x->members[m], device,
			                x->weight + (size_t)x->first[m] * (size_t)x->row,
			                (int64_t)x->width[m] * x->row, g->device.number,
			                g->device.stream);
	}
	cudaMemcpyAsync(amax, device + SCRATCH, (size_t)g->model->linear_count * sizeof *amax,
	                cudaMemcpyDeviceToHost, g->device.stream);
	bool ok = device_wait(&g->device, err);
	cudaFree(device);
	return ok;
}

static bool quantise_matrix(struct device_model *g, struct matrix *x,
                            const struct gpu_quantisation *quantisation, error *err)
{
	size_t bytes = (size_t)x->padded_out * (size_t)x->padded_in;
	const struct gpu_quantisation *first = &quantisation[x->members[0]];
	x->scored = first->scored;
	if (!x->scored)
		return true;
	if (!x->codes && !(x->codes = take_owned(g, bytes, "FP8 codes", err)))
		return false;
	cudaMemsetAsync(x->codes, 0, bytes, g->device.stream);
	x->one_scale = true;
	x->input_encode = first->input_encode;
	x->input_decode = first->input_decode;
	for (int m = 0; m < x->member_count; m++) {
		const struct gpu_quantisation *q = &quantisation[x->members[m]];
		uint8_t *codes = x->codes + (size_t)x->first[m] * (size_t)x->padded_in;
		const bits16 *weight = x->weight + (size_t)x->first[m] * (size_t)x->row;
		x->weight_scale[m] = q->weight_decode;
		x->one_scale = x->one_scale && q->weight_decode == first->weight_decode;
		if (q->divide)
			gpu_fp8_encode_divided(codes, x->padded_in, weight, x->row, x->width[m],
			                       q->weight_decode, g->device.number,
			                       g->device.stream);
		else
			gpu_fp8_encode(codes, x->padded_in, weight, x->row, x->width[m],
			               q->weight_encode, g->device.number, g->device.stream);
	}
	return true;
}

bool device_quantise(struct gpu_model *handle, const struct gpu_quantisation *quantisation,
                     error *err)
{
	struct device_model *g = (struct device_model *)handle;
	for (int i = 0; i < g->matrix_count; i++)
		if (!quantise_matrix(g, g->matrices[i], quantisation, err))
			return false;
	return device_wait(&g->device, err);
}

size_t device_used_bytes(const struct gpu_model *handle)
{
	const struct device_model *g = (const struct device_model *)handle;
	return g->device.total_bytes - device_free_bytes();
}

/* ---- the arena ---- */

void arena_reset(struct device_model *g)
{
	g->arena_used = 0;
}

void *arena_take(struct device_model *g, size_t count, size_t size)
{
	size_t bytes = (count * size + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
	if (g->arena_used + bytes > g->arena_bytes) {
		g->arena_used = g->arena_bytes + 1; /* remembered: see arena_ok */
		return NULL;
	}
	char *piece = g->arena + g->arena_used;
	g->arena_used += bytes;
	return piece;
}

bool arena_ok(const struct device_model *g, error *err)
{
	return g->arena_used <= g->arena_bytes ||
	       fail(err, EXIT_ENVIRONMENT, "%s: a sample does not fit %zu MB of device memory",
	            g->device.name, g->arena_bytes >> 20);
}
