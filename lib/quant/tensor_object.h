/* Safetensors files as objects of the store, written without holding them in memory. */
#ifndef QUERN_QUANT_TENSOR_OBJECT_H
#define QUERN_QUANT_TENSOR_OBJECT_H

#include "lib/artifact/store.h"
#include "lib/checkpoint/safetensors.h"

/* Begins the object with a header for these tensors; what follows are their bytes, in
 * this order. As with object_write, nothing is left to free after a failure. */
bool object_write_header(struct object_writer *w, const struct tensor *tensors,
                         size_t count, error *err);

/* A file of these tensors as they are. Those of a mapped file (tensor.file is not NULL)
 * are read through it piece by piece, and its pages given back. */
bool store_tensors(const struct store *s, const struct tensor *tensors, size_t count,
                   struct output *out, error *err);

#endif
