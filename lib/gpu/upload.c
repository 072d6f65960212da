/* See upload.h. */
#include "lib/gpu/upload.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/parallel.h"
#include "lib/gpu/numbers.h"
#include "lib/model/parts.h"

/* A thread reads mapped files at some 3 GB/s, page faults included. */
enum { STAGE_BYTES = 64 << 20, SHARE_BYTES = 4 << 20, MOST_THREADS = 12,
       STRETCH_ELEMENTS = 8 << 20 };

bool uploader_open(struct uploader *u, struct device *d, error *err)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	*u = (struct uploader){ .device = d,
		.threads = cores < 1 ? 1 : cores > MOST_THREADS ? MOST_THREADS : (int)cores };
	for (int i = 0; i < UPLOAD_STAGES; i++)
		if (!(u->stage[i] = host_alloc(STAGE_BYTES, "weights on their way", err)) ||
		    !device_check(d, cudaEventCreateWithFlags(&u->fetched[i],
		                                              cudaEventDisableTiming), err)) {
			uploader_close(u);
			return false;
		}
	return true;
}

void uploader_close(struct uploader *u)
{
	for (int i = 0; i < UPLOAD_STAGES; i++) {
		cudaFreeHost(u->stage[i]);
		if (u->fetched[i])
			cudaEventDestroy(u->fetched[i]);
	}
	*u = (struct uploader){ 0 };
}

/* Bytes on their way into a stage, in shares for the threads. */
struct copy {
	char *to;
	const char *from;
	size_t bytes;
};

static bool copy_share(void *self, int thread, int index, error *err)
{
	const struct copy *c = self;
	size_t at = (size_t)index * SHARE_BYTES;
	(void)thread;
	(void)err;
	memcpy(c->to + at, c->from + at,
	       c->bytes - at < SHARE_BYTES ? c->bytes - at : SHARE_BYTES);
	return true;
}

static bool upload_stage(struct uploader *u, void *to, const void *from, size_t bytes,
                         error *err)
{
	int slot = u->next;
	struct copy copy = { u->stage[slot], from, bytes };
	int shares = (int)((bytes + SHARE_BYTES - 1) / SHARE_BYTES);
	u->next = (slot + 1) % UPLOAD_STAGES;
	if (!device_check(u->device, cudaEventSynchronize(u->fetched[slot]), err) ||
	    !parallel_run(u->threads < shares ? u->threads : shares, shares, &copy, copy_share,
	                  err))
		return false;
	cudaError_t status = cudaMemcpyAsync(to, u->stage[slot], bytes, cudaMemcpyHostToDevice,
	                                     u->device->stream);
	if (status == cudaSuccess)
		status = cudaEventRecord(u->fetched[slot], u->device->stream);
	return device_check(u->device, status, err);
}

bool upload_bytes(struct uploader *u, void *to, const void *from, size_t bytes, error *err)
{
	for (size_t at = 0; at < bytes; at += STAGE_BYTES)
		if (!upload_stage(u, (char *)to + at, (const char *)from + at,
		                  bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES, err))
			return false;
	return true;
}

bool upload_floats(struct uploader *u, bits16 *to, const float *from, size_t count,
                   enum gpu_number number, error *err)
{
	bits16 *numbers = malloc(count * sizeof *numbers + 1);
	if (!numbers)
		return fail_memory(err, "an upload", count * sizeof *numbers);
	for (size_t i = 0; i < count; i++)
		numbers[i] = to_number(from[i], number);
	bool ok = upload_bytes(u, to, numbers, count * sizeof *numbers, err);
	free(numbers);
	return ok;
}

/* As it is, or converted stretch by stretch. */
bool upload_tensor(struct uploader *u, bits16 *to, const struct tensor *t, error *err)
{
	size_t count = (size_t)t->elements;
	if (t->dtype == DTYPE_BF16) {
		bool ok = upload_bytes(u, to, t->data, count * sizeof *to, err);
		if (ok && u->device->number == GPU_FP16)
			gpu_bf16_to_fp16(to, (int64_t)count, u->device->stream);
		return ok;
	}
	float *stretch = malloc(STRETCH_ELEMENTS * sizeof *stretch);
	bool ok = stretch || fail_memory(err, "an upload", STRETCH_ELEMENTS * sizeof *stretch);
	for (size_t at = 0; ok && at < count; at += STRETCH_ELEMENTS) {
		size_t piece = count - at < STRETCH_ELEMENTS ? count - at : STRETCH_ELEMENTS;
		tensor_expand(stretch, t, at, piece);
		ok = upload_floats(u, to + at, stretch, piece, u->device->number, err);
	}
	free(stretch);
	return ok;
}
