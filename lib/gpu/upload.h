/* Weights' way to the device: mapped files are read by several threads into page-locked
 * memory, from which the device fetches them while the next stretch is read. Private to
 * lib/gpu. */
#ifndef QUERN_GPU_UPLOAD_H
#define QUERN_GPU_UPLOAD_H

#include "lib/checkpoint/safetensors.h"
#include "lib/gpu/device.h"

enum { UPLOAD_STAGES = 2 };

struct uploader {
	struct device *device;
	void *stage[UPLOAD_STAGES]; /* page-locked */
	cudaEvent_t fetched[UPLOAD_STAGES];
	int next, threads;
};

bool uploader_open(struct uploader *u, struct device *d, error *err);
void uploader_close(struct uploader *u); /* after waiting for the queue */

/* Queues bytes for the device; `from` is free on return. */
bool upload_bytes(struct uploader *u, void *to, const void *from, size_t bytes, error *err);

/* count floats as 16-bit numbers; a tensor as those of the device. */
bool upload_floats(struct uploader *u, bits16 *to, const float *from, size_t count,
                   enum gpu_number number, error *err);
bool upload_tensor(struct uploader *u, bits16 *to, const struct tensor *t, error *err);

#endif
