/* safetensors files: one reader that refuses everything the format forbids,
 * one writer. Format: huggingface/safetensors, safetensors/src/tensor.rs. */
#ifndef QUERN_CHECKPOINT_SAFETENSORS_H
#define QUERN_CHECKPOINT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/error.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

enum dtype {
	DTYPE_BOOL, DTYPE_U8, DTYPE_I8, DTYPE_F8_E4M3, DTYPE_F8_E5M2, DTYPE_I16,
	DTYPE_U16, DTYPE_F16, DTYPE_BF16, DTYPE_I32, DTYPE_U32, DTYPE_F32, DTYPE_F64,
	DTYPE_I64, DTYPE_U64, DTYPE_COUNT
};

const char *dtype_name(enum dtype d); /* as in the header: "BF16" */
size_t dtype_bytes(enum dtype d);
bool dtype_from_name(const char *name, size_t length, enum dtype *out);

enum { MAX_RANK = 8, MAX_TENSORS = 1000000 }; /* of one file */

/* A tensor of an open file; everything points into the file or its arena. */
struct tensor {
	const char *name;
	enum dtype dtype;
	int rank;
	int64_t shape[MAX_RANK];
	int64_t elements;
	const void *data; /* in the mapping; may be unaligned */
	size_t bytes;
	const char *file; /* the path of the file that holds it */
};

/* One file. Tensors are in the order of their bytes. */
struct safetensors {
	char *path;
	mapped_file map;
	struct tensor *tensors;
	size_t count;
	arena memory;
};

/* Maps the file and checks its header whole: length, JSON syntax, string
 * metadata, known dtypes, no unknown fields, no duplicate or overlong names
 * (names.h), shape x dtype == byte range, ranges contiguous from 0 to the end of
 * the file. Nothing is allocated from a number that was not checked against the
 * file first. Lines and columns in errors are the header's. */
bool safetensors_open(struct safetensors *file, const char *path, error *err);
void safetensors_close(struct safetensors *file);

/* A model folder: model.safetensors.index.json and the shards it names (any
 * number, any names, folder-local), or without an index model.safetensors. */
struct checkpoint {
	char *folder;
	struct safetensors *files;
	size_t file_count;
	const struct tensor **by_name; /* all tensors, sorted by name */
	size_t count;
	arena memory;
};

/* Also checks that the index and the shards agree exactly: every tensor of the
 * index is in the shard it names, every shard tensor is in the index, no
 * tensor twice. */
bool checkpoint_open(struct checkpoint *ckpt, const char *folder, error *err);
void checkpoint_close(struct checkpoint *ckpt);

/* NULL when absent. */
const struct tensor *checkpoint_find(const struct checkpoint *ckpt, const char *name);

/* The header of a file that will hold these tensors in this order, data_offsets
 * contiguous: 8 length bytes, JSON with __metadata__ {"format":"pt"}, padded
 * with spaces to a multiple of 8. Appends to *out. Of a tensor, name, dtype,
 * rank, shape and bytes are read; bytes must be what shape and dtype take. */
bool safetensors_header(const struct tensor *tensors, size_t count, text *out,
                        error *err);

#endif
